"""Every fault of the kit, from both sides: what the client's events said, and what the server did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import (
    ConnectionLossError,
    Coordinator,
    Ephemeral,
    OperationTimeoutError,
    Phase,
    SessionExpiredError,
)
from coordinator.errors import ConfigurationError
from coordinator.testing import (
    EventRecord,
    ExternalZooKeeper,
    Faults,
    ZooKeeperEnsemble,
    ZooKeeperServer,
    ephemerals,
    eventually,
    session_ids,
)
from tests.support import in_thread, new_place, observing, owner, story

TIMEOUT = 1.5
"""Seconds of the session on a single server."""

CLOSED = ["connection.closed", "session.suspended"]
BACK = [*CLOSED, "connection.opened", "session.resumed"]


@dataclass
class Client:
    """A coordinator with one ephemeral, behind faults."""

    zk: Coordinator
    ephemeral: Ephemeral
    record: EventRecord
    session_id: int
    czxid: int

    @property
    def path(self) -> str:
        return self.ephemeral.path

    def until(self, *kinds: str) -> list[str]:
        """The story up to these events."""
        return story(self.record.until(*kinds))

    def assert_kept(self, node: ZooKeeperServer) -> None:
        """The session is the same, and the server has never deleted its ephemeral."""
        assert self.zk.session.session_id == self.session_id
        assert self.session_id in session_ids(node)
        assert self.path in ephemerals(node)[self.session_id]
        stat = self.zk.exists(self.path, timeout=10.0)
        assert stat is not None
        assert stat.czxid == self.czxid

    def assert_replaced(self, node: ZooKeeperServer) -> None:
        """The server has ended the session; the ephemeral is there again, of the next one."""
        present = self.zk.session.session_id
        assert present not in (0, self.session_id)
        assert self.session_id not in session_ids(node)
        assert self.path in ephemerals(node)[present]
        assert self.session_id not in ephemerals(node)


def client_of(zk: Coordinator) -> Client:
    record = EventRecord(zk)
    ephemeral = zk.ephemeral(f"{new_place()}/here", b"")
    record.until("session.established", "ephemeral.created")
    stat = zk.exists(ephemeral.path)
    assert stat is not None
    return Client(zk, ephemeral, record, zk.session.session_id, stat.czxid)


@pytest.fixture
def faults(zookeeper: ZooKeeperServer) -> Iterator[Faults]:
    with Faults(zookeeper) as made:
        yield made


@pytest.fixture
def client(faults: Faults) -> Iterator[Client]:
    with Coordinator(faults.hosts, session_timeout=TIMEOUT) as zk:
        yield client_of(zk)


# -- sessions


def test_expire(client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """The server ends the session at once; the client is told by it, and comes back in another one."""
    faults.expire(client.zk)
    assert client.session_id not in session_ids(zookeeper)
    assert client.until("recovery.completed") == [
        *CLOSED,
        "session.expired",
        "connection.opened",
        "session.established",
        "recovery.started",
        "ephemeral.recreated",
        "recovery.completed",
    ]
    client.assert_replaced(zookeeper)


def test_expire_whoever_is_known(faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """Without arguments: the clients that it was told of, of each kind, and no others."""
    with observing(faults.hosts) as kazoo, observing(faults.hosts) as other, Coordinator(faults.hosts) as zk:
        for known in (kazoo, zk):
            faults.know(known)
        ended = {kazoo.client_id[0], zk.session.session_id}
        faults.expire()
        assert not ended & session_ids(zookeeper)
        unknown = other.client_id
        assert unknown[0] in session_ids(zookeeper)
        faults.expire(unknown)
        assert unknown[0] not in session_ids(zookeeper)


def test_expire_whoever_is_suspended(client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """A client without a link has a session all the same; kazoo only does not tell its id."""
    with faults.refuse():
        faults.cut()
        client.record.until("session.suspended")
        faults.expire(client.zk)
        assert client.session_id not in session_ids(zookeeper)
    assert "session.expired" in client.until("recovery.completed")
    client.assert_replaced(zookeeper)


def test_expire_nobody(faults: Faults) -> None:
    """It says what to give; a client that has no session yet is none."""
    with pytest.raises(ConfigurationError, match=r"name one, expire\(zk\)"):
        faults.expire()
    with pytest.raises(ConfigurationError, match="a KazooClient without a session"):
        faults.expire(KazooClient(faults.hosts))
    with pytest.raises(ConfigurationError, match="a NoneType without a session"):
        faults.expire(None)


def test_expire_whoever_has_a_session(client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """One that is known and closed has none, and keeps nobody from being expired."""
    faults.know(client.zk)
    with Coordinator(faults.hosts) as closed:
        faults.know(closed)
    faults.expire()
    assert client.session_id not in session_ids(zookeeper)


# -- on the wire


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_link_ends(fault: str, client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """By FIN or by RST: suspended and resumed, the server has noticed nothing that matters."""
    getattr(faults, fault)()
    assert client.until("session.resumed") == BACK
    client.assert_kept(zookeeper)


def test_refuse(client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """What stands is left alone; whoever has to connect is refused, until the end."""
    with faults.refuse():
        assert client.zk.exists(client.path) is not None
        assert client.record.quiet(0.1) == []
        faults.cut()
        failed = client.record.until("connection.failed")[-1]
        assert (failed.kind, failed.cause) == ("connection.failed", "refused")
        assert client.session_id in session_ids(zookeeper)
    assert client.until("session.resumed")[-2:] == ["connection.opened", "session.resumed"]
    client.assert_kept(zookeeper)


@pytest.mark.parametrize("fault", ["blackhole", "lose_requests"])
def test_silence_expires(fault: str, client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """The client lapses by its own clock, the server expires the session by its own; then they meet."""
    with getattr(faults, fault)():
        assert client.until("session.suspended", "session.lapsed") == [*CLOSED, "session.lapsed"]
        eventually(lambda: client.session_id not in session_ids(zookeeper), message="the server expires it")
        assert client.session_id not in ephemerals(zookeeper)
    assert "session.expired" in client.until("recovery.completed")
    client.assert_replaced(zookeeper)


def test_a_short_blackhole_is_survived(
    client: Client, faults: Faults, zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """What was asked meanwhile is answered at its end, and nothing is told: the link has held."""
    with faults.blackhole():
        asked = in_thread(lambda: client.zk.create(f"{client.path}-late", b""))
        assert client.record.quiet(0.2) == []
        assert client.session_id in session_ids(zookeeper)
        assert observer.exists(f"{client.path}-late") is None
    assert asked() == f"{client.path}-late"
    assert client.record.quiet(0.05) == []
    client.assert_kept(zookeeper)


def test_lose_requests(client: Client, faults: Faults, observer: KazooClient) -> None:
    """What is asked is never carried out, and whoever asked cannot know that."""
    with faults.lose_requests():
        asked = in_thread(lambda: client.zk.set(client.path, b"lost"))
        client.record.until("session.suspended")
    with pytest.raises(ConnectionLossError) as lost:
        asked()
    assert lost.value.ambiguous
    client.record.until("session.resumed")
    assert observer.get(client.path)[1].version == 0


def test_lose_answers(client: Client, faults: Faults, observer: KazooClient) -> None:
    """What is asked is carried out, and whoever asked cannot know that."""
    with faults.lose_answers():
        asked = in_thread(lambda: client.zk.set(client.path, b"written"))
        eventually(lambda: observer.get(client.path)[1].version == 1, message="the server has carried it out")
        client.record.until("session.suspended")
    with pytest.raises(ConnectionLossError) as lost:
        asked()
    assert lost.value.ambiguous


def test_an_answer_that_is_lost_never_comes(client: Client, faults: Faults, observer: KazooClient) -> None:
    """Also when the fault is over at once: what the server said is gone with the connection."""
    with faults.lose_answers():
        asked = in_thread(lambda: client.zk.set(client.path, b"written"))
        eventually(lambda: observer.get(client.path)[1].version == 1)
    with pytest.raises(ConnectionLossError) as lost:
        asked()
    assert lost.value.ambiguous
    assert client.until("session.resumed") == BACK


def test_heartbeats_that_are_not_answered_keep_the_session(
    client: Client, faults: Faults, zookeeper: ZooKeeperServer
) -> None:
    """The server hears the client, which does not hear the server: suspended here, alive there."""
    with faults.lose_answers():
        assert client.until("session.suspended") == CLOSED
        assert client.session_id in session_ids(zookeeper)
    client.record.until("session.resumed")
    client.assert_kept(zookeeper)


def test_latency(client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """Answers are late by twice as much, and that is all."""
    with faults.latency(0.1):
        began = time.monotonic()
        client.zk.exists(client.path)
        assert time.monotonic() - began >= 0.2
    assert client.record.quiet(0.05) == []
    client.assert_kept(zookeeper)


# -- in a server


def test_freeze(client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """A frozen server is silent to all; thawed, it keeps the session or not: both sides agree on which."""
    with faults.freeze() as frozen:
        assert frozen is zookeeper
        assert client.until("session.suspended", "session.lapsed") == [*CLOSED, "session.lapsed"]
        assert zookeeper.mode == ""  # nobody answers
    told = client.record.until("connection.opened")
    if "session.expired" in story(told):
        client.record.until("recovery.completed")
        client.assert_replaced(zookeeper)
    else:
        client.record.until("session.resumed")
        client.assert_kept(zookeeper)


def kill_and_mend(faults: Faults) -> None:
    assert faults.kill().mode == ""
    faults.mend()


def outage(faults: Faults) -> None:
    with faults.outage() as down:
        assert down.mode == ""


@pytest.mark.parametrize("fault", [kill_and_mend, outage, Faults.restart])
def test_a_server_goes_and_comes(
    fault: Callable[[Faults], None], client: Client, faults: Faults, zookeeper: ZooKeeperServer
) -> None:
    """While it is down no time passes for sessions: the same one is back, its ephemerals untouched."""
    fault(faults)
    told = client.until("session.resumed")
    assert told[:2] == CLOSED
    assert told[-2:] == ["connection.opened", "session.resumed"]
    assert "session.expired" not in told
    client.assert_kept(zookeeper)


# -- in an ensemble


@pytest.fixture
def ensemble_faults(ensemble: ZooKeeperEnsemble) -> Iterator[Faults]:
    with Faults(ensemble) as made:
        yield made
    for node in ensemble.nodes:
        node.wait_serving()


def on(faults: Faults, node: ZooKeeperServer, timeout: float = 4.0) -> Coordinator:
    """A coordinator that is connected to one server of the ensemble, and knows no other."""
    return Coordinator(faults.proxies[faults.nodes.index(node)].hosts, session_timeout=timeout)


def test_kill_leader(ensemble: ZooKeeperEnsemble, ensemble_faults: Faults) -> None:
    """Everybody is suspended, and resumed under another leader; mended, the old one follows."""
    with Coordinator(ensemble_faults.hosts, session_timeout=4.0) as zk:
        client = client_of(zk)
        killed = ensemble_faults.kill_leader()
        assert client.until("session.resumed")[:2] == CLOSED
        assert ensemble.leader() is not killed
        client.assert_kept(ensemble.leader())
        ensemble_faults.mend()
        assert killed.mode == "follower"


def test_lose_quorum(ensemble: ZooKeeperEnsemble, ensemble_faults: Faults) -> None:
    """The server that lives refuses to serve; with the quorum the session is back, however long it took."""
    # Its leader, which counts from its beginning, has to be found within one timeout: delays go up to 1 s.
    with Coordinator(ensemble_faults.hosts, session_timeout=4.0) as zk:
        client = client_of(zk)
        with ensemble_faults.lose_quorum() as killed:
            assert len(killed) == 2
            assert client.until("session.lapsed") == [*CLOSED, "session.lapsed"]
            assert {node.mode for node in ensemble.nodes} == {""}
        assert client.until("session.resumed")[-1] == "session.resumed"
        client.assert_kept(ensemble.leader())


def test_cut_quorum_link(ensemble: ZooKeeperEnsemble, ensemble_faults: Faults) -> None:
    """The others expire the session and delete its ephemeral, while client and server believe in both."""
    follower = ensemble.followers()[0]
    with on(ensemble_faults, follower, 0.6) as zk, observing(ensemble.leader().hosts) as others:
        client = client_of(zk)
        others.sync(client.path)
        assert owner(others, client.path) == client.session_id
        with ensemble_faults.cut_quorum_link(follower) as cut_off:
            assert cut_off is follower
            eventually(lambda: others.exists(client.path) is None, message="the majority deletes it")
            assert client.session_id not in session_ids(ensemble.leader())
            # Both sides of the link of the client still believe: its read is answered.
            assert (zk.session.phase, zk.session.session_id) == (Phase.CONNECTED, client.session_id)
            assert client.path in ephemerals(follower)[client.session_id]
            assert client.until("session.suspended") == CLOSED  # after syncLimit ticks
        assert "session.expired" in client.until("recovery.completed")
        client.assert_replaced(ensemble.leader())


def test_depose_leader(ensemble: ZooKeeperEnsemble, ensemble_faults: Faults) -> None:
    """Another one leads; the deposed one goes on answering, even `sync`, but no write of its own."""
    leader = ensemble.leader()
    with on(ensemble_faults, leader) as zk, observing(leader.hosts) as plain:
        client = client_of(zk)
        with ensemble_faults.depose_leader() as deposed:
            assert deposed is leader
            write = in_thread(lambda: zk.set(client.path, b"never", timeout=0.5))
            eventually(lambda: any(one.mode == "leader" for one in ensemble.nodes if one is not leader))
            assert leader.mode == "leader"  # two of them
            assert plain.sync(client.path)
            assert client.path in ephemerals(leader)[client.session_id]
            with pytest.raises((OperationTimeoutError, ConnectionLossError)) as never:
                write()
            assert never.value.ambiguous
            assert client.until("session.suspended") == CLOSED  # after syncLimit ticks
            assert leader.mode == ""
        client.record.until("connection.opened")
        assert ensemble.leader() is not leader
        eventually(lambda: leader.mode == "follower")


def test_rolling_restart(
    ensemble: ZooKeeperEnsemble, ensemble_faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server after the other, the leader last: one session, and no moment without a majority."""
    restarted = []
    kind = type(ensemble.nodes[0])
    restart = kind.restart

    def noted(node: ZooKeeperServer) -> None:
        assert all(one.mode for one in ensemble.nodes), "the one before serves again"
        restarted.append(node)
        restart(node)

    monkeypatch.setattr(kind, "restart", noted)
    leader = ensemble.leader()
    with Coordinator(ensemble_faults.hosts, session_timeout=4.0) as zk:
        client = client_of(zk)
        ensemble_faults.rolling_restart()
        assert set(restarted) == set(ensemble.nodes)
        assert restarted[-1] is leader
        told = client.record.quiet(0.5)
        assert "session.suspended" in story(told)
        assert "session.expired" not in story(told)
        assert {node.mode for node in ensemble.nodes} == {"leader", "follower"}
        client.assert_kept(ensemble.leader())


