"""A kazoo client that somebody else owns: adopted, used, and left as it was."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import (
    ClosedError,
    ConfigurationError,
    Coordinator,
    KazooHandler,
    SessionEvent,
    StartError,
)
from coordinator.engine.adoption import Adopted
from coordinator.engine.rounds import Unheard
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    ZooKeeperServer,
    ephemerals,
    eventually,
    session_ids,
    watches,
)
from tests.support import expire_behind, in_thread, new_place, observing, owner, story

HOW = r"KazooClient\(handler=coordinator\.KazooHandler\(\)\)"


@pytest.fixture
def theirs(proxy: FaultProxy) -> Iterator[KazooClient]:
    """A client as its owner builds it, with nothing but our handler; not started."""
    client = KazooClient(proxy.hosts, handler=KazooHandler(), timeout=1.5)
    yield client
    client.stop()
    client.close()


def test_another_client_is_refused(zookeeper: ZooKeeperServer) -> None:
    """The message has the line that builds one which is not."""
    for client in (KazooClient(zookeeper.hosts), object()):
        with pytest.raises(ConfigurationError, match=HOW):
            Coordinator.adopt(client)


def test_adopted_when_connected(theirs: KazooClient) -> None:
    """Its present link and session are told as if they had just been made; all works on them."""
    theirs.start()
    client_id = theirs.client_id
    zk = Coordinator.adopt(theirs)
    record, path = EventRecord(zk), new_place()
    with zk:
        assert zk.kazoo is theirs
        assert zk.session.session_id == client_id[0]
        assert zk.session.epoch == 1
        zk.ephemeral(path, b"here")
        assert zk.watch(path).value == b"here"
        assert theirs.get(path)[1].ephemeralOwner == client_id[0]
    assert story(record.rest()) == [
        "connection.opened",
        "session.established",
        "ephemeral.created",
        "ephemeral.removed",
        "session.closed",
    ]
    assert theirs.connected
    assert theirs.client_id == client_id


def test_adopted_before_it_is_started(theirs: KazooClient) -> None:
    """It is its owner who starts it."""
    zk = Coordinator.adopt(theirs, start_timeout=10.0)
    record = EventRecord(zk)
    started = in_thread(zk.start)
    assert not record.quiet(0.1)
    theirs.start()
    assert started() is zk
    assert story(record.until("session.established")) == ["connection.opened", "session.established"]
    zk.close()
    assert theirs.connected


def test_nobody_starts_it(theirs: KazooClient) -> None:
    """The error says whose task that is; the client may be adopted again."""
    with pytest.raises(StartError, match="started by its owner"):
        Coordinator.adopt(theirs, start_timeout=0.1).start()
    theirs.start()
    with Coordinator.adopt(theirs) as zk:
        assert zk.exists("/")


def test_one_coordinator_for_each_client(theirs: KazooClient) -> None:
    """A second adoption raises, and one of what a coordinator has built itself; after a close it does not."""
    theirs.start()
    with Coordinator.adopt(theirs) as zk:
        for client in (theirs, zk.kazoo):
            with pytest.raises(ConfigurationError, match="already"):
                Coordinator.adopt(client)
    with Coordinator.adopt(theirs) as zk:
        assert zk.session.epoch == 1
    never = Coordinator.adopt(theirs)
    with pytest.raises(ConfigurationError, match="already"):
        Coordinator.adopt(theirs)
    never.close()
    Coordinator.adopt(theirs).close()


def test_what_a_coordinator_has_built_is_refused(zookeeper: ZooKeeperServer) -> None:
    """Its client is its own."""
    with Coordinator(zookeeper.hosts) as zk, pytest.raises(ConfigurationError, match="already"):
        Coordinator.adopt(zk.kazoo)


def test_closing_leaves_nothing_of_ours(theirs: KazooClient, zookeeper: ZooKeeperServer) -> None:
    """Ours is deleted and unwatched within 2 s, at the server, too; his stays, and his client works on."""
    theirs.start()
    session_id, _ = theirs.client_id
    base, fired = new_place(), queue.SimpleQueue[Any]()
    theirs.create(f"{base}/his", b"", ephemeral=True, makepath=True)
    theirs.get(f"{base}/his", watch=fired.put)
    listeners = set(theirs.state_listeners)
    zk = Coordinator.adopt(theirs).start()
    for number in range(100):
        zk.ephemeral(f"{base}/ours-{number}", wait=number == 99)
    zk.watch(f"{base}/his")
    zk.watch(f"{base}/absent")
    zk.watch_children(base)
    began = time.monotonic()
    zk.close()
    assert time.monotonic() - began < 2.0
    assert ephemerals(zookeeper)[session_id] == {f"{base}/his"}
    assert {path for path, owners in watches(zookeeper).items() if session_id in owners} == {f"{base}/his"}
    assert theirs.state_listeners == listeners
    assert not [name for name in vars(theirs._connection) if name == "_expand_client_hosts"]
    theirs.set(f"{base}/his", b"2")
    assert fired.get(timeout=10).path == f"{base}/his"
    assert session_id in session_ids(zookeeper)


@pytest.mark.parametrize("adopted_at", ["connected", "stopped"])
def test_an_expiry_is_told_and_recovered_from(
    theirs: KazooClient,
    proxy: FaultProxy,
    zookeeper: ZooKeeperServer,
    observer: KazooClient,
    adopted_at: str,
) -> None:
    """As of any other session: ephemerals and views are back, his own watches and calls work alongside."""
    base, fired = new_place(), queue.SimpleQueue[Any]()
    observer.create(f"{base}/config", b"one", makepath=True)
    zk = Coordinator.adopt(theirs, start_timeout=0)
    if adopted_at == "stopped":
        zk.start()
    theirs.start()
    record = EventRecord(zk)
    zk.start()
    record.until("session.established")
    worker = zk.ephemeral(f"{base}/w")
    config = zk.watch(f"{base}/config")
    record.until("ephemeral.created")
    before = zk.session.session_id
    expire_behind(proxy, zk, zookeeper)
    told = record.until("recovery.completed")
    assert story(told) == [
        "connection.closed",
        "session.suspended",
        "session.expired",
        "connection.opened",
        "session.established",
        "recovery.started",
        "ephemeral.recreated",
        "recovery.completed",
    ]
    assert zk.session.session_id == theirs.client_id[0] != before
    assert worker.present
    assert owner(observer, worker.path) == theirs.client_id[0]
    theirs.get(f"{base}/config", watch=fired.put)
    observer.set(f"{base}/config", b"two")
    assert record.until("znode.changed")
    assert config.value == b"two"
    assert fired.get(timeout=10).type == "CHANGED"
    zk.close()
    assert theirs.connected


def test_a_cut_is_survived(theirs: KazooClient, proxy: FaultProxy) -> None:
    """Adopted in an outage and in none: the same session goes on, with what was kept."""
    theirs.start()
    zk = Coordinator.adopt(theirs, start_timeout=0)
    proxy.refuse = True
    proxy.cut()
    eventually(lambda: not theirs.connected)
    record = EventRecord(zk)
    zk.start()
    proxy.refuse = False
    assert story(record.until("session.established")) == ["connection.opened", "session.established"]
    worker = zk.ephemeral(new_place())
    record.until("ephemeral.created")
    proxy.cut()
    assert story(record.until("session.resumed")) == [
        "connection.closed",
        "session.suspended",
        "connection.opened",
        "session.resumed",
    ]
    assert worker.present
    zk.close()
    assert theirs.connected


def test_adopted_in_the_moment_of_the_connection(
    theirs: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kazoo says connected before it tells its listeners: a link both seen and heard of is one."""
    zk = Coordinator.adopt(theirs, start_timeout=0)
    record = EventRecord(zk)
    live, begun = theirs._live.set, threading.Event()

    def set_and_adopt() -> None:
        live()
        zk.start()
        begun.set()

    monkeypatch.setattr(theirs._live, "set", set_and_adopt)
    theirs.start()
    assert begun.wait(10)
    record.until("session.established")
    zk.exists("/")  # behind the look at the present link
    zk.close()
    record.rest()
    assert story(record.events) == ["connection.opened", "session.established", "session.closed"]


