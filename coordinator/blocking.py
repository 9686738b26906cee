"""How the blocking face waits: for answers, for events, and for what its handles show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast
from weakref import finalize

from coordinator.core.messages import Abandon
from coordinator.engine.engine import Engine
from coordinator.engine.logs import logger
from coordinator.engine.waiters import ThreadWaiter
from coordinator.errors import ClosedError, OperationTimeoutError
from coordinator.events import BaseEvent
from coordinator.face import NOT_STARTED
from coordinator.handles import (
    NOTHING,
    ChildrenViewHandle,
    EphemeralHandle,
    Handle,
    TransactionHandle,
    ZnodeViewHandle,
)
from coordinator.models import Znode
from coordinator.questions import Question, checked_timeout

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)


def ask(engine: Engine, question: Question[T]) -> T:
    """Ask the engine, and return its answer, at the deadline at the latest.

    Cancellation: whoever is interrupted while he waits has given it up. What was still
    held is not done; what was created for him is deleted again.
    """
    waiter = ThreadWaiter()
    engine.post(question.message(waiter))
    arrived = False
    try:
        arrived = waiter.wait(question.patience)
    finally:
        if not arrived:
            engine.post(Abandon(waiter, question.made))
    if not arrived:
        raise question.overdue()
    return question.read(waiter.answer())


class EventStream(Generic[E_co]):
    """An iterator over events; ends after ``session.closed``, or when it is closed."""

    def __init__(self, engine: Engine, kinds: tuple[type[BaseEvent], ...]) -> None:
        self._engine = engine
        self._subscription = engine.fanout.subscribe(kinds)
        # A loop that was left by `break` is forgotten with its stream.
        finalize(self, self._subscription.forget).atexit = False

    def __iter__(self) -> Self:
        return self

    def _check_begun(self) -> None:
        self._engine.check_process()
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
        if self._engine.forked:
            return
        self._engine.end_stream(self._subscription)

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
        self._engine = engine
        name = f"{engine.name}-on-{getattr(handler, '__name__', 'handler')}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        self._engine.check_process()
        return self._thread.is_alive()

    def _run(self) -> None:
        self._engine.begun.wait()
        for event in self._stream:
            try:
                self._handler(event)
            except Exception:  # noqa: BLE001 -- it is the user's; the next event is served all the same
                logger.exception("handler %s raised on %s", self._thread.name, event.kind)
            if self._engine.forked:
                return  # the handler has forked, and this is the child

    def close(self) -> None:
        """Call the handler no more, but with what is queued already."""
        self._stream.close()

    def join(self, timeout: float) -> None:
        """Wait for the thread; one that will not end is left behind, with a warning."""
        self._engine.check_process()
        if self._thread is threading.current_thread():
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning(
                "%s is still busy and is left behind: its handler does not return", self._thread.name
            )


class _Kept(Handle):
    """What the blocking handles have in common."""

    def __init__(self, *what: Any, **how: Any) -> None:
        self._changed = threading.Condition()
        super().__init__(*what, **how)

    def _refreshed(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self, timeout: float | None = None) -> None:
        """Give it up, and wait until nothing of it is left on the server.

        Raises:
            OperationTimeoutError: that was not confirmed in time; it is seen to later.
        """
        question = self._withdrawal(timeout)
        if question is None:
            return
        try:
            ask(self._engine, question)
        except ClosedError:
            pass  # it ended with the coordinator
        finally:
            self._forget()

    def _wait_until(self, holds: Callable[[], T | None], timeout: float | None, what: str) -> T:
        seconds, _ = self._questions.limit(timeout)
        self._engine.check_process()
        with self._changed:
            self._changed.wait_for(lambda: self._over or holds() is not None, seconds)
            result = holds()
        if result is None:
            raise self._too_late(what, seconds)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Ephemeral(_Kept, EphemeralHandle):
    """An ephemeral that is kept, across sessions, until it is closed."""

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
        ask(self._engine, self._renewal(value, timeout))


class ZnodeView(_Kept, ZnodeViewHandle[T_co], Generic[T_co]):
    """A copy of one znode that is kept fresh, across sessions, until it is closed."""

    def changes(self) -> Iterator[Znode[T_co] | None]:
        """Yield the znode as it is, then each time it changed; None while there is none.

        What cannot be read is left out: ``error`` and ``znode.unreadable`` tell of it.
        A slow reader skips what was overtaken: it always sees the latest. Ends when the
        view or the coordinator is closed.
        """
        yield from _changes(self, self._shown)


class ChildrenView(_Kept, ChildrenViewHandle):
    """A copy of the names of a znode's children, kept fresh until it is closed."""

    def changes(self) -> Iterator[tuple[str, ...]]:
        """Yield the names of the children, then again each time that they changed.

        A slow reader skips what was overtaken: it always sees the latest. Ends when the
        view or the coordinator is closed.
        """
        yield from _changes(self, self._shown)

    def wait(self, minimum: int, timeout: float | None = None) -> tuple[str, ...]:
        """Return the names once there are at least that many.

        Raises:
            OperationTimeoutError: there were not, in that many seconds.
        """
        return self._wait_until(lambda: self._at_least(minimum), timeout, self._fewer_than(minimum))


def _changes(handle: _Kept, look: Callable[[], Any]) -> Iterator[Any]:
    """Yield what ``look`` returns whenever that is new; NOTHING is nothing to be shown."""
    last: object = NOTHING
    while True:
        handle._engine.check_process()
        with handle._changed:
            while (current := look()) in (last, NOTHING) and not handle._over:
                handle._changed.wait()
        if current in (last, NOTHING):
            return
        last = current
        yield current


class Transaction(TransactionHandle):
    """Operations that are carried out together, or not at all.

    As a context manager it is committed at the end, unless an exception passes through.
    """

    def commit(self, timeout: float | None = None) -> tuple[object, ...]:
        """Carry it out; return a path for each create, a Stat for each set, else None.

        Raises:
            TransactionFailedError: it was refused; ``index`` and ``operation`` name the
                guilty operation, ``error`` is what was wrong with it.
            ConnectionLossError: the answer was lost; it may have been done or not.
            DataTooLargeError: all of it together is too large; nothing was sent.
        """
        question = self._question(timeout)
        if question is not None:
            self.results = ask(self._engine, question)
        return self.results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._sent:
            self.commit()
