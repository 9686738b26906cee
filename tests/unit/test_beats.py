"""When a place in a queue is held, and until when: beats, terms, and every way in which one ends."""

from __future__ import annotations

from typing import Any

import pytest
from candidates import (
    Rival,
    acquire,
    believed,
    candidate,
    left,
    live,
    queue,
    step_down,
)
from fake import World

from coordinator.core.contention import Contention
from coordinator.core.ending import WITHDRAW_WITHIN
from coordinator.core.lease import BEATS, DRIFT, GRAIN, half_tick
from coordinator.core.requests import Check, Create, Delete, Multi
from coordinator.core.session import Ended
from coordinator.core.slots import BACKOFF_MAX
from coordinator.core.term import Term
from coordinator.errors import NoAuthError
from coordinator.events import LeaseEvent, LeaseFailed, LeaseLost

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


# -- a session timeout that changes


def test_a_lease_that_gets_shorter_is_lost_in_time(world):
    """The next server grants less: the time to stop is kept, counted from the new end."""
    one = acquire(world)
    world.cut()
    world.timeout = 0.4 * T
    before = one.term.end
    world.up(settle=False)
    assert one.term.end < before
    world.advance(T, alive=False)
    lost = next(world.of(LeaseLost))
    assert (lost.reason, lost.remaining) == ("lapsed", pytest.approx(STOP))


# -- a seat that cannot be checked


def refuse(world: World, one: Contention) -> None:
    """Have the server refuse to check his seat."""
    world.zookeeper.forbid(Check, one.seat)


def first_and_refused(world: World, **given: Any) -> Contention:
    """Return who is first, and cannot be proved to be."""
    one = candidate(world, "/refused", **given)
    world.want(one, "refused")
    while not one.first:
        world.reply()
    refuse(world, one)
    world.settle()
    return one


def test_a_seat_that_cannot_be_checked_does_not_end_other_leases(world):
    """One of ours was forbidden us: it is lost, with the time to stop, and the others are kept."""
    kept, one = acquire(world, "kept"), acquire(world, "refused", path="/refused")
    refuse(world, one)
    live(world, 5 * T)
    lost = next(world.of(LeaseLost))
    assert (lost.path, lost.reason) == ("/refused", "lapsed")
    assert lost.remaining > STOP
    assert (believed(world, kept), world.zookeeper.names("/refused")) == (True, ())


def test_a_lock_whose_seat_cannot_be_checked_is_refused(world):
    """At once, and nothing of it is left."""
    kept = acquire(world, "kept")
    first_and_refused(world)
    assert isinstance(world.error("refused"), NoAuthError)
    assert world.zookeeper.names("/refused") == ()
    live(world, 2 * T)
    assert believed(world, kept)


def test_a_latch_whose_seat_cannot_be_checked_tries_again_with_backoff(world):
    """Permissions can be mended; until then it is told, and asked ever more seldom."""
    kept = acquire(world, "kept")
    one = first_and_refused(world, once=False)
    asked = len(beats(world))
    live(world, 3 * T)
    told = list(world.of(LeaseFailed))
    assert 5 < len(told) < 12
    # The regular ones; and one for each attempt, after which the others are checked without it.
    assert len(beats(world)) - asked <= 3 * BEATS + 2 * len(told)
    assert believed(world, kept)
    world.zookeeper.permit()
    live(world, BACKOFF_MAX)
    assert believed(world, one)


# -- a link that comes back


@pytest.mark.parametrize("tick", [None, 2.0])
def test_a_lease_that_lives_when_the_link_is_back_is_proved_as_soon_as_may_be(tick):
    """Half a tick after the first answer, and not some beats later: what it lasts may be less than that."""
    world = World(timeout=T, tick=tick)
    world.up()
    live(world, 5 * T)
    one = acquire(world)
    world.cut()
    world.advance(0.1 * T)
    world.up()
    back, before = world.now, one.term.end
    half = half_tick(T, tick)
    world.advance(half + GRAIN)
    assert one.term.end == pytest.approx(back + T, abs=T * DRIFT + GRAIN + 0.001)
    assert one.term.end > before


# -- one run at a time


def test_a_lock_whose_seat_was_deleted_is_withdrawn_once(world):
    """The look that finds it gone ends the lease, and with that the lock."""
    one = acquire(world)
    world.others(Delete(one.seat))
    world.settle()
    assert len(world.requests(Delete)) == 1


# -- what is given back


def test_a_lock_that_steps_down_is_over(world):
    """There is no other time: its seat is deleted."""
    one = acquire(world)
    step_down(world, one, "stepped")
    world.settle()
    assert (queue(world), world.kinds("lease")) == ([], ["lease.acquired", "lease.released"])


def test_a_latch_that_steps_down_goes_behind_the_others(world):
    """It queues again, with another seat and another token."""
    one = acquire(world, once=False)
    rival, token = Rival(world), one.term.token
    step_down(world, one, "stepped")
    world.settle()
    assert (queue(world), world.answers["stepped"]) == ([rival.seat, one.seat], (None, None))
    rival.leave()
    live(world, T)
    assert believed(world, one)
    assert one.term.token > token


def test_who_holds_nothing_keeps_his_place(world):
    """His lease was lost while he gave it back: that says nothing about his next place."""
    one = acquire(world, once=False)
    token = one.term.token
    world.others(Delete(one.seat))
    rivals = [Rival(world), Rival(world)]
    world.settle()
    rivals += [Rival(world)]
    place = queue(world)
    step_down(world, one)
    world.settle()
    assert queue(world) == place
    rivals[0].leave()
    rivals[1].leave()
    live(world, T)
    assert believed(world, one)
    step_down(world, one, lease=token)
    world.settle()
    assert believed(world, one)
    step_down(world, one, lease=one.term.token)
    world.settle()
    assert queue(world)[0] == rivals[2].seat


# -- read by any thread


def test_the_end_of_one_session_is_not_taken_for_that_of_the_next():
    """The reader is interrupted; meanwhile the term ends, and another session begins."""

    class Clock:
        ends, then = 10.0, None

        @property
        def end(self) -> float:
            if self.then is not None:
                deed, self.then = self.then, None
                deed()
            return self.ends

    clock = Clock()
    term = Term("/q/seat", 1, 0x1000, STOP, clock)  # type: ignore[arg-type]

    def meanwhile() -> None:
        term.over("expired", 5.0)
        clock.ends = 100.0

    clock.then = meanwhile
    assert not term.held(50.0)
