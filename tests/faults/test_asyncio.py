"""What is promised to an event loop: it is never blocked, and no future is forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest
from kazoo.client import KazooClient

from coordinator import (
    AsyncCoordinator,
    ClosedError,
    ConfigurationError,
    CoordinatorError,
    OperationTimeoutError,
    SessionEvent,
    SessionResumed,
    SessionSuspended,
)
from coordinator.awaiting import ask
from coordinator.core.intent import Made
from coordinator.core.messages import Abandon
from coordinator.engine.waiters import LoopBridge, LoopWaiter
from coordinator.questions import Question
from coordinator.testing import FaultProxy, ZooKeeperServer, session_ids
from tests.support import new_place

TOO_LONG = 0.05


class Pulse:
    """When somebody who wanted to come round each millisecond did not, for 5 ms and more."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.gaps: list[tuple[float, float]] = []

    def beat(self) -> None:
        now = time.perf_counter()
        if now - self._last > 0.005:
            self.gaps.append((self._last, now))
        self._last = now

    def during(self, begin: float, end: float) -> float:
        """How long it stood still between these two times."""
        return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in self.gaps)


@asynccontextmanager
async def never_blocked(limit: float) -> AsyncIterator[None]:
    """Fail if the loop does not come round for so long while a bystanding thread does.

    What holds up the thread too is the machine or Python's lock, not something that the loop waits for.
    The garbage collector is not to blame us for.
    """
    loop_pulse, thread_pulse = Pulse(), Pulse()
    over = threading.Event()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.001)
            loop_pulse.beat()

    def stand_by() -> None:
        while not over.wait(0.001):
            thread_pulse.beat()

    gc.collect()
    gc.disable()
    bystander = threading.Thread(target=stand_by)
    bystander.start()
    task = asyncio.create_task(beat())
    try:
        await asyncio.sleep(0)
        yield
    finally:
        task.cancel()
        gc.enable()
        with suppress(asyncio.CancelledError):
            await task
        over.set()
        bystander.join()
    blocked = [last - first - thread_pulse.during(first, last) for first, last in loop_pulse.gaps]
    assert max(blocked, default=0.0) < limit


async def test_a_blocked_loop_is_noticed() -> None:
    """The measure itself: a call that blocks for longer is found out."""
    with pytest.raises(AssertionError):  # noqa: PT012 -- the measure is a context of its own
        async with never_blocked(TOO_LONG):
            time.sleep(2 * TOO_LONG)
            await asyncio.sleep(0.01)


async def suspend(zk: AsyncCoordinator, proxy: FaultProxy) -> None:
    async with zk.events(SessionSuspended) as stream:
        proxy.refuse = True
        proxy.cut()
        await stream.next(10)