# -- what cannot be had


def test_a_server_of_somebody_else(zookeeper: ZooKeeperServer) -> None:
    """Its links can be broken and sessions ended; it cannot be frozen or killed, and says so."""
    foreign = ExternalZooKeeper(zookeeper.hosts)
    with Faults(foreign) as faults, Coordinator(faults.hosts) as zk:
        session = zk.session.session_id
        faults.expire(zk)
        assert session not in session_ids(zookeeper)
        for deed in (faults.kill, faults.restart, lambda: faults.freeze().__enter__()):
            with pytest.raises(ConfigurationError, match="it is not ours; without --zookeeper HOSTS"):
                deed()


def test_hosts_with_a_chroot(zookeeper: ZooKeeperServer) -> None:
    """The chroot of a target is kept, and of several servers each has a proxy."""
    with Faults(ExternalZooKeeper(f"{zookeeper.hosts},127.0.0.1:1/zookeeper")) as faults:
        first, second = faults.proxies
        assert faults.hosts == f"{first.hosts},{second.hosts}/zookeeper"
        with Coordinator(faults.hosts) as zk:
            session = zk.session.session_id
            faults.expire(zk)
            assert session not in session_ids(zookeeper)


ENSEMBLE_ONLY: list[Callable[[Faults], Any]] = [
    Faults.kill_leader,
    Faults.rolling_restart,
    lambda faults: faults.lose_quorum().__enter__(),
    lambda faults: faults.cut_quorum_link().__enter__(),
    lambda faults: faults.depose_leader().__enter__(),
]


