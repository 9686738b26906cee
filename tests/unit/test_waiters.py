"""How answers reach whoever waits for them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordinator.engine.waiters import BATCH, LoopBridge, LoopWaiter, ThreadWaiter


def test_a_thread_gets_the_first_answer() -> None:
    """A value or an error; a second one changes nothing."""
    waiter = ThreadWaiter()
    assert not waiter.wait(0)
    waiter.settle("one", None)
    waiter.settle("two", None)
    assert waiter.wait(0)
    assert waiter.answer() == "one"
    failed = ThreadWaiter()
    failed.settle(None, KeyError("x"))
    with pytest.raises(KeyError):
        failed.answer()


async def test_a_task_gets_what_a_thread_leaves() -> None:
    """A value or an error, in the loop."""
    bridge = LoopBridge(asyncio.get_running_loop())
    first, second = LoopWaiter(bridge), LoopWaiter(bridge)
    thread = threading.Thread(target=lambda: (first.settle("one", None), second.settle(None, KeyError("x"))))
    thread.start()
    assert await first.future == "one"
    with pytest.raises(KeyError):
        await second.future
    thread.join()


async def test_who_has_given_up_is_not_disturbed() -> None:
    """An answer that comes after the cancellation is dropped."""
    bridge = LoopBridge(asyncio.get_running_loop())
    waiter = LoopWaiter(bridge)
    waiter.future.cancel()
    waiter.settle("late", None)
    await asyncio.sleep(0)
    assert waiter.future.cancelled()


async def test_calls_arrive_in_order_and_in_batches() -> None:
    """The loop is woken once for many, and gets a turn between two batches."""
    loop = asyncio.get_running_loop()
    bridge = LoopBridge(loop)
    calls: list[int] = []
    for number in range(2 * BATCH + 1):
        bridge.call(lambda number=number: calls.append(number))
    seen = []
    while len(calls) < 2 * BATCH + 1:
        await asyncio.sleep(0)
        seen.append(len(calls))
    assert calls == list(range(2 * BATCH + 1))
    assert {BATCH, 2 * BATCH} <= set(seen)


def test_a_closed_loop_is_no_fault() -> None:
    """Nobody waits in it; nothing is kept for it."""
    loop = asyncio.new_event_loop()
    bridge = LoopBridge(loop)
    loop.close()
    for _ in range(3):
        bridge.call(lambda: None)
    assert not bridge._queue


async def test_nothing_is_overlooked_under_load() -> None:
    """Many threads at once: every call arrives."""
    bridge = LoopBridge(asyncio.get_running_loop())
    arrived = 0
    everything = asyncio.Event()

    def arrive() -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 8 * 2000:
            everything.set()

    def fill() -> None:
        for _ in range(2000):
            bridge.call(arrive)

    threads = [threading.Thread(target=fill) for _ in range(8)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(20):
        await everything.wait()
    for thread in threads:
        thread.join()
