"""close() returns within 2 s in every phase, and leaves nothing behind."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator import ClosedError, Coordinator, SessionEvent, StartError
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    ZooKeeperServer,
    ephemerals,
    eventually,
    expire,
    session_ids,
    watches,
)
from tests.faces import Face
from tests.support import in_thread, new_place

PROMISE = 2.0


@contextmanager
def promised() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < PROMISE


def descriptors() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def no_descriptors_left(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> Iterator[None]:
    """Sockets and pipes of ours; the proxy may need a moment for its own."""
    before = descriptors()
    yield
    proxy.blackhole = False
    proxy.reset_all()
    eventually(lambda: descriptors() <= before, message="every socket is closed", timeout=3)


def test_connected(face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """The session, its ephemerals and its watches are gone from the server at once."""
    path = new_place()
    zk = face(proxy.hosts).start()
    session_id = zk.session.session_id
    zk.ephemeral(path)
    zk.watch(path)
    zk.watch_children(path)
    assert session_id in watches(zookeeper)[path]
    assert ephemerals(zookeeper)[session_id] == {path}
    with promised():
        zk.close()
    assert session_id not in session_ids(zookeeper)
    assert session_id not in ephemerals(zookeeper)
    assert session_id not in watches(zookeeper).get(path, set())
    zk.close()  # twice does nothing
    with pytest.raises(ClosedError):
        zk.get(path)
    with pytest.raises(ClosedError):
        zk.start()


def test_connecting_to_nobody(face: Face, proxy: FaultProxy) -> None:
    """Refused, again and again."""
    proxy.refuse = True
    zk = face(proxy.hosts, start_timeout=0).start()
    record = EventRecord(zk)
    record.until("connection.failed")
    with promised():
        zk.close()
    assert record.rest()[-1].kind == "session.closed"


def test_connecting_to_a_host_that_swallows_everything(face: Face) -> None:
    """The kernel never completes the connection: a full backlog."""
    with socket.socket() as deaf, socket.socket() as filler:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filler.connect(deaf.getsockname())
        port = deaf.getsockname()[1]
        zk = face(f"127.0.0.1:{port}", start_timeout=0, session_timeout=30.0).start()
        with promised():
            zk.close()


def test_in_the_handshake(face: Face, proxy: FaultProxy) -> None:
    """The server accepts the connection and says nothing."""
    proxy.blackhole = True
    zk = face(proxy.hosts, start_timeout=0, session_timeout=30.0).start()
    eventually(lambda: proxy.connections)
    with promised():
        zk.close()


def test_verifying(face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """The server accepted the session, and the link froze before the first round trip."""
    zk = face(proxy.hosts, start_timeout=0, session_timeout=30.0)
    record = EventRecord(zk)
    proxy.latency = 0.15  # the handshake's answer passes; the proof's is still under way
    zk.start()
    record.until("connection.opened")
    assert zk.session.phase == "verifying"
    proxy.blackhole = True
    with promised():
        zk.close()
    assert record.rest()[-1].kind == "session.closed"


def test_frozen(face: Face, proxy: FaultProxy) -> None:
    """Connected, but nothing passes any more, and an operation is on its way."""
    zk = face(proxy.hosts, session_timeout=30.0).start()
    proxy.blackhole = True
    pending = in_thread(lambda: zk.set("/", b""))
    eventually(lambda: zk._engine._kernel._runner._flying)
    with promised():
        zk.close()
    with pytest.raises(ClosedError) as closed:
        pending()
    assert closed.value.ambiguous


def test_lapsed(face: Face, proxy: FaultProxy) -> None:
    """Long after the session can have lived."""
    zk = face(proxy.hosts, session_timeout=0.5).start()
    record = EventRecord(zk)
    proxy.refuse = True
    proxy.cut()
    record.until("session.lapsed")
    with promised():
        zk.close()


def test_in_a_recovery(face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """The session expired a moment ago, and 200 ephemerals are on their way back."""
    base = new_place()
    with face(zookeeper.hosts) as other:
        other.create(base)
    zk = face(proxy.hosts, session_timeout=10.0).start()
    for number in range(200):
        zk.ephemeral(f"{base}/{number}", wait=False)
    zk.exists(base)
    record = EventRecord(zk)
    proxy.latency = 0.01
    expire(zk.kazoo.client_id, zookeeper.hosts)
    record.until("recovery.started")
    with promised():
        zk.close()
    told = record.rest()
    assert told[-1].kind == "session.closed"
    eventually(lambda: not [one for paths in ephemerals(zookeeper).values() for one in paths if base in one])


def test_from_a_handler(zookeeper: ZooKeeperServer) -> None:
    """A handler may close the coordinator that calls it."""
    zk = Coordinator(zookeeper.hosts).start()
    took: list[float] = []

    def handler(_event: object) -> None:
        began = time.monotonic()
        zk.close()
        took.append(time.monotonic() - began)

    thread = zk.on(handler)
    thread.join(5)
    assert took[0] < PROMISE
    assert not thread.alive


def test_with_a_handler_that_does_not_return(zookeeper: ZooKeeperServer) -> None:
    """Neither a handler nor a kazoo callback of the user's can hold close() up."""
    release = threading.Event()
    entered = threading.Semaphore(0)

    def block(_event: object) -> None:
        entered.release()
        release.wait(30)

    zk = Coordinator(zookeeper.hosts).start()
    path = new_place()
    zk.create(path)
    thread = zk.on(block, SessionEvent)
    zk.kazoo.get(path, watch=block)
    zk.set(path, b"x")
    assert entered.acquire(timeout=10)
    assert entered.acquire(timeout=10)
    try:
        with promised():
            zk.close()
    finally:
        release.set()
        thread.join(5)


def test_start_that_fails_closes(face: Face, proxy: FaultProxy) -> None:
    """A start without a server leaves nothing behind, and says what was wrong."""
    proxy.refuse = True
    zk = face(proxy.hosts, start_timeout=0.3)
    record = EventRecord(zk)
    began = time.monotonic()
    with pytest.raises(StartError, match=f"{proxy.hosts}: refused") as failed:
        zk.start()
    assert 0.3 <= time.monotonic() - began < 0.3 + PROMISE
    assert failed.value.cause == "refused"
    closed = record.rest()[-1]
    assert (closed.kind, closed.reason) == ("session.closed", "gave_up")


def test_never_started(face: Face) -> None:
    """Nothing was begun, so there is nothing to wait for."""
    zk = face("127.0.0.1:1")
    zk.on(print)
    stream = zk.events()
    zk.close()
    assert list(stream) == []
    with pytest.raises(ClosedError, match="closed"):
        zk.start()
