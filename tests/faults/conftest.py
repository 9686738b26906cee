"""A coordinator behind a proxy, what it keeps, and an observer beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from kazoo.client import KazooClient

from coordinator import ChildrenView, Coordinator, Ephemeral, ZnodeView
from coordinator.testing import EventRecord, FaultProxy, ZooKeeperServer, eventually, session_ids
from tests.faces import Face
from tests.support import new_place, owner


@dataclass
class Household:
    """Three ephemerals, a view of a znode and one of its siblings, and the record of it all."""

    zk: Coordinator
    record: EventRecord
    base: str
    workers: list[Ephemeral]
    config: ZnodeView[bytes]
    kids: ChildrenView

    @property
    def paths(self) -> list[str]:
        return [worker.path for worker in self.workers]

    def assert_back(self, observer: KazooClient) -> None:
        """Every ephemeral is there, owned by the session that stands now, as another client sees it."""
        session_id = self.zk.session.session_id
        assert session_id
        for path in self.paths:
            observer.sync(path)
            assert owner(observer, path) == session_id
        assert all(worker.present for worker in self.workers)


def furnish(zk: Coordinator, observer: KazooClient) -> Household:
    """Let a started coordinator keep things, and read its events up to there."""
    record = EventRecord(zk)
    base = new_place()
    observer.create(f"{base}/config", b"one", makepath=True)
    workers = [zk.ephemeral(f"{base}/workers/w-{number}", b"here") for number in range(3)]
    config = zk.watch(f"{base}/config")
    kids = zk.watch_children(f"{base}/workers")
    assert kids.children == ("w-0", "w-1", "w-2")
    record.until(*["ephemeral.created"] * 3)
    return Household(zk, record, base, workers, config, kids)


@pytest.fixture
def household(
    face: Face,
    request: pytest.FixtureRequest,
    zookeeper: ZooKeeperServer,
    proxy: FaultProxy,
    observer: KazooClient,
) -> Iterator[Household]:
    """Behind the proxy; the session timeout is the parameter, 1.5 s by default."""
    timeout = getattr(request, "param", 1.5)
    with face(proxy.hosts, session_timeout=timeout) as zk:
        yield furnish(zk, observer)
        session_id = zk.session.session_id
    eventually(lambda: session_id not in session_ids(zookeeper), message="the session is gone")
