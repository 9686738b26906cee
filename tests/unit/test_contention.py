"""A place in a queue: taken, waited in, found again, left; wherever the link breaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from candidates import QUEUE, Rival, acquire, believed, candidate, left, live, queue, step_down
from fake import LOST, FakeZooKeeper, World, run, standing

from coordinator.core.contention import Contention
from coordinator.core.messages import Fired
from coordinator.core.mirror import ChildrenMirror
from coordinator.core.presence import Presence
from coordinator.core.requests import Children, Create, Delete, Get, Multi
from coordinator.core.session import Expired
from coordinator.errors import AcquireTimeoutError, ClosedError, NoAuthError, NotAQueueError
from coordinator.events import LeaseEvent
from coordinator.models import ACL


@pytest.fixture
def world() -> World:
    """A kernel whose first session stands."""
    world = World()
    world.up()
    return world


# -- the seat


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        ("kazoo", r"[0-9a-f]{32}__lock__\d{10}"),
        ("curator-lock", r"_c_[0-9a-f]{32}-lock-\d{10}"),
        ("curator-latch", r"_c_[0-9a-f]{32}-latch-\d{10}"),
    ],
)
def test_a_seat_is_what_its_dialect_calls_one(world, dialect, name):
    """Others stand in the same queue: it is ephemeral, and holds who we are."""
    acl = (ACL("world", "anyone", "rcd"),)
    one = acquire(world, dialect=dialect, data=b"host:1", acl=acl)
    assert re.fullmatch(f"{QUEUE}/{name}", one.seat)
    node = world.zookeeper.nodes[one.seat]
    assert (node.data, node.owner, node.acl) == (b"host:1", world.session_id, acl)
    assert one.term.token == node.czxid


@pytest.mark.parametrize("dialect", ["kazoo", "curator-lock", "curator-latch"])
def test_who_came_before_is_waited_for(world, dialect):
    """Whoever he is, as long as he speaks the dialect."""
    rival = Rival(world, dialect=dialect)
    one = acquire(world, dialect=dialect)
    assert (one.place.position, one.term) == (2, None)
    rival.leave()
    assert world.answers == {"lock": (None, None)}


def test_each_attempt_has_a_name_of_its_own(world):
    """So that what was left of one is never taken for another."""
    names = set()
    for number in range(5):
        one = acquire(world, f"lock {number}")
        names.add(one.seat[: one.seat.index("__lock__")])
        world.unwant(one)
        world.settle()
    assert len(names) == 5


def test_strangers_among_the_seats_are_ignored(world):
    """Somebody's notes are no contender."""
    rival = Rival(world)
    for name in ("notes", "x__rlock__0000000000", "0000000000"):
        world.others(Create(f"{QUEUE}/{name}"))
    one = acquire(world)
    assert one.place.position == 2
    rival.leave()
    assert world.answers == {"lock": (None, None)}


def test_the_order_goes_on_behind_the_last_number(world):
    """After 2147483647 comes -2147483648."""
    world.others(Create(QUEUE))
    world.zookeeper.nodes[QUEUE] = replace(world.zookeeper.nodes[QUEUE], creates=2**31 - 1)
    rival = Rival(world)
    one = acquire(world)
    assert (rival.seat[-11:], one.seat[-11:]) == ("_2147483647", "-2147483648")
    assert one.describe() == "second in queue, held by rival (session 0x1001)"
    last = Rival(world)
    rival.leave()
    assert world.answers == {"lock": (None, None)}
    assert queue(world) == [one.seat, last.seat]


# -- what is no queue


def not_a_queue(world: World, dialect: Any = "kazoo") -> str:
    """Return why it is refused, and see that nothing was written."""
    before = dict(world.zookeeper.nodes)
    acquire(world, dialect=dialect)
    error = world.error("lock")
    assert isinstance(error, NotAQueueError)
    assert world.zookeeper.nodes == before
    return str(error)


def test_a_path_with_data_is_refused(world):
    """It is a file of somebody's."""
    world.others(Create(QUEUE, b"42"))
    assert not_a_queue(world) == "/q has data (2 bytes): nothing was written"


def test_a_path_with_other_children_is_refused(world):
    """It is a directory of somebody's."""
    world.others(Create(QUEUE))
    for name in ("a", "b__lock__17"):
        world.others(Create(f"{QUEUE}/{name}"))
    assert not_a_queue(world) == "/q has 2 children that stand in no queue: nothing was written"


def test_an_ephemeral_is_refused(world):
    """It cannot have children."""
    world.foreign_ephemeral(QUEUE)
    assert "an ephemeral, which cannot have children" in not_a_queue(world)


