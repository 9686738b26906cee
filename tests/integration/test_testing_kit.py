"""The kit itself: servers that start, die and forget, and a proxy that breaks on command."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.retry import KazooRetry
from kazoo.security import Id, make_acl

from coordinator.errors import ClosedError, ConfigurationError
from coordinator.testing import (
    ExternalZooKeeper,
    FaultProxy,
    ServerOptions,
    ServerTLS,
    ZooKeeperContainer,
    ZooKeeperEnsemble,
    ZooKeeperProcess,
    ZooKeeperServer,
    ZooKeeperUnavailableError,
    ephemerals,
    eventually,
    expire,
    ports,
    provide,
    session_ids,
    watches,
)
from coordinator.testing.container import settle_image
from coordinator.testing.inspection import parse_ephemerals, parse_sessions, parse_watches
from coordinator.testing.options import jvm_flags
from coordinator.testing.ports import four_letters, free_port
from coordinator.testing.process import find_installation
from tests.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 10.0


@contextmanager
def kazoo(hosts: str, timeout: float = LIMIT, **options: object) -> Iterator[KazooClient]:
    """An independent client: the kit is not to be believed on its own word."""
    retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5)  # kazoo's own waits twice as long each time
    client = KazooClient(hosts=hosts, timeout=timeout, connection_retry=retry, **options)
    client.start(LIMIT)
    try:
        yield client
    finally:
        client.stop()
        client.close()


class States:
    """The states that a kazoo client went through, to be waited for."""

    def __init__(self, client: KazooClient) -> None:
        self.seen: list[str] = []
        self._changed = threading.Condition()
        client.add_listener(self._note)

    def _note(self, state: str) -> None:
        with self._changed:
            self.seen.append(state)
            self._changed.notify_all()

    def await_all(self, *states: str) -> None:
        with self._changed:
            done = self._changed.wait_for(lambda: self._contains(states), LIMIT)
        assert done, f"{states} not among {self.seen}"

    def _contains(self, states: tuple[str, ...]) -> bool:
        rest = iter(self.seen)
        return all(state in rest for state in states)


def _process_is_possible() -> bool:
    try:
        find_installation()
    except ZooKeeperUnavailableError:
        return False
    return True


KINDS = [
    pytest.param(ZooKeeperContainer, id="container", marks=pytest.mark.docker),
    pytest.param(
        ZooKeeperProcess,
        id="process",
        marks=pytest.mark.skipif(not _process_is_possible(), reason="no ZooKeeper and java on this machine"),
    ),
]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[ZooKeeperServer]:
    """A server of the test's own, of each kind that there is."""
    with request.param() as own:
        yield own


# Servers


def test_a_server_serves_where_it_says(zookeeper: ZooKeeperServer) -> None:
    """`hosts` is a connection string that a client can use."""
    with kazoo(zookeeper.hosts) as client:
        assert ".".join(map(str, client.server_version())) == zookeeper.version
        assert zookeeper.mode == "standalone"


def test_a_kill_keeps_port_data_and_sessions(server: ZooKeeperServer) -> None:
    """After `kill` and `start` the client is back in its session and finds its data."""
    with kazoo(server.hosts) as client:
        states, session, hosts = States(client), client.client_id[0], server.hosts
        client.create("/kept", b"data")
        server.kill()
        states.await_all(KazooState.SUSPENDED)
        assert server.mode == ""
        server.start()
        states.await_all(KazooState.SUSPENDED, KazooState.CONNECTED)
        assert (server.hosts, client.client_id[0]) == (hosts, session)
        assert client.get("/kept")[0] == b"data"


def test_a_restart_keeps_port_and_data(server: ZooKeeperServer) -> None:
    """`restart` is a stop in good order and a start with the same data."""
    with kazoo(server.hosts) as client:
        client.create("/kept", b"data")
    hosts = server.hosts
    server.restart()
    assert server.hosts == hosts
    with kazoo(hosts) as client:
        assert client.get("/kept")[0] == b"data"


def test_a_paused_server_keeps_connections_and_answers_nothing(server: ZooKeeperServer) -> None:
    """`freeze` stops it; what was asked meanwhile is answered after `thaw`."""
    with kazoo(server.hosts) as client:
        server.freeze()
        answer = client.get_async("/")
        with pytest.raises(TimeoutError):
            server.four_letters("srvr", timeout=0.2)
        assert not answer.ready()
        server.thaw()
        assert answer.get(timeout=LIMIT)
        assert server.mode == "standalone"