async def issue(zk: AsyncCoordinator, base: str, count: int) -> list[asyncio.Task[str]]:
    """Begin so many creates; the loop comes round after each ten of them, as in a server."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(zk.create(f"{base}/{number}", timeout=60)))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_ten_thousand_while_suspended(proxy: FaultProxy, observer: KazooClient) -> None:
    """10,000 operations are issued while suspended, and carried out after it: the loop is never blocked."""
    base = new_place()
    observer.create(base)
    async with AsyncCoordinator(proxy.hosts, session_timeout=30.0) as zk:
        await suspend(zk, proxy)
        async with never_blocked(TOO_LONG):
            tasks = await issue(zk, base, 10_000)
            proxy.refuse = False
            await asyncio.gather(*tasks)
    assert len(observer.get_children(base)) == 10_000


async def test_ten_thousand_pending_do_not_hold_up_close(proxy: FaultProxy, observer: KazooClient) -> None:
    """All of them are answered by close(), within 2 s; the loop goes on meanwhile."""
    async with AsyncCoordinator(proxy.hosts, session_timeout=30.0) as zk:
        await suspend(zk, proxy)
        async with never_blocked(TOO_LONG):
            tasks = await issue(zk, new_place(), 10_000)
            began = time.monotonic()
            await zk.close()
            assert time.monotonic() - began < 2
            results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {ClosedError}
    assert not any(result.ambiguous for result in results)


@pytest.mark.timeout(120)
async def test_no_future_is_lost_with_a_cut_every_second(proxy: FaultProxy, observer: KazooClient) -> None:
    """50 readers at once for a minute, the link cut each second: every get is answered."""
    path = new_place()
    observer.create(path, b"here")
    answered = 0
    end = time.monotonic() + 60

    async with AsyncCoordinator(proxy.hosts, session_timeout=10.0) as zk:

        async def read() -> None:
            nonlocal answered
            while time.monotonic() < end:
                async with asyncio.timeout(20):
                    assert (await zk.get(path, timeout=15)).value == b"here"
                answered += 1

        async def cut() -> None:
            while time.monotonic() < end - 1:
                await asyncio.sleep(1)
                proxy.cut()

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(read())
            group.create_task(cut())
        assert zk.stats.sessions_resumed > 30
        assert zk.session.epoch == 1
        assert len(zk._engine._kernel.calls) == 0
    assert answered > 1000


async def test_a_handler_may_close_the_coordinator(zookeeper: ZooKeeperServer) -> None:
    """A coroutine is awaited, and may do what it likes with the coordinator that calls it."""
    zk = await AsyncCoordinator(zookeeper.hosts).start()

    async def handler(_event: object) -> None:
        await zk.close()

    task = zk.on(handler)
    await task.join(5)
    assert not task.alive
    with pytest.raises(ClosedError):
        await zk.get("/")


async def test_a_handler_that_does_not_return_is_cancelled(
    zookeeper: ZooKeeperServer, caplog: pytest.LogCaptureFixture
) -> None:
    """close() waits for it no longer than it promises."""
    entered = asyncio.Event()

    async def handler(_event: object) -> None:
        entered.set()
        await asyncio.sleep(60)

    zk = await AsyncCoordinator(zookeeper.hosts).start()
    task = zk.on(handler)
    await entered.wait()
    began = time.monotonic()
    await zk.close()
    assert time.monotonic() - began < 2
    assert not task.alive
    assert "its handler does not return" in caplog.text


async def test_what_a_handler_raises_is_logged(
    zookeeper: ZooKeeperServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The next event is served all the same; a plain function does as well."""
    seen: list[str] = []

    def handler(event: SessionEvent) -> None:
        seen.append(event.kind)
        raise LookupError("its own fault")

    zk = AsyncCoordinator(zookeeper.hosts)
    zk.on(handler, SessionEvent)  # before the start, too
    async with zk:
        pass
    assert seen == ["session.established", "session.closed"]
    assert caplog.text.count("LookupError: its own fault") == 2


async def test_events_are_pulled_while_others_wait(proxy: FaultProxy) -> None:
    """Two streams of one coordinator each get all events; the end of the session ends them."""
    zk = AsyncCoordinator(proxy.hosts)
    streams = [zk.events(), zk.events(SessionEvent)]
    with pytest.raises(ClosedError, match="not started"):
        await anext(streams[0])

    async def read(stream: object) -> list[str]:
        return [event.kind async for event in stream if event.kind != "connection.failed"]

    async with zk:
        reading = [asyncio.create_task(read(stream)) for stream in streams]
        await suspend(zk, proxy)
        proxy.refuse = False
        async with zk.events(SessionResumed) as resumed:
            assert (await resumed.next(10)).outage > 0
        with pytest.raises(OperationTimeoutError, match="no event within"):
            await streams[1].next(0.01)
    everything, session = [await task for task in reading]
    assert session == ["session.established", "session.suspended", "session.resumed", "session.closed"]
    assert [kind for kind in everything if kind.startswith("session")] == session


def test_outside_of_a_loop_it_says_what_to_use() -> None:
    """It can be made at import time, but not used without a loop."""
    zk = AsyncCoordinator("127.0.0.1:1")
    assert zk.session.phase == "connecting"
    with pytest.raises(ConfigurationError, match="inside of a running event loop"):
        zk.events()


def test_it_belongs_to_one_loop(zookeeper: ZooKeeperServer) -> None:
    """A second loop gets a clear error instead of waiting for ever."""
    zk = AsyncCoordinator(zookeeper.hosts)

    async def begin() -> list[Callable[[], Coroutine[object, object, object]]]:
        await zk.start()
        view, transaction = await zk.watch("/"), zk.transaction().check("/")
        stream = zk.events()
        return [zk.close, lambda: zk.exists("/"), view.close, transaction.commit, lambda: stream.next(1)]

    with asyncio.Runner() as first, asyncio.Runner() as second:
        for misuse in first.run(begin()):
            with pytest.raises(ConfigurationError, match="belongs to another event loop"):
                second.run(misuse())
        assert zk.session.phase == "connected"
        first.run(zk.close())
        assert zk.session.phase == "closed"


