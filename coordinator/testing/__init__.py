"""A real ZooKeeper for tests, and faults for it.

::

    from coordinator.testing import FaultProxy, expire, provide

    with provide() as zookeeper, FaultProxy(*zookeeper.address) as proxy:
        ...  # a client of proxy.hosts
        proxy.blackhole = True

The names stand in ``coordinator.testing.public`` and are loaded together with the first that is asked
for: pytest imports this package in every project where the kit is installed, used or not. Loading them
needs neither Docker nor testcontainers; a container does.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.testing.public import *  # noqa: F403
else:  # a checker that saw these functions would believe in every name

    def __getattr__(name: str) -> object:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        public = vars(import_module("coordinator.testing.public"))
        globals().update({one: public[one] for one in ("__all__", *public["__all__"])})
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
