"""When a place in a queue is held, and until when: beats, terms, and every way in which one ends."""

from __future__ import annotations

from typing import Any

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
from fake import World

from coordinator.core.contention import Contention
from coordinator.core.ending import WITHDRAW_WITHIN
from coordinator.core.lease import BEATS, DRIFT, GRAIN, half_tick
from coordinator.core.messages import Fired, Replied, Unwant
from coordinator.core.requests import Check, Children, Create, Delete, Get, Multi, Set, Sync
from coordinator.core.session import Beat, Ended, Expired
from coordinator.core.slots import BACKOFF_MAX
from coordinator.core.term import Term
from coordinator.errors import NoAuthError, NoNodeError, TransactionFailedError
from coordinator.events import LeaseAcquired, LeaseEvent, LeaseFailed, LeaseLost, SessionExpired
from coordinator.models import Phase

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


def checked(world: World) -> list[list[str]]:
    """Return the seats of each beat that was sent."""
    return [[part.path for part in one.operations] for one in beats(world)]


def lost(world: World) -> tuple[str, float]:
    """Return why the only lease that was lost was, and with how much left."""
    (event,) = world.of(LeaseLost)
    return event.reason, event.remaining


# -- when it is granted


def test_on_a_new_session_one_beat_is_enough(fresh):
    """The session was made by the handshake a moment ago: its time cannot have begun before."""
    one = acquire(fresh)
    assert len(beats(fresh)) == 1
    assert one.term.remaining(fresh.now) == pytest.approx(T, abs=T * DRIFT + GRAIN + 0.001)


def test_without_a_beat_it_is_not_granted(fresh):
    """That nobody is before us, one server has said, which may have lost its leader."""
    one = candidate(fresh)
    fresh.want(one, "lock", timeout=1e6)
    while not (isinstance(fresh.wire[0][1], Multi) or "lock" in fresh.answers):
        fresh.reply()
    fresh.wire.popleft()  # it has no answer
    fresh.settle()
    live(fresh, T)
    assert (one.first, one.term, fresh.answers) == (True, None, {})


def test_on_an_old_session_a_beat_is_confirmed(world):
    """One proves nothing: what it says has to have been heard of by the leader."""
    one = candidate(world)
    world.want(one, "lock")
    sent = len(world.sent)
    while not beats(world):
        world.reply()
    while isinstance(world.wire[0][1], Multi | Get):
        world.reply()
    assert one.term is None
    assert world.wire[0][1] == Sync("/")
    world.settle()
    assert believed(world, one)
    assert [type(request) for request in world.sent[sent:] if isinstance(request, Multi | Sync)] == [
        Multi,
        Sync,
    ]


@pytest.mark.parametrize("tick", [None, 2.0])
def test_on_a_link_that_was_just_resumed_it_takes_half_a_tick(tick):
    """What was answered on the link before says nothing of this server."""
    world = World(timeout=T, tick=tick)
    world.up()
    live(world, 5 * T)
    world.cut()
    world.advance(1.0)
    world.up()
    one = acquire(world)
    assert one.term is None
    world.advance(half_tick(T, tick))
    assert one.term is None
    world.advance(2 * GRAIN)
    assert believed(world, one)


def test_a_session_of_somebody_elses_is_always_an_old_one():
    """When it began is not known; nor what was proved of the one before."""
    world = World(timeout=T, shared=True)
    world.up()
    one = acquire(world)
    assert one.term is None
    live(world, T)
    assert believed(world, one)
    world.expire()
    world.say(Expired())
    world.up()
    assert acquire(world, "next").term is None


def test_two_that_become_first_at_the_same_time_are_granted_then(fresh):
    """Who comes while a beat is under way is in the next one, and that is sent at once."""
    some = [candidate(fresh, f"/q{number}") for number in range(2)]
    for number, one in enumerate(some):
        fresh.want(one, f"lock {number}")
    fresh.settle()
    assert [believed(fresh, one) for one in some] == [True, True]


