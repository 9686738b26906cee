"""Other servers: given by the user, told by the ensemble, or found behind a name that points elsewhere."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kazoo.client import KazooClient, KazooState

from coordinator import ClosedError, ConfigurationError, Coordinator, KazooHandler, Phase, StartError
from coordinator.core.ensemble import parse
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    ZooKeeperEnsemble,
    ZooKeeperServer,
    ephemerals,
    eventually,
    session_ids,
)
from coordinator.testing.ports import free_port
from tests.support import in_thread, new_place, observing, story

THREAD_DIES = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
NOWHERE = "127.0.0.1:1"
"""Refuses at once."""
MOVED = ["connection.closed", "session.suspended", "connection.opened", "session.resumed"]


@pytest.fixture
def other(zookeeper: ZooKeeperServer) -> Iterator[FaultProxy]:
    """A second way to the same server: to a client, another server of the same ensemble."""
    with FaultProxy(*zookeeper.address) as between:
        yield between


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses of names that no resolver knows; a test may change them."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def resolver(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if host not in known:
            return real(host, port, *rest, **named)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for address in known[host] for found in real(address, port, *rest, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return known


# -- set_hosts


def test_other_hosts_while_nobody_answers(proxy: FaultProxy, zookeeper: ZooKeeperServer) -> None:
    """A long pause between two rounds ends at once: the first session comes from the new list."""
    zk = Coordinator(
        NOWHERE, start_timeout=0, retry_first_delay=60.0, retry_max_delay=300.0, session_timeout=5.0
    )
    record = EventRecord(zk)
    with zk:
        record.until("connection.failed")
        zk.set_hosts(proxy.hosts)
        assert zk.hosts == proxy.hosts
        assert zk.settings.hosts == NOWHERE
        assert proxy.hosts in repr(zk)
        told = record.until("ensemble.changed", "session.established")
        changed = next(event for event in told if event.kind == "ensemble.changed")
        assert (changed.servers, changed.ignored, changed.source) == ((proxy.hosts,), (), "set_hosts")
        assert zk.session.server == proxy.hosts


def test_other_hosts_while_a_host_swallows_everything(zookeeper: ZooKeeperServer) -> None:
    """A handshake that nobody answers is given up, and the rest of the old list is not tried any more."""
    with ExitStack() as stack:
        silent = [stack.enter_context(FaultProxy(*zookeeper.address)) for _ in range(3)]
        for one in silent:
            one.blackhole = True
        hosts = ",".join(one.hosts for one in silent)
        with Coordinator(hosts, start_timeout=0, session_timeout=60.0, connect_timeout=60.0) as zk:
            record = EventRecord(zk)
            eventually(lambda: any(one.connections for one in silent), message="a handshake was sent")
            zk.set_hosts(zookeeper.hosts)
            told = record.until("session.established")
            assert [event for event in told if event.kind == "connection.failed"] == []
            assert zk.session.server == zookeeper.hosts


def test_other_hosts_before_the_start(zookeeper: ZooKeeperServer) -> None:
    """They are where it begins."""
    zk = Coordinator(NOWHERE, session_timeout=5.0)
    zk.set_hosts(zookeeper.hosts)
    record = EventRecord(zk)
    with zk:
        assert zk.session.server == zookeeper.hosts
        told = record.until("session.established")
    assert [event.kind for event in told] == ["ensemble.changed", "connection.opened", "session.established"]


def test_other_hosts_are_named_when_none_answers() -> None:
    """The error of the start names those that were tried last."""
    zk = Coordinator(NOWHERE, start_timeout=0.5)
    started = in_thread(zk.start)
    eventually(lambda: zk.stats.connections_failed, message="it has tried")
    zk.set_hosts("127.0.0.1:2")
    with pytest.raises(StartError, match=r"no session at 127\.0\.0\.1:2 in 0\.5 s"):
        started()


def test_other_hosts_are_checked_first(zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """What is wrong changes nothing; the same servers again are no change."""
    place = new_place()
    observer.create(place)
    with Coordinator(zookeeper.hosts + place, session_timeout=5.0) as zk:
        record = EventRecord(zk)
        for wrong in ("", "zk1:port", "zk1/other", "zk1,zk1"):
            with pytest.raises(ConfigurationError, match="hosts: "):
                zk.set_hosts(wrong)
        zk.set_hosts(zookeeper.hosts)
        zk.set_hosts(zookeeper.hosts + place)
        assert zk.hosts == zookeeper.hosts + place
        assert story(record.quiet(0.3)) == ["session.established"]
    with pytest.raises(ClosedError):
        zk.set_hosts(zookeeper.hosts)


def test_the_link_moves_to_a_listed_server(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, other: FaultProxy
) -> None:
    """The session goes on there; it is told as suspended and resumed, and nothing is lost."""
    place = new_place()
    with Coordinator(proxy.hosts, session_timeout=10.0) as zk:
        worker = zk.ephemeral(f"{place}/w")
        record = EventRecord(zk)
        record.until("session.established")
        session_id = zk.session.session_id
        zk.set_hosts(other.hosts)
        told = record.until("session.resumed")
        assert story(told) == ["ensemble.changed", *MOVED]
        assert [event for event in told if event.kind == "connection.failed"] == []
        assert zk.session.server == other.hosts
        assert zk.session.session_id == session_id
        assert worker.present
        assert ephemerals(zookeeper)[session_id] == {worker.path}
        eventually(lambda: not proxy.connections, message="the old link is closed")


def test_a_link_is_not_left_for_nothing(proxy: FaultProxy, other: FaultProxy) -> None:
    """As long as no listed server serves, the link is kept; then it is left."""
    other.refuse = True
    with Coordinator(proxy.hosts, session_timeout=10.0) as zk:
        record = EventRecord(zk)
        record.until("session.established")
        zk.set_hosts(other.hosts)
        assert story(record.quiet(0.6)) == ["ensemble.changed"]
        zk.exists("/")
        other.refuse, other.blackhole = False, True  # it accepts, and says nothing
        assert story(record.quiet(0.6)) == []
        zk.exists("/")
        other.blackhole = False
        assert story(record.until("session.resumed")) == MOVED
        assert zk.session.server == other.hosts


def test_a_link_stays_when_its_server_is_listed_again(proxy: FaultProxy, other: FaultProxy) -> None:
    """Nothing that was true in between has an effect later."""
    other.refuse = True
    with Coordinator(proxy.hosts, session_timeout=10.0) as zk:
        record = EventRecord(zk)
        record.until("session.established")
        zk.set_hosts(other.hosts)
        zk.set_hosts(f"{other.hosts},{proxy.hosts}")
        other.refuse = False
        assert story(record.quiet(1.5)) == ["ensemble.changed"] * 2


def test_operations_under_way_when_the_link_moves_are_answered(proxy: FaultProxy, other: FaultProxy) -> None:
    """The link is left between requests: no write becomes ambiguous, none is done twice."""
    place = new_place()
    with Coordinator(proxy.hosts, session_timeout=10.0) as zk:
        zk.create(place)
        proxy.latency = 0.02
        stop = threading.Event()
        done: list[int] = []

        def write() -> int:
            while not stop.is_set():
                zk.create(f"{place}/n-", sequential=True)
                done.append(1)
            return len(done)

        writers = [in_thread(write) for _ in range(8)]
        record = EventRecord(zk)
        for at in (other, proxy, other, proxy, other):
            zk.set_hosts(at.hosts)
            record.until("session.resumed")
        stop.set()
        for wait in writers:
            wait()
        assert len(zk.children(place)) == len(done)


def test_closing_while_the_link_moves_ends_the_session(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, other: FaultProxy
) -> None:
    """The old link, which takes no requests any more, takes the last one."""
    with Coordinator(proxy.hosts, session_timeout=30.0) as zk:
        session_id = zk.session.session_id
        assert session_id in session_ids(zookeeper)
        proxy.latency = 0.2
        slow = in_thread(lambda: zk.exists("/"))
        link = zk.kazoo.handler.link
        eventually(lambda: link.outstanding)
        zk.set_hosts(other.hosts)
        eventually(lambda: link.cause == "moved")
    with pytest.raises(ClosedError):
        slow()
    eventually(lambda: session_id not in session_ids(zookeeper), message="the session is gone", timeout=5.0)


# -- names


def test_a_name_that_points_elsewhere_after_a_cut(
    zookeeper: ZooKeeperServer, names: dict[str, list[str]]
) -> None:
    """Its address changes while connected: after the cut the new one is found, for the same session."""
    port = free_port()
    with (
        FaultProxy(*zookeeper.address, listen=("127.0.0.1", port)) as first,
        FaultProxy(*zookeeper.address, listen=("127.0.0.2", port)) as second,
    ):
        names["zk.test"] = ["127.0.0.1"]
        with Coordinator(f"zk.test:{port}", session_timeout=10.0) as zk:
            session_id = zk.session.session_id
            record = EventRecord(zk)
            record.until("session.established")
            names["zk.test"] = ["127.0.0.2"]
            first.refuse = True
            first.cut()
            told = record.until("session.resumed")
            assert told[-1].outage < 5.0
            assert zk.session.session_id == session_id
            assert second.connections == 1
            assert [event for event in told if event.kind == "connection.failed"] == []


# -- dynamic reconfiguration


def test_a_removed_server_to_which_it_fell_back_is_left(proxy: FaultProxy, other: FaultProxy) -> None:
    """It was given at the start, and runs on; what the ensemble lists is again as soon as that serves."""
    removed, listed = proxy.address, other.address
    with Coordinator(f"{proxy.hosts},{other.hosts}", session_timeout=10.0) as zk:
        port = zk._engine._port  # an ensemble that makes this happen for certain cannot be had
        port.follow([removed, listed], [])
        port.follow([listed], [])
        eventually(lambda: linked(zk, other))
        other.refuse = True
        other.cut()
        eventually(lambda: linked(zk, proxy))
        other.refuse = False
        port.follow([listed], [])
        eventually(lambda: linked(zk, other))
        assert zk.hosts == other.hosts


def linked(zk: Coordinator, proxy: FaultProxy) -> bool:
    """Whether its link leads through that one."""
    return zk.session.phase is Phase.CONNECTED and zk.session.server == proxy.hosts


@pytest.fixture
def dynamic() -> Iterator[ZooKeeperEnsemble]:
    """Three servers, to which others may be added."""
    with ZooKeeperEnsemble(3, tick=0.1, dynamic=True) as ensemble:
        yield ensemble


def named(names: dict[str, list[str]], ensemble: ZooKeeperEnsemble) -> dict[str, ZooKeeperServer]:
    """Give servers the names under which they know each other; return them by what a client says.

    A container is known to its peers as zk1, zk2, ...; here these names lead to this machine.
    """
    known = {}
    for server in parse(ensemble.configuration.encode()).servers:
        node = next(node for node in ensemble.nodes if node.address[1] == server[1])
        names.setdefault(server[0], ["127.0.0.1"])
        known[f"{server[0]}:{server[1]}"] = node
    return known


@pytest.mark.timeout(120)
def test_one_server_added_and_the_one_in_use_removed(
    dynamic: ZooKeeperEnsemble, names: dict[str, list[str]]
) -> None:
    """Followed without a lost session; then the new server alone leads back into the ensemble."""
    place = new_place()
    servers = named(names, dynamic)
    names["zk4"] = ["127.0.0.1"]
    with Coordinator(
        ",".join(servers), follow_reconfig=True, session_timeout=20.0, operation_timeout=20.0
    ) as zk:
        worker = zk.ephemeral(f"{place}/w")
        session_id, czxid = zk.session.session_id, worker.czxid
        record = EventRecord(zk)
        record.until("session.established")
        fourth = dynamic.add()
        told = record.until("ensemble.changed")
        assert story(told) == ["ensemble.changed"]
        assert (told[-1].source, told[-1].ignored) == ("reconfiguration", ())
        assert set(told[-1].servers) == set(named(names, dynamic))
        assert len(told[-1].servers) == 4

        used = servers[zk.session.server]
        dynamic.remove(used)
        told = record.until("ensemble.changed", "session.resumed")
        # A leader that is removed makes the others elect, which ends every link once more.
        assert set(story(told)) == {"ensemble.changed", *MOVED}
        left = named(names, dynamic)
        # If nobody was found while they elected, those of the beginning are tried as well, for a while.
        eventually(lambda: set(zk.hosts.split(",")) == set(left))
        eventually(lambda: zk.session.phase is Phase.CONNECTED and zk.session.server in left)

        used.stop()
        if "container" in dynamic.origin:  # processes share one address
            for name in ("zk1", "zk2", "zk3"):
                names[name] = []
        for _ in range(6):
            # What was looked up before is still tried, in the round that had begun then.
            if "container" not in dynamic.origin or left[zk.session.server] is fourth:
                break
            link = zk.kazoo.handler.link
            link.cut("cut")
            eventually(lambda gone=link: zk.kazoo.handler.link not in (None, gone))
            eventually(lambda: zk.session.phase is Phase.CONNECTED)
        else:
            raise AssertionError("the new server was not found")
        worker.set(b"here")
        assert zk.session.session_id == session_id
        assert (worker.present, worker.czxid) == (True, czxid)
        assert "session.expired" not in story(record.quiet(0.2))


@pytest.mark.timeout(120)
def test_addresses_that_lead_nowhere_are_ignored(dynamic: ZooKeeperEnsemble) -> None:
    """What servers in containers know of themselves: a list that works is never given up for that."""
    if "container" not in dynamic.origin:
        pytest.skip("child processes know themselves by addresses that lead to them")
    place = new_place()
    zk = Coordinator(dynamic.hosts, follow_reconfig=True, session_timeout=10.0)
    record = EventRecord(zk)
    with zk:
        told = record.until("ensemble.changed")
        worker = zk.ephemeral(f"{place}/w")
        ports = [node.address[1] for node in dynamic.nodes]
        assert told[-1].servers == tuple(dynamic.hosts.split(","))
        assert told[-1].ignored == tuple(f"zk{n}:{port}" for n, port in enumerate(ports, 1))
        fourth = dynamic.add()
        told = record.until("ensemble.changed")
        assert told[-1].ignored[-1] == f"zk4:{fourth.address[1]}"
        assert zk.hosts == ",".join(f"127.0.0.1:{port}" for port in ports)
        used = next(node for node in dynamic.nodes if node.hosts == zk.session.server)
        session_id = zk.session.session_id
        dynamic.remove(used)
        record.until("ensemble.changed")
        used.stop()
        record.until("session.resumed")
        zk.set_hosts(dynamic.hosts)
        assert record.until("ensemble.changed")[-1].ignored == ()
        assert zk.session.session_id == session_id
        assert worker.present


@pytest.mark.timeout(120)
def test_a_reconfiguration_that_is_not_followed(
    dynamic: ZooKeeperEnsemble, names: dict[str, list[str]]
) -> None:
    """It is survived all the same, as long as one of the servers given remains; the list stays as it was."""
    place = new_place()
    servers = named(names, dynamic)
    with Coordinator(",".join(servers), session_timeout=10.0) as zk:
        worker = zk.ephemeral(f"{place}/w")
        session_id = zk.session.session_id
        record = EventRecord(zk)
        record.until("session.established")
        dynamic.add()
        used = servers[zk.session.server]
        dynamic.remove(used)
        used.stop()
        eventually(lambda: zk.session.phase is Phase.CONNECTED and servers[zk.session.server] is not used)
        told = record.quiet(0.5)
        assert set(story(told)) == set(MOVED)
        assert zk.hosts == ",".join(servers)
        assert zk.session.session_id == session_id
        worker.set(b"here")


@pytest.mark.timeout(120)
def test_the_servers_given_remain_the_way_back(
    dynamic: ZooKeeperEnsemble, names: dict[str, list[str]]
) -> None:
    """A link through an address of the user's own is left alone, and leads back when no other does."""
    if "container" not in dynamic.origin:
        pytest.skip("child processes have no names that could cease to lead to them")
    listed = named(names, dynamic)
    with FaultProxy(*dynamic.nodes[0].address) as balancer, observing(dynamic.hosts) as observer:
        place = new_place()
        observer.create(place)
        zk = Coordinator(balancer.hosts + place, follow_reconfig=True, session_timeout=20.0)
        record = EventRecord(zk)
        with zk:
            told = record.until("ensemble.changed")
            assert story(told) == ["connection.opened", "session.established", "ensemble.changed"]
            assert set(told[-1].servers) == set(listed)
            assert story(record.quiet(0.5)) == []
            assert zk.session.server == balancer.hosts
            session_id = zk.session.session_id

            for name in names:
                names[name] = []
            balancer.cut()
            told = record.until("session.resumed")
            fallback = next(event for event in told if event.kind == "ensemble.changed")
            assert fallback.source == "fallback"
            assert set(fallback.servers) == {*listed, balancer.hosts}
            assert (zk.session.server, zk.session.session_id) == (balancer.hosts, session_id)

            for name in names:
                names[name] = ["127.0.0.1"]
            changed = record.until("ensemble.changed")[-1]
            assert (changed.source, set(changed.servers)) == ("reconfiguration", set(listed))
            assert zk.hosts.endswith(place)


