"""What our tests have besides the fixtures of the kit, and a look at what each test leaves behind."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient

from coordinator.testing import FaultProxy, ZooKeeperEnsemble, ZooKeeperServer
from coordinator.testing.container import engine_fault
from tests import faces
from tests.faces import Face
from tests.support import observing

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds for threads that a test has told to end.
GRACE = 2.0
#: Threads of libraries that live as long as the process: pytest-timeout's and xdist's.
LASTING = ("pytest_timeout", "execnet")


@pytest.fixture
def proxy(zookeeper: ZooKeeperServer) -> Iterator[FaultProxy]:
    """A proxy of one test's own in front of the server."""
    with FaultProxy(*zookeeper.address) as between:
        yield between


@pytest.fixture
def observer(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    """A plain kazoo client, directly at the server: what others see."""
    with observing(zookeeper.hosts) as client:
        yield client


@pytest.fixture(params=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """Makes coordinators: the same test runs on both faces."""
    with faces.made(request.param) as make:
        yield make


@pytest.fixture(scope="session")
def ensemble(zookeeper_ensemble: ZooKeeperEnsemble) -> ZooKeeperEnsemble:
    """Three servers; a test that breaks one mends it before it ends."""
    return zookeeper_ensemble


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves threads behind."""
    # Session fixtures may own threads: they are made first, so as to be there before the test.
    for name in ("zookeeper", "zookeeper_ensemble"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE
    while leaked := _new_threads(before):
        if time.monotonic() >= deadline:
            pytest.fail(f"threads left behind: {sorted(thread.name for thread in leaked)}", pytrace=False)
        leaked[0].join(max(deadline - time.monotonic(), 0.001))


def _new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.is_alive() and not thread.name.startswith(LASTING)
    ]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked docker is skipped without an engine, but not where one is required."""
    if item.get_closest_marker("docker") is None:
        return
    fault = engine_fault()
    if not fault:
        return
    if os.environ.get("CI") == "true" or os.environ.get("COORDINATOR_REQUIRE_DOCKER") == "1":
        pytest.fail(fault, pytrace=False)
    pytest.skip(fault)
