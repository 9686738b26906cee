"""The beat: proof that a seat stands, and that its session lives.

While somebody of us is first in a queue, or next, ``multi(check(every such seat))`` is sent every sixth
of the session timeout. A quorum has to agree to it, so that neither a server that lost its leader nor a
leader that lost its followers can answer it; and it notices a seat that somebody deleted. How long
its answers may be believed is the lease clock's to say (`core/lease.py`)::

    next in queue  --beat answered--------------------------> proved, and nothing is held
    first in queue --proved, and the clock believes it still-> a term begins (`core/terms.py`)

So who is next holds as soon as he hears that the first has gone; others look and beat first. No beat
for those who stand further behind: a crowd costs the servers nothing while it waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.contention import Contention
from coordinator.core.lease import LeaseClock
from coordinator.core.requests import Check, Multi, Sync, ask
from coordinator.core.runner import Runner, Task
from coordinator.core.terms import Terms
from coordinator.errors import CoordinatorError, NoNodeError, TransactionFailedError

if TYPE_CHECKING:
    from coordinator.core.kernel import Kernel
    from coordinator.core.session import Session
    from coordinator.core.term import Loss

BATCH = 500
"""Seats in one beat: more are sent in several, so that a server is not held up."""


@dataclass(eq=False, slots=True)
class Candidate:
    """One who holds, or would if the one before him went."""

    contention: Contention
    seat: str
    proved: bool = False
    """A quorum has agreed that the seat stands."""

    @property
    def stands(self) -> bool:
        """Whether it is worth a beat: he sits there still, and has not lost what he held."""
        term = self.contention.term
        return self.contention.seat == self.seat and (term is None or term.reason is None)


class Beats:
    """All of one kernel that are first or next in their queues, and their beat.

    Args:
        kernel: whose they are.
        runner: sends the beats.
        tick: the servers' tickTime, seconds; None: unknown.
        granted: is told of each that has a term now.
        ended: is told of each whose term has come to its end.
        vanished: is told of each whose seat was found to be gone.
        refused: is told of each whose seat the server refuses to check, before he has a term.
    """

    def __init__(
        self,
        kernel: Kernel,
        runner: Runner,
        tick: float | None,
        *,
        granted: Callable[[Contention], None],
        ended: Callable[[Contention], None],
        vanished: Callable[[Contention], None],
        refused: Callable[[Contention, CoordinatorError], None],
    ) -> None:
        self.clock = LeaseClock(tick)
        self.terms = Terms(kernel, self.clock, granted=granted, ended=ended)
        self._kernel = kernel
        self._runner = runner
        self._vanished = vanished
        self._refused = refused
        self._candidates: dict[int, Candidate] = {}
        """By their tokens."""
        self._flying = 0
        """Beats whose answer is awaited."""
        self._again = False
        """There is another candidate since they were sent."""
        self._alarm = 0
        """Number of the beat that is awaited; another one has been overtaken."""

    # -- what is heard

    def heard(self, contact: float) -> None:
        """A frame that was sent then has been answered."""
        self.clock.answered(contact, self._kernel.moment.now)

    def linked(self, timeout: float, sent_at: float, *, created: bool) -> None:
        """A link stands, whose handshake was sent then; ``created``: it made the session."""
        self.clock.linked(timeout, sent_at, created=created)
        self.terms.linked()

    def seen(self, contention: Contention) -> None:
        """One has seen his place in the queue."""
        token, seat = contention.token, contention.seat
        if not contention.first and token in self.terms:
            self.terms.lose(contention, "deleted", self._kernel.moment.now)
        if seat is None or not (contention.first or contention.next):
            self._candidates.pop(token, None)
            return
        if contention.term is not None or contention.done:
            return
        one = self._candidates.get(token)
        if one is None or one.seat != seat:
            self._candidates[token] = Candidate(contention, seat)
            self.beat()
            return
        self._grant(one)
        if contention.first and token not in self.terms and not self._flying:
            self.beat()

    def gone(self, path: str) -> None:
        """A znode is gone; whoever of us sat there has lost what he held."""
        for one in list(self._candidates.values()):
            if one.seat == path and one.contention.gone(path):
                self.seen(one.contention)

    def expired(self, session: Session) -> int:
        """The session is gone; return how many leases went with it."""
        lost = self.end_all("expired", session)
        self.clock.renewed()
        return lost

    def end_all(self, reason: Loss, told_of: Session | None = None) -> int:
        """End every term at once; return how many were not lost before."""
        self._candidates.clear()
        return self.terms.end_all(reason, told_of)

    def leave(self, contention: Contention) -> None:
        """He gives it back, or gives up: his seat is about to be deleted, and others may hold it."""
        self._candidates.pop(contention.token, None)
        self.terms.release(contention)

    # -- the beat

    def beat(self) -> None:
        """Send it now, or as soon as the one that is under way is answered."""
        self._again = bool(self._flying)
        if self._flying or not self._runner.ready or self._kernel.session.read_only:
            return
        self._candidates = {token: one for token, one in self._candidates.items() if one.stands}
        standing = list(self._candidates.values())
        self._alarm += 1
        for start in range(0, len(standing), BATCH):
            self._send(standing[start : start + BATCH])

    def _send(self, part: list[Candidate]) -> None:
        sent_at = self._kernel.moment.now
        request = Multi(part[0].seat, tuple(Check(one.seat) for one in part))
        self._flying += 1
        self._runner.start(
            Task(
                ask(request),
                finished=lambda _: self._answered(part, sent_at),
                failed=lambda error: self._failed(part, error),
                dropped=self._dropped,
                waits_for_link=False,
            )
        )

    def _dropped(self) -> None:
        self._flying -= 1

    def _answered(self, part: list[Candidate], sent_at: float) -> None:
        self._flying -= 1
        for one in part:
            one.proved = True
        self.clock.beaten(sent_at, self._kernel.moment.now)
        if not self._flying:
            self._after(sent_at)

    def _after(self, sent_at: float) -> None:
        """Grant what is proved by a beat that was sent then, and see to the next."""
        self._grant_all()
        if self._again:
            self.beat()
        elif self._enough():
            self._beat_at(sent_at + self.clock.interval)
        elif self.clock.provable_at(sent_at) <= sent_at:
            self._confirm(sent_at)
        else:  # what was answered on this link is too young
            self._beat_at(min(sent_at + self.clock.interval, self.clock.provable_at(sent_at)))

    def _enough(self) -> bool:
        """Whether what is proved lets each of them hold, now or when it is his turn."""
        contentions = [one.contention for one in self._candidates.values()]
        held = all(one.token in self.terms or self.terms.believed(one) for one in contentions)
        return held and (self.clock.proved or not contentions)

    def _confirm(self, sent_at: float) -> None:
        """Have the beat that was sent then proved by what passes the leader after it."""
        began = self._kernel.moment.now
        self._flying += 1

        def passed(_: object) -> None:
            self.clock.synced(began)
            self._grant_all()
            answered()

        def answered(_: object = None) -> None:
            self._flying -= 1
            self._beat_at(0.0 if self._again else sent_at + self.clock.interval)

        self._runner.start(
            Task(
                ask(Sync("/")),
                finished=passed,
                failed=answered,
                dropped=self._dropped,
                waits_for_link=False,
            )
        )

    def _grant_all(self) -> None:
        for one in list(self._candidates.values()):
            self._grant(one)

    def _grant(self, one: Candidate) -> None:
        if one.proved and one.contention.first and one.stands:
            self.terms.grant(one.contention, one.seat)

    def _failed(self, part: list[Candidate], error: Exception) -> None:
        self._flying -= 1
        due = self._kernel.moment.now + self.clock.interval
        if isinstance(error, TransactionFailedError) and error.error is not None:
            due = 0.0  # what is proved of the others is told by the next, without that one
            guilty = part[error.index]
            if self._candidates.get(guilty.contention.token) is guilty:
                del self._candidates[guilty.contention.token]
            if guilty.contention.seat == guilty.seat:
                self._fell_out(guilty.contention, error.error)
        if not self._flying:
            self._beat_at(due)

    def _fell_out(self, contention: Contention, error: CoordinatorError) -> None:
        """His seat is gone, or cannot be checked: nothing more is proved of it."""
        if isinstance(error, NoNodeError):
            contention.first, contention.place = False, None
            self.seen(contention)
            self._vanished(contention)
        elif contention.term is not None:
            self.terms.lose(contention, "lapsed")
        else:
            self._refused(contention, error)

    def _beat_at(self, when: float) -> None:
        if when <= self._kernel.moment.now:
            self.beat()
            return
        self._alarm += 1
        number = self._alarm
        self._kernel.alarms.set(when, lambda: self.beat() if self._alarm == number else None)