def test_a_wipe_forgets_all_but_the_port(server: ZooKeeperServer) -> None:
    """After `wipe` the same port leads to a server that knows no data and no session."""
    with kazoo(server.hosts) as client:
        client.create("/gone", b"")
    hosts = server.hosts
    server.wipe()
    assert server.hosts == hosts
    assert session_ids(server) == set()
    with kazoo(hosts) as client:
        assert client.exists("/gone") is None


def test_a_closed_server_is_gone(server: ZooKeeperServer) -> None:
    """After `close` nobody listens; closing again is no error."""
    server.close()
    server.close()
    with pytest.raises(OSError, match=r".*"):
        server.four_letters("srvr", timeout=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_options_reach_the_server(kind: type[ZooKeeperServer]) -> None:
    """Tick, session timeouts and further lines are what the server says it works with."""
    options = {"tick": 0.2, "min_session_timeout": 0.5, "max_session_timeout": 7.0}
    with kind(**options, config={"maxClientCnxns": "17"}) as server:  # type: ignore[call-arg]
        said = dict(line.split("=", 1) for line in server.four_letters("conf").splitlines() if "=" in line)
    assert said["tickTime"] == "200"
    assert (said["minSessionTimeout"], said["maxSessionTimeout"]) == ("500", "7000")
    assert said["maxClientCnxns"] == "17"


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_dies_at_once_shows_its_log(kind: type[ZooKeeperServer]) -> None:
    """The error of a failed start holds the end of the server's log."""
    broken = kind(jvm_flags=["-XX:NoSuchFlag=1"])  # type: ignore[call-arg]
    try:
        with pytest.raises(ZooKeeperUnavailableError, match=r"(?s)ended at once.*NoSuchFlag"):
            broken.start()
    finally:
        broken.close()


@pytest.mark.parametrize(
    "options",
    [{"tick": 0.0}, {"min_session_timeout": 9.0, "max_session_timeout": 8.0}, {"config": {"a": "b c"}}],
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    """Options are checked before anything is started."""
    with pytest.raises(ConfigurationError):
        ZooKeeperContainer(**options)  # type: ignore[arg-type]


# A server that is secured


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_with_tls_and_users(kind: type[ZooKeeperServer]) -> None:
    """Two ports, and users by SASL; over a restart and a loss of all data, too."""
    authority = Authority("ours")
    secure = ServerTLS(authority.issue("zk", "127.0.0.1").both, authority.pem)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=authority.pem.decode())
    with kind(tls=secure, sasl_users={"bob": "a secret!"}) as server:  # type: ignore[call-arg]
        for again in (server.restart, server.wipe, lambda: None):
            assert said_over_tls(server.secure_address, trust).startswith("Zookeeper version")
            with kazoo(server.hosts, sasl_options=BOB) as client:
                client.ensure_path("/a")
                client.set_acls("/a", [make_acl("auth", "", all=True)])
                assert client.get_acls("/a")[0][0].id == Id("sasl", "bob")
            again()
        assert server.secure_hosts == "{}:{}".format(*server.secure_address)


BOB = {"mechanism": "DIGEST-MD5", "username": "bob", "password": "a secret!"}


def said_over_tls(address: tuple[str, int], trust: ssl.SSLContext) -> str:
    with (
        socket.create_connection(address, LIMIT) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(b"srvr")
        return secured.recv(100).decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_finds_its_files(kind: type[ZooKeeperServer]) -> None:
    """{files} is their folder: in lines of zoo.cfg, flags and the environment."""
    files = {"one.txt": b"", "two.txt": b""}
    flags = ["-XX:Flags={files}/one.txt", "-XX:+IgnoreUnrecognizedVMOptions"]
    with kind(files=files, jvm_flags=flags, config={"some.key": "{files}/two.txt"}) as server:  # type: ignore[call-arg]
        assert server.mode == "standalone"


def test_a_server_without_tls_has_no_port_for_it(zookeeper: ZooKeeperServer) -> None:
    """It says what is missing."""
    with pytest.raises(ConfigurationError, match="give it tls=ServerTLS"):
        zookeeper.secure_hosts  # noqa: B018


@pytest.mark.parametrize(
    "options",
    [
        {"sasl_users": {"bob": 'quo"te'}},
        {"sasl_users": {"b b": "secret"}},
        {"files": {"../escape": b""}},
        {"files": {"": b""}},
    ],
)
def test_what_cannot_be_written_down_is_refused(options: dict[str, object]) -> None:
    """Before anything is started, without the password in the message."""
    with pytest.raises(ConfigurationError) as caught:
        ZooKeeperContainer(**options)  # type: ignore[arg-type]
    assert 'quo"te' not in str(caught.value)


# Where a server comes from


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> pytest.MonkeyPatch:
    """A machine without engine, jars and java."""
    for name in ("COORDINATOR_TEST_HOSTS", "COORDINATOR_ZOOKEEPER", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("ZOOKEEPER_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    return monkeypatch


def test_hosts_given_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named explicitly is taken, then COORDINATOR_TEST_HOSTS, engine or not."""
    monkeypatch.setenv("COORDINATOR_TEST_HOSTS", "b:2182")
    assert provide("a:2181,c:1/root").address == ("a", 2181)
    assert provide("a:2181,c:1/root").hosts == "a:2181,c:1/root"
    assert provide().origin == "external ZooKeeper at b:2182"


@pytest.mark.docker
def test_a_container_comes_before_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an engine and no word to the contrary it is a container, and it says so."""
    monkeypatch.delenv("COORDINATOR_TEST_HOSTS", raising=False)
    monkeypatch.delenv("COORDINATOR_ZOOKEEPER", raising=False)
    server = provide()
    assert isinstance(server, ZooKeeperContainer)
    assert server.origin.startswith("container ")


@pytest.mark.skipif(not _process_is_possible(), reason="no ZooKeeper and java on this machine")
def test_a_process_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no engine answers, it is a child process."""
    monkeypatch.delenv("COORDINATOR_TEST_HOSTS", raising=False)
    monkeypatch.delenv("COORDINATOR_ZOOKEEPER", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert isinstance(provide(), ZooKeeperProcess)


def test_nothing_names_the_three_ways_in_time(nothing: pytest.MonkeyPatch) -> None:
    """Without any, the error names all three, within 2 s."""
    began = time.monotonic()
    with pytest.raises(ZooKeeperUnavailableError) as refused:
        provide()
    assert time.monotonic() - began < 2.0
    for way in ("COORDINATOR_TEST_HOSTS", "Docker engine", "ZOOKEEPER_HOME"):
        assert way in str(refused.value)


@pytest.mark.parametrize("forced", ["container", "process"])
def test_a_forced_kind_is_not_replaced(nothing: pytest.MonkeyPatch, forced: str) -> None:
    """COORDINATOR_ZOOKEEPER allows only what it names."""
    nothing.setenv("COORDINATOR_ZOOKEEPER", forced)
    with pytest.raises(ZooKeeperUnavailableError):
        provide()


def test_a_forced_kind_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """COORDINATOR_ZOOKEEPER knows two words."""
    monkeypatch.delenv("COORDINATOR_TEST_HOSTS", raising=False)
    monkeypatch.setenv("COORDINATOR_ZOOKEEPER", "podman")
    with pytest.raises(ConfigurationError, match="podman"):
        provide()


def test_what_is_given_comes_before_the_environment(nothing: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """kind, image and home of the call win over all variables, the hosts among them."""
    nothing.setenv("COORDINATOR_TEST_HOSTS", "b:2182")
    nothing.setenv("COORDINATOR_ZOOKEEPER", "container")
    java = tmp_path / "given/jre/bin/java"
    java.parent.mkdir(parents=True)
    java.touch(mode=0o755)
    (tmp_path / "given/zookeeper-9.9.9.jar").touch()
    given = provide(kind="process", home=str(tmp_path / "given"))
    assert isinstance(given, ZooKeeperProcess)
    assert given.origin == f"child process, ZooKeeper of {tmp_path}/given"
    assert ZooKeeperContainer(image="one:2").origin == "container one:2 via testcontainers"
    with pytest.raises(ZooKeeperUnavailableError, match=r"no ZooKeeper: home=/none has no lib/"):
        provide(kind="process", home="/none")
    with pytest.raises(ZooKeeperUnavailableError, match=r"no ZooKeeper: no Docker engine"):
        provide(kind="container")


@pytest.mark.parametrize("make", [ZooKeeperContainer, ZooKeeperProcess, ZooKeeperEnsemble])
def test_an_unknown_option_is_refused(make: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would do nothing, and nobody would notice."""
    monkeypatch.setenv("COORDINATOR_ZOOKEEPER", "container")
    with pytest.raises(ConfigurationError, match="unknown option tik: a server takes tick, "):
        make(tik=0.5)


@pytest.mark.docker
def test_an_image_that_cannot_be_is_told() -> None:
    """Whatever the engine has against its name."""
    with pytest.raises(ZooKeeperUnavailableError, match=r"image No Such is not there .* invalid reference"):
        settle_image("No Such")


def test_workers_of_xdist_take_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them has not bound yet, another one would find free, too: an ensemble takes 21."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    taken = []
    for number in range(4):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        monkeypatch.setattr(ports, "_given_ports", set())  # it is another process
        taken += [ports.free_port() for _ in range(200)]
    assert len(set(taken)) == 800


def test_an_ipv6_address_of_a_server_has_no_brackets() -> None:
    """The connection string has them, a socket does not."""
    assert ExternalZooKeeper("[::1]:2181").address == ("::1", 2181)


def test_contradictions_are_refused() -> None:
    """A server that runs is not started, and there are two kinds."""
    with pytest.raises(ConfigurationError, match="a server that runs is not started"):
        provide("a:1", kind="process")
    with pytest.raises(ConfigurationError, match="kind='podman', must be"):
        provide(kind="podman")  # type: ignore[arg-type]


def test_a_foreign_server_is_checked_and_not_touched(zookeeper: ZooKeeperServer) -> None:
    """A server that is not ours can be used; every other wish is refused."""
    with ExternalZooKeeper(zookeeper.hosts) as foreign:
        for deed in (foreign.kill, foreign.stop, foreign.restart, foreign.freeze, foreign.thaw, foreign.wipe):
            with pytest.raises(ConfigurationError, match="not ours"):
                deed()
    assert zookeeper.mode == "standalone"


def test_the_package_needs_no_docker() -> None:
    """Importing the kit imports neither docker nor testcontainers nor pytest."""
    code = (
        "import sys, coordinator.testing; "
        "print(sorted({'docker', 'testcontainers', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without testcontainers the error says what to install."""
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ImportError, match=r"pip install 'coordinator\[testing\]'"):
        ZooKeeperContainer()


# What a server says


def test_sessions_and_ephemerals_are_listed(zookeeper: ZooKeeperServer) -> None:
    """A session is listed with its ephemerals, and no more once it is closed."""
    with kazoo(zookeeper.hosts) as client:
        session = client.client_id[0]
        client.create("/kit-listed", b"", ephemeral=True)
        assert session in session_ids(zookeeper)
        assert ephemerals(zookeeper)[session] == {"/kit-listed"}
    assert session not in session_ids(zookeeper)
    assert session not in ephemerals(zookeeper)


def test_watches_are_listed(zookeeper: ZooKeeperServer) -> None:
    """A watch is listed under its path with the session that set it."""
    with kazoo(zookeeper.hosts) as client:
        client.exists("/kit-watched", watch=lambda _: None)
        assert watches(zookeeper)["/kit-watched"] == {client.client_id[0]}


def test_answers_of_every_version_are_understood() -> None:
    """The parsers know the layout of 3.4 and of 3.9, and empty answers."""
    dump = (
        "SessionTracker dump:\nSession Sets (2)/(2):\n0 expire at Thu Jan 01 00:00:01 UTC 1970:\n"
        "2 expire at Thu Jan 01 00:00:02 UTC 1970:\n\t0x1000013e37d0000\n\t0xa\n"
        "ephemeral nodes dump:\nSessions with Ephemerals (2):\n0xa:\n\t/a b\n\t/c\n"
        "0x1000013e37d0000:\n\t/d\n"
        "Connections dump:\nConnections Sets (1)/(1):\n0 expire at Thu Jan 01 00:00:01 UTC 1970:\n"
    )
    assert parse_sessions(dump) == {0xA, 0x1000013E37D0000}
    assert parse_ephemerals(dump) == {0xA: {"/a b", "/c"}, 0x1000013E37D0000: {"/d"}}
    assert parse_watches("/a\n\t0xa\n\t0xb\n/b c\n\t0xa\n") == {"/a": {10, 11}, "/b c": {10}}
    assert (parse_sessions(""), parse_ephemerals(""), parse_watches("")) == (set(), {}, {})


def test_an_expiry_is_real(zookeeper: ZooKeeperServer) -> None:
    """`expire` ends the session on the server, with its ephemerals; the client learns it."""
    with kazoo(zookeeper.hosts) as client:
        states, session = States(client), client.client_id[0]
        client.create("/kit-expired", b"", ephemeral=True)
        expire(client.client_id, zookeeper.hosts)
        assert session not in session_ids(zookeeper)
        assert session not in ephemerals(zookeeper)
        states.await_all(KazooState.LOST, KazooState.CONNECTED)
        assert client.client_id[0] != session
        assert client.exists("/kit-expired") is None


def test_an_expiry_without_a_server_fails() -> None:
    """`expire` does not pretend."""
    with pytest.raises(TimeoutError, match="0xa"):
        expire((10, b"\0" * 16), "127.0.0.1:1", timeout=0.2)


# The proxy


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    """A listening socket in the place of a server, to see what arrives byte by byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        yield listener


@contextmanager
def through(peer: socket.socket) -> Iterator[tuple[FaultProxy, socket.socket, socket.socket]]:
    """A proxy, a client's socket and the server's end of the same connection."""
    with (
        FaultProxy(*peer.getsockname()) as proxy,
        socket.create_connection(proxy.address, LIMIT) as client,
        peer.accept()[0] as server,
    ):
        server.settimeout(LIMIT)
        yield proxy, client, server


def silent(end: socket.socket, seconds: float = 0.1) -> bool:
    """Whether nothing arrives for a while."""
    end.settimeout(seconds)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    else:
        return False
    finally:
        end.settimeout(LIMIT)


def test_a_proxy_passes_bytes_and_both_ends(peer: socket.socket) -> None:
    """Megabytes pass unchanged both ways, and so does the end of each stream."""
    sent = os.urandom(3 << 20)
    with through(peer) as (proxy, client, server):
        writer = threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)))
        writer.start()
        received = b"".join(iter(lambda: server.recv(65536), b""))
        writer.join()
        server.sendall(b"answer")
        server.shutdown(socket.SHUT_WR)
        assert received == sent
        assert b"".join(iter(lambda: client.recv(65536), b"")) == b"answer"
        eventually(lambda: proxy.connections == 0)


def test_latency_delays_both_ways(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """With 0.1 s each way an answer takes 0.2 s at least."""
    with kazoo(proxy.hosts) as client:
        proxy.latency = 0.1
        began = time.monotonic()
        client.get("/")
        assert time.monotonic() - began >= 0.2
        proxy.latency = 0.0


def test_a_blackhole_keeps_the_connection_and_passes_nothing(peer: socket.socket) -> None:
    """What is sent into a black hole arrives when it is gone; nothing is lost."""
    with through(peer) as (proxy, client, server):
        proxy.blackhole = True
        client.sendall(b"up")
        server.sendall(b"down")
        assert silent(server)
        assert silent(client)
        proxy.blackhole = False
        assert (server.recv(2), client.recv(4)) == (b"up", b"down")
        assert proxy.connections == 1


def test_a_blackhole_expires_a_session(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """The server expires a client behind a black hole, and the client learns of it after."""
    with kazoo(proxy.hosts, timeout=0.5) as client:
        states, session = States(client), client.client_id[0]
        proxy.blackhole = True
        eventually(lambda: session not in session_ids(zookeeper))
        assert KazooState.LOST not in states.seen
        proxy.blackhole = False
        states.await_all(KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED)


def test_a_lost_answer_is_an_applied_write(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """With only the way down black, a write is carried out and its answer does not come."""
    with kazoo(proxy.hosts) as client, kazoo(zookeeper.hosts) as witness:
        proxy.blackhole_down = True
        answer = client.create_async("/kit-lost", b"", ephemeral=True)
        eventually(lambda: witness.exists("/kit-lost"))
        assert not answer.ready()
        proxy.blackhole_down = False
        assert answer.get(timeout=LIMIT) == "/kit-lost"


def test_a_lost_request_is_no_write(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """With the way up black, a write does not arrive, not even after a reset."""
    with kazoo(proxy.hosts) as client, kazoo(zookeeper.hosts) as witness:
        states = States(client)
        proxy.blackhole_up = True
        answer = client.create_async("/kit-unsent", b"")
        proxy.reset_all()
        states.await_all(KazooState.SUSPENDED)
        proxy.blackhole_up = False
        states.await_all(KazooState.SUSPENDED, KazooState.CONNECTED)
        assert answer.exception is not None
        assert witness.exists("/kit-unsent") is None


def test_new_connections_wait_in_a_blackhole(peer: socket.socket) -> None:
    """A connection made into a black hole reaches the server when it is gone."""
    with FaultProxy(*peer.getsockname()) as proxy:
        proxy.blackhole = True
        with socket.create_connection(proxy.address, LIMIT) as client:
            client.sendall(b"x")
            peer.settimeout(0.1)
            with pytest.raises(TimeoutError):
                peer.accept()
            peer.settimeout(LIMIT)
            proxy.blackhole = False
            with peer.accept()[0] as server:
                assert server.recv(1) == b"x"


def test_a_reset_is_seen_by_both_sides(peer: socket.socket) -> None:
    """`reset_all` sends RST to client and server."""
    with through(peer) as (proxy, client, server):
        proxy.reset_all()
        assert proxy.connections == 0
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_a_cut_is_a_clean_end(peer: socket.socket) -> None:
    """`cut` sends FIN to client and server."""
    with through(peer) as (proxy, client, server):
        proxy.cut()
        assert proxy.connections == 0
        assert (client.recv(1), server.recv(1)) == (b"", b"")


@pytest.mark.parametrize("abrupt", [True, False])
def test_an_end_is_passed_on_as_it_was(peer: socket.socket, *, abrupt: bool) -> None:
    """A server's RST reaches the client as RST, its FIN as FIN."""
    with through(peer) as (_, client, server):
        if abrupt:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        if abrupt:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            assert client.recv(1) == b""


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_cut_after_some_bytes(peer: socket.socket, way: str) -> None:
    """Exactly that many bytes arrive, then RST; later connections are left alone."""
    with through(peer) as (proxy, client, server):
        setattr(proxy, f"cut_after_{way}", 5)
        source, sink = (client, server) if way == "up" else (server, client)
        source.sendall(b"abc")
        assert sink.recv(3) == b"abc"
        source.sendall(b"defgh")
        assert sink.recv(10) == b"de"
        with pytest.raises(ConnectionResetError):
            sink.recv(1)
        assert getattr(proxy, f"cut_after_{way}") is None
        with socket.create_connection(proxy.address, LIMIT) as again, peer.accept()[0] as far:
            again.sendall(b"abcdefgh")
            assert far.recv(8) == b"abcdefgh"


def test_refused_connections_and_the_port_come_back(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """`refuse` turns clients away, leaves connections alone, and gives the port back."""
    with kazoo(proxy.hosts) as client:
        states, session = States(client), client.client_id[0]
        proxy.refuse = True
        assert client.exists("/")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(proxy.address, LIMIT)
        proxy.reset_all()
        states.await_all(KazooState.SUSPENDED)
        proxy.refuse = False
        states.await_all(KazooState.SUSPENDED, KazooState.CONNECTED)
        assert client.client_id[0] == session


def test_a_dead_server_resets_the_client() -> None:
    """Nobody behind the proxy: the client is connected and then reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with (
        pytest.raises(ConnectionResetError),  # by connect already, when the reset is that fast
        FaultProxy(*address) as proxy,
        socket.create_connection(proxy.address, LIMIT) as client,
    ):
        client.recv(1)


def test_all_addresses_of_a_name_are_tried(peer: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client would: localhost is ::1 first in many places, where containers are not published."""
    _, port = peer.getsockname()
    found = [
        (255, socket.SOCK_STREAM, 6, "", ("no such family here", 1)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", free_port(), 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port())),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with FaultProxy("localhost", port) as proxy:
        monkeypatch.undo()
        for _ in range(2):
            with socket.create_connection(proxy.address, LIMIT) as client:
                client.sendall(b"hello")
                with peer.accept()[0] as server:
                    server.settimeout(LIMIT)
                    assert server.recv(5) == b"hello"


@pytest.mark.parametrize("open_end", ["server", "client"])
def test_a_half_open_connection(peer: socket.socket, open_end: Literal["server", "client"]) -> None:
    """One end is closed in good order, the other one stays open and silent, until it is mended."""
    with through(peer) as (proxy, client, server):
        closed, kept = (client, server) if open_end == "server" else (server, client)
        proxy.half_open(open_end=open_end)
        assert closed.recv(1) == b""
        assert silent(kept)
        kept.sendall(b"to nobody")
        assert silent(kept)
        assert proxy.connections == 0
        proxy.mend()
        with contextlib.suppress(ConnectionResetError):  # what was sent may not have been read
            assert kept.recv(1) == b""


def test_a_half_open_connection_ends_with_its_other_side(peer: socket.socket) -> None:
    """Whoever was left alone gives up some time; nothing of it remains."""
    with through(peer) as (proxy, client, server):
        proxy.half_open()
        assert len(proxy._relay._orphans) == 1
        for end in (client, server):
            end.close()
        eventually(lambda: not proxy._relay._orphans)


def test_mend_turns_all_knobs_back(peer: socket.socket) -> None:
    """What stands goes on to stand, and what was kept passes."""
    with through(peer) as (proxy, client, server):
        proxy.latency, proxy.blackhole, proxy.refuse = 0.1, True, True
        proxy.cut_after_up = proxy.cut_after_down = 1
        client.sendall(b"kept")
        proxy.mend()
        assert server.recv(4) == b"kept"
        assert (proxy.latency, proxy.blackhole_up, proxy.blackhole_down, proxy.refuse) == (
            0,
            False,
            False,
            False,
        )
        assert (proxy.cut_after_up, proxy.cut_after_down) == (None, None)


def test_a_connection_waits_for_a_server() -> None:
    """With `connect_within` a server that does not listen yet is waited for, and nothing is lost."""
    port = free_port()
    with (
        FaultProxy("127.0.0.1", port, connect_within=LIMIT) as proxy,
        socket.create_connection(proxy.address, LIMIT) as client,
    ):
        client.sendall(b"early")
        assert silent(client)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(LIMIT)
            with listener.accept()[0] as server:
                assert server.recv(5) == b"early"


def test_a_connection_waits_no_longer_than_that() -> None:
    """After `connect_within` the client's connection is reset."""
    with (
        FaultProxy("127.0.0.1", free_port(), connect_within=0.1) as proxy,
        socket.create_connection(proxy.address, LIMIT) as client,
    ):
        began = time.monotonic()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert time.monotonic() - began >= 0.09


def test_a_proxy_that_cannot_listen_leaves_nothing(peer: socket.socket) -> None:
    """Its error is the system's; sockets that it had made are closed (a warning would be an error)."""
    with pytest.raises(OSError, match="in use"):
        FaultProxy("127.0.0.1", 1, listen=peer.getsockname())
    gc.collect()


def test_a_closed_proxy_leaves_nothing(peer: socket.socket) -> None:
    """`close` resets connections, ends the thread, frees the port, and may be repeated."""
    with through(peer) as (proxy, client, _):
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(proxy.address, LIMIT)
        with pytest.raises(ClosedError):
            proxy.latency = 1.0
        assert not [thread for thread in threading.enumerate() if str(proxy.port) in thread.name]
        assert proxy.connections == 0


def test_an_idle_proxy_sleeps(peer: socket.socket) -> None:
    """With a black hole full of data, the proxy's thread does not spin."""
    with through(peer) as (proxy, client, server):
        proxy.blackhole = True
        client.sendall(b"x" * 1000)
        server.sendall(b"x" * 1000)
        began = time.process_time()
        assert silent(server, 0.5)
        assert time.process_time() - began < 0.1


# Ensembles


@pytest.mark.docker
def test_an_ensemble_has_one_leader(ensemble: ZooKeeperEnsemble) -> None:
    """Three servers: one leads, two follow, a client can use any of them."""
    assert len(ensemble.followers()) == 2
    assert ensemble.leader() not in ensemble.followers()
    with kazoo(ensemble.hosts) as client:
        assert client.exists("/")


@pytest.mark.docker
def test_an_ensemble_survives_its_leader(ensemble: ZooKeeperEnsemble) -> None:
    """A killed leader is replaced; back again, it follows, and the data is there."""
    with kazoo(ensemble.hosts) as client:
        client.create("/kit-survivor", b"")
        old = ensemble.leader()
        old.kill()
        try:
            assert ensemble.leader() is not old
            eventually(lambda: len(ensemble.followers()) == 1)
        finally:
            old.start()
        eventually(lambda: old.mode == "follower")
    with kazoo(old.hosts) as client:
        client.sync("/")
        client.delete("/kit-survivor")


@pytest.mark.timeout(120)
def test_an_ensemble_that_changes() -> None:
    """A server joins, one leaves; every member knows, and the one that left is closed with the rest."""
    with ZooKeeperEnsemble(2, dynamic=True) as ensemble:
        first, second = ensemble.nodes
        third = ensemble.add()
        assert ensemble.nodes == (first, second, third)
        assert third.mode in ("leader", "follower")
        with pytest.raises(ConfigurationError, match="is no member"):
            ensemble.remove(ExternalZooKeeper("127.0.0.1:1"))
        ensemble.remove(first)
        assert ensemble.nodes == (second, third)
        assert ensemble.hosts == f"{second.hosts},{third.hosts}"
        lines = ensemble.configuration.splitlines()
        assert [line.partition("=")[0] for line in lines] == ["server.2", "server.3"]
        with kazoo(second.hosts) as client:
            client.sync("/")
            data, _ = client.get("/zookeeper/config")
            assert [line.partition(b"=")[0] for line in data.splitlines()] == [
                b"server.2",
                b"server.3",
                b"version",
            ]
        assert first.mode
    assert [node.mode for node in (first, second, third)] == ["", "", ""]


def test_an_ensemble_stays_as_it_is_unless_it_is_dynamic(ensemble: ZooKeeperEnsemble) -> None:
    """Servers that were not told that they may change refuse; so it is said first."""
    with pytest.raises(ConfigurationError, match="dynamic=True"):
        ensemble.add()
    with pytest.raises(ConfigurationError, match="dynamic=True"):
        ensemble.remove(ensemble.nodes[0])
    assert len(ensemble.nodes) == 3


def test_a_property_holds_no_blank() -> None:
    """The images split what they are given at blanks."""
    with pytest.raises(ConfigurationError, match=r"property 'a\.b'"):
        jvm_flags(ServerOptions(properties={"a.b": "c d"}))


def test_a_proxy_listens_where_it_is_told(zookeeper: ZooKeeperServer) -> None:
    """Two proxies of one port stand for one name with two addresses."""
    port = free_port()
    with (
        FaultProxy(*zookeeper.address, listen=("127.0.0.1", port)) as one,
        FaultProxy(*zookeeper.address, listen=("127.0.0.2", port)) as two,
    ):
        assert (one.hosts, two.hosts) == (f"127.0.0.1:{port}", f"127.0.0.2:{port}")
        assert "Mode: " in four_letters(one.address, "srvr")
        assert "Mode: " in four_letters(two.address, "srvr")


@pytest.mark.skipif(not _process_is_possible(), reason="no ZooKeeper and java on this machine")
def test_an_ensemble_of_processes() -> None:
    """Without an engine three child processes do the same."""
    with ZooKeeperEnsemble(3, kind="process") as three:
        assert len(three.followers()) == 2
        old = three.leader()
        old.kill()
        assert three.leader() is not old
        old.start()
        eventually(lambda: old.mode == "follower")


def test_an_ensemble_needs_two() -> None:
    """One server is no ensemble, and one port is not enough."""
    with pytest.raises(ConfigurationError):
        ZooKeeperEnsemble(1)
    with pytest.raises(ConfigurationError):
        ZooKeeperEnsemble(3, port=2181)


def test_options_that_nobody_knows_are_refused() -> None:
    """A misspelt option would otherwise be a server with the default."""
    with pytest.raises(ConfigurationError, match="unknown option tik: a server takes tick"):
        provide(tik=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="hosts is empty"):
        provide("")