def test_a_link_that_dies_while_it_is_looked_at(theirs: KazooClient, proxy: FaultProxy) -> None:
    """It is not told: nobody has heard of it, and nobody need hear of its end."""
    theirs.start()
    proxy.blackhole = True
    zk = Coordinator.adopt(theirs, start_timeout=0)
    record = EventRecord(zk)
    zk.start()
    proxy.cut()
    eventually(lambda: not theirs.connected)
    proxy.blackhole = False
    assert story(record.until("session.established")) == ["connection.opened", "session.established"]
    zk.close()


def test_the_present_link_is_told_where_states_change(theirs: KazooClient) -> None:
    """In kazoo's connection thread: from any other, its end might be told before it."""
    theirs.start()
    adopted, told = Adopted(theirs), queue.SimpleQueue[str]()
    adopted.join(Unheard(), lambda _: None, lambda: told.put(threading.current_thread().name))
    assert told.get(timeout=10) == "coordinator-kazoo-connection"
    adopted.leave()


def test_adoption_in_a_storm(theirs: KazooClient, proxy: FaultProxy) -> None:
    """However the link comes and goes in the moment of adoption, its state is told in order."""
    theirs.start()
    path = new_place()
    over = threading.Event()

    def storm() -> None:
        while not over.wait(0.003):
            proxy.cut()

    thread = threading.Thread(target=storm)
    for _ in range(30):
        eventually(lambda: theirs.connected)
        over.clear()
        thread = threading.Thread(target=storm)
        thread.start()
        zk = Coordinator.adopt(theirs, start_timeout=0)
        record = EventRecord(zk)
        zk.start()
        time.sleep(0.02)  # of the storm
        over.set()
        thread.join()
        zk.create(path, ephemeral=True)
        zk.delete(path)
        eventually(lambda: zk.session.phase == "connected")  # noqa: B023 -- called at once
        zk.close()
        links = [event.kind for event in record.rest() if event.kind.startswith("connection.")]
        links = [kind for kind in links if kind != "connection.failed"]
        assert links == ["connection.opened", "connection.closed"] * (len(links) // 2) + ["connection.opened"]


def test_closed_while_suspended(theirs: KazooClient, proxy: FaultProxy, observer: KazooClient) -> None:
    """It waits for a link, but not for ever; what it could not remove it tells."""
    theirs.start()
    path = new_place()
    zk = Coordinator.adopt(theirs).start()
    record = EventRecord(zk)
    zk.ephemeral(path)
    proxy.refuse = True
    proxy.cut()
    record.until("session.suspended")
    began = time.monotonic()
    zk.close()
    assert time.monotonic() - began < 2.0
    told = record.rest()
    assert story(told)[-2:] == ["ephemeral.failed", "session.closed"]
    assert told[-2].next_try_in is None
    proxy.refuse = False


def test_closed_while_the_link_comes_back(
    theirs: KazooClient, proxy: FaultProxy, observer: KazooClient
) -> None:
    """With the next link what was kept is withdrawn."""
    client = theirs
    client.start()
    path = new_place()
    zk = Coordinator.adopt(client).start()
    record = EventRecord(zk)
    zk.ephemeral(path)
    proxy.refuse = True
    proxy.cut()
    record.until("session.suspended")
    closed = in_thread(zk.close)
    record.quiet(0.1)
    proxy.refuse = False
    closed()
    assert story(record.rest())[-3:] == ["session.resumed", "ephemeral.removed", "session.closed"]
    assert observer.exists(path) is None


@pytest.mark.parametrize("state", ["connected", "suspended"])
def test_its_owner_stops_it(theirs: KazooClient, proxy: FaultProxy, state: str) -> None:
    """That is the end, with a reason of its own; once started again it may be adopted again."""
    theirs.start()
    zk = Coordinator.adopt(theirs).start()
    record = EventRecord(zk)
    if state == "suspended":
        proxy.refuse = True
        proxy.cut()
        record.until("session.suspended")
    waiting = in_thread(lambda: zk.get("/absent-" + "x" * 10, timeout=20)) if state == "suspended" else None
    theirs.stop()
    closed = record.rest()[-1]
    assert (closed.kind, closed.reason) == ("session.closed", "stopped")
    if waiting is not None:
        with pytest.raises(ClosedError, match="stopped by its owner"):
            waiting()
    with pytest.raises(ClosedError):
        zk.get("/")
    zk.close()
    proxy.refuse = False
    theirs.start()
    with Coordinator.adopt(theirs) as again:
        assert again.session.epoch == 1


def test_its_thread_ends_by_itself(proxy: FaultProxy) -> None:
    """Its own retries are spent: it is not ours to replace."""
    handler = KazooHandler()
    retry = {"max_tries": 3, "delay": 0.01, "sleep_func": handler.sleep_func}
    client = KazooClient(proxy.hosts, handler=handler, timeout=1.5, connection_retry=retry)
    client.start()
    zk = Coordinator.adopt(client).start()
    record = EventRecord(zk)
    proxy.refuse = True
    proxy.cut()
    closed = record.rest()[-1]
    assert (closed.kind, closed.reason) == ("session.closed", "gave_up")
    assert zk.kazoo is client
    zk.close()
    client.stop()
    client.close()


def test_an_outage_with_kazoos_own_retries(theirs: KazooClient, proxy: FaultProxy) -> None:
    """kazoo cuts its ever longer pauses into slices: each round is told once, and with its own pause."""
    theirs.start()
    with Coordinator.adopt(theirs) as zk:
        record = EventRecord(zk)
        proxy.refuse = True
        proxy.cut()
        failed = [record.until("connection.failed")[-1] for _ in range(10)]
        assert {(one.server, one.cause) for one in failed} == {(proxy.hosts, "refused")}
        assert all(one.next_try_in is not None and one.next_try_in <= 1.0 for one in failed)
        proxy.refuse = False
        record.until("connection.opened")


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """With kazoo's own retries, too, such a round is told once, as what it is."""
    client = KazooClient("zk.invalid:2181", handler=KazooHandler())
    zk = Coordinator.adopt(client, start_timeout=0)
    record = EventRecord(zk)
    zk.start()
    looked_up = []
    real = socket.getaddrinfo

    def counted(host: str, *rest: Any, **options: Any) -> Any:
        if rest[1:2] == (0,) and host == "zk.invalid":
            looked_up.append(host)  # kazoo's own, once for each round
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    client.start_async()
    told = [record.until("connection.failed")[-1] for _ in range(4)]
    assert {one.cause for one in told} == {"dns"}
    assert abs(len(looked_up) - len(told)) <= 1
    client.stop()
    assert record.rest()[-1].reason == "stopped"
    client.close()


def test_chroot_and_hosts_are_the_clients(zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """Paths are below the chroot of the client."""
    place = new_place()
    observer.create(place)
    client = KazooClient(zookeeper.hosts + place, handler=KazooHandler())
    client.start()
    with Coordinator.adopt(client, operation_timeout=3.0) as zk:
        assert zk.settings.chroot == place
        assert zk.settings.operation_timeout == 3.0
        zk.create("/inside")
        assert observer.get_children(place) == ["inside"]
    client.stop()
    client.close()


def test_used_by_others_at_the_same_time(theirs: KazooClient, zookeeper: ZooKeeperServer) -> None:
    """Its owner's calls and listeners are served as before."""
    states: list[str] = []
    theirs.add_listener(states.append)
    theirs.start()
    with Coordinator.adopt(theirs) as zk, observing(zookeeper.hosts) as other:
        base = theirs.create(new_place())
        for number in range(50):
            theirs.create(f"{base}/{number}")
            zk.set(f"{base}/{number}", b"x")
        assert len(other.get_children(base)) == 50
        assert isinstance(zk.events(SessionEvent).next(5), SessionEvent)
    assert states == ["CONNECTED"]
