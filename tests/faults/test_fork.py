"""A fork with a live session: the parent is unaffected, the child raises, and sends nothing."""

from __future__ import annotations

import inspect
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator import AsyncCoordinator, Coordinator, awaiting, awaiting_locks, blocking, blocking_locks
from coordinator.handles import TransactionHandle
from coordinator.testing import FaultProxy, ServerTLS, ZooKeeperServer, eventually, provide, session_ids
from tests.certificates import Authority
from tests.faults import forking
from tests.support import PATIENCE

ROOT = Path(__file__).parents[2]
AT_ONCE = 5.0
"""Seconds in which a call in the child has raised, on a busy machine; one that waits takes 10 and more."""


class Scene:
    """A process that runs one of the scenes of forking.py, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="test-scene")
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def until(self, key: str) -> Any:
        """Return what is told under that key; read up to it if it was not yet."""
        for told in self.told:
            if key in told:
                return told[key]
        while line := self._lines.get(timeout=2 * PATIENCE):
            told = json.loads(line)
            self.told.append(told)
            if key in told:
                return told[key]
        raise AssertionError(f"no {key!r} after {self.told[-3:]}: {self.end()}")

    def end(self) -> str:
        """Wait for its end; return what it wrote to stderr, for which there is but one reason.

        On a machine that is far too busy kazoo's thread may be late for a close().
        """
        assert self.process.stderr is not None
        stderr = self.process.stderr.read()
        self.process.wait(PATIENCE)
        self._thread.join(PATIENCE)
        return "".join(line for line in stderr.splitlines(True) if "it is left behind" not in line)


@contextmanager
def scene(name: str, hosts: str) -> Iterator[Scene]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.faults.forking", name, hosts],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    playing = Scene(process)
    try:
        yield playing
    finally:
        if process.poll() is None:
            process.kill()
        playing.end()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def assert_refused(told: list[dict[str, Any]]) -> set[str]:
    """Whatever the child asked raised at once, or was silent; return what it asked."""
    asked = [one for one in told if "asked" in one]
    assert [one for one in asked if one["came"] != one["wanted"]] == []
    assert [one for one in asked if one["took"] >= AT_ONCE] == []
    return {one["asked"] for one in asked}


def assert_unaffected(playing: Scene) -> None:
    """The child ended as it should, nothing happened to the parent, and neither complained."""
    assert playing.until("ended") == 0
    assert playing.until("parent") in ([], "connected")
    assert playing.end() == ""
    assert playing.process.returncode == 0


@pytest.mark.parametrize("name", ["connected", "locked", "kept_client", "awaited"])
def test_with_a_live_session(zookeeper: ZooKeeperServer, name: str) -> None:
    """The child raises whatever it is asked, also where every lock was held at the fork; the
    session, its ephemerals and its heartbeats go on for longer than the session's timeout."""
    with scene(name, zookeeper.hosts) as playing:
        assert_unaffected(playing)
        asked = assert_refused(playing.told)
    some = {"Coordinator.get", "Coordinator.close", "Ephemeral.set", "EventStream.next", "_Begun.__next__"}
    assert {("Async" + one if name == "awaited" and one[0] != "_" else one) for one in some} <= asked
    (child,) = (one for one in playing.told if "child" in one)
    assert len(child["sockets"]) == (2 if name == "awaited" else 0)  # the event loop's own
    if name in ("connected", "locked"):
        assert (playing.told[-1]["same"], playing.told[-1]["stands"]) == (True, True)
        assert playing.told[-1]["held"] == [True, True, True]
    if name == "kept_client":
        assert {"client": "closed"} in playing.told
    if name == "locked":
        (locks,) = (one for one in playing.told if "locks" in one)
        assert locks["held"] == locks["locks"] >= 10


