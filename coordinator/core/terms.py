"""The terms of one kernel: how each begins, and every way in which it ends.

::

    first in queue, proved (`core/beats.py`)-------------------> term: granted
    term --stop_within before its end, no beat answered--------> lost (lapsed)
         --session expired, seat deleted, closed---------------> lost, at once
         --link down, on_suspend="revoke"----------------------> lost (suspended)
    lost --its end, or the holder gave it back-----------------> seat deleted; a latch queues again
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.contention import Contention
from coordinator.core.draft import draft
from coordinator.core.lease import LeaseClock
from coordinator.core.messages import Refresh
from coordinator.core.term import Loss, Reason, Term
from coordinator.events import LeaseAcquired, LeaseLost, LeaseReleased

if TYPE_CHECKING:
    from coordinator.core.kernel import Kernel
    from coordinator.core.session import Session


class Terms:
    """All terms that have not ended, lost ones included.

    Args:
        kernel: whose they are.
        clock: until when the session certainly lives.
        granted: is told of each that has a term now.
        ended: is told of each whose term has come to its end.
    """

    def __init__(
        self,
        kernel: Kernel,
        clock: LeaseClock,
        *,
        granted: Callable[[Contention], None],
        ended: Callable[[Contention], None],
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._granted = granted
        self._ended = ended
        self._holders: dict[int, Contention] = {}
        """By their tokens."""
        self._watches: dict[int, int] = {}
        """Number of the alarm of each that is awaited; another one has been overtaken."""

    def __contains__(self, token: int) -> bool:
        return token in self._holders

    def believed(self, contention: Contention) -> bool:
        """Whether a term of his would not be lost at once, by what is proved now."""
        return self._clock.end - contention.stop_within > self._kernel.moment.now

    def linked(self) -> None:
        """A link stands, with a timeout of its own: a shorter one ends a term earlier."""
        for contention in list(self._holders.values()):
            if contention.term is not None:
                self._watch(contention, contention.term)

    def suspended(self) -> None:
        """The link is down, or silent for too long."""
        for contention in list(self._holders.values()):
            if contention.revoked:
                self.lose(contention, "suspended")

    def end_all(self, reason: Loss, told_of: Session | None = None) -> int:
        """End every term at once; return how many were not lost before."""
        lost = 0
        for contention in list(self._holders.values()):
            lost += contention.term is not None and contention.term.reason is None
            self.lose(contention, reason, self._kernel.moment.now, told_of)
        return lost

    def grant(self, contention: Contention, seat: str) -> None:
        """Begin his term, unless he has one, or what is proved would not let it last."""
        kernel, now = self._kernel, self._kernel.moment.now
        if contention.token in self._holders or not self.believed(contention):
            return
        term = contention.term = Term(
            seat, contention.czxid, contention.owner, contention.stop_within, self._clock
        )
        self._holders[contention.token] = contention
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
        if contention.term is not term or token not in self._holders:
            return
        due = term.stops_at if term.reason is None else term.end
        if due > self._kernel.moment.now:
            number = self._watches[token] = self._watches.get(token, 0) + 1
            self._kernel.alarms.set(
                due, lambda: self._watch(contention, term) if self._watches.get(token) == number else None
            )
        elif term.reason is None:
            self.lose(contention, "lapsed")
        else:
            self._forget(contention)
            self._ended(contention)

    def _forget(self, contention: Contention) -> bool:
        """Watch over his term no more; return whether there was one."""
        self._watches.pop(contention.token, None)
        return self._holders.pop(contention.token, None) is not None

    def lose(
        self,
        contention: Contention,
        reason: Loss,
        latest: float | None = None,
        told_of: Session | None = None,
    ) -> None:
        """His term is lost.

        Args:
            contention: whose it is.
            reason: why.
            latest: when it ends, if that is earlier than it would.
            told_of: the session of which it is told; None: the present one.
        """
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

    def release(self, contention: Contention) -> None:
        """He gives it back: it ends now."""
        term, now = contention.term, self._kernel.moment.now
        if not self._forget(contention) or term is None:
            return
        if term.reason is not None:  # it was lost before, and that was told
            term.over(term.reason, now)
            return
        self._over(contention, term, "released", now)
        self._kernel.tell([draft(LeaseReleased, path=contention.path, token=term.token)])

    def _over(self, contention: Contention, term: Term, reason: Reason, latest: float | None) -> None:
        contention.done = contention.once
        if latest is None:
            term.over(reason)
        else:
            term.over(reason, latest)
        self._kernel.effect(Refresh(contention.token))
