"""The ZooKeeper in memory answers as a server does; that a server does, the contract suite sees to."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import ACL
from coordinator.core.requests import Check, Children, Create, Delete, Exists, Get, Multi, Request, Set
from coordinator.errors import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    ReadOnlyError,
    ServerError,
    TransactionFailedError,
)
from coordinator.testing.memory.access import ADDRESS, identity
from coordinator.testing.memory.zookeeper import FakeZooKeeper

ANYONE_READS = (ACL("world", "anyone", "r"),)


@pytest.fixture
def fake() -> FakeZooKeeper:
    return FakeZooKeeper(furnished=True)


@pytest.fixture
def session(fake: FakeZooKeeper) -> int:
    return fake.open()


def known(fake: FakeZooKeeper, credential: str) -> int:
    """A session that has shown a credential."""
    shown = identity("digest", credential)
    assert shown is not None
    return fake.open(identities=(ADDRESS, shown))


def fires(fake: FakeZooKeeper) -> list[int]:
    """The tokens of what has fired since, in order."""
    tokens = [token for _, token, _ in fake.fired]
    fake.fired.clear()
    return tokens


def is_refused(fake: FakeZooKeeper, session: int, request: Request[Any]) -> bool:
    """Whether the ACL does not permit it."""
    try:
        fake.execute(request, session)
    except NoAuthError:
        return True
    return False


# -- names and counts


def test_sequential_names_count_the_children_ever_created(fake: FakeZooKeeper, session: int) -> None:
    """Not those that are there, nor the changes."""
    fake.execute(Create("/s"), session)
    first, _ = fake.execute(Create("/s/n-", sequential=True), session)
    fake.execute(Delete(first), session)
    fake.execute(Create("/s/other"), session)
    assert first == "/s/n-0000000000"
    assert fake.execute(Create("/s/", sequential=True), session)[0] == "/s/0000000002"


def test_the_count_wraps_like_the_32_bits_that_it_has(fake: FakeZooKeeper, session: int) -> None:
    """Source: ZooKeeper Programmer's Guide, Sequence Nodes: after 2147483647 comes -2147483648."""
    fake.execute(Create("/s"), session)
    fake.nodes["/s"] = type(fake.nodes["/s"])(1, 1, 1, creates=2**31 - 1)
    names = [fake.execute(Create("/s/n", sequential=True), session)[0] for _ in range(3)]
    assert names == ["/s/n2147483647", "/s/n-2147483648", "/s/n-2147483647"]


def test_the_counts_of_the_parent(fake: FakeZooKeeper, session: int) -> None:
    """cversion counts what was created and deleted, pzxid is the last of these; data moves neither."""
    fake.execute(Create("/p"), session)
    fake.execute(Create("/p/a"), session)
    fake.execute(Create("/p/b"), session)
    fake.execute(Set("/p/b", b"x"), session)
    fake.execute(Delete("/p/a"), session)
    moved = fake.zxid
    fake.execute(Set("/p", b"x"), session)
    stat = fake.stat("/p")
    assert stat is not None
    assert (stat.cversion, stat.pzxid, stat.mzxid, stat.version) == (3, moved, moved + 1, 1)
    assert (stat.num_children, stat.data_length) == (1, 1)


def test_a_write_that_is_refused_takes_a_number_too(fake: FakeZooKeeper, session: int) -> None:
    """As seen on ZooKeeper 3.9: the refusal is a transaction of its own."""
    before = fake.zxid
    with pytest.raises(NoNodeError):
        fake.execute(Delete("/none"), session)
    assert fake.zxid == before + 1


def test_what_the_system_owns_does_not_count(fake: FakeZooKeeper, session: int) -> None:
    """A first sequential znode at the root has the number 0; /zookeeper cannot be deleted."""
    assert fake.execute(Create("/s-", sequential=True), session)[0] == "/s-0000000000"
    with pytest.raises(ServerError, match="BadArguments") as refused:
        fake.execute(Delete("/zookeeper"), session)
    assert refused.value.code == -8


# -- who may do what


def test_an_ephemeral_has_no_children(fake: FakeZooKeeper, session: int) -> None:
    """Neither persistent ones nor its own."""
    fake.execute(Create("/e", ephemeral=True), session)
    for request in (Create("/e/a"), Create("/e/a", ephemeral=True), Create("/e/a", sequential=True)):
        with pytest.raises(NoChildrenForEphemeralsError):
            fake.execute(request, session)


