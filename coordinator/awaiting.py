"""How the asyncio face waits: for answers, for events, and for what its handles show.

All of it belongs to one event loop. What happens in the engine's thread comes into that
loop through a ``LoopBridge``; a wait that is cancelled leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast
from weakref import WeakMethod, finalize

from coordinator.core.messages import Abandon
from coordinator.engine.engine import Engine
from coordinator.engine.logs import logger
from coordinator.engine.waiters import LoopBridge, LoopWaiter
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


CANCEL_WITHIN = 0.05
"""Seconds that a cancelled handler has to end."""

FOREVER = 1e9
"""Seconds: 31 years, for a wait without limit; a timer that never comes could not be set."""

TURN = 50
"""How many events a reader with a backlog takes before the loop does something else."""


async def ask(engine: Engine, bridge: LoopBridge, question: Question[T]) -> T:
    """Ask the engine, and return its answer, at the deadline at the latest.

    Cancellation: whoever is cancelled while he waits has given it up. What was still held
    is not done; what was created for him is deleted again.
    """
    bridge.check()
    waiter = LoopWaiter(bridge)
    engine.post(question.message(waiter))

    def give_up() -> None:
        if waiter.resolve(None, question.overdue()):
            engine.post(Abandon(waiter, question.made))

    overdue = bridge.loop.call_later(min(question.patience, FOREVER), give_up)
    try:
        answer = await waiter.future
    except (asyncio.CancelledError, GeneratorExit):
        if waiter.future.done() and not waiter.future.cancelled():
            waiter.future.exception()  # it came in the same moment; asyncio would miss that somebody looks
        waiter.future.cancel()
        engine.post(Abandon(waiter, question.made))
        raise
    finally:
        overdue.cancel()
    return question.read(answer)


class AsyncEventStream(Generic[E_co]):
    """An iterator over events; ends after ``session.closed``, or when it is closed."""

    def __init__(self, engine: Engine, bridge: LoopBridge, kinds: tuple[type[BaseEvent], ...]) -> None:
        self._engine = engine
        self._bridge = bridge
        self._something = asyncio.Event()
        self._told = False
        self._served = 0
        wake = WeakMethod(self._wake)

        def wake_if_there() -> None:
            there = wake()
            if there is not None:
                there()

        self._subscription = engine.fanout.subscribe(kinds, wake=wake_if_there)
        # A loop that was left by `break` is forgotten with its stream.
        finalize(self, self._subscription.forget).atexit = False

    def _wake(self) -> None:
        if not self._told:  # many events, one call into the loop
            self._told = True
            self._bridge.call(self._something.set)

    def __aiter__(self) -> Self:
        return self

    def _check_begun(self) -> None:
        self._engine.check_process()
        if not self._engine.begun.is_set():
            raise ClosedError(NOT_STARTED)  # rather than wait for ever

    async def _get(self) -> BaseEvent | None:
        self._bridge.check()
        self._served += 1
        if self._served % TURN == 0:
            await asyncio.sleep(0)
        while True:
            self._engine.check_process()
            self._told = False  # before the look: what comes from here on is told again
            self._something.clear()
            try:
                return self._subscription.get(0)
            except TimeoutError:
                await self._something.wait()

    async def __anext__(self) -> E_co:
        self._check_begun()
        event = await self._get()
        if event is None:
            raise StopAsyncIteration
        return cast("E_co", event)  # what it subscribed to

    async def next(self, timeout: float) -> E_co:
        """Return the next event.

        Raises:
            OperationTimeoutError: there was none in that many seconds.
            ClosedError: the stream is at its end, or the coordinator was not started.
        """
        seconds = checked_timeout(timeout)
        self._check_begun()
        try:
            async with asyncio.timeout(seconds):
                event = await self._get()
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HandlerTask:
    """A task that calls a handler with each event of a stream."""

    def __init__(
        self, engine: Engine, handler: Callable[[Any], object], stream: AsyncEventStream[Any]
    ) -> None:
        self._engine = engine
        self._handler = handler
        self._stream = stream
        name = f"{engine.name}-on-{getattr(handler, '__name__', 'handler')}"
        self._task = asyncio.create_task(self._run(), name=name)
        stream._subscription.reader = self

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        self._engine.check_process()
        return not self._task.done()

    async def _run(self) -> None:
        while (event := await self._stream._get()) is not None:
            try:
                result = self._handler(event)
                if inspect.isawaitable(result):
                    await result
            except asyncio.CancelledError:
                if self._task.cancelling():
                    raise
                logger.warning(
                    "handler %s awaited what was cancelled, on %s", self._task.get_name(), event.kind
                )
            except Exception:  # noqa: BLE001 -- it is the user's; the next event is served all the same
                logger.exception("handler %s raised on %s", self._task.get_name(), event.kind)
            if self._engine.forked:
                return  # the handler has forked, and this is the child

    def close(self) -> None:
        """Call the handler no more, but with what is queued already."""
        self._stream.close()

    async def join(self, timeout: float) -> None:
        """Wait for the task; one that will not end is cancelled, with a warning."""
        self._engine.check_process()
        if self._task is not asyncio.current_task():
            await asyncio.wait((self._task,), timeout=timeout)
            if self._abandon():
                await asyncio.wait((self._task,), timeout=CANCEL_WITHIN)

    def _abandon(self) -> bool:
        """Cancel it if it is busy; return whether it was."""
        if not self.alive or self._task is asyncio.current_task():
            return False
        self._task.cancel()
        logger.warning(
            "%s is still busy and is cancelled: its handler does not return", self._task.get_name()
        )
        return True


class _Kept(Handle):
    """What the handles of this face have in common."""

    def __init__(self, engine: Engine, *what: Any, bridge: LoopBridge, **how: Any) -> None:
        self._bridge = bridge
        self._changed = asyncio.Event()
        self._readers = 0
        super().__init__(engine, *what, **how)

    def _refreshed(self) -> None:
        # A reader counts himself before he looks: he sees the change, or we see him.
        if self._readers:
            self._bridge.call(self._changed.set)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    async def close(self, timeout: float | None = None) -> None:
        """Give it up, and wait until nothing of it is left on the server.

        Raises:
            OperationTimeoutError: that was not confirmed in time; it is seen to later.

        Cancellation: it is given up all the same.
        """
        if not self._engine.forked:
            self._bridge.check()  # while it is still to be closed
        question = self._withdrawal(timeout)
        if question is None:
            return
        try:
            await ask(self._engine, self._bridge, question)
        except ClosedError:
            pass  # it ended with the coordinator
        finally:
            self._forget()

    async def _wait_until(self, holds: Callable[[], T | None], timeout: float | None, what: str) -> T:
        seconds, _ = self._questions.limit(timeout)
        self._engine.check_process()
        result = None
        try:
            async with asyncio.timeout(seconds):
                with self._reading():
                    while (result := holds()) is None and not self._over:
                        await self._changed.wait()
                        self._changed.clear()
        except TimeoutError:
            result = holds()
        if result is None:
            raise self._too_late(what, seconds)
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncEphemeral(_Kept, EphemeralHandle):
    """An ephemeral that is kept, across sessions, until it is closed."""

    async def wait_present(self, timeout: float | None = None) -> None:
        """Wait until it exists and is ours.

        Raises:
            OperationTimeoutError: it did not in that many seconds.
            ClosedError: it was closed meanwhile.
        """
        await self._wait_until(lambda: self.present or None, timeout, f"{self._label} not present")

    async def set(self, value: object, *, timeout: float | None = None) -> None:
        """Give it other data; it has that from now on, also after an expiry.

        Raises:
            OperationTimeoutError: not confirmed in time; it is written later all the same.
            ZnodeError: the server refused it; it is tried again, with backoff.

        Cancellation: it is written later all the same.
        """
        await ask(self._engine, self._bridge, self._renewal(value, timeout))


class AsyncZnodeView(_Kept, ZnodeViewHandle[T_co], Generic[T_co]):
    """A copy of one znode that is kept fresh, across sessions, until it is closed."""

    async def changes(self) -> AsyncGenerator[Znode[T_co] | None, None]:
        """Yield the znode as it is, then each time it changed; None while there is none.

        What cannot be read is left out: ``error`` and ``znode.unreadable`` tell of it.
        A slow reader skips what was overtaken: it always sees the latest. Ends when the
        view or the coordinator is closed.
        """
        async with aclosing(_changes(self, self._shown)) as changes:
            async for shown in changes:
                yield shown


class AsyncChildrenView(_Kept, ChildrenViewHandle):
    """A copy of the names of a znode's children, kept fresh until it is closed."""

    async def changes(self) -> AsyncGenerator[tuple[str, ...], None]:
        """Yield the names of the children, then again each time that they changed.

        A slow reader skips what was overtaken: it always sees the latest. Ends when the
        view or the coordinator is closed.
        """
        async with aclosing(_changes(self, self._shown)) as changes:
            async for shown in changes:
                yield shown

    async def wait(self, minimum: int, timeout: float | None = None) -> tuple[str, ...]:
        """Return the names once there are at least that many.

        Raises:
            OperationTimeoutError: there were not, in that many seconds.
        """
        return await self._wait_until(lambda: self._at_least(minimum), timeout, self._fewer_than(minimum))