async def test_a_timeout_around_a_call_is_the_users(proxy: FaultProxy, observer: KazooClient) -> None:
    """asyncio.timeout() ends a wait at once; what was held is not carried out."""
    path = new_place()
    async with AsyncCoordinator(proxy.hosts, session_timeout=10.0) as zk:
        await suspend(zk, proxy)
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(0.05):
                await zk.create(path)
        assert not isinstance(late.value, CoordinatorError)
        proxy.refuse = False
        await zk.exists("/")
        assert observer.exists(path) is None


async def test_answers_for_those_who_are_gone_are_no_noise(
    proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that arrives with the cancellation is not reported as one that nobody looked at."""
    async with AsyncCoordinator(proxy.hosts) as zk:
        for wait in range(20):
            task = asyncio.create_task(zk.get("/no-such-znode"))
            await asyncio.sleep(0.0002 * wait)
            task.cancel()
            with suppress(asyncio.CancelledError, CoordinatorError):
                await task
            del task
            gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_loop_that_ends_without_close_is_no_fault(zookeeper: ZooKeeperServer) -> None:
    """What comes for a loop that is gone is dropped; the coordinator can be closed in another one."""
    zk = AsyncCoordinator(zookeeper.hosts)

    def run_and_leave() -> None:
        with asyncio.Runner() as runner:
            runner.run(zk.start())
            runner.run(zk.watch("/"))

    await asyncio.to_thread(run_and_leave)
    await zk.close()
    assert zk.session.phase == "closed"


async def test_whoever_closes_second_waits_for_the_end(zookeeper: ZooKeeperServer, proxy: FaultProxy) -> None:
    """No close() returns before the session is over."""
    zk = await AsyncCoordinator(proxy.hosts).start()
    session_id = zk.session.session_id
    proxy.latency = 0.05
    first = asyncio.create_task(zk.close())
    await asyncio.sleep(0.01)
    await zk.close()
    assert session_id not in session_ids(zookeeper)
    assert zk.session.phase == "closed"
    await first


async def test_whoever_starts_second_waits_for_the_session(proxy: FaultProxy) -> None:
    """No start() returns before there is one."""
    proxy.latency = 0.05
    zk = AsyncCoordinator(proxy.hosts)
    first = asyncio.create_task(zk.start())
    await asyncio.sleep(0.01)
    await zk.start()
    assert zk.session.phase == "connected"
    await first
    await zk.close()


async def test_a_handler_survives_the_cancellation_of_others(
    zookeeper: ZooKeeperServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It awaits a task that somebody cancels: the next event is served."""
    seen: list[str] = []

    async def handler(event: SessionEvent) -> None:
        seen.append(event.kind)
        if len(seen) == 1:
            other = asyncio.create_task(asyncio.sleep(60))
            other.cancel()
            await other

    zk = AsyncCoordinator(zookeeper.hosts)
    zk.on(handler, SessionEvent)
    async with zk:
        pass
    assert seen == ["session.established", "session.closed"]
    assert "awaited what was cancelled" in caplog.text


async def test_a_backlog_of_events_lets_the_loop_come_round(zookeeper: ZooKeeperServer) -> None:
    """A reader that is far behind takes a few at a time."""
    async with AsyncCoordinator(zookeeper.hosts) as zk:
        stream = zk.events()
        event = await stream.next(5)
        for _ in range(1000):
            stream._subscription.put(event)
        rounds = 0

        async def others() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        for _ in range(1000):
            await anext(stream)
        task.cancel()
        assert rounds >= 10


async def test_a_stream_that_is_left_is_forgotten(zookeeper: ZooKeeperServer) -> None:
    """Nobody has to close a stream whose loop was left by break."""
    async with AsyncCoordinator(zookeeper.hosts) as zk:
        for _ in range(10):
            async for _event in zk.events():
                break
        gc.collect()
        assert all(one.forgotten for one in zk._engine.fanout._subscriptions)
        await zk.ephemeral(new_place())  # tells of it, and finds nobody to tell
        assert zk._engine.fanout._subscriptions == []


async def test_a_handler_lives_though_nobody_holds_it(proxy: FaultProxy) -> None:
    """As long as there are events: neither the task nor the coordinator has to be kept by its user."""
    seen: list[str] = []

    async def begin() -> Callable[[], Awaitable[None]]:
        zk = AsyncCoordinator(proxy.hosts)
        zk.on(lambda event: seen.append(event.kind), SessionEvent)
        await zk.start()
        engine, questions = zk._engine, zk._questions

        async def end() -> None:
            engine.post(questions.close("requested").message(None))

        return end

    end = await begin()
    gc.collect()
    await asyncio.sleep(0)
    await end()
    async with asyncio.timeout(5):
        while seen != ["session.established", "session.closed"]:
            await asyncio.sleep(0.01)


async def test_a_start_that_is_thrown_away_ends_it(zookeeper: ZooKeeperServer) -> None:
    """A coroutine that is closed cannot await the end; it comes all the same."""
    zk = AsyncCoordinator(zookeeper.hosts)
    starting = zk.start()
    starting.send(None)
    starting.close()
    assert await asyncio.to_thread(zk._engine.join, 5)


class Deaf:
    """An engine that answers when it is told to, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def post(self, message: object) -> None:
        self.asked.append(message)


async def test_an_answer_that_is_there_is_not_given_up() -> None:
    """The loop stood still for so long that answer and overdue timer come in one round."""
    deaf, bridge = Deaf(), LoopBridge(asyncio.get_running_loop())
    question = Question(lambda waiter: waiter, patience=0.02)
    asking = asyncio.create_task(ask(deaf, bridge, question))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    (waiter,) = deaf.asked
    assert isinstance(waiter, LoopWaiter)
    waiter.settle("here", None)
    time.sleep(0.05)
    assert await asking == "here"
    assert deaf.asked == [waiter]


async def test_an_engine_that_does_not_answer_is_told_of() -> None:
    """Better than to wait for ever; what it still does is to be undone."""
    deaf, bridge = Deaf(), LoopBridge(asyncio.get_running_loop())
    made: Made = []
    question: Question[None] = Question(lambda waiter: waiter, patience=0.02, made=made)  # type: ignore[arg-type, return-value]
    with pytest.raises(CoordinatorError, match="did not answer within"):
        await ask(deaf, bridge, question)  # type: ignore[arg-type]
    waiter, abandon = deaf.asked
    assert isinstance(abandon, Abandon)
    assert abandon.waiter is waiter
    assert abandon.made is made


async def test_an_error_that_comes_with_the_cancellation_is_no_noise() -> None:
    """asyncio would report it as one that nobody has looked at."""
    loop = asyncio.get_running_loop()
    noise: list[object] = []
    loop.set_exception_handler(lambda _, context: noise.append(context))
    deaf = Deaf()
    question: Question[None] = Question(lambda waiter: waiter, patience=5)  # type: ignore[arg-type, return-value]
    asking = asyncio.create_task(ask(deaf, LoopBridge(loop), question))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    waiter = deaf.asked[0]
    assert isinstance(waiter, LoopWaiter)
    waiter.resolve(None, LookupError())
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert isinstance(deaf.asked.pop(), Abandon)
    deaf.asked.clear()
    del waiter, asking
    gc.collect()
    assert noise == []


async def test_a_wait_that_is_thrown_away_is_given_up() -> None:
    """Its coroutine is closed: nobody will take the answer."""
    deaf, bridge = Deaf(), LoopBridge(asyncio.get_running_loop())
    question: Question[None] = Question(lambda waiter: waiter, patience=5)  # type: ignore[arg-type, return-value]
    asking = ask(deaf, bridge, question)  # type: ignore[arg-type]
    asking.send(None)
    asking.close()
    assert isinstance(deaf.asked[-1], Abandon)


async def test_closing_a_stream_wakes_its_reader(zookeeper: ZooKeeperServer) -> None:
    """Whoever waits for the next event learns that there will be none."""
    async with AsyncCoordinator(zookeeper.hosts) as zk:
        stream = zk.events(SessionSuspended)
        reading = asyncio.create_task(stream.next(30))
        await asyncio.sleep(0)
        stream.close()
        async with asyncio.timeout(5):
            with pytest.raises(ClosedError, match="at its end"):
                await reading
