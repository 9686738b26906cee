"""``coordinator run`` as a user runs it, against a real ZooKeeper.

What becomes of the command in which case is tested without one: tests/unit/test_child.py.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from coordinator.testing import FaultProxy, ZooKeeperServer
from tests.command import Command, Watched, run
from tests.support import held, new_place, queued

#: Two processes that are deaf to SIGTERM.
DEAF = "trap '' TERM; sleep 100 & echo $$ $!; while :; do wait; done"
SAYS = "echo $COORDINATOR_LEASE_TOKEN $COORDINATOR_LEASE_PATH; read line; echo $line; exit 7"


@pytest.mark.parametrize(
    ("kind", "dialect", "mark"),
    [
        ("--lock", (), "__lock__"),
        ("--lead", ("--dialect", "kazoo"), "__lock__"),
        ("--lock", ("--dialect", "curator"), "-lock-"),
        ("--lead", ("--dialect", "curator"), "-latch-"),
    ],
)
def test_the_command_runs_while_it_is_held(
    zookeeper: ZooKeeperServer,
    observer: KazooClient,
    place: str,
    kind: str,
    dialect: tuple[str, ...],
    mark: str,
) -> None:
    """It knows the token and the znode, has our input, and its exit code is ours; then nothing is left."""
    options = (kind, place, *dialect, "--identity", "bob", zookeeper.hosts)
    with Command("run", *options, "--", "sh", "-c", SAYS, stdin=subprocess.PIPE) as command:
        token, path = command.until(place).split()
        data, stat = observer.get(path)
        assert (data, stat.czxid) == (b"bob", int(token))
        assert mark in path
        assert command.process.stdin is not None
        command.process.stdin.write("given\n")
        command.process.stdin.flush()
        command.until("given")
        assert command.wait() == 7
    assert command.err == []


def test_who_waits_leaves_no_trace_when_he_is_interrupted(
    zookeeper: ZooKeeperServer, observer: KazooClient, place: str
) -> None:
    """130 as a shell says it. A signal that is meant for the command does not end the wait for it."""
    with (
        held(observer, place),
        Command("run", "--lock", place, zookeeper.hosts, "--", "echo", "never") as command,
    ):
        mine = queued(observer, place, 2)[1]
        command.process.send_signal(signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            command.process.wait(0.2)
        assert command.end(signal.SIGINT) == 130
        assert mine not in observer.get_children(place)
    assert (command.out, command.err) == ([], [])


def test_who_waits_in_vain_is_told_for_whom(
    zookeeper: ZooKeeperServer, observer: KazooClient, place: str
) -> None:
    with held(observer, place):
        code, out, err = run("run", "--lead", place, "--timeout", "1", zookeeper.hosts, "--", "echo", "never")
        assert len(observer.get_children(place)) == 1
    assert (code, out) == (124, "")
    assert "held by ada" in err


def test_a_path_that_is_no_queue_is_left_alone(zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    path = new_place()
    observer.create(path, b"somebody's")
    code, out, err = run("run", "--lock", path, zookeeper.hosts, "--", "echo", "never")
    assert (code, out) == (123, "")
    assert path in err
    assert observer.get_children(path) == []
    observer.delete(path)


@pytest.mark.parametrize(
    ("theirs", "ours", "way"),
    [
        ("__lock__", ("--lead", "--dialect", "curator"), "use --dialect kazoo"),
        ("-lock-", ("--lead", "--dialect", "curator"), "use --lock with --dialect curator"),
        ("-latch-", ("--lock", "--dialect", "kazoo"), "use --lead with --dialect curator"),
    ],
)
def test_the_queue_of_others_is_told_with_the_options_for_it(
    zookeeper: ZooKeeperServer,
    observer: KazooClient,
    place: str,
    theirs: str,
    ours: tuple[str, ...],
    way: str,
) -> None:
    """Not with the arguments of Python."""
    seat = observer.create(f"{place}/x{theirs}", ephemeral=True, sequence=True, makepath=True)
    kind, *dialect = ours
    code, _, err = run("run", kind, place, *dialect, zookeeper.hosts, "--", "echo", "never")
    assert code == 123
    assert way in err
    observer.delete(seat)


def test_a_lease_that_cannot_be_had_in_this_session_is_wrong_usage(zookeeper: ZooKeeperServer) -> None:
    code, _, err = run("run", "--lock", "/a", "--stop-within", "100", zookeeper.hosts, "--", "echo", "never")
    assert code == 123
    assert "too short for a lease" in err


def test_cut_off_it_has_ended_the_command_before_the_next_one_begins(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient, place: str
) -> None:
    """Deaf to SIGTERM, with a grace that is longer than the lease; nothing comes from the server any more."""
    settings = {"COORDINATOR_SESSION_TIMEOUT": "3", "COORDINATOR_TICK_TIME": "0.1"}
    options = ("--lock", place, "--stop-within", "0.9", "--grace", "60")
    next_one = ("run", "--lock", place, zookeeper.hosts, "--", "cat")
    with Command("run", *options, proxy.hosts, "--", "sh", "-c", DEAF, environment=settings) as first:
        family = [int(pid) for pid in first.until(" ").split()]
        with Command(*next_one, stdin=subprocess.PIPE) as second, Watched(family) as watched:
            queued(observer, place, 2)
            proxy.blackhole = True
            died = watched.deaths()
            assert len(observer.get_children(place)) == 2, "the next one may have begun already"
            first.until("is lost (lapsed): it is ended", stream="err")
            assert first.wait() == 121
            queued(observer, place, 1)
            assert second.process.poll() is None
            assert second.process.stdin is not None
            second.process.stdin.close()
            assert second.wait() == 0
    assert died.keys() == set(family)


@pytest.mark.parametrize(("on_lost", "code"), [("kill", 121), ("ignore", 7)])
def test_a_seat_that_somebody_deletes_ends_it_at_once(
    zookeeper: ZooKeeperServer, observer: KazooClient, place: str, on_lost: str, code: int
) -> None:
    """Somebody else may hold it by now; so does a session that is closed from outside."""
    options = ("--lock", place, "--on-lost", on_lost, zookeeper.hosts)
    with Command("run", *options, "--", "sh", "-c", SAYS, stdin=subprocess.PIPE) as command:
        command.until(place)
        (seat,) = queued(observer, place, 1)
        observer.delete(f"{place}/{seat}")
        command.until("is lost (deleted)", stream="err")
        if on_lost == "ignore":
            assert command.process.stdin is not None
            command.process.stdin.write("given\n")
            command.process.stdin.flush()
            command.until("given")
        assert command.wait() == code


def test_without_an_ensemble_it_says_so(tmp_path: Path) -> None:
    """122, and the command has not begun."""
    mark = tmp_path / "mark"
    code, _, err = run("run", "--lock", "/a", "--timeout", "0.3", "127.0.0.1:1", "--", "touch", str(mark))
    assert code == 122
    assert "127.0.0.1:1: refused" in err
    assert not mark.exists()
