"""A task may be cancelled wherever it waits: it leaves no znode, watch, thread or pending future."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

import coordinator
from coordinator import AsyncCoordinator, SessionEvent
from coordinator.testing import (
    FaultProxy,
    ZooKeeperServer,
    ephemerals,
    eventually_async,
    session_ids,
    watches,
)
from tests.support import new_place

LATENCY = 0.03
VICTIM = "may be deleted or not"
THEIRS = "0" * 32
"""The attempt of somebody else who queues."""
MOMENTS = ["at once", "on the wire", "answered", "held"]


@dataclass
class World:
    """One coordinator behind a proxy, a place of its own, and who looks at what is left there."""

    zk: AsyncCoordinator
    proxy: FaultProxy
    server: ZooKeeperServer
    observer: KazooClient
    base: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def closing(self, made: Awaitable[Any]) -> Any:
        """Make something that the scenario needs, and is closed after it."""
        handle = await made
        self.stack.push_async_callback(handle.close)
        return handle


Scenario = Callable[[World], Awaitable[Coroutine[Any, Any, Any]]]
SCENARIOS: dict[str, list[Scenario]] = {}


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """What is cancelled, by the name of the method; what it is called on is made before."""

    def add(function: Scenario) -> Scenario:
        SCENARIOS.setdefault(name, []).append(function)
        return function

    return add


@scenario("AsyncCoordinator.get")
async def _get(world: World) -> Any:
    return world.zk.get(f"{world.base}/given")


@scenario("AsyncCoordinator.exists")
async def _exists(world: World) -> Any:
    return world.zk.exists(f"{world.base}/given")


@scenario("AsyncCoordinator.children")
async def _children(world: World) -> Any:
    return world.zk.children(world.base)


@scenario("AsyncCoordinator.set")
async def _set(world: World) -> Any:
    return world.zk.set(f"{world.base}/given", b"set")


@scenario("AsyncCoordinator.delete")
async def _delete(world: World) -> Any:
    world.observer.create(f"{world.base}/{VICTIM}")
    return world.zk.delete(f"{world.base}/{VICTIM}")


@scenario("AsyncCoordinator.create")
async def _create(world: World) -> Any:
    return world.zk.create(f"{world.base}/new")


@scenario("AsyncCoordinator.create")
async def _create_with_parents(world: World) -> Any:
    return world.zk.create(f"{world.base}/a/b/new", parents=True)


@scenario("AsyncCoordinator.create")
async def _create_sequential(world: World) -> Any:
    return world.zk.create(f"{world.base}/new-", sequential=True)


@scenario("AsyncCoordinator.create")
async def _create_ephemeral(world: World) -> Any:
    return world.zk.create(f"{world.base}/new", ephemeral=True)


@scenario("AsyncCoordinator.ephemeral")
async def _ephemeral(world: World) -> Any:
    return world.zk.ephemeral(f"{world.base}/new")


@scenario("AsyncCoordinator.watch")
async def _watch(world: World) -> Any:
    return world.zk.watch(f"{world.base}/given")


@scenario("AsyncCoordinator.watch")
async def _watch_missing(world: World) -> Any:
    return world.zk.watch(f"{world.base}/none")


@scenario("AsyncCoordinator.watch_children")
async def _watch_children(world: World) -> Any:
    return world.zk.watch_children(world.base)


@scenario("AsyncTransaction.commit")
async def _commit(world: World) -> Any:
    return world.zk.transaction().check(world.base).create(f"{world.base}/new").commit()


@scenario("AsyncTransaction.__aenter__")
async def _transaction_enter(world: World) -> Any:
    return world.zk.transaction().__aenter__()


@scenario("AsyncTransaction.__aexit__")
async def _transaction_exit(world: World) -> Any:
    return world.zk.transaction().create(f"{world.base}/new").__aexit__(None, None, None)


@scenario("AsyncEphemeral.close")
async def _ephemeral_close(world: World) -> Any:
    return (await world.zk.ephemeral(f"{world.base}/new")).close()


@scenario("AsyncEphemeral.__aexit__")
async def _ephemeral_exit(world: World) -> Any:
    return (await world.zk.ephemeral(f"{world.base}/new")).__aexit__(None, None, None)


@scenario("AsyncEphemeral.__aenter__")
async def _ephemeral_enter(world: World) -> Any:
    return (await world.closing(world.zk.ephemeral(f"{world.base}/new"))).__aenter__()


@scenario("AsyncEphemeral.set")
async def _ephemeral_set(world: World) -> Any:
    return (await world.closing(world.zk.ephemeral(f"{world.base}/new"))).set(b"other")


@scenario("AsyncEphemeral.wait_present")
async def _wait_present(world: World) -> Any:
    world.observer.create(f"{world.base}/taken")
    return (await world.closing(world.zk.ephemeral(f"{world.base}/taken"))).wait_present()


@scenario("AsyncZnodeView.close")
async def _view_close(world: World) -> Any:
    return (await world.zk.watch(f"{world.base}/given")).close()


@scenario("AsyncZnodeView.__aexit__")
async def _view_exit(world: World) -> Any:
    return (await world.zk.watch(f"{world.base}/given")).__aexit__(None, None, None)


@scenario("AsyncZnodeView.__aenter__")
async def _view_enter(world: World) -> Any:
    return (await world.closing(world.zk.watch(f"{world.base}/given"))).__aenter__()


@scenario("AsyncZnodeView.changes")
async def _view_changes(world: World) -> Any:
    return _two((await world.closing(world.zk.watch(f"{world.base}/given"))).changes())


@scenario("AsyncChildrenView.close")
async def _children_close(world: World) -> Any:
    return (await world.zk.watch_children(world.base)).close()


@scenario("AsyncChildrenView.__aexit__")
async def _children_exit(world: World) -> Any:
    return (await world.zk.watch_children(world.base)).__aexit__(None, None, None)


@scenario("AsyncChildrenView.__aenter__")
async def _children_enter(world: World) -> Any:
    return (await world.closing(world.zk.watch_children(world.base))).__aenter__()


@scenario("AsyncChildrenView.changes")
async def _children_changes(world: World) -> Any:
    return _two((await world.closing(world.zk.watch_children(world.base))).changes())


@scenario("AsyncChildrenView.wait")
async def _children_wait(world: World) -> Any:
    return (await world.closing(world.zk.watch_children(world.base))).wait(5)


@scenario("AsyncCoordinator.latch")
async def _latch(world: World) -> Any:
    return world.zk.latch(f"{world.base}/given")


@scenario("AsyncCoordinator.latch")
async def _latch_behind(world: World) -> Any:
    await _holder(world)
    return world.zk.latch(f"{world.base}/given")


@scenario("AsyncCoordinator.observe")
async def _observe(world: World) -> Any:
    await _holder(world)
    return world.zk.observe(f"{world.base}/given")


@scenario("AsyncLock.acquire")
async def _acquire(world: World) -> Any:
    return world.zk.lock(f"{world.base}/given").acquire()


@scenario("AsyncLock.acquire")
async def _acquire_behind(world: World) -> Any:
    await _holder(world)
    return world.zk.lock(f"{world.base}/given").acquire()


@scenario("AsyncLock.release")
async def _release(world: World) -> Any:
    return (await _held(world)).release()


@scenario("AsyncLock.__aenter__")
async def _lock_enter(world: World) -> Any:
    return world.zk.lock(f"{world.base}/given").__aenter__()


@scenario("AsyncLock.__aexit__")
async def _lock_exit(world: World) -> Any:
    lock = world.zk.lock(f"{world.base}/given")
    await lock.__aenter__()
    return lock.__aexit__(None, None, None)


@scenario("AsyncCandidacy.campaign")
async def _campaign(world: World) -> Any:
    return world.zk.lead(f"{world.base}/given").campaign()


@scenario("AsyncCandidacy.resign")
async def _resign(world: World) -> Any:
    candidacy = world.zk.lead(f"{world.base}/given")
    await candidacy.campaign()
    return candidacy.resign()


@scenario("AsyncCandidacy.hold")
async def _hold(world: World) -> Any:
    async def work(_: Any) -> None:
        await asyncio.sleep(0.01)

    return world.zk.lead(f"{world.base}/given", cancel_on_loss=True).hold(work)


@scenario("AsyncCandidacy.__aenter__")
async def _lead_enter(world: World) -> Any:
    return world.zk.lead(f"{world.base}/given").__aenter__()


@scenario("AsyncCandidacy.__aexit__")
async def _lead_exit(world: World) -> Any:
    candidacy = world.zk.lead(f"{world.base}/given")
    await candidacy.__aenter__()
    return candidacy.__aexit__(None, None, None)


@scenario("AsyncLease.release")
async def _lease_release(world: World) -> Any:
    return (await _held(world)).lease.release()


@scenario("AsyncLease.release")
async def _step_down(world: World) -> Any:
    lease = await (await world.closing(world.zk.latch(f"{world.base}/given"))).wait()
    await _holder(world)
    return lease.release()


@scenario("AsyncLease.wait_lost")
async def _wait_lost(world: World) -> Any:
    lock = await _held(world)
    world.stack.push_async_callback(lock.release)
    return lock.lease.wait_lost()


@scenario("AsyncLoss.wait")
async def _loss_wait(world: World) -> Any:
    lock = await _held(world)
    world.stack.push_async_callback(lock.release)
    return lock.lease.lost.wait(20.0)


@scenario("AsyncLatch.wait")
async def _latch_wait(world: World) -> Any:
    await _holder(world)
    return (await world.closing(world.zk.latch(f"{world.base}/given"))).wait(20.0)


@scenario("AsyncLatch.changes")
async def _latch_changes(world: World) -> Any:
    await _holder(world)
    return _two((await world.closing(world.zk.latch(f"{world.base}/given"))).changes())


@scenario("AsyncLatch.leader")
async def _leader(world: World) -> Any:
    return (await world.closing(world.zk.latch(f"{world.base}/given"))).leader()


@scenario("AsyncLatch.members")
async def _members(world: World) -> Any:
    return (await world.closing(world.zk.latch(f"{world.base}/given"))).members()


@scenario("AsyncLatch.close")
async def _latch_close(world: World) -> Any:
    return (await world.zk.latch(f"{world.base}/given")).close()


@scenario("AsyncLatch.__aenter__")
async def _latch_enter(world: World) -> Any:
    return (await world.closing(world.zk.latch(f"{world.base}/given"))).__aenter__()


@scenario("AsyncLatch.__aexit__")
async def _latch_exit(world: World) -> Any:
    return (await world.zk.latch(f"{world.base}/given")).__aexit__(None, None, None)


@scenario("AsyncLeaderView.changes")
async def _leader_changes(world: World) -> Any:
    return _two((await world.closing(world.zk.observe(f"{world.base}/given"))).changes())


@scenario("AsyncLeaderView.wait")
async def _leader_wait(world: World) -> Any:
    return (await world.closing(world.zk.observe(f"{world.base}/given"))).wait(20.0)


@scenario("AsyncLeaderView.close")
async def _leader_close(world: World) -> Any:
    return (await world.zk.observe(f"{world.base}/given")).close()


@scenario("AsyncLeaderView.__aenter__")
async def _leader_enter(world: World) -> Any:
    return (await world.closing(world.zk.observe(f"{world.base}/given"))).__aenter__()


@scenario("AsyncLeaderView.__aexit__")
async def _leader_exit(world: World) -> Any:
    return (await world.zk.observe(f"{world.base}/given")).__aexit__(None, None, None)


async def _holder(world: World) -> None:
    """Somebody is first in the queue."""
    at = f"{world.base}/given/{THEIRS}__lock__"
    await asyncio.to_thread(world.observer.create, at, b"", ephemeral=True, sequence=True)


async def _held(world: World) -> Any:
    lock = world.zk.lock(f"{world.base}/given")
    await lock.acquire()
    return lock


async def _two(changes: AsyncIterator[Any]) -> None:
    await anext(changes)
    await anext(changes)


@scenario("AsyncEventStream.next")
async def _next(world: World) -> Any:
    return _third(world, lambda stream: stream.next(20.0))


@scenario("AsyncEventStream.__anext__")
async def _anext(world: World) -> Any:
    return _third(world, anext)


@scenario("AsyncEventStream.__aenter__")
async def _stream_enter(world: World) -> Any:
    return world.zk.events().__aenter__()


@scenario("AsyncEventStream.__aexit__")
async def _stream_exit(world: World) -> Any:
    return world.zk.events().__aexit__(None, None, None)


async def _third(world: World, get: Callable[[Any], Any]) -> None:
    async with world.zk.events(SessionEvent) as stream:
        for _ in range(3):
            await get(stream)


@scenario("HandlerTask.join")
async def _join(world: World) -> Any:
    task = world.zk.on(print, SessionEvent)
    world.stack.callback(task.close)
    return task.join(20.0)


#: They wait for what does not happen.
ENDLESS = {
    *(_wait_present, _view_changes, _children_changes, _children_wait, _next, _anext, _join),
    *(_acquire_behind, _wait_lost, _loss_wait, _latch_wait, _latch_changes, _leader_changes, _leader_wait),
}

#: They do what another scenario does, in the same way: one moment is enough.
ALIKE = {
    *(_lock_enter, _lock_exit, _campaign, _resign, _lead_enter, _lead_exit, _loss_wait),
    *(_latch_enter, _latch_exit, _leader_enter, _leader_exit, _members),
}

#: Cancelled in tests of their own, because the coordinator ends with them.
ENDING = {"start", "close", "__aenter__", "__aexit__"}


def test_every_method_has_a_scenario() -> None:
    """Whatever is awaited anywhere in the public face is cancelled below."""
    kinds = [coordinator.HandlerTask]
    kinds += [getattr(coordinator, name) for name in coordinator.__all__ if name.startswith("Async")]
    waiting = {
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, method in inspect.getmembers(kind)
        if (name in ("__aenter__", "__aexit__", "__anext__") or not name.startswith("_"))
        and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method))
    }
    assert set(SCENARIOS) == waiting - {f"AsyncCoordinator.{name}" for name in ENDING}


class Stops:
    """Awaits a coroutine, and counts where it waits; at one of these points it calls somebody."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], point: int) -> None:
        self._coroutine = coroutine
        self._point = point
        self.seen = 0
        self.at: asyncio.Future[Any] | None = None
        self.reached = asyncio.Event()

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self._coroutine.__await__()
        error: BaseException | None = None
        while True:
            try:
                future = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            self.seen += 1
            if self.seen == self._point:
                self.at = future
                self.reached.set()
            try:
                yield future
            except BaseException as thrown:  # noqa: BLE001 -- passed on
                error = thrown


