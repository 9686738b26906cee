"""Locks and leadership of the blocking face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from coordinator.blocking import ask
from coordinator.blocking_locks import Candidacy, Latch, LeaderView, Lease, Lock
from coordinator.contending import Family, OnSuspend
from coordinator.face import Face
from coordinator.questions import checked_timeout
from coordinator.security import AccessWord

H = TypeVar("H", Latch, LeaderView)


class Locking(Face):
    """What a coordinator can queue for."""

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
        on_lost: Callable[[Lease], object] | None = None,
        acl: AccessWord | Sequence[Any] | None = None,
    ) -> Lock:
        """Return a lock; nothing is sent before it is acquired.

        ::

            with zk.lock("/locks/reindex", timeout=5.0) as lease:
                while more():
                    lease.check()
                    work(fencing_token=lease.token)

        Leaving the block gives it back. If it was lost before, LeaseLostError is raised there: what
        the block did last was not exclusive.

        Args:
            path: absolute, within the chroot; where others who want the same queue, too.
            timeout: seconds to wait for it; default: without limit.
            identity: who we are, for others to read; default: ``host:pid``.
            data: what the seat in the queue holds instead of the identity; others are shown it in its
                place if it is a short text.
            model: a type that the data has to fit; it is written as JSON.
            dialect: whose queue it is: "kazoo" (Lock, Election) or "curator" (InterProcessMutex).
            stop_within: seconds before the lease ends at which it is lost, to stop in; default: a
                tenth of the session timeout.
            on_suspend: "keep" it as long as it is certain, whatever the link does, or "revoke" it as
                soon as the link is down.
            on_lost: is called with the lease when it is lost, on a thread of its own.
            acl: who may do what with the seat; default: as in the settings.

        Raises:
            ConfigurationError: one of them is wrong, or the session is too short for a lease.
            AcquireTimeoutError: on acquiring: others held it.
            NotAQueueError: on acquiring: the path holds something else.

        *On expiry:* a lease that is held is lost; who waits queues again. *Guarantees:*
        docs/leases.md.
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
        limit = None if timeout is None else checked_timeout(timeout)
        return Lock(self._engine, self._questions, wish, limit, self._check_open)

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
        on_lost: Callable[[Lease], object] | None = None,
        acl: AccessWord | Sequence[Any] | None = None,
    ) -> Candidacy:
        """Return a candidacy for leadership; nothing is sent before it campaigns.

        ::

            with zk.lead("/leaders/billing", identity="host-1") as lease:
                while not lease.lost:
                    work(fencing_token=lease.token)

        Arguments and errors as of ``lock``; leaving the block raises nothing of its own. In
        ``dialect="curator"`` it queues with LeaderLatch.
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
        limit = None if timeout is None else checked_timeout(timeout)
        return Candidacy(self._engine, self._questions, wish, limit, self._check_open)

    def latch(
        self,
        path: str,
        *,
        identity: str | None = None,
        data: object = None,
        model: Any = None,
        dialect: Family = "kazoo",
        stop_within: float | None = None,
        on_suspend: OnSuspend = "keep",
        on_lost: Callable[[Lease], object] | None = None,
        acl: AccessWord | Sequence[Any] | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Latch:
        """Queue for leadership in the background, and again after each loss, until it is closed.

        It returns when it stands in the queue, within ``timeout`` seconds; with ``wait=False`` at
        once. The other arguments are those of ``lock``.

        Raises:
            ConfigurationError: one of them is wrong, or the session is too short for a lease.
            NotAQueueError: the path holds something else.
            ZnodeError: the server refused it. After any of these nothing is kept.
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
        latch = Latch(self._engine, self._questions, wish, once=False)
        return self._queued(latch, timeout, wait=wait)

    def observe(
        self, path: str, *, dialect: Family = "kazoo", wait: bool = True, timeout: float | None = None
    ) -> LeaderView:
        """Return a view of who leads there, for those who only look; events tell of changes.

        Args:
            path: of the queue; it need not exist.
            dialect: "kazoo" (Lock, Election), or "curator" (LeaderLatch).
            wait: return when it was looked at once; False: at once.
            timeout: seconds to wait for that.
        """
        view = LeaderView(self._engine, self._questions, *self._observed(path, dialect, timeout))
        return self._queued(view, timeout, wait=wait)

    def _queued(self, handle: H, timeout: float | None, *, wait: bool) -> H:
        question = self._want(handle, timeout)
        if not wait:
            self._engine.post(question.message(None))
            return handle
        try:
            ask(self._engine, question)
        except BaseException:
            handle._abandon()
            raise
        return handle