def test_who_left_is_not_checked_any_more(world):
    """He was next in a queue while a beat was under way."""
    kept = acquire(world, "kept", path="/kept")
    Rival(world)
    one = acquire(world)
    world.advance(T / BEATS, alive=False)
    assert checked(world)[-1] == [kept.seat, one.seat]
    world.unwant(one)
    world.settle()
    live(world, T / BEATS)
    assert checked(world)[-1] == [kept.seat]


def test_what_is_about_to_be_lost_is_not_granted(world):
    """What is left of the last proof is less than the time to stop."""
    kept = acquire(world, "kept", path="/kept")
    world.cut()
    world.advance(kept.term.stops_at - world.now + STOP / 2)
    world.up()
    one = acquire(world)
    assert one.term is None
    live(world, T)
    assert (believed(world, one), world.kinds("lease")[-1]) == (True, "lease.acquired")


def test_it_is_granted_though_the_link_breaks_meanwhile(world):
    """As soon as the next one proves it."""
    one = candidate(world)
    world.want(one, "lock")
    while not beats(world):
        world.reply()
    world.cut()
    world.advance(1.0)
    world.up()
    live(world, T / 2)
    assert believed(world, one)
    assert world.answers == {"lock": (None, None)}


def test_it_is_granted_after_a_silence_on_an_open_link(fresh):
    """A process that stood still finds its session lapsed, and then its link alive."""
    one = candidate(fresh)
    fresh.want(one, "lock", timeout=1e6)
    while not beats(fresh):
        fresh.reply()
    fresh.now += 2 * T
    fresh.tick()
    assert fresh.kinds("session")[-1] == "session.lapsed"
    fresh.settle()
    fresh.say(Beat(0.0, fresh.now))
    fresh.settle()
    live(fresh, T)
    assert believed(fresh, one)


# -- the next in the queue


def told_of_the_end(world: World, rival: Rival) -> list[Any]:
    """Let the end of that one be told, and nothing else arrive; return what was sent then."""
    sent = len(world.sent)
    world.zookeeper.expire(rival.session)
    world.fire()
    return world.sent[sent:]


def test_the_next_holds_as_soon_as_the_first_has_gone(world):
    """It takes no round trip: that its seat stands, and its session lives, is proved already."""
    rival = Rival(world)
    one = acquire(world)
    live(world, T)
    assert told_of_the_end(world, rival) == [Get(one.seat, watch=one.token)]
    assert believed(world, one)
    assert world.answers == {"lock": (None, None)}
    live(world, T)
    assert (believed(world, one), world.kinds("lease")) == (True, ["lease.acquired"])


def test_the_next_is_proved_as_soon_as_it_is_next(world):
    """As one who is first: by a beat, and a sync after it."""
    rival = Rival(world)
    one = acquire(world)
    assert [type(each) for each in world.sent[-2:]] == [Multi, Sync]
    told_of_the_end(world, rival)
    assert believed(world, one)


def test_who_was_far_behind_looks_first(world):
    """He does not know who went meanwhile, and nothing is proved."""
    rivals = [Rival(world), Rival(world)]
    one = acquire(world)
    rivals[0].leave()
    sent = told_of_the_end(world, rivals[1])
    assert (sent, one.term) == ([Children(QUEUE)], None)
    world.settle()
    assert believed(world, one)


def test_the_next_holds_nothing_when_only_the_one_between_has_gone(world):
    """There were two before him; the first is there."""
    first, second = Rival(world), Rival(world)
    one = acquire(world)
    told_of_the_end(world, second)
    world.settle()
    assert (one.first, one.term, one.next) == (False, None, True)
    told_of_the_end(world, first)
    assert believed(world, one)


def test_the_next_holds_nothing_while_the_first_only_changes(world):
    """Its data, that is: it is there."""
    rival = Rival(world)
    one = acquire(world)
    world.zookeeper.execute(Set(rival.seat, b"changed"), rival.session)
    world.settle()
    assert (one.first, one.term) == (False, None)
    told_of_the_end(world, rival)
    assert believed(world, one)


