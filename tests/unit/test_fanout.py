"""Subscriptions: a slow reader delays nobody, and knows what it missed."""

from __future__ import annotations

import gc
import threading

import pytest
from fake import AT

from coordinator import Coordinator
from coordinator.engine.fanout import Fanout
from coordinator.events import (
    BaseEvent,
    EventsDropped,
    Heartbeat,
    SessionClosed,
    SessionEstablished,
    SessionEvent,
    SessionSuspended,
    ZnodeDeleted,
)
from coordinator.testing import EventRecord, eventually


class Source:
    """Publishes events with ascending numbers."""

    def __init__(self) -> None:
        self.fanout = Fanout()
        self.seq = 0

    def tell(self, kind: type[BaseEvent] = ZnodeDeleted, **fields) -> BaseEvent:
        self.seq += 1
        if kind is ZnodeDeleted:
            fields = {"path": f"/{self.seq}"}
        event = kind(seq=self.seq, at=AT, epoch=1, session_id=7, **fields)
        self.fanout.publish(event)
        return event

    def established(self) -> BaseEvent:
        return self.tell(SessionEstablished, timeout=10.0, server="zk1:2181")

    def suspended(self) -> BaseEvent:
        return self.tell(SessionSuspended, server="zk1:2181", silent_for=1.0, lapses_in=9.0)

    def closed(self) -> BaseEvent:
        return self.tell(SessionClosed, reason="requested")


@pytest.fixture
def source() -> Source:
    return Source()


def drain(subscription) -> list[BaseEvent]:
    """Return what is queued, up to the end or to a pause."""
    events = []
    while True:
        try:
            event = subscription.get(0)
        except TimeoutError:
            return events
        if event is None:
            return events
        events.append(event)


def test_events_come_in_the_order_in_which_they_were_published(source):
    """By seq."""
    subscription = source.fanout.subscribe(())
    told = [source.tell() for _ in range(5)]
    assert drain(subscription) == told


def test_a_subscription_begins_with_the_event_that_made_the_present_state(source):
    """Whoever comes late knows how the session stands."""
    source.established()
    state = source.suspended()
    source.tell()
    assert drain(source.fanout.subscribe(())) == [state]


def test_a_subscription_begins_with_the_state_only_if_it_asked_for_such_events(source):
    """The kinds asked for hold for the first event, too."""
    source.established()
    assert drain(source.fanout.subscribe((ZnodeDeleted,))) == []


def test_a_base_class_stands_for_all_of_its_kinds(source):
    """events(SessionEvent) is every change of the session."""
    subscription = source.fanout.subscribe((SessionEvent,))
    state = source.established()
    source.tell()
    assert drain(subscription) == [state]


@pytest.mark.parametrize("kinds", [(), (BaseEvent,), (SessionEvent,)])
def test_heartbeats_are_not_told_to_those_who_did_not_name_them(source, kinds):
    """One a second would drown what matters."""
    subscription = source.fanout.subscribe(kinds)
    source.tell(Heartbeat, rtt=0.1)
    assert drain(subscription) == []


def test_heartbeats_are_told_to_those_who_name_them(source):
    """By the very class."""
    subscription = source.fanout.subscribe((Heartbeat,))
    beat = source.tell(Heartbeat, rtt=0.1)
    assert drain(subscription) == [beat]


def test_a_slow_subscriber_gets_one_events_dropped(source):
    """In the place of all that it missed, with the count and the range."""
    subscription = source.fanout.subscribe((), limit=3)
    for _ in range(10):
        source.tell()
    dropped = [event for event in drain(subscription) if isinstance(event, EventsDropped)]
    assert [(one.count, one.first_seq, one.last_seq) for one in dropped] == [(7, 4, 10)]


def test_a_slow_subscriber_gets_every_session_event(source):
    """They are never dropped, however full it is."""
    subscription = source.fanout.subscribe((), limit=2)
    states = []
    for _ in range(4):
        source.tell()
        states.append(source.established())
    assert [event for event in drain(subscription) if isinstance(event, SessionEvent)] == states


def test_what_a_slow_subscriber_gets_is_in_order(source):
    """EventsDropped stands where the first dropped event would have stood."""
    subscription = source.fanout.subscribe((), limit=2)
    for _ in range(4):
        source.tell()
        source.established()
    seqs = [event.seq for event in drain(subscription)]
    assert seqs == sorted(seqs)


