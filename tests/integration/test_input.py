"""Bad input and bad servers: what is said, and that nothing was written."""

from __future__ import annotations

import socket

import pytest
from pydantic import BaseModel, field_validator

from coordinator import (
    ACL,
    BadVersionError,
    ClosedError,
    ConfigurationError,
    Coordinator,
    DataTooLargeError,
    InvalidPathError,
    MissingChrootError,
    OperationTimeoutError,
    PayloadError,
    SessionExpired,
    Settings,
    StartError,
)
from coordinator.core.layout import REQUEST_LIMIT
from coordinator.testing import EventRecord, FaultProxy, ZooKeeperServer, eventually
from tests.support import new_place, observing

BAD_PATHS = ["", "relative", "/a//b", "/a/", "/a/../b", "/a/./b", "/a\0b", "/a\x01", b"/bytes", None]


@pytest.fixture
def zk(zookeeper: ZooKeeperServer):
    with Coordinator(zookeeper.hosts) as started:
        yield started


@pytest.mark.parametrize("path", BAD_PATHS)
def test_malformed_path(zk: Coordinator, path: str) -> None:
    """Every call refuses it, before anything is sent."""
    before = zk.kazoo.last_zxid
    for call in (
        lambda: zk.get(path),
        lambda: zk.set(path, b""),
        lambda: zk.create(path),
        lambda: zk.delete(path),
        lambda: zk.exists(path),
        lambda: zk.children(path),
        lambda: zk.ephemeral(path),
        lambda: zk.watch(path),
        lambda: zk.watch_children(path),
        lambda: zk.transaction().create(path),
    ):
        with pytest.raises(InvalidPathError):
            call()
    assert zk.kazoo.last_zxid == before


def test_data_above_the_limit(zk: Coordinator) -> None:
    """Refused before it is sent, naming size and limit; one byte less is accepted by the server."""
    path = new_place()
    zk.create(path)
    overhead = REQUEST_LIMIT - _largest(zk, path)
    assert 0 < overhead < 100
    for call in (
        lambda: zk.create(f"{path}/x", b"x" * (1 << 20)),
        lambda: zk.set(path, b"x" * (1 << 20)),
        lambda: zk.ephemeral(f"{path}/x", b"x" * (1 << 20)),
        lambda: zk.transaction().set(path, b"x" * (1 << 20)).commit(),
    ):
        with pytest.raises(DataTooLargeError, match=f"above the limit of {REQUEST_LIMIT} bytes"):
            call()
    assert zk.session.epoch == 1
    assert zk.stats.connections_closed == 0
    with zk.ephemeral(f"{path}/e", b"small") as worker, pytest.raises(DataTooLargeError):
        worker.set(b"x" * (1 << 20))


def _largest(zk: Coordinator, path: str) -> int:
    """Write the largest data that we let through: the server takes it, and keeps the link."""
    low, high = REQUEST_LIMIT - 200, REQUEST_LIMIT
    while low < high:
        size = (low + high + 1) // 2
        try:
            zk.set(path, b"x" * size)
            low = size
        except DataTooLargeError:
            high = size - 1
    return low


def test_a_transaction_that_was_too_large_can_still_be_given_up(zk: Coordinator) -> None:
    """It was not sent: what it says next is not that it was committed."""
    transaction = zk.transaction().set("/", b"x" * (1 << 20))
    for _ in range(2):
        with pytest.raises(DataTooLargeError):
            transaction.commit()


