"""One queue with kazoo's Lock and Election: the same directory, names and order; each waits for the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient
from kazoo.recipe.election import Election
from kazoo.recipe.lock import Lock

from coordinator import AcquireTimeoutError, Coordinator
from coordinator.testing import ZooKeeperServer, eventually
from tests.faces import Face
from tests.support import PATIENCE, in_thread, new_place


@pytest.fixture
def path(observer: KazooClient) -> str:
    return f"{new_place()}/queue"


@pytest.fixture
def zk(face: Face, zookeeper: ZooKeeperServer) -> Iterator[Coordinator]:
    with face(zookeeper.hosts) as started:
        yield started


def test_ours_waits_for_kazoos(zk: Coordinator, observer: KazooClient, path: str) -> None:
    """The message names who has it, by kazoo's identifier; then it is ours."""
    theirs = Lock(observer, path, "kazoo-1")
    assert theirs.acquire(timeout=PATIENCE)
    ours = zk.lock(path, identity="ours")
    with pytest.raises(AcquireTimeoutError, match="second in queue, held by kazoo-1 ") as late:
        ours.acquire(timeout=0.2)
    assert (late.value.position, late.value.holder) == (2, "kazoo-1")
    eventually(lambda: theirs.contenders() == ["kazoo-1"], message="it has left the queue")
    acquiring = in_thread(ours.acquire)
    eventually(lambda: theirs.contenders() == ["kazoo-1", "ours"], message="ours queues behind")
    theirs.release()
    lease = acquiring()
    assert lease.held
    assert lease.release()


def test_kazoos_waits_for_ours(zk: Coordinator, observer: KazooClient, path: str) -> None:
    """It cannot be had while ours is held; then it is kazoo's."""
    theirs = Lock(observer, path, "kazoo-1")
    with zk.lock(path, identity="ours") as lease:
        assert not theirs.acquire(blocking=False)
        assert theirs.contenders() == ["ours"]
        acquiring = in_thread(lambda: theirs.acquire(timeout=PATIENCE))
        eventually(lambda: theirs.contenders() == ["ours", "kazoo-1"], message="kazoo queues behind")
        assert not theirs.is_acquired
        assert lease.held
    assert acquiring()
    assert theirs.contenders() == ["kazoo-1"]
    theirs.release()


def test_in_the_order_of_the_queue(zk: Coordinator, observer: KazooClient, path: str) -> None:
    """Kazoo's, ours, kazoo's, ours: whoever came first."""
    kazoos = [Lock(observer, path, f"kazoo-{number}") for number in (0, 2)]
    latches, acquired, turns = {}, {}, []
    for number in range(4):
        if number % 2:
            latches[number] = zk.latch(path, identity=f"ours-{number}")
        else:
            lock = kazoos[number // 2]
            acquired[number] = in_thread(lambda lock=lock: lock.acquire(timeout=PATIENCE))
        eventually(lambda: len(kazoos[0].contenders()) == number + 1, message="it queues")  # noqa: B023
    assert kazoos[0].contenders() == ["kazoo-0", "ours-1", "kazoo-2", "ours-3"]
    for number in range(4):
        if number % 2:
            latches[number].wait(PATIENCE)
            turns.append((number, kazoos[0].is_acquired or kazoos[1].is_acquired))
            latches[number].close()
        else:
            assert acquired[number]()
            turns.append((number, any(latch.held for latch in latches.values())))
            kazoos[number // 2].release()
    assert turns == [(number, False) for number in range(4)]


def test_kazoos_election(zk: Coordinator, observer: KazooClient, path: str) -> None:
    """Ours is a contender of it; who leads is seen, and when he ends we lead, and then he again."""
    election, leads, end = Election(observer, path, "kazoo-1"), threading.Event(), threading.Event()

    def lead() -> None:
        leads.set()
        end.wait(PATIENCE)

    running = in_thread(lambda: election.run(lead))
    assert leads.wait(PATIENCE)
    view, latch = zk.observe(path), zk.latch(path, identity="ours")
    assert view.wait(PATIENCE).identity == "kazoo-1"
    assert latch.leader().identity == "kazoo-1"
    assert election.contenders() == ["kazoo-1", "ours"]
    assert not latch.held
    end.set()
    running()
    lease = latch.wait(PATIENCE)
    eventually(lambda: view.leader is not None and view.leader.token == lease.token, message="ours is seen")
    leads.clear()
    running = in_thread(lambda: election.run(lead))
    eventually(lambda: election.contenders() == ["ours", "kazoo-1"], message="kazoo queues behind")
    assert not leads.is_set()
    latch.close()
    assert leads.wait(PATIENCE)
    running()
