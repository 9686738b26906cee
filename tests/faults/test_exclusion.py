"""Leases, what happens to their sessions, and kazoo's locks in the same queue: against a real server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kazoo.client import KazooClient
from kazoo.recipe.lock import Lock

from coordinator import Coordinator
from coordinator.engine import clock
from coordinator.testing import (
    EventRecord,
    Faults,
    LeaseHistory,
    ZooKeeperServer,
    eventually,
    expire,
    session_ids,
)
from tests.faces import Face
from tests.support import PATIENCE, in_thread, new_place, observing

SESSION = 1.5
"""Seconds; shorter than an outage of the server."""
TOLD = 0.2
"""Seconds after which a loss is told while there is a server."""
ROUNDS = 8


def gone(observer: KazooClient, path: str) -> bool:
    observer.sync(path)
    return observer.exists(path) is None


# -- a session that comes back


def lapse(faults: Faults, record: EventRecord) -> None:
    """Have a session lapse for its client while no time passes for it at the server, which is down.

    Nobody connects before the server serves: of who refuses to serve a lapsed session it is believed.
    """
    with faults.refuse():
        faults.cut()
        with faults.outage():
            record.until("lease.lost", "session.lapsed")


def test_a_session_that_lapses_and_comes_back(
    face: Face, zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """The server has noticed nothing, and its seats are still first: they are deleted, it is others' turn."""
    base = new_place()
    with (
        Faults(zookeeper) as faults,
        face(faults.hosts, session_timeout=SESSION) as zk,
        Coordinator(zookeeper.hosts) as other,
    ):
        lock, latch, session_id = zk.lock(f"{base}/lock"), zk.latch(f"{base}/latch"), zk.session.session_id
        locked, led = lock.acquire(10.0), latch.wait(10.0)
        to_lock = in_thread(lambda: other.lock(f"{base}/lock").acquire(PATIENCE))
        to_lead = in_thread(lambda: other.lead(f"{base}/latch").campaign(PATIENCE))
        for path in ("lock", "latch"):
            eventually(lambda path=path: len(observer.get_children(f"{base}/{path}")) == 2)
        lapse(faults, EventRecord(zk))
        others_lock, others_lead = to_lock(), to_lead()
        assert zk.session.session_id == session_id
        assert gone(observer, locked.path)
        assert gone(observer, led.path)
        assert not any(one.held for one in (locked, led, latch))
        others_lock.release()
        assert lock.acquire(10.0).token > others_lock.token > locked.token
        others_lead.release()  # the latch has queued again by itself, behind it
        assert latch.wait(10.0).token > others_lead.token > led.token


# -- a session that is ended by somebody else


def test_a_session_closed_from_outside_is_told_at_once(face: Face, zookeeper: ZooKeeperServer) -> None:
    """It ends without warning, and only the token protects; the loss is told as soon as it can be."""
    path, took = new_place(), []
    for _ in range(ROUNDS):
        told: list[tuple[float, str]] = []
        lost = threading.Event()

        def on_lost(lease: Any, told: list[tuple[float, str]] = told, lost: threading.Event = lost) -> None:
            told.append((clock.now(), lease.reason))
            lost.set()

        with face(zookeeper.hosts, session_timeout=10.0) as zk:
            lease = zk.lock(path, on_lost=on_lost).acquire(10.0)
            session_id, began = zk.session.session_id, clock.now()
            expire(zk.kazoo.client_id, zookeeper.hosts)
            assert session_id not in session_ids(zookeeper)
            assert lost.wait(PATIENCE)
            assert not lease.held
        at, reason = told[0]
        assert reason == "expired"
        took.append(at - began)
    print(f"told after {sorted(round(1000 * one) for one in took)} ms")
    assert max(took) < TOLD


# -- in one queue with kazoo


def test_at_most_one_of_both_kinds_at_a_time(zookeeper: ZooKeeperServer) -> None:
    """Two of each, one after the other, in the order in which they queue."""
    path, history = new_place(), LeaseHistory()

    def kazoos(name: str) -> None:
        with observing(zookeeper.hosts) as client:
            for _ in range(ROUNDS):
                lock = Lock(client, path, name)
                lock.acquire(timeout=PATIENCE)
                with history.held(name, client.exists(f"{path}/{lock.node}").czxid):
                    client.get_children(path)
                lock.release()

    def ours(name: str) -> None:
        with Coordinator(zookeeper.hosts) as zk:
            for _ in range(ROUNDS):
                lease = zk.lock(path, identity=name).acquire(PATIENCE)
                with history.held(name, lease.token):
                    zk.children(path)
                lease.release()

    with ThreadPoolExecutor(4) as pool:
        runs = [
            pool.submit(kind, name)
            for kind, name in ((kazoos, "k-1"), (kazoos, "k-2"), (ours, "o-1"), (ours, "o-2"))
        ]
        for one in runs:
            one.result()
    history.assert_one_at_a_time()
    history.assert_tokens_ascend()
    assert len(history.tenures) == 4 * ROUNDS