@pytest.mark.parametrize(
    ("entry", "valid"),
    [
        (ACL("world", "anyone"), True),
        (ACL("world", "me"), False),
        (ACL("digest", "bob:hash"), True),
        (ACL("digest", "bob"), False),
        (ACL("ip", "10.0.0.0/8"), True),
        (ACL("ip", "300.0.0.1"), False),
        (ACL("auth", ""), False),
        (ACL("sasl", "bob"), False),
        (ACL("x509", "bob"), False),
    ],
    ids=lambda value: f"{value.scheme}-{value.id}" if isinstance(value, ACL) else str(value),
)
def test_which_entries_are_valid(fake: FakeZooKeeper, session: int, entry: ACL, valid: bool) -> None:
    """As seen on ZooKeeper 3.9 without further providers, for a session without credentials."""
    if valid:
        assert fake.execute(Create("/a", acl=(entry,)), session)[0] == "/a"
    else:
        with pytest.raises(InvalidACLError):
            fake.execute(Create("/a", acl=(entry,)), session)


def test_an_empty_acl_is_invalid(fake: FakeZooKeeper, session: int) -> None:
    """Nobody could do anything."""
    with pytest.raises(InvalidACLError):
        fake.execute(Create("/a", acl=()), session)


def test_whoever_is_known_has_what_auth_stood_for(fake: FakeZooKeeper, session: int) -> None:
    """The creator by his credential, on whichever session; nobody else."""
    bob, again, eve = (known(fake, one) for one in ("bob:secret", "bob:secret", "eve:secret"))
    fake.execute(Create("/b", b"x", acl=(ACL("auth", ""),)), bob)
    assert fake.execute(Get("/b"), again)[0] == b"x"
    for other in (eve, session):
        with pytest.raises(NoAuthError):
            fake.execute(Get("/b"), other)
        with pytest.raises(NoAuthError):
            fake.execute(Children("/b"), other)
        with pytest.raises(NoAuthError):  # as seen on ZooKeeper 3.9.3 (ZOOKEEPER-2590)
            fake.execute(Exists("/b", watch=1), other)
        assert fake.execute(Exists("/none"), other) is None
    assert fake.watchers() == {}


@pytest.mark.parametrize(
    ("permissions", "refused"),
    [
        ("r", (Set("/a", b""), Create("/a/x"), Delete("/a/y"))),
        ("rcd", (Set("/a", b""),)),
        ("rwd", (Create("/a/x"),)),
        ("rwc", (Delete("/a/y"),)),
        ("wcd", (Get("/a"), Exists("/a"), Children("/a"))),
    ],
)
def test_each_permission_is_asked_for(
    fake: FakeZooKeeper, session: int, permissions: str, refused: tuple[Request[Any], ...]
) -> None:
    """Create and delete are the parent's to permit."""
    fake.execute(Create("/a", acl=(ACL("world", "anyone", permissions),)))
    fake.execute(Create("/a/y"))
    asked = (Get("/a"), Exists("/a"), Children("/a"), Set("/a", b""), Create("/a/x"), Delete("/a/y"))
    assert tuple(one for one in asked if is_refused(fake, session, one)) == refused


def test_a_check_reads(fake: FakeZooKeeper, session: int) -> None:
    """It tells a version, and so needs the permission that a read does."""
    fake.execute(Create("/a", acl=(ACL("world", "anyone", "wcda"),)))
    with pytest.raises(TransactionFailedError) as failed:
        fake.execute(Multi("/a", (Check("/a"),)), session)
    assert isinstance(failed.value.error, NoAuthError)


def test_the_order_of_refusals(fake: FakeZooKeeper, session: int) -> None:
    """ACL given, parent, permission, existence, version: as a server looks at them."""
    fake.execute(Create("/locked", acl=ANYONE_READS))
    fake.execute(Create("/locked/there"))
    for request, error in (
        (Create("/locked/there", acl=(ACL("world", "me"),)), InvalidACLError),
        (Create("/locked/there"), NoAuthError),
        (Create("/none/there"), NoNodeError),
        (Delete("/locked/none"), NoAuthError),
        (Set("/locked", b"", version=7), NoAuthError),
        (Delete("/locked", version=7), BadVersionError),
        (Create("/locked"), NodeExistsError),
    ):
        with pytest.raises(error):
            fake.execute(request, session)