async def cancelled_at(
    point: int, coroutine: Coroutine[Any, Any, Any], moment: str, *, endless: bool = False
) -> bool:
    """Run it, and cancel it at that point; return whether it came so far."""
    stops = Stops(coroutine, point)

    async def run() -> Any:
        return await stops

    task = asyncio.create_task(run())
    reached = asyncio.create_task(stops.reached.wait())
    await asyncio.wait((task, reached), timeout=0.5 if endless else 15, return_when=asyncio.FIRST_COMPLETED)
    if not stops.reached.is_set():
        reached.cancel()
        if endless:
            task.cancel()
            await asyncio.wait((task,))
        else:
            await task
        return False
    if moment == "answered" and stops.at is not None:
        # Before the callback by which the task learns of it: the answer is there, and nobody takes it.
        _ahead(stops.at, task)
        await asyncio.wait((task,), timeout=0.3)
    elif moment == "on the wire":
        await asyncio.sleep(LATENCY / 2)
    finished = task.done()
    task.cancel()
    await asyncio.wait((task,), timeout=10)
    assert task.cancelled() or finished
    return True


def _ahead(future: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
    if future.done():
        task.cancel()
        return
    waiting = [callback for callback, _ in future._callbacks or ()]
    for callback in waiting:
        future.remove_done_callback(callback)
    future.add_done_callback(lambda _: task.cancel())
    for callback in waiting:
        future.add_done_callback(callback)


def remains(world: World) -> dict[str, Any]:
    """What there is of the coordinator: here, and on the server."""
    engine = world.zk._engine
    kernel = engine._kernel
    session_id = world.zk.session.session_id
    return {
        "calls": len(kernel.calls),
        "undoing": len(kernel._ending._undoing),
        "flying": len(kernel._runner._flying),
        "held": len(kernel._runner._held),
        "slots": len(kernel._slots._slots),
        "handles": len(engine._refreshed),
        "claims": len(engine._claimed),
        "streams": sum(not one.forgotten for one in engine.fanout._subscriptions),
        "tasks": len(asyncio.all_tasks()),
        "threads": {thread.name for thread in threading.enumerate() if "coordinator" in thread.name},
        "watches": {path for path, ids in watches(world.server).items() if session_id in ids},
        "ephemerals": ephemerals(world.server).get(session_id, set()),
        "znodes": _tree(world.observer, world.base),
    }


def _ours(path: str) -> bool:
    """Whether it is a znode that a scenario may make."""
    return "new" in path or ("__lock__" in path and THEIRS not in path)


def _tree(observer: KazooClient, path: str) -> set[str]:
    try:
        names = observer.get_children(path)
    except NoNodeError:
        return set()
    return {path}.union(*(_tree(observer, f"{path}/{name}") for name in names if name != VICTIM))


async def settles(look: Callable[[], Any], expected: Any) -> None:
    """Wait until it looks like that, but not for ever."""

    def so() -> bool:
        assert look() == expected
        return True

    await eventually_async(so)


def _cases() -> list[Any]:
    return [
        pytest.param(one, moment, id=f"{name}-{one.__name__}-{moment}")
        for name, several in SCENARIOS.items()
        for one in several
        for moment in (["on the wire"] if one in ALIKE else MOMENTS)
    ]


@pytest.mark.parametrize(("prepare", "moment"), _cases())
async def test_cancelled_wherever_it_waits(
    prepare: Scenario,
    moment: str,
    zookeeper: ZooKeeperServer,
    proxy: FaultProxy,
    observer: KazooClient,
) -> None:
    """Nothing is left but what was there before, whether it was sent, held, answered or none of it."""
    async with AsyncCoordinator(proxy.hosts, session_timeout=10.0, retry_max_delay=0.05) as zk:
        for point in range(1, 50):
            world = World(zk, proxy, zookeeper, observer, new_place())
            observer.create(f"{world.base}/given", makepath=True)
            before = remains(world)
            coroutine = await prepare(world)
            before["znodes"] = {path for path in _tree(observer, world.base) if not _ours(path)}
            if moment == "on the wire":
                proxy.latency = LATENCY
            if moment == "held":
                await _suspended(zk, proxy)
                # Whoever is not cancelled until then gets what he waits for.
                asyncio.get_running_loop().call_later(0.3, setattr, proxy, "refuse", False)
            reached = await cancelled_at(point, coroutine, moment, endless=prepare in ENDLESS)
            proxy.latency, proxy.refuse = 0, False
            await world.stack.aclose()
            if not reached:
                break
            await settles(lambda: remains(world), before)  # noqa: B023 -- called before the next round
        assert not reached


async def _suspended(zk: AsyncCoordinator, proxy: FaultProxy) -> None:
    async with zk.events(coordinator.SessionSuspended) as stream:
        proxy.refuse = True
        proxy.cut()
        await stream.next(10.0)


@pytest.mark.parametrize("moment", ["at once", "on the wire", "answered", "no server"])
async def test_start_cancelled(
    moment: str, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """What was begun is ended: no thread, no session."""
    sessions = session_ids(zookeeper)
    if moment == "on the wire":
        proxy.latency = LATENCY
    proxy.refuse = moment == "no server"
    for point in range(1, 50):
        # A session of which the answer was lost in the handshake can only time out.
        zk = AsyncCoordinator(f"{proxy.hosts}/", session_timeout=1.0)
        reached = await cancelled_at(point, zk.start(), moment)
        if not reached:
            await zk.close()
        await settles(_own_threads, set())
        await settles(lambda: session_ids(zookeeper) - sessions, set())
        if not reached or proxy.refuse:
            break
    assert reached == proxy.refuse


@pytest.mark.parametrize("moment", ["at once", "on the wire", "answered", "suspended"])
async def test_close_cancelled(
    moment: str, zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """It is closed all the same, and the session is ended if there is a link."""
    sessions = session_ids(zookeeper)
    base = new_place()
    observer.create(base)
    for point in range(1, 50):
        zk = await AsyncCoordinator(proxy.hosts, session_timeout=2.0).start()
        await zk.ephemeral(f"{base}/mine")
        zk.on(print, SessionEvent)
        if moment == "suspended":
            await _suspended(zk, proxy)
        proxy.latency = LATENCY if moment == "on the wire" else 0
        reached = await cancelled_at(point, zk.close(), moment)
        await settles(_own_threads, set())
        await settles(lambda: len(asyncio.all_tasks()), 1)
        proxy.refuse = False
        await settles(lambda: session_ids(zookeeper) - sessions, set())
        assert observer.get_children(base) == []
        if not reached:
            break
    assert not reached


def _own_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("coordinator-")} - {
        thread.name for thread in threading.enumerate() if "proxy" in thread.name
    }


async def test_cancelled_and_closed_at_once(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """close() waits for what has to be undone, a little."""
    base = new_place()
    async with AsyncCoordinator(proxy.hosts) as zk:
        proxy.latency = LATENCY
        creating = asyncio.create_task(zk.create(f"{base}/a/b", parents=True))
        await asyncio.sleep(LATENCY * 3)
        creating.cancel()
        with suppress(asyncio.CancelledError):
            await creating
    proxy.latency = 0
    assert observer.exists(base) is None


async def test_what_somebody_has_built_on_stays(proxy: FaultProxy, observer: KazooClient) -> None:
    """A znode that was changed, or got children, before it could be deleted is not ours alone."""
    base = new_place()
    observer.create(base)
    names = ("parent", "changed", "mine")
    async with AsyncCoordinator(proxy.hosts) as zk:
        proxy.blackhole_down = True
        creating = [asyncio.create_task(zk.create(f"{base}/{name}")) for name in names]
        await settles(lambda: len(observer.get_children(base)), 3)
        for task in creating:
            task.cancel()
        observer.create(f"{base}/parent/child")
        observer.set(f"{base}/changed", b"theirs")
        proxy.blackhole_down = False
        await settles(lambda: sorted(observer.get_children(base)), ["changed", "parent"])