async def _changes(handle: _Kept, look: Callable[[], Any]) -> AsyncGenerator[Any, None]:
    """Yield what ``look`` returns whenever that is new; NOTHING is nothing to be shown."""
    last: object = NOTHING
    with handle._reading():
        while True:
            handle._engine.check_process()
            over = handle._over  # before the look: what was shown last is shown
            current = look()
            if current not in (last, NOTHING):
                last = current
                yield current
            elif over:
                return
            else:
                await handle._changed.wait()
                handle._changed.clear()


class AsyncTransaction(TransactionHandle):
    """Operations that are carried out together, or not at all.

    As a context manager it is committed at the end, unless an exception passes through.
    """

    def __init__(self, engine: Engine, *rest: Any, bridge: LoopBridge) -> None:
        super().__init__(engine, *rest)
        self._bridge = bridge

    async def commit(self, timeout: float | None = None) -> tuple[object, ...]:
        """Carry it out; return a path for each create, a Stat for each set, else None.

        Raises:
            TransactionFailedError: it was refused; ``index`` and ``operation`` name the
                guilty operation, ``error`` is what was wrong with it.
            ConnectionLossError: the answer was lost; it may have been done or not.
            DataTooLargeError: all of it together is too large; nothing was sent.

        Cancellation: once it was sent it may have been done or not; one that does nothing
        but create is undone.
        """
        question = self._question(timeout)
        if question is not None:
            self.results = await ask(self._engine, self._bridge, question)
        return self.results

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._sent:
            await self.commit()
