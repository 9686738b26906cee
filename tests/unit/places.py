"""The places in queues of one member of the simulation, and what must hold for them.

``Places`` knows the books, what the member has asked for and what it was told; not how a place in a queue
works. A lease is what a user has in hand: a ``Term`` that was granted once, whatever became of it since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from network import Books

from coordinator.core.contention import Contention
from coordinator.core.messages import StepDown, Unwant, Want
from coordinator.core.requests import Create, Delete, Multi, Request
from coordinator.core.seats import seats
from coordinator.core.term import Term
from coordinator.errors import OperationTimeoutError
from coordinator.events import (
    BaseEvent,
    LeaseAcquired,
    LeaseEvent,
    LeaseLost,
    RecoveryCompleted,
    RecoveryStarted,
    SessionClosed,
    SessionExpired,
)
from coordinator.models import Phase

if TYPE_CHECKING:
    from member import Member

QUEUE = "/q"
"""Where all of them queue."""
SOON = 1e-6
"""Seconds by which readings of one clock may differ after a calculation."""


def standing(books: Books) -> list[str]:
    """Return the seats that truly stand in the queue, the first of them first."""
    return [f"{QUEUE}/{seat.name}" for seat in seats(books.now.names(QUEUE), "kazoo")]


@dataclass(eq=False)
class Place:
    """One of them, as its user knows it."""

    intent: Contention
    attempts: list[str] = field(default_factory=list)
    """The ids of all its attempts, the present one last."""
    waiter: str | None = None
    """Who waits for it to be held, or to queue."""
    left: bool = False
    """Nobody wants it any more."""

    def owns(self, path: str) -> bool:
        """Whether that is a seat of one of its attempts."""
        return any(path.startswith(f"{QUEUE}/{attempt}") for attempt in self.attempts)


class Places:
    """All of one member."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._books = member.books
        self.all: list[Place] = []
        """Also those that were left, for what they may leave behind."""
        self.leases: list[tuple[Place, Term]] = []
        """Those that are held, or were lost and have not ended."""
        self._open: int | None = None
        """The token of the lease whose end was not told yet."""
        self._waiters: dict[str, Place] = {}
        self._made: dict[str, int] = {}
        """The session in which each seat was created; what its name begins with."""
        self._recovering: set[int] = set()
        """Tokens of those that come last in the present recovery."""

    # -- what its users do

    @property
    def wanted(self) -> list[Place]:
        """Those that are wanted."""
        return [place for place in self.all if not place.left and not place.intent.done]

    def want(self, *, once: bool, timeout: float, **given: Any) -> Place:
        """Queue: for a lock, or with ``once=False`` as a latch."""
        member, token = self._member, self._member.token()
        numbers = count(1)

        def attempt() -> str:
            place.attempts.append(f"{member.name}-{token}-{next(numbers)}-")
            return place.attempts[-1]

        place = Place(Contention(token, QUEUE, member.name.encode(), attempt, once=once, **given))
        self.all.append(place)
        kind = "lock" if once else "latch"
        place.waiter = member.waiter(kind, timeout)
        self._waiters[place.waiter] = place
        member.say(Want(place.intent, place.waiter, member.now + timeout, timeout, place.waiter))
        return place

    def leave(self, place: Place, timeout: float) -> None:
        """Withdraw it, and give back what it holds."""
        place.left = True
        self._recovering.discard(place.intent.token)
        waiter = self._member.waiter("leave", timeout)
        self._waiters[waiter] = place
        now = self._member.now
        self._member.say(Unwant(place.intent.token, waiter, now + timeout, timeout, waiter))
        self._is_given_back(place)

    def step_down(self, place: Place, timeout: float) -> None:
        """Give back what a latch holds."""
        waiter = self._member.waiter("step", timeout)
        token = None if place.intent.term is None else place.intent.term.token
        now = self._member.now
        self._member.say(
            StepDown(place.intent.token, waiter, waiter, token, deadline=now + timeout, timeout=timeout)
        )
        self._is_given_back(place)

    def _is_given_back(self, place: Place) -> None:
        held = [term.token for one, term in self.leases if one is place and term.held(self._member.now)]
        assert not held, f"{held} are held although they were given back"

    # -- what it is told

    def settled(self, waiter: str, error: BaseException | None) -> None:
        """See whether an answer is true."""
        place = self._waiters.pop(waiter, None)
        if place is None:
            return
        intent = place.intent
        if waiter == place.waiter and error is not None:
            place.left = True
            self._recovering.discard(intent.token)
        elif waiter == place.waiter and intent.once:
            assert intent.term is not None, f"{waiter}: said to be held, and is not"
        elif waiter == place.waiter:
            assert intent.seat is not None, f"{waiter}: said to queue, and does not"
        elif error is None and waiter.startswith("leave"):
            session = self._member.kernel.session.session_id
            stand = [path for path, node in self._nodes() if place.owns(path) and node.owner == session]
            assert not stand, f"{waiter}: said to be left, and {stand} stand"
        else:
            assert error is None or isinstance(error, OperationTimeoutError), f"{waiter}: {error!r}"

    def told(self, event: BaseEvent) -> None:
        """See whether an event is true, and comes in order."""
        match event:
            case LeaseAcquired():
                self._acquired(event)
            case LeaseEvent(token=token):
                assert token == self._open, f"{event}: {self._open} was acquired last"
                self._open = None
                self._ended(event)
            case SessionExpired():
                assert self._open is None, f"{event} before the end of {self._open}"
                held = [term.token for _, term in self.leases if term.held(self._member.now)]
                assert not held, f"{event}: {held} are still held"
                self._recovering.clear()
            case SessionClosed():
                assert self._open is None, f"{event} before the end of {self._open}"
            case RecoveryStarted():
                self._recovering = {place.intent.token for place in self.wanted}
            case RecoveryCompleted():
                late = {one.intent.token for one in self.wanted if one.intent.seat is None} & self._recovering
                assert not late or self._member.kernel.session.read_only, f"completed without {late}"
                self._recovering.clear()

    def _acquired(self, event: LeaseAcquired) -> None:
        assert self._open is None, f"{event} before the end of {self._open}"
        place = next((place for place in self.wanted if place.intent.term is not None), None)
        assert place is not None, f"{event}: it is over already"
        term = place.intent.term
        assert term is not None
        assert (term.token, term.reason) == (event.token, None)
        owner = self._books.owners.get((term.seat, term.token))
        assert owner == event.session_id == term.session_id, f"{event}: its seat is of {owner}"
        assert place.owns(term.seat)
        assert event.remaining > place.intent.stop_within
        if term.token not in self._books.ended_outside:
            before = max(self._books.held, default=0)
            assert term.token > before, f"{event}: {before} was held before"
        self._books.held.append(term.token)
        self._open = event.token
        self.leases.append((place, term))

    def _ended(self, event: LeaseEvent) -> None:
        place, term = next(one for one in self.leases if one[1].token == event.token)
        now = self._member.now
        if not isinstance(event, LeaseLost):
            assert not term.held(now), f"{event}: it is held"
            return
        assert event.remaining > term.end - now - SOON
        if event.reason in ("expired", "closed", "deleted"):
            assert not term.held(now), f"{event}: it is held"
        elif event.reason == "suspended":
            assert place.intent.revoked

    # -- what must hold

    def check(self) -> None:
        """See that what is believed is true, and that what is due was done."""
        member = self._member
        self.leases = [one for one in self.leases if one[1].reason is None or one[1].held(member.now)]
        for place, term in self.leases:
            if term.reason is None:
                assert place.intent.term is term, f"{term.token} is neither lost nor held"
                lives = member.kernel.session.phase is Phase.CONNECTED
                assert lives or not place.intent.revoked, f"{term.token} was not revoked"
                stops_at = term.end - place.intent.stop_within
                assert stops_at > member.now, f"the loss of {term.token} was missed"
            if term.held(member.now):
                session = member.kernel.session.session_id
                assert term.session_id == session, f"{term.token} is of another session"
        self.check_truth(member.now)

    def check_truth(self, now: float) -> None:
        """See that whoever believes to hold it is truly first, and nobody else can hold it."""
        held = [
            term for _, term in self.leases if term.held(now) and term.token not in self._books.ended_outside
        ]
        queue = standing(self._books) if held else []
        for term in held:
            assert queue[:1] == [term.seat], f"{self._member.name} holds {term.seat}, in {queue}"

    def holds(self, seat: str) -> bool:
        """Whether it is believed to be held by that seat."""
        return any(term.seat == seat and term.held(self._member.now) for _, term in self.leases)

    def check_quiet(self) -> None:
        """See that nothing is held that somebody ended: all that there is to be heard was heard."""
        for _, term in self.leases:
            node = self._books.now.nodes.get(term.seat)
            gone = node is None or node.czxid != term.token
            assert not (gone and term.held(self._member.now)), f"{term.seat} is gone, and held"

    def check_sent(self, request: Request[Any], *, too_early: bool) -> None:
        """See that a request is what it may send; ``too_early``: others come first in a recovery."""
        for one in request.operations if isinstance(request, Multi) else (request,):
            if not one.path.startswith(QUEUE + "/") or not isinstance(one, Create | Delete):
                continue
            place = next((place for place in self.all if place.owns(one.path)), None)
            assert place is not None, f"{one}: it is nobody's of us"
            session = self._member.kernel.session.session_id
            again = isinstance(one, Create) and self._made.setdefault(one.path, session) != session
            assert not again, f"{one}: it was made in another session before"
            late = too_early and place.intent.token in self._recovering
            assert not (late and isinstance(one, Create)), f"{one}: others come first in a recovery"

    def check_served(self, session_id: int, request: Request[Any]) -> None:
        """See that a seat that the leader is about to create is the only one of its place."""
        if isinstance(request, Create) and request.path.startswith(QUEUE + "/"):
            place = next(place for place in self.all if place.owns(request.path))
            others = [path for path, node in self._nodes() if place.owns(path) and node.owner == session_id]
            assert not others, f"{request}: {others} stand before it"

    def check_rest(self) -> None:
        """See that each place that is wanted has one seat, and nothing else stands.

        Whoever waits watches the one before him: that his own seat was deleted he sees when he has gone.
        """
        member = self._member
        mine = {path for path, node in self._nodes() if node.owner in member.sessions and path != QUEUE}
        seats_of = {place.intent.seat: place.intent for place in self.wanted}
        assert mine <= seats_of.keys(), f"{mine} stand, and {list(seats_of)} are wanted"
        for seat, intent in seats_of.items():
            unseen = intent.czxid in self._books.ended_outside and not intent.first
            assert seat in mine or unseen, f"{seat} does not stand"

    def _nodes(self) -> Iterator[tuple[str, Any]]:
        nodes = self._books.now.nodes
        return ((path, node) for path, node in nodes.items() if path.startswith(QUEUE))
