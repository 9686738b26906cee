"""What a type checker makes of the asyncio face; checked by mypy, never run."""

from __future__ import annotations

from contextlib import aclosing
from typing import assert_type

from pydantic import BaseModel

from coordinator import (
    AsyncCandidacy,
    AsyncChildrenView,
    AsyncCoordinator,
    AsyncEphemeral,
    AsyncLatch,
    AsyncLeaderView,
    AsyncLease,
    AsyncLock,
    AsyncLoss,
    AsyncTransaction,
    AsyncZnodeView,
    Contender,
    SessionExpired,
    SessionLapsed,
    Stat,
    Znode,
)


class Config(BaseModel):
    size: int


async def reads(zk: AsyncCoordinator) -> None:
    assert_type(await zk.get("/a"), Znode[bytes])
    assert_type((await zk.get("/a", model=Config)).value, Config)
    assert_type(await zk.get("/a", model=int, timeout=1.0), Znode[int])
    assert_type(await zk.exists("/a"), Stat | None)
    assert_type(await zk.children("/a"), tuple[str, ...])


async def writes(zk: AsyncCoordinator) -> None:
    assert_type(await zk.create("/a", b""), str)
    assert_type(await zk.set("/a", Config(size=1)), Stat)
    async with zk.transaction() as both:
        both.check("/a").create("/b")
    assert_type(await zk.transaction().delete("/a").commit(), tuple[object, ...])


async def views(zk: AsyncCoordinator) -> None:
    assert_type(await zk.watch("/a"), AsyncZnodeView[bytes])
    view = await zk.watch("/a", model=Config)
    assert_type(view, AsyncZnodeView[Config])
    assert_type(view.value, Config | None)
    async with aclosing(view.changes()) as changes:
        async for znode in changes:
            assert_type(znode, Znode[Config] | None)
    children = await zk.watch_children("/a")
    assert_type(children, AsyncChildrenView)
    assert_type(await children.wait(1), tuple[str, ...])


async def intents(zk: AsyncCoordinator) -> None:
    async with await zk.ephemeral("/e", b"") as kept:
        assert_type(kept, AsyncEphemeral)
    async with AsyncCoordinator("zk1:2181") as started:
        assert_type(started, AsyncCoordinator)


async def queues(zk: AsyncCoordinator) -> None:
    async def told(lease: AsyncLease) -> None: ...

    async def work(lease: AsyncLease) -> int:
        return lease.token

    assert_type(zk.lock("/l", on_lost=told, cancel_on_loss=True), AsyncLock)
    assert_type(await zk.lock("/l").acquire(timeout=1.0), AsyncLease)
    async with zk.lock("/l") as lease:
        assert_type(lease, AsyncLease)
        assert_type(lease.lost, AsyncLoss)
        assert_type(lease.guard(zk.transaction()).set("/a", b""), AsyncTransaction)
        assert_type(await lease.release(), bool)
    assert_type(zk.lead("/l"), AsyncCandidacy)
    assert_type(await zk.lead("/l").hold(work), int)
    async with await zk.latch("/l") as latch:
        assert_type(latch, AsyncLatch)
        assert_type(latch.lease, AsyncLease | None)
        assert_type(await latch.wait(), AsyncLease)
        assert_type(await latch.leader(), Contender | None)
        assert_type(await latch.members(), tuple[Contender, ...])
        async for shown in latch.changes():
            assert_type(shown, AsyncLease | None)
    view = await zk.observe("/l")
    assert_type(view, AsyncLeaderView)
    async for leader in view.changes():
        assert_type(leader, Contender | None)


async def events(zk: AsyncCoordinator) -> None:
    async for expired in zk.events(SessionExpired):
        assert_type(expired, SessionExpired)
    assert_type(await zk.events(SessionExpired).next(1.0), SessionExpired)
    async for event in zk.events():
        if event.kind == "session.lapsed":
            assert_type(event, SessionLapsed)

    async def lapsed(event: SessionLapsed) -> None: ...

    zk.on(lapsed, SessionLapsed)
    zk.on(lapsed, SessionExpired)  # type: ignore[arg-type]
