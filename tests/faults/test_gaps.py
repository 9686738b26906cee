"""What was changed while no watch stood, and what becomes of watches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kazoo.client import KazooClient
from pydantic import BaseModel

from coordinator import (
    ChildrenChanged,
    Coordinator,
    PayloadError,
    SessionResumed,
    SessionSuspended,
    ZnodeChanged,
    ZnodeCreated,
    ZnodeDeleted,
    ZnodeEvent,
    ZnodeUnreadable,
)
from coordinator.testing import EventRecord, FaultProxy, ZooKeeperServer, eventually, watches
from tests.faces import Face
from tests.support import in_thread, new_place


@pytest.fixture
def zk(face: Face, proxy: FaultProxy) -> Iterator[Coordinator]:
    with face(proxy.hosts, session_timeout=10.0) as started:
        yield started


@contextmanager
def gap(zk: Coordinator, proxy: FaultProxy) -> Iterator[None]:
    """A time in which the link is down and no watch stands; the session survives it."""
    record = EventRecord(zk, SessionSuspended, SessionResumed)
    proxy.refuse = True
    proxy.cut()
    record.until("session.suspended")
    yield
    proxy.refuse = False
    record.until("session.resumed")
    record.close()
    # Views are read again before anything that is asked later; an absent one asks twice.
    for _ in range(2):
        zk.exists("/")


def test_recreated_with_the_same_version(zk: Coordinator, proxy: FaultProxy, observer: KazooClient) -> None:
    """Deleted and created anew in the gap, version 0 before and after: both are told."""
    path = new_place()
    observer.create(path, b"old")
    view = zk.watch(path)
    record = EventRecord(zk, ZnodeEvent)
    with gap(zk, proxy):
        observer.delete(path)
        observer.create(path, b"new")
    told = record.until("znode.created")
    assert [(type(event), event.after_gap) for event in told] == [(ZnodeDeleted, True), (ZnodeCreated, True)]
    assert told[-1].version == 0
    assert view.value == b"new"


def test_child_that_went_and_came_back(zk: Coordinator, proxy: FaultProxy, observer: KazooClient) -> None:
    """The names are the same, yet the set was changed: told, with nothing added or removed."""
    base = new_place()
    observer.create(f"{base}/child", makepath=True)
    zk.watch_children(base)
    record = EventRecord(zk, ChildrenChanged)
    with gap(zk, proxy):
        observer.delete(f"{base}/child")
        observer.create(f"{base}/child")
    (told,) = record.until("children.changed")
    assert (told.added, told.removed, told.after_gap) == ((), (), True)


def test_parent_recreated(zk: Coordinator, proxy: FaultProxy, observer: KazooClient) -> None:
    """A parent made anew has lost all its children, also those whose names came back."""
    base = new_place()
    observer.create(f"{base}/a", makepath=True)
    view = zk.watch_children(base)
    record = EventRecord(zk, ChildrenChanged)
    with gap(zk, proxy):
        observer.delete(base, recursive=True)
        observer.create(f"{base}/a", makepath=True)
        observer.create(f"{base}/b")
    (told,) = record.until("children.changed")
    assert (told.added, told.removed) == (("a", "b"), ("a",))
    assert view.children == ("a", "b")


def test_created_in_the_gap(zk: Coordinator, proxy: FaultProxy, observer: KazooClient) -> None:
    """A view of a path that does not exist waits for it, over gaps too."""
    path = new_place()
    view, kids = zk.watch(path), zk.watch_children(path)
    assert (view.exists, view.value, kids.exists, kids.children) == (False, None, False, ())
    record = EventRecord(zk, ZnodeEvent)
    with gap(zk, proxy):
        observer.create(f"{path}/kid", makepath=True)
        observer.set(path, b"x")
    told = record.until("znode.created", "children.changed")
    assert len(told) == 2
    assert all(event.after_gap for event in told)
    assert (view.value, kids.children) == (b"x", ("kid",))


def test_unchanged_is_not_told(zk: Coordinator, proxy: FaultProxy, observer: KazooClient) -> None:
    """Three gaps without a change tell nothing; the change after them is told once."""
    path = new_place()
    observer.create(path, b"x")
    zk.watch(path)
    zk.watch_children(path)
    record = EventRecord(zk, ZnodeEvent)
    for _ in range(3):
        with gap(zk, proxy):
            pass
    observer.set(path, b"y")
    (told,) = record.until("znode.changed")
    assert (told.version, told.after_gap) == (1, False)
    observer.create(f"{path}/kid")
    assert [type(event) for event in record.until("children.changed")] == [ChildrenChanged]


def test_many_changes_none_twice_none_backwards(
    zk: Coordinator, proxy: FaultProxy, observer: KazooClient
) -> None:
    """Over live changes and gaps: versions only ascend, the last one is told, none twice."""
    path = new_place()
    observer.create(path, b"0")
    view = zk.watch(path)
    record = EventRecord(zk, ZnodeChanged)
    for number in range(1, 6):
        for _ in range(20):
            observer.set(path, b"%d" % number)
        with gap(zk, proxy):
            observer.set(path, b"%d" % -number)
    last = observer.exists(path).version
    eventually(lambda: view.stat is not None and view.stat.version == last)
    record.quiet(0.05)
    versions = [event.version for event in record.events]
    assert versions == sorted(set(versions))
    assert versions[-1] == last
    assert view.value == b"-5"


def test_watches_are_freed(zk: Coordinator, zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """Closing a view frees its watch on the server, but none that somebody else has there."""
    path = new_place()
    observer.create(path)
    mine = zk.session.session_id

    def watched() -> bool:
        return mine in watches(zookeeper).get(path, set())

    first, second, kids = zk.watch(path), zk.watch(path), zk.watch_children(path)
    assert watched()
    kids.close()
    first.close()
    assert watched()
    observer.set(path, b"x")
    eventually(lambda: second.value == b"x")
    second.close()
    eventually(lambda: not watched(), message="the last view was closed")

    seen = []
    view = zk.watch(path)
    zk.kazoo.get(path, watch=seen.append)
    view.close()
    assert watched()
    observer.set(path, b"y")
    eventually(lambda: seen, message="the user's own watch still fires")


def test_views_closed_at_the_same_time_free_their_watch(
    zk: Coordinator, zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """Neither takes the other, who is leaving too, for somebody who stays."""
    mine = zk.session.session_id
    for _ in range(10):
        path = new_place()
        views = [zk.watch(path), zk.watch(path), zk.watch_children(path)]
        closing = [in_thread(view.close) for view in views]
        for wait in closing:
            wait()
        assert mine not in watches(zookeeper).get(path, set())


def test_closing_a_view_spares_a_read_of_the_user_that_is_under_way(
    zk: Coordinator, observer: KazooClient
) -> None:
    """kazoo knows of its watch only when the answer is there."""
    for _ in range(10):
        path = new_place()
        observer.create(path)
        view = zk.watch(path)
        seen: list[object] = []
        reading = zk.kazoo.get_async(path, watch=seen.append)
        view.close()
        reading.get(timeout=5)
        observer.set(path, b"x")
        eventually(lambda seen=seen: seen, message="the user's watch fires")


def test_closing_a_view_does_not_deafen_another(zk: Coordinator, observer: KazooClient) -> None:
    """One is closed while the other is about to arm its watch on the same path."""
    for _ in range(20):
        path = new_place()
        observer.create(path, b"0")
        first = zk.watch(path)
        second = zk.watch(path, wait=False)
        first.close()
        eventually(lambda view=second: view.exists)
        observer.set(path, b"1")
        eventually(lambda view=second: view.value == b"1", message="the other view hears of it")
        second.close()


def test_closing_a_view_of_a_busy_znode(zk: Coordinator, observer: KazooClient) -> None:
    """A watch that fires while it is being freed is no error."""
    path = new_place()
    observer.create(path)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            observer.set(path, b"x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            zk.watch(path).close()
    finally:
        stop.set()
        writer.join()
    assert path not in zk.kazoo._data_watchers


def test_views_leave_no_closures_behind(zk: Coordinator, observer: KazooClient) -> None:
    """A view that reads a hundred times has one entry in kazoo; a closed one has none."""
    path = new_place()
    observer.create(path)
    view = zk.watch(path)
    for number in range(100):
        observer.set(path, b"%d" % number)
    eventually(lambda: view.value == b"99")
    registry = zk.kazoo._data_watchers
    assert len(registry[path]) == 1
    view.close()
    assert path not in registry


class Config(BaseModel):
    port: int


def test_unreadable_payload(zk: Coordinator, observer: KazooClient) -> None:
    """Data that the model rejects is told, and never shown; the view goes on."""
    path = new_place()
    observer.create(path, b'{"port": 1}')
    view = zk.watch(path, model=Config)
    assert view.value == Config(port=1)
    record = EventRecord(zk, ZnodeEvent)
    observer.set(path, b'{"port": "planted-secret"}')
    (told,) = record.until("znode.unreadable")
    assert isinstance(told, ZnodeUnreadable)
    assert path in told.error
    assert "planted-secret" not in told.model_dump_json()
    assert view.value == Config(port=1)
    assert isinstance(view.error, PayloadError)
    assert view.znode is None
    with pytest.raises(PayloadError, match=path) as failed:
        zk.get(path, model=Config)
    assert "planted-secret" not in str(failed.value)
    observer.set(path, b'{"port": 2}')
    record.until("znode.changed")
    assert view.value == Config(port=2)
    assert view.error is None


def test_two_views_tell_once(zk: Coordinator, proxy: FaultProxy, observer: KazooClient) -> None:
    """Whoever else looks at the same znode, a change is told once; also by who came later."""
    path = new_place()
    observer.create(path, b"0")
    views = [zk.watch(path), zk.watch_children(path), zk.watch(path, model=int), zk.watch_children(path)]
    record = EventRecord(zk, ZnodeEvent)
    observer.set(path, b"1")
    record.until("znode.changed")
    with gap(zk, proxy):
        observer.set(path, b"2")
        observer.create(f"{path}/kid")
    record.until("znode.changed", "children.changed")
    views[0].close()
    views[1].close()
    observer.set(path, b"3")
    observer.delete(f"{path}/kid")
    record.until("znode.changed", "children.changed")
    eventually(lambda: views[2].value == 3 and views[3].children == ())
    assert record.quiet(0.05) == []
    assert len(record.events) == 5


def test_changes_leaves_out_what_cannot_be_read(zk: Coordinator, observer: KazooClient) -> None:
    """Garbage is not told as an absent znode."""
    path = new_place()
    observer.create(path, b"1")
    view = zk.watch(path, model=int)
    changes = view.changes()
    assert next(changes).value == 1
    observer.set(path, b"garbage")
    eventually(lambda: view.error)
    observer.set(path, b"2")
    assert next(changes).value == 2


def test_unreadable_from_the_beginning(zk: Coordinator, observer: KazooClient) -> None:
    """That it was created, recreated and deleted is told, whatever is in it."""
    path = new_place()
    zk.watch(path, model=Config)
    record = EventRecord(zk, ZnodeEvent)
    observer.create(path, b"garbage")
    record.until("znode.unreadable")
    observer.set(path, b'{"port": 1}')
    record.until("znode.changed")
    observer.set(path, b"garbage again")
    record.until("znode.unreadable")
    observer.delete(path)
    record.until("znode.deleted")
    assert [event.kind.removeprefix("znode.") for event in record.events] == [
        "created",
        "unreadable",
        "changed",
        "unreadable",
        "deleted",
    ]


def test_changes_yields_the_latest(zk: Coordinator, observer: KazooClient) -> None:
    """changes() begins with the present, may skip, never misses the last, ends with the view."""
    path = new_place()
    view = zk.watch(path)
    changes = view.changes()
    assert next(changes) is None
    observer.create(path, b"a")
    znode = next(changes)
    assert znode is not None
    assert znode.value == b"a"
    for number in range(10):
        observer.set(path, b"%d" % number)
    eventually(lambda: view.value == b"9")
    latest = next(changes)
    assert latest is not None
    assert latest.value == b"9"
    view.close()
    assert list(changes) == []
