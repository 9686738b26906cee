"""The arithmetic of leases: never later than the server, whatever the timing."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count, cycle
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.lease import DRIFT, GRAIN, SAMPLES, LeaseClock, beat_interval

T = 12.0
TICK = 2.0


def clock(tick: float | None = TICK) -> LeaseClock:
    made = LeaseClock(tick)
    made.linked(T, 0.0)
    return made


def believed(timeout: float = T) -> float:
    return timeout - timeout * DRIFT - GRAIN


def test_nothing_is_proved_without_beats():
    """Frames alone prove the server that answers them."""
    lease = clock()
    for second in range(20):
        lease.answered(second, second + 0.1)
    assert lease.end == -inf


def test_one_beat_proves_nothing():
    """What it proves has to be heard of by the leader first."""
    lease = clock()
    lease.answered(0.0, 0.1)
    lease.beaten(4.0, 4.1)
    assert lease.end == -inf


def test_two_beats_prove_what_was_before_the_first():
    """The last frame that was answered half a tick before the first of them was sent."""
    lease = clock()
    lease.answered(0.0, 0.1)
    lease.answered(3.5, 3.6)  # later than 4.0 - 1.0
    lease.beaten(4.0, 4.1)
    lease.beaten(6.0, 6.1)
    assert lease.end == pytest.approx(0.0 + believed())


def test_never_later_than_the_ping_before_the_first_beat():
    """The leader counts from its ping, however young the frame that it heard of."""
    lease = clock()
    lease.answered(2.99, 2.995)
    lease.beaten(4.0, 4.1)
    lease.beaten(6.0, 6.1)
    assert lease.end == pytest.approx(2.99 + believed())
    lease = clock(tick=4.0)
    lease.answered(1.9, 1.95)
    lease.beaten(4.0, 4.1)
    lease.beaten(6.0, 6.1)
    assert lease.end == pytest.approx(1.9 + believed())


def test_beats_that_were_under_way_together_do_not_prove_each_other():
    """B says that the leader had heard what left before B was sent."""
    lease = clock()
    lease.answered(0.0, 0.1)
    lease.beaten(4.0, 6.5)
    lease.beaten(6.0, 6.6)
    assert lease.end == -inf
    lease.beaten(8.0, 8.1)
    assert lease.end == pytest.approx(min(6.0 - TICK / 2, 0.0) + believed())


def test_a_beat_sent_as_the_last_one_is_answered_proves_that_one():
    """Whoever is waiting for a lease sends the second one upon the answer to the first, on the same look at
    the clock."""
    lease = clock()
    lease.answered(0.0, 0.1)
    lease.beaten(4.0, 4.1)
    lease.beaten(4.1, 4.2)
    assert lease.end == pytest.approx(believed())


def test_in_good_order_a_lease_is_two_thirds_of_the_timeout():
    """After each beat; half of it when the next one comes."""
    lease, interval = clock(), beat_interval(T)
    for number in range(10):
        lease.beaten(number * interval, number * interval + 0.01)
    assert lease.end - 9 * interval == pytest.approx(T * 2 / 3, abs=T * DRIFT + GRAIN)


def test_an_unknown_tick_is_half_of_the_timeout():
    """The least timeout that a server grants by default is two ticks."""
    lease, interval = clock(None), beat_interval(T)
    for number in range(10):
        lease.beaten(number * interval, number * interval + 0.01)
    assert lease.end - 9 * interval == pytest.approx(T / 2, abs=T * DRIFT + GRAIN)


def test_the_end_never_goes_back():
    """What was proved once stays proved, whatever is slow later."""
    lease, ends = clock(), []
    for sent, at in [(0, 0.1), (2, 2.1), (4, 4.1), (6, 11.0), (11.5, 11.6), (12, 12.1)]:
        lease.beaten(sent, at)
        ends.append(lease.end)
    assert ends == sorted(ends)


def test_another_link_proves_nothing_by_what_the_last_one_answered():
    """Its server may have been another one; the end that was proved stands."""
    lease = clock()
    lease.answered(0.0, 0.1)
    lease.beaten(4.0, 4.1)
    lease.beaten(6.0, 6.1)
    proved = lease.end
    lease.linked(T, 6.5)
    lease.beaten(7.0, 7.1)
    lease.beaten(9.0, 9.1)
    assert lease.end == proved
    lease.beaten(11.0, 11.1)
    assert lease.end == pytest.approx(7.0 + believed())


def test_a_shorter_timeout_counts_at_once():
    """The server may expire the session by it from the handshake on."""
    lease = clock()
    for number in range(10):
        lease.beaten(number * 2.0, number * 2.0 + 0.1)
    lease.linked(2.0, 18.5)
    assert lease.end == pytest.approx(18.5 + believed(2.0))


def test_another_session_has_nothing():
    lease = clock()
    for number in range(10):
        lease.beaten(number * 2.0, number * 2.0 + 0.1)
    lease.renewed()
    assert lease.end == -inf


def test_what_is_remembered_is_bounded():
    """Locks that are taken and given back a hundred times a second send as many beats."""
    lease = clock()
    for number in range(5000):
        lease.beaten(number / 100, number / 100 + 0.001)
    assert len(lease._frames) <= 2 * SAMPLES + 2
    assert len(lease._beats) < 3
    assert lease.end == pytest.approx(50.0 - TICK / 2 + believed(), abs=2 * T / SAMPLES)


class Cluster:
    """A client, its follower, and the leader; all ways are ordered, and as slow as told.

    The leader pings the follower every half tick. The follower's reply says whether it has heard of the
    session since its last one, and the leader counts the timeout from when that reply comes in. A beat goes
    on to the leader, and its answer comes back the same ways. Source: Leader.lead, LearnerHandler.run (PING),
    Follower.processPacket, LearnerSessionTracker.snapshot of ZooKeeper 3.9.
    """

    def __init__(self, tick: float, phase: float, delays: list[float]) -> None:
        self.lease = LeaseClock(tick)
        self.lease.linked(T, 0.0)
        self.counts_from = 0.0
        self._delays = cycle(delays)
        self._ways: dict[str, float] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._touched = False
        self._half = tick / 2
        self._at(phase * self._half, self._ping)

    def _at(self, time: float, deed: Callable[..., None], *details: Any) -> None:
        heappush(self._events, (time, next(self._order), deed, details))

    def _send(self, way: str, now: float, deed: Callable[..., None], *details: Any) -> None:
        arrives = self._ways[way] = max(self._ways.get(way, 0.0), now + next(self._delays))
        self._at(arrives, deed, *details)

    def client_sends(self, at: float, *, beat: bool) -> None:
        self._at(at, lambda now: self._send("up", now, self._follower_hears, now, beat))

    def run(self) -> None:
        """Let it all happen, until the leader expires the session; the lease must never outlive that."""
        last = max(time for time, _, deed, _ in self._events if deed != self._ping) + 3 * T
        while self._events:
            now, _, deed, details = heappop(self._events)
            if now > min(last, self.counts_from + T):
                return
            deed(now, *details)
            assert self.lease.end <= self.counts_from + T

    def _ping(self, now: float) -> None:
        self._send("to follower", now, self._follower_is_pinged)
        self._at(now + self._half, self._ping)

    def _follower_is_pinged(self, now: float) -> None:
        touched, self._touched = self._touched, False
        self._send("to leader", now, self._leader_is_told, touched)

    def _leader_is_told(self, now: float, touched: bool) -> None:
        if touched:
            self.counts_from = now

    def _follower_hears(self, now: float, sent: float, beat: bool) -> None:
        self._touched = True
        if beat:
            self._send("to leader", now, self._leader_commits, sent)
        else:
            self._send("down", now, self._client_hears, sent, False)

    def _leader_commits(self, now: float, sent: float) -> None:
        self._send("to follower", now, self._follower_answers, sent)

    def _follower_answers(self, now: float, sent: float) -> None:
        self._send("down", now, self._client_hears, sent, True)

    def _client_hears(self, now: float, sent: float, beat: bool) -> None:
        (self.lease.beaten if beat else self.lease.answered)(sent, now)


QUICK, SLOW = st.sampled_from([0.05, 0.1, 0.3]), st.floats(1.0, 8.0)
"""Seconds between two frames of a client that is busy, and of one that stood still."""
SHORT, LONG = st.sampled_from([0.001, 0.005, 0.02]), st.floats(0.02, 6.0)
"""Seconds for one way between two machines, as a rule and at times."""


@settings(max_examples=600, deadline=None)
@given(
    tick=st.floats(0.1, T / 2),
    phase=st.floats(0.0, 1.0),
    sends=st.lists(st.tuples(st.one_of(QUICK, QUICK, SLOW), st.booleans()), min_size=5, max_size=40),
    delays=st.lists(st.one_of(SHORT, SHORT, SHORT, LONG), min_size=7, max_size=60),
)
def test_no_leader_expires_a_session_before_its_end(
    tick: float, phase: float, sends: list[tuple[float, bool]], delays: list[float]
) -> None:
    """Whatever the timing of frames, beats and pings."""
    cluster = Cluster(tick, phase, delays)
    now = 0.0
    for gap, beat in sends:
        now += gap
        cluster.client_sends(now, beat=beat)
    cluster.run()
