"""Context managers that say so when they are not used as such."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import ParamSpec, TypeVar

__all__ = ["Lasting", "lasting"]

T = TypeVar("T")
P = ParamSpec("P")


class Lasting(AbstractContextManager[T]):
    """A fault that lasts as long as its ``with`` statement; without one it is a warning, not a fault."""

    def __init__(self, name: str, fault: AbstractContextManager[T]) -> None:
        self._name = name
        self._fault = fault
        self._entered = False

    def __enter__(self) -> T:
        self._entered = True
        return self._fault.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._fault.__exit__(kind, error, trace)

    def __del__(self) -> None:
        if not self._entered:
            warnings.warn(
                f"{self._name}() lasts as long as its with statement, and there is none: nothing was broken",
                RuntimeWarning,
                stacklevel=2,
            )


def lasting(fault: Callable[P, Iterator[T]]) -> Callable[P, Lasting[T]]:
    """Make a context manager of a generator, as contextlib does; see `Lasting`."""
    made = contextmanager(fault)

    @functools.wraps(fault)
    def make(*args: P.args, **kwargs: P.kwargs) -> Lasting[T]:
        return Lasting(fault.__name__, made(*args, **kwargs))

    return make
