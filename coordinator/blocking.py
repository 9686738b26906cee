"""What the blocking face hands out: the handles of ``handles.py``, and how they wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from coordinator.core import operations
from coordinator.core.messages import Abandon, Message, Renew, Unwant
from coordinator.core.requests import Set
from coordinator.engine import clock
from coordinator.engine.engine import Engine
from coordinator.engine.logs import logger
from coordinator.errors import ClosedError, ConfigurationError, CoordinatorError, OperationTimeoutError
from coordinator.events import BaseEvent
from coordinator.handles import (
    ChildrenViewHandle,
    EphemeralHandle,
    Handle,
    TransactionHandle,
    ZnodeViewHandle,
    sized,
)
from coordinator.models import ACL, Znode
from coordinator.payload import encode
from coordinator.settings import Settings

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)

OVERDUE = 5.0
"""Seconds after a deadline at which a call no longer trusts the engine to answer it."""


def wait_for(engine: Engine, message: Callable[[Future[Any]], Message], timeout: float) -> Any:
    """Post a message, and return what the engine answers, at the deadline at the latest.

    Cancellation: whoever is interrupted while he waits has given it up; what was still
    held is not done.
    """
    future = engine.ask(message)
    try:
        return future.result(timeout + OVERDUE)
    except TimeoutError:
        if future.done():
            raise
        engine.post(Abandon(future))
        raise CoordinatorError(
            f"the engine did not answer within {timeout + OVERDUE:g} s: a fault of coordinator itself, or "
            "the process was stopped"
        ) from None
    except BaseException:
        if not future.done():
            engine.post(Abandon(future))
        raise


def deadline_of(timeout: float | None, settings: Settings) -> tuple[float, float]:
    """Return a timeout in seconds, and when it ends by the engine's clock."""
    seconds = checked_timeout(settings.operation_timeout if timeout is None else timeout)
    return seconds, clock.now() + seconds


def checked_timeout(timeout: object) -> float:
    """Return the seconds if they are some.

    Raises:
        ConfigurationError: they are no number, negative, or too many.
    """
    if not isinstance(timeout, int | float) or not 0 <= timeout <= MAX_TIMEOUT:
        raise ConfigurationError(f"timeout is in seconds, from 0 to {MAX_TIMEOUT:g}, got {timeout!r}")
    return timeout


NOT_STARTED = "the coordinator is not started: use it in a with statement, or call start()"

MAX_TIMEOUT = 1e6
"""Seconds; eleven days. More is a mistake, and overflows the locks of the system."""


