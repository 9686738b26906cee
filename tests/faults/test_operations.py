"""Plain operations while the link is down, frozen, or breaks under them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from coordinator import (
    BadVersionError,
    ClosedError,
    ConnectionLossError,
    Coordinator,
    NoNodeError,
    OperationTimeoutError,
    SessionResumed,
    SessionSuspended,
    Stat,
    TransactionFailedError,
)
from coordinator.core import operations
from coordinator.core.messages import Submit
from coordinator.core.requests import Create, Get
from coordinator.core.session import LinkDown
from coordinator.engine import clock
from coordinator.engine.waiters import ThreadWaiter
from coordinator.testing import EventRecord, FaultProxy, eventually
from tests.faces import Face
from tests.support import in_thread, new_place


@pytest.fixture
def zk(face: Face, proxy: FaultProxy) -> Iterator[Coordinator]:
    with face(proxy.hosts, session_timeout=10.0) as started:
        yield started


@pytest.fixture
def suspended(zk: Coordinator, proxy: FaultProxy) -> Coordinator:
    record = EventRecord(zk, SessionSuspended)
    proxy.refuse = True
    proxy.cut()
    record.until("session.suspended")
    return zk


def resume(zk: Coordinator, proxy: FaultProxy) -> None:
    record = EventRecord(zk, SessionResumed)
    proxy.refuse = False
    record.until("session.resumed")


def test_ten_thousand_while_suspended(
    suspended: Coordinator, proxy: FaultProxy, observer: KazooClient
) -> None:
    """Each of 10,000 creates gives up at its deadline, unambiguously, and is never carried out."""
    base = new_place()
    observer.create(base)
    threads, each, timeout = 200, 50, 0.05
    late: list[float] = []
    wrong: list[object] = []

    def create_all(number: int) -> None:
        for index in range(each):
            began = time.monotonic()
            try:
                suspended.create(f"{base}/{number}-{index}", timeout=timeout)
                wrong.append("created")
            except OperationTimeoutError as error:
                if error.ambiguous:
                    wrong.append(error)
            late.append(time.monotonic() - began - timeout)

    callers = [threading.Thread(target=create_all, args=(number,)) for number in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []
    assert len(late) == threads * each
    assert max(late) < 1.0  # 200 threads on two cores: scheduling, not waiting
    resume(suspended, proxy)
    suspended.create(f"{base}/after")
    assert observer.get_children(base) == ["after"]


def test_ten_thousand_pending_do_not_hold_up_close(suspended: Coordinator) -> None:
    """10,000 operations outstanding at once are all answered by close(), within 2 s."""
    deadline = clock.now() + 60
    pending = [ThreadWaiter() for _ in range(10_000)]
    for number, waiter in enumerate(pending):
        create = operations.create(Create(f"/pending-{number}"))
        suspended._engine.post(Submit(create, "create", deadline, 60.0, waiter))
    began = time.monotonic()
    suspended.close()
    assert time.monotonic() - began < 2
    for waiter in pending:
        assert waiter.wait(0)
        with pytest.raises(ClosedError) as closed:
            waiter.answer()
        assert not closed.value.ambiguous


def test_held_operations_are_carried_out_in_order(
    suspended: Coordinator, proxy: FaultProxy, observer: KazooClient
) -> None:
    """What is asked while suspended is done on the next link, in the order in which it was asked."""
    path = new_place()
    create = in_thread(lambda: suspended.create(path, b"0"))
    eventually(lambda: suspended._engine._kernel.calls, message="the create is held")
    sets = []
    for number in range(1, 4):
        held = len(suspended._engine._kernel.calls)
        sets.append(in_thread(lambda number=number: suspended.set(path, b"%d" % number)))
        eventually(lambda held=held: len(suspended._engine._kernel.calls) > held, message="it is held")
    resume(suspended, proxy)
    assert create() == path
    assert [wait().version for wait in sets] == [1, 2, 3]
    assert observer.get(path)[0] == b"3"


def test_timeouts_say_whether_it_may_have_been_done(
    zk: Coordinator, proxy: FaultProxy, observer: KazooClient
) -> None:
    """On a frozen link: a write that was sent is ambiguous, a read is not."""
    path = new_place()
    observer.create(path)
    proxy.blackhole = True
    with pytest.raises(OperationTimeoutError, match=f"set {path} not answered in 0.1 s") as write:
        zk.set(path, b"x", timeout=0.1)
    assert write.value.ambiguous
    assert write.value.retryable
    with pytest.raises(OperationTimeoutError) as read:
        zk.get(path, timeout=0.1)
    assert not read.value.ambiguous
    proxy.blackhole = False


def test_nothing_is_sent_on_a_dying_link(zk: Coordinator, proxy: FaultProxy) -> None:
    """Between the death of a link and kazoo's telling it, requests are held, not queued in kazoo."""
    link = zk._engine._port.handler.link
    assert link is not None
    link.bury("closed")
    sent = link.frames_out
    reading = in_thread(lambda: zk.get("/").path)
    eventually(lambda: zk._engine._kernel._runner._held, message="it is held")
    assert link.frames_out == sent
    proxy.cut()
    assert reading() == "/"


