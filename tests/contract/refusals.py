"""The errors of each operation that need no fault: how each of them is come by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from coordinator import (
    ACL,
    AlreadyHeldError,
    BadVersionError,
    ClosedError,
    ConfigurationError,
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
    NotAQueueError,
    NotEmptyError,
    PayloadError,
    ServerError,
    TransactionFailedError,
)
from tests.contract.matrix import (
    NEW,
    OLD,
    with_a_child,
    with_a_latch,
    with_a_latch_that_waits,
    with_a_leadership,
    with_a_lease,
    with_a_lock,
    with_a_znode,
    with_an_ephemeral,
)
from tests.contract.site import Site


@dataclass(frozen=True)
class Refusal:
    """How an error is come by; nothing is changed by what is refused."""

    call: Callable[[Site], Any]
    prepare: Callable[[Site], None] = lambda _: None
    guilty: type[CoordinatorError] | None = None
    """Of a transaction: what was wrong with its last operation."""
    told: tuple[str, ...] = ()
    names: str = "a"
    """The znode that it names if it is about one: below the place, unless it begins with a slash; a name
    that nobody can know is an asterisk."""


def locked(permissions: str, data: bytes = b"x") -> Callable[[Site], None]:
    """A znode of which everybody may do that and no more."""

    def prepare(site: Site) -> None:
        site.other.create(f"{site.base}/a", data, acl=[ACL("world", "anyone", permissions)])

    return prepare


def with_an_ephemeral_of_others(site: Site) -> None:
    site.other.create(f"{site.base}/a", ephemeral=True)


def with_an_empty_znode(site: Site) -> None:
    site.other.create(f"{site.base}/a")


TOO_LARGE = b"x" * (1 << 20)
NOBODY = [ACL("world", "nobody")]


def a(site: Site) -> str:
    return f"{site.base}/a"


def creating(*, below: str = "x", acl: Any = None, **flags: bool) -> dict[type[CoordinatorError], Any]:
    """What a create of any kind may be refused for; ``below``: what it wants to create below a znode."""

    def create(site: Site, path: str, value: object = b"", acl: Any = acl) -> Any:
        return site.zk.create(path, value, acl=acl, **flags)

    return {
        NodeExistsError: Refusal(lambda site: create(site, a(site)), with_a_znode),
        NoNodeError: Refusal(lambda site: create(site, f"{a(site)}/x"), names="a/x"),
        NoAuthError: Refusal(lambda site: create(site, f"{a(site)}/{below}"), locked("r"), names="a/x"),
        InvalidACLError: Refusal(lambda site: create(site, a(site), acl=NOBODY)),
        NoChildrenForEphemeralsError: Refusal(
            lambda site: create(site, f"{a(site)}/{below}"), with_an_ephemeral_of_others, names="a/x"
        ),
        InvalidPathError: Refusal(lambda site: create(site, "a")),
        DataTooLargeError: Refusal(lambda site: create(site, a(site), TOO_LARGE)),
        ConfigurationError: Refusal(lambda site: create(site, a(site), "text")),
    }


def without(
    refusals: dict[type[CoordinatorError], Any], *errors: type[CoordinatorError]
) -> dict[type[CoordinatorError], Any]:
    """All but those that cannot be: test_completeness.py says why."""
    return {error: ways for error, ways in refusals.items() if error not in errors}


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


def queueing(
    ask: Callable[..., Any], *told: str, twice: Callable[[Site], Any] | None = None
) -> dict[type[CoordinatorError], Any]:
    """What a place in a queue may be refused for; ``ask`` takes the path and further arguments."""

    def refusal(below: str = "", prepare: Callable[[Site], None] = lambda _: None, **given: Any) -> Refusal:
        return Refusal(
            lambda site: ask(site, f"{a(site)}{below}", **given), prepare, told=told, names=f"a{below}"
        )

    def seat_refused(**how: Any) -> Refusal:
        return replace(refusal(**how), names="a/*")

    refusals: dict[type[CoordinatorError], Any] = {
        NotAQueueError: (refusal(prepare=with_a_znode), refusal(prepare=with_a_child)),
        NoAuthError: (seat_refused(prepare=locked("r", b"")), refusal(prepare=locked("cdw"))),
        InvalidACLError: seat_refused(acl=NOBODY, prepare=with_an_empty_znode),
        NoChildrenForEphemeralsError: refusal("/x", with_an_ephemeral_of_others),
        InvalidPathError: Refusal(lambda site: ask(site, "/")),
        DataTooLargeError: Refusal(lambda site: ask(site, a(site), data=TOO_LARGE)),
        ConfigurationError: Refusal(lambda site: ask(site, a(site), identity="")),
    }
    if twice is not None:
        refusals[AlreadyHeldError] = Refusal(lambda site: twice(site), with_a_lock)
    return refusals


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
    "exists": {
        NoAuthError: Refusal(lambda site: site.zk.exists(a(site)), locked("cdw")),
        InvalidPathError: Refusal(lambda site: site.zk.exists("a")),
    },
    "children": {
        NoNodeError: Refusal(lambda site: site.zk.children(a(site))),
        NoAuthError: Refusal(lambda site: site.zk.children(a(site)), locked("cdw")),
        InvalidPathError: Refusal(lambda site: site.zk.children("a")),
    },
    "create": creating(),
    "create ephemeral": creating(ephemeral=True),
    "create sequential": without(creating(sequential=True), NodeExistsError),
    "create ephemeral sequential": without(creating(ephemeral=True, sequential=True), NodeExistsError),
    "create parents": without(creating(below="x/y", parents=True), NoNodeError),
    "create acl": creating(acl=[ACL("world", "anyone")])
    | {
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
        NoAuthError: Refusal(lambda site: site.zk.delete(f"{a(site)}/x"), locked("r"), names="a/x"),
        ServerError: Refusal(lambda site: site.zk.delete("/zookeeper"), names="/zookeeper"),
        InvalidPathError: Refusal(lambda site: site.zk.delete("/")),
        ConfigurationError: Refusal(lambda site: site.zk.delete(a(site), version=True), with_a_znode),
    },
    "transaction create": transacted(
        lambda both, path: both.create(path),
        only(lambda both, site: both.create(a(site)), NodeExistsError, prepare=with_a_znode),
        only(lambda both, site: both.create(f"{a(site)}/x"), NoNodeError, names="a/x"),
        only(lambda both, site: both.create(f"{a(site)}/x"), NoAuthError, prepare=locked("r"), names="a/x"),
        only(lambda both, site: both.create(a(site), acl=NOBODY), InvalidACLError),
        only(
            lambda both, site: both.create(f"{a(site)}/x"),
            NoChildrenForEphemeralsError,
            prepare=with_an_ephemeral_of_others,
            names="a/x",
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
        only(lambda both, site: both.delete(f"{a(site)}/x"), NoAuthError, prepare=locked("r"), names="a/x"),
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
            lambda site: site.zk.ephemeral(f"{a(site)}/x"),
            locked("r"),
            told=("ephemeral.failed",),
            names="a/x",
        ),
        InvalidACLError: Refusal(
            lambda site: site.zk.ephemeral(a(site), acl=NOBODY), told=("ephemeral.failed",)
        ),
        NoChildrenForEphemeralsError: Refusal(
            lambda site: site.zk.ephemeral(f"{a(site)}/x"),
            with_an_ephemeral_of_others,
            told=("ephemeral.failed",),
            names="a/x",
        ),
        InvalidPathError: Refusal(lambda site: site.zk.ephemeral("/")),
        DataTooLargeError: Refusal(lambda site: site.zk.ephemeral(a(site), TOO_LARGE)),
        ConfigurationError: Refusal(lambda site: site.zk.ephemeral(a(site), on_conflict="never")),
    },
    "ephemeral set": {
        NoAuthError: Refusal(
            lambda site: _renew(site, NEW),
            _ephemeral_without_write,
            told=("ephemeral.failed",),
            names="e",
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
    "lock acquire": queueing(
        lambda site, path, **given: site.zk.lock(path, **given).acquire(),
        twice=lambda site: site.kept.acquire(),
    ),
    "campaign": queueing(lambda site, path, **given: site.zk.lead(path, **given).campaign()),
    "hold": queueing(lambda site, path, **given: site.zk.lead(path, **given).hold(print)),
    "lock release": {
        ConfigurationError: Refusal(lambda site: site.kept.release(timeout=-1), with_a_lock),
    },
    "resign": {
        ConfigurationError: Refusal(lambda site: site.kept.resign(timeout=-1), with_a_leadership),
    },
    "lease release": {
        ConfigurationError: Refusal(lambda site: site.kept.release(timeout=-1), with_a_lease),
    },
    "latch": queueing(lambda site, path, **given: site.zk.latch(path, **given), "lease.failed"),
    "latch close": {
        ConfigurationError: Refusal(lambda site: site.kept.close(timeout=-1), with_a_latch),
    },
    "latch leader": {
        ConfigurationError: Refusal(lambda site: site.kept.leader(timeout=-1), with_a_latch_that_waits),
    },
    "latch members": {
        ConfigurationError: Refusal(lambda site: site.kept.members(timeout=-1), with_a_latch_that_waits),
    },
    "observe": {
        NoAuthError: Refusal(lambda site: site.zk.observe(a(site)), locked("cdw")),
        InvalidPathError: Refusal(lambda site: site.zk.observe("/")),
        ConfigurationError: Refusal(lambda site: site.zk.observe(a(site), dialect="latch")),
    },
}
"""Errors of each operation that need no fault."""
