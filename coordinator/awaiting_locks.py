"""Locks and leadership in an event loop: what waits of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, TypeVar

from coordinator.awaiting import _changes, _Kept, ask
from coordinator.contending import Candidature
from coordinator.core.term import Term
from coordinator.engine.engine import Engine
from coordinator.engine.logs import logger
from coordinator.engine.waiters import LoopBridge
from coordinator.errors import ClosedError, ConfigurationError, CoordinatorError, OperationTimeoutError
from coordinator.leases import (
    HolderHandle,
    LeaderViewHandle,
    LeaseHandle,
    LossHandle,
    QueueHandle,
    patience,
)
from coordinator.models import Contender
from coordinator.questions import Question, Questions, checked_flags, checked_timeout

R = TypeVar("R")


class AsyncLoss(LossHandle):
    """Whether a lease is lost: true from then on, and can be waited for."""

    def __init__(self, engine: Engine, bridge: LoopBridge) -> None:
        super().__init__(engine)
        self._bridge = bridge
        self._event = asyncio.Event()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for that many seconds, without limit by default; return whether it is lost."""
        self._engine.check_process()
        self._bridge.check()
        try:
            async with asyncio.timeout(None if timeout is None else checked_timeout(timeout)):
                await self._event.wait()
        except TimeoutError:
            return self.is_set()
        return True

    def _fire(self) -> None:
        self._fired = True  # at once, for a loop that is busy
        self._bridge.call(self._event.set)


class AsyncLease(LeaseHandle):
    """A lock or leadership that is held, until it is lost or given back, for good."""

    def __init__(
        self,
        engine: Engine,
        wish: Candidature,
        term: Term,
        release: Callable[[AsyncLease, float | None], Awaitable[bool]],
        bridge: LoopBridge,
    ) -> None:
        super().__init__(engine, wish, term)
        self._bridge = bridge
        self._release = release
        self.lost = AsyncLoss(engine, bridge)
        """Fires ``stop_within`` before the lease ends, and as soon as it is known to be lost otherwise."""
        self._body: asyncio.Task[Any] | None = None
        """Is cancelled when it is lost."""
        self._cancelling = 0
        """How many had cancelled that before it began."""
        self._cancelled = False
        self._telling: asyncio.Task[None] | None = None

    def _fire(self) -> None:
        self.lost._fire()
        self._bridge.call(self._told)

    def _told(self) -> None:
        if self._silent:
            return
        if self._body is not None and not self._body.done():
            self._cancelled = True
            self._body.cancel()
        if self._wish.on_lost is not None:
            self._telling = self._bridge.loop.create_task(self._call(self._wish.on_lost))

    def _bind(self) -> None:
        """Have the task that runs cancelled when it is lost."""
        self._body = asyncio.current_task()
        self._cancelling = 0 if self._body is None else self._body.cancelling()

    def _unbind(self) -> bool:
        """Cancel it no more; return whether a cancellation that arrives now is ours alone.

        The rules are those of ``asyncio.timeout``: what others have asked for is passed on.
        """
        body, self._body = self._body, None
        return self._cancelled and body is not None and body.uncancel() <= self._cancelling

    async def _call(self, on_lost: Callable[[Any], object]) -> None:
        try:
            result = on_lost(self)
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001 -- it is the user's
            logger.exception("on_lost of %s raised", self._wish.label)

    async def wait_lost(self, timeout: float | None = None) -> bool:
        """Wait for that many seconds, without limit by default; return whether it is lost."""
        self._engine.check_process()
        self._bridge.check()
        return await self.lost.wait(timeout)

    async def release(self, timeout: float | None = None) -> bool:
        """Give it back; work under it has ended before. A latch queues again.

        Cancellation: it is given back all the same.
        """
        return await self._release(self, timeout)


class _Queue(_Kept, QueueHandle[AsyncLease]):
    """What queues, in an event loop."""

    def _refreshed(self) -> None:
        self._leased()
        super()._refreshed()

    def _new_lease(self, term: Term) -> AsyncLease:
        return AsyncLease(self._engine, self._wish, term, self._give_back, self._bridge)

    def _granted(self) -> AsyncLease:
        if self._lease is None:  # who grants it tells before he answers
            raise CoordinatorError(f"a fault of coordinator itself: {self._label} without a lease")
        return self._lease

    async def _give_back(self, lease: AsyncLease, timeout: float | None) -> bool:
        seconds = patience(lease, timeout)
        self._bridge.check()
        self._hush()
        self._shut()
        try:
            return await self._done(self._questions.unwant(self._token, f"release {self._label}", seconds))
        finally:
            self._forget()

    async def _done(self, question: Question[None]) -> bool:
        """Ask for it, and return whether that is certain to be done."""
        try:
            await ask(self._engine, self._bridge, question)
        except (OperationTimeoutError, ClosedError):
            return False
        return True


