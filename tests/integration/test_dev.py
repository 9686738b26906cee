"""``coordinator dev`` as a user runs it: a ZooKeeper that is there, and then is gone."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coordinator.testing import eventually
from coordinator.testing.container import import_docker
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.ports import free_port
from coordinator.testing.process import find_installation
from tests.command import Command, run
from tests.support import observing

if TYPE_CHECKING:
    from coordinator.testing import ZooKeeperServer


def process_is_possible() -> bool:
    try:
        find_installation()
    except ZooKeeperUnavailableError:
        return False
    return True


class Kind:
    """A way to run servers, and what is there of them."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._run = secrets.token_hex(6)
        self._folder = folder
        self.environment = {
            "COORDINATOR_ZOOKEEPER": name,
            "COORDINATOR_TESTING_RUN": self._run,
            "COORDINATOR_TEST_HOSTS": "",
            "TMPDIR": str(folder),
        }

    def left(self) -> list[str]:
        """Containers, networks and folders of servers that are still there."""
        if self.name == "process":
            return [one.name for one in self._folder.iterdir()]
        client = import_docker().from_env()
        try:
            label = {"label": f"coordinator.testing.run={self._run}"}
            things: list[Any] = client.containers.list(all=True, filters=label, ignore_removed=True)
            return [one.name for one in things + client.networks.list(filters=label)]
        finally:
            client.close()


@pytest.fixture(
    params=[
        pytest.param("container", marks=pytest.mark.docker),
        pytest.param(
            "process",
            marks=pytest.mark.skipif(not process_is_possible(), reason="no ZooKeeper and java here"),
        ),
    ]
)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Each way to run a server; nothing of it may be left at the end."""
    kind = Kind(request.param, tmp_path)
    yield kind
    assert kind.left() == []


def closed(hosts: str) -> bool:
    """Whether nobody listens at any of these servers."""
    for one in hosts.split(","):
        host, _, port = one.rpartition(":")
        with socket.socket() as door:
            if door.connect_ex((host, int(port))) == 0:
                return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_signal_and_leaves_nothing(kind: Kind, number: signal.Signals) -> None:
    """The one line on stdout is the hosts; exit 128 + the signal's number; all of it is removed."""
    with Command("dev", "--port", "0", environment=kind.environment) as command:
        hosts = command.until(":")
        with observing(hosts) as client:
            client.create("/mine", ephemeral=True)
        assert kind.left() != []
        assert command.end(number) == 128 + number
    assert command.out == [hosts]
    assert command.err[-1] == "removed"
    assert closed(hosts)


def test_an_ensemble_serves_and_leaves_nothing(kind: Kind) -> None:
    """Three servers with a leader; all of them go."""
    with Command("dev", "--ensemble", "3", environment=kind.environment) as command:
        hosts = command.until(":")
        assert hosts.count(",") == 2
        code, out, err = run("status", hosts, "--strict")
        assert code == 0, out + err
        assert "3 of 3 serve, leader " in out
        with observing(hosts) as client:
            client.create("/mine", ephemeral=True)
        assert command.end(signal.SIGTERM) == 143
    assert closed(hosts)


def test_ended_while_it_starts_it_leaves_nothing(kind: Kind) -> None:
    """A container that is being created is not forgotten."""
    with Command("dev", "--port", "0", environment=kind.environment) as command:
        command.until("looking for", stream="err")
        eventually(kind.left, message="something to be left behind")
        assert command.end(signal.SIGTERM) == 143
    assert command.out == []


def test_a_command_knows_the_hosts_and_its_exit_code_counts(kind: Kind) -> None:
    """stdout is the command's alone; what it starts with comes from COORDINATOR_HOSTS."""
    script = (
        "import sys; from coordinator import Coordinator as C; zk = C().start(); print(zk.settings.hosts)"
    )
    script += "; zk.close(); sys.exit(7)"
    code, out, err = run("dev", "--", sys.executable, "-c", script, environment=kind.environment)
    assert code == 7, err
    assert f"COORDINATOR_HOSTS={out.strip()}" in err.splitlines()
    assert closed(out.strip())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_to_the_command(kind: Kind, number: signal.Signals) -> None:
    """The command may end in its own good time; then the server goes."""
    script = (
        "import signal, sys; signal.signal(int(sys.argv[1]), lambda *_: sys.exit(9)); "
        "print('ready', flush=True); signal.pause()"
    )
    arguments = ("dev", sys.executable, "-c", script, str(int(number)))
    with Command(*arguments, environment=kind.environment, start_new_session=True) as command:
        command.until("ready")
        assert command.end(number) == 9
    assert command.err[-1] == "removed"


def test_a_command_that_dies_of_a_signal_ends_it_as_in_a_shell(kind: Kind) -> None:
    code, _, _ = run("dev", "sh", "-c", "kill -9 $$", environment=kind.environment)
    assert code == 137


def test_a_command_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    """127, or 126 for one that may not be run; before any server is started."""
    assert run("dev", "no-such-command")[::2] == (
        127,
        "coordinator dev: no-such-command: command not found\n",
    )
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(stat.S_IRUSR)
    code, _, err = run("dev", str(text))
    assert code == 126
    assert "not executable" in err


def test_a_port_that_is_taken_is_told_with_who_has_it(zookeeper: ZooKeeperServer) -> None:
    """Exit 2, and what to do."""
    host, port = zookeeper.address
    if host != "127.0.0.1":
        pytest.skip("the engine is elsewhere")
    environment = {"COORDINATOR_TEST_HOSTS": ""}
    code, out, err = run("dev", "--port", str(port), environment=environment)
    assert (code, out) == (2, "")
    assert f"port {port} of 127.0.0.1 is taken by a ZooKeeper ({zookeeper.version}, standalone)" in err
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, _, err = run("dev", "--port", str(other.getsockname()[1]), environment=environment)
    assert code == 2
    assert "is taken by another program; --port 0 takes any free one" in err


def test_the_port_can_be_chosen(kind: Kind) -> None:
    port = free_port()
    with Command("dev", "--port", str(port), environment=kind.environment) as command:
        assert command.until(":") == f"127.0.0.1:{port}"
        command.end()


def test_a_port_for_an_ensemble_is_refused() -> None:
    code, _, err = run("dev", "--ensemble", "3", "--port", "2181")
    assert code == 2
    assert "--port is for one server" in err


def test_a_server_that_is_not_ours_is_used_and_left_alone(zookeeper: ZooKeeperServer) -> None:
    """COORDINATOR_TEST_HOSTS comes first, as in the tests."""
    environment = {"COORDINATOR_TEST_HOSTS": zookeeper.hosts}
    code, out, err = run("dev", "sh", "-c", "echo $COORDINATOR_HOSTS", environment=environment)
    assert (code, out) == (0, f"{zookeeper.hosts}\n"), err
    assert "it is not ours" in err
    assert "removed" not in err
    assert zookeeper.mode


def test_where_none_can_be_had_it_says_how_to_get_one() -> None:
    """Exit 2, naming each way and why it fails."""
    environment = {
        **dict.fromkeys(("COORDINATOR_TEST_HOSTS", "COORDINATOR_ZOOKEEPER"), ""),
        "DOCKER_HOST": "unix:///nowhere.sock",
        "ZOOKEEPER_HOME": "/nowhere",
    }
    code, out, err = run("dev", environment={**environment, "PATH": os.environ["PATH"]})
    assert (code, out) == (2, "")
    assert "no Docker engine answers at unix:///nowhere.sock" in err
    assert "ZOOKEEPER_HOME=/nowhere" in err
    assert "Traceback" not in err
