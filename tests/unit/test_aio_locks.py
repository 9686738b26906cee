"""Locks and leadership in an event loop: who is cancelled by a loss, and what belongs to which loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from coordinator import AsyncCoordinator, ConfigurationError, LeaseLostError, OperationTimeoutError
from coordinator.testing.memory import MemoryEnsemble

PATH = "/locks/a"
FOREVER = 30.0


@pytest.fixture
def memory() -> Iterator[MemoryEnsemble]:
    with MemoryEnsemble() as ensemble:
        yield ensemble


@pytest.fixture
async def zk(memory: MemoryEnsemble) -> AsyncIterator[AsyncCoordinator]:
    async with memory.async_coordinator(session_timeout=10.0) as started:
        yield started


def end_session(memory: MemoryEnsemble) -> None:
    """Every lease of every coordinator is lost."""
    memory.expire()
    memory.advance(2.0)


def task() -> asyncio.Task[Any]:
    mine = asyncio.current_task()
    assert mine is not None
    return mine


async def caught(awaitable: Any) -> BaseException | None:
    """What comes out of it."""
    try:
        await awaitable
    except BaseException as error:  # noqa: BLE001 -- whatever it is
        return error
    return None


# -- cancelled by a loss


@pytest.mark.parametrize("kind", ["lock", "lead", "hold"])
async def test_a_loss_cancels_the_body(memory: MemoryEnsemble, zk: AsyncCoordinator, kind: str) -> None:
    """In the midst of what it waits for; out comes LeaseLostError, and the task was not cancelled."""
    seen: list[object] = []

    async def work(lease: Any) -> None:
        asyncio.get_running_loop().call_soon(end_session, memory)
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError as error:
            seen.extend((error, bool(lease.lost)))
            raise

    async def run() -> None:
        if kind == "hold":
            await zk.lead(PATH, cancel_on_loss=True).hold(work)
            return
        making: Any = getattr(zk, kind)
        async with making(PATH, cancel_on_loss=True) as lease:
            await work(lease)

    error = await caught(run())
    assert isinstance(error, LeaseLostError)
    assert (error.reason, error.path) == ("expired", PATH)
    cancelled, lost = seen
    assert error.__cause__ is cancelled
    assert lost is True
    assert task().cancelling() == 0
    assert await zk.children(PATH) == ()


async def test_without_it_the_body_goes_on(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """Nobody is cancelled who did not ask for it."""
    async with zk.lead(PATH) as lease:
        end_session(memory)
        await asyncio.sleep(0)
        await lease.lost.wait()
        assert task().cancelling() == 0


@pytest.mark.parametrize("first", ["loss", "other"])
async def test_another_cancellation_in_that_moment_is_not_swallowed(
    memory: MemoryEnsemble, zk: AsyncCoordinator, first: str
) -> None:
    """Whoever cancels the task sees it cancelled, whichever came first."""
    entered = asyncio.Event()

    async def run() -> None:
        async with zk.lock(PATH, cancel_on_loss=True):
            entered.set()
            await asyncio.sleep(FOREVER)

    running = asyncio.create_task(run())
    await entered.wait()
    if first == "loss":
        _both(memory, running.cancel)
    else:
        running.cancel()
        end_session(memory)
    assert isinstance(await caught(running), asyncio.CancelledError)
    assert running.cancelled()


def _both(memory: MemoryEnsemble, cancel: Callable[[], object]) -> None:
    """Have the loss told, and something else done before any task runs."""
    end_session(memory)
    asyncio.get_running_loop().call_soon(cancel)


async def test_a_timeout_in_that_moment_is_a_timeout(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """Each takes back the cancellation that is its own."""

    async def run() -> None:
        async with asyncio.timeout(None) as limit, zk.lock(PATH, cancel_on_loss=True):
            end_session(memory)
            limit.reschedule(0)
            await asyncio.sleep(FOREVER)

    assert isinstance(await caught(run()), TimeoutError)
    assert task().cancelling() == 0


async def test_a_timeout_within_is_its_own(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """It says nothing about the lease."""
    async with zk.lock(PATH, cancel_on_loss=True) as lease:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(FOREVER)
        assert lease.held


async def test_two_at_once_end_at_the_outer_one(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """Both are lost: the inner block passes on what the outer one has asked for."""

    async def run() -> None:
        async with zk.lock("/locks/outer", cancel_on_loss=True), zk.lock("/locks/inner", cancel_on_loss=True):
            end_session(memory)
            await asyncio.sleep(FOREVER)

    error = await caught(run())
    assert isinstance(error, LeaseLostError)
    assert error.path == "/locks/outer"
    assert task().cancelling() == 0


async def test_one_within_another_ends_alone(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """The inner lease is lost, the outer one is not."""
    async with zk.lock("/locks/outer", cancel_on_loss=True) as outer:
        async with memory.async_coordinator(session_timeout=10.0) as other:

            async def run() -> None:
                async with other.lock("/locks/inner", cancel_on_loss=True):
                    memory.expire(other)
                    memory.advance(2.0)
                    await asyncio.sleep(FOREVER)

            error = await caught(run())
        assert isinstance(error, LeaseLostError)
        assert error.path == "/locks/inner"
        assert outer.held


async def test_in_a_task_that_was_cancelled_before(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """What cleans up after a cancellation may hold a lock: what came before counts for nothing."""
    errors: list[BaseException | None] = []

    async def clean_up() -> None:
        async with zk.lock(PATH, cancel_on_loss=True):
            end_session(memory)
            await asyncio.sleep(FOREVER)

    async def run() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            errors.append(await caught(clean_up()))
            raise

    running = asyncio.create_task(run())
    await asyncio.sleep(0)
    running.cancel()
    assert isinstance(await caught(running), asyncio.CancelledError)
    assert [type(error) for error in errors] == [LeaseLostError]


async def test_in_a_group_of_tasks(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """All of the group end, and the loss comes out as it is."""
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            ended.append(name)

    async def run() -> None:
        async with zk.lead(PATH, cancel_on_loss=True), asyncio.TaskGroup() as group:
            group.create_task(work("a"))
            group.create_task(work("b"))
            await asyncio.sleep(0)
            end_session(memory)

    assert isinstance(await caught(run()), LeaseLostError)
    assert sorted(ended) == ["a", "b"]
    assert task().cancelling() == 0


@pytest.mark.parametrize("kind", ["lock", "lead"])
async def test_a_body_that_ends_by_itself(memory: MemoryEnsemble, zk: AsyncCoordinator, kind: str) -> None:
    """It heeds the cancellation and ends: a lock tells that it was lost, a leadership does not."""
    making: Any = getattr(zk, kind)

    async def run() -> None:
        async with making(PATH, cancel_on_loss=True):
            end_session(memory)
            await caught(asyncio.sleep(FOREVER))

    error = await caught(run())
    assert type(error) is (LeaseLostError if kind == "lock" else type(None))
    assert task().cancelling() == 0


@pytest.mark.parametrize("kind", ["lock", "lead"])
async def test_a_body_that_never_waits(memory: MemoryEnsemble, zk: AsyncCoordinator, kind: str) -> None:
    """It has ended before the loop could cancel it; what comes after it is not cancelled instead."""
    making: Any = getattr(zk, kind)

    async def run() -> None:
        async with making(PATH, cancel_on_loss=True):
            end_session(memory)

    error = await caught(run())
    assert type(error) is (LeaseLostError if kind == "lock" else type(None))
    await asyncio.sleep(0)
    assert task().cancelling() == 0


async def test_an_error_of_the_body_comes_out(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """Also when it was lost: what went wrong is not hidden."""

    async def run() -> None:
        async with zk.lock(PATH, cancel_on_loss=True):
            end_session(memory)
            try:
                await asyncio.sleep(FOREVER)
            finally:
                raise KeyError("mine")

    assert isinstance(await caught(run()), KeyError)
    assert task().cancelling() == 0


async def test_lost_before_the_body_began(
    memory: MemoryEnsemble, zk: AsyncCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the grant and the body: there is nothing to cancel, so it does not begin."""
    lock = zk.lock(PATH, cancel_on_loss=True)
    take = lock._take

    async def late(*args: Any, **kwargs: Any) -> Any:
        lease = await take(*args, **kwargs)
        end_session(memory)
        return lease

    monkeypatch.setattr(lock, "_take", late)
    with pytest.raises(LeaseLostError):
        async with lock:
            pytest.fail("it began")
    assert task().cancelling() == 0
    monkeypatch.undo()
    async with lock as lease:  # nothing of it is left
        assert lease.held