class _Holder(HolderHandle[_Queue]):
    """What queues for one lease at a time, in an event loop."""

    def __init__(
        self,
        engine: Engine,
        questions: Questions,
        wish: Candidature,
        timeout: float | None,
        check_open: Callable[[], None],
        *,
        cancel_on_loss: bool,
        here: Callable[[], LoopBridge],
    ) -> None:
        super().__init__(engine, questions, wish, timeout, check_open)
        self._cancel_on_loss = cancel_on_loss
        self._here = here

    @property
    def lease(self) -> AsyncLease | None:
        """The lease of this moment; None if there is none, or if it was lost."""
        self._engine.check_process()
        seat = self._seat
        return None if seat is None else seat.lease

    async def _take(self, timeout: float | None, *, block: bool = False) -> AsyncLease:
        limit = self._patience(timeout)
        bridge = self._here()

        def make() -> _Queue:
            return _Queue(self._engine, self._questions, self._wish, once=True, bridge=bridge)

        seat = self._sit(make, block=block)
        try:
            await ask(self._engine, bridge, self._questions.acquire(seat._intent, self._wish.label, limit))
            return seat._granted()
        except BaseException:
            seat._abandon()
            self._stand_up(seat)
            raise

    async def _give(self, seat: _Queue | None, timeout: float | None) -> bool:
        self._engine.check_process()
        wanted = None if timeout is None else checked_timeout(timeout)
        if seat is None or seat._lease is None:
            return True
        try:
            return await seat._give_back(seat._lease, wanted)
        finally:
            if seat.closed:  # otherwise it was refused in another loop, and is held as before
                self._stand_up(seat)

    async def _enter(self, timeout: float | None = None) -> AsyncLease:
        lease = await self._take(timeout, block=True)
        if self._cancel_on_loss and lease._is_lost:  # between the grant and here: there is no body yet
            await self._give(self._block, None)
            raise lease._lost_error()
        if self._cancel_on_loss:
            lease._bind()
        return lease

    async def _leave(self, error: BaseException | None, *, tells: bool) -> None:
        """End the block: give back what it held; say that it was lost before, where that is to be said."""
        seat = self._block
        lease = None if seat is None else seat._lease
        if lease is None or self._engine.forked:
            return
        cancelled = lease._unbind() and isinstance(error, asyncio.CancelledError)
        lost = lease._is_lost and lease.reason != "released"
        await self._give(seat, None)
        if cancelled or (tells and lost and error is None):
            raise lease._lost_error() from error


class AsyncLock(_Holder):
    """A lock: at most one holds it, in all processes that use its path.

    As a context manager it is acquired and released; see ``AsyncCoordinator.lock``.
    """

    async def acquire(self, timeout: float | None = None) -> AsyncLease:
        """Wait until it is ours, and return the lease.

        Cancellation: nothing of it is left in the queue.
        """
        return await self._take(timeout)

    async def release(self, timeout: float | None = None) -> bool:
        """Give it back, as ``Lease.release``."""
        return await self._give(self._seat, timeout)

    async def __aenter__(self) -> AsyncLease:
        return await self._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error, tells=True)


class AsyncCandidacy(_Holder):
    """A wish to lead: at most one of those who have it does.

    As a context manager it campaigns and resigns; see ``AsyncCoordinator.lead``.
    """

    async def campaign(self, timeout: float | None = None) -> AsyncLease:
        """Wait until we lead, and return the lease; arguments and errors as of ``Lock.acquire``.

        Cancellation: nothing of it is left in the queue.
        """
        return await self._take(timeout)

    async def resign(self, timeout: float | None = None) -> bool:
        """Give it back, as ``Lease.release``."""
        return await self._give(self._seat, timeout)

    async def hold(self, work: Callable[[AsyncLease], Awaitable[R]], timeout: float | None = None) -> R:
        """Campaign, call ``work(lease)``, resign; return what it returned.

        With ``cancel_on_loss`` the work is cancelled when the lease is lost.
        """
        if not callable(work):
            raise ConfigurationError(f"hold() takes a callable, got {type(work).__name__}")
        lease = await self._enter(timeout)
        try:
            result = await work(lease)
        except BaseException as error:
            await self._leave(error, tells=False)
            raise
        await self._leave(None, tells=False)
        return result

    async def __aenter__(self) -> AsyncLease:
        return await self._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error, tells=False)


class AsyncLatch(_Queue):
    """A standing wish to lead: queues in the background, and again after each loss."""

    async def _give_back(self, lease: AsyncLease, timeout: float | None) -> bool:
        seconds = patience(lease, timeout)
        self._bridge.check()
        if lease.reason is None:
            lease._silent = True
        question = self._questions.step_down(self._token, lease.token, f"release {self._label}", seconds)
        return await self._done(question)

    async def wait(self, timeout: float | None = None) -> AsyncLease:
        """Wait until we lead, and return the lease."""
        return await self._wait_until(lambda: self.lease, timeout, f"{self._label} did not lead")

    async def changes(self) -> AsyncGenerator[AsyncLease | None, None]:
        """Yield the lease of this moment, None for none, then again each time that changes."""
        async with aclosing(_changes(self, self._shown)) as changes:
            async for shown in changes:
                yield shown

    async def leader(self, timeout: float | None = None) -> Contender | None:
        """Ask ZooKeeper who leads; None: nobody."""
        found = await ask(self._engine, self._bridge, self._contenders(timeout, 1))
        return found[0] if found else None

    async def members(self, timeout: float | None = None) -> tuple[Contender, ...]:
        """Ask ZooKeeper who stands in the queue, the leader first."""
        return await ask(self._engine, self._bridge, self._contenders(timeout, None))

    async def close(self, timeout: float | None = None, *, notify: bool = True) -> None:
        """Leave the queue, and the lead, and wait until nothing is left of it on the server.

        Cancellation: it is left all the same.
        """
        checked_flags(notify=notify)
        if not notify and not self._engine.forked:
            self._hush()
        await super().close(timeout)


class AsyncLeaderView(_Kept, LeaderViewHandle):
    """A copy of who leads, kept fresh until it is closed."""

    async def changes(self) -> AsyncGenerator[Contender | None, None]:
        """Yield who leads, None for nobody, then again each time that changes."""
        async with aclosing(_changes(self, self._shown)) as changes:
            async for shown in changes:
                yield shown

    async def wait(self, timeout: float | None = None) -> Contender:
        """Wait until somebody leads, and return who."""
        return await self._wait_until(lambda: self.leader, timeout, f"{self._label}: nobody leads")
