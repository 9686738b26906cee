"""The checks of the kit as a user has them: on both faces, and with kazoo's own lock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import AsyncCoordinator
from coordinator.testing import EventRecord, LeaseHistory, ZooKeeperServer, event, expire, unordered
from tests.faces import Face
from tests.support import new_place, observing


def test_a_recovery_is_what_was_expected(zookeeper: ZooKeeperServer, face: Face) -> None:
    """On both faces: kinds, fields, what may come in any order, and what does not count."""
    place = new_place()
    with face(zookeeper.hosts, session_timeout=2.0) as zk:
        for name in ("a", "b"):
            zk.ephemeral(f"{place}/{name}")
        record = EventRecord(zk)
        first = event("session.established", session_id=zk.session.session_id)
        expire(zk.kazoo.client_id, zookeeper.hosts)
        told = record.expect(
            first,
            ...,
            event("session.expired", lost_ephemerals=2),
            "session.established",
            event("recovery.started", ephemerals=2),
            unordered(*(event("ephemeral.recreated", path=f"{place}/{name}") for name in "ba")),
            event("recovery.completed", failed=0),
            ignoring="connection.*",
        )
        assert told[-1].took < 10.0
    assert record.rest()[-1].kind == "session.closed"


async def test_a_record_works_in_an_event_loop(zookeeper: ZooKeeperServer) -> None:
    """It waits in another thread, and the loop goes on; made before the start it misses nothing."""
    zk = AsyncCoordinator(zookeeper.hosts)
    record = EventRecord(zk)
    waiting = asyncio.create_task(
        asyncio.to_thread(record.expect, "connection.opened", "session.established")
    )
    async with zk:
        opened, established = await waiting
        assert (opened.server, established.seq) == (established.server, 2)
    assert [one.kind for one in record.rest()] == ["connection.closed", "session.closed"]


class NoLock:
    """Keeps nobody apart, but lets nobody begin before all are there."""

    def __init__(self) -> None:
        self._together = threading.Barrier(2)

    def __enter__(self) -> None:
        self._together.wait(10.0)

    def __exit__(self, *_: object) -> None:
        """Nothing was locked."""


def contend(client: KazooClient, lock: Any, history: LeaseHistory, name: str) -> None:
    for _ in range(10):
        with lock:
            token = client.exists(f"{lock.path}/{lock.node}").czxid if hasattr(lock, "node") else None
            with history.held(name, token):
                client.get_children("/")


def run_contenders(
    zookeeper: ZooKeeperServer, history: LeaseHistory, make_lock: Callable[[KazooClient], Any]
) -> None:
    with observing(zookeeper.hosts) as one, observing(zookeeper.hosts) as other:
        threads = [
            threading.Thread(target=contend, args=(client, make_lock(client), history, name), name=name)
            for client, name in ((one, "w-1"), (other, "w-2"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_kazoos_lock_keeps_two_apart(zookeeper: ZooKeeperServer) -> None:
    """As long as nothing fails; and its czxids are tokens that ascend."""
    history, place = LeaseHistory(), new_place()
    run_contenders(zookeeper, history, lambda client: client.Lock(place))
    history.assert_one_at_a_time()
    history.assert_tokens_ascend()
    assert len(history.tenures) == 20
    assert 0.0 < history.led() < 1.0


def test_what_is_no_lock_is_found_out(zookeeper: ZooKeeperServer) -> None:
    history, lock = LeaseHistory(), NoLock()
    run_contenders(zookeeper, history, lambda _client: lock)
    with pytest.raises(AssertionError, match=r"overlaps? of leases, the longest of .*\n  w-\d and w-\d: at "):
        history.assert_one_at_a_time()
    with pytest.raises(AssertionError, match=r"w-\d has no token"):
        history.assert_tokens_ascend()
