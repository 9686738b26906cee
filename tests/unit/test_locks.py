"""Locks and leadership on an ensemble in memory, in both faces: their time, and what is shared by threads."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator import (
    AcquireTimeoutError,
    AlreadyHeldError,
    ConfigurationError,
    Coordinator,
    LeaseLostError,
)
from coordinator.core.requests import Get
from coordinator.testing import eventually
from coordinator.testing.memory import MemoryEnsemble
from tests.faces import Face
from tests.support import in_thread

PATH = "/locks/a"
STEP = 0.001
"""Seconds: to the millisecond."""


@pytest.fixture
def memory() -> Iterator[MemoryEnsemble]:
    with MemoryEnsemble() as ensemble:
        yield ensemble


@pytest.fixture
def zk(memory: MemoryEnsemble, face: Face) -> Iterator[Any]:
    with face(memory, session_timeout=10.0) as started:
        yield started


@pytest.fixture
def other(memory: MemoryEnsemble) -> Iterator[Coordinator]:
    with memory.coordinator(session_timeout=10.0) as started:
        yield started


def seats(memory: MemoryEnsemble, zk: Any) -> set[str]:
    """The ephemerals of a coordinator."""
    memory.settle()
    return memory.ephemerals().get(zk.session.session_id, set())


def asked(memory: MemoryEnsemble, zk: Any, call: Any) -> Any:
    """Begin a call in a thread; return what waits for it once the engine has it."""
    kernel = zk._engine._kernel
    before = len(kernel.calls)
    waiting = in_thread(call)
    eventually(lambda: len(kernel.calls) > before, message="asked")
    memory.settle()
    return waiting


# -- time


@pytest.mark.parametrize("stop_within", [None, 0.25, 0.0])
def test_lost_in_time_without_any_network(memory: MemoryEnsemble, zk: Any, stop_within: Any) -> None:
    """`lost` fires exactly stop_within before the end, and `held` is false at the end, to the millisecond."""
    lease = zk.lock(PATH, stop_within=stop_within).acquire()
    memory.advance(20.0)
    memory.blackhole(zk)
    margin = 1.0 if stop_within is None else stop_within
    memory.advance(lease.remaining - margin - STEP)
    assert not lease.lost
    lease.check()
    memory.advance(STEP)
    assert lease.lost
    with pytest.raises(LeaseLostError) as lost:
        lease.check()
    assert (lost.value.reason, lost.value.token, lost.value.path) == ("lapsed", lease.token, PATH)
    assert lease.remaining == pytest.approx(margin, abs=STEP / 10)
    if margin:
        memory.advance(margin - STEP)
        assert lease.held
        memory.advance(STEP)
    assert not lease.held
    assert lease.remaining == 0.0


def test_a_lost_lease_only_shrinks(memory: MemoryEnsemble, zk: Any, other: Coordinator) -> None:
    """A link that comes back in time changes nothing: it ends where it would have, and not before."""
    lock = zk.lock(PATH)
    lease = lock.acquire()
    memory.advance(20.0)
    memory.blackhole(zk)
    memory.advance(lease.remaining - 0.5)
    assert lease.lost
    memory.mend(zk)
    with pytest.raises(AlreadyHeldError):
        lock.acquire()
    rest = lease.remaining
    waiting = asked(memory, other, other.lock(PATH).acquire)
    memory.advance(rest - STEP)
    assert lease.held
    assert lease.remaining == pytest.approx(STEP, abs=STEP / 10)
    memory.advance(STEP)
    assert not lease.held
    assert waiting().token > lease.token


def test_a_busy_process_looks_at_the_clock(memory: MemoryEnsemble, zk: Any) -> None:
    """Nothing of it runs, but for the one who asks: he is told what the clock says."""
    lease = zk.lock(PATH).acquire()
    memory.freeze(zk)
    memory.advance(lease.remaining - 1.0 - STEP)
    lease.check()
    memory.advance(STEP)
    with pytest.raises(LeaseLostError):
        lease.check()
    assert lease.held
    memory.advance(1.0)
    assert not lease.held
    assert not lease.lost  # nobody could tell it
    memory.thaw(zk)
    assert lease.lost


def test_given_back_early_it_is_not_held(memory: MemoryEnsemble, zk: Any, other: Coordinator) -> None:
    """Between the loss and the end it may be given back; from then on somebody else may hold it."""
    lock = zk.lock(PATH)
    lease = lock.acquire()
    memory.advance(20.0)
    memory.blackhole(zk)
    memory.advance(lease.remaining - 0.5)
    memory.mend(zk)
    assert lease.lost
    assert lease.held
    assert lock.release()
    assert not lease.held
    with other.lock(PATH) as next_one:
        assert next_one.token > lease.token
    assert lease.reason == "lapsed"


# -- the queue


def test_who_is_before_us_goes_while_we_look(
    memory: MemoryEnsemble, zk: Any, other: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the list and the watch: nobody would tell of it, so the queue is listed again."""
    other.lock(PATH).acquire()
    port = zk._engine._port
    send, looks = port.send, []

    def late(request_id: int, request: Any, number: int) -> bool:
        if isinstance(request, Get) and request.watch is not None:
            if not looks:
                with memory._turns.changed:
                    memory._server.end(other.session.session_id)
            looks.append(request.path)
        return bool(send(request_id, request, number))

    monkeypatch.setattr(port, "send", late)
    with zk.lock(PATH) as lease:
        assert lease.held
        assert len(set(looks)) == 2  # who was before us, and our own