def test_what_was_not_sent_is_not_ambiguous(
    zk: Coordinator, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is in the inbox already when a write finds no link: it is held, and done on the next."""
    port, inbox = zk._engine._port, zk._engine._inbox
    send = port.send

    def refuse(*_: object) -> bool:
        monkeypatch.setattr(port, "send", send)
        inbox.put(LinkDown(0.0))
        return False

    path = new_place()
    zk.create(path)
    monkeypatch.setattr(port, "send", refuse)
    writing = in_thread(lambda: zk.set(path, b"x"))
    eventually(lambda: zk.session.phase == "suspended")
    proxy.cut()
    assert writing().version == 1


def test_a_request_goes_out_on_its_own_link_only(zk: Coordinator) -> None:
    """One that was meant for the link before is not sent on this one."""
    number = zk._engine._port._link[0]
    assert not zk._engine._port.send(10**9, Get("/"), number - 1)
    assert zk._engine._port.send(10**9, Get("/"), number)


def test_read_is_asked_again_on_the_next_link(
    zk: Coordinator, proxy: FaultProxy, observer: KazooClient
) -> None:
    """A read whose answer was lost gets it from the next link."""
    path = new_place()
    observer.create(path, b"x")
    proxy.blackhole_down = True
    reading = in_thread(lambda: zk.get(path).value)
    eventually(lambda: zk._engine._kernel._runner._flying, message="it was sent")
    proxy.reset_all()
    proxy.blackhole_down = False
    assert reading() == b"x"


def test_write_whose_answer_was_lost_is_ambiguous(
    zk: Coordinator, proxy: FaultProxy, observer: KazooClient
) -> None:
    """It was applied, the answer was lost: an error that says so, not a second write."""
    path = new_place()
    observer.create(path)
    proxy.blackhole_down = True
    writing = in_thread(lambda: zk.set(path, b"x"))
    eventually(lambda: observer.get(path)[0] == b"x")
    proxy.reset_all()
    proxy.blackhole_down = False
    with pytest.raises(ConnectionLossError, match=path) as lost:
        writing()
    assert lost.value.ambiguous
    zk.get(path)
    assert observer.exists(path).version == 1


def test_transaction_names_the_guilty_operation(zk: Coordinator, observer: KazooClient) -> None:
    """One refused operation undoes all, raises, and is named."""
    path = new_place()
    zk.create(path)
    transaction = zk.transaction().create(f"{path}/a").set(path, b"x", version=7).delete(f"{path}/a")
    with pytest.raises(TransactionFailedError, match=f"operation 1 .set {path}.") as failed:
        transaction.commit()
    assert (failed.value.index, failed.value.operation) == (1, f"set {path}")
    assert isinstance(failed.value.error, BadVersionError)
    assert observer.get_children(path) == []

    with zk.transaction() as both:
        both.check(path, version=0).create(f"{path}/b")
        assert both.commit() == both.results == (None, f"{path}/b")  # here, and not again at the end
    zk.delete(f"{path}/b")

    with zk.transaction() as both:
        both.check(path, version=0).create(f"{path}/a", b"1").set(path, b"x")
    assert observer.get_children(path) == ["a"]
    assert observer.get(path)[0] == b"x"

    results = (
        zk.transaction().create(f"{path}/s-", sequential=True).set(path, b"y").delete(f"{path}/a").commit()
    )
    assert results[0] == f"{path}/s-0000000002"
    assert isinstance(results[1], Stat)
    assert results[2] is None
    assert zk.transaction().commit() == ()


def test_plain_operations(zk: Coordinator) -> None:
    """Read, write, version, list, delete: what is returned, and the errors of the server."""
    path = new_place()
    assert zk.create(f"{path}/deep/er", b"x", parents=True) == f"{path}/deep/er"
    znode = zk.get(f"{path}/deep/er")
    assert (znode.value, znode.stat.version, znode.path) == (b"x", 0, f"{path}/deep/er")
    assert zk.set(f"{path}/deep/er", b"y", version=0).version == 1
    with pytest.raises(BadVersionError):
        zk.set(f"{path}/deep/er", b"z", version=0)
    with pytest.raises(NoNodeError, match=f"{path}/none"):
        zk.get(f"{path}/none")
    with pytest.raises(NoNodeError):
        zk.create(f"{path}/none/child")
    assert zk.exists(f"{path}/none") is None
    for name in ("b", "a"):
        zk.create(f"{path}/{name}")
    assert zk.children(path) == ("a", "b", "deep")
    zk.delete(f"{path}/deep/er", version=1)
    assert zk.exists(f"{path}/deep/er") is None
    assert zk.create(f"{path}/s-", sequential=True).startswith(f"{path}/s-00000000")
