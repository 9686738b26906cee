"""Leadership under faults: what Curator's suite expects of its LeaderLatch and LeaderSelector, of ours.

The promises are those of its tests 41 to 62, as far as they are not those of tests/contract already. Ours
differs in one: after a loss it queues again with another seat, also where the session lives on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import Coordinator, Latch, LeaderView, LeaseLostError
from coordinator.events import LeaseEvent
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    Faults,
    LeaseHistory,
    ZooKeeperServer,
    eventually,
    expire,
)
from tests.support import PATIENCE, expire_behind, in_thread, new_place

SETTINGS: dict[str, Any] = {"session_timeout": 2.0, "tick_time": 0.1, "retry_max_delay": 0.1}


@pytest.fixture
def path(observer: KazooClient) -> str:
    return new_place()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def leader_of(latches: list[Latch]) -> Latch:
    """The one that leads; there must be one, and no other."""
    leading = eventually(
        lambda: [latch for latch in latches if latch.held], timeout=PATIENCE, message="one leads"
    )
    (one,) = leading
    return one


def only(latches: list[Latch], view: LeaderView) -> Latch:
    """The one that leads, and that everybody else knows to lead."""
    one = leader_of(latches)
    lease = one.lease
    assert lease is not None
    eventually(lambda: view.leader is not None and view.leader.token == lease.token, message="it is known")
    return one


# -- in order


def test_leadership_passes_in_the_order_of_the_queue(zookeeper: ZooKeeperServer, path: str) -> None:
    """One at a time, each from a session of its own; first come, first served; tokens ascend."""
    with ExitStack() as stack, LeaseHistory() as history:
        latches = []
        for number in range(5):
            zk = stack.enter_context(Coordinator(zookeeper.hosts))
            latches.append(zk.latch(path, identity=f"w-{number}"))
        for number, latch in enumerate(latches):
            lease = latch.wait(PATIENCE)
            assert [one.identity for one in latches[-1].members()] == [f"w-{n}" for n in range(number, 5)]
            with history.held(latch.path + str(number), lease.token):
                assert leader_of(latches) is latch
            latch.close()
        history.assert_tokens_ascend()


def test_leadership_comes_back_behind_the_others(zookeeper: ZooKeeperServer, path: str) -> None:
    """Two that step down in turn lead in turn."""
    with Coordinator(zookeeper.hosts) as one, Coordinator(zookeeper.hosts) as two:
        latches, tokens = [one.latch(path), two.latch(path)], []
        for turn in range(6):
            lease = latches[turn % 2].wait(PATIENCE)
            tokens.append(lease.token)
            assert leader_of(latches) is latches[turn % 2]
            assert lease.release()
        assert tokens == sorted(set(tokens))


# -- the link


def test_kept_through_an_outage(proxy: FaultProxy, path: str) -> None:
    """The same lease, the same seat, and not a word of it, as long as the session lives."""
    with Coordinator(proxy.hosts, **{**SETTINGS, "session_timeout": 6.0}) as zk:
        latch, now = zk.latch(path), zk._engine.clock.now
        lease = latch.wait()
        record, seen = EventRecord(zk, LeaseEvent), EventRecord(zk)
        for _ in range(4):
            proxy.cut()
            seen.until("session.resumed")
            assert latch.lease is lease
        end = now() + lease.remaining
        assert lease.path in {one.path for one in latch.members()}
        eventually(lambda: now() + lease.remaining > end + 0.1, message="it is proved on the new link")
        assert record.events == []


def test_revoked_by_an_outage(proxy: FaultProxy, path: str) -> None:
    """With on_suspend="revoke" each outage ends it; it leads again with another seat, the old one gone."""
    with Coordinator(proxy.hosts, **SETTINGS) as zk:
        latch = zk.latch(path, on_suspend="revoke")
        tokens = []
        for _ in range(2):
            lease = latch.wait(PATIENCE)
            tokens.append(lease.token)
            proxy.cut()
            assert lease.wait_lost(PATIENCE)
            assert lease.reason == "suspended"
        tokens.append(latch.wait(PATIENCE).token)
        assert tokens == sorted(set(tokens))
        assert len(latch.members()) == 1


def test_nobody_leads_while_there_is_no_server(zookeeper: ZooKeeperServer, path: str) -> None:
    """Neither of two, once their leases are over; after the restart exactly one, and the other queues."""
    with Faults(zookeeper) as faults, ExitStack() as stack:
        pair = [stack.enter_context(Coordinator(faults.hosts, **SETTINGS)) for _ in range(2)]
        latches, view = [zk.latch(path) for zk in pair], pair[0].observe(path)
        lease = only(latches, view).lease
        assert lease is not None
        with faults.outage():
            eventually(lambda: not lease.held, timeout=PATIENCE, message="it is over")
            assert [latch.held for latch in latches] == [False, False]
            assert lease.reason == "lapsed"
        again = only(latches, view).lease
        assert again is not None
        assert again.token > lease.token
        eventually(lambda: len(latches[0].members()) == 2, message="the other one queues")
        _wiped(zookeeper, latches, view, again)


def _wiped(server: ZooKeeperServer, latches: list[Latch], view: LeaderView, lease: Any) -> None:
    """The same with a server that has lost its data: the queue is made again."""
    server.wipe()
    eventually(lambda: not lease.held, timeout=PATIENCE, message="it is over")
    assert only(latches, view).lease is not lease
    eventually(lambda: len(latches[0].members()) == 2, message="the other one queues")


def test_no_server_at_the_start(proxy: FaultProxy, path: str) -> None:
    """It leads once there is one; told once."""
    proxy.refuse = True
    with Coordinator(proxy.hosts, start_timeout=0, **SETTINGS) as zk:
        record = EventRecord(zk, LeaseEvent)
        latch, view = zk.latch(path, wait=False), zk.observe(path, wait=False)
        waiting = in_thread(lambda: zk.lock(f"{path}-lock").acquire())
        assert not latch.held
        proxy.refuse = False
        lease = latch.wait(PATIENCE)
        assert view.wait(PATIENCE).token == lease.token
        assert waiting().held
        assert [event.kind for event in record.until(*["lease.acquired"] * 2)] == ["lease.acquired"] * 2


# -- the session


def test_an_old_leader_does_not_lead_again_by_its_old_seat(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, path: str
) -> None:
    """Its session ended at the server; a rival leads; back again, it stands behind with a new one."""
    with Coordinator(proxy.hosts, **SETTINGS) as zk, Coordinator(zookeeper.hosts) as other:
        latch, rival = zk.latch(path), other.latch(path)
        lease = latch.wait()
        record = EventRecord(zk, LeaseEvent)
        expire_behind(proxy, zk, zookeeper)
        newer = rival.wait(PATIENCE)
        assert newer.token > lease.token
        eventually(lambda: [one.token == newer.token for one in latch.members()] == [True, False])
        assert (latch.held, lease.held, lease.reason) == (False, False, "expired")
        assert [event.kind for event in record.events] == ["lease.lost"]
        rival.close()
        assert latch.wait(PATIENCE).token > newer.token


@pytest.mark.parametrize("how", ["expired", "cut off"])
def test_the_next_one_leads_when_the_leader_has_gone(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, path: str, how: str
) -> None:
    """Its session was ended and its coordinator closed; or that could not say goodbye."""
    with Coordinator(zookeeper.hosts) as other, ExitStack() as stack:
        zk = Coordinator(proxy.hosts, **SETTINGS).start()
        stack.callback(zk.close)
        latch, next_one = zk.latch(path), other.latch(path)
        lease = latch.wait()
        client_id = zk.kazoo.client_id
        proxy.refuse = True
        if how == "cut off":
            proxy.cut()
        else:
            expire(client_id, zookeeper.hosts)
        zk.close()
        assert not lease.held
        assert next_one.wait(PATIENCE).token > lease.token


def test_left_while_nobody_can_be_told(proxy: FaultProxy, path: str, observer: KazooClient) -> None:
    """A block that ends without a link: its seat goes when there is one, in the same session."""
    with Coordinator(proxy.hosts, **{**SETTINGS, "session_timeout": 6.0}) as zk:
        record = EventRecord(zk)
        lock = zk.lock(path)
        lock.acquire()
        record.until("session.established")
        proxy.refuse = True
        proxy.cut()
        record.until("session.suspended")
        assert not lock.release(timeout=0.1)
        assert len(observer.get_children(path)) == 1
        proxy.refuse = False
        eventually(lambda: observer.get_children(path) == [], message="it has left")
        assert zk.session.epoch == 1


# -- one connection after another breaks


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_link_that_breaks_anywhere_leaves_no_orphan(
    proxy: FaultProxy, path: str, observer: KazooClient, way: str
) -> None:
    """After so and so many bytes of what acquiring needs: one seat of ours, which is the one that is held."""
    with Coordinator(proxy.hosts, **{**SETTINGS, "session_timeout": 6.0, "retry_first_delay": 0.01}) as zk:
        lock, record = zk.lock(path), EventRecord(zk)
        for count in range(1, 400, 30):
            setattr(proxy, f"cut_after_{way}", count)
            with lock as lease:
                (seat,) = observer.get_children(path)
                assert lease.path == f"{path}/{seat}"
                assert lease.held
            assert observer.get_children(path) == []
            setattr(proxy, f"cut_after_{way}", None)
        assert [event.kind for event in record.events].count("connection.closed") >= 5


def test_closed_while_it_takes_its_seat(proxy: FaultProxy, path: str, observer: KazooClient) -> None:
    """Its creation was carried out, and not answered yet: nothing of it is left."""
    observer.create(path)
    with Coordinator(proxy.hosts) as zk:
        proxy.latency = 0.2
        latch = zk.latch(path, wait=False)
        eventually(lambda: observer.get_children(path), interval=0.002, message="it is created")
        assert latch._intent.seat is None
        proxy.latency = 0
        latch.close()
        assert observer.get_children(path) == []
        assert not latch.held


def test_lost_before_it_is_looked_at(zookeeper: ZooKeeperServer, path: str, observer: KazooClient) -> None:
    """Between the grant and the work: whoever looks first does not begin."""
    with Coordinator(zookeeper.hosts) as zk:
        begun: list[object] = []

        def work(lease: Any) -> None:
            observer.delete(lease.path)
            assert lease.wait_lost(PATIENCE)
            lease.check()
            begun.append(lease)

        with pytest.raises(LeaseLostError):
            zk.lead(path).hold(work)
        assert begun == []
