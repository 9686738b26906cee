"""What locks and leadership hand out, as far as nothing of it waits: written once for both faces.

::

    Lock, Candidacy: a HolderHandle, with one place in a queue at a time --+
                                                                           +--> a QueueHandle
    Latch: a place in a queue that is taken again after each loss ---------+       |
                                                       shows one term at a time: a LeaseHandle

What waits stands with the faces: blocking_locks.py and awaiting_locks.py.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from coordinator.contending import Candidature
from coordinator.core.contention import Contention
from coordinator.core.leadership import Leadership
from coordinator.core.seats import Dialect
from coordinator.core.term import Reason, Term
from coordinator.engine.engine import Engine
from coordinator.errors import AlreadyHeldError, LeaseLostError
from coordinator.handles import NOTHING, Handle, TransactionHandle
from coordinator.models import Contender
from coordinator.questions import Question, Questions, checked_timeout

TransactionT = TypeVar("TransactionT", bound=TransactionHandle)
LeaseT = TypeVar("LeaseT", bound="LeaseHandle")
QueueT = TypeVar("QueueT", bound="QueueHandle[Any]")


class LossHandle:
    """Whether a lease is lost."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._fired = False

    def __bool__(self) -> bool:
        return self.is_set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'lost' if self._fired else 'not lost'}>"

    def is_set(self) -> bool:
        """Return whether it is lost."""
        self._engine.check_process()
        return self._fired


class LeaseHandle:
    """A lock or leadership that is held, until it is lost or given back, for good.

    ``held`` and ``remaining`` look at the clock when they are asked, so that they are right in a busy
    process, too; they never ask the network.
    """

    def __init__(self, engine: Engine, wish: Candidature, term: Term) -> None:
        self._engine = engine
        self._wish = wish
        self._term = term
        self._fired = False
        self._silent = False
        """Its end is the wish of its holder, who need not be told."""

    def __repr__(self) -> str:
        if self._engine.forked:
            return f"<{type(self).__name__} {self.path} of process {self._engine.pid}>"
        state = self.reason or ("held" if self.held else "lapsed")
        return f"<{type(self).__name__} {self.path} token={self.token} {state} {self.remaining:.3f} s>"

    @property
    def path(self) -> str:
        """The znode by which it is held."""
        return self._term.seat

    @property
    def token(self) -> int:
        """The fencing token: greater than that of whoever held it before, over the whole ensemble."""
        return self._term.token

    @property
    def identity(self) -> str:
        """As whom it is held."""
        return self._wish.identity

    @property
    def held(self) -> bool:
        """Whether nobody else can hold it now; False from the end of the lease on."""
        self._engine.check_process()
        return self._term.held(self._engine.clock.now())

    @property
    def remaining(self) -> float:
        """Seconds for which it is proved that nobody else can hold it; 0.0 when it is over.

        Each beat makes it more, until it is lost.
        """
        self._engine.check_process()
        return self._term.remaining(self._engine.clock.now())

    @property
    def reason(self) -> Reason | None:
        """Why it is over: as of LeaseLostError; None while it is not."""
        self._engine.check_process()
        return self._term.reason

    @property
    def _is_lost(self) -> bool:
        self._engine.check_process()
        term = self._term
        return term.reason is not None or term.stops_at <= self._engine.clock.now()

    def check(self) -> None:
        """Go on if it may be worked under.

        Raises:
            LeaseLostError: it is lost, or about to end: stop.
        """
        if self._is_lost:
            raise self._lost_error()

    def _lost_error(self) -> LeaseLostError:
        reason = self._term.reason or "lapsed"
        return LeaseLostError(
            f"{self._wish.label} is not held any more ({reason}): its token was {self.token}",
            path=self._wish.path,
            token=self.token,
            reason=reason,
        )

    def guard(self, transaction: TransactionT) -> TransactionT:
        """Bind a transaction to the lease: it is refused once the znode of the lease is gone.

        Raises:
            LeaseLostError: it is lost already.
        """
        self.check()
        transaction.check(self.path)
        return transaction

    @abstractmethod
    def _fire(self) -> None:
        """Wake whoever waits for its loss; called once, in any thread."""


