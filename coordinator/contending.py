"""Locks and leadership, as far as nothing of them waits: written once for both faces.

A `Lease` shows one term. Who queues is a handle like any other: `Seat` is what a lock and a candidacy
hold while they queue and lead, `Latch` queues again by itself. What waits stands with the faces:
blocking_locks.py and awaiting_locks.py.
"""

from __future__ import annotations

import os
import socket
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, Literal, TypeVar
from uuid import uuid4

from coordinator.core.contention import Contention
from coordinator.core.layout import deletable
from coordinator.core.leadership import Leadership
from coordinator.core.lease import too_short
from coordinator.core.requests import Create
from coordinator.core.seats import Dialect, seat_prefix
from coordinator.core.term import Reason, Term
from coordinator.engine.engine import Engine
from coordinator.errors import AlreadyHeldError, ConfigurationError, LeaseLostError
from coordinator.handles import NOTHING, Handle, TransactionHandle
from coordinator.models import ACL, IDENTITY_LIMIT, Contender
from coordinator.payload import encode
from coordinator.questions import Question, Questions, checked_timeout
from coordinator.security import AccessWord

Family = Literal["kazoo", "curator"]
OnSuspend = Literal["keep", "revoke"]
TransactionT = TypeVar("TransactionT", bound=TransactionHandle)
LeaseT = TypeVar("LeaseT", bound="LeaseHandle")

STOP_PART = 10
"""Part of the session timeout that a holder gets to stop in, unless said otherwise: a tenth."""


@dataclass(frozen=True, slots=True)
class Candidature:
    """What a place in a queue is asked for with, checked."""

    path: str
    kind: str
    """What it is for, in messages: "lock", "lead", "latch"."""
    identity: str
    data: bytes
    dialect: Dialect
    stop_within: float
    revoked: bool
    acl: tuple[ACL, ...]
    parents_acl: tuple[ACL, ...]
    on_lost: Callable[[Any], object] | None

    @property
    def label(self) -> str:
        """What it is and where, for messages."""
        return f"{self.kind} {self.path}"

    def contention(self, token: int, *, once: bool) -> Contention:
        """Return it as an intent."""
        return Contention(
            token,
            self.path,
            self.data,
            _attempt_of(self.dialect),
            stop_within=self.stop_within,
            dialect=self.dialect,
            once=once,
            revoked=self.revoked,
            acl=self.acl,
            parents_acl=self.parents_acl,
        )


def _attempt_of(dialect: Dialect) -> Callable[[], str]:
    return (lambda: uuid4().hex) if dialect == "kazoo" else (lambda: str(uuid4()))


def dialect_of(family: object, kind: str) -> Dialect:
    """Return in whose queue that stands.

    Raises:
        ConfigurationError: there is no such dialect.
    """
    if family == "kazoo":
        return "kazoo"
    if family == "curator":
        return "curator-lock" if kind == "lock" else "curator-latch"
    raise ConfigurationError(f'dialect is "kazoo" or "curator", got {family!r}')


def candidature(
    engine: Engine,
    questions: Questions,
    kind: str,
    path: str,
    *,
    identity: str | None,
    data: object,
    model: Any,
    dialect: object,
    stop_within: float | None,
    on_suspend: object,
    on_lost: Callable[[Any], object] | None,
    acl: AccessWord | Sequence[ACL] | None,
    tick_time: float | None,
) -> Candidature:
    """Return the wish for a place in a queue, checked.

    Raises:
        ConfigurationError: something of it is wrong; nothing was sent.
    """
    deletable(path)
    if on_suspend not in ("keep", "revoke"):
        raise ConfigurationError(f'on_suspend is "keep" or "revoke", got {on_suspend!r}')
    if on_lost is not None and not callable(on_lost):
        raise ConfigurationError(f"on_lost is a callable, got {type(on_lost).__name__}")
    who = f"{socket.gethostname()}:{os.getpid()}" if identity is None else checked_identity(identity)
    made = Candidature(
        path,
        kind,
        who,
        who.encode() if data is None else encode(data, model),
        dialect_of(dialect, kind),
        _stop_within(engine.session.timeout, stop_within, tick_time),
        on_suspend == "revoke",
        questions.acl(acl),
        questions.acl(),
        on_lost,
    )
    name = seat_prefix(made.dialect, _attempt_of(made.dialect)())
    questions.sized(Create(f"{path}/{name}", made.data, ephemeral=True, sequential=True, acl=made.acl))
    return made


def checked_identity(identity: object) -> str:
    """Return the identity if others can read it.

    Raises:
        ConfigurationError: it is empty, too long, or not printable.
    """
    if not isinstance(identity, str) or not identity.strip() or not identity.isprintable():
        raise ConfigurationError(f"identity is a printable text that is not empty, got {identity!r}")
    if len(identity) > IDENTITY_LIMIT:
        raise ConfigurationError(f"identity has {len(identity)} letters, above {IDENTITY_LIMIT}")
    return identity


def _stop_within(timeout: float, given: object, tick_time: float | None) -> float:
    seconds = timeout / STOP_PART if given is None else given
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < inf:
        raise ConfigurationError(f"stop_within is in seconds, 0 or more, got {seconds!r}")
    wrong = too_short(timeout, tick_time, seconds)
    if wrong:
        raise ConfigurationError(wrong)
    return seconds


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
        super().__init__(engine, questions)
        self._intent = wish.contention(self._token, once=once)

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
            if term is not None and (lease is None or lease._term is not term):
                lease = self._lease = self._new_lease(term)
            fires = lease is not None and lease._term.reason is not None and not lease._fired
            if lease is not None and fires:
                lease._fired = True
        if lease is not None and fires:
            lease._fire()
            if self._intent.once:
                self._engine.forget(self._token)

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

    def _shown(self) -> object:
        """Return what ``changes`` shows of this moment."""
        return self.lease

    def _state(self) -> str:
        lease = self.lease
        return self._intent.describe() if lease is None else f"held, token {lease.token}"

    def _contenders(self, timeout: float | None, most: int | None) -> Question[tuple[Contender, ...]]:
        self._check_open()
        return self._questions.contenders(self.path, self._wish.dialect, timeout, most)


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


def already(wish: Candidature) -> AlreadyHeldError:
    """Return the error for who would wait for himself."""
    return AlreadyHeldError(
        f"{wish.label}: this object holds a lease, or waits for one; release it first, or make another object"
    )