def test_with_a_session_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child ends no TLS session: that of the parent goes on."""
    authority = Authority("ours")
    monkeypatch.setenv("FORKING_CA", str(authority.write(tmp_path)))
    theirs = ServerTLS(authority.issue("zk", "127.0.0.1").both, authority.pem)
    with provide(tick=0.1, tls=theirs) as server, scene("connected", server.secure_hosts) as playing:
        assert_unaffected(playing)
        assert_refused(playing.told)
        assert (playing.told[-1]["same"], playing.told[-1]["stands"]) == (True, True)
        assert playing.until("sockets") == []


@pytest.mark.parametrize(
    ("name", "modules"),
    [("connected", (blocking, blocking_locks)), ("awaited", (awaiting, awaiting_locks))],
)
def test_every_public_class_is_asked(zookeeper: ZooKeeperServer, name: str, modules: Any) -> None:
    """None that is handed out, and none of its methods, can be forgotten."""
    with scene(name, zookeeper.hosts) as playing:
        playing.until("parent")
        asked = {one["asked"] for one in playing.told if "asked" in one}
        playing.end()
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if getattr(kind, "__module__", "") == module.__name__
        and inspect.isclass(kind)
        and not kind.__name__.startswith("_")
    ]
    assert len(kinds) == 12
    for kind in (*kinds, AsyncCoordinator if awaiting in modules else Coordinator):
        public = {one for one in dir(kind) if not one.startswith("_")} - forking.READABLE
        if issubclass(kind, TransactionHandle):
            public -= forking.BUILDERS
        assert {f"{kind.__name__}.{one}" for one in public} <= asked


def test_while_suspended(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """The parent finds its session again; the child does not look for it."""
    with scene("suspended", proxy.hosts) as playing:
        playing.until("ready")
        proxy.refuse = True
        proxy.cut()
        assert playing.until("ended") == 0
        assert_refused(playing.told)
        proxy.refuse = False
        assert playing.until("parent") == "connected"
        assert playing.end() == ""


def test_while_connecting(zookeeper: ZooKeeperServer) -> None:
    """A connection that was being opened is not opened in the child."""
    with scene("connecting", zookeeper.hosts) as playing:
        assert playing.until("ended") == 0
        assert playing.end() == ""
        assert_refused(playing.told)
    assert [one["sockets"] for one in playing.told if "child" in one] == [[]]


def test_in_a_handler(zookeeper: ZooKeeperServer) -> None:
    """The child comes back from the handler that forked, and ends in silence."""
    with scene("in_handler", zookeeper.hosts) as playing:
        assert_unaffected(playing)
        assert_refused(playing.told)


def test_in_kazoos_connection_thread(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """The child does not go on as kazoo's loop, which would take the session from its parent."""
    with scene("in_kazoo", proxy.hosts) as playing:
        playing.until("ready")
        proxy.cut()
        assert_unaffected(playing)
        assert_refused(playing.told)


def test_the_connection_does_not_outlive_the_parent(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """Killed without ceremony, it is gone for the server at once, though its child lives on."""
    with scene("orphan", proxy.hosts) as playing:
        session_id, child = playing.until("session"), playing.until("child")
        assert session_id in session_ids(zookeeper)
        assert proxy.connections == 1
        playing.process.kill()
        eventually(lambda: proxy.connections == 0, message="nobody holds the connection")
        os.kill(child, 0)  # it lives
        eventually(lambda: session_id not in session_ids(zookeeper), message="it ends by its timeout")
        os.kill(child, signal.SIGKILL)


def test_a_child_has_one_of_its_own(zookeeper: ZooKeeperServer) -> None:
    """Made in the child, at once, it works there."""
    with scene("own", zookeeper.hosts) as playing:
        assert playing.until("children") == ["child"]
        assert playing.until("ended") == 0
        assert playing.until("parent") == []
        assert playing.end() == ""


def test_multiprocessing(zookeeper: ZooKeeperServer) -> None:
    """Its method fork is a fork."""
    with scene("multiprocess", zookeeper.hosts) as playing:
        assert_unaffected(playing)
        assert_refused(playing.told)
