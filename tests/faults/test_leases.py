"""Leases on a real server: many at a time, and what becomes of them when their coordinator ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import AsyncCoordinator, ClosedError, Coordinator, KazooHandler, LeaseLostError
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    ZooKeeperServer,
    ephemerals,
    eventually,
    eventually_async,
    watches,
)
from tests.faces import Face
from tests.support import PATIENCE, in_thread, new_place

PROMISE = 2.0
"""Seconds in which close() returns."""
TICK = 0.1


# -- many at a time


def test_many_threads_want_the_same(zookeeper: ZooKeeperServer) -> None:
    """Of one coordinator: never two within, and tokens ascend in the order in which they were."""
    path, within, tokens = new_place(), [0], []

    def work(zk: Coordinator) -> None:
        for _ in range(5):
            with zk.lock(path) as lease:
                within[0] += 1
                assert within[0] == 1
                tokens.append(lease.token)
                zk.exists(path)
                assert within[0] == 1
                within[0] -= 1

    with Coordinator(zookeeper.hosts) as zk:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, zk) for _ in range(8)]:
                done.result(PATIENCE)
        assert len(tokens) == 40
        assert tokens == sorted(set(tokens))
        assert zk.children(path) == ()
        assert zk._engine._kernel._slots._slots == {}
        assert zk._engine._refreshed == {}


def test_many_threads_hold_different_ones(zookeeper: ZooKeeperServer) -> None:
    """All at the same time; each beat proves all of them."""
    base = new_place()
    with Coordinator(zookeeper.hosts, session_timeout=2.0, tick_time=TICK) as zk:
        together = threading.Barrier(20)

        def work(number: int) -> float:
            with zk.lock(f"{base}/{number}") as lease:
                together.wait(PATIENCE)
                assert not lease.wait_lost(0.5)  # longer than a beat
                return lease.remaining

        with ThreadPoolExecutor(20) as pool:
            left = list(pool.map(work, range(20)))
    assert all(seconds > 2.0 / 3 for seconds in left)


async def test_many_tasks(zookeeper: ZooKeeperServer) -> None:
    """The same in an event loop: one lock for ten of them, another for each of forty."""
    base, within = new_place(), [0]

    async def work(zk: AsyncCoordinator) -> int:
        async with zk.lock(f"{base}/same") as lease:
            within[0] += 1
            assert within[0] == 1
            await zk.exists(base)
            within[0] -= 1
            return lease.token

    async def hold(zk: AsyncCoordinator, number: int) -> int:
        return await zk.lead(f"{base}/{number}").hold(token_of)

    async def token_of(lease: Any) -> int:
        await asyncio.sleep(0)
        return int(lease.token)

    async with AsyncCoordinator(zookeeper.hosts) as zk:
        same = [work(zk) for _ in range(10)]
        tokens = await asyncio.gather(*same, *(hold(zk, number) for number in range(40)))
        assert len(set(tokens)) == 50
        await eventually_async(lambda: zk._engine._refreshed == {})


# -- the end of the coordinator


@pytest.mark.parametrize("link", ["up", "frozen", "down"])
def test_closed_while_leases_are_held(
    face: Face, zookeeper: ZooKeeperServer, proxy: FaultProxy, link: str
) -> None:
    """Each is lost before the session ends; who waits is told; all of it within 2 s."""
    base = new_place()
    zk = face(proxy.hosts, session_timeout=10.0).start()
    record = EventRecord(zk)
    lock, latch = zk.lock(f"{base}/a"), zk.latch(f"{base}/b")
    leases = [lock.acquire(), latch.wait()]
    waiting = in_thread(zk.lock(f"{base}/a").acquire)
    changes = in_thread(lambda: list(latch.changes()))
    told = in_thread(leases[0].lost.wait)
    kernel = zk._engine._kernel
    eventually(lambda: len(kernel.calls) == 1, message="one waits")
    if link == "down":
        proxy.refuse = True
        proxy.cut()
        record.until("session.suspended")
    proxy.blackhole = link == "frozen"
    began = time.monotonic()
    zk.close()
    assert time.monotonic() - began < PROMISE
    assert told()
    with pytest.raises(ClosedError):
        waiting()
    assert changes()[-1] is None
    assert [(lease.held, lease.reason) for lease in leases] == [(False, "closed")] * 2
    kinds = [event.kind for event in record.rest() if event.kind != "connection.failed"]
    assert kinds.count("lease.lost") == 2
    assert kinds[-1] == "session.closed"
    if link == "up":
        assert not any(path.startswith(base) for paths in ephemerals(zookeeper).values() for path in paths)


def test_a_block_that_ends_with_the_coordinator(zookeeper: ZooKeeperServer) -> None:
    """Leaving it says why it is lost."""
    zk = Coordinator(zookeeper.hosts).start()
    with pytest.raises(LeaseLostError) as lost, zk.lock(new_place()):
        zk.close()
    assert lost.value.reason == "closed"


# -- a session that is somebody else's


@pytest.fixture
def theirs(zookeeper: ZooKeeperServer) -> Iterator[KazooClient]:
    """A client as its owner builds it; the session outlives our coordinator."""
    client = KazooClient(zookeeper.hosts, handler=KazooHandler(), timeout=2.0)
    client.start()
    yield client
    client.stop()
    client.close()


def test_an_adopted_session_lives_on(theirs: KazooClient, zookeeper: ZooKeeperServer) -> None:
    """Closing gives back what was held, and leaves no place and no watch in a queue."""
    base, session_id = new_place(), theirs.client_id[0]
    with Coordinator(zookeeper.hosts) as other, ExitStack() as stack:
        held = stack.enter_context(other.lock(f"{base}/taken"))
        zk = stack.enter_context(Coordinator.adopt(theirs))
        record = EventRecord(zk)
        lease, latch = zk.lock(f"{base}/a").acquire(), zk.latch(f"{base}/taken")
        view = zk.observe(f"{base}/taken")
        assert view.wait().token == held.token
        assert len(ephemerals(zookeeper)[session_id]) == 2
        next_one = in_thread(other.lock(f"{base}/a").acquire)
        zk.close()
        assert next_one().token > lease.token
        assert (lease.held, lease.reason) == (False, "closed")
        assert (latch.held, view.closed) == (False, False)
        assert ephemerals(zookeeper).get(session_id, set()) == set()
        assert not any(session_id in ids for path, ids in watches(zookeeper).items() if base in path)
        kinds = [event.kind for event in record.rest()]
        assert kinds.index("lease.lost") < kinds.index("session.closed")
        assert theirs.connected
        assert theirs.client_id[0] == session_id


def test_its_owner_stops_it(theirs: KazooClient) -> None:
    """That is the end of what was held by it, too."""
    with Coordinator.adopt(theirs) as zk:
        lease = zk.lock(new_place()).acquire()
        theirs.stop()
        assert lease.lost.wait(PATIENCE)
        assert not lease.held
        assert lease.reason in ("closed", "expired")