class Quitting(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def _quit(cls, _value: int) -> int:
        raise SystemExit


def test_a_model_that_raises_anything(zk: Coordinator) -> None:
    """It makes its own view unreadable, and stops nobody else."""
    path = new_place()
    zk.create(path, b'{"x": 1}')
    view = zk.watch(path, model=Quitting)
    assert isinstance(view.error, PayloadError)
    assert zk.get(path).value == b'{"x": 1}'


class Point(BaseModel):
    x: int


def test_values_and_models(zk: Coordinator) -> None:
    """Data is bytes or fits its model, both ways; what does not is named, never shown."""
    path = new_place()
    zk.create(path, Point(x=1))
    assert zk.get(path).value == b'{"x":1}'
    assert zk.get(path, model=Point).value == Point(x=1)
    zk.set(path, {"x": 2}, model=Point)
    assert zk.get(path, model=dict[str, int]).value == {"x": 2}
    for value, model in (("text", None), (3, None), ({"x": "planted-secret"}, Point)):
        with pytest.raises(ConfigurationError) as failed:
            zk.set(path, value, model=model)
        assert "planted-secret" not in str(failed.value)
    zk.set(path, b"planted-secret")
    with pytest.raises(PayloadError, match=path) as unreadable:
        zk.get(path, model=Point)
    assert "planted-secret" not in repr(unreadable.value)
    assert "planted-secret" not in repr(zk.get(path))
    with zk.ephemeral(f"{path}/e", Point(x=1), model=Point) as worker:
        worker.set(Point(x=5))
        assert zk.get(f"{path}/e", model=Point).value.x == 5
        with pytest.raises(ConfigurationError):
            worker.set({"x": "no"})


@pytest.mark.parametrize("asked", [0.05, 1000.0])
def test_timeout_outside_of_the_bounds(zookeeper: ZooKeeperServer, asked: float) -> None:
    """The server grants what it will; what it granted is told."""
    with Coordinator(zookeeper.hosts, session_timeout=asked, operation_timeout=5.0) as zk:
        established = EventRecord(zk).until("session.established")[-1]
        assert established.timeout == zk.session.timeout == (0.2 if asked < 1 else 60.0)


def test_missing_chroot(zookeeper: ZooKeeperServer) -> None:
    """It is named, with what to do; and works once that was done."""
    chroot = new_place()
    with pytest.raises(MissingChrootError, match=f"chroot {chroot} does not exist"):
        Coordinator(zookeeper.hosts + chroot).start()
    with observing(zookeeper.hosts) as observer:
        observer.create(chroot)
        with Coordinator(zookeeper.hosts + chroot) as zk:
            zk.ephemeral("/a/b", b"x")
            view, kids = zk.watch("/a/b"), zk.watch_children("/a")
            assert observer.get(f"{chroot}/a/b")[0] == b"x"
            assert (view.value, kids.children) == (b"x", ("b",))
            assert zk.create("/c-", sequential=True).startswith("/c-")
            observer.create(f"{chroot}/a/c")
            assert kids.wait(2) == ("b", "c")
            view.close()
            kids.close()


def test_connection_refused_and_name_unknown_are_told_apart(proxy: FaultProxy) -> None:
    """In the error of start() and in the events."""
    proxy.refuse = True
    for hosts, cause in ((proxy.hosts, "refused"), ("no-such-host.invalid:2181", "dns")):
        zk = Coordinator(hosts, start_timeout=0.5)
        record = EventRecord(zk)
        with pytest.raises(StartError, match=hosts) as failed:
            zk.start()
        assert failed.value.cause == cause
        causes = {event.cause for event in record.rest() if event.kind == "connection.failed"}
        assert causes == {cause}


def test_one_name_unknown_of_two(zookeeper: ZooKeeperServer) -> None:
    """The server that is there is found, whatever is wrong with the other."""
    with Coordinator(f"no-such-host.invalid:2181,{zookeeper.hosts}") as zk:
        assert zk.session.server == zookeeper.hosts


def test_something_else_listens() -> None:
    """A port that accepts and closes is no server: told as a failed handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        import threading

        listener.settimeout(0.05)
        stop = threading.Event()

        def slam() -> None:
            while not stop.is_set():
                try:
                    listener.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=slam)
        thread.start()
        try:
            with pytest.raises(StartError) as failed:
                Coordinator(f"127.0.0.1:{listener.getsockname()[1]}", start_timeout=0.3).start()
        finally:
            stop.set()
            thread.join()
    assert failed.value.cause == "handshake"


def test_not_started(zookeeper: ZooKeeperServer) -> None:
    """A call before start() says what to do."""
    zk = Coordinator(zookeeper.hosts)
    for call in (lambda: zk.get("/"), lambda: next(zk.events()), lambda: zk.events().next(0.1)):
        with pytest.raises(ClosedError, match="with statement"):
            call()
    seen = []
    zk.on(seen.append)  # who listens before the start misses nothing
    with zk:
        eventually(lambda: seen)


def test_arguments(zk: Coordinator) -> None:
    """Wrong arguments are refused where they are given."""
    before = zk.kazoo.last_zxid
    for call in (
        lambda: zk.get("/", timeout=-1),
        lambda: zk.get("/", timeout=float("nan")),
        lambda: zk.get("/", timeout="a"),
        lambda: zk.watch("/", model=5),
        lambda: zk.events(int),
        lambda: zk.events("session.expired"),
        lambda: zk.on("no callable"),
        lambda: zk.ephemeral("/x", on_conflict="steal"),
        lambda: zk.ephemeral("/x", on_conflict="fail", wait=False),
        lambda: zk.create("/x", acl=["world"]),
        lambda: zk.create("/x", acl=ACL("world", "anyone")),
        lambda: ACL("digest", 3),
        lambda: ACL("digest", "\ud800"),
        lambda: ACL("world", "anyone", "x"),
        lambda: zk.create("/x", ephemeral=1),
        lambda: zk.create("/x", parents="no"),
        lambda: zk.set("/x", b"", version=1 << 31),
        lambda: zk.set("/x", b"", version="1"),
        lambda: zk.set("/x", b"", version=True),
        lambda: zk.delete("/x", version=None),
        lambda: zk.transaction().check("/x", version=1 << 40),
        lambda: zk.delete("/"),
        lambda: zk.ephemeral("/"),
        lambda: zk.events().next("1"),
        lambda: Coordinator(Settings(), session_timeout=1.0),
        lambda: Coordinator("zk1:2181", session_timeout=-1),
    ):
        with pytest.raises(ConfigurationError):
            call()
    assert zk.kazoo.last_zxid == before
    assert zk.stats.connections_closed == 0


def test_a_wait_for_an_event_that_does_not_come(zk: Coordinator) -> None:
    """It ends as every wait does: with an error of ours, that is a TimeoutError, too."""
    stream = zk.events(SessionExpired)
    with pytest.raises(OperationTimeoutError, match="no event within"):
        stream.next(0.05)


def test_a_refused_version_is_named(zk: Coordinator) -> None:
    """What was given is known here; what the znode has, the server does not say."""
    path = new_place()
    zk.create(path)
    with pytest.raises(BadVersionError, match=f"another version than 7: {path}"):
        zk.set(path, b"", version=7)