class EventStream(Generic[E_co]):
    """An iterator over events; ends after ``session.closed``, or when it is closed."""

    def __init__(self, engine: Engine, kinds: tuple[type[BaseEvent], ...]) -> None:
        self._engine = engine
        self._subscription = engine.fanout.subscribe(kinds)

    def __iter__(self) -> Self:
        return self

    def _check_begun(self) -> None:
        if not self._engine.begun.is_set():
            raise ClosedError(NOT_STARTED)  # rather than wait for ever

    def __next__(self) -> E_co:
        self._check_begun()
        event = self._subscription.get(None)
        if event is None:
            raise StopIteration
        return cast("E_co", event)  # what it subscribed to

    def next(self, timeout: float) -> E_co:
        """Return the next event.

        Raises:
            OperationTimeoutError: there was none in that many seconds.
            ClosedError: the stream is at its end, or the coordinator was not started.
        """
        seconds = checked_timeout(timeout)
        self._check_begun()
        try:
            event = self._subscription.get(seconds)
        except TimeoutError:
            raise OperationTimeoutError(f"no event within {seconds:g} s") from None
        if event is None:
            raise ClosedError("the stream of events is at its end")
        return cast("E_co", event)

    def close(self) -> None:
        """End the stream; what is queued can still be read."""
        self._engine.fanout.unsubscribe(self._subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HandlerThread:
    """A thread that calls a handler with each event of a stream."""

    def __init__(self, engine: Engine, handler: Callable[[Any], object], stream: EventStream[Any]) -> None:
        self._handler = handler
        self._stream = stream
        self._begun = engine.begun
        name = f"{engine.name}-on-{getattr(handler, '__name__', 'handler')}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        self._begun.wait()
        for event in self._stream:
            try:
                self._handler(event)
            except Exception:  # noqa: BLE001 -- it is the user's; the next event is served all the same
                logger.exception("handler %s raised on %s", self._thread.name, event.kind)

    def close(self) -> None:
        """Call the handler no more, but with what is queued already."""
        self._stream.close()

    def join(self, timeout: float) -> None:
        """Wait for the thread; one that will not end is left behind, with a warning."""
        if self._thread is threading.current_thread():
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning(
                "%s is still busy and is left behind: its handler does not return", self._thread.name
            )


class _Kept(Handle):
    """What the blocking handles have in common."""

    def __init__(self, engine: Engine, settings: Settings, *rest: Any) -> None:
        super().__init__(engine, *rest)
        self._settings = settings

    @property
    def _label(self) -> str:
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> None:
        """Give it up, and wait until nothing of it is left on the server.

        Raises:
            OperationTimeoutError: that was not confirmed in time; it is seen to later.
        """
        seconds, deadline = deadline_of(timeout, self._settings)
        if not self._shut():
            return
        try:
            wait_for(
                self._engine,
                lambda future: Unwant(self._token, f"close {self._label}", deadline, seconds, future),
                seconds,
            )
        except ClosedError:
            pass  # it ended with the coordinator
        finally:
            self._forget()

    def _abandon(self) -> None:
        """Withdraw it without waiting: its first outcome was an error."""
        if self._shut():
            self._engine.post(Unwant(self._token, self._label, 0.0, 0.0, None))
            self._forget()

    def _wait_until(self, holds: Callable[[], T | None], timeout: float | None, what: str) -> T:
        seconds = deadline_of(timeout, self._settings)[0]
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._over or holds() is not None, seconds)
            result = holds()
        if result is not None:
            return result
        if self._closed or self._over:
            raise ClosedError(f"{self._label} was closed")
        raise OperationTimeoutError(
            f"{what} within {seconds:g} s: {self!r}, session {self._engine.session.phase}"
        )

    @property
    def _over(self) -> bool:
        return self._engine.over

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Ephemeral(_Kept, EphemeralHandle):
    """An ephemeral that is kept, across sessions, until it is closed."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        path: str,
        data: bytes,
        acl: tuple[ACL, ...],
        on_conflict: str,
        model: Any,
    ) -> None:
        super().__init__(engine, settings, path, data, acl, on_conflict)
        self._model = model

    @property
    def _label(self) -> str:
        return f"ephemeral {self.path}"

    def wait_present(self, timeout: float | None = None) -> None:
        """Wait until it exists and is ours.

        Raises:
            OperationTimeoutError: it did not in that many seconds.
            ClosedError: it was closed meanwhile.
        """
        self._wait_until(lambda: self.present or None, timeout, f"{self._label} not present")

    def set(self, value: object, *, timeout: float | None = None) -> None:
        """Give it other data; it has that from now on, also after an expiry.

        Raises:
            OperationTimeoutError: not confirmed in time; it is written later all the same.
            ZnodeError: the server refused it; it is tried again, with backoff.
        """
        data = encode(value, self._model)
        sized(Set(self.path, data), self._settings.chroot)
        if self._closed:
            raise ClosedError(f"{self._label} was closed")
        seconds, deadline = deadline_of(timeout, self._settings)
        label = f"set ephemeral {self.path}"
        wait_for(
            self._engine,
            lambda future: Renew(self._token, data, label, deadline, seconds, future),
            seconds,
        )


class ZnodeView(_Kept, ZnodeViewHandle[T_co], Generic[T_co]):
    """A copy of one znode that is kept fresh, across sessions, until it is closed."""

    @property
    def _label(self) -> str:
        return f"watch {self.path}"

    def changes(self) -> Iterator[Znode[T_co] | None]:
        """Yield the znode as it is, then each time it changed; None while there is none.

        What cannot be read is left out: ``error`` and ``znode.unreadable`` tell of it.
        A slow reader skips what was overtaken: it always sees the latest. Ends when the
        view or the coordinator is closed.
        """
        yield from _changes(self, lambda: self.znode if self._read and not self.error else _NOTHING)


class ChildrenView(_Kept, ChildrenViewHandle):
    """A copy of the names of a znode's children, kept fresh until it is closed."""

    @property
    def _label(self) -> str:
        return f"watch_children {self.path}"

    def changes(self) -> Iterator[tuple[str, ...]]:
        """Yield the names of the children, then again each time that they changed.

        A slow reader skips what was overtaken: it always sees the latest. Ends when the
        view or the coordinator is closed.
        """
        yield from _changes(self, lambda: self.children if self._read else _NOTHING)

    def wait(self, minimum: int, timeout: float | None = None) -> tuple[str, ...]:
        """Return the names once there are at least that many.

        Raises:
            OperationTimeoutError: there were not, in that many seconds.
        """
        return self._wait_until(
            lambda: self.children if len(self.children) >= minimum else None,
            timeout,
            f"{self.path} had less than {minimum} children",
        )


_NOTHING = object()


def _changes(handle: _Kept, look: Callable[[], Any]) -> Iterator[Any]:
    """Yield what ``look`` returns whenever that is new; _NOTHING is nothing to be shown."""
    last: object = _NOTHING
    while True:
        with handle._changed:
            while (current := look()) in (last, _NOTHING) and not (handle._closed or handle._over):
                handle._changed.wait()
        if current in (last, _NOTHING):
            return
        last = current
        yield current


class Transaction(TransactionHandle):
    """Operations that are carried out together, or not at all.

    As a context manager it is committed at the end, unless an exception passes through.
    """

    def __init__(
        self, chroot: str, run: Callable[[operations.Operation[Any], str, float | None], Any]
    ) -> None:
        super().__init__(chroot)
        self._run = run

    def commit(self, timeout: float | None = None) -> tuple[object, ...]:
        """Carry it out; return a path for each create, a Stat for each set, else None.

        Raises:
            TransactionFailedError: it was refused; ``index`` and ``operation`` name the
                guilty operation, ``error`` is what was wrong with it.
            ConnectionLossError: the answer was lost; it may have been done or not.
            DataTooLargeError: all of it together is too large; nothing was sent.
        """
        request = self._request()
        if request is None:
            return ()
        self.results = self._run(operations.write(request), f"transaction on {request.path}", timeout)
        return self.results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._sent:
            self.commit()
