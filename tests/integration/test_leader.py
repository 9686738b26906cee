"""``coordinator leader`` as a user runs it: who leads, and each change of that."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.recipe.lock import Lock

from coordinator.cli import app
from coordinator.models import hex_id
from coordinator.testing import ZooKeeperServer
from tests.command import Command, start
from tests.support import PATIENCE, new_place

Capture = pytest.CaptureFixture[str]


def led_by(observer: KazooClient, path: str, identity: str) -> Lock:
    lock = Lock(observer, path, identity)
    lock.acquire(timeout=PATIENCE)
    return lock


def seat_of(observer: KazooClient, path: str) -> tuple[str, Any]:
    (name,) = observer.get_children(path)
    return f"{path}/{name}", observer.exists(f"{path}/{name}")


def test_who_leads_is_told_with_token_and_session(
    zookeeper: ZooKeeperServer, observer: KazooClient, capsys: Capture
) -> None:
    path = new_place()
    lock = led_by(observer, path, "ada")
    seat, stat = seat_of(observer, path)
    assert app.run(["leader", zookeeper.hosts, path]) == 0
    told = capsys.readouterr()
    assert told.out == f"ada  token {stat.czxid}  session {hex_id(stat.ephemeralOwner)}\n"
    assert app.run(["leader", zookeeper.hosts, path, "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line.pop("at")
    assert line == {
        "path": path,
        "identity": "ada",
        "token": stat.czxid,
        "session_id": hex_id(stat.ephemeralOwner),
        "seat": seat,
    }
    lock.release()
    observer.delete(path)


def test_where_nobody_leads_the_exit_code_says_so(zookeeper: ZooKeeperServer, capsys: Capture) -> None:
    """1, and nothing on stdout; as JSON an object without a leader. The path need not exist."""
    path = new_place()
    assert app.run(["leader", zookeeper.hosts, path]) == 1
    assert capsys.readouterr() == ("", f"coordinator leader: nobody leads at {path}\n")
    assert app.run(["leader", zookeeper.hosts, path, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["identity"] is None


def test_who_leads_among_curators_is_told_if_asked_for(
    zookeeper: ZooKeeperServer, observer: KazooClient, capsys: Capture
) -> None:
    """Otherwise nobody does, as for kazoo, but it is told how to look."""
    path = new_place()
    seat = observer.create(f"{path}/_c_1-latch-", b"ada", ephemeral=True, sequence=True, makepath=True)
    assert app.run(["leader", zookeeper.hosts, path, "--dialect", "curator"]) == 0
    assert capsys.readouterr().out.startswith("ada  token ")
    with Command("leader", zookeeper.hosts, path, "--watch", "--dialect", "curator") as command:
        command.until("ada  token ")
    assert app.run(["leader", zookeeper.hosts, path]) == 1
    assert "there is a queue of another kind: --dialect curator" in capsys.readouterr().err
    observer.delete(seat)
    seat = observer.create(f"{path}/_c_1-lock-", b"ada", ephemeral=True, sequence=True)
    assert app.run(["leader", zookeeper.hosts, path, "--dialect", "curator"]) == 1
    assert "Curator's locks" in capsys.readouterr().err
    observer.delete(seat)
    observer.delete(path)


def test_an_ensemble_that_does_not_answer_is_not_nobody(capsys: Capture) -> None:
    assert app.run(["leader", "127.0.0.1:1", "/a", "--timeout", "0.3"]) == 122
    assert "127.0.0.1:1: refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [(), ("zk1:2181",), ("/a", "/b"), ("zk1", "a"), ("/a//b",), ("/a", "--dialect", "zookeeper")]
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert app.run(["leader", *arguments]) == 2
    assert capsys.readouterr().err


def test_each_change_is_told(zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """As NDJSON, the present state first."""
    path = new_place()
    with Command("leader", zookeeper.hosts, path, "--watch", "--json") as command:
        assert json.loads(command.until(path))["identity"] is None
        lock = led_by(observer, path, "ada")
        first = json.loads(command.until("ada"))
        assert first["session_id"] == hex_id(observer.client_id[0])
        lock.release()
        assert json.loads(command.until("null"))["token"] is None
        lock = led_by(observer, path, "bob")
        second = json.loads(command.until("bob"))
        assert second["token"] > first["token"]
        assert command.end(signal.SIGTERM) == 143
    lock.release()
    observer.delete(path)
    assert command.err == []


def test_an_ensemble_that_is_waited_for_is_told_once() -> None:
    """Not each attempt: it goes on until there is an answer."""
    with Command("leader", "127.0.0.1:1", "/a", "--watch") as command:
        command.until("127.0.0.1:1: refused", stream="err")
        with pytest.raises(subprocess.TimeoutExpired):
            command.process.wait(0.5)
        assert command.end(signal.SIGTERM) == 143
    assert (command.out, len(command.err)) == ([], 1)


def test_a_reader_that_has_gone_ends_it(zookeeper: ZooKeeperServer) -> None:
    """``| head -1``: 141, without a word, also while nothing changes."""
    process = start("leader", zookeeper.hosts, "/nobody", "--watch")
    assert process.stdout is not None
    assert "nobody" in process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (141, "")
