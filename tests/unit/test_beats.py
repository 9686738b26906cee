"""When a place in a queue is held, and until when: beats, terms, and every way in which one ends."""

from __future__ import annotations

import pytest
from candidates import (
    acquire,
    believed,
    candidate,
    left,
    live,
    queue,
    step_down,
)
from fake import World

from coordinator.core.ending import WITHDRAW_WITHIN
from coordinator.core.requests import Check, Create, Delete, Multi
from coordinator.core.session import Ended
from coordinator.events import LeaseEvent, LeaseLost

T = 10.0
STOP = T / 10


@pytest.fixture
def world() -> World:
    """A session that has stood for a while, so that nothing of its beginning counts any more."""
    world = World(timeout=T)
    world.up()
    live(world, 5 * T)
    return world


@pytest.fixture
def fresh() -> World:
    """A session that has just begun."""
    world = World(timeout=T)
    world.up()
    return world


def beats(world: World) -> list[Multi]:
    return [one for one in world.requests(Multi) if all(isinstance(part, Check) for part in one.operations)]


# -- what once went wrong


def test_a_seat_that_was_made_anew_is_proved(fresh):
    """It vanished behind a lost link, while we were first and not proved: the new one is checked."""
    one = candidate(fresh)
    fresh.want(one, "lock")
    while not one.first:
        fresh.reply()
    fresh.cut()
    fresh.others(Delete(one.seat))
    fresh.up()
    live(fresh, T)
    assert one.term is not None
    assert (one.term.seat, believed(fresh, one)) == (queue(fresh)[0], True)


@pytest.mark.parametrize("once", [True, False])
def test_what_is_given_back_while_it_is_lost_is_held_no_more(world, once):
    """Its seat is deleted then, before the lease would have ended: somebody else may hold it."""
    one = acquire(world, once=once)
    term = one.term
    world.cut()
    world.advance(term.stops_at - world.now)
    assert (term.reason, term.held(world.now)) == ("lapsed", True)
    if once:
        world.unwant(one, "release")
    else:
        step_down(world, one)
    assert (term.held(world.now), term.remaining(world.now), term.reason) == (False, 0.0, "lapsed")
    assert world.kinds("lease") == ["lease.acquired", "lease.lost"]


# -- the end of the coordinator


def ends_by_refusal(world: World) -> None:
    world.cut()
    world.auth_failed()


def ends_by_its_owner(world: World) -> None:
    world.say(Ended("stopped"))


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("end", [ends_by_refusal, ends_by_its_owner, World.close])
def test_what_is_held_at_the_end_is_lost_before_the_session_is_closed(world, end, once):
    """Nothing follows session.closed; and it is not held for a moment after."""
    one = acquire(world, once=once)
    term = one.term
    end(world)
    told = [event for event in world.events if isinstance(event, LeaseEvent)]
    assert [event.kind for event in told] == ["lease.acquired", "lease.lost"]
    assert (told[-1].reason, told[-1].remaining) == ("closed", 0.0)
    assert (world.events[-1].kind, term.reason, term.held(world.now)) == ("session.closed", "closed", False)


def test_the_end_asks_nothing_of_the_server_but_to_end_the_session(world):
    """The seat goes with it: it is neither deleted nor left for another one."""
    acquire(world, once=True)
    acquire(world, "latch", path="/q2", once=False)
    sent = len(world.sent)
    world.close()
    assert world.sent[sent:] == []


@pytest.mark.parametrize("once", [True, False])
def test_what_is_held_on_a_shared_session_is_lost_and_its_seat_deleted(once):
    """The session lives on, so that the seat would stand in everybody's way."""
    world = World(timeout=T, shared=True)
    world.up()
    live(world, T)
    one = acquire(world, once=once)
    term = one.term
    live(world, T)
    assert believed(world, one)
    sent = len(world.sent)
    world.close()
    assert not term.held(world.now)
    world.settle()
    assert left(world) == []
    assert not any(isinstance(request, Create) for request in world.sent[sent:])
    assert [(event.kind, event.reason) for event in world.of(LeaseLost)] == [("lease.lost", "closed")]
    assert world.kinds()[-1] == "session.closed"


@pytest.mark.parametrize("once", [True, False])
def test_a_seat_that_is_left_on_a_shared_session_is_told(once):
    """There was no link to delete it over: it is in everybody's way until the session ends."""
    world = World(timeout=T, shared=True)
    world.up()
    live(world, T)
    acquire(world, once=once)
    world.cut()
    world.close()
    world.advance(WITHDRAW_WITHIN)
    assert left(world) == queue(world) != []
    assert world.kinds("lease") == ["lease.acquired", "lease.lost", "lease.failed"]
    assert world.kinds()[-1] == "session.closed"