def test_the_next_holds_nothing_by_a_proof_that_is_too_old(world):
    """Its beats were not answered: it holds when another one is."""
    rival = Rival(world)
    one = acquire(world)
    world.advance(T - STOP, alive=False)
    sent = told_of_the_end(world, rival)
    assert (one.first, one.term) == (True, None)
    assert Get(one.seat, watch=one.token) in sent
    live(world, T)
    assert believed(world, one)


def test_the_next_holds_nothing_before_its_seat_is_proved(world):
    """What was proved of the session is not proved of the seat."""
    kept = acquire(world, "kept", path="/kept")
    rival = Rival(world)
    one = candidate(world)
    world.want(one, "lock")
    while not one.next:
        world.reply()
    assert checked(world)[-1] == [kept.seat, one.seat]
    told_of_the_end(world, rival)
    assert (one.first, one.term) == (True, None)
    world.settle()
    assert believed(world, one)


def test_the_next_whose_seat_was_found_has_its_token(world):
    """The answer to its creation was lost: what it did not tell is read before it may be held."""
    rival = Rival(world)
    one = candidate(world)
    world.want(one, "lock")
    while not isinstance(world.sent[-1], Create):
        world.reply()
    world.cut(applied=1)
    world.up()
    assert one.next
    live(world, T)
    told_of_the_end(world, rival)
    assert one.term is not None
    assert one.term.token == world.stat(one.seat).czxid


def test_the_next_whose_seat_was_deleted_queues_again(world):
    """It is told at once."""
    rival = Rival(world)
    one = acquire(world)
    before = one.seat
    world.zookeeper.execute(Delete(before))
    other = Rival(world)
    world.settle()
    assert queue(world) == [rival.seat, other.seat, one.seat]
    assert one.seat != before


def test_the_next_whose_seat_was_deleted_just_before_holds_nothing(world):
    """Both are gone, in that order, and a third one is first."""
    rival = Rival(world)
    one = acquire(world)
    before = one.seat
    world.zookeeper.execute(Delete(before))
    other = Rival(world)
    told_of_the_end(world, rival)
    assert (one.first, one.term) == (False, None)
    world.settle()
    assert queue(world) == [other.seat, one.seat]
    told_of_the_end(world, other)
    assert believed(world, one)


def test_a_seat_that_is_deleted_while_held_is_lost_as_soon_as_that_is_told(world):
    """It takes no look to know."""
    one = acquire(world)
    term = one.term
    world.zookeeper.execute(Delete(one.seat))
    world.fire()
    assert (lost(world)[0], term.held(world.now)) == ("deleted", False)


def test_the_next_whose_seat_was_deleted_while_it_looked_holds_nothing(world):
    """After a cut; its seat goes before it is watched again: its old place counts no more."""
    rival = Rival(world)
    one = acquire(world)
    world.cut()
    sent = len(world.sent)
    world.up(settle=False)
    while world.wire[0][1] != Get(rival.seat, watch=one.token):
        world.reply()
    world.zookeeper.execute(Delete(one.seat))
    while Get(one.seat, watch=one.token) not in world.sent[sent:]:
        world.reply()
    told_of_the_end(world, rival)
    assert one.term is None
    live(world, T)
    assert believed(world, one)


def test_of_two_of_us_the_first_has_lost_before_the_next_holds(world):
    """Whoever of them is told first: somebody else deleted the seat that both watch."""
    one, two = acquire(world, "one"), acquire(world, "two")
    world.zookeeper.execute(Delete(one.seat))
    world.zookeeper.fired.clear()
    world.say(Fired(two.token, one.seat))
    assert world.kinds("lease") == ["lease.acquired", "lease.lost", "lease.acquired"]
    assert believed(world, two)


def test_the_next_does_not_hold_after_it_has_left(world):
    """Its withdrawal is under way when the first goes."""
    rival = Rival(world)
    one = acquire(world)
    world.unwant(one)
    told_of_the_end(world, rival)
    world.settle()
    assert (one.term, world.kinds("lease"), left(world)) == (None, [], [])


# -- beats


