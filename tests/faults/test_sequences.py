"""What is told, in which order, with which ids and epochs, when real faults happen to a session."""

from __future__ import annotations

import threading
import time

import pytest
from kazoo.client import KazooClient

from coordinator import AuthFailedError, CoordinatorError, SessionSuspended
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    ZooKeeperEnsemble,
    ZooKeeperServer,
    eventually,
    session_ids,
)
from tests.faces import Face
from tests.faults.conftest import Household, furnish
from tests.support import expire_behind, new_place, observing, owner, story

THREAD_DIES = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
RECREATED = ["ephemeral.recreated"] * 3
LOST = ["connection.closed", "session.suspended"]
NEW_SESSION = [
    "session.expired",
    "connection.opened",
    "session.established",
    "recovery.started",
    *RECREATED,
    "children.changed",  # the workers themselves went and came back
    "recovery.completed",
]


def test_first_start(face: Face, zookeeper: ZooKeeperServer) -> None:
    """The first session is epoch 1, and its timeout is the one that was negotiated."""
    zk = face(zookeeper.hosts, session_timeout=100.0)
    record = EventRecord(zk)
    with zk:
        (opened, established) = record.until("session.established")
        assert opened.kind == "connection.opened"
        assert (opened.epoch, opened.session_id, opened.server) == (0, 0, zookeeper.hosts)
        assert established.epoch == 1
        assert established.session_id == zk.session.session_id
        assert established.session_id in session_ids(zookeeper)
        assert established.timeout == zk.session.timeout == 60.0  # the server's bound, not what was asked
        assert established.previous_session_id is None
    assert story(record.rest()) == ["connection.closed", "session.closed"]
    assert [event.seq for event in record.events] == list(range(1, 5))


def test_cut_and_back_in_time(household: Household, proxy: FaultProxy, observer: KazooClient) -> None:
    """The session is resumed; what changed in the gap is told once; watches stand again."""
    session_id = household.zk.session.session_id
    before = {worker.path: worker.czxid for worker in household.workers}
    proxy.refuse = True
    proxy.cut()
    down = household.record.until("session.suspended")
    assert story(down) == LOST
    assert down[-1].session_id == session_id
    assert 0 < down[-1].lapses_in <= household.zk.session.timeout
    observer.set(f"{household.base}/config", b"two")
    observer.create(f"{household.base}/workers/guest")
    proxy.refuse = False
    up = household.record.until("session.resumed", "znode.changed", "children.changed")
    assert story(up) == ["connection.opened", "session.resumed", "znode.changed", "children.changed"]
    assert {event.epoch for event in up} == {1}
    assert {event.session_id for event in up} == {session_id}
    assert up[-2].after_gap
    assert (up[-1].after_gap, up[-1].added, up[-1].removed) == (True, ("guest",), ())
    assert household.config.value == b"two"
    household.assert_back(observer)
    assert {worker.path: worker.czxid for worker in household.workers} == before
    observer.set(f"{household.base}/config", b"three")
    observer.delete(f"{household.base}/workers/guest")
    live = household.record.until("znode.changed", "children.changed")
    assert len(live) == 2
    assert not any(event.after_gap for event in live)


