"""``coordinator demo`` as a user runs it: a process, its exit code, its output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError, NoNodeError

from coordinator import events
from coordinator.testing.ports import free_port

if TYPE_CHECKING:
    from coordinator.testing import ZooKeeperServer

ROOT = Path(__file__).parents[2]
ENDS_WITHIN = 30.0


def demo(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the demo as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "coordinator", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=ENDS_WITHIN + 5)
    return process.returncode, out, err


def places(zookeeper: ZooKeeperServer) -> list[str]:
    """The znodes of demos that are there."""
    client = KazooClient(zookeeper.hosts)
    client.start()
    try:
        return [name for name in client.get_children("/") if name.startswith("coordinator-demo-")]
    finally:
        client.stop()
        client.close()


def subsequence(wanted: list[str], kinds: list[str]) -> bool:
    left = iter(kinds)
    return all(kind in left for kind in wanted)


EXPIRY = [
    "session.suspended",
    "session.expired",
    "connection.opened",
    "session.established",
    "recovery.started",
    "ephemeral.recreated",
    "ephemeral.recreated",
    "ephemeral.recreated",
]


def test_as_json_it_tells_all_three_acts_in_order(zookeeper: ZooKeeperServer) -> None:
    """Every line is an event; the kinds come in the order that the acts make; exit 0."""
    began = time.monotonic()
    code, out, err = outcome(demo("--json", "--zookeeper", zookeeper.hosts))
    assert code == 0, err
    assert time.monotonic() - began < ENDS_WITHIN
    told: list[Any] = [events.event_adapter.validate_json(line) for line in out.splitlines()]
    kinds = [event.kind for event in told]
    prologue = ["connection.opened", "session.established", *["ephemeral.created"] * 3]
    first = [*EXPIRY, "recovery.completed"]
    second = ["session.suspended", "connection.failed", "session.resumed"]
    third = [*EXPIRY, "znode.deleted", "znode.created", "recovery.completed"]
    third.insert(1, "session.lapsed")
    assert subsequence([*prologue, *first, *second, *third, "session.closed"], kinds), kinds
    assert [event.epoch for event in told if event.kind == "session.established"] == [1, 2, 3]
    assert kinds.count("children.changed") == 3
    assert kinds[-1] == "session.closed"
    assert "all checks hold" in err


def test_for_people_it_explains_and_leaves_nothing_behind(zookeeper: ZooKeeperServer) -> None:
    """One line an event, a heading an act, a verdict; its znodes are removed."""
    code, out, err = outcome(demo("--zookeeper", zookeeper.hosts))
    assert code == 0, out + err
    assert err == ""
    for told in ("Act 1", "Act 2", "Act 3", "session.expired", "in the gap", "all checks hold"):
        assert told in out
    assert "FAILED" not in out
    assert "\x1b[" not in out
    assert places(zookeeper) == []


def test_a_recovery_that_is_sabotaged_fails(zookeeper: ZooKeeperServer) -> None:
    """A rival takes an ephemeral's place while it is gone: exit 1, and it says which."""
    process = demo("--zookeeper", zookeeper.hosts)
    client = KazooClient(zookeeper.hosts)
    client.start()
    try:
        path, usurped = "", False
        while not usurped and process.poll() is None:
            if not path:
                found = [name for name in client.get_children("/") if name.startswith("coordinator-demo-")]
                path = (
                    f"/{found[0]}/workers/w-1" if found and client.exists(f"/{found[0]}/workers/w-1") else ""
                )
            elif client.exists(path) is None:
                with contextlib.suppress(NodeExistsError, NoNodeError):
                    client.create(path, b"mine")
                    usurped = True
        code, out, err = outcome(process)
    finally:
        client.stop()
        client.close()
    assert usurped
    assert code == 1, out + err
    assert "ephemeral.conflict" in out
    assert "FAILED" in out
    assert "/workers/w-1 belongs to 0x0" in out
    assert "checks failed" in out
    assert places(zookeeper) == []


def test_a_chroot_has_to_exist(zookeeper: ZooKeeperServer) -> None:
    code, _, err = outcome(demo("--zookeeper", f"{zookeeper.hosts}/not-there"))
    assert code == 2
    assert "the chroot /not-there does not exist" in err


def test_without_a_server_it_ends_quickly_and_says_so() -> None:
    """Exit 2, within seconds, naming the server."""
    began = time.monotonic()
    hosts = f"127.0.0.1:{free_port()}"
    code, out, err = outcome(demo("--json", "--zookeeper", hosts))
    assert code == 2
    assert time.monotonic() - began < 8.0
    assert out == ""
    assert hosts in err
    assert "does not serve" in err
    assert "Traceback" not in err


def test_hosts_that_are_malformed_are_refused() -> None:
    code, _, err = outcome(demo("--zookeeper", "127.0.0.1:port"))
    assert code == 2
    assert "127.0.0.1:port" in err


def test_ctrl_c_ends_it_cleanly(zookeeper: ZooKeeperServer) -> None:
    """Exit 130, no traceback, nothing left on the server."""
    process = demo("--json", "--zookeeper", zookeeper.hosts)
    assert process.stdout is not None
    process.stdout.readline()  # it has begun
    process.send_signal(signal.SIGINT)
    code, _, err = outcome(process)
    assert code == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert places(zookeeper) == []


@pytest.mark.parametrize("form", [("--json",), ()])
def test_a_closed_pipe_ends_it_without_a_traceback(zookeeper: ZooKeeperServer, form: tuple[str, ...]) -> None:
    process = demo(*form, "--zookeeper", zookeeper.hosts)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    code, _, err = outcome(process)
    assert code == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert places(zookeeper) == []
