"""Locks and leadership that somebody waits for: in memory as on a server, in either face."""

from __future__ import annotations

import logging
import os
import re
import socket
from typing import Any

import pytest
from pydantic import BaseModel

from coordinator import (
    AcquireTimeoutError,
    LeaseLostError,
    NoNodeError,
    OperationTimeoutError,
    TransactionFailedError,
)
from coordinator.models import hex_id
from coordinator.testing import eventually
from tests.contract.queues import granted, own, queue, queued, same, sit, waiting
from tests.contract.site import SHORT, TIMEOUT, Site
from tests.contract.test_matrix import LOST, RENEWED, RESUMED


def lose(site: Site, lease: Any) -> None:
    """Have somebody delete what it is held by."""
    site.other.delete(lease.path)
    site.wait(lambda: bool(lease.lost), "it is lost")


# -- held


@pytest.mark.parametrize("kind", ["lock", "lead"])
def test_held_and_given_back(either: Site, kind: str) -> None:
    """A seat of ours holds who we are; its number of creation is the token; then it is gone."""
    lock = getattr(either.zk, kind)(queue(either), identity="worker-1")
    assert (lock.path, lock.lease) == (queue(either), None)
    acquire, release = (lock.acquire, lock.release) if kind == "lock" else (lock.campaign, lock.resign)
    lease = acquire()
    (name,) = either.names("q")
    assert re.fullmatch(r"[0-9a-f]{32}__lock__\d{10}", name)
    assert either.look(f"q/{name}") == (b"worker-1", "mine", 0)
    stat = either.other.exists(f"{queue(either)}/{name}")
    assert stat is not None
    assert (lease.path, lease.token) == (f"{queue(either)}/{name}", stat.czxid)
    assert (lease.identity, lease.held, lease.reason, lock.lease) == ("worker-1", True, None, lease)
    assert not lease.lost
    assert TIMEOUT / 3 < lease.remaining < TIMEOUT
    lease.check()
    (acquired,) = either.told("lease.acquired")
    assert (acquired.path, acquired.token, acquired.identity) == (lock.path, lease.token, "worker-1")
    assert release()
    assert either.names("q") == ()
    assert (lease.held, lease.remaining, lease.reason, lock.lease) == (False, 0.0, "released", None)
    assert lease.lost
    with pytest.raises(LeaseLostError):
        lease.check()
    (released,) = either.told("lease.released")
    assert (released.path, released.token) == (lock.path, lease.token)
    assert release()  # once more


def test_who_we_are_unless_said(site: Site) -> None:
    """Host and process."""
    with site.zk.lock(queue(site)) as lease:
        assert lease.identity == f"{socket.gethostname()}:{os.getpid()}"
        assert queued(site) == [lease.identity]


@pytest.mark.parametrize("kind", ["lock", "lead"])
def test_a_block(either: Site, kind: str) -> None:
    """It is held within, and free after it, also when an error passes through."""
    lock = getattr(either.zk, kind)(queue(either))
    with lock as lease:
        assert lease.held
        assert len(queued(either)) == 1
    assert queued(either) == []
    with pytest.raises(KeyError, match="mine"), lock:
        raise KeyError("mine")
    assert queued(either) == []
    either.tells("lease.acquired", "lease.released", "lease.acquired", "lease.released")


