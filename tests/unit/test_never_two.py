"""Leases on an ensemble in time: whoever believes to hold one is truly first, whatever breaks.

Here sessions end by the leader's clock only, and every client has a clock of its own; hypothesis is the
network between all of them, and what makes servers and processes stand still. A lease that is held while its
seat does not stand first in the books of the majority is a second one that is held as soon as the next in the
queue looks. ``COORDINATOR_SIMULATION`` says how many histories are tried.
"""

from __future__ import annotations

import os
import sys

import pytest
from contender import Contender
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from majority import Majority
from member import TIMEOUT
from places import standing

from coordinator.core.requests import Create, Multi, Sync

HISTORIES = int(os.environ.get("COORDINATOR_SIMULATION", "100"))
pytestmark = pytest.mark.timeout(60 + HISTORIES)

WAITS = 1000.0
"""Seconds for which a lock is waited for: here it is no matter of that."""
STOP = 1.0
"""The time to stop, seconds."""
REST = 4 * TIMEOUT
"""Seconds after which all has come to rest, when nothing is broken any more: a new session may be needed, and
before that the old one has to end."""

WHO = st.integers(0, 2)
RATES = st.sampled_from([0.992, 1.0, 1.008])
SECONDS = st.sampled_from([0.05, 0.3, 1.0, 3.0, 8.0])
SLOW = st.sampled_from([0.004, 0.3, 2.5])
QUORUM = (
    "cut off",
    "cut off",
    "cut off upwards",
    "cut off downwards",
    "slow",
    "depose",
    "depose",
    "heal",
    "heal",
)
LINES = ("slow", "slow up", "slow down", "hold", "hold up", "hold down", "quick", "move", "move")


class NeverTwo(RuleBasedStateMachine):
    """Contenders for one lease."""

    @initialize(
        tick=st.sampled_from([1.0, 2.0]),
        known=st.booleans(),
        rates=st.tuples(RATES, RATES, RATES),
        latches=st.integers(1, 3),
        age=st.sampled_from([0.5, 30.0]),
    )
    def begin(self, tick, known, rates, latches, age):
        self.ensemble = Majority(tick=tick, timeout=TIMEOUT)
        self.contenders = [
            Contender(name, self.ensemble, home, rate=rate, tick=tick if known else None)
            for home, (name, rate) in enumerate(zip(("one", "two", "three"), rates, strict=True))
        ]
        self.ensemble.about_to_commit = self.about_to_commit
        self.run(age)
        for contender in self.contenders[:latches]:
            contender.places.want(once=False, timeout=WAITS, stop_within=STOP)
        self.run(0.05)

    def about_to_commit(self, session, request):
        for contender in self.contenders:
            if session in contender.sessions:
                contender.places.check_served(session, request)

    def run(self, seconds: float) -> None:
        """Let time pass; nobody is ever wrong meanwhile."""
        time = self.ensemble.time
        end = time.now + seconds
        while True:
            who = min(self.contenders, key=lambda one: one.due)
            if min(who.due, time.next) > end:
                break
            if who.due <= time.next:
                time.now = max(time.now, who.due)
                who.wake()
            else:
                time.step()
            for contender in self.contenders:
                contender.places.check_truth(contender.clock)
                self.is_promised(contender)
        time.now = end

    def is_promised(self, contender: Contender) -> None:
        """See that nothing is believed for longer than the leader lets the session live as it is.

        What it hears later may be nothing at all. Without a leader there will be one that begins anew.
        """
        leader = self.ensemble.leader
        for _, term in contender.places.leases:
            until = leader.alive_until.get(term.session_id) if leader is not None else None
            if until is not None:
                believed = contender.truly(term.end)
                assert believed <= until, f"{term.seat} is believed until {believed}, and lives until {until}"

    # -- what users do

    @rule(who=WHO, what=st.sampled_from(["lock", "latch", "latch with revoke", "leave", "step down"]))
    def user(self, who, what):
        contender = self.contenders[who]
        contender.now = contender.clock
        wanted = contender.places.wanted
        held = [place for place in wanted if place.intent.term is not None] or wanted
        if contender.frozen:
            return
        if what == "leave" and wanted:
            contender.places.leave(held[0], WAITS)
        elif what == "step down" and held and not held[0].intent.once:
            contender.places.step_down(held[0], WAITS)
        elif what not in ("leave", "step down") and len(wanted) < 2:
            once, revoked = what == "lock", what.endswith("revoke")
            contender.places.want(once=once, timeout=WAITS, stop_within=STOP, revoked=revoked)

    # -- what happens to them

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.run(seconds)

    @rule(who=WHO, seconds=st.sampled_from([2.0, 8.0, 15.0]))
    def stand_still(self, who, seconds):
        self.contenders[who].freeze(seconds)

    @rule(who=WHO, what=st.sampled_from(LINES), seconds=SLOW)
    def line(self, who, what, seconds):
        contender = self.contenders[who]
        line = contender.line
        if what == "move" and not contender.frozen:
            contender.move((who + 1) % 3)
        elif line is not None:
            ways = {"up": [line.up], "down": [line.down]}.get(what.split()[-1], [line.up, line.down])
            for way in ways:
                if what.startswith("hold"):
                    way.held = True
                elif what.startswith("slow"):
                    way.delay = seconds
                else:
                    way.release()

    @rule(who=WHO, what=st.sampled_from(QUORUM), back=SLOW, to=SLOW)
    def quorum(self, who, what, back, to):
        self.hurt(self.contenders[who], what, back, to)

    @rule(who=WHO, kind=st.sampled_from([Multi, Sync]), what=st.sampled_from(QUORUM), then=SECONDS)
    def ambush(self, who, kind, what, then):
        """As soon as a beat, or what confirms one, has passed the leader."""
        contender = self.contenders[who]
        deed = lambda: self.hurt(contender, what, 2.5, 2.5)  # noqa: E731
        self.ensemble.ambush = (contender.session_id, kind, deed)
        self.run(then)

    def hurt(self, contender: Contender, what: str, back: float, to: float) -> None:
        """Have something happen between the server of that contender and the others."""
        ensemble, peer = self.ensemble, contender.peer
        if what == "heal":
            ensemble.heal()
        elif what == "slow":
            ensemble.slow_down(peer, back=back, to=to)
        elif what == "depose":
            ensemble.depose()
        else:
            ensemble.isolate(peer, up="down" not in what, down="up" not in what)

    # -- in the end

    def teardown(self):
        if sys.exc_info()[0] is not None or not hasattr(self, "contenders"):
            return  # it has failed already, and says of what
        self.ensemble.ambush = None
        self.ensemble.heal()
        for contender in self.contenders:
            if contender.line is not None:
                contender.line.up.release()
                contender.line.down.release()
        self.run(REST)
        queue = standing(self.ensemble.books)
        for contender in self.contenders:
            contender.places.check_rest()
        if any(contender.places.wanted for contender in self.contenders):
            assert any(contender.places.holds(queue[0]) for contender in self.contenders), (
                f"nobody leads: {queue}"
            )
        else:
            assert queue == []