async def test_given_back_within_the_body(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """That is no loss: nobody is cancelled, and nothing is raised."""
    async with zk.lock(PATH, cancel_on_loss=True) as lease:
        assert await lease.release()
        await asyncio.sleep(0)
        assert lease.lost
        assert task().cancelling() == 0


async def test_the_end_of_the_coordinator_is_a_loss(memory: MemoryEnsemble) -> None:
    """The body is cancelled when somebody closes the coordinator."""
    zk = await memory.async_coordinator(session_timeout=10.0).start()

    async def run() -> None:
        async with zk.lead(PATH, cancel_on_loss=True):
            closing.append(asyncio.create_task(zk.close()))
            await asyncio.sleep(FOREVER)

    closing: list[asyncio.Task[None]] = []
    error = await caught(run())
    assert isinstance(error, LeaseLostError)
    assert error.reason == "closed"
    await closing[0]


# -- waiting for a loss


async def test_a_busy_loop_sees_it(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """`lost` turns true without the loop's coming round."""
    lease = await zk.lock(PATH).acquire()
    assert not lease.lost
    end_session(memory)
    assert lease.lost
    assert repr(lease.lost) == "<AsyncLoss lost>"


async def test_waiting_for_a_loss(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """With a limit, and without; a wait that is cancelled is."""
    lease = await zk.lock(PATH).acquire()
    assert not await lease.wait_lost(0)
    assert not await lease.lost.wait(0.01)
    waiting = asyncio.create_task(lease.wait_lost())
    given_up = asyncio.create_task(lease.lost.wait())
    await asyncio.sleep(0)
    given_up.cancel()
    assert isinstance(await caught(given_up), asyncio.CancelledError)
    end_session(memory)
    assert await waiting
    assert await lease.lost.wait(0)
    for wrong in (lease.wait_lost, lease.lost.wait):
        assert isinstance(await caught(wrong(-1)), ConfigurationError)


async def test_told_by_a_call(
    memory: MemoryEnsemble, zk: AsyncCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_lost` is called in the loop, a coroutine function is awaited, what it raises is logged."""
    told: list[Any] = []
    done = asyncio.Event()

    async def tell(lease: Any) -> None:
        await asyncio.sleep(0)
        told.append(lease)
        done.set()
        raise KeyError("mine")

    lock = zk.lock(PATH, on_lost=tell)
    assert await (await lock.acquire()).release()
    lease = await lock.acquire()
    with caplog.at_level(logging.ERROR, logger="coordinator"):
        end_session(memory)
        await done.wait()
        await asyncio.sleep(0)
    assert told == [lease]
    assert [record.message for record in caplog.records] == ["on_lost of lock /locks/a raised"]


# -- loops


async def in_another_loop(make: Callable[[], Any]) -> Any:
    """Run a coroutine in a loop of its own, in a thread."""

    def run() -> Any:
        return asyncio.run(caught(make()))

    return await asyncio.to_thread(run)


async def test_another_loop_is_refused(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """Whatever would wait says so, and changes nothing: in its own loop all of it goes on."""
    told: list[Any] = []
    lock, latch = zk.lock(PATH), await zk.latch("/leaders/a", on_lost=told.append)
    view = await zk.observe("/leaders/a")
    lease, leading = await lock.acquire(), await latch.wait(1.0)
    waits: list[Callable[[], Any]] = [
        lambda: zk.lock(PATH).acquire(),
        lambda: zk.lead(PATH).campaign(),
        lambda: zk.latch(PATH),
        lambda: zk.observe(PATH),
        lambda: lock.release(),
        lambda: lease.release(),
        lambda: lease.wait_lost(),
        lambda: lease.lost.wait(),
        lambda: leading.release(),
        lambda: latch.members(),
        lambda: latch.close(),
        lambda: view.close(),
    ]
    async with zk.lead("/leaders/b") as other:
        for make in waits:
            error = await in_another_loop(make)
            assert isinstance(error, ConfigurationError), make.__code__.co_names
            assert "another event loop" in str(error)
        assert (lease.held, leading.held, other.held) == (True, True, True)
    assert (latch.closed, view.closed) == (False, False)
    assert await lock.release()
    await latch.close()
    await view.close()
    assert memory.ephemerals() == {}
    await asyncio.sleep(0)
    assert told == [leading]  # it was not given back before


def test_a_loop_that_has_ended() -> None:
    """What is held is held; its loss is seen, and nobody is called; it ends with the coordinator."""
    told: list[Any] = []
    with MemoryEnsemble() as memory:
        zk = memory.async_coordinator(session_timeout=10.0)

        async def acquire() -> Any:
            await zk.start()
            return await zk.lock(PATH, on_lost=told.append).acquire()

        lease = asyncio.run(acquire())
        assert lease.held
        end_session(memory)
        assert lease.lost
        assert (lease.held, lease.reason) == (False, "expired")

        async def again() -> None:
            with pytest.raises(ConfigurationError):
                await lease.release()
            async with zk.lock(PATH) as another:
                assert another.token > lease.token
            await zk.close()

        asyncio.run(again())
        assert told == []


async def test_a_wait_that_is_cancelled_leaves_no_place(memory: MemoryEnsemble, zk: AsyncCoordinator) -> None:
    """On the wire, in the queue, and in the moment in which it is granted."""
    async with memory.async_coordinator(session_timeout=10.0) as other:
        holder = await other.lock(PATH).acquire()
        memory.blackhole(zk, up=False)
        waiting = asyncio.create_task(zk.lock(PATH).acquire())
        await asyncio.sleep(0)  # its first request is carried out, and not answered
        waiting.cancel()
        assert isinstance(await caught(waiting), asyncio.CancelledError)
        memory.mend(zk)
        assert len(await zk.children(PATH)) == 1
        waiting = asyncio.create_task(zk.lock(PATH).acquire())
        await asyncio.sleep(0)
        assert len(await other.children(PATH)) == 2
        memory.blackhole(zk)
        await holder.release()
        memory.mend(zk)
        memory.advance(1.0)  # it is granted, and nobody has taken it yet
        waiting.cancel()
        assert isinstance(await caught(waiting), asyncio.CancelledError)
        memory.settle()
        assert await other.children(PATH) == ()
        with pytest.raises(OperationTimeoutError):
            await zk.lock(PATH).acquire(timeout=0)
        assert memory.ephemerals() == {}
