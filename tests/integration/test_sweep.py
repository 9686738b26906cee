"""A run that is killed leaves servers behind; the next one removes them, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.testing import ZooKeeperUnavailableError
from coordinator.testing.container import import_docker
from coordinator.testing.ownership import OWNER_FILE
from coordinator.testing.process import find_installation

ROOT = Path(__file__).parents[2]

CONTAINERS = """
import sys
from coordinator.testing import ZooKeeperContainer, ZooKeeperEnsemble
with ZooKeeperEnsemble(2, kind="container") as two, ZooKeeperContainer() as one:
    one.freeze()
    print("ready", flush=True)
    sys.stdin.read()
    one.thaw()
"""

ENSEMBLE = """
import sys
from coordinator.testing import ZooKeeperEnsemble
with ZooKeeperEnsemble(2, kind="container"):
    print("ready", flush=True)
    sys.stdin.read()
"""

ONE = """
import sys
from coordinator.testing import ZooKeeperContainer
with ZooKeeperContainer():
    print("ready", flush=True)
    sys.stdin.read()
"""

PROCESS = """
import sys
from coordinator.testing import ZooKeeperProcess
with ZooKeeperProcess() as one, ZooKeeperProcess() as two:
    two.freeze()
    print("ready", flush=True)
    sys.stdin.read()
"""


def process_is_possible() -> bool:
    try:
        find_installation()
    except ZooKeeperUnavailableError:
        return False
    return True


@contextmanager
def running(code: str, name: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A program with servers of its own, once they serve; it ends them when its input ends."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "COORDINATOR_TESTING_RUN": name,
    }
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate(timeout=40)


def left(name: str) -> list[str]:
    """Containers and networks of a run."""
    client = import_docker().from_env()
    try:
        label = {"label": f"coordinator.testing.run={name}"}
        containers: list[Any] = client.api.containers(all=True, filters=label)
        return [one["Id"] for one in containers + client.api.networks(filters=label)]
    finally:
        client.close()


def servers_in(folder: Path) -> list[str]:
    """The command lines of servers that run out of a folder."""
    commands = [entry / "cmdline" for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    found = []
    for command in commands:
        try:
            text = command.read_text()
        except OSError:
            continue
        if f"{folder}/" in text and "QuorumPeerMain" in text:
            found.append(text)
    return found


@pytest.mark.docker
@pytest.mark.timeout(120)
def test_containers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    """Its containers, one of them frozen, and its network go; those of a living run stay."""
    names = {who: f"{tmp_path.name}-{os.getpid()}-{who}" for who in ("killed", "living", "next")}
    with running(ENSEMBLE, names["living"], tmp_path):
        with running(CONTAINERS, names["killed"], tmp_path) as killed:
            assert len(left(names["killed"])) == 4
            killed.kill()
        with running(ONE, names["next"], tmp_path):
            assert left(names["killed"]) == []
            assert (len(left(names["living"])), len(left(names["next"]))) == (3, 1)
    assert left(names["living"]) == left(names["next"]) == []


@pytest.mark.skipif(not process_is_possible(), reason="no ZooKeeper and java on this machine")
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to look for processes")
def test_processes_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    """Its servers, one of them frozen, and their folders go, and it says so; all others stay."""
    foreign = tmp_path / "coordinator-zookeeper-foreign"  # of another machine
    foreign.mkdir()
    (foreign / OWNER_FILE).write_text("machine/namespace/1/1")
    unmarked = tmp_path / "coordinator-zookeeper-unmarked"
    unmarked.mkdir()
    with running(PROCESS, "living", tmp_path) as living:
        others = {*tmp_path.iterdir()}
        with running(PROCESS, "killed", tmp_path) as killed:
            killed.kill()
        orphaned = {*tmp_path.iterdir()} - others
        assert len(orphaned) == 2
        assert all(len(servers_in(one)) == 1 for one in orphaned)
        reader = subprocess.Popen(
            ["tail", "-f", str(sorted(orphaned)[0] / "zoo.cfg")], stdout=subprocess.DEVNULL
        )
        try:
            with running(PROCESS, "next", tmp_path) as following:
                assert not [one for one in orphaned if one.exists() or servers_in(one)]
                assert all(len(servers_in(one)) == 1 for one in others - {foreign, unmarked})
                _, said = following.communicate(timeout=40)
            assert said == "coordinator.testing: removed 2 server processes left by a run that was killed\n"
            assert living.poll() is reader.poll() is None
        finally:
            reader.kill()
            reader.wait()
    assert {*tmp_path.iterdir()} == {foreign, unmarked}
