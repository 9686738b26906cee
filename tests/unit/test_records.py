"""EventRecord: what it holds, what is read, and how long it waits."""

from __future__ import annotations

import gc
import threading

import pytest
from happenings import Teller

from coordinator import ConfigurationError
from coordinator.events import (
    ConnectionFailed,
    ConnectionOpened,
    EphemeralRecreated,
    Heartbeat,
    SessionClosed,
    SessionEstablished,
    SessionEvent,
    SessionResumed,
    SessionSuspended,
)
from coordinator.testing import EventRecord, event, eventually


@pytest.fixture
def zk() -> Teller:
    return Teller()


def kinds(events) -> list[str]:
    return [one.kind for one in events]


def test_it_begins_with_the_present_state(zk):
    zk(SessionEstablished)
    zk(ConnectionOpened)
    record = EventRecord(zk)
    assert kinds(record.events) == ["session.established"]
    zk(SessionSuspended)
    assert kinds(record.events) == ["session.established", "session.suspended"]


def test_it_records_only_what_was_asked_for(zk):
    sessions, everything, beats = EventRecord(zk, SessionEvent), EventRecord(zk), EventRecord(zk, Heartbeat)
    for kind, fields in ((ConnectionOpened, {}), (SessionEstablished, {}), (Heartbeat, {"rtt": 0.1})):
        zk(kind, **fields)
    assert kinds(sessions.events) == ["session.established"]
    assert kinds(everything.events) == ["connection.opened", "session.established"]
    assert kinds(beats.events) == ["session.heartbeat"]


def test_nothing_is_dropped_though_nobody_reads(zk):
    """A stream would hold 10,000 for a slow reader."""
    record = EventRecord(zk)
    for _ in range(10_050):
        zk(ConnectionOpened)
    assert [one.seq for one in record.events] == list(range(1, 10_051))


def test_until_reads_up_to_the_last_that_was_missing(zk):
    record = EventRecord(zk)
    for kind in (ConnectionOpened, SessionResumed, SessionSuspended, SessionResumed, ConnectionFailed):
        zk(kind)
    read = record.until("session.res*", SessionResumed, event("session.suspended", silent_for=0.5))
    assert kinds(read) == ["connection.opened", "session.resumed", "session.suspended", "session.resumed"]
    assert kinds(record.until("connection.failed")) == ["connection.failed"]
    assert len(record.events) == 5


def test_until_says_what_is_missing_and_what_came_and_reads_nothing(zk):
    record = EventRecord(zk)
    with pytest.raises(AssertionError, match=r"no session\.resumed within 0 s; there came:\n  nothing"):
        record.until("session.resumed", timeout=0)
    zk(ConnectionOpened)
    zk(SessionResumed)
    with pytest.raises(AssertionError) as caught:
        record.until("session.resumed", "session.resumed", "session.closed", timeout=0.01)
    assert str(caught.value).splitlines() == [
        "no session.resumed, session.closed within 0.01 s; there came:",
        "  1 connection.opened server=zk1:2181",
        "  2 session.resumed server=zk1:2181 outage=0.100",
    ]
    assert len(record.until("session.resumed")) == 2


def test_expect_returns_what_it_expected(zk):
    """The shortest beginning that fits; what was ignored is read with it."""
    record = EventRecord(zk)
    for kind in (ConnectionFailed, SessionSuspended, ConnectionFailed, SessionResumed, SessionSuspended):
        zk(kind)
    down, up = record.expect("session.suspended", "session.resumed", ..., ignoring="connection.*")
    assert (down.lapses_in, up.outage) == (9.5, 0.1)
    assert record.expect() == []
    assert kinds(record.expect("session.*")) == ["session.suspended"]


def test_expect_fails_as_soon_as_nothing_can_help_any_more(zk):
    record = EventRecord(zk)
    zk(SessionSuspended)
    zk(ConnectionOpened)
    with pytest.raises(AssertionError) as caught:
        record.expect("session.resumed", timeout=3600.0)
    assert str(caught.value).startswith("event 1 is session.suspended, expected session.resumed\n")
    assert "connection.opened" in str(caught.value), "what is left is told"
    assert kinds(record.expect("session.suspended")) == ["session.suspended"], "it read nothing"