@pytest.mark.parametrize(
    ("theirs", "ours", "hint"),
    [
        ("curator-lock", "kazoo", "curator"),
        ("curator-latch", "kazoo", "curator"),
        ("kazoo", "curator-lock", "kazoo"),
    ],
)
def test_the_queue_of_another_dialect_is_refused(world, theirs, ours, hint):
    """Each would be first in his own; also where some of ours stand beside."""
    Rival(world, dialect=theirs)
    Rival(world, dialect=ours)
    error = not_a_queue(world, ours)
    assert f"another kind of client ({theirs})" in error
    assert f'dialect="{hint}"' in error


@pytest.mark.parametrize(
    ("theirs", "ours"), [("curator-lock", "curator-latch"), ("curator-latch", "curator-lock")]
)
def test_curators_recipes_do_not_share_a_queue(world, theirs, ours):
    """What is wrong is the recipe, not the dialect."""
    Rival(world, dialect=theirs)
    assert theirs in not_a_queue(world, ours)


def test_a_queue_with_data_is_one(world):
    """Others may keep something there, as long as somebody queues."""
    world.others(Create(QUEUE, b"notes"))
    rival = Rival(world)
    one = acquire(world)
    rival.leave()
    assert one.term is not None


# -- giving up


def test_who_waits_in_vain_is_told_for_whom(world):
    """And nothing of him is left."""
    Rival(world, b"worker-2")
    Rival(world, b"worker-3")
    acquire(world, timeout=5.0)
    world.advance(5.0)
    error = world.error("lock")
    assert isinstance(error, AcquireTimeoutError)
    assert str(error) == ("keep /q not acquired in 5 s: third in queue, held by worker-2 (session 0x1001)")
    assert (error.path, error.position, error.holder) == (QUEUE, 3, "worker-2")
    world.settle()
    assert left(world) == []


def test_who_waits_in_vain_without_a_link_is_told_of_that(world):
    """Who holds it is not known then."""
    Rival(world)
    acquire(world, timeout=5.0)
    world.cut()
    world.advance(5.0, alive=False)
    assert not isinstance(world.error("lock"), AcquireTimeoutError)
    assert "session suspended" in str(world.error("lock"))
    world.up()
    assert left(world) == []


@pytest.mark.parametrize("requests", range(1, 6))
def test_who_gives_up_while_he_queues_leaves_nothing(world, requests):
    """Whatever is on the wire: his turn passes to the next."""
    one = candidate(world)
    world.want(one, "lock")
    for _ in range(requests):
        world.reply()
    rival = Rival(world)
    world.unwant(one, "release")
    world.settle()
    assert (queue(world), world.answers["release"]) == ([rival.seat], (None, None))
    assert isinstance(world.error("lock"), ClosedError)
    assert world.zookeeper.watchers() == {}


# -- after the session


def test_a_seat_is_never_made_again(world):
    """It was a place in a queue: who waited begins at its end, with another attempt."""
    Rival(world)
    one = acquire(world)
    before = one.seat
    others = [Rival(world), Rival(world)]
    world.expire()
    world.say(Expired())
    world.up()
    assert queue(world)[1:] == [*(rival.seat for rival in others), one.seat]
    assert one.seat[:35] != before[:35]


@pytest.mark.parametrize("once", [True, False])
def test_the_seat_of_a_session_that_may_live_is_deleted_before_there_is_another(world, once):
    """Nobody has said that it ended: its seat is in our own way."""
    Rival(world)
    one = acquire(world, once=once)
    before, former = one.seat, world.session_id
    world.cut()
    world.session_id = 0
    sent = len(world.sent)
    world.up()
    assert former in world.zookeeper.sessions
    asked = [one for one in world.sent[sent:] if one.writes]
    assert [type(one) for one in asked] == [Delete, Create, Multi]
    assert asked[0].path == before
    assert one.owner == world.session_id


def test_a_session_that_is_read_only_does_not_queue(world):
    """It could not write; it queues when it can."""
    world.cut()
    world.up(read_only=True)
    one = acquire(world)
    assert QUEUE not in world.zookeeper.nodes
    world.cut()
    world.up()
    live(world, world.timeout)
    assert believed(world, one)


def test_queueing_comes_last_in_a_recovery():
    """Who is elected finds everything else restored."""
    world = World()
    world.up()
    one = candidate(world, once=False)
    world.want(one)
    world.want(Presence(world.token(), "/e", b""))
    world.want(ChildrenMirror(world.token(), "/"))
    world.settle()
    world.expire()
    world.say(Expired())
    before = len(world.sent)
    told = len(world.events)
    world.up()
    live(world, world.timeout)
    asked = world.sent[before:]
    first = next(place for place, request in enumerate(asked) if request.path.startswith(QUEUE))
    assert {"/e"} <= {request.path for request in asked[:first]}
    assert Children("/", watch=3) in asked[:first]
    kinds = [event.kind for event in world.events[told:]]
    assert kinds.index("recovery.started") < kinds.index("recovery.completed") < kinds.index("lease.acquired")
    assert one.seat is not None