def test_expiry_while_connected(
    household: Household, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """A session that the server ends is told as expired, and all comes back under the next."""
    old = household.zk.session.session_id
    expire_behind(proxy, household.zk, zookeeper)
    told = household.record.until("recovery.completed")
    assert story(told) == LOST + NEW_SESSION
    expired = _first(told)
    assert (expired.confirmed_by, expired.lost_ephemerals, expired.session_id, expired.epoch) == (
        "server", 3, old, 1,
    )  # fmt: skip
    established = next(event for event in told if event.kind == "session.established")
    assert (established.epoch, established.previous_session_id) == (2, old)
    assert established.session_id == household.zk.session.session_id != old
    completed = told[-1]
    assert (completed.ephemerals, completed.watches, completed.failed, completed.conflicts) == (3, 2, 0, 0)
    household.assert_back(observer)


@pytest.mark.parametrize("household", [1.0], indirect=True)
def test_expiry_while_cut_off(
    household: Household, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """Suspended, lapsed by our clock, expired by the server's word; then all comes back."""
    _expire_by_silence(household, zookeeper, proxy)
    observer.set(f"{household.base}/config", b"two")
    proxy.refuse = False
    told = household.record.until("recovery.completed")
    assert story(told) == [*NEW_SESSION[:-2], "znode.changed", "children.changed", "recovery.completed"]
    assert told[-1].changed_paths == (f"{household.base}/config", f"{household.base}/workers")
    assert household.config.value == b"two"
    household.assert_back(observer)


@pytest.mark.parametrize("household", [0.6], indirect=True)
def test_cut_off_for_five_timeouts(
    household: Household, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """However long it lasts: suspended once, lapsed once, and back soon after the link is."""
    _expire_by_silence(household, zookeeper, proxy)
    assert story(household.record.quiet(4 * 0.6)) == []
    proxy.refuse = False
    healed = time.monotonic()
    assert story(household.record.until("recovery.completed")) == NEW_SESSION
    # The greatest delay between two rounds is 1 s, and two of them may be slept.
    assert time.monotonic() - healed < 3
    household.assert_back(observer)


def _expire_by_silence(household: Household, zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    session_id = household.zk.session.session_id
    proxy.refuse = True
    proxy.cut()
    down = household.record.until("session.lapsed")
    assert story(down) == [*LOST, "session.lapsed"]
    assert down[-1].silent_for >= household.zk.session.timeout
    eventually(lambda: session_id not in session_ids(zookeeper), message="the server expires the session")


def test_half_open_link_under_traffic(household: Household, proxy: FaultProxy, observer: KazooClient) -> None:
    """A link that swallows everything is noticed within one timeout, however much is sent on it."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                household.zk.get(f"{household.base}/config", timeout=0.05)
            except CoordinatorError:
                continue

    traffic = threading.Thread(target=ask)
    traffic.start()
    try:
        proxy.blackhole = True
        frozen = time.monotonic()
        (_, suspended) = household.record.until("session.suspended")
        noticed = time.monotonic() - frozen
    finally:
        stop.set()
        traffic.join()
        proxy.blackhole = False
    assert isinstance(suspended, SessionSuspended)
    assert noticed < household.zk.session.timeout
    assert suspended.lapses_in > 0
    assert story(household.record.until("session.resumed")) == ["connection.opened", "session.resumed"]
    household.assert_back(observer)


@pytest.mark.parametrize("household", [3.0], indirect=True)
def test_slow_link_is_kept(household: Household, proxy: FaultProxy, observer: KazooClient) -> None:
    """A round trip of nearly half the timeout is slow, and no reason to give up a session."""
    proxy.latency = household.zk.session.timeout * 0.22  # each way
    for _ in range(3):
        household.zk.get(f"{household.base}/config")
    assert story(household.record.quiet(2 * household.zk.session.timeout)) == []
    proxy.latency = 0
    household.assert_back(observer)


def test_half_open_link_without_traffic(household: Household, proxy: FaultProxy) -> None:
    """A link is given up after 2/3 of the timeout without an answer; kazoo would not wait that long."""
    proxy.blackhole = True
    (_, suspended) = household.record.until("session.suspended")
    assert 0.6 * household.zk.session.timeout < suspended.silent_for < household.zk.session.timeout
    assert household.zk.stats.heartbeats_sent > household.zk.stats.heartbeats_answered
    proxy.blackhole = False
    assert story(household.record.until("session.resumed")) == ["connection.opened", "session.resumed"]


def test_unknown_authentication_scheme(face: Face, zookeeper: ZooKeeperServer) -> None:
    """A scheme that the server does not know ends it: closed, and never established."""
    zk = face(zookeeper.hosts, auth="nosuch:planted-secret")
    record = EventRecord(zk)
    with pytest.raises(AuthFailedError) as failed:
        zk.start()
    assert "planted-secret" not in str(failed.value)
    told = record.rest()
    assert story(told) == ["connection.opened", "connection.closed", "session.closed"]
    assert told[-1].reason == "auth_failed"
    zk.close()


@THREAD_DIES
def test_thread_of_kazoo_killed(household: Household, proxy: FaultProxy, observer: KazooClient) -> None:
    """kazoo's thread is ended by an exception: a new client resumes the same session."""
    session_id = household.zk.session.session_id
    before = [worker.czxid for worker in household.workers]
    client = _kill_thread_when_suspended(household)
    proxy.cut()
    told = household.record.until("session.resumed")
    assert story(told) == [*LOST, "connection.opened", "session.resumed"]
    assert household.zk.session.session_id == session_id
    assert household.zk.kazoo is not client
    household.assert_back(observer)
    assert [worker.czxid for worker in household.workers] == before
    observer.set(f"{household.base}/config", b"two")
    household.record.until("znode.changed")


@THREAD_DIES
@pytest.mark.parametrize("household", [1.0], indirect=True)
def test_resumed_by_its_saved_id_after_it_had_expired(
    household: Household, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """Nobody says that the session expired; another id does."""
    old = household.zk.session.session_id
    _kill_thread_when_suspended(household)
    _expire_by_silence(household, zookeeper, proxy)
    proxy.refuse = False
    told = household.record.until("recovery.completed")
    assert story(told) == NEW_SESSION
    assert _first(told).confirmed_by == "new_session_id"
    assert _first(told).session_id == old
    household.assert_back(observer)


def _first(told: list) -> object:
    return next(event for event in told if event.kind == "session.expired")


def _kill_thread_when_suspended(household: Household) -> KazooClient:
    client = household.zk.kazoo

    def kill(_state: str) -> None:
        raise SystemExit  # the one way in which a listener ends kazoo's thread

    client.add_listener(kill)
    return client


@pytest.mark.parametrize("household", [10.0], indirect=True)
def test_server_restarted(household: Household, zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """The session outlives its server."""
    before = [worker.czxid for worker in household.workers]
    session_id = household.zk.session.session_id
    zookeeper.restart()
    told = household.record.until("session.resumed")
    assert story(told) == [*LOST, "connection.opened", "session.resumed"]
    assert {(event.epoch, event.session_id) for event in told} == {(1, session_id)}
    household.assert_back(observer)
    assert [worker.czxid for worker in household.workers] == before


def test_leader_of_three_killed(face: Face, ensemble: ZooKeeperEnsemble) -> None:
    """The ensemble elects another leader; the session and what it holds live on."""
    leader = ensemble.leader()
    try:
        with observing(ensemble.hosts) as observer, face(ensemble.hosts, session_timeout=10.0) as zk:
            household = furnish(zk, observer)
            before = [worker.czxid for worker in household.workers]
            leader.kill()
            assert story(household.record.until("session.resumed")) == [
                *LOST, "connection.opened", "session.resumed",
            ]  # fmt: skip
            household.assert_back(observer)
            assert [worker.czxid for worker in household.workers] == before
    finally:
        leader.start()


def test_five_expiries_in_a_row(
    household: Household, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """Each of them is told once, and after each all is back."""
    seen = [household.zk.session.session_id]
    for epoch in range(2, 7):
        expire_behind(proxy, household.zk, zookeeper)
        told = household.record.until("recovery.completed")
        assert story(told) == LOST + NEW_SESSION
        assert {event.epoch for event in told} == {epoch - 1, epoch}
        assert household.zk.session.epoch == epoch
        household.assert_back(observer)
        seen.append(household.zk.session.session_id)
    assert len(set(seen)) == 6
    stats = household.zk.stats
    assert (stats.sessions_established, stats.sessions_expired) == (6, 5)
    assert stats.session_success == pytest.approx(1 / 6)


@pytest.mark.parametrize("household", [1.0], indirect=True)
def test_data_wiped(household: Household, zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """An ensemble that has lost its data refuses us; the session is given up, all is made anew."""
    for number in range(50):  # so that we have certainly seen more than it will have
        observer.set(f"{household.base}/config", b"%d" % number)
    eventually(lambda: household.config.value == b"49")
    household.zk.get(f"{household.base}/config")
    household.record.until("znode.changed")
    household.record.quiet(0.1)
    old = household.zk.session.session_id
    zookeeper.wipe()
    told = household.record.until("recovery.completed")
    assert story(told)[:-3] == [*LOST, "session.lapsed", *NEW_SESSION[:-2]]
    # Two views, of which the one needs a round trip more: their order is nobody's promise.
    assert sorted(story(told)[-3:-1]) == ["children.changed", "znode.deleted"]
    assert _first(told).confirmed_by == "refused"
    assert household.zk.session.session_id != old
    assert not household.config.exists
    with observing(zookeeper.hosts) as newcomer:
        household.assert_back(newcomer)


def test_closing_while_suspended(face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """close() keeps its promise with the link down; the stream ends with session.closed."""
    zk = face(proxy.hosts, session_timeout=3.0).start()
    record = EventRecord(zk)
    zk.ephemeral(new_place())
    record.until("ephemeral.created")
    proxy.refuse = True
    proxy.cut()
    record.until("session.suspended")
    began = time.monotonic()
    zk.close()
    assert time.monotonic() - began < 2
    assert story(record.rest()) == ["session.closed"]


def test_closing_while_suspended_ends_the_session_if_the_link_returns(
    face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy
) -> None:
    """A link that comes back during close() is used to end the session on the server."""
    zk = face(proxy.hosts, session_timeout=30.0).start()
    record = EventRecord(zk, SessionSuspended)
    session_id = zk.session.session_id
    proxy.refuse = True
    proxy.cut()
    record.until("session.suspended")
    heal = threading.Timer(0.2, lambda: setattr(proxy, "refuse", False))
    heal.start()
    zk.close()
    heal.join()
    eventually(lambda: session_id not in session_ids(zookeeper), message="the session is gone", timeout=2)


def test_start_without_a_server_which_comes_later(
    face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """start_timeout=0 does not wait; what was wanted meanwhile comes true with the server."""
    proxy.refuse = True
    base = new_place()
    with face(proxy.hosts, start_timeout=0, session_timeout=2.0) as zk:
        record = EventRecord(zk)
        worker = zk.ephemeral(f"{base}/w", b"here", wait=False)
        view = zk.watch_children(base, wait=False)
        failed = record.until("connection.failed")[-1]
        assert (failed.cause, failed.server, failed.epoch) == ("refused", proxy.hosts, 0)
        assert failed.next_try_in is not None
        assert not worker.present
        proxy.refuse = False
        told = record.until("ephemeral.created")
        assert story(told) == ["connection.opened", "session.established", "ephemeral.created"]
        worker.wait_present()
        assert owner(observer, worker.path) == zk.session.session_id
        assert view.wait(1) == ("w",)
