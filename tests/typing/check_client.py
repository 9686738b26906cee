"""What a type checker makes of the client; checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from pydantic import BaseModel

from coordinator import (
    Candidacy,
    ChildrenView,
    Contender,
    Coordinator,
    Ephemeral,
    Latch,
    LeaderView,
    Lease,
    Lock,
    Loss,
    SessionExpired,
    SessionLapsed,
    Stat,
    Transaction,
    Znode,
    ZnodeView,
)


class Config(BaseModel):
    size: int


def reads(zk: Coordinator) -> None:
    assert_type(zk.get("/a"), Znode[bytes])
    assert_type(zk.get("/a").value, bytes)
    assert_type(zk.get("/a", model=Config), Znode[Config])
    assert_type(zk.get("/a", model=Config).value, Config)
    assert_type(zk.get("/a", model=int, timeout=1.0), Znode[int])
    assert_type(zk.exists("/a"), Stat | None)
    assert_type(zk.children("/a"), tuple[str, ...])


def writes(zk: Coordinator) -> None:
    assert_type(zk.create("/a", b""), str)
    assert_type(zk.set("/a", Config(size=1)), Stat)


def views(zk: Coordinator) -> None:
    assert_type(zk.watch("/a"), ZnodeView[bytes])
    assert_type(zk.watch("/a").value, bytes | None)
    assert_type(zk.watch("/a", model=Config), ZnodeView[Config])
    assert_type(zk.watch("/a", model=Config).value, Config | None)
    assert_type(zk.watch("/a", model=Config).znode, Znode[Config] | None)
    for znode in zk.watch("/a", model=Config).changes():
        assert_type(znode, Znode[Config] | None)
    assert_type(zk.watch_children("/a"), ChildrenView)
    assert_type(zk.watch_children("/a").children, tuple[str, ...])


def intents(zk: Coordinator) -> None:
    with zk.ephemeral("/e", b"") as kept:
        assert_type(kept, Ephemeral)
    with Coordinator("zk1:2181") as started:
        assert_type(started, Coordinator)


def queues(zk: Coordinator) -> None:
    def told(lease: Lease) -> None: ...

    assert_type(zk.lock("/l", on_lost=told), Lock)
    assert_type(zk.lock("/l").acquire(timeout=1.0), Lease)
    with zk.lock("/l") as lease:
        assert_type(lease, Lease)
        assert_type(lease.lost, Loss)
        assert_type(lease.guard(zk.transaction()).set("/a", b""), Transaction)
        assert_type(lease.release(), bool)
    assert_type(zk.lead("/l"), Candidacy)
    assert_type(zk.lead("/l").hold(lambda lease: lease.token), int)
    with zk.latch("/l") as latch:
        assert_type(latch, Latch)
        assert_type(latch.lease, Lease | None)
        assert_type(latch.wait(), Lease)
        assert_type(latch.leader(), Contender | None)
        assert_type(latch.members(), tuple[Contender, ...])
        for shown in latch.changes():
            assert_type(shown, Lease | None)
    assert_type(zk.observe("/l"), LeaderView)
    assert_type(zk.observe("/l").leader, Contender | None)
    for leader in zk.observe("/l").changes():
        assert_type(leader, Contender | None)


def events(zk: Coordinator) -> None:
    for expired in zk.events(SessionExpired):
        assert_type(expired, SessionExpired)
    assert_type(zk.events(SessionExpired).next(1.0), SessionExpired)
    for event in zk.events():
        if event.kind == "session.lapsed":
            assert_type(event, SessionLapsed)

    def lapsed(event: SessionLapsed) -> None: ...

    zk.on(lapsed, SessionLapsed)
    zk.on(lapsed, SessionExpired)  # type: ignore[arg-type]