def test_a_recovery_is_complete_when_all_queue(world):
    """Though somebody else is first."""
    Rival(world)
    acquire(world, None, once=False)
    world.expire()
    world.say(Expired())
    world.up(settle=False)
    while "recovery.completed" not in world.kinds():
        assert not left(world) or world.wire
        world.reply()
    assert len(left(world)) == 1


# -- a crowd


def test_one_departure_wakes_one(world):
    """Each watches the one before him; nobody the queue."""
    crowd = [candidate(world) for _ in range(50)]
    for number, one in enumerate(crowd):
        world.want(one, f"lock {number}", timeout=1e6)
    world.settle()
    order = sorted(crowd, key=lambda one: queue(world).index(one.seat))
    assert {path: len(who) for path, who in world.zookeeper.watchers().items()} == {
        one.seat: 1 for one in order[:-1]
    }
    for first, second in pairwise(order):
        sent = len(world.sent)
        world.unwant(first)
        world.settle()
        assert believed(world, second)
        asked = [request for request in world.sent[sent:] if isinstance(request, Children | Get)]
        assert len(asked) <= 3, asked


# -- who is before us


def third(world: World) -> tuple[Contention, list[Rival]]:
    """Return who is third in the queue, and those before him."""
    rivals = [Rival(world, name) for name in (b"worker-1", b"worker-2")]
    return candidate(world), rivals


def arrive(world: World, one: Contention, until: Callable[[], bool]) -> None:
    """Let it queue up to the request before which that is true."""
    world.want(one, "lock")
    while not until():
        world.reply()


def test_who_is_first_may_go_while_he_is_looked_at(world):
    """It is the one before us that counts: nothing is looked at again, and nobody is named."""
    one, rivals = third(world)
    arrive(world, one, lambda: bool(world.wire) and world.wire[0][1] == Get(rivals[0].seat))
    world.zookeeper.expire(rivals[0].session)
    sent = len(world.sent)
    world.settle()
    assert (world.sent[sent:], one.describe()) == ([], "third in queue")


def test_who_is_first_need_not_be_readable(world):
    """He is read for a message only."""
    one, rivals = third(world)
    world.zookeeper.forbid(Get, rivals[0].seat)
    world.want(one, "lock")
    world.settle()
    assert (world.answers, one.describe()) == ({}, "third in queue")


def test_who_is_before_us_has_to_be_readable(world):
    """Or his departure cannot be watched: that is said at once, and not waited out."""
    one, rivals = third(world)
    world.zookeeper.forbid(Get, rivals[1].seat)
    world.want(one, "lock")
    world.settle()
    assert isinstance(world.error("lock"), NoAuthError)
    assert left(world) == []


# -- who deletes what we need


def test_a_queue_that_is_deleted_again_and_again_is_made_again(world):
    """A server removes a container that is empty, whoever is about to use it."""
    one = candidate(world)
    world.want(one, "lock")
    for _ in range(3):
        while not isinstance(world.wire[0][1], Create) or not world.wire[0][1].ephemeral:
            world.reply()
        world.others(Delete(QUEUE))
        world.reply()
    world.settle()
    assert (world.answers, queue(world)) == ({"lock": (None, None)}, [one.seat])


def test_a_watch_on_who_was_before_is_freed_with_a_seat_that_was_deleted(world):
    """It would wake whoever sits elsewhere by then, or nobody."""
    one, _ = third(world)
    world.want(one, "lock")
    world.settle()
    world.others(Delete(one.seat))
    Rival(world, b"worker-3")
    world.say(Fired(one.token, None))  # whatever lets it look
    world.settle()
    assert world.zookeeper.watchers().keys() == {queue(world)[2]}
    world.unwant(one, "leave")
    world.settle()
    assert world.zookeeper.watchers() == {}


# -- a server that does not know that it was deposed


class Deposed:
    """A contender whose create was not answered, and a leader that was deposed before it was done.

    Such a leader answers reads and ``sync`` from what it has, and never a write.
    """

    def __init__(self) -> None:
        self.zookeeper = FakeZooKeeper()
        self.session = self.zookeeper.open()
        self.zookeeper.execute(Create(QUEUE))
        self.stale = deepcopy(self.zookeeper)
        self.one: Contention = candidate(World())
        creates = 1  # the number of the request, from 0: the queue is listed before
        done = run(self.reconcile(), self.zookeeper, self.session, lose_at=creates, applied=True)
        assert done is LOST
        assert len(self.seats) == 1

    @property
    def seats(self) -> list[str]:
        return self.zookeeper.owned(self.session)

    def reconcile(self):
        return self.one.reconcile(standing(self.session), after_gap=False)

    def withdraw(self):
        return self.one.withdraw(standing(self.session))

    def asks_the_deposed(self, flow) -> None:
        """Run it there up to the first write, and let the link break."""
        answer = None
        while not (request := flow.send(answer)).writes:
            answer = self.stale.execute(request, self.session)
        flow.close()