@pytest.mark.parametrize("fault", ENSEMBLE_ONLY)
def test_a_single_server_has_no_quorum(fault: Callable[[Faults], Any], faults: Faults) -> None:
    """What takes several servers says so."""
    with pytest.raises(ConfigurationError, match="it takes a ZooKeeperEnsemble"):
        fault(faults)


def test_which_of_three(ensemble_faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """A fault of one server of several has to be told which; it has to be one of them."""
    with pytest.raises(ConfigurationError, match="which server"):
        ensemble_faults.kill()
    with pytest.raises(ConfigurationError, match="it is none of the ensemble"):
        ensemble_faults.kill(zookeeper)


def test_an_ensemble_that_is_started_again_has_the_same_links(ensemble: ZooKeeperEnsemble) -> None:
    """`start` starts what is down, and nothing twice."""
    before = threading.active_count()
    ensemble.followers()[0].kill()
    ensemble.start()
    assert threading.active_count() == before


def test_an_ensemble_without_links() -> None:
    """Quorum links that do not pass through proxies cannot be broken; dynamic servers would go past them."""
    plain = ZooKeeperEnsemble(3)
    for deed in (plain.depose_leader, lambda: plain.cut_quorum_link(plain.nodes[0])):
        with pytest.raises(ConfigurationError, match="make it with quorum_links=True"):
            deed()
    with pytest.raises(ConfigurationError, match="past the proxies"):
        ZooKeeperEnsemble(3, dynamic=True, quorum_links=True)


def test_a_fault_without_with(faults: Faults) -> None:
    """It would do nothing, which a test that expects nothing to happen never notices."""
    with pytest.warns(RuntimeWarning, match="blackhole.. lasts as long as its with statement"):
        faults.blackhole()


# -- all is well afterwards


def test_mend_ends_everything(client: Client, faults: Faults, zookeeper: ZooKeeperServer) -> None:
    """Whatever is broken, one call mends it; what a with statement then ends, is over already."""
    with faults.refuse(), faults.latency(1.0), faults.freeze():
        faults.kill()
        faults.mend()
        assert zookeeper.mode == "standalone"
        assert client.zk.exists(client.path, timeout=10.0) is not None
    client.assert_kept(zookeeper)


def test_a_server_that_was_killed_twice_is_started_once(
    faults: Faults, zookeeper: ZooKeeperServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started by hand in between, or killed by an outage, too: two starts at once would race for the port."""
    started = []
    start = type(zookeeper).start

    def noted(node: ZooKeeperServer, *timeout: float) -> ZooKeeperServer:
        started.append(node)
        return start(node, *timeout)

    faults.kill()
    zookeeper.start()
    monkeypatch.setattr(type(zookeeper), "start", noted)
    with faults.outage():
        faults.kill()
        faults.mend()
    assert started == [zookeeper]
    assert zookeeper.mode == "standalone"


def test_what_is_closed_may_be_mended(zookeeper: ZooKeeperServer) -> None:
    """There is nothing to mend on the wire; the servers are brought back all the same."""
    with Faults(zookeeper) as faults:
        faults.kill()
        faults.close()
        assert zookeeper.mode == "standalone"
        faults.mend()


def test_a_test_that_fails_within_a_fault_leaves_none(zookeeper: ZooKeeperServer) -> None:
    """The end of Faults mends what was broken, also when an error ends it."""

    def fails() -> None:
        with Faults(zookeeper) as faults:
            faults.kill()
            raise SessionExpiredError

    with pytest.raises(SessionExpiredError):
        fails()
    assert zookeeper.mode == "standalone"