def test_a_beat_every_sixth_of_the_timeout_while_somebody_is_next_or_first(world):
    """And none before, nor after."""
    first, second = Rival(world), Rival(world)
    one = acquire(world)
    live(world, T)
    assert beats(world) == []
    first.leave()  # which we are not told: the one before us is there
    live(world, T)
    assert beats(world) == []
    third = Rival(world)
    second.leave()
    for _ in ("first", "still first"):
        sent = len(beats(world))
        live(world, T + 0.01)
        assert len(beats(world)) - sent == BEATS
        assert checked(world)[-1] == [one.seat]
    third.leave()
    world.unwant(one)
    world.settle()
    sent = len(beats(world))
    live(world, T)
    assert len(beats(world)) == sent


def test_all_that_are_first_share_a_beat(world):
    """One transaction, however many there are."""
    some = [acquire(world, f"lock {number}", path=f"/q{number}") for number in range(5)]
    sent = len(beats(world))
    live(world, T + 0.01)
    assert len(beats(world)) - sent == BEATS
    assert checked(world)[-1] == [one.seat for one in some]
    assert all(believed(world, one) for one in some)


def test_more_than_a_server_should_do_at_once_are_several_beats(world, monkeypatch):
    """And all of them are proved."""
    monkeypatch.setattr("coordinator.core.beats.BATCH", 2)
    some = [acquire(world, f"lock {number}", path=f"/q{number}") for number in range(5)]
    live(world, 2 * T)
    assert [len(seats) for seats in checked(world)[-3:]] == [2, 2, 1]
    assert all(believed(world, one) for one in some)
    world.others(Delete(some[2].seat))
    live(world, 2 * T)
    assert [believed(world, one) for one in some] == [True, True, False, True, True]


def test_one_that_vanished_does_not_cost_the_others_their_beat(world):
    """It is told, and the others are checked without it at once."""
    kept, gone = acquire(world, "kept"), acquire(world, "gone", path="/q2")
    world.advance(T / BEATS, alive=False)  # the beat is on the wire
    assert checked(world)[-1] == [kept.seat, gone.seat]
    world.zookeeper.execute(Delete(gone.seat))
    world.zookeeper.fired.clear()  # the watch is slower
    while len(checked(world)[-1]) > 1:
        world.reply()
    assert (checked(world)[-1], lost(world)) == ([kept.seat], ("deleted", 0.0))
    world.settle()
    assert kept.term.remaining(world.now) > T / 3
    live(world, 2 * T)
    assert believed(world, kept)


def test_no_beat_on_a_session_that_is_read_only(world):
    """It could not be answered; what is held ends by our clock."""
    one = acquire(world)
    term = one.term
    world.cut()
    world.up(read_only=True)
    sent = len(beats(world))
    live(world, T)
    assert (len(beats(world)), term.reason) == (sent, "lapsed")
    world.cut()
    world.up()
    assert left(world) == []


def test_an_answer_counts_from_when_it_was_asked_for(world):
    """However late it comes: the beat as well as what was answered before."""
    world = World(timeout=T, tick=0.1)
    world.up()
    live(world, 5 * T)
    one = acquire(world)
    world.advance(T / BEATS, alive=False)
    asked = world.now
    assert world.wire[0][1] == beats(world)[-1]
    for _ in range(2):
        world.now += 0.5
        world.say(Beat(0.0, world.now))
    world.settle()
    world.advance(asked + T / BEATS - world.now)
    assert len(beats(world)) == 3
    assert one.term.end <= asked + T


def test_a_ping_counts_from_when_it_was_sent(world):
    """It was long on its way."""
    world = World(timeout=T, tick=0.1)
    world.up()
    live(world, 5 * T)
    one = acquire(world)
    world.now += 1.5
    world.say(Beat(1.0, world.now - 1.0))
    pinged = world.now - 1.0
    for _ in range(2):
        world.advance(T / BEATS)
    assert pinged + T - T * DRIFT - GRAIN >= one.term.end > world.now + T / 2


