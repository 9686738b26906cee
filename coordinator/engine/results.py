"""What kazoo delivers in the connection thread, at once and in the order of the wire.

kazoo has a thread that calls watches and another that calls the links of results: a reply could overtake, or
be overtaken by, the watch event before it.

    kazoo's connection thread --dispatch_callback--> DirectWatch     called here
                              --async_result.set---> DirectResult    its links are called here
    under `DirectScope`, the results that kazoo makes in this thread are direct ones

None of it may block, nor call kazoo and wait: it would wait for the thread that it is in.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.engine.handler import KazooHandler

_logger = logging.getLogger(__name__)


class DirectWatch:
    """A watch that is called in the connection thread, in the order of the wire.

    It must not block, nor call kazoo and wait. What it raises is logged.

    Args:
        function: called with kazoo's WatchedEvent.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function

    def __call__(self, event: Any) -> None:
        """Deliver one event."""
        self._function(event)


class DirectResult:
    """kazoo's IAsyncResult whose links are called in the thread that sets it, in order, at once.

    kazoo's own result passes each callback through its completion thread. The first set counts; kazoo sets
    some results twice (client.py, `_call`: the failing wake-up of a request that is already queued).
    """

    __slots__ = ("_callbacks", "_event", "_failure", "_handler", "_lock", "_ready", "value")

    def __init__(self, handler: KazooHandler) -> None:
        self.value: Any = None
        self._failure: BaseException | None = None
        self._ready = False
        self._callbacks: list[Callable[[Any], object]] = []
        self._event: threading.Event | None = None
        self._lock = threading.Lock()
        self._handler = handler

    def ready(self) -> bool:
        """Whether it holds a value or an exception."""
        return self._ready

    def successful(self) -> bool:
        """Whether it holds a value."""
        return self._ready and self._failure is None

    @property
    def exception(self) -> BaseException | None:
        """The exception it holds, or None."""
        return self._failure

    def set(self, value: object = None) -> None:
        """Store the value and call the links; ignored when it is ready."""
        self._settle(value, None)

    def set_exception(self, exception: BaseException) -> None:
        """Store the exception and call the links; ignored when it is ready."""
        self._settle(None, exception)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        """Return the value or raise the exception.

        Raises:
            KazooTimeoutError: not ready within `timeout` seconds, or at once without `block`.
        """
        if not self._ready and not (block and self.wait(timeout)):
            raise self._handler.timeout_exception
        if self._failure is not None:
            raise self._failure
        return self.value

    def get_nowait(self) -> Any:
        """As `get` without blocking."""
        return self.get(block=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is ready; whether it is."""
        with self._lock:
            if self._ready:
                return True
            event = self._event = self._event or threading.Event()
        return event.wait(timeout)

    def rawlink(self, callback: Callable[[Any], object]) -> None:
        """Call `callback` with this result when it is ready, now if it is."""
        with self._lock:
            if not self._ready:
                if callback not in self._callbacks:
                    self._callbacks.append(callback)
                return
        self._call(callback)

    def unlink(self, callback: Callable[[Any], object]) -> None:
        """Forget `callback` if it has not been called."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def _settle(self, value: object, failure: BaseException | None) -> None:
        with self._lock:
            if self._ready:
                return
            self.value, self._failure, self._ready = value, failure, True
            callbacks, self._callbacks = self._callbacks, []
            event = self._event
        if event is not None:
            event.set()
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: Callable[[Any], object]) -> None:
        with self._handler.direct():  # what kazoo asks for in the rest of a chain stays in this thread, too
            try:
                callback(self)
            except Exception:
                _logger.exception("a link of a direct result failed")


class DirectScope(threading.local):
    """`with` it, and the results made in this thread are direct ones."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