def test_expect_says_for_how_long_it_waited(zk):
    record = EventRecord(zk)
    zk(SessionSuspended)
    with pytest.raises(AssertionError, match=r"^no session.resumed within 0.01 s\n"):
        record.expect("session.suspended", ..., "session.resumed", timeout=0.01)
    zk(SessionClosed, reason="requested")
    with pytest.raises(AssertionError, match=r"^no session.resumed before the events ended\n"):
        record.expect("session.suspended", ..., "session.resumed", timeout=3600.0)


@pytest.mark.parametrize(
    "wait",
    [
        lambda record: record.until("session.resumed"),
        lambda record: record.expect(..., "session.resumed"),
        lambda record: record.rest(),
        lambda record: record.quiet(60.0),
    ],
    ids=["until", "expect", "rest", "quiet"],
)
def test_a_wait_ends_with_the_event(zk, wait):
    """They come while it waits, and from another thread."""
    record, found = EventRecord(zk), []
    waiting = threading.Thread(target=lambda: found.append(wait(record)), name="test-waiting")
    waiting.start()
    zk(ConnectionOpened)
    zk(SessionResumed)
    zk(SessionClosed, reason="requested")
    waiting.join(10.0)
    assert kinds(found[0])[:2] == ["connection.opened", "session.resumed"]


def test_quiet_returns_what_came(zk):
    record = EventRecord(zk)
    assert record.quiet(0.01) == []
    zk(SessionResumed)
    assert kinds(record.quiet(0.01)) == ["session.resumed"]
    assert record.quiet(0) == []


def test_rest_needs_an_end(zk):
    record = EventRecord(zk)
    zk(SessionResumed)
    with pytest.raises(
        AssertionError, match=r"did not end within 0\.01 s: <EventRecord of 1 events, 1 unread>"
    ):
        record.rest(timeout=0.01)
    record.close()
    zk(ConnectionOpened)
    assert kinds(record.rest()) == ["session.resumed"]
    assert len(record.events) == 1


def test_one_that_nobody_holds_is_forgotten(zk):
    record = EventRecord(zk)
    assert zk.fanout._subscriptions
    del record
    gc.collect()
    zk(ConnectionOpened)
    assert not zk.fanout._subscriptions


def test_one_that_is_collected_while_another_is_held_waits_for_nobody(zk):
    """A collection may come in a thread that holds a lock for which the publisher waits."""
    held, dropped = EventRecord(zk), [EventRecord(zk)]
    held_up = threading.Thread(target=zk, args=(ConnectionOpened,), name="test-publisher")

    def publishing() -> bool:
        if not zk.fanout._lock.acquire(blocking=False):
            return True
        zk.fanout._lock.release()
        return False

    with held._changed:
        held_up.start()
        eventually(publishing)
        dropped.clear()
        gc.collect()
    held_up.join(10.0)
    assert kinds(held.events) == ["connection.opened"]


def test_it_takes_coordinators_only():
    with pytest.raises(ConfigurationError, match="takes a Coordinator or an AsyncCoordinator, got str"):
        EventRecord("127.0.0.1:2181")


def test_events_come_in_order_from_many_threads(zk):
    """The publisher's lock is the only order there is; none is lost or told twice."""
    record, together = EventRecord(zk), threading.Barrier(4)
    lock = threading.Lock()

    def tell() -> None:
        together.wait()
        for _ in range(200):
            with lock:
                zk(EphemeralRecreated)

    threads = [threading.Thread(target=tell, name=f"test-{number}") for number in range(4)]
    for one in threads:
        one.start()
    record.until(*["ephemeral.recreated"] * 800)
    for one in threads:
        one.join()
    assert [one.seq for one in record.events] == list(range(1, 801))