def test_work_that_is_held(either: Site) -> None:
    """hold() returns what the work does, and gives back also when that fails."""
    candidacy = either.zk.lead(queue(either), identity="worker-1")
    assert candidacy.hold(own(either, lambda lease: (lease.held, lease.identity))) == (True, "worker-1")

    def fail(_: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        candidacy.hold(own(either, fail))
    assert queued(either) == []


class Offer(BaseModel):
    rack: int
    secret: str


@pytest.mark.parametrize(
    ("kind", "dialect", "name"),
    [
        ("lock", "kazoo", r"[0-9a-f]{32}__lock__\d{10}"),
        ("lead", "kazoo", r"[0-9a-f]{32}__lock__\d{10}"),
        ("lock", "curator", r"_c_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-lock-\d{10}"),
        ("lead", "curator", r"_c_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-latch-\d{10}"),
    ],
)
def test_whose_queue_it_is(site: Site, kind: str, dialect: str, name: str) -> None:
    """Names are those of the other clients; each attempt has one of its own."""
    names = set()
    for _ in range(2):
        with getattr(site.zk, kind)(queue(site), dialect=dialect):
            (found,) = site.names("q")
            assert re.fullmatch(name, found)
            names.add(found)
    assert len(names) == 2


def test_what_a_seat_holds(either: Site) -> None:
    """Data instead of the identity: bytes, a model, or what a type describes; none of it is shown."""
    for data, model, written in (
        (b"raw", None, b"raw"),
        (Offer(rack=1, secret="told"), None, b'{"rack":1,"secret":"told"}'),
        ({"rack": 1, "secret": "told"}, Offer, b'{"rack":1,"secret":"told"}'),
        (b"\xff\x00", None, b"\xff\x00"),
    ):
        lock = either.zk.lock(queue(either), identity="worker-1", data=data, model=model)
        with lock as lease:
            (name,) = either.names("q")
            assert either.look(f"q/{name}") == (written, "mine", 0)
            assert lease.identity == "worker-1"
            assert "told" not in repr(lease) + repr(lock)
            (acquired,) = (event for event in either.told("lease.acquired") if event.token == lease.token)
            assert acquired.identity == "worker-1"
            assert f"token={lease.token} held" in repr(lease)


# -- waiting


@pytest.mark.parametrize("place", [2, 3, 4])
def test_not_in_time(site: Site, place: int) -> None:
    """The message says how long, where we stood, and who has it; nothing is left of the wait."""
    for number in range(1, place):
        sit(site, f"holder-{number}")
    call = site.begin(lambda: site.zk.lock(queue(site)).acquire(timeout=SHORT), "asked")
    site.pass_time(SHORT)
    error: Any = call.error()
    assert type(error) is AcquireTimeoutError
    ordinal = {2: "second", 3: "third", 4: "4th"}[place]
    session = hex_id(site.other.session.session_id)
    assert str(error) == (
        f"lock {queue(site)} not acquired in 0.2 s: {ordinal} in queue, held by holder-1 (session {session})"
    )
    assert (error.path, error.position, error.holder) == (queue(site), place, "holder-1")
    assert (error.retryable, error.ambiguous) == (True, False)
    site.wait(lambda: len(queued(site)) == place - 1, "it has left")
    site.tells()


@pytest.mark.parametrize("kind", ["lock", "lead"])
def test_a_block_waits_as_long_as_was_said(either: Site, kind: str) -> None:
    """The timeout of the object is that of its block."""
    holder = sit(either)
    lock = getattr(either.zk, kind)(queue(either), timeout=SHORT)

    def enter() -> None:
        with lock:
            pytest.fail("it is somebody else's")

    call = either.begin(enter, "asked")
    either.pass_time(SHORT)
    assert type(call.error()) is AcquireTimeoutError
    either.other.delete(holder)
    with lock as lease:
        assert lease.held


def test_no_time_at_all(site: Site) -> None:
    """Nothing can be asked in no time: nothing is."""
    with pytest.raises(OperationTimeoutError, match=rf"^lock {queue(site)} not begun: its 0 s were over$"):
        site.zk.lock(queue(site)).acquire(timeout=0)
    assert site.names() == ()


def test_without_a_link(either: Site) -> None:
    """That nobody could be asked is not that others have it."""
    either.cut()
    call = either.begin(lambda: either.zk.lock(queue(either)).acquire(timeout=SHORT), "held")
    either.pass_time(SHORT)
    error = call.error()
    assert type(error) is OperationTimeoutError
    assert "session suspended" in str(error)
    either.mend()
    assert either.names() == ()


def test_one_after_the_other(site: Site) -> None:
    """By the order of the queue; whoever is left in front is waited for."""
    first, second = sit(site, "first"), sit(site, "second")
    call = waiting(site, lambda: site.zk.lock(queue(site), identity="us").acquire(), "us", 3)
    sit(site, "last")
    site.other.delete(second)
    site.wait(lambda: site.watched(first), "the first is watched instead")
    assert not call.done
    site.other.delete(first)
    lease = granted(site, call)
    assert queued(site) == ["us", "last"]
    assert lease.release()


def test_two_coordinators(either: Site) -> None:
    """Each waits for the other, and each token is greater than the one before."""
    tokens = []
    mine, theirs = either.zk.lock(queue(either), identity="a"), either.other.lock(queue(either))
    for _ in range(3):
        theirs_now = theirs.acquire()
        call = waiting(either, mine.acquire, "a", 2)
        assert theirs.release()
        lease = granted(either, call)
        tokens += [theirs_now.token, lease.token]
        assert not theirs_now.held
        assert lease.release()
    assert tokens == sorted(set(tokens))


def test_strangers_are_passed_over(site: Site) -> None:
    """What is no seat of the queue is neither waited for nor counted."""
    holder = sit(site)
    for name in ("-stray", "config", "_c_1-latch-x", "zzz"):
        site.other.create(f"{queue(site)}/{name}")
    call = site.begin(lambda: site.zk.lock(queue(site)).acquire(timeout=TIMEOUT / 2), "asked")
    site.wait(lambda: site.watched(holder), "it waits for the holder")
    site.other.delete(holder)
    assert granted(site, call).held


def test_a_wait_outlives_its_session(either: Site) -> None:
    """It queues again, behind those who came meanwhile, with another seat."""
    holder = sit(either, "holder")
    call = waiting(either, lambda: either.zk.lock(queue(either), identity="us").acquire(), "us", 2)
    either.cut()
    before = either.zk.session.session_id
    either.expire()
    either.wait(lambda: before not in either.sessions(), "the session has ended")
    late = sit(either, "late")
    either.mend()
    either.wait(lambda: queued(either) == ["holder", "late", "us"], "it queues again")
    either.tells(*LOST, *RENEWED)
    either.other.delete(holder)
    either.other.delete(late)
    lease = granted(either, call)
    assert lease.held
    (acquired,) = either.told("lease.acquired")
    assert (acquired.session_id, acquired.token) == (either.zk.session.session_id, lease.token)


def test_a_seat_that_somebody_deleted_is_taken_again(site: Site) -> None:
    """Who waits is not forgotten: found gone when its turn comes, it queues again."""
    holder = sit(site, "holder")
    call = waiting(site, lambda: site.zk.lock(queue(site), identity="us").acquire(), "us", 2)
    (seat,) = (name for name in site.names("q") if not holder.endswith(name))
    site.other.delete(f"{queue(site)}/{seat}")
    site.other.delete(holder)
    lease = granted(site, call)
    assert not lease.path.endswith(seat)
    assert queued(site) == ["us"]


# -- lost


@pytest.mark.parametrize("kind", ["lock", "lead"])
def test_deleted_by_somebody(either: Site, kind: str) -> None:
    """It is over at once; a block of a lock says so where it ends, that of a leadership does not."""
    block = getattr(either.zk, kind)(queue(either))
    raised = None
    try:
        with block as lease:
            lose(either, lease)
            assert (lease.held, lease.remaining, lease.reason) == (False, 0.0, "deleted")
            assert lease.wait_lost(0)
            assert block.lease is None
    except LeaseLostError as error:
        raised = error
    assert (raised is not None) == (kind == "lock")
    if raised is not None:
        assert (raised.path, raised.token, raised.reason) == (queue(either), lease.token, "deleted")
        assert str(raised) == (
            f"lock {queue(either)} is not held any more (deleted): its token was {lease.token}"
        )
    acquired, lost = either.told("lease.acquired", "lease.lost")
    assert (lost.path, lost.token, lost.reason) == (acquired.path, acquired.token, "deleted")
    assert lost.remaining == 0
    assert queued(either) == []
    either.tells()


def test_an_error_of_the_block_comes_out(site: Site) -> None:
    """It is not hidden behind the loss."""
    with pytest.raises(KeyError, match="mine"), site.zk.lock(queue(site)) as lease:  # noqa: PT012
        lose(site, lease)
        raise KeyError("mine")


def test_lost_with_its_session(either: Site) -> None:
    """Told before the expiry, which counts it; its seat is not made again."""
    lease = either.zk.lock(queue(either)).acquire()
    either.cut()
    before = either.zk.session.session_id
    either.expire()
    either.wait(lambda: before not in either.sessions(), "the session has ended")
    assert queued(either) == []
    either.mend()
    told = either.told("lease.acquired", *LOST, "lease.lost", *RENEWED)
    kinds = [event.kind for event in told]
    assert kinds.index("lease.lost") + 1 == kinds.index("session.expired")
    (expired,) = (event for event in told if event.kind == "session.expired")
    (lost,) = (event for event in told if event.kind == "lease.lost")
    assert (expired.lost_leases, lost.session_id, lost.reason) == (1, before, "expired")
    assert (lease.held, lease.reason) == (False, "expired")
    either.zk.exists("/")
    assert queued(either) == []


@pytest.mark.parametrize("on_suspend", ["keep", "revoke"])
def test_while_the_link_is_down(either: Site, on_suspend: str) -> None:
    """It is kept as long as it is certain, or lost at once; either way nobody else can hold it yet."""
    lease = either.zk.lock(queue(either), on_suspend=on_suspend).acquire()
    either.tells("lease.acquired")
    either.cut()
    assert lease.held
    if on_suspend == "keep":
        assert not lease.lost
        either.mend()
        either.tells(*LOST, *RESUMED)
        assert lease.held
        assert lease.release()
        return
    either.wait(lambda: bool(lease.lost), "it is lost")
    assert (lease.reason, lease.held) == ("suspended", True)
    assert len(queued(either)) == 1
    either.mend()
    either.tells(*LOST, "lease.lost", *RESUMED)
    assert lease.reason == "suspended"  # also when the link is back
    assert lease.release()
    assert not lease.held
    assert queued(either) == []


def test_lost_with_the_coordinator(either: Site) -> None:
    """Told before the session ends."""
    lease = either.zk.lock(queue(either)).acquire()
    either.zk.close()
    assert (lease.held, lease.reason) == (False, "closed")
    assert lease.lost
    told = [event.kind for event in either.record.rest()]
    assert told == ["lease.acquired", "lease.lost", "connection.closed", "session.closed"]
    assert queued(either) == []


def test_waiting_for_the_loss(either: Site) -> None:
    """With a limit, or until it comes."""
    lease = either.zk.lock(queue(either)).acquire()
    assert not lease.wait_lost(0.01)
    assert not lease.lost.wait(0)
    assert not lease.lost.is_set()
    either.other.delete(lease.path)
    assert lease.lost.wait()
    assert lease.wait_lost()
    assert lease.lost.is_set()


def test_told_of_the_loss(either: Site, caplog: pytest.LogCaptureFixture) -> None:
    """`on_lost` is called with the lease, once; not when it was given back; its error is logged."""
    told: list[Any] = []

    def tell(lease: Any) -> None:
        told.append(lease)
        raise KeyError("mine")

    lock = either.zk.lock(queue(either), on_lost=own(either, tell))
    with lock:
        pass
    lease = lock.acquire()
    with caplog.at_level(logging.ERROR, logger="coordinator"):
        lose(either, lease)
        eventually(lambda: caplog.records, message="it is logged")
    (shown,) = told
    assert same(shown, lease)
    assert [record.message for record in caplog.records] == [f"on_lost of lock {queue(either)} raised"]


# -- a transaction that is bound to it


def test_bound_to_the_lease(either: Site) -> None:
    """Carried out while it is held; refused by the server once its seat is gone; not even begun later."""
    path = f"{either.base}/a"
    lease = either.zk.lock(queue(either)).acquire()
    assert lease.guard(either.zk.transaction()).create(path, b"1").commit() == (None, path)
    begun = lease.guard(either.zk.transaction()).set(path, b"2")
    lose(either, lease)
    with pytest.raises(TransactionFailedError) as refused:
        begun.commit()
    assert (refused.value.index, type(refused.value.error)) == (0, NoNodeError)
    with pytest.raises(LeaseLostError):
        lease.guard(either.zk.transaction())
    assert either.look("a") == (b"1", "", 0)
