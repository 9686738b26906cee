"""The beat: proof that what is held is held, and the terms that begin and end by it.

While somebody of us is first in a queue, ``multi(check(every such seat))`` is sent every sixth of the
session timeout. A quorum has to agree to it, so that neither a server that lost its leader nor a
leader that lost its followers can answer it; and it notices a seat that somebody deleted. How long
its answers may be believed is the lease clock's to say (`core/lease.py`)::

    first in queue --beat answered, and the clock believes it--> term: granted
    term --stop_within before its end, no beat answered--------> lost (lapsed)
         --session expired, seat deleted, closed---------------> lost, at once
         --link down, on_suspend="revoke"----------------------> lost (suspended)
    lost --its end, or the holder gave it back-----------------> seat deleted; a latch queues again

No beat while nobody is first; the first one is sent as soon as somebody may have become it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.contention import Contention
from coordinator.core.draft import draft
from coordinator.core.lease import LeaseClock
from coordinator.core.messages import Refresh
from coordinator.core.requests import Check, Multi, Sync, ask
from coordinator.core.runner import Runner, Task
from coordinator.core.term import Loss, Reason, Term
from coordinator.errors import CoordinatorError, NoNodeError, TransactionFailedError
from coordinator.events import LeaseAcquired, LeaseLost, LeaseReleased

if TYPE_CHECKING:
    from coordinator.core.kernel import Kernel
    from coordinator.core.session import Session

NEXT = 2
"""The place of who is first when the first has gone."""
BATCH = 500
"""Seats in one beat: more are sent in several, so that a server is not held up."""


class Beats:
    """All of one kernel that are first in their queues, and their beat.

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
        self._kernel = kernel
        self._runner = runner
        self._granted = granted
        self._ended = ended
        self._vanished = vanished
        self._refused = refused
        self._first: dict[int, tuple[Contention, str]] = {}
        """Those who are first, each with the seat in which he is; by their tokens."""
        self._terms: dict[int, Contention] = {}
        """Those whose term has not ended, lost ones included."""
        self._likely: dict[int, Contention] = {}
        """Those whose predecessor has just gone: it takes a look to know, and meanwhile they are checked."""
        self._checked: dict[int, str] = {}
        """The seats in the last beat."""
        self._flying = 0
        """Beats whose answer is awaited."""
        self._again = False
        """Somebody became first while they were."""
        self._alarm = 0
        """Number of the beat that is awaited; another one has been overtaken."""
        self._watches: dict[int, int] = {}
        """The same of the alarm of each term."""

    # -- what is heard

    def heard(self, contact: float) -> None:
        """A frame that was sent then has been answered."""
        self.clock.answered(contact, self._kernel.moment.now)

    def linked(self, timeout: float, sent_at: float, *, created: bool) -> None:
        """A link stands, whose handshake was sent then; ``created``: it made the session."""
        self.clock.linked(timeout, sent_at, created=created)
        for contention in list(self._terms.values()):
            if contention.term is not None:  # a shorter timeout ends it earlier
                self._watch(contention, contention.term)

    def seen(self, contention: Contention) -> None:
        """One has looked after his place in the queue."""
        token, seat = contention.token, contention.seat
        if not contention.first or seat is None:
            self._first.pop(token, None)
            if token in self._terms:
                self._lose(contention, "deleted", self._kernel.moment.now)
        elif contention.term is None and not contention.done and self._first.get(token) != (contention, seat):
            self._first[token] = (contention, seat)  # another seat than before needs another beat
            if not self._flying or self._checked.get(token) != seat:
                self.beat()

    def expect(self, contention: Contention) -> None:
        """What one had watched has changed: the next in the queue is likely to be first."""
        if contention.place is not None and contention.place.position == NEXT:
            self._likely[contention.token] = contention
            self.beat()

    def expired(self, session: Session) -> int:
        """The session is gone; return how many leases went with it."""
        lost = self.end_all("expired", session)
        self.clock.renewed()
        return lost

    def suspended(self) -> None:
        """The link is down, or silent for too long."""
        for contention in list(self._terms.values()):
            if contention.revoked:
                self._lose(contention, "suspended")

    def end_all(self, reason: Loss, told_of: Session | None = None) -> int:
        """End every term at once; return how many were not lost before."""
        lost = 0
        self._first.clear()
        for contention in list(self._terms.values()):
            lost += contention.term is not None and contention.term.reason is None
            self._lose(contention, reason, self._kernel.moment.now, told_of)
        return lost

    def leave(self, contention: Contention) -> None:
        """He gives it back, or gives up: his seat is about to be deleted, and others may hold it."""
        self._first.pop(contention.token, None)
        self._likely.pop(contention.token, None)
        if self._forget(contention):
            self._release(contention)

    # -- the beat

    def beat(self) -> None:
        """Send it now, or as soon as the one that is under way is answered."""
        self._again = bool(self._flying)
        if self._flying or not self._runner.ready or self._kernel.session.read_only:
            return
        likely = {token: (one, one.seat) for token, one in self._likely.items() if one.seat is not None}
        self._likely.clear()
        standing = list({**likely, **self._first}.values())
        self._checked = {one.token: seat for one, seat in standing}
        self._alarm += 1
        for start in range(0, len(standing), BATCH):
            self._send(standing[start : start + BATCH])

    def _send(self, part: list[tuple[Contention, str]]) -> None:
        sent_at = self._kernel.moment.now
        request = Multi(part[0][1], tuple(Check(seat) for _, seat in part))
        self._flying += 1
        self._runner.start(
            Task(
                ask(request),
                finished=lambda _: self._answered(sent_at),
                failed=lambda error: self._failed(part, error),
                dropped=self._dropped,
                waits_for_link=False,
            )
        )

    def _dropped(self) -> None:
        self._flying -= 1
        self._checked = {}

    def _answered(self, sent_at: float) -> None:
        self._flying -= 1
        self.clock.beaten(sent_at, self._kernel.moment.now)
        if not self._flying:
            self._after(sent_at)

    def _after(self, sent_at: float) -> None:
        """Grant what is proved by a beat that was sent then, and see to the next."""
        self._grant_all()
        if self._again:
            self.beat()
        elif self._first.keys() <= self._terms.keys() and (self.clock.proved or not self._first):
            self._beat_at(sent_at + self.clock.interval)
        elif self.clock.provable_at(sent_at) <= sent_at:
            self._confirm(sent_at)
        else:  # what was answered on this link is too young
            self._beat_at(min(sent_at + self.clock.interval, self.clock.provable_at(sent_at)))

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
        for token, seat in self._checked.items():
            contention, first = self._first.get(token, (None, ""))
            if contention is not None and contention.seat == first == seat:
                self._grant(contention, seat)

    def _failed(self, part: list[tuple[Contention, str]], error: Exception) -> None:
        self._flying -= 1
        self._checked = {}
        due = self._kernel.moment.now + self.clock.interval
        if isinstance(error, TransactionFailedError) and error.error is not None:
            due = 0.0  # what is proved of the others is told by the next, without that one
            contention, seat = part[error.index]
            if self._first.get(contention.token) == (contention, seat):
                del self._first[contention.token]
            if contention.seat == seat:
                self._fell_out(contention, error.error)
        if not self._flying:
            self._beat_at(due)

    def _fell_out(self, contention: Contention, error: CoordinatorError) -> None:
        """His seat is gone, or cannot be checked: nothing more is proved of it."""
        if isinstance(error, NoNodeError):
            contention.first = False
            self.seen(contention)
            self._vanished(contention)
        elif contention.term is not None:
            self._lose(contention, "lapsed")
        else:
            self._refused(contention, error)

    def _beat_at(self, when: float) -> None:
        if when <= self._kernel.moment.now:
            self.beat()
            return
        self._alarm += 1
        number = self._alarm
        self._kernel.alarms.set(when, lambda: self.beat() if self._alarm == number else None)

    # -- terms

    def _grant(self, contention: Contention, seat: str) -> None:
        kernel, now = self._kernel, self._kernel.moment.now
        if contention.token in self._terms or self.clock.end - contention.stop_within <= now:
            return
        term = contention.term = Term(
            seat, contention.czxid, contention.owner, contention.stop_within, self.clock
        )
        self._terms[contention.token] = contention
        kernel.tell(
            [
                draft(
                    LeaseAcquired,
                    path=contention.path,
                    token=term.token,
                    identity=contention.identity,
                    remaining=term.remaining(now),
                )
            ]
        )
        self._watch(contention, term)
        self._granted(contention)

    def _watch(self, contention: Contention, term: Term) -> None:
        """See to it that the term is lost in time, and what follows from its end."""
        token = contention.token
        if contention.term is not term or token not in self._terms:
            return
        due = term.stops_at if term.reason is None else term.end
        if due > self._kernel.moment.now:
            number = self._watches[token] = self._watches.get(token, 0) + 1
            self._kernel.alarms.set(
                due, lambda: self._watch(contention, term) if self._watches.get(token) == number else None
            )
        elif term.reason is None:
            self._lose(contention, "lapsed")
        else:
            self._forget(contention)
            self._ended(contention)

    def _forget(self, contention: Contention) -> bool:
        """Watch over his term no more; return whether there was one."""
        self._watches.pop(contention.token, None)
        return self._terms.pop(contention.token, None) is not None

    def _lose(
        self,
        contention: Contention,
        reason: Loss,
        latest: float | None = None,
        told_of: Session | None = None,
    ) -> None:
        term, now = contention.term, self._kernel.moment.now
        if term is None:
            return
        if term.reason is not None:
            if latest is not None:  # there is no time left to stop
                term.over(term.reason, latest)
                self._watch(contention, term)
            return
        self._over(contention, term, reason, latest)
        self._kernel.tell(
            [
                draft(
                    LeaseLost,
                    path=contention.path,
                    token=term.token,
                    reason=reason,
                    remaining=term.remaining(now),
                )
            ],
            told_of,
        )
        self._watch(contention, term)

    def _release(self, contention: Contention) -> None:
        term, now = contention.term, self._kernel.moment.now
        if term is None:
            return
        if term.reason is not None:  # it was lost before, and that was told
            term.over(term.reason, now)
            return
        self._over(contention, term, "released", now)
        self._kernel.tell([draft(LeaseReleased, path=contention.path, token=term.token)])

    def _over(self, contention: Contention, term: Term, reason: Reason, latest: float | None) -> None:
        self._first.pop(contention.token, None)
        contention.done = contention.once
        if latest is None:
            term.over(reason)
        else:
            term.over(reason, latest)
        self._kernel.effect(Refresh(contention.token))
