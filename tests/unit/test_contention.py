"""A place in a queue: taken, waited in, found again, left; wherever the link breaks."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from candidates import QUEUE, Rival, candidate, left, queue
from fake import LOST, FakeZooKeeper, World, run, standing

from coordinator.core.contention import Contention
from coordinator.core.messages import Fired
from coordinator.core.requests import Create, Delete, Get
from coordinator.errors import NoAuthError


@pytest.fixture
def world() -> World:
    """A kernel whose first session stands."""
    world = World()
    world.up()
    return world


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
    world.say(Fired(one.token))  # whatever lets it look
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