def test_a_seat_that_a_deposed_leader_does_not_show_is_not_forgotten():
    """It would stand before our next one as long as the session lives: we would wait for ourselves."""
    case = Deposed()
    case.asks_the_deposed(case.reconcile())
    run(case.reconcile(), case.zookeeper, case.session)
    assert (case.seats, case.one.first) == ([case.one.seat], True)


def test_nothing_is_left_where_a_deposed_leader_shows_nothing():
    """That it is gone is true when a quorum has agreed to something after the look."""
    case = Deposed()
    case.asks_the_deposed(case.withdraw())
    run(case.withdraw(), case.zookeeper, case.session)
    assert case.seats == []


# -- wherever the link breaks


class Breaking(World):
    """A world whose link breaks at one request of those that are answered from some moment on."""

    def __init__(self, how: str, *, applied: bool) -> None:
        super().__init__()
        self.left = -1
        """How many are answered before it breaks; negative: it does not."""
        self._how = how
        self._applied = applied
        self.up()
        live(self, 2 * self.timeout)
        self.ours = {self.session_id}

    def reply(self):
        self.left -= 1
        if self.left != -1:
            return super().reply()
        broken = self.wire[0][1]
        self.cut(applied=int(self._applied))
        if self._how == "expired":
            self.zookeeper.expire(self.session_id)
            self.say(Expired())
        elif self._how == "another":  # the server has not ended the one before yet
            self.session_id = 0
        self.up(settle=False)
        self.ours.add(self.session_id)
        return broken

    def rest(self) -> None:
        """Let everything come to rest, former sessions included."""
        self.left = -1
        for session in self.ours - {self.session_id}:
            self.zookeeper.expire(session)
        live(self, 3 * self.timeout)

    @property
    def seats(self) -> list[str]:
        return sorted(path for session in self.ours for path in self.zookeeper.owned(session))


def lock_free(world: World, one: Contention) -> None:
    world.want(one, "lock", timeout=1000.0)
    world.settle()


def lock_waits(world: World, one: Contention) -> None:
    rivals = [Rival(world) for _ in range(3)]
    world.want(one, "lock", timeout=1000.0)
    world.settle()
    for rival in rivals[1], rivals[2], rivals[0]:
        rival.leave()


def lock_is_given_back(world: World, one: Contention) -> None:
    lock_free(world, one)
    world.unwant(one, "release", timeout=1000.0)
    world.settle()


def waiting_is_given_up(world: World, one: Contention) -> None:
    rival = Rival(world)
    world.want(one, "lock", timeout=1000.0)
    world.settle()
    world.unwant(one, "release", timeout=1000.0)
    world.settle()
    rival.leave()


def wanting_is_given_up_at_once(world: World, one: Contention) -> None:
    world.want(one, "lock", timeout=1000.0)
    world.reply()
    world.unwant(one, "release", timeout=1000.0)
    world.settle()


def seat_is_deleted(world: World, one: Contention) -> None:
    lock_free(world, one)
    for seat in queue(world):
        world.others(Delete(seat))
    world.settle()


def steps_down(world: World, one: Contention) -> None:
    rival = Rival(world)
    world.want(one, "lock", timeout=1000.0)
    world.settle()
    rival.leave()
    step_down(world, one)
    world.settle()


SCENARIOS = [
    lock_free,
    lock_waits,
    lock_is_given_back,
    waiting_is_given_up,
    wanting_is_given_up_at_once,
    seat_is_deleted,
    steps_down,
]


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "lost"])
@pytest.mark.parametrize("how", ["resumed", "expired", "another"])
@pytest.mark.parametrize("once", [True, False], ids=["lock", "latch"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_wherever_the_link_breaks(scenario, once, how, applied):
    """All who wait are answered, one seat is left or none, and no lease is told twice."""
    for answered in range(100):
        world = Breaking(how, applied=applied)
        one = candidate(world, once=once)
        world.left = answered
        scenario(world, one)
        reached = world.left < 0
        world.rest()
        told = list(world.of(LeaseEvent))
        assert [one.kind == "lease.acquired" for one in told] == [not place % 2 for place in range(len(told))]
        tokens = [event.token for event in told if event.kind == "lease.acquired"]
        assert tokens == sorted(set(tokens))
        assert "lock" in world.answers
        wanted = not (one.done or "release" in world.answers)
        assert (world.seats, believed(world, one)) == ([one.seat] if wanted else [], wanted)
        assert world.zookeeper.watchers() == ({one.seat: {world.session_id}} if wanted else {})
        if not reached:
            return
    raise AssertionError("it is never done")