def test_after_a_gap_was_read_the_next_one_is_counted_anew(source):
    """Two gaps are two events."""
    subscription = source.fanout.subscribe((), limit=1)
    ranges = []
    for _ in range(2):
        for _ in range(3):
            source.tell()
        ranges += [
            (one.count, one.first_seq, one.last_seq)
            for one in drain(subscription)
            if isinstance(one, EventsDropped)
        ]
    assert ranges == [(2, 2, 3), (2, 5, 6)]


def test_a_slow_subscriber_misses_nothing_uncounted(source):
    """What was read and what was dropped is what was published."""
    subscription = source.fanout.subscribe((), limit=3)
    read = dropped = 0
    for turn in range(30):
        source.tell()
        if turn % 3 == 0:
            event = subscription.get(0)
            read, dropped = read + 1, dropped + getattr(event, "count", 1) - 1
    rest = drain(subscription)
    assert read + dropped + sum(getattr(event, "count", 1) for event in rest) == 30


def test_a_slow_subscriber_delays_nobody(source):
    """Neither the others, which get all, nor the engine, which publishes."""
    source.fanout.subscribe((), limit=1)
    other = source.fanout.subscribe(())
    told = [source.tell() for _ in range(5)]
    assert drain(other) == told


def test_a_full_subscription_costs_the_engine_no_search(source):
    """Nothing is looked for among 10,000 queued events: that took 5 ms for each one dropped."""

    class Incomparable(ZnodeDeleted):
        __hash__ = None

        def __eq__(self, other):
            raise AssertionError("it was searched for")

    subscription = source.fanout.subscribe((), limit=2)
    for _ in range(5):
        source.tell(Incomparable, path="/a")
    assert len(drain(subscription)) == 3


def test_a_subscription_ends_after_closed(source):
    """session.closed is the last event, then there is None, for ever."""
    subscription = source.fanout.subscribe(())
    closed = source.closed()
    source.tell()
    assert [subscription.get(0) for _ in range(3)] == [closed, None, None]


def test_a_subscription_made_after_closed_has_only_that(source):
    """It tells why, and ends."""
    source.tell()
    closed = source.closed()
    subscription = source.fanout.subscribe(())
    assert [subscription.get(0), subscription.get(0)] == [closed, None]


def test_an_ended_subscription_hands_out_what_was_queued(source):
    """close() forgets nothing that was there."""
    subscription = source.fanout.subscribe(())
    event = source.tell()
    source.fanout.unsubscribe(subscription)
    source.tell()
    assert [subscription.get(0), subscription.get(0)] == [event, None]


def test_ending_twice_is_nothing(source):
    """A reader and the end of the coordinator may both do it."""
    subscription = source.fanout.subscribe(())
    source.fanout.unsubscribe(subscription)
    source.fanout.unsubscribe(subscription)
    assert subscription.get(0) is None


def test_a_reader_that_is_collected_waits_for_no_lock(source):
    """Its finalizer may run in a thread that holds the lock of another subscription.

    1. thread A reads subscription S, and holds its lock;
    2. thread B publishes, holds the fan-out's lock, and waits for that of S;
    3. in A another stream is collected: were the fan-out's lock asked for now, both would wait for ever.
    """
    busy, gone = source.fanout.subscribe(()), source.fanout.subscribe(())
    with busy._changed:
        publishing = threading.Thread(target=source.tell)
        publishing.start()
        eventually(lambda: not source.fanout._lock.acquire(blocking=False) or source.fanout._lock.release())
        gone.forget()
    publishing.join(5.0)
    assert not publishing.is_alive()
    source.tell()
    assert source.fanout._subscriptions == [busy]
    with pytest.raises(TimeoutError):
        gone.get(0)  # what came after it was gone was not kept for it


@pytest.mark.parametrize("made", [Coordinator.events, EventRecord])
def test_a_stream_is_collected_though_somebody_publishes(made):
    """Whoever holds the lock may wait for the very thread in which the stream is collected."""
    zk = Coordinator("127.0.0.1:1")
    streams = [made(zk)]

    def collect():
        streams.clear()
        gc.collect()

    with zk._engine.fanout._lock:
        collecting = threading.Thread(target=collect)
        collecting.start()
        collecting.join(5.0)
        assert not collecting.is_alive()
    assert [one.forgotten for one in zk._engine.fanout._subscriptions] == [True]
    zk.close()


def test_no_event_in_time_is_a_timeout(source):
    """Not None, which is the end."""
    with pytest.raises(TimeoutError):
        source.fanout.subscribe(()).get(0)
