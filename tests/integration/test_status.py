"""``coordinator status`` as a probe runs it: its exit code, and what it found."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from coordinator.cli.status import Status
from coordinator.testing import FaultProxy, eventually
from coordinator.testing.ports import free_port
from tests.command import run

if TYPE_CHECKING:
    from coordinator.testing import ZooKeeperEnsemble, ZooKeeperServer


def status(*arguments: str, **environment: str) -> tuple[int, Status]:
    """What --json tells, read back."""
    code, out, err = run("status", "--json", *arguments, environment=environment)
    assert err == ""
    assert len(out.splitlines()) == 1
    return code, Status.model_validate_json(out)


def test_a_server_that_serves_is_healthy(zookeeper: ZooKeeperServer) -> None:
    """Exit 0; session, round trip, sync, version and mode are told."""
    code, found = status(zookeeper.hosts)
    assert (code, found.status, found.problem) == (0, "healthy", "")
    assert found.session is not None
    assert found.session.session_id
    assert found.session.server == zookeeper.hosts
    assert found.session.timeout == 2.5  # half of --timeout: it is short-lived
    assert found.round_trip is not None
    assert 0 < found.round_trip.minimum <= found.round_trip.median < 5
    assert found.sync is not None
    (server,) = found.servers
    assert (server.serves, server.mode, server.version) == (True, "standalone", zookeeper.version)
    assert (found.quorum.leader, found.quorum.majority) == (zookeeper.hosts, True)


def test_for_people_it_says_the_same(zookeeper: ZooKeeperServer) -> None:
    code, out, err = run("status", zookeeper.hosts)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "healthy"
    names = ("session", "round trip", "sync", "server", "quorum")
    assert [line.startswith(f"{name} ") for line, name in zip(lines[1:], names, strict=True)] == [True] * 5
    assert f"standalone, ZooKeeper {zookeeper.version}" in out
    assert "\x1b[" not in out


def test_hosts_come_from_the_environment(zookeeper: ZooKeeperServer) -> None:
    assert status(COORDINATOR_HOSTS=zookeeper.hosts)[0] == 0


def test_an_ensemble_has_a_leader_and_a_majority(ensemble: ZooKeeperEnsemble) -> None:
    code, found = status(ensemble.hosts)
    assert (code, found.status) == (0, "healthy")
    assert found.quorum.leader == ensemble.leader().hosts
    assert (found.quorum.serving, found.quorum.of) == (3, 3)


def test_with_a_follower_down_it_is_degraded_but_serves(ensemble: ZooKeeperEnsemble) -> None:
    """A probe passes, since the session does; --strict is exit 3."""
    down = ensemble.followers()[0]
    down.kill()
    try:
        code, found = status(ensemble.hosts)
        assert (code, found.status) == (0, "degraded")
        assert found.problem == f"does not serve: {down.hosts}"
        assert (found.quorum.serving, found.quorum.majority) == (2, True)
        assert run("status", ensemble.hosts, "--strict")[0] == 3
    finally:
        down.start()


def test_without_a_quorum_it_is_unhealthy(ensemble: ZooKeeperEnsemble) -> None:
    """Exit 1: the one that is left answers, but serves nobody."""
    left, *down = ensemble.nodes
    for node in down:
        node.kill()
    try:
        eventually(lambda: not left.mode, message="the last one notices")
        code, found = status(ensemble.hosts, "--timeout", "2")
        assert (code, found.status, found.session, found.sync) == (1, "unhealthy", None, None)
        assert not found.quorum.majority
        assert found.servers[0].problem == "not currently serving requests"
        assert "no session" in found.problem
    finally:
        ensemble.start()


@pytest.mark.parametrize("fault", ["refuse", "blackhole"])
def test_a_server_that_cannot_be_reached_is_unhealthy_in_time(proxy: FaultProxy, fault: str) -> None:
    """Exit 1, within the timeout and the two seconds of close()."""
    setattr(proxy, fault, True)
    began = time.monotonic()
    code, found = status(proxy.hosts, "--timeout", "1")
    assert (code, found.status) == (1, "unhealthy")
    assert time.monotonic() - began < 1 + 2 + 5  # and the start of Python, on a busy machine
    assert found.servers[0].serves is False


def test_one_that_swallows_everything_leaves_time_for_the_others(
    zookeeper: ZooKeeperServer, proxy: FaultProxy
) -> None:
    """Whichever is tried first: it serves."""
    proxy.blackhole = True
    code, found = status(f"{proxy.hosts},{zookeeper.hosts}", "--timeout", "3")
    assert (code, found.status) == (0, "degraded"), found
    assert found.servers[0].problem == "no answer within 3 s"


def test_srvr_that_is_not_allowed_is_no_failure(zookeeper: ZooKeeperServer) -> None:
    """The session decides; what cannot be asked is said to be so."""
    with Picky(zookeeper.address) as picky:
        code, found = status(picky.hosts, "--strict")
    assert (code, found.status) == (0, "healthy"), found
    (server,) = found.servers
    assert (server.serves, server.problem, server.mode) == (None, "srvr not allowed", None)


def test_what_is_no_zookeeper_is_unhealthy() -> None:
    """Somebody who listens and never speaks."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        code, found = status(f"127.0.0.1:{deaf.getsockname()[1]}", "--timeout", "1")
    assert (code, found.status) == (1, "unhealthy")


def test_a_missing_chroot_and_refused_credentials_are_unhealthy(zookeeper: ZooKeeperServer) -> None:
    """Exit 1, with what is wrong, and without the secret."""
    code, found = status(f"{zookeeper.hosts}/not-there")
    assert code == 1
    assert "chroot /not-there does not exist" in found.problem
    code, found = status(zookeeper.hosts, COORDINATOR_AUTH="nonsense:planted")
    assert code == 1
    assert found.problem
    assert "planted" not in found.model_dump_json()


@pytest.mark.parametrize("hosts", ["zk://127.0.0.1", "127.0.0.1:port", "", "alice:planted@zk1"])
def test_wrong_hosts_are_exit_code_2(hosts: str) -> None:
    """One line, no traceback, nothing repeated that may be secret."""
    code, out, err = run("status", hosts)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "planted" not in err


def test_the_json_is_plain(zookeeper: ZooKeeperServer) -> None:
    """Ids in hex, as in events."""
    _, out, _ = run("status", zookeeper.hosts, "--json")
    told = json.loads(out)
    assert told["session"]["session_id"].startswith("0x")
    assert list(told) == ["status", "hosts", "problem", "session", "round_trip", "sync", "servers", "quorum"]


class Picky:
    """A server that refuses srvr and else is the one behind it."""

    def __init__(self, behind: tuple[str, int]) -> None:
        self._behind = behind
        self._door = socket.create_server(("127.0.0.1", free_port()))
        self.hosts = f"127.0.0.1:{self._door.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._begin(self._serve)

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="test-picky")
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with self._door:
            while True:
                try:
                    client, _ = self._door.accept()
                except OSError:
                    return
                self._begin(self._answer, client)

    def _answer(self, client: socket.socket) -> None:
        with client:
            first = client.recv(4)
            if first == b"srvr":
                client.sendall(b"srvr is not executed because it is not in the whitelist.\n")
                return
            with socket.create_connection(self._behind) as server:
                server.sendall(first)
                while ready := select.select([client, server], [], [])[0]:
                    for source in ready:
                        if not (chunk := source.recv(4096)):
                            return
                        (server if source is client else client).sendall(chunk)

    def __enter__(self) -> Picky:
        return self

    def __exit__(self, *_: object) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