# -- one object, many users


def test_who_leaves_late_leaves_the_next_alone(memory: MemoryEnsemble, zk: Any) -> None:
    """A release that waits for its answer does not take away what was acquired on the object meanwhile."""
    lock = zk.lock(PATH)
    lock.acquire()
    memory.blackhole(zk, up=False)
    releasing = asked(memory, zk, lambda: lock.release(timeout=5.0))
    acquiring = asked(memory, zk, lambda: lock.acquire(timeout=5.0))
    memory.mend(zk)
    memory.advance(1.0)
    assert releasing()
    lease = acquiring()
    assert lock.lease == lease
    assert lock.release()
    assert not lease.held
    assert seats(memory, zk) == set()


def test_a_wait_that_times_out_leaves_the_next_alone(memory: MemoryEnsemble, other: Coordinator) -> None:
    """The same for a thread that gives up in the moment in which another begins."""
    with memory.coordinator(session_timeout=10.0) as zk:
        lock, theirs = zk.lock(PATH), other.lock(PATH)
        theirs.acquire()
        early = asked(memory, zk, lambda: lock.acquire(timeout=1.0))
        seat, late = lock._seat, []
        assert seat is not None
        abandon = seat._abandon

        def abandoned() -> None:
            abandon()
            late.append(in_thread(lock.acquire))
            eventually(lambda: lock._seat is not seat)

        seat._abandon = abandoned  # type: ignore[method-assign]
        memory.advance(1.0)
        with pytest.raises(AcquireTimeoutError):
            early()
        eventually(lambda: len(seats(memory, zk)) == 1, message="the other one waits")
        theirs.release()
        assert late[0]() is lock.lease
        assert lock.release()
        assert seats(memory, zk) == set()


def test_the_end_of_a_block_gives_back_what_the_block_held(memory: MemoryEnsemble, zk: Any) -> None:
    """Not what somebody else acquired on the same object after that was lost."""
    lock = zk.lock(PATH)
    with pytest.raises(LeaseLostError), lock as lost:  # noqa: PT012 -- raised where the block ends
        memory.expire(zk)
        memory.advance(2.0)
        assert not lost.held
        with pytest.raises(AlreadyHeldError), lock:
            pass
        mine = lock.acquire()
    assert mine.held
    assert lock.lease == mine
    assert lock.release()
    with lock:
        pass


def test_twice_on_one_object(zk: Any) -> None:
    """It would wait for itself, for ever; another object queues behind it."""
    lock = zk.lock(PATH)
    with lock, pytest.raises(AlreadyHeldError, match=r"^lock /locks/a: .* release it first, or make another"):
        lock.acquire()
    with lock as lease:
        assert lease.held


# -- what is left behind


def test_a_lock_that_was_dropped_leaves_nothing(memory: MemoryEnsemble, zk: Any) -> None:
    """Used and forgotten, or lost and forgotten: the engine knows nothing of it any more."""
    engine = zk._engine
    handles = len(engine._refreshed)

    def use() -> list[Any]:
        lock = zk.lock(PATH)
        lock.acquire().release()
        lease = lock.acquire()
        memory.expire(zk)
        memory.advance(20.0)
        assert lease.lost
        return [weakref.ref(target) for target in (lock, lease)]

    gone = use()
    gc.collect()
    assert [one() for one in gone] == [None, None]
    assert len(engine._refreshed) == handles
    assert engine._kernel._slots._slots == {}
    assert len(engine._kernel.calls) == 0


def test_a_lease_that_nobody_got_ends(memory: MemoryEnsemble, zk: Any) -> None:
    """Granted to one who had given up in that moment: no thread waits for its loss, and nobody is told."""
    told: list[Any] = []
    lock = zk.lock(PATH, on_lost=told.append)
    lock.acquire()
    seat = lock._seat
    lease = seat._lease
    seat._abandon()
    assert seats(memory, zk) == set()
    eventually(lambda: lease.lost, message="it is over")
    eventually(lambda: not any("on-lost" in one.name for one in threading.enumerate()))
    assert told == []


