"""Fixtures of this project: a caller whose link stays whole, beside `coordinator`, whose does not."""

from collections.abc import Iterator

import pytest
from directory import Directory

from coordinator import Coordinator
from coordinator.testing import ZooKeeperServer


@pytest.fixture
def caller(zookeeper: ZooKeeperServer, zookeeper_chroot: str) -> Iterator[Coordinator]:
    """A coordinator that no fault on the wire reaches."""
    with Coordinator(zookeeper.hosts + zookeeper_chroot, session_timeout=10.0) as zk:
        yield zk


@pytest.fixture
def payments(coordinator: Coordinator) -> Directory:
    """The directory as a machine sees it that will be in trouble."""
    return Directory(coordinator, "payments")