def test_beats_that_are_never_answered_end_it(world):
    """A server that lost its leader answers pings and reads, and takes ours for its own."""
    one = acquire(world)
    ends = one.term.end
    for _ in range(40):
        world.advance(T / 20, alive=False)
        world.wire = type(world.wire)(item for item in world.wire if not item[1].writes)
        world.say(Beat(0.0, world.now))
        world.settle()
        if one.term.reason is not None:
            break
        assert one.term.end < ends + T / BEATS + 1
    assert world.kernel.session.phase is Phase.CONNECTED
    assert lost(world) == ("lapsed", pytest.approx(STOP))


# -- the end


def test_a_lease_that_is_not_proved_is_lost_in_time_and_ends(world):
    """``stop_within`` before its end; then, and not before, its seat is given up."""
    one = acquire(world)
    term = one.term
    world.cut()
    world.advance(term.stops_at - world.now - 1e-6)
    assert (term.reason, term.held(world.now)) == (None, True)
    world.advance(1e-6)
    assert lost(world) == ("lapsed", pytest.approx(STOP))
    assert (term.reason, term.held(world.now)) == ("lapsed", True)
    sent = len(beats(world))
    world.up()
    live(world, STOP - 1e-6)
    assert (term.held(world.now), queue(world), len(beats(world))) == (True, [term.seat], sent)
    live(world, 2e-6)
    assert (term.held(world.now), term.remaining(world.now), queue(world)) == (False, 0.0, [])
    assert world.kinds("lease") == ["lease.acquired", "lease.lost"]


def test_what_is_lost_stays_lost(world):
    """The link is back and beats are answered for others: this one has ended, at the end that it had."""
    one = acquire(world)
    acquire(world, "other", path="/q2", stop_within=0.0)
    term = one.term
    world.cut()
    world.advance(term.stops_at - world.now)
    end = term.end
    world.up()
    live(world, 3 * T)
    assert (term.end, term.reason, term.held(world.now)) == (end, "lapsed", False)


@pytest.mark.parametrize("stop_within", [0.0, 0.5, 3.0])
def test_the_time_to_stop_is_as_asked_for(world, stop_within):
    one = acquire(world, stop_within=stop_within)
    end = one.term.end
    world.cut()
    world.advance(2 * T)
    assert lost(world) == ("lapsed", pytest.approx(stop_within))
    assert one.term.end == end


@pytest.mark.parametrize("once", [True, False])
def test_an_expiry_ends_it_before_it_is_told(world, once):
    """Nobody who hears of the expiry believes in the lease any more."""
    one = acquire(world, once=once)
    term = one.term
    world.expire()
    told = len(world.events)
    world.say(Expired())
    assert [event.kind for event in world.events[told:]] == ["lease.lost", "session.expired"]
    event, expired = world.events[told:]
    assert (event.reason, event.remaining, event.session_id) == ("expired", 0.0, expired.session_id)
    assert (expired.lost_leases, term.held(world.now), term.reason) == (1, False, "expired")


def test_an_expiry_counts_what_was_not_lost_before(world):
    """Each is told once."""
    one = acquire(world, "short", stop_within=3.0)
    acquire(world, "long", path="/q2", stop_within=0.5)
    acquire(world, "released", path="/q3")
    acquire(world, "waiting", path="/q")
    world.say(Unwant(3, "released", 0, 0, None))
    world.cut()
    world.advance(one.term.stops_at - world.now)
    world.zookeeper.expire(world.session_id)
    world.say(Expired())
    (expired,) = world.of(SessionExpired)
    assert expired.lost_leases == 1
    assert world.kinds("lease") == ["lease.acquired"] * 3 + ["lease.released"] + ["lease.lost"] * 2


@pytest.mark.parametrize("once", [True, False])
def test_a_seat_that_is_deleted_ends_it(world, once):
    """Told by the watch, without a beat; a latch queues again."""
    one = acquire(world, once=once)
    term, sent = one.term, len(beats(world))
    world.others(Delete(term.seat))
    world.fire()
    world.reply()  # of the look that the watch asked for
    assert (lost(world), term.held(world.now), len(beats(world))) == (("deleted", 0.0), False, sent)
    world.settle()
    live(world, T)
    assert [event.token > term.token for event in list(world.of(LeaseAcquired))[1:]] == [True][once:]
    assert believed(world, one) is not once


