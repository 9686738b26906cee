"""When a place in a queue is held, and until when: beats, terms, and every way in which one ends."""

from __future__ import annotations

import pytest
from candidates import (
    QUEUE,
    Rival,
    acquire,
    believed,
    candidate,
    left,
    live,
    queue,
    step_down,
)
from fake import SERVER, World

from coordinator.core.messages import ClientEnded
from coordinator.core.requests import Check, Children, Create, Delete, Multi, Sync
from coordinator.core.session import Ended, Expired, LinkUp, Tick
from coordinator.errors import NoAuthError
from coordinator.events import LeaseAcquired, LeaseEvent, LeaseLost

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
    """It vanished behind a lost link, while we were first and nothing was proved: the beat is of the new one."""
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
