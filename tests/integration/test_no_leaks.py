"""The fixture zookeeper_no_leaks: what fails a test at its end, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.testing import ZooKeeperServer
from tests.projects import Project

CLEAN = """
import pytest
from kazoo.client import KazooClient

def use(zk):
    zk.ephemeral("/workers/w-1")
    zk.watch("/config")
    zk.watch_children("/workers")

def test_asked_for_last(coordinator, zookeeper_client, faults, zookeeper_no_leaks):
    use(coordinator)
    zookeeper_client.create("/mine", ephemeral=True)
    zookeeper_client.exists("/nobody", watch=print)
    faults.proxies[0].blackhole = True

def test_asked_for_first(zookeeper_no_leaks, coordinator):
    use(coordinator)

@pytest.mark.usefixtures("zookeeper_no_leaks")
def test_asked_for_by_a_mark(coordinator, zookeeper, zookeeper_chroot):
    use(coordinator)
    other = KazooClient(zookeeper.hosts + zookeeper_chroot)
    other.start()
    other.exists("/a", watch=print)
    other.stop()
    other.close()
"""
LEAVING = """
from kazoo.client import KazooClient

LEFT = []
CHROOTS = []

def leave(hosts):
    client = KazooClient(hosts, timeout=30.0)
    client.start()
    client.create("/left", ephemeral=True)
    client.exists("/missing", watch=print)
    LEFT.append(client)

def test_left(zookeeper, zookeeper_chroot, zookeeper_no_leaks):
    CHROOTS.append(zookeeper_chroot)
    leave(zookeeper.hosts + zookeeper_chroot)

def test_left_and_not_minded(zookeeper, zookeeper_chroot):
    CHROOTS.append(zookeeper_chroot)
    leave(zookeeper.hosts + zookeeper_chroot)

def test_left_elsewhere(zookeeper, zookeeper_chroot, zookeeper_no_leaks):
    pass

def test_gone(zookeeper):
    client = KazooClient(zookeeper.hosts)
    client.start()
    left = [one for one in CHROOTS if client.exists(one)]
    for one in (client, *LEFT):
        one.stop()
        one.close()
    assert (len(CHROOTS), left) == (2, [])
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_what_the_fixtures_close_is_no_leak(project: Project, zookeeper: ZooKeeperServer) -> None:
    """In whatever order they are asked for; it looks when all clients of the test have ended."""
    project.write("test_clean.py", CLEAN)
    ran = project.run("--zookeeper", zookeeper.hosts)
    assert ran.counts() == {"passed": 3}, ran.text


def test_a_test_that_leaves_something_fails(project: Project, zookeeper: ZooKeeperServer) -> None:
    """At its end, with path, session and kind; its chroot is removed all the same."""
    project.write("test_leaving.py", LEAVING)
    ran = project.run("--zookeeper", zookeeper.hosts, "-x", "--maxfail", "9", "-rE")
    assert ran.counts() == {"passed": 4, "error": 1}, ran.text
    assert "ERROR at teardown of test_left " in ran.text
    assert "2 leaks below /coordinator-main-" in ran.text
    assert "/left of session 0x" in ran.text
    assert "/missing of session 0x" in ran.text
    assert "Traceback" not in ran.text
    assert "residue.py" not in ran.text


def test_it_looks_at_a_server_that_the_test_has_broken(project: Project) -> None:
    """When that serves again."""
    project.write(
        "test_broken.py",
        """
def test_broken(zookeeper, zookeeper_no_leaks):
    zookeeper.freeze()
""",
    )
    ran = project.run("--zookeeper-kind", "container")
    assert ran.counts() == {"passed": 1}, ran.text


def test_a_server_that_does_not_tell_is_told_in_a_line(project: Project) -> None:
    """It cannot be known whether anything is left: the test fails, too."""
    project.write(
        "conftest.py",
        """
from coordinator.testing import factories
zookeeper = factories.zookeeper(config={"4lw.commands.whitelist": "srvr"})
""",
    )
    project.write("test_it.py", "def test_it(zookeeper_no_leaks): pass")
    ran = project.run("--zookeeper-kind", "container")
    assert ran.counts() == {"passed": 1, "error": 1}, ran.text
    assert "refuses 'dump': add it to its 4lw.commands.whitelist" in ran.text
    assert "residue.py" not in ran.text