@pytest.mark.parametrize("once", [True, False])
def test_with_revoke_a_lost_link_ends_it_at_once(world, once):
    """It is lost then; it ends when it would have."""
    one = acquire(world, once=once, revoked=True)
    acquire(world, "kept", path="/q2")
    term = one.term
    end = term.end
    world.cut()
    (event,) = world.of(LeaseLost)
    assert (event.path, event.reason, event.remaining) == ("/q", "suspended", pytest.approx(end - world.now))
    assert (term.held(world.now), term.end) == (True, end)
    world.up()
    live(world, T / BEATS)
    assert (queue(world), believed(world, one)) == ([term.seat], True)
    live(world, end - world.now)
    assert term.seat not in queue(world)
    live(world, T)
    assert believed(world, one) is not once


def test_what_is_kept_over_a_lost_link_goes_on(world):
    """The same lease, as if nothing had been."""
    one = acquire(world)
    term = one.term
    world.cut()
    world.advance(0.5)
    assert (term.held(world.now), term.reason) == (True, None)
    world.up()
    live(world, 3 * T)
    assert (one.term, term.held(world.now), world.kinds("lease")) == (term, True, ["lease.acquired"])


@pytest.mark.parametrize("once", [True, False])
def test_a_session_that_lapses_and_resumes_finds_its_old_place_gone(world, once):
    """Or a place that was lost, with a token that was, would be first. Nobody is blocked by it."""
    one = acquire(world, once=once)
    rival, term = Rival(world), one.term
    world.cut()
    world.advance(2 * T)
    assert (queue(world)[0], term.held(world.now)) == (term.seat, False)
    sent = len(world.sent)
    world.up()
    writes = [type(request) for request in world.sent[sent:] if isinstance(request, Create | Delete)]
    assert writes == [Delete, Create][: 2 - once]
    assert queue(world)[0] == rival.seat
    rival.leave()
    live(world, T)
    assert [event.token > term.token for event in list(world.of(LeaseAcquired))[1:]] == [True][once:]


def test_an_alarm_of_a_lease_that_is_over_does_not_end_the_next(world):
    """It was released before its time came."""
    one = acquire(world, once=False)
    stops_at = one.term.stops_at
    step_down(world, one)
    world.settle()
    term = one.term
    assert term is not None
    live(world, stops_at - world.now + 1.0)
    assert (one.term, term.reason) == (term, None)


# -- what went wrong once


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


def test_a_beat_for_a_former_seat_does_not_cost_the_next_one_its_own(fresh):
    """It is refused when the next one is first: servers answer in order, but that is not relied on."""
    one = candidate(fresh)
    fresh.want(one, "lock")
    while not one.first:
        fresh.reply()
    request_id, beat = next(item for item in fresh.wire if isinstance(item[1], Multi))
    fresh.wire.remove((request_id, beat))  # it is slow
    fresh.others(Delete(one.seat))
    fresh.settle()
    assert (one.first, beat.path == one.seat) == (True, False)
    refused = TransactionFailedError("", index=0, error=NoNodeError(path=beat.path))
    fresh.say(Replied(request_id, None, refused, 0, fresh.now))
    fresh.settle()
    live(fresh, T)
    assert believed(fresh, one)


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


# -- what is remembered


def test_nothing_piles_up():
    """Leases that were, and links that were."""
    world = World(timeout=T, tick=0.1)
    world.up()
    one = acquire(world, once=False)
    for number in range(100):
        if number < 50:
            step_down(world, one)
            world.settle()
        live(world, T / BEATS)
        world.cut()
        world.up()
        live(world, T / BEATS)
    assert len(world.kinds("lease")) == 2 * 50 + 1
    live(world, 2 * T)
    assert believed(world, one)
    assert len(world.kernel.alarms._heap) < 5
