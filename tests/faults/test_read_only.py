"""Without a quorum: a server that only reads, and the way back to one that writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator import Coordinator, OperationTimeoutError, ReadOnlyError
from coordinator.testing import EventRecord, FaultProxy, ZooKeeperEnsemble, ZooKeeperServer, eventually
from tests.support import new_place, story

pytestmark = pytest.mark.timeout(120)
DOWN = ["connection.closed", "session.suspended"]
NEXT = [
    "session.expired",
    "connection.opened",
    "session.established",
    "recovery.started",
    "recovery.completed",
]


@pytest.fixture(scope="module")
def three() -> Iterator[ZooKeeperEnsemble]:
    """Servers that go on reading without a quorum, to sessions of their own."""
    config = {"localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"}
    properties = {"readonlymode.enabled": "true"}
    with ZooKeeperEnsemble(3, tick=0.1, config=config, properties=properties) as ensemble:
        yield ensemble


def without_chance(events: list[object]) -> list[str]:
    """The story, without what is up to chance.

    A server that is about to lose its quorum, or has just got one, may take the session for a moment; and the
    read-only mode begins before or after the session has lapsed.
    """
    kinds = [kind for kind in story(events) if kind != "session.lapsed"]
    moment = [*DOWN, "connection.opened", "session.resumed"]
    while kinds[: len(moment)] == moment:
        del kinds[: len(moment)]
    return kinds


@pytest.fixture
def quorum(three: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    """All of them serve, before and after."""
    yield three
    for node in three.nodes:
        node.start()
    three.leader()


def test_the_quorum_is_lost_and_returns(quorum: ZooKeeperEnsemble) -> None:
    """A read-only session in between: reads work, writes are refused, ephemerals wait for the next."""
    place = new_place()
    left = quorum.nodes[0]
    with Coordinator(quorum.hosts, read_only=True, session_timeout=5.0, operation_timeout=20.0) as zk:
        zk.create(f"{place}/config", b"one", parents=True)
        view = zk.watch(f"{place}/config")
        record = EventRecord(zk)
        (first,) = record.until("session.established")
        assert not first.read_only
        for node in quorum.nodes[1:]:
            node.kill()
        established = first
        while not established.read_only:  # between the two kills there may be a quorum for a moment
            told = record.until("session.established", "recovery.completed")
            assert without_chance(told) == [*DOWN, *NEXT]
            established = next(event for event in told if event.kind == "session.established")
        assert established.server == left.hosts
        assert established.session_id not in (0, first.session_id)
        assert zk.session.read_only

        assert zk.get(f"{place}/config").value == view.value == b"one"
        assert zk.watch(f"{place}/config").value == b"one"
        for write in (
            lambda: zk.create(f"{place}/new"),
            lambda: zk.create(f"{place}/new", ephemeral=True),
            lambda: zk.set(f"{place}/config", b"two"),
            lambda: zk.delete(f"{place}/config"),
            lambda: zk.transaction().set(f"{place}/config", b"two").commit(),
        ):
            with pytest.raises(ReadOnlyError) as refused:
                write()
            assert (refused.value.retryable, refused.value.ambiguous) == (True, False)
        worker = zk.ephemeral(f"{place}/w", b"here", wait=False)
        with pytest.raises(OperationTimeoutError) as late:
            zk.ephemeral(f"{place}/never", timeout=0.2)
        assert not late.value.ambiguous
        assert story(record.quiet(0.5)) == []

        quorum.nodes[1].start()
        told = record.until("session.established", "recovery.completed", "ephemeral.created")
        kinds = without_chance(told)
        assert kinds[: len(DOWN) + 3] == [*DOWN, *NEXT[:3]]
        assert [event.read_only for event in told if event.kind == "session.established"] == [False]
        assert zk.session.server in (quorum.nodes[0].hosts, quorum.nodes[1].hosts)
        zk.set(f"{place}/config", b"two")
        eventually(lambda: view.value == b"two")
        assert zk.exists(f"{place}/never") is None
        stat = zk.exists(worker.path)
        assert stat is not None
        assert stat.ephemeral_owner == zk.session.session_id


def test_a_session_with_ephemerals_waits_for_the_quorum(quorum: ZooKeeperEnsemble) -> None:
    """A server that only reads refuses it, as others know of it; it is not given up, and nothing is lost."""
    place = new_place()
    with Coordinator(quorum.hosts, read_only=True, session_timeout=3.0) as zk:
        worker = zk.ephemeral(f"{place}/w")
        session_id, czxid = zk.session.session_id, worker.czxid
        record = EventRecord(zk)
        record.until("session.established")
        for node in quorum.nodes[1:]:
            node.kill()
        record.until("session.lapsed")
        with Coordinator(quorum.hosts, read_only=True, start_timeout=30.0) as reader:
            assert reader.session.read_only
            assert reader.exists(worker.path) is not None
        quorum.nodes[1].start()
        told = record.until("session.resumed")
        assert "session.expired" not in story(told)
        assert zk.session.session_id == session_id
        assert (worker.present, worker.czxid) == (True, czxid)


def test_a_server_that_writes_is_found_wherever_it_is_listed(
    quorum: ZooKeeperEnsemble, zookeeper: ZooKeeperServer, proxy: FaultProxy
) -> None:
    """The link is left for it though it comes last in the list; kazoo would ask the first one for ever."""
    for node in quorum.nodes[1:]:
        node.kill()
    lonely = quorum.nodes[0]
    lonely.wipe()  # a client that has seen more than the other server has would be refused there
    proxy.refuse = True
    hosts = f"{lonely.hosts},127.0.0.1:1,{proxy.hosts}"
    with Coordinator(hosts, read_only=True, session_timeout=10.0, start_timeout=30.0) as zk:
        record = EventRecord(zk)
        assert record.until("session.established")[-1].read_only
        assert story(record.quiet(1.0)) == []
        proxy.refuse = False
        told = record.until("session.established")
        assert story(told) == [*DOWN, *NEXT[:3]]
        assert [event.kind for event in told[:3]] == [*DOWN, "session.expired"]  # by the one that was found
        while told[-1].read_only:  # the next session may begin where the last one was, and move again
            told = record.until("session.established")
        assert told[-1].server == proxy.hosts
        zk.create(new_place())


def test_without_read_only_there_is_no_session(quorum: ZooKeeperEnsemble) -> None:
    """Who did not ask for old data gets none; the first session comes with the quorum."""
    for node in quorum.nodes[1:]:
        node.kill()
    left = quorum.nodes[0].hosts
    with (
        Coordinator(left, read_only=True, start_timeout=30.0) as reader,
        Coordinator(left, start_timeout=0, session_timeout=5.0) as zk,
    ):
        assert reader.session.read_only
        record = EventRecord(zk)
        assert "session.established" not in story(record.quiet(1.0))
        quorum.nodes[1].start()
        assert not record.until("session.established")[-1].read_only
