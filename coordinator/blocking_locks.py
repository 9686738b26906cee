"""Locks and leadership in threads: what waits of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from coordinator.blocking import _changes, _Kept, ask
from coordinator.contending import Candidature
from coordinator.core.term import Term
from coordinator.engine.engine import Engine
from coordinator.engine.logs import logger
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
from coordinator.questions import Question, checked_flags, checked_timeout

R = TypeVar("R")


class Loss(LossHandle):
    """Whether a lease is lost: true from then on, and can be waited for."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._event = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for that many seconds, without limit by default; return whether it is lost."""
        self._engine.check_process()
        return self._event.wait(None if timeout is None else checked_timeout(timeout))

    def _fire(self) -> None:
        self._fired = True
        self._event.set()


class Lease(LeaseHandle):
    """A lock or leadership that is held, until it is lost or given back, for good."""

    def __init__(
        self, engine: Engine, wish: Candidature, term: Term, release: Callable[[Lease, float | None], bool]
    ) -> None:
        super().__init__(engine, wish, term)
        self._release = release
        self.lost = Loss(engine)
        """Fires ``stop_within`` before the lease ends, and as soon as it is known to be lost otherwise."""
        if wish.on_lost is not None:
            name = f"{engine.name}-on-lost"
            threading.Thread(target=self._call, args=(wish.on_lost,), name=name, daemon=True).start()

    def _fire(self) -> None:
        self.lost._fire()

    def _call(self, on_lost: Callable[[Any], object]) -> None:
        """Wait for the loss, and tell of it: the thread stands ready, because then there is little time."""
        self.lost.wait()
        if self._silent:
            return
        try:
            on_lost(self)
        except Exception:  # noqa: BLE001 -- it is the user's
            logger.exception("on_lost of %s raised", self._wish.label)

    def wait_lost(self, timeout: float | None = None) -> bool:
        """Wait for that many seconds, without limit by default; return whether it is lost."""
        self._engine.check_process()
        return self.lost.wait(timeout)

    def release(self, timeout: float | None = None) -> bool:
        """Give it back; work under it has ended before. A latch queues again.

        Args:
            timeout: seconds to wait for its znode to be gone; default: as long as the lease would
                have lasted, because then it ends anyhow.

        Returns:
            Whether it is certain to be gone; otherwise it is deleted as soon as there is a link, or
            ends with the session.
        """
        return self._release(self, timeout)


class _Queue(_Kept, QueueHandle[Lease]):
    """What queues, in threads."""

    def _refreshed(self) -> None:
        self._leased()
        super()._refreshed()

    def _new_lease(self, term: Term) -> Lease:
        return Lease(self._engine, self._wish, term, self._give_back)

    def _granted(self) -> Lease:
        if self._lease is None:  # who grants it tells before he answers
            raise CoordinatorError(f"a fault of coordinator itself: {self._label} without a lease")
        return self._lease

    def _give_back(self, lease: Lease, timeout: float | None) -> bool:
        seconds = patience(lease, timeout)
        self._hush()
        self._shut()
        try:
            return self._done(self._questions.unwant(self._token, f"release {self._label}", seconds))
        finally:
            self._forget()

    def _done(self, question: Question[None]) -> bool:
        """Ask for it, and return whether that is certain to be done."""
        try:
            ask(self._engine, question)
        except (OperationTimeoutError, ClosedError):
            return False
        return True


class _Holder(HolderHandle[_Queue]):
    """What queues for one lease at a time, in threads."""

    @property
    def lease(self) -> Lease | None:
        """The lease of this moment; None if there is none, or if it was lost."""
        self._engine.check_process()
        seat = self._seat
        return None if seat is None else seat.lease

    def _take(self, timeout: float | None, *, block: bool = False) -> Lease:
        limit = self._patience(timeout)
        seat = self._sit(lambda: _Queue(self._engine, self._questions, self._wish, once=True), block=block)
        try:
            ask(self._engine, self._questions.acquire(seat._intent, self._wish.label, limit))
            return seat._granted()
        except BaseException:
            seat._abandon()
            self._stand_up(seat)
            raise

    def _give(self, seat: _Queue | None, timeout: float | None) -> bool:
        self._engine.check_process()
        wanted = None if timeout is None else checked_timeout(timeout)
        if seat is None or seat._lease is None:
            return True
        try:
            return seat._give_back(seat._lease, wanted)
        finally:
            self._stand_up(seat)

    def _leave(self, error: BaseException | None, *, tells: bool) -> None:
        """End the block: give back what it held; say that it was lost before, where that is to be said."""
        seat = self._block
        lease = None if seat is None else seat._lease
        if lease is None or self._engine.forked:
            return
        lost = lease._is_lost and lease.reason != "released"
        self._give(seat, None)
        if tells and lost and error is None:
            raise lease._lost_error()