# -- histories in which it is close: chance finds them seldom


def begun(*, latches=0, **given):
    """Return an ensemble whose leader pings at each full second; it is 29.6."""
    story = NeverTwo()
    given = {"tick": 2.0, "known": True, "rates": (1.0, 1.0, 1.0), "age": 29.55, **given}
    story.begin(latches=latches, **given)
    return story


def until(story, when):
    """Let time pass until then."""
    story.run(when - story.ensemble.time.now)


def test_a_clock_may_be_slow():
    """What it takes for ten seconds is more."""
    story = begun(age=0.5, rates=(1.0, 0.992, 1.0))
    story.user(who=1, what="latch")
    until(story, 3.0)
    story.quorum(who=1, what="cut off", back=0.004, to=0.004)
    until(story, 12.0)
    story.teardown()


def test_a_deposed_leader_proves_nothing():
    """It answers reads and syncs for as long as it hears nothing of its successor."""
    story = begun(latches=2)
    until(story, 35.0)
    story.ensemble.depose()
    until(story, 50.0)
    story.teardown()


def test_a_link_to_a_deposed_leader_proves_nothing():
    """It knows the session, and takes it up again on another link."""
    story = begun(latches=1)
    until(story, 35.0)
    story.ensemble.depose()
    until(story, 38.0)
    story.contenders[0].move(0)
    until(story, 38.1)
    assert story.contenders[0].link is not None
    until(story, 50.0)
    story.teardown()


def test_what_the_leader_has_not_asked_for_is_not_believed():
    """Between two of its pings nothing tells it that the session lives."""
    story = begun()
    story.user(who=1, what="latch")
    until(story, 50.0)
    story.user(who=1, what="step down")
    until(story, 70.0)
    story.teardown()


def test_a_ping_that_is_late_proves_nothing_of_what_came_before_it():
    """A beat is answered, and the ping after it, but what that told of the session gets lost."""
    story = begun()
    story.user(who=1, what="latch")  # beats at 31.33, 33.0, 34.66, 36.33
    until(story, 34.75)
    story.quorum(who=1, what="slow", back=0.004, to=2.5)
    until(story, 36.4)
    story.quorum(who=1, what="cut off upwards", back=0.004, to=0.004)
    until(story, 46.0)
    story.teardown()


def test_a_beat_counts_from_when_it_was_sent():
    """What was answered half a tick before its answer came may not have been told to the leader."""
    story = begun(age=28.86)
    story.user(who=1, what="latch")
    until(story, 35.1)  # its client pings at 35.5, and it sends a beat at 35.7
    story.quorum(who=1, what="slow", back=0.004, to=2.5)
    until(story, 38.3)  # the next beat has passed, and no answer to a ping of the leader's
    story.quorum(who=1, what="cut off upwards", back=0.004, to=0.004)
    until(story, 46.0)
    story.teardown()


def test_a_frame_counts_from_when_it_was_sent():
    """A ping of the client that the leader is told of at once is answered later; it is third, and silent."""
    story = begun(latches=1)
    story.user(who=2, what="latch")
    until(story, 29.8)
    story.user(who=1, what="latch")
    until(story, 31.9)  # its client pings at 32.0
    story.line(who=1, what="slow up", seconds=0.99)
    story.line(who=1, what="slow down", seconds=0.3)
    until(story, 33.05)
    story.line(who=1, what="quick up", seconds=0.0)
    until(story, 33.4)
    story.line(who=1, what="quick", seconds=0.0)
    until(story, 34.35)
    story.user(who=2, what="leave")
    until(story, 34.5)
    story.user(who=0, what="leave")
    until(story, 46.0)
    story.teardown()


def test_a_seat_that_a_deposed_leader_does_not_show_is_deleted():
    """Twice it lists none; the seat was made by the others, and stands."""
    story = begun(latches=1)
    until(story, 31.0)
    story.ensemble.depose()
    until(story, 33.0)
    one = story.contenders[1]
    one.move(2)
    until(story, 34.0)
    story.ensemble.ambush = (one.session_id, Create, lambda: one.move(0))  # and the answer is lost
    story.user(who=1, what="latch")
    until(story, 35.0)
    one.move(0)
    until(story, 36.0)
    one.move(2)
    until(story, 46.0)
    story.teardown()


TestNeverTwo = NeverTwo.TestCase
TestNeverTwo.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=30,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
