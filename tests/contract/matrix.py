"""The matrix: what each operation comes to under each condition, and each of its errors.

A cell says what the caller gets, what is on the server afterwards, and what is told. Every
operation has a cell for every condition, and one for every error that it documents; that none
is missing, test_completeness.py sees to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from coordinator import (
    ACL,
    BadVersionError,
    ClosedError,
    ConfigurationError,
    ConnectionLossError,
    CoordinatorError,
    DataTooLargeError,
    DuplicateEphemeralError,
    EphemeralConflictError,
    InvalidACLError,
    InvalidPathError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    PayloadError,
    ServerError,
    TransactionFailedError,
)
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
}


def _name(site: Site, path: str) -> str:
    return path.removeprefix(f"{site.base}/")


# -- errors


@dataclass(frozen=True)
class Refusal:
    """How an error is come by; nothing is changed by what is refused."""

    call: Callable[[Site], Any]
    prepare: Callable[[Site], None] = lambda _: None
    guilty: type[CoordinatorError] | None = None
    """Of a transaction: what was wrong with its last operation."""
    told: tuple[str, ...] = ()


def locked(permissions: str) -> Callable[[Site], None]:
    """A znode with a child, of which everybody may do that and no more."""

    def prepare(site: Site) -> None:
        site.other.create(f"{site.base}/a", b"x", acl=[ACL("world", "anyone", permissions)])

    return prepare


def with_an_ephemeral_of_others(site: Site) -> None:
    site.other.create(f"{site.base}/a", ephemeral=True)


TOO_LARGE = b"x" * (1 << 20)
NOBODY = [ACL("world", "nobody")]


def a(site: Site) -> str:
    return f"{site.base}/a"


CREATING: Final[dict[type[CoordinatorError], Refusal]] = {
    NodeExistsError: Refusal(lambda site: site.zk.create(a(site)), with_a_znode),
    NoNodeError: Refusal(lambda site: site.zk.create(f"{a(site)}/x")),
    NoAuthError: Refusal(lambda site: site.zk.create(f"{a(site)}/x"), locked("r")),
    InvalidACLError: Refusal(lambda site: site.zk.create(a(site), acl=NOBODY)),
    NoChildrenForEphemeralsError: Refusal(
        lambda site: site.zk.create(f"{a(site)}/x"), with_an_ephemeral_of_others
    ),
    InvalidPathError: Refusal(lambda site: site.zk.create("a")),
    DataTooLargeError: Refusal(lambda site: site.zk.create(a(site), TOO_LARGE)),
    ConfigurationError: Refusal(lambda site: site.zk.create(a(site), "text")),
}


def only(wrong: Callable[[Any, Site], Any], guilty: type[CoordinatorError], **more: Any) -> Refusal:
    """A transaction whose last operation is refused."""
    return Refusal(
        lambda site: wrong(site.zk.transaction().create(f"{site.base}/first"), site).commit(),
        guilty=guilty,
        **more,
    )


def transacted(add: Callable[[Any, str], Any], *refusals: Refusal) -> dict[type[CoordinatorError], Any]:
    """What any transaction may be refused for, and what one with that operation may be."""
    return {
        TransactionFailedError: refusals,
        InvalidPathError: Refusal(lambda site: add(site.zk.transaction(), "a")),
        ConfigurationError: Refusal(lambda site: _twice(add, site)),
        DataTooLargeError: Refusal(
            lambda site: add(site.zk.transaction().create(a(site), TOO_LARGE), a(site)).commit()
        ),
    }


def _twice(add: Callable[[Any, str], Any], site: Site) -> None:
    both = add(site.zk.transaction().check(f"{site.base}/none"), f"{site.base}/a")
    with contextlib.suppress(TransactionFailedError):
        both.commit()
    both.commit()


def _renew(site: Site, value: object) -> None:
    site.kept.set(value)


def _ephemeral_without_write(site: Site) -> None:
    site.kept = site.zk.ephemeral(f"{site.base}/e", OLD, acl=[ACL("world", "anyone", "rcd")])
    site.tells("ephemeral.created")


def _ephemeral_in_conflict(site: Site) -> None:
    with_an_ephemeral_of_others(site)
    site.kept = site.zk.ephemeral(a(site), OLD)
    site.tells("ephemeral.conflict")


def _closed_ephemeral(site: Site) -> None:
    with_an_ephemeral(site)
    site.kept.close()
    site.tells("ephemeral.removed")


def _keep_twice(site: Site) -> None:
    site.zk.ephemeral(f"{site.base}/e")


ERRORS: Final[dict[str, dict[type[CoordinatorError], Refusal | tuple[Refusal, ...]]]] = {
    "get": {
        NoNodeError: Refusal(lambda site: site.zk.get(a(site))),
        NoAuthError: Refusal(lambda site: site.zk.get(a(site)), locked("cdw")),
        PayloadError: Refusal(lambda site: site.zk.get(a(site), model=int), with_a_znode),
        InvalidPathError: Refusal(lambda site: site.zk.get("a")),
        ConfigurationError: Refusal(lambda site: site.zk.get(a(site), timeout=-1)),
    },
    "exists": {InvalidPathError: Refusal(lambda site: site.zk.exists("a"))},
    "children": {
        NoNodeError: Refusal(lambda site: site.zk.children(a(site))),
        NoAuthError: Refusal(lambda site: site.zk.children(a(site)), locked("cdw")),
        InvalidPathError: Refusal(lambda site: site.zk.children("a")),
    },
    "create": CREATING,
    "create ephemeral": {
        NodeExistsError: Refusal(lambda site: site.zk.create(a(site), ephemeral=True), with_a_znode),
        NoChildrenForEphemeralsError: Refusal(
            lambda site: site.zk.create(f"{a(site)}/x", ephemeral=True), with_an_ephemeral_of_others
        ),
    },
    "create sequential": {
        NoNodeError: Refusal(lambda site: site.zk.create(f"{a(site)}/x", sequential=True)),
        NoAuthError: Refusal(lambda site: site.zk.create(f"{a(site)}/x", sequential=True), locked("r")),
    },
    "create ephemeral sequential": {
        NoChildrenForEphemeralsError: Refusal(
            lambda site: site.zk.create(f"{a(site)}/x", ephemeral=True, sequential=True),
            with_an_ephemeral_of_others,
        ),
    },
    "create parents": {
        NodeExistsError: Refusal(lambda site: site.zk.create(a(site), parents=True), with_a_znode),
        NoAuthError: Refusal(lambda site: site.zk.create(f"{a(site)}/x/y", parents=True), locked("r")),
        NoChildrenForEphemeralsError: Refusal(
            lambda site: site.zk.create(f"{a(site)}/x/y", parents=True), with_an_ephemeral_of_others
        ),
    },
    "create acl": {
        InvalidACLError: (
            Refusal(lambda site: site.zk.create(a(site), acl=[])),
            Refusal(lambda site: site.zk.create(a(site), acl=[ACL("digest", "bob")])),
            Refusal(lambda site: site.zk.create(a(site), acl=[ACL("unknown", "bob")])),
            Refusal(lambda site: site.zk.create(a(site), acl=[ACL("auth", "")])),
        ),
        ConfigurationError: Refusal(lambda site: site.zk.create(a(site), acl="creator")),
    },
    "set": {
        NoNodeError: Refusal(lambda site: site.zk.set(a(site), NEW)),
        BadVersionError: Refusal(lambda site: site.zk.set(a(site), NEW, version=7), with_a_znode),
        NoAuthError: Refusal(lambda site: site.zk.set(a(site), NEW, version=7), locked("r")),
        InvalidPathError: Refusal(lambda site: site.zk.set("a", NEW)),
        DataTooLargeError: Refusal(lambda site: site.zk.set(a(site), TOO_LARGE), with_a_znode),
        ConfigurationError: Refusal(lambda site: site.zk.set(a(site), NEW, version=-2), with_a_znode),
    },
    "delete": {
        NoNodeError: Refusal(lambda site: site.zk.delete(a(site))),
        BadVersionError: Refusal(lambda site: site.zk.delete(a(site), version=7), with_a_child),
        NotEmptyError: Refusal(lambda site: site.zk.delete(a(site)), with_a_child),
        NoAuthError: Refusal(lambda site: site.zk.delete(f"{a(site)}/x"), locked("r")),
        ServerError: Refusal(lambda site: site.zk.delete("/zookeeper")),
        InvalidPathError: Refusal(lambda site: site.zk.delete("/")),
        ConfigurationError: Refusal(lambda site: site.zk.delete(a(site), version=True), with_a_znode),
    },
    "transaction create": transacted(
        lambda both, path: both.create(path),
        only(lambda both, site: both.create(a(site)), NodeExistsError, prepare=with_a_znode),
        only(lambda both, site: both.create(f"{a(site)}/x"), NoNodeError),
        only(lambda both, site: both.create(f"{a(site)}/x"), NoAuthError, prepare=locked("r")),
        only(lambda both, site: both.create(a(site), acl=NOBODY), InvalidACLError),
        only(
            lambda both, site: both.create(f"{a(site)}/x"),
            NoChildrenForEphemeralsError,
            prepare=with_an_ephemeral_of_others,
        ),
    ),
    "transaction set": transacted(
        lambda both, path: both.set(path, NEW),
        only(lambda both, site: both.set(a(site), NEW), NoNodeError),
        only(lambda both, site: both.set(a(site), NEW, version=7), BadVersionError, prepare=with_a_znode),
        only(lambda both, site: both.set(a(site), NEW), NoAuthError, prepare=locked("r")),
    ),
    "transaction delete": transacted(
        lambda both, path: both.delete(path),
        only(lambda both, site: both.delete(a(site)), NoNodeError),
        only(lambda both, site: both.delete(a(site), version=7), BadVersionError, prepare=with_a_znode),
        only(lambda both, site: both.delete(a(site)), NotEmptyError, prepare=with_a_child),
        only(lambda both, site: both.delete(f"{a(site)}/x"), NoAuthError, prepare=locked("r")),
    ),
    "transaction check": transacted(
        lambda both, path: both.check(path),
        only(lambda both, site: both.check(a(site)), NoNodeError),
        only(lambda both, site: both.check(a(site), version=7), BadVersionError, prepare=with_a_znode),
        only(lambda both, site: both.check(a(site)), NoAuthError, prepare=locked("cdw")),
    ),
    "ephemeral": {
        DuplicateEphemeralError: Refusal(_keep_twice, with_an_ephemeral),
        EphemeralConflictError: (
            Refusal(
                lambda site: site.zk.ephemeral(a(site), on_conflict="fail"),
                with_a_znode,
                told=("ephemeral.conflict",),
            ),
            Refusal(
                lambda site: site.zk.ephemeral(a(site), on_conflict="fail"),
                with_an_ephemeral_of_others,
                told=("ephemeral.conflict",),
            ),
        ),
        NoAuthError: Refusal(
            lambda site: site.zk.ephemeral(f"{a(site)}/x"), locked("r"), told=("ephemeral.failed",)
        ),
        InvalidACLError: Refusal(
            lambda site: site.zk.ephemeral(a(site), acl=NOBODY), told=("ephemeral.failed",)
        ),
        NoChildrenForEphemeralsError: Refusal(
            lambda site: site.zk.ephemeral(f"{a(site)}/x"),
            with_an_ephemeral_of_others,
            told=("ephemeral.failed",),
        ),
        InvalidPathError: Refusal(lambda site: site.zk.ephemeral("/")),
        DataTooLargeError: Refusal(lambda site: site.zk.ephemeral(a(site), TOO_LARGE)),
        ConfigurationError: Refusal(lambda site: site.zk.ephemeral(a(site), on_conflict="never")),
    },
    "ephemeral set": {
        NoAuthError: Refusal(
            lambda site: _renew(site, NEW), _ephemeral_without_write, told=("ephemeral.failed",)
        ),
        EphemeralConflictError: Refusal(lambda site: _renew(site, NEW), _ephemeral_in_conflict),
        ClosedError: Refusal(lambda site: _renew(site, NEW), _closed_ephemeral),
        DataTooLargeError: Refusal(lambda site: _renew(site, TOO_LARGE), with_an_ephemeral),
        ConfigurationError: Refusal(lambda site: _renew(site, "text"), with_an_ephemeral),
    },
    "ephemeral close": {
        ConfigurationError: Refusal(lambda site: site.kept.close(timeout=-1), with_an_ephemeral),
    },
    "watch": {
        NoAuthError: Refusal(lambda site: site.zk.watch(a(site)), locked("cdw"), told=("znode.unreadable",)),
        InvalidPathError: Refusal(lambda site: site.zk.watch("a")),
        ConfigurationError: Refusal(lambda site: site.zk.watch(a(site), model=object())),
    },
    "watch_children": {
        NoAuthError: Refusal(
            lambda site: site.zk.watch_children(a(site)), locked("cdw"), told=("znode.unreadable",)
        ),
        InvalidPathError: Refusal(lambda site: site.zk.watch_children("a")),
    },
}
"""Errors of each operation that need no fault."""

BY_CONDITION: Final[dict[str, frozenset[type[CoordinatorError]]]] = {
    name: frozenset(cell.got for cell in one.cells.values() if cell.raises)
    for name, one in OPERATIONS.items()
}
"""Errors of each operation that a condition of the way makes."""

OF_ALL: Final = frozenset({ClosedError})
"""Errors of every operation: test_matrix.py tries each of them after the end."""