@THREAD_DIES
def test_a_client_that_is_replaced_has_the_present_hosts(proxy: FaultProxy, other: FaultProxy) -> None:
    """What was given last holds for the next client, too."""
    with Coordinator(proxy.hosts, session_timeout=10.0) as zk:
        record = EventRecord(zk)
        record.until("session.established")
        zk.set_hosts(other.hosts)
        record.until("session.resumed")
        client, session_id = zk.kazoo, zk.session.session_id

        def fatal(state: object) -> None:
            if state == KazooState.SUSPENDED:
                raise SystemExit

        client.add_listener(fatal)
        other.cut()
        record.until("session.resumed")
        assert zk.kazoo is not client
        assert (zk.session.server, zk.session.session_id) == (other.hosts, session_id)


def test_other_hosts_for_an_adopted_client(proxy: FaultProxy, other: FaultProxy) -> None:
    """They are its own then; it keeps them, and its session, after we have left."""
    client = KazooClient(proxy.hosts, timeout=10.0, handler=KazooHandler())
    client.start(15)
    try:
        with Coordinator.adopt(client) as zk:
            record = EventRecord(zk)
            record.until("session.established")
            session_id = zk.session.session_id
            zk.set_hosts(other.hosts)
            told = record.until("session.resumed")
            assert story(told) == ["ensemble.changed", *MOVED]
            assert (zk.hosts, zk.session.server) == (other.hosts, other.hosts)
            client.set_hosts(f"{other.hosts},{proxy.hosts}")
            assert zk.hosts == f"{other.hosts},{proxy.hosts}"
            zk.set_hosts(other.hosts)
            assert zk.hosts == other.hosts
        other.cut()
        client.retry(client.exists, "/")
        assert client.client_id[0] == session_id
        assert client.hosts == [other.address]
    finally:
        client.stop()
        client.close()