class Lock(_Holder):
    """A lock: at most one holds it, in all processes that use its path.

    As a context manager it is acquired and released; see ``Coordinator.lock``.
    """

    def acquire(self, timeout: float | None = None) -> Lease:
        """Wait until it is ours, and return the lease.

        Args:
            timeout: seconds; default: that of ``lock()``, and without limit if that has none.

        Raises:
            AcquireTimeoutError: others held it; the message says who, and our place in the queue.
            OperationTimeoutError: there was no link.
            AlreadyHeldError: this object holds it, or waits for it.
            NotAQueueError: the path holds something else.
            ZnodeError: the server refused it. After any of these the place in the queue is given up.
        """
        return self._take(timeout)

    def release(self, timeout: float | None = None) -> bool:
        """Give it back, as ``Lease.release``."""
        return self._give(self._seat, timeout)

    def __enter__(self) -> Lease:
        return self._take(None, block=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error, tells=True)


class Candidacy(_Holder):
    """A wish to lead: at most one of those who have it does.

    As a context manager it campaigns and resigns; see ``Coordinator.lead``.
    """

    def campaign(self, timeout: float | None = None) -> Lease:
        """Wait until we lead, and return the lease; arguments and errors as of ``Lock.acquire``."""
        return self._take(timeout)

    def resign(self, timeout: float | None = None) -> bool:
        """Give it back, as ``Lease.release``."""
        return self._give(self._seat, timeout)

    def hold(self, work: Callable[[Lease], R], timeout: float | None = None) -> R:
        """Campaign, call ``work(lease)``, resign; return what it returned.

        It is the work that has to stop when ``lease.lost`` fires.
        """
        if not callable(work):
            raise ConfigurationError(f"hold() takes a callable, got {type(work).__name__}")
        lease = self._take(timeout, block=True)
        try:
            return work(lease)
        finally:
            self._leave(None, tells=False)

    def __enter__(self) -> Lease:
        return self._take(None, block=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error, tells=False)


class Latch(_Queue):
    """A standing wish to lead: queues in the background, and again after each loss."""

    def _give_back(self, lease: Lease, timeout: float | None) -> bool:
        seconds = patience(lease, timeout)
        if lease.reason is None:
            lease._silent = True
        question = self._questions.step_down(self._token, lease.token, f"release {self._label}", seconds)
        return self._done(question)

    def wait(self, timeout: float | None = None) -> Lease:
        """Wait until we lead, and return the lease.

        Raises:
            OperationTimeoutError: we did not in that many seconds.
            ClosedError: it was closed meanwhile.
        """
        return self._wait_until(lambda: self.lease, timeout, f"{self._label} did not lead")

    def changes(self) -> Iterator[Lease | None]:
        """Yield the lease of this moment, None for none, then again each time that changes.

        A slow reader skips what was overtaken. Ends when the latch or the coordinator is closed.
        """
        yield from _changes(self, self._shown)

    def leader(self, timeout: float | None = None) -> Contender | None:
        """Ask ZooKeeper who leads; None: nobody."""
        found = ask(self._engine, self._contenders(timeout, 1))
        return found[0] if found else None

    def members(self, timeout: float | None = None) -> tuple[Contender, ...]:
        """Ask ZooKeeper who stands in the queue, the leader first."""
        return ask(self._engine, self._contenders(timeout, None))

    def close(self, timeout: float | None = None, *, notify: bool = True) -> None:
        """Leave the queue, and the lead, and wait until nothing is left of it on the server.

        Args:
            timeout: seconds.
            notify: call ``on_lost`` if we led.

        Raises:
            OperationTimeoutError: that was not confirmed in time; it is seen to later.
        """
        checked_flags(notify=notify)
        if not notify and not self._engine.forked:
            self._hush()
        super().close(timeout)


class LeaderView(_Kept, LeaderViewHandle):
    """A copy of who leads, kept fresh until it is closed."""

    def changes(self) -> Iterator[Contender | None]:
        """Yield who leads, None for nobody, then again each time that changes.

        A slow reader skips what was overtaken. Ends when the view or the coordinator is closed.
        """
        yield from _changes(self, self._shown)

    def wait(self, timeout: float | None = None) -> Contender:
        """Wait until somebody leads, and return who.

        Raises:
            OperationTimeoutError: nobody did in that many seconds.
        """
        return self._wait_until(lambda: self.leader, timeout, f"{self._label}: nobody leads")
