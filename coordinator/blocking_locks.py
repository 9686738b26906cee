"""Locks and leadership in threads: what waits of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from coordinator.blocking import _changes, _Kept, ask
from coordinator.contending import (
    Candidature,
    LeaderViewHandle,
    LeaseHandle,
    QueueHandle,
    already,
    patience,
)
from coordinator.core.term import Term
from coordinator.engine.engine import Engine
from coordinator.engine.logs import logger
from coordinator.errors import ConfigurationError, CoordinatorError, OperationTimeoutError
from coordinator.models import Contender
from coordinator.questions import Questions, checked_timeout

R = TypeVar("R")


class Loss:
    """Whether a lease is lost: true from then on, and can be waited for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __bool__(self) -> bool:
        return self.is_set()

    def is_set(self) -> bool:
        """Return whether it is lost."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for that many seconds, without limit by default; return whether it is lost."""
        return self._event.wait(None if timeout is None else checked_timeout(timeout))


class Lease(LeaseHandle):
    """A lock or leadership that is held, until it is lost or given back, for good."""

    def __init__(
        self, engine: Engine, wish: Candidature, term: Term, release: Callable[[Lease, float | None], bool]
    ) -> None:
        super().__init__(engine, wish, term)
        self._release = release
        self._ended = Loss()
        self.lost = self._ended
        """Fires ``stop_within`` before the lease ends, and as soon as it is known to be lost otherwise."""
        self._silent = False
        """Its end is the wish of its holder, who need not be told."""
        if wish.on_lost is not None:
            name = f"{engine.name}-on-lost"
            threading.Thread(target=self._call, args=(wish.on_lost,), name=name, daemon=True).start()

    def _fire(self) -> None:
        self._ended._event.set()

    def _call(self, on_lost: Callable[[Any], object]) -> None:
        """Wait for the loss, and tell of it: the thread stands ready, because then there is little time."""
        self._ended.wait()
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
        """Give it back; work under it has ended before.

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
        lease._silent = lease.reason is None
        try:
            self.close(seconds)
        except OperationTimeoutError:
            return False
        return True


class _Holder:
    """What queues for one lease at a time."""

    def __init__(
        self,
        engine: Engine,
        questions: Questions,
        wish: Candidature,
        timeout: float | None,
        check_open: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._questions = questions
        self._wish = wish
        self._timeout = timeout
        self._check_open = check_open
        self._busy = threading.Lock()
        self._seat: _Queue | None = None

    def __repr__(self) -> str:
        seat = self._seat
        return f"<{type(self).__name__} {self._wish.path} {'free' if seat is None else seat._state()}>"

    @property
    def path(self) -> str:
        """The znode below which the queue stands."""
        return self._wish.path

    @property
    def lease(self) -> Lease | None:
        """The lease of this moment; None if there is none, or if it was lost."""
        seat = self._seat
        return None if seat is None else seat.lease

    def _take(self, timeout: float | None) -> Lease:
        self._check_open()
        limit = self._timeout if timeout is None else timeout
        with self._busy:
            if self._seat is not None and not self._over(self._seat):
                raise already(self._wish)
            seat = self._seat = _Queue(self._engine, self._questions, self._wish, once=True)
        try:
            ask(self._engine, self._questions.acquire(seat._intent, self._wish.label, limit))
            return seat._granted()
        except BaseException:
            seat._abandon()
            self._seat = None
            raise

    @staticmethod
    def _over(seat: _Queue) -> bool:
        return seat.closed or (seat._lease is not None and not seat._lease.held)

    def _give(self, timeout: float | None) -> bool:
        seat = self._seat
        if seat is None or seat._lease is None:
            return True
        try:
            return seat._give_back(seat._lease, timeout)
        finally:
            self._seat = None


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
        """
        return self._take(timeout)

    def release(self, timeout: float | None = None) -> bool:
        """Give it back, as ``Lease.release``."""
        return self._give(timeout)

    def __enter__(self) -> Lease:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = None if self._seat is None else self._seat._lease
        lost = lease is not None and lease._is_lost and lease.reason != "released"
        self.release()
        if lost and lease is not None and error is None:
            raise lease._lost_error()


class Candidacy(_Holder):
    """A wish to lead: at most one of those who have it does.

    As a context manager it campaigns and resigns; see ``Coordinator.lead``.
    """

    def campaign(self, timeout: float | None = None) -> Lease:
        """Wait until we lead, and return the lease; arguments and errors as of ``Lock.acquire``."""
        return self._take(timeout)

    def resign(self, timeout: float | None = None) -> bool:
        """Give it back, as ``Lease.release``."""
        return self._give(timeout)

    def hold(self, work: Callable[[Lease], R], timeout: float | None = None) -> R:
        """Campaign, call ``work(lease)``, resign; return what it returned.

        It is the work that has to stop when ``lease.lost`` fires.
        """
        if not callable(work):
            raise ConfigurationError(f"hold() takes a callable, got {type(work).__name__}")
        lease = self.campaign(timeout)
        try:
            return work(lease)
        finally:
            self.resign()

    def __enter__(self) -> Lease:
        return self.campaign()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resign()


class Latch(_Queue):
    """A standing wish to lead: queues in the background, and again after each loss."""

    def _give_back(self, lease: Lease, timeout: float | None) -> bool:
        if self._lease is lease and lease.reason is None and not self._over:
            lease._silent = True
            ask(self._engine, self._questions.step_down(self._token, self._label))
        return True

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
        lease = self.lease
        if lease is not None:
            lease._silent = not notify
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