def test_a_server_without_a_quorum_only_reads(fake: FakeZooKeeper, session: int) -> None:
    """Whatever writes is refused before anything of it is looked at."""
    assert fake.execute(Get("/"), session, read_only=True)[0] == b""
    for request in (Create("/a"), Set("/none", b""), Delete("/none"), Multi("/a", (Check("/"),))):
        with pytest.raises(ReadOnlyError):
            fake.execute(request, session, read_only=True)


# -- all or nothing


def test_a_transaction_names_the_guilty_operation(fake: FakeZooKeeper, session: int) -> None:
    """Nothing of it was done, and no watch fired; it sees what its own operations did."""
    fake.execute(Exists("/a", watch=1), session)
    before = dict(fake.nodes)
    with pytest.raises(TransactionFailedError, match=r"operation 2 \(set /a\)") as failed:
        fake.execute(Multi("/a", (Create("/a"), Create("/a/b"), Set("/a", b"", 7))), session)
    assert (failed.value.index, failed.value.operation) == (2, "set /a")
    assert isinstance(failed.value.error, BadVersionError)
    assert (fake.nodes, fires(fake)) == (before, [])


def test_a_transaction_is_one_transaction(fake: FakeZooKeeper, session: int) -> None:
    """One number for all of it; what its creates made is told by their paths."""
    fake.execute(Exists("/a", watch=1), session)
    operations = (Create("/a"), Create("/a/s-", sequential=True), Create("/a/s-", sequential=True))
    made = fake.execute(Multi("/a", operations), session)
    assert made == ("/a", "/a/s-0000000000", "/a/s-0000000001")
    assert {fake.nodes[path].czxid for path in made} == {fake.zxid}
    assert fires(fake) == [1]


# -- watches


def test_what_fires_when(fake: FakeZooKeeper, session: int) -> None:
    """Once each: the znode's own first, then its parent's children; data does not move the parent."""
    fake.execute(Create("/p"), session)

    def watch_all() -> None:
        fake.execute(Exists("/p/a", watch=1), session)
        fake.execute(Children("/p", watch=2), session)

    watch_all()
    fake.execute(Create("/p/a"), session)
    assert fires(fake) == [1, 2]
    fake.execute(Set("/p/a", b"x"), session)
    assert fires(fake) == []
    watch_all()
    fake.execute(Children("/p/a", watch=3), session)
    fake.execute(Set("/p/a", b"y"), session)
    assert fires(fake) == [1]
    watch_all()
    fake.execute(Delete("/p/a"), session)
    assert fires(fake) == [1, 3, 2]


def test_a_read_that_fails_watches_nothing(fake: FakeZooKeeper, session: int) -> None:
    """But a look at what is not there does."""
    for request in (Get("/a", watch=1), Children("/a", watch=1)):
        with pytest.raises(NoNodeError):
            fake.execute(request, session)
    fake.execute(Exists("/a", watch=2), session)
    assert fake.watchers() == {"/a": {session}}
    fake.execute(Create("/a"), session)
    assert fires(fake) == [2]


# -- sessions


def test_a_session_ends_in_one_transaction(fake: FakeZooKeeper, session: int) -> None:
    """All of its ephemerals have gone with the same number; what it watched is told nobody."""
    other = fake.open()
    fake.execute(Create("/p"), session)
    for name in "ab":
        fake.execute(Create(f"/p/{name}", ephemeral=True), session)
    fake.execute(Children("/p", watch=1), session)
    fake.execute(Children("/p", watch=2), other)
    before = fake.zxid
    fake.expire(session)
    stat = fake.stat("/p")
    assert stat is not None
    assert (fake.zxid, stat.pzxid, stat.num_children) == (before + 1, before + 1, 0)
    assert list(fake.sessions) == [other]
    assert fires(fake) == [2]


def test_a_session_times_out_at_the_end_of_a_tick() -> None:
    """Never early, and at most a tick late, counted from when it was heard last."""
    fake = FakeZooKeeper(tick=2.0)
    session = fake.open(timeout=5.0, now=1.0)
    fake.touch(session, 2.5)
    assert fake.next_expiry() == fake.expires_at(session) == 8.0
    assert fake.expire_due(7.9) == []
    assert fake.expire_due(8.0) == [session]
    assert fake.next_expiry() is None


def test_no_data_is_shown(fake: FakeZooKeeper, session: int) -> None:
    """Nor who may touch it."""
    fake.execute(Create("/a", b"top-secret", acl=(ACL("digest", "bob:hidden"),)), session)
    shown = repr(fake.nodes["/a"])
    assert "top-secret" not in shown
    assert "hidden" not in shown
