"""Whose ephemeral it is, and what is done about it (rule R12), as another client sees it."""

from __future__ import annotations

import pytest
from kazoo.client import KazooClient
from kazoo.security import ACL as KazooACL
from kazoo.security import Id

from coordinator import (
    ACL,
    ConfigurationError,
    ConnectionLossError,
    DuplicateEphemeralError,
    EphemeralConflict,
    EphemeralConflictError,
    EphemeralCreated,
    EphemeralEvent,
    EphemeralFailed,
    EphemeralRecreated,
    InvalidACLError,
    NoAuthError,
    NodeExistsError,
    OperationTimeoutError,
    SessionResumed,
)
from coordinator.models import hex_id
from coordinator.testing import EventRecord, FaultProxy, ZooKeeperServer, eventually, expire, session_ids
from tests.faces import Face
from tests.faults.conftest import Household
from tests.support import in_thread, new_place, owner, story

THREAD_DIES = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@THREAD_DIES
def test_node_of_my_own_living_former_session_is_replaced(
    household: Household, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """A new session that nobody asked for: the old one still owns the znodes, and loses them."""
    old = household.zk.session.session_id
    port = household.zk._engine._port
    port._client_id = None  # as a server does that silently grants a new session

    def kill(_state: str) -> None:
        raise SystemExit

    household.zk.kazoo.add_listener(kill)
    proxy.cut()
    told = household.record.until("recovery.completed")
    assert told[-1].conflicts == told[-1].failed == 0
    assert story(told).count("ephemeral.recreated") == 3
    assert old in session_ids(zookeeper)  # it lives on, with nothing in its hands
    household.assert_back(observer)


def test_foreign_owner_is_not_touched_and_succeeded(
    face: Face, zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """A foreign live owner is reported and left alone; when it goes, the node is ours."""
    path = new_place()
    observer.create(path, b"theirs", ephemeral=True)
    with face(zookeeper.hosts) as zk:
        record = EventRecord(zk, EphemeralEvent)
        mine = zk.ephemeral(path, b"mine")
        conflict = record.until("ephemeral.conflict")[-1]
        assert isinstance(conflict, EphemeralConflict)
        assert conflict.owner_session_id == observer.client_id[0]
        assert not mine.present
        assert mine.rival == observer.client_id[0]
        with pytest.raises(OperationTimeoutError, match=f"owned by session {hex_id(mine.rival)}"):
            mine.wait_present(0.05)
        expire(zk.kazoo.client_id, zookeeper.hosts)  # not even a recovery touches it
        eventually(lambda: zk.session.epoch == 2 and zk.session.phase == "connected")
        zk.exists(path)
        assert observer.get(path)[0] == b"theirs"
        observer.delete(path)
        mine.wait_present()
        record.until("ephemeral.created")
        assert observer.get(path)[0] == b"mine"
        assert mine.rival is None
        assert owner(observer, path) == zk.session.session_id
        # One conflict for one foreign node, however often it was looked at.
        assert story(record.events).count("ephemeral.conflict") == 1


def test_conflict_can_be_an_error(face: Face, zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """on_conflict="fail": it raises, says whose it is, and keeps nothing."""
    path = new_place()
    observer.create(path, b"theirs")
    with face(zookeeper.hosts) as zk:
        with pytest.raises(EphemeralConflictError, match=path) as failed:
            zk.ephemeral(path, on_conflict="fail")
        assert failed.value.owner_session_id == 0  # not an ephemeral at all
        observer.delete(path)
        zk.ephemeral(path, on_conflict="fail").close()  # so nothing was kept


def test_deletion_by_somebody_is_healed(household: Household, observer: KazooClient) -> None:
    """Deleted by others: told, and created again under the same session."""
    path = household.paths[1]
    observer.delete(path)
    told = household.record.until("ephemeral.recreated")
    told = [event for event in told if isinstance(event, EphemeralEvent)]
    assert story(told) == ["ephemeral.removed", "ephemeral.recreated"]
    assert told[0].by == "others"
    household.assert_back(observer)


def test_foreign_data_is_set_back(household: Household, observer: KazooClient) -> None:
    """The intent is an ephemeral with this data."""
    path = household.paths[0]
    observer.set(path, b"vandal")
    eventually(lambda: observer.get(path)[0] == b"here")


def test_new_data_outlives_the_session(
    household: Household, zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """What set() gave is what comes back after an expiry."""
    household.workers[0].set(b"newer")
    assert observer.get(household.paths[0])[0] == b"newer"
    expire(household.zk.kazoo.client_id, zookeeper.hosts)
    household.record.until("recovery.completed")
    household.assert_back(observer)
    assert observer.get(household.paths[0])[0] == b"newer"


def test_refused_creation_does_not_spin(
    face: Face, zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """NoAuth, InvalidACL: raised as a first outcome; else told, and tried at most once a second."""
    base = new_place()
    observer.create(base, acl=[KazooACL(1 | 16, Id("world", "anyone"))])
    with face(zookeeper.hosts) as zk:
        with pytest.raises(NoAuthError, match=base):
            zk.ephemeral(f"{base}/w")
        record = EventRecord(zk, EphemeralFailed)
        paths = [f"{base}/w", f"{base}-other"]
        zk.ephemeral(paths[0], wait=False)
        zk.ephemeral(paths[1], acl=[], wait=False)
        while min(len([one for one in record.events if one.path == path]) for path in paths) < 7:
            record.until("ephemeral.failed")
        for path in paths:
            failed = [event for event in record.events if event.path == path]
            assert all(event.next_try_in >= 1 for event in failed[5:])
            assert (failed[6].at - failed[5].at).total_seconds() >= 1
        observer.set_acls(base, [KazooACL(31, Id("world", "anyone"))])


def test_invalid_acl_is_an_error(face: Face, zookeeper: ZooKeeperServer) -> None:
    """An ACL that the server refuses is raised, and nothing is kept."""
    path = new_place()
    with face(zookeeper.hosts) as zk:
        for acl in ([], [ACL("auth", "", "cdrwa")]):
            with pytest.raises(InvalidACLError):
                zk.ephemeral(path, acl=acl)
        zk.ephemeral(path)


def test_closing_deletes_only_what_is_mine(
    face: Face, zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """close() deletes the znode of this session, and not one that somebody put in its place."""
    mine, theirs = new_place(), new_place()
    observer.create(theirs, b"theirs")
    with face(zookeeper.hosts) as zk:
        zk.ephemeral(mine).close()
        assert observer.exists(mine) is None
        zk.ephemeral(theirs).close()
    assert observer.get(theirs)[0] == b"theirs"


def test_one_ephemeral_for_each_path(face: Face, zookeeper: ZooKeeperServer) -> None:
    """A second one on the same path raises, until the first is closed."""
    path = new_place()
    with face(zookeeper.hosts) as zk:
        first = zk.ephemeral(path)
        with pytest.raises(DuplicateEphemeralError, match=path):
            zk.ephemeral(path)
        with pytest.raises(DuplicateEphemeralError, match=path):
            zk.ephemeral(path, wait=False)
        first.close()
        zk.ephemeral(path)


def test_a_refused_timeout_takes_no_path(face: Face, zookeeper: ZooKeeperServer) -> None:
    """What is wrong with an argument is said before anything is begun, or ended."""
    path = new_place()
    with face(zookeeper.hosts) as zk:
        with pytest.raises(ConfigurationError):
            zk.ephemeral(path, timeout=-1)
        worker = zk.ephemeral(path)
        with pytest.raises(ConfigurationError):
            worker.close(timeout=-1)
        worker.close()
        assert zk.exists(path) is None
        zk.ephemeral(path)


def test_intent_whose_answer_was_lost_adopts_its_own(
    face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """Created, answer lost: the owner tells that it is ours, and it is told once."""
    base = new_place()
    observer.create(base)
    with face(proxy.hosts, session_timeout=5.0) as zk:
        record = EventRecord(zk, EphemeralEvent)
        proxy.blackhole_down = True
        worker = zk.ephemeral(f"{base}/w", b"here", wait=False)
        eventually(lambda: observer.exists(f"{base}/w"))
        proxy.reset_all()
        proxy.blackhole_down = False
        worker.wait_present()
        czxid = observer.exists(f"{base}/w").czxid
        worker.set(b"there")  # a full round: whatever was to be told has been
        assert [(type(event), event.czxid) for event in record.until("ephemeral.created")] == [
            (EphemeralCreated, czxid)
        ]
        assert not [event for event in record.quiet(0.05) if isinstance(event, EphemeralRecreated)]


@pytest.mark.parametrize("ephemeral", [True, False])
def test_plain_create_whose_answer_was_lost(
    face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient, *, ephemeral: bool
) -> None:
    """An ephemeral is resolved by its owner; anything else is reported as ambiguous."""
    path = new_place()
    with face(proxy.hosts, session_timeout=5.0) as zk:
        proxy.blackhole_down = True
        record = EventRecord(zk, SessionResumed)
        created = in_thread(lambda: zk.create(path, b"x", ephemeral=ephemeral))
        eventually(lambda: observer.exists(path))
        proxy.reset_all()
        proxy.blackhole_down = False
        record.until("session.resumed")
        if ephemeral:
            assert created() == path
            assert owner(observer, path) == zk.session.session_id
            with pytest.raises(NodeExistsError):
                zk.create(path, ephemeral=True)
        else:
            with pytest.raises(ConnectionLossError, match=path) as lost:
                created()
            assert lost.value.ambiguous
    if not ephemeral:
        observer.delete(path)
