"""Both faces behind one description: an ``AsyncCoordinator`` is driven as if it were a ``Coordinator``.

    with face(hosts) as zk: ...     blocking: a Coordinator;   asyncio: a Twin of an AsyncCoordinator

A Twin calls each method in an event loop that runs in a thread of its own, and waits for what it returns;
what is handed out has a Twin again. That both faces have the same methods, tests/unit/test_parity.py sees to.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import coordinator
from coordinator import AsyncCoordinator, Coordinator
from coordinator.testing.memory import MemoryEnsemble

LIMIT = 60.0
"""Seconds after which a call in the loop is taken for one that hangs."""

Face: TypeAlias = Callable[..., Any]
"""Makes a coordinator: of hosts or an ensemble in memory, and with the settings of ``Coordinator``."""

_ASYNC = tuple(getattr(coordinator, name) for name in coordinator.__all__ if name.startswith("Async"))


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-event-loop")
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        assert threading.current_thread() is not self._thread, "it would wait for itself"
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT)

    def stop(self) -> list[str]:
        """End it; return what of it was still to be done."""
        left = self.call(_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT)
        self.loop.close()
        return left


async def _others() -> list[str]:
    await asyncio.sleep(0)
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]


class Twin:
    """The blocking face of something that has only an asyncio one."""

    def __init__(self, loop: Loop, target: Any) -> None:
        self._loop = loop
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not inspect.ismethod(value):
            return self._twin(value)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._twin(self._loop.call(_invoke(value, args, kwargs)))

        return call

    def _twin(self, value: Any) -> Any:
        return Twin(self._loop, value) if isinstance(value, (*_ASYNC, AsyncIterator)) else value

    def __enter__(self) -> Any:
        return self._twin(self._loop.call(self._target.__aenter__()))

    def __exit__(self, *error: Any) -> None:
        self._loop.call(self._target.__aexit__(*error))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._twin(self._loop.call(_next(self._target)))
        except StopAsyncIteration:
            raise StopIteration from None

    def __bool__(self) -> bool:
        return bool(self._target)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Twin) and self._target is other._target

    def __hash__(self) -> int:
        return hash(self._target)

    def __repr__(self) -> str:
        return repr(self._target)


async def _invoke(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    result = function(*(one._target if isinstance(one, Twin) else one for one in args), **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _next(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator)


def _blocking(where: Any, **settings: Any) -> Coordinator:
    return where.coordinator(**settings) if _in_memory(where) else Coordinator(where, **settings)


def _asyncio(where: Any, **settings: Any) -> AsyncCoordinator:
    return where.async_coordinator(**settings) if _in_memory(where) else AsyncCoordinator(where, **settings)


def _in_memory(where: object) -> bool:
    return isinstance(where, MemoryEnsemble)


@contextmanager
def made(kind: str) -> Iterator[Face]:
    """The factory of one face; what it needs ends with it."""
    if kind == "blocking":
        yield _blocking
        return
    loop = Loop()
    try:
        yield lambda where, **settings: Twin(loop, _asyncio(where, **settings))
    finally:
        left = loop.stop()
    assert left == []