class QueueHandle(Handle, Generic[LeaseT]):
    """A place in a queue, and the lease that comes of it."""

    _intent: Contention

    def __init__(self, engine: Engine, questions: Questions, wish: Candidature, *, once: bool) -> None:
        self._wish = wish
        self._leasing = threading.Lock()
        self._lease: LeaseT | None = None
        self._hushed = False
        self._given_up = False
        self._intent = wish.contention(0, once=once)
        super().__init__(engine, questions)  # from here on the engine looks at it
        self._intent.token = self._token

    @property
    def _label(self) -> str:
        return self._wish.label

    @property
    def _live(self) -> Contention:
        self._engine.check_process()
        return self._intent

    @abstractmethod
    def _new_lease(self, term: Term) -> LeaseT:
        """Return what the face shows of that term."""

    def _leased(self) -> None:
        """Keep the lease in step with the term; called in any thread."""
        if self._engine.forked:
            return
        with self._leasing:
            term, lease = self._intent.term, self._lease
            if term is not None and not self._given_up and (lease is None or lease._term is not term):
                lease = self._lease = self._new_lease(term)
                lease._silent = self._hushed
            fires = lease is not None and not lease._fired
            fires = fires and lease is not None and (self._given_up or lease._term.reason is not None)
            if lease is not None and fires:
                lease._fired = True
        if lease is not None and fires:
            lease._fire()
            if self._intent.once:
                self._engine.forget(self._token)

    def _hush(self) -> None:
        """Have nobody told of the end of its lease, be it held or yet to come."""
        with self._leasing:
            self._hushed = True
            if self._lease is not None and self._lease._term.reason is None:
                self._lease._silent = True

    def _abandon(self) -> None:
        self._hush()
        super()._abandon()

    def _forget(self) -> None:
        super()._forget()
        self._given_up = True  # whoever waits for the end of a lease is told now, or never
        self._leased()

    @property
    def held(self) -> bool:
        """Whether it is held now."""
        return self.lease is not None

    @property
    def lease(self) -> LeaseT | None:
        """The lease of this moment; None if there is none, or if it was lost."""
        self._engine.check_process()
        lease = self._lease
        return lease if lease is not None and not lease._is_lost else None

    @property
    def _used_up(self) -> bool:
        """Whether it was left, or what was held by it has ended."""
        return self._closed or (self._lease is not None and not self._lease.held)

    def _shown(self) -> object:
        """Return what ``changes`` shows of this moment."""
        return self.lease

    def _state(self) -> str:
        lease = self._lease
        if lease is None or not lease.held:
            return self._intent.describe()
        return f"{'lost' if lease._is_lost else 'held'}, token {lease.token}"

    def _contenders(self, timeout: float | None, most: int | None) -> Question[tuple[Contender, ...]]:
        self._engine.check_process()
        self._check_open()
        return self._questions.contenders(self.path, self._wish.dialect, timeout, most)


class HolderHandle(Generic[QueueT]):
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
        self._seat: QueueT | None = None
        """What queues, or holds."""
        self._block: QueueT | None = None
        """The same of the ``with`` block that it is in: that is what the end of the block gives back."""

    def __repr__(self) -> str:
        seat = self._seat
        if self._engine.forked:
            state = f"of process {self._engine.pid}"
        else:
            state = "free" if seat is None or seat._used_up else seat._state()
        return f"<{type(self).__name__} {self._wish.path} {state}>"

    @property
    def path(self) -> str:
        """The znode below which the queue stands."""
        return self._wish.path

    def _patience(self, timeout: float | None) -> float | None:
        """Return for how long is waited, None for ever, if it can be begun at all."""
        self._check_open()
        self._wish.check_session(self._engine.session.timeout)
        return self._timeout if timeout is None else checked_timeout(timeout)

    def _sit(self, make: Callable[[], QueueT], *, block: bool) -> QueueT:
        """Take a place in the queue, or raise AlreadyHeldError."""
        with self._busy:
            taken = self._seat is not None and not self._seat._used_up
            if taken or (block and self._block is not None):
                raise AlreadyHeldError(
                    f"{self._wish.label}: this object holds a lease, or waits for one; release it "
                    "first, or make another object"
                )
            seat = self._seat = make()
            self._block = seat if block else self._block
            return seat

    def _stand_up(self, seat: QueueT) -> None:
        """Have another one take a place, if that was the last to do so."""
        with self._busy:
            self._seat = None if self._seat is seat else self._seat
            self._block = None if self._block is seat else self._block


class LeaderViewHandle(Handle):
    """A copy of who leads, kept fresh until it is closed."""

    _kind = "observe"
    _intent: Leadership

    def __init__(self, engine: Engine, questions: Questions, path: str, dialect: Dialect) -> None:
        super().__init__(engine, questions)
        self._intent = Leadership(self._token, path, dialect)

    @property
    def _live(self) -> Leadership:
        self._engine.check_process()
        return self._intent

    @property
    def leader(self) -> Contender | None:
        """Who is first in the queue; None: nobody is.

        That is who leads as the servers know it; whether he believes it still, only he knows.
        """
        return self._live.leader

    def _shown(self) -> object:
        """Return what ``changes`` shows of this moment."""
        return self.leader if self._live.known else NOTHING

    def _state(self) -> str:
        leader = self.leader
        return "no leader" if leader is None else f"led by {leader.identity or 'somebody'}"


def patience(lease: LeaseHandle, timeout: float | None) -> float:
    """Return for how long a release is waited for: by default until the lease ends anyhow."""
    return lease.remaining if timeout is None else checked_timeout(timeout)
