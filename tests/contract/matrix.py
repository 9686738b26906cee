"""The matrix: what each operation comes to under each condition; refusals.py has its errors.

A cell says what the caller gets, what is on the server afterwards, and what is told. Every
operation has a cell for every condition, and one for every error that it documents; that none
is missing, test_completeness.py sees to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from coordinator import (
    ACL,
    AcquireTimeoutError,
    ClosedError,
    ConnectionLossError,
    CoordinatorError,
    NoNodeError,
    OperationTimeoutError,
)
from coordinator.core.seats import seats
from tests.contract.site import Site

CONDITIONS: Final = ("ok", "lost before", "lost after", "expired", "timed out")
"""Of the way. "lost before": the link breaks before the request has arrived; "lost after": before
the answer has; "expired": it is asked for while there is no link, and the session ends
before there is one; "timed out": nothing passes for longer than the call waits, and then again."""

Seen = Any
"""What is on the server, as far as an operation is about it."""


@dataclass(frozen=True)
class Outcome:
    """What a caller gets, and what comes of it."""

    got: Any
    """The value, or the class of the error."""
    seen: Seen
    told: tuple[str, ...] = ()
    """Kinds of events of the operation itself."""
    ambiguous: bool = False

    @property
    def raises(self) -> bool:
        return isinstance(self.got, type) and issubclass(self.got, CoordinatorError)


@dataclass(frozen=True)
class Operation:
    """One thing that a coordinator can be asked for."""

    method: str
    """Which public method it is."""
    call: Callable[[Site, dict[str, float]], Any]
    """Ask for it; with a timeout, if there is one."""
    look: Callable[[Site], Seen]
    """What of it is on the server."""
    before: Seen
    """What is there before."""
    cells: dict[str, Outcome]
    prepare: Callable[[Site], None] = lambda _: None
    applied: Callable[[Site], bool] | None = None
    """Whether it has been carried out, where that can be seen before it is answered."""


# -- what several have in common


def read(value: Any, seen: Seen) -> dict[str, Outcome]:
    """A read is asked again on the next link, until its deadline."""
    again = Outcome(value, seen)
    return {
        "ok": again,
        "lost before": again,
        "lost after": again,
        "expired": again,
        "timed out": Outcome(OperationTimeoutError, seen),
    }


def write(value: Any, before: Seen, after: Seen, expired: Seen = None) -> dict[str, Outcome]:
    """A write that was sent is never sent again; one that was not is held."""
    return {
        "ok": Outcome(value, after),
        "lost before": Outcome(ConnectionLossError, before, ambiguous=True),
        "lost after": Outcome(ConnectionLossError, after, ambiguous=True),
        "expired": Outcome(value, after if expired is None else expired),
        # Sent, and held on its way: it arrives after its caller has given up.
        "timed out": Outcome(OperationTimeoutError, after, ambiguous=True),
    }


OLD, NEW = b"old", b"new"
THERE = (OLD, "", 0)


def with_a_znode(site: Site) -> None:
    site.other.create(f"{site.base}/a", OLD)


def with_a_child(site: Site) -> None:
    with_a_znode(site)
    site.other.create(f"{site.base}/a/k")


def with_an_ephemeral(site: Site) -> None:
    site.kept = site.zk.ephemeral(f"{site.base}/e", OLD)
    site.tells("ephemeral.created")


QUEUE = "q"
HELD = ((b"us", "mine"),)
WAITING = ((b"holder", "theirs"), (b"us", "mine"))


def seated(site: Site) -> Seen:
    """Who stands in the queue, and whose the seats are; None: there is no queue."""
    try:
        names = site.names(QUEUE)
    except NoNodeError:
        return None
    found = (site.look(f"{QUEUE}/{seat.name}") for seat in seats(names, "kazoo"))
    return tuple(one[:2] for one in found if one is not None)


def lock(site: Site) -> Any:
    return site.zk.lock(f"{site.base}/{QUEUE}", identity="us")


def lead(site: Site) -> Any:
    return site.zk.lead(f"{site.base}/{QUEUE}", identity="us")


def latch(site: Site, **limit: Any) -> Any:
    return site.zk.latch(f"{site.base}/{QUEUE}", identity="us", **limit)


def with_a_lock(site: Site) -> None:
    site.kept = lock(site)
    site.kept.acquire()
    site.tells("lease.acquired")


def with_a_lease(site: Site) -> None:
    with_a_lock(site)
    site.kept = site.kept.lease


def with_a_leadership(site: Site) -> None:
    site.kept = lead(site)
    site.kept.campaign()
    site.tells("lease.acquired")


def with_a_latch(site: Site) -> None:
    site.kept = latch(site)
    site.tells("lease.acquired")


def with_a_leader(site: Site) -> None:
    at = f"{site.base}/{QUEUE}/{'0' * 32}__lock__"
    site.other.create(at, b"holder", ephemeral=True, sequential=True, parents=True)


def with_a_latch_that_waits(site: Site) -> None:
    with_a_leader(site)
    site.kept = latch(site)


def queueing(value: Any, seen: Seen, *told: str) -> dict[str, Outcome]:
    """A place in a queue is taken on the next link, or in the next session; after an error none is kept."""
    return {
        **dict.fromkeys(CONDITIONS, Outcome(value, seen, told)),
        "timed out": Outcome(AcquireTimeoutError, ()),
    }


def leaving() -> dict[str, Outcome]:
    """It is over at once; the answer says whether the seat has gone, and it goes in any case."""
    return {
        **dict.fromkeys(CONDITIONS, Outcome(True, (), ("lease.released",))),
        "timed out": Outcome(False, (), ("lease.released",)),
    }


def commit(add: Callable[[Any, str], Any]) -> Callable[[Site, dict[str, float]], Any]:
    return lambda site, limit: add(site.zk.transaction(), site.base).commit(**limit)


OPERATIONS: Final[dict[str, Operation]] = {
    "get": Operation(
        "Coordinator.get",
        lambda site, limit: site.zk.get(f"{site.base}/a", **limit).value,
        lambda site: site.look("a"),
        THERE,
        read(OLD, THERE),
        with_a_znode,
    ),
    "exists": Operation(
        "Coordinator.exists",
        lambda site, limit: site.zk.exists(f"{site.base}/a", **limit).data_length,
        lambda site: site.look("a"),
        THERE,
        read(len(OLD), THERE),
        with_a_znode,
    ),
    "children": Operation(
        "Coordinator.children",
        lambda site, limit: site.zk.children(f"{site.base}/a", **limit),
        lambda site: site.names("a"),
        ("k",),
        read(("k",), ("k",)),
        with_a_child,
    ),
    "create": Operation(
        "Coordinator.create",
        lambda site, limit: _name(site, site.zk.create(f"{site.base}/a", NEW, **limit)),
        lambda site: site.look("a"),
        None,
        write("a", None, (NEW, "", 0)),
        applied=lambda site: site.look("a") is not None,
    ),
    "create ephemeral": Operation(
        "Coordinator.create",
        lambda site, limit: _name(site, site.zk.create(f"{site.base}/a", NEW, ephemeral=True, **limit)),
        lambda site: site.look("a"),
        None,
        {
            # Its owner tells what became of it, so that it is never ambiguous for long.
            **dict.fromkeys(CONDITIONS, Outcome("a", (NEW, "mine", 0))),
            "timed out": Outcome(OperationTimeoutError, (NEW, "mine", 0), ambiguous=True),
        },
        applied=lambda site: site.look("a") is not None,
    ),
    "create sequential": Operation(
        "Coordinator.create",
        lambda site, limit: _name(site, site.zk.create(f"{site.base}/s-", NEW, sequential=True, **limit)),
        lambda site: site.names(),
        (),
        write("s-0000000000", (), ("s-0000000000",)),
        applied=lambda site: bool(site.names()),
    ),
    "create ephemeral sequential": Operation(
        "Coordinator.create",
        lambda site, limit: _name(
            site, site.zk.create(f"{site.base}/s-", NEW, ephemeral=True, sequential=True, **limit)
        ),
        lambda site: site.look("s-0000000000"),
        None,
        write("s-0000000000", None, (NEW, "mine", 0)),
        applied=lambda site: bool(site.names()),
    ),
    "create parents": Operation(
        "Coordinator.create",
        lambda site, limit: _name(site, site.zk.create(f"{site.base}/p/a", NEW, parents=True, **limit)),
        lambda site: site.look("p/a"),
        None,
        # The first request of it is refused for want of the parent, whether that is heard or not.
        {
            **write("p/a", None, (NEW, "", 0)),
            "lost after": Outcome(ConnectionLossError, None, ambiguous=True),
            "timed out": Outcome(OperationTimeoutError, None, ambiguous=True),
        },
    ),
    "create acl": Operation(
        "Coordinator.create",
        lambda site, limit: _name(
            site, site.zk.create(f"{site.base}/a", NEW, acl=[ACL("world", "anyone", "r")], **limit)
        ),
        lambda site: site.look("a"),
        None,
        write("a", None, (NEW, "", 0)),
        applied=lambda site: site.look("a") is not None,
    ),
    "set": Operation(
        "Coordinator.set",
        lambda site, limit: site.zk.set(f"{site.base}/a", NEW, version=0, **limit).version,
        lambda site: site.look("a"),
        THERE,
        write(1, THERE, (NEW, "", 1)),
        with_a_znode,
        lambda site: site.look("a") != THERE,
    ),
    "delete": Operation(
        "Coordinator.delete",
        lambda site, limit: site.zk.delete(f"{site.base}/a", version=0, **limit),
        lambda site: site.names(),
        ("a",),
        write(None, ("a",), ()),
        with_a_znode,
        lambda site: not site.names(),
    ),
    "transaction create": Operation(
        "Transaction.create",
        commit(lambda both, base: both.check(base).create(f"{base}/a", NEW)),
        lambda site: site.look("a"),
        None,
        write((None, "a"), None, (NEW, "", 0)),
        applied=lambda site: site.look("a") is not None,
    ),
    "transaction set": Operation(
        "Transaction.set",
        commit(lambda both, base: both.set(f"{base}/a", NEW).set(f"{base}/a", NEW, version=1)),
        lambda site: site.look("a"),
        THERE,
        write((1, 2), THERE, (NEW, "", 2)),
        with_a_znode,
        lambda site: site.look("a") != THERE,
    ),
    "transaction delete": Operation(
        "Transaction.delete",
        commit(lambda both, base: both.delete(f"{base}/a/k").delete(f"{base}/a", version=0)),
        lambda site: site.names(),
        ("a",),
        write((None, None), ("a",), ()),
        with_a_child,
        lambda site: not site.names(),
    ),
    "transaction check": Operation(
        "Transaction.check",
        commit(lambda both, base: both.check(f"{base}/a", version=0)),
        lambda site: site.look("a"),
        THERE,
        write((None,), THERE, THERE),
        with_a_znode,
    ),
    "ephemeral": Operation(
        "Coordinator.ephemeral",
        lambda site, limit: site.zk.ephemeral(f"{site.base}/a", NEW, **limit).present,
        lambda site: site.look("a"),
        None,
        {
            **dict.fromkeys(CONDITIONS, Outcome(True, (NEW, "mine", 0), ("ephemeral.created",))),
            # Nothing is kept after an error: what arrives late is taken back.
            "timed out": Outcome(
                OperationTimeoutError, None, ("ephemeral.created", "ephemeral.removed"), ambiguous=True
            ),
        },
        applied=lambda site: site.look("a") is not None,
    ),
    "ephemeral set": Operation(
        "Ephemeral.set",
        lambda site, limit: site.kept.set(NEW, **limit),
        lambda site: site.look("e"),
        (OLD, "mine", 0),
        {
            **dict.fromkeys(CONDITIONS, Outcome(None, (NEW, "mine", 1))),
            "expired": Outcome(None, (NEW, "mine", 0), ("ephemeral.recreated",)),
            # It is written all the same.
            "timed out": Outcome(OperationTimeoutError, (NEW, "mine", 1), ambiguous=False),
        },
        with_an_ephemeral,
    ),
    "ephemeral close": Operation(
        "Ephemeral.close",
        lambda site, limit: site.kept.close(**limit),
        lambda site: site.names(),
        ("e",),
        {
            **dict.fromkeys(CONDITIONS, Outcome(None, (), ("ephemeral.removed",))),
            "expired": Outcome(None, ()),  # the session took it along
            "timed out": Outcome(OperationTimeoutError, (), ("ephemeral.removed",)),
        },
        with_an_ephemeral,
    ),
    "watch": Operation(
        "Coordinator.watch",
        lambda site, limit: site.zk.watch(f"{site.base}/a", **limit).value,
        lambda site: site.look("a"),
        THERE,
        read(OLD, THERE),
        with_a_znode,
    ),
    "watch_children": Operation(
        "Coordinator.watch_children",
        lambda site, limit: site.zk.watch_children(f"{site.base}/a", **limit).children,
        lambda site: site.names("a"),
        ("k",),
        read(("k",), ("k",)),
        with_a_child,
    ),
    "lock acquire": Operation(
        "Lock.acquire",
        lambda site, limit: lock(site).acquire(**limit).held,
        seated,
        None,
        queueing(True, HELD, "lease.acquired"),
    ),
    "campaign": Operation(
        "Candidacy.campaign",
        lambda site, limit: lead(site).campaign(**limit).held,
        seated,
        None,
        queueing(True, HELD, "lease.acquired"),
    ),
    "hold": Operation(
        "Candidacy.hold",
        lambda site, limit: lead(site).hold(lambda lease: lease.identity, **limit),
        seated,
        None,
        queueing("us", (), "lease.acquired", "lease.released"),
    ),
    "lock release": Operation(
        "Lock.release",
        lambda site, limit: site.kept.release(**limit),
        seated,
        HELD,
        leaving(),
        with_a_lock,
        lambda site: seated(site) == (),
    ),
    "resign": Operation(
        "Candidacy.resign",
        lambda site, limit: site.kept.resign(**limit),
        seated,
        HELD,
        leaving(),
        with_a_leadership,
        lambda site: seated(site) == (),
    ),
    "lease release": Operation(
        "Lease.release",
        lambda site, limit: site.kept.release(**limit),
        seated,
        HELD,
        leaving(),
        with_a_lease,
        lambda site: seated(site) == (),
    ),
    "latch": Operation(
        "Coordinator.latch",
        lambda site, limit: latch(site, **limit).closed,
        seated,
        None,
        queueing(False, HELD, "lease.acquired"),
    ),
    "latch close": Operation(
        "Latch.close",
        lambda site, limit: site.kept.close(**limit),
        seated,
        HELD,
        {
            **dict.fromkeys(CONDITIONS, Outcome(None, (), ("lease.released",))),
            "timed out": Outcome(OperationTimeoutError, (), ("lease.released",)),
        },
        with_a_latch,
        lambda site: seated(site) == (),
    ),
    "latch leader": Operation(
        "Latch.leader",
        lambda site, limit: site.kept.leader(**limit).identity,
        seated,
        WAITING,
        read("holder", WAITING),
        with_a_latch_that_waits,
    ),
    "latch members": Operation(
        "Latch.members",
        lambda site, limit: len(site.kept.members(**limit)),
        seated,
        WAITING,
        {**read(2, WAITING), "expired": Outcome(1, WAITING)},  # it is read before it queues again
        with_a_latch_that_waits,
    ),
    "observe": Operation(
        "Coordinator.observe",
        lambda site, limit: site.zk.observe(f"{site.base}/{QUEUE}", **limit).leader.identity,
        seated,
        WAITING[:1],
        {
            **dict.fromkeys(CONDITIONS, Outcome("holder", WAITING[:1], ("leader.changed",))),
            "timed out": Outcome(OperationTimeoutError, WAITING[:1], ("leader.changed",)),
        },
        with_a_leader,
    ),
}


def _name(site: Site, path: str) -> str:
    return path.removeprefix(f"{site.base}/")


BY_CONDITION: Final[dict[str, frozenset[type[CoordinatorError]]]] = {
    name: frozenset(cell.got for cell in one.cells.values() if cell.raises)
    for name, one in OPERATIONS.items()
}
"""Errors of each operation that a condition of the way makes."""

OF_ALL: Final = frozenset({ClosedError})
"""Errors of every operation: test_matrix.py tries each of them after the end."""
