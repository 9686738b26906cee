"""The counts: over the life, and over the last hour."""

from __future__ import annotations

import pytest
from fake import AT

from coordinator.core.tally import Tally
from coordinator.events import (
    ConnectionFailed,
    ConnectionOpened,
    Heartbeat,
    SessionEstablished,
    SessionExpired,
    ZnodeDeleted,
)

COMMON = {"seq": 1, "at": AT, "epoch": 1, "session_id": 7}
OPENED = ConnectionOpened(**COMMON, server="zk1:2181")
FAILED = ConnectionFailed(**COMMON, server="zk1:2181", cause="refused")
ESTABLISHED = SessionEstablished(**COMMON, timeout=10.0, server="zk1:2181")
EXPIRED = SessionExpired(**COMMON, confirmed_by="server")


@pytest.fixture
def tally() -> Tally:
    return Tally()


def test_nothing_counted_is_no_rate(tally):
    """P(success) of nothing is unknown, not 0 and not 1."""
    stats = tally.stats(0.0)
    assert (stats.connection_success, stats.session_success) == (None, None)


def test_events_are_counted_by_their_kind(tally):
    """Two links, one failure, one ping."""
    for event in (OPENED, OPENED, FAILED, Heartbeat(**COMMON, rtt=0.1)):
        tally.event(event, 0.0)
    stats = tally.stats(0.0)
    counted = (stats.connections_opened, stats.connections_failed, stats.heartbeats_answered)
    assert counted == (2, 1, 1)


def test_other_events_are_not_counted(tally):
    """A znode is no link."""
    before = tally.stats(0.0)
    tally.event(ZnodeDeleted(**COMMON, path="/a"), 0.0)
    assert tally.stats(0.0) == before


def test_the_success_of_connections(tally):
    """P(success) = 1 - P(failure)."""
    for event in (OPENED, OPENED, OPENED, FAILED):
        tally.event(event, 0.0)
    assert tally.stats(0.0).connection_success == 0.75


def test_the_success_of_sessions(tally):
    """The share of them that did not expire."""
    for event in (ESTABLISHED, EXPIRED, ESTABLISHED, ESTABLISHED, ESTABLISHED):
        tally.event(event, 0.0)
    assert tally.stats(0.0).session_success == 0.75


def test_a_session_that_began_before_the_hour_may_expire_in_it(tally):
    """A rate is never negative."""
    tally.event(ESTABLISHED, 0.0)
    tally.event(EXPIRED, 7200.0)
    assert tally.stats(7200.0).last_hour.session_success == 0.0


def test_what_has_no_event_is_counted_by_name(tally):
    """A ping that is sent tells nothing."""
    tally.add("heartbeats_sent", 0.0)
    assert tally.stats(0.0).heartbeats_sent == 1


def test_the_last_hour_forgets(tally):
    """The life does not."""
    tally.event(OPENED, 0.0)
    tally.event(OPENED, 3700.0)
    stats = tally.stats(3700.0)
    assert (stats.connections_opened, stats.last_hour.connections_opened) == (2, 1)


def test_the_last_hour_is_a_whole_hour(tally):
    """What was 59 minutes ago counts."""
    tally.event(OPENED, 0.0)
    assert tally.stats(3540.0).last_hour.connections_opened == 1


def test_the_last_hour_forgets_without_new_events(tally):
    """The clock alone is enough."""
    tally.event(OPENED, 0.0)
    assert tally.stats(7200.0).last_hour.connections_opened == 0


def test_days_take_no_more_room_than_an_hour(tally):
    """One entry a minute, 61 at most."""
    for minute in range(3000):
        tally.add("heartbeats_sent", minute * 60.0)
    assert len(tally._hour) <= 61
