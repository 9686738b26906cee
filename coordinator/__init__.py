"""ZooKeeper sessions told truly and brought back, over kazoo.

The one class to begin with is ``Coordinator``; what happens is in ``coordinator.events``.
The names stand in ``coordinator.public``. All of them are loaded together with the first,
so that the command can be interrupted, and asked for help, before pydantic and kazoo are.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from coordinator.errors import *  # noqa: F403 -- the whole tree is public
    from coordinator.events import *  # noqa: F403 -- every kind is public
    from coordinator.public import *  # noqa: F403 -- the rest
else:  # a checker that saw these functions would believe in every name

    def __getattr__(name: str) -> object:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        public = vars(import_module("coordinator.public"))
        globals().update({one: public[one] for one in ("__all__", *public["__all__"])})
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