def test_whoever_leaves_is_not_told_of_what_comes_late(
    memory: MemoryEnsemble, zk: Any, other: Coordinator
) -> None:
    """A latch that is being closed without a word may lead once more before that arrives."""
    told: list[Any] = []
    holder = other.lock(PATH).acquire()
    latch = zk.latch(PATH, on_lost=told.append)
    latch._hush()
    holder.release()
    memory.advance(2.0)
    lease = latch.wait(1.0)
    memory.expire(zk)
    memory.advance(2.0)
    assert lease.lost
    zk.close()
    eventually(lambda: not any("on-lost" in one.name for one in threading.enumerate()))
    assert told == []


def test_closed_while_it_is_made(memory: MemoryEnsemble, zk: Any) -> None:
    """The engine may look at a place in a queue as soon as it has a number, and also at its end."""
    engine = zk._engine
    token_of = engine.token
    seen: list[object] = []

    def look(refreshed: Any) -> int:
        token = token_of(refreshed)
        seen.append(refreshed())
        return token

    engine.token = look
    with zk.lock(PATH) as lease:
        assert lease.held
    assert seen == [None]


# -- a latch


def test_a_latch_that_steps_down_has_left_its_seat(memory: MemoryEnsemble, zk: Any) -> None:
    """release() of its lease returns when the znode is gone, and says whether it is."""
    latch = zk.latch(PATH)
    lease = latch.wait(1.0)
    assert lease.release()
    assert lease.path not in seats(memory, zk)
    assert (lease.held, lease.reason) == (False, "released")
    again = latch.wait(1.0)
    assert again.token > lease.token
    assert lease.release()  # once more: it is of no consequence
    assert again.held
    memory.blackhole(zk)
    releasing = asked(memory, zk, lambda: again.release(timeout=0.5))
    memory.advance(0.5)
    assert not releasing()
    assert not again.held
    memory.mend(zk)
    memory.advance(5.0)
    assert again.release()
    assert latch.wait(1.0).token > again.token


def test_a_latch_gives_up_a_lost_lease_early(memory: MemoryEnsemble, zk: Any, other: Coordinator) -> None:
    """Once its work has stopped it need not wait for the end."""
    latch = zk.latch(PATH)
    lease = latch.wait(1.0)
    rival = other.latch(PATH)
    memory.advance(20.0)
    memory.blackhole(zk)
    memory.advance(lease.remaining - 0.5)
    memory.mend(zk)
    assert lease.lost
    assert lease.release()
    assert not lease.held
    memory.settle()
    assert rival.wait(1.0).token > lease.token
    assert len(latch.members()) == 2


def test_release_says_what_is_certain(memory: MemoryEnsemble, zk: Any) -> None:
    """Not in time: False, each time that it is asked; and True when it has gone."""
    lock = zk.lock(PATH)
    lease = lock.acquire()
    memory.blackhole(zk)
    assert not lease.release(timeout=0)
    assert not lease.held
    assert not lease.release(timeout=0)
    memory.mend(zk)
    assert lease.release()
    assert seats(memory, zk) == set()
    assert lock.release()


def test_release_after_the_end_is_not_certain(zk: Any) -> None:
    """The coordinator is closed; whether its session could be ended is not known to the lease."""
    lease = zk.lock(PATH).acquire()
    zk.close()
    assert (lease.held, lease.reason) == (False, "closed")
    assert not lease.release()


@pytest.mark.parametrize("timeout", [-1, "soon"])
def test_a_wrong_timeout_keeps_it(zk: Any, timeout: Any) -> None:
    """What is wrong is told before anything is done."""
    latch, lock = zk.latch(PATH), zk.lock("/locks/b")
    lease, leading = lock.acquire(), latch.wait(1.0)
    for one in (lock, lease, leading):
        with pytest.raises(ConfigurationError):
            one.release(timeout=timeout)
    assert (lease.held, leading.held, lock.lease) == (True, True, lease)
    assert lock.release()
    assert not lease.held


def test_the_session_is_looked_at_again(memory: MemoryEnsemble, face: Face) -> None:
    """A lock that was made before the session was: what the server granted may be too short for it."""
    with face(memory, session_timeout=10.0) as zk:
        lock = zk.lock(PATH, stop_within=1.0)
        session = zk._engine._kernel.session
        zk._engine._kernel.session = type(session)(**{**vars_of(session), "timeout": 2.0})
        with pytest.raises(ConfigurationError, match=r"^lock /locks/a: .* of 2 s is too short"):
            lock.acquire()
        assert seats(memory, zk) == set()


def vars_of(session: Any) -> dict[str, Any]:
    return {name: getattr(session, name) for name in type(session).__dataclass_fields__}
