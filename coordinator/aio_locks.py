"""Locks and leadership of the asyncio face; explained in full with the blocking one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from coordinator.awaiting import ask
from coordinator.awaiting_locks import AsyncCandidacy, AsyncLatch, AsyncLeaderView, AsyncLease, AsyncLock
from coordinator.contending import Family, OnSuspend
from coordinator.engine.waiters import LoopBridge
from coordinator.errors import ConfigurationError
from coordinator.face import Face
from coordinator.questions import checked_flags, checked_timeout
from coordinator.security import AccessWord

H = TypeVar("H", AsyncLatch, AsyncLeaderView)


class AsyncLocking(Face):
    """What a coordinator can queue for, and the loop that it belongs to."""

    _bridge: LoopBridge | None = None

    def lock(
        self,
        path: str,
        *,
        timeout: float | None = None,
        identity: str | None = None,
        data: object = None,
        model: Any = None,
        dialect: Family = "kazoo",
        stop_within: float | None = None,
        on_suspend: OnSuspend = "keep",
        on_lost: Callable[[AsyncLease], object] | None = None,
        acl: AccessWord | Sequence[Any] | None = None,
        cancel_on_loss: bool = False,
    ) -> AsyncLock:
        """Return a lock; nothing is sent before it is acquired.

        ::

            async with zk.lock("/locks/reindex", timeout=5.0, cancel_on_loss=True) as lease:
                await work(fencing_token=lease.token)

        With ``cancel_on_loss`` the body of the ``async with`` is cancelled when the lease is lost, and
        LeaseLostError is raised where it ends.

        *Cancellation:* nothing of a wait that is cancelled is left in the queue.
        """
        wish = self._wish(
            "lock",
            path,
            identity=identity,
            data=data,
            model=model,
            dialect=dialect,
            stop_within=stop_within,
            on_suspend=on_suspend,
            on_lost=on_lost,
            acl=acl,
        )
        return AsyncLock(self._engine, self._questions, wish, **self._waiting(timeout, cancel_on_loss))

    def lead(
        self,
        path: str,
        *,
        timeout: float | None = None,
        identity: str | None = None,
        data: object = None,
        model: Any = None,
        dialect: Family = "kazoo",
        stop_within: float | None = None,
        on_suspend: OnSuspend = "keep",
        on_lost: Callable[[AsyncLease], object] | None = None,
        acl: AccessWord | Sequence[Any] | None = None,
        cancel_on_loss: bool = False,
    ) -> AsyncCandidacy:
        """Return a candidacy for leadership; nothing is sent before it campaigns.

        With ``cancel_on_loss`` the body of the ``async with``, or the work of ``hold``, is cancelled
        when the lease is lost, and LeaseLostError is raised where it ends.

        *Cancellation:* nothing of a wait that is cancelled is left in the queue.
        """
        wish = self._wish(
            "lead",
            path,
            identity=identity,
            data=data,
            model=model,
            dialect=dialect,
            stop_within=stop_within,
            on_suspend=on_suspend,
            on_lost=on_lost,
            acl=acl,
        )
        return AsyncCandidacy(self._engine, self._questions, wish, **self._waiting(timeout, cancel_on_loss))

    async def latch(
        self,
        path: str,
        *,
        identity: str | None = None,
        data: object = None,
        model: Any = None,
        dialect: Family = "kazoo",
        stop_within: float | None = None,
        on_suspend: OnSuspend = "keep",
        on_lost: Callable[[AsyncLease], object] | None = None,
        acl: AccessWord | Sequence[Any] | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> AsyncLatch:
        """Queue for leadership in the background, and again after each loss, until it is closed.

        *Cancellation:* it leaves the queue.
        """
        wish = self._wish(
            "latch",
            path,
            identity=identity,
            data=data,
            model=model,
            dialect=dialect,
            stop_within=stop_within,
            on_suspend=on_suspend,
            on_lost=on_lost,
            acl=acl,
        )
        self._questions.limit(timeout)
        latch = AsyncLatch(self._engine, self._questions, wish, once=False, bridge=self._here())
        return await self._queued(latch, timeout, wait=wait)

    async def observe(
        self, path: str, *, dialect: Family = "kazoo", wait: bool = True, timeout: float | None = None
    ) -> AsyncLeaderView:
        """Return a view of who leads there, for those who only look; events tell of changes."""
        where = self._observed(path, dialect, timeout)
        view = AsyncLeaderView(self._engine, self._questions, *where, bridge=self._here())
        return await self._queued(view, timeout, wait=wait)

    def _waiting(self, timeout: float | None, cancel_on_loss: object) -> dict[str, Any]:
        checked_flags(cancel_on_loss=cancel_on_loss)
        return {
            "timeout": None if timeout is None else checked_timeout(timeout),
            "check_open": self._check_open,
            "cancel_on_loss": cancel_on_loss,
            "here": self._here,
        }

    def _here(self) -> LoopBridge:
        """Return the way into the loop that runs, which is the one that it was used in first."""
        self._engine.check_process()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "an AsyncCoordinator is used inside of a running event loop; for threads there is Coordinator"
            ) from None
        if self._bridge is None or self._bridge.loop.is_closed():
            self._bridge = LoopBridge(loop)
        self._bridge.check()
        return self._bridge

    async def _queued(self, handle: H, timeout: float | None, *, wait: bool) -> H:
        question = self._want(handle, timeout)
        if not wait:
            self._engine.post(question.message(None))
            return handle
        try:
            await ask(self._engine, self._here(), question)
        except BaseException:
            handle._abandon()
            raise
        return handle
