"""The intent to stand in a queue until its turn has come, and to hold the seat while it is believed.

::

    absent --list, create--> seated --list: nobody before us--> first --beats.py--> held (term)
      ^                       |   ^                               |                    |
      |   predecessor watched |   | it went                       |  seat gone         | lost, given back
      |                       +---+                               v                    v
      +------ latch: queue again, with a new seat <---- the old seat is deleted <------+

What stands against each way in which a queue goes wrong:

- A seat is named by an id that is drawn anew for each attempt, so that a create whose answer was lost
  is found again, and never taken for another one.
- A seat that was lost, or whose session ended, is deleted before there is another: a session that
  resumes must not find its old place, with the old token, still first. It is never made again.
- Only the predecessor is watched, so that one release wakes one contender; and by who is next or first,
  our own seat. Once the predecessor is gone, the queue is listed again, but by who was next (`gone`).
- A path that holds something else than a queue of this dialect is refused before anything is written;
  single strangers among seats are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from coordinator.core.draft import Draft, draft
from coordinator.core.intent import Intent, Outcome, create_parents
from coordinator.core.requests import (
    OPEN,
    Check,
    Children,
    Create,
    Delete,
    Flow,
    Get,
    Multi,
    Standing,
    Unwatch,
    ask,
)
from coordinator.core.seats import Dialect, Seat, before, foreign, seat_prefix, seats
from coordinator.core.term import Term
from coordinator.errors import (
    AcquireTimeoutError,
    CoordinatorError,
    NoAuthError,
    NoNodeError,
    NotAQueueError,
    TransactionFailedError,
    ZnodeError,
)
from coordinator.events import LeaseFailed
from coordinator.models import ACL, Contender, Stat, hex_id

WAYS: dict[Dialect, str] = {
    "kazoo": 'dialect="kazoo"',
    "curator-lock": 'lock() with dialect="curator"',
    "curator-latch": 'lead() or latch() with dialect="curator"',
}
"""How one queues there."""

NEXT = 2
"""The position of who is first when the first has gone."""
ROUNDS = 16
"""How often one run looks again when others come and go under its hands."""


class Place(NamedTuple):
    """Where it stood when the queue was last looked at."""

    position: int
    """From 1: who is first has the lock."""
    holder: Contender | None
    """Who is first, if that could be read."""


class Contention(Intent):
    """A place in the queue.

    Args:
        token: its number, as for every intent.
        path: of the queue.
        data: what the seat holds: who we are, for others to read.
        attempt: returns an id that no other attempt of anybody has, in the form of the dialect.
        identity: who we are, in events; None: what the data says.
        stop_within: seconds before the end of a lease at which it is lost.
        dialect: whose queue it is.
        once: it is over with the first term; otherwise it queues again after each.
        revoked: a lease is lost as soon as the link is down.
        acl: of the seat.
        parents_acl: of the queue, if it has to be made.
    """

    writes = True
    queues = True

    def __init__(
        self,
        token: int,
        path: str,
        data: bytes,
        attempt: Callable[[], str],
        *,
        identity: str | None = None,
        stop_within: float,
        dialect: Dialect = "kazoo",
        once: bool = True,
        revoked: bool = False,
        acl: tuple[ACL, ...] = OPEN,
        parents_acl: tuple[ACL, ...] = OPEN,
    ) -> None:
        super().__init__(token, path)
        self.data = data
        self.identity = Contender(path, 0, 0, data).identity if identity is None else identity
        self.stop_within = stop_within
        self.dialect: Dialect = dialect
        self.once = once
        self.revoked = revoked
        self.acl = acl
        self.parents_acl = parents_acl
        self.term: Term | None = None
        """What is held; also when it is lost and has not ended yet."""
        self.place: Place | None = None
        """None while it does not stand in the queue, and once it is first."""
        self.seat: str | None = None
        """The path of its znode; None while there is none that we know of."""
        self.czxid = 0
        self.owner = 0
        """The session that made the seat."""
        self.first = False
        """Nobody is before us, as far as our own server knows."""
        self.done = False
        """There was a term, and there shall be no other."""
        self._attempt = attempt
        self._prefix = ""
        """What the name of the present seat begins with; empty: there was no attempt yet."""
        self._spent: set[str] = set()
        """The same of those that were left, and may still stand.

        That one is not in a list says little: a leader that was deposed without its knowledge shows what was
        before, also behind a ``sync``. It is gone once a quorum has agreed to something after such a list.
        """
        self._watched = ""
        self._vouched = False

    # -- what the others ask of it

    def retire(self) -> None:
        """Leave the seat: it is deleted by the next run, before there is another."""
        if self._prefix:
            self._spent.add(self._prefix)
        self._prefix = ""
        self.seat = self.place = self.term = None
        self.czxid = self.owner = 0
        self.first = False

    @property
    def next(self) -> bool:
        """Whether nobody is between us and who is first."""
        return self.place is not None and self.place.position == NEXT

    def gone(self, path: str) -> bool:
        """A znode is gone that may have been watched; return whether that tells the place, without a look.

        Who comes later stands behind us: when we are next and the first has gone, nobody is before us. That
        our own seat had gone before would have been told before, on the same link.
        """
        if path == self.seat:
            self.first, self.place = False, None
            return True
        if self.next and path == self._watched:
            self.first, self.place, self._watched = True, None, ""
            return True
        return False

    @property
    def tidy(self) -> bool:
        """Whether no seat that was left may still stand."""
        return not self._spent

    def expired(self) -> tuple[Draft, ...]:
        """The seat went with its session, or will: it is not ours any more."""
        self.retire()
        self._watched = ""
        return ()

    def settles(self, outcome: Outcome) -> bool:
        """A latch has come to be when it queues; a lock when it is held, which no run tells."""
        return not (self.once or outcome.again or outcome.retry)

    def late(self, label: str, timeout: float) -> CoordinatorError:
        position, holder = (1 if self.first else 0, None) if self.place is None else self.place
        return AcquireTimeoutError(
            f"{label} not acquired in {timeout:g} s: {self.describe()}",
            path=self.path,
            position=position,
            holder=holder.identity if holder is not None else None,
        )

    def failed(self, error: CoordinatorError, next_try_in: float | None) -> Iterator[Draft]:
        if not self.once or next_try_in is None:  # else it is raised; or the seat stays in the way
            yield draft(LeaseFailed, path=self.path, error=str(error), next_try_in=next_try_in)

    # -- its flows

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        try:
            if self.first and (yield from self._mine()):
                return Outcome()
            if self.term is not None or self.done:
                return Outcome()  # what is to come of it is not decided here
            return (yield from self._queue(standing))
        except ZnodeError as error:
            return Outcome(error=error, retry=True)

    def _mine(self) -> Flow[bool]:
        """Watch our own seat, and return whether it is there; learn the token of one that was found."""
        if self.seat is None:
            return False
        try:
            _, stat = yield from ask(Get(self.seat, watch=self.token))
        except NoNodeError:
            if self.term is None:
                self.retire()
            self.first = False
            return False
        self.czxid = stat.czxid
        return True

    def _queue(self, standing: Standing) -> Flow[Outcome]:
        self.place = None  # what goes while we look is seen, not taken for a place of before
        for _ in range(ROUNDS):
            names, stat = yield from self._listed()
            yield from self._clear(names)
            mine = next((name for name in names if self._prefix and name.startswith(self._prefix)), None)
            if mine is None:
                yield from self._sit_down(names, stat, standing)
                continue
            if self.seat is None:  # the answer to its creation was lost
                self._seated(standing, f"{self.path}/{mine}", 0)
            queue = seats(names, self.dialect)
            ahead = before(queue, mine)
            if ahead is None and self.czxid:
                self.first, self.place, self._watched = True, None, ""
                return Outcome(again=True)  # the beats begin, and beside them our own seat is watched
            if ahead is None:
                yield from self._recognise()
            elif (yield from self._wait_for(queue, ahead, mine)):
                return Outcome()
        return Outcome(retry=True)

    def _listed(self) -> Flow[tuple[tuple[str, ...], Stat | None]]:
        try:
            return (yield from ask(Children(self.path)))
        except NoNodeError:
            return (), None

    def _clear(self, names: tuple[str, ...]) -> Flow[None]:
        """Delete the seats that were left; nobody else can have one that is named like them."""
        for prefix in tuple(self._spent):
            for name in names:
                if name.startswith(prefix):
                    yield from _delete(f"{self.path}/{name}")
                    self._spent.discard(prefix)

    def _sit_down(self, names: tuple[str, ...], stat: Stat | None, standing: Standing) -> Flow[None]:
        self.retire()  # if there was a seat, somebody deleted it
        yield from self._unwatch()
        absent = frozenset(self._spent)
        if not self._vouched:
            self._check(names, stat)
        self._prefix = seat_prefix(self.dialect, self._attempt())
        at = f"{self.path}/{self._prefix}"
        seat, made = yield from self._create(
            Create(at, self.data, ephemeral=True, sequential=True, acl=self.acl)
        )
        self._spent -= absent
        self._seated(standing, seat, made.czxid)

    def _create(self, seat: Create) -> Flow[tuple[str, Stat]]:
        """Create the seat, and the queue if it is missing: others may delete that while it is empty."""
        for _ in range(ROUNDS):
            try:
                return (yield from ask(seat))
            except NoNodeError:
                with suppress(NoNodeError):
                    yield from create_parents(seat.path, self.parents_acl)
        return (yield from ask(seat))

    def _seated(self, standing: Standing, seat: str, czxid: int) -> None:
        self.seat, self.czxid, self.owner = seat, czxid, standing.session_id

    def _recognise(self) -> Flow[None]:
        """Learn the token of a seat that was found instead of answered."""
        if self.seat is not None:
            try:
                _, stat = yield from ask(Get(self.seat))
            except NoNodeError:
                return  # the next list tells
            self.czxid = stat.czxid

    def _check(self, names: tuple[str, ...], stat: Stat | None) -> None:
        """Refuse what is not the queue of a lock.

        Raises:
            NotAQueueError: it says what is there.
        """
        queued = seats(names, self.dialect)
        others = foreign(names, self.dialect)
        if others is not None:
            found = f"the queue of another kind of client ({others}); use {WAYS[others]}, or another path"
        elif queued or stat is None:
            found = ""
        elif stat.ephemeral_owner:
            found = "an ephemeral, which cannot have children"
        elif names:
            found = f"{len(names)} children that stand in no queue"
        else:
            found = f"data ({stat.data_length} bytes)" if stat.data_length else ""
        if found:
            raise NotAQueueError(f"{self.path} has {found}: nothing was written", path=self.path)
        self._vouched = True

    def _wait_for(self, queue: list[Seat], ahead: Seat, mine: str) -> Flow[bool]:
        """Watch who is before us; return False if he has gone."""
        path = f"{self.path}/{ahead.name}"
        try:
            holder: Contender | None = yield from read_contender(path, self.token)
        except NoNodeError:
            return False
        self._watched = path
        position = next(place for place, seat in enumerate(queue, 1) if seat.name == mine)
        if position == NEXT and not (yield from self._mine()):
            return False
        if queue[0] != ahead:
            try:
                holder = yield from read_contender(f"{self.path}/{queue[0].name}")
            except (NoNodeError, NoAuthError):
                holder = None  # it is for messages only
        self.place = Place(position, holder)
        return True

    def withdraw(self, standing: Standing) -> Flow[None]:
        """Leave the queue, seats that were left before included."""
        yield from self._unwatch()
        if self.seat is not None and self.owner == standing.session_id:
            yield from _delete(self.seat)  # its watch goes with it
            self._prefix = ""
        self.retire()
        if self._spent:
            names, _ = yield from self._listed()
            yield from self._clear(names)
        if self._spent:
            with suppress(TransactionFailedError):  # a quorum has agreed to that as well
                yield from ask(Multi(self.path, (Check(self.path),)))
            self._spent.clear()

    def _unwatch(self) -> Flow[None]:
        """Free the watch on who was before us."""
        if self._watched:
            yield from ask(Unwatch(self._watched, self.token))
            self._watched = ""

    # -- in words

    def describe(self) -> str:
        """Return how it stands in the queue, for messages."""
        if self.place is None:
            return "first in queue, not proved yet" if self.first else "not in the queue yet"
        position, holder = self.place
        words = f"{_ordinal(position)} in queue"
        if holder is not None:
            who = holder.identity or "somebody"
            words += f", held by {who} (session {hex_id(holder.session_id)})"
        return words


def read_contender(path: str, watch: int | None = None) -> Flow[Contender]:
    """Read who sits there.

    Raises:
        NoNodeError: nobody does.
    """
    data, stat = yield from ask(Get(path, watch=watch))
    return Contender(path, stat.czxid, stat.ephemeral_owner, data)


def _delete(path: str) -> Flow[None]:
    with suppress(NoNodeError):
        yield from ask(Delete(path))


def _ordinal(number: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"} if number % 100 not in (11, 12, 13) else {}
    return {2: "second", 3: "third"}.get(number) or f"{number}{ends.get(number % 10, 'th')}"
