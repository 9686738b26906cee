"""Where the engine leaves answers: for a thread that waits, and for an event loop.

::

    engine's thread --settle--> ThreadWaiter --> the thread that waits in it
                    --settle--> LoopWaiter   --> LoopBridge --> the event loop, in batches

Whoever settles never blocks; whoever has given up is not disturbed.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from coordinator.errors import ConfigurationError

BATCH = 200
"""What a bridge delivers before it lets the loop do something else: each delivery wakes a task,
about 20 us of work for it, so that a batch is about 4 ms."""


class Waiter(ABC):
    """Somebody waits for one answer."""

    @abstractmethod
    def settle(self, value: object, error: BaseException | None) -> None:
        """Leave the answer; the first one counts. Called in the engine's thread."""


class ThreadWaiter(Waiter):
    """A thread waits, with a limit."""

    __slots__ = ("_answer", "_arrived")

    def __init__(self) -> None:
        self._arrived = threading.Lock()
        self._arrived.acquire()
        self._answer: tuple[object, BaseException | None] | None = None

    def settle(self, value: object, error: BaseException | None) -> None:
        """Leave the answer, and let the thread go on."""
        if self._answer is None:
            self._answer = value, error
            self._arrived.release()

    def wait(self, timeout: float) -> bool:
        """Wait for that many seconds; return whether the answer is there. Once."""
        return self._arrived.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def answer(self) -> Any:
        """Return the value that came, or raise the error."""
        value, error = self._answer or (None, None)
        if error is not None:
            raise error
        return value


class LoopBridge:
    """The way into one event loop, from any thread.

    What comes while a batch waits to be delivered travels with it: the loop is woken once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._armed = False

    def check(self) -> None:
        """Refuse to be used in another loop.

        Raises:
            ConfigurationError: it is.
        """
        if asyncio.get_running_loop() is not self.loop:
            raise ConfigurationError(
                "this AsyncCoordinator, with all that it has handed out, belongs to another event loop; "
                "make one in each loop"
            )

    def call(self, what: Callable[[], object]) -> None:
        """Have something called in the loop, in the order of the calls; it must not raise."""
        self._queue.append(what)
        with self._lock:
            armed, self._armed = self._armed, True
        if not armed:
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed, and nobody waits in it any more
                self._queue.clear()
                self._armed = False

    def _deliver(self) -> None:
        try:
            for _ in range(min(BATCH, len(self._queue))):
                self._queue.popleft()()
        finally:  # also after a KeyboardInterrupt
            with self._lock:
                self._armed = bool(self._queue)
            if self._armed:
                self.loop.call_soon(self._deliver)


class LoopWaiter(Waiter):
    """A task waits, for ``future``."""

    __slots__ = ("_bridge", "future")

    def __init__(self, bridge: LoopBridge) -> None:
        self._bridge = bridge
        self.future: asyncio.Future[Any] = bridge.loop.create_future()

    def settle(self, value: object, error: BaseException | None) -> None:
        """Leave the answer, and have the loop find it."""
        self._bridge.call(lambda: self.resolve(value, error))

    def resolve(self, value: object, error: BaseException | None) -> bool:
        """Leave the answer, in the loop itself; return whether it is the first."""
        if self.future.done():
            return False
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)
        return True
