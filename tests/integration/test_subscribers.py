"""Those who listen: none delays another, none misses what a session went through."""

from __future__ import annotations

import itertools
import logging
import threading

import pytest
from kazoo.client import KazooClient

from coordinator import (
    Coordinator,
    EventsDropped,
    Heartbeat,
    SessionEstablished,
    SessionEvent,
    SessionExpired,
    ZnodeEvent,
)
from coordinator.engine import fanout
from coordinator.events import event_adapter
from coordinator.testing import EventRecord, FaultProxy, ZooKeeperServer, eventually, expire
from tests.support import expire_behind, new_place


def test_the_loop_of_the_readme_sees_established(zookeeper: ZooKeeperServer) -> None:
    """A stream begins with the event that made the present state, however late it is opened."""
    with Coordinator(zookeeper.hosts) as zk:
        for event in zk.events():
            assert isinstance(event, SessionEstablished)
            assert event.session_id == zk.session.session_id
            break


def test_handlers_are_independent(zookeeper: ZooKeeperServer, caplog: pytest.LogCaptureFixture) -> None:
    """One blocks, one raises, one calls the client: another one sees everything at once."""
    path = new_place()
    release, seen, read = threading.Event(), [], []
    with Coordinator(zookeeper.hosts) as zk:
        zk.create(path)
        zk.watch(path)

        def blocks(_event: object) -> None:
            release.wait(30)

        def raises(_event: object) -> None:
            raise ValueError("planted")

        def calls(_event: object) -> None:
            read.append(zk.get(path).value)

        for handler in (blocks, raises, calls, seen.append):
            zk.on(handler, ZnodeEvent)
        for number in range(3):
            zk.set(path, b"%d" % number)
            eventually(lambda number=number: len(seen) > number)
        eventually(lambda: len(read) == 3)
        release.set()
        eventually(lambda: len([one for one in caplog.records if "raised on znode" in one.message]) == 3)
    assert [event.version for event in seen] == [1, 2, 3]
    assert all(record.levelno >= logging.WARNING for record in caplog.records if "raised" in record.message)


def test_slow_subscriber(
    zookeeper: ZooKeeperServer,
    proxy: FaultProxy,
    observer: KazooClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It gets one events.dropped for what it missed, and every session event all the same."""
    monkeypatch.setattr(fanout.Fanout.subscribe, "__defaults__", (5, None))
    path = new_place()
    observer.create(path)
    with Coordinator(proxy.hosts) as zk:
        view = zk.watch(path)
        slow = zk.events()
        for number in range(20):
            observer.set(path, b"%d" % number)
            eventually(lambda number=number: view.stat is not None and view.stat.version == number + 1)
        expire_behind(proxy, zk, zookeeper)
        eventually(lambda: zk.session.epoch == 2 and zk.session.phase == "connected")
    told = list(slow)
    dropped = [event for event in told if isinstance(event, EventsDropped)]
    assert len(dropped) == 1
    assert dropped[0].count > 10
    sessions = [event.kind.removeprefix("session.") for event in told if isinstance(event, SessionEvent)]
    assert sessions == ["established", "suspended", "expired", "established", "closed"]
    assert [event.seq for event in told] == sorted(event.seq for event in told)


def test_a_stream_is_ndjson(zookeeper: ZooKeeperServer) -> None:
    """Every line reads back as the event that it was."""
    path = new_place()
    zk = Coordinator(zookeeper.hosts)
    stream = zk.events()
    with zk:
        zk.watch(path)
        with zk.ephemeral(path):
            expire(zk.kazoo.client_id, zookeeper.hosts)
            eventually(lambda: zk.session.epoch == 2)
    told = list(stream)
    assert len(told) > 8
    lines = [event.model_dump_json() for event in told]
    assert [event_adapter.validate_json(line) for line in lines] == told
    assert all('"session_id":"0x' in line for line in lines)


def test_filters(zookeeper: ZooKeeperServer) -> None:
    """By class and by base class; a heartbeat only to those who name it."""
    zk = Coordinator(zookeeper.hosts, session_timeout=1.0)
    everything, beats = zk.events(), zk.events(Heartbeat)
    sessions, expiries = zk.events(SessionEvent), zk.events(SessionExpired)
    with zk:
        for beat in itertools.islice(beats, 2):
            assert 0 < beat.rtt < 1
        expire(zk.kazoo.client_id, zookeeper.hosts)
        eventually(lambda: zk.session.epoch == 2)
        assert zk.session.rtt is not None
        assert zk.stats.heartbeats_answered >= 2
        assert zk.stats.heartbeats_sent >= zk.stats.heartbeats_answered
    assert not [event for event in everything if isinstance(event, Heartbeat)]
    assert all(isinstance(event, SessionEvent) for event in sessions)
    assert [type(event) for event in expiries] == [SessionExpired]


def test_idle_session_keeps_its_clock(zookeeper: ZooKeeperServer) -> None:
    """Heartbeats alone keep `remaining` well above zero."""
    with Coordinator(zookeeper.hosts, session_timeout=1.0) as zk:
        record = EventRecord(zk, Heartbeat)
        record.until(*["session.heartbeat"] * 5)
        assert 0.3 < zk.session.remaining <= 1.0
        assert zk.stats.sessions_suspended == 0
        assert zk.stats.session_success == 1.0


def test_a_closed_stream_ends(zookeeper: ZooKeeperServer) -> None:
    """Whoever closes his stream, or his handler, hears no more."""
    with Coordinator(zookeeper.hosts) as zk:
        with zk.events() as stream:
            pass
        assert [event.kind for event in stream] == ["session.established"]
        handler = zk.on(lambda _event: None)
        handler.close()
        handler.join(2)
        assert not handler.alive
