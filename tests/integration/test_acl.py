"""Who may touch what we create: the default of the settings, and what single calls say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import ACL, ConfigurationError, Coordinator, InvalidACLError, KazooHandler, NoAuthError
from coordinator.testing import EventRecord, ZooKeeperServer, expire
from tests import faces
from tests.support import new_place

ALICE = "digest:alice:planted-secret"
OPEN = {("world", "anyone", 31)}
CREATOR = {("digest", "alice", 31)}
READ = {("world", "anyone", 1), *CREATOR}


@pytest.fixture(params=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> Iterator[faces.Face]:
    with faces.made(request.param) as factory:
        yield factory


def acl_of(zk: Any, path: str) -> set[tuple[str, str, int]]:
    """The ACL as the server keeps it; of a digest only the user."""
    entries = zk.kazoo.get_acls(path)[0]
    return {(one.id.scheme, one.id.id.partition(":")[0], one.perms) for one in entries}


@pytest.mark.parametrize(
    ("acl", "expected"),
    [
        ("open", OPEN),
        ("creator", CREATOR),
        ("read", READ),
        (
            [ACL("world", "anyone", "r"), ACL("auth", "", "cdrw")],
            {("world", "anyone", 1), ("digest", "alice", 15)},
        ),
    ],
    ids=["open", "creator", "read", "list"],
)
def test_the_default_holds_for_whatever_creates(
    face: faces.Face, zookeeper: ZooKeeperServer, acl: Any, expected: set[Any]
) -> None:
    """create, its parents, an ephemeral, its parents, a transaction; and again after an expiry."""
    base = new_place()
    with face(zookeeper.hosts, auth=ALICE, acl=acl) as zk:
        zk.create(f"{base}/parent/child", parents=True)
        zk.ephemeral(f"{base}/others/worker")
        with_both = zk.transaction()
        with_both.create(f"{base}/both", b"x")
        zk_run(with_both)
        paths = ["", "/parent", "/parent/child", "/others", "/others/worker", "/both"]
        assert {path: acl_of(zk, base + path) for path in paths} == dict.fromkeys(paths, expected)
        record = EventRecord(zk)
        expire(zk.kazoo.client_id, zookeeper.hosts)
        record.until("recovery.completed")
        assert acl_of(zk, f"{base}/others/worker") == expected


def zk_run(transaction: Any) -> None:
    transaction.commit()


def test_a_call_says_otherwise(face: faces.Face, zookeeper: ZooKeeperServer) -> None:
    """`acl` of a call is for its znode alone: parents have the default in any case."""
    base = new_place()
    with face(zookeeper.hosts, auth=ALICE, acl="read") as zk:
        zk.create(f"{base}/one", acl="creator", parents=True)
        zk.ephemeral(f"{base}/two", acl="open")
        transaction = zk.transaction()
        transaction.create(f"{base}/three", acl=[ACL("world", "anyone", "rc")])
        zk_run(transaction)
        found = [acl_of(zk, base + path) for path in ("", "/one", "/two", "/three")]
        assert found == [READ, CREATOR, OPEN, {("world", "anyone", 5)}]


def test_what_the_words_mean_to_others(zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """creator: nobody else reads; read: everybody reads, nobody else writes."""
    base = new_place()
    with Coordinator(zookeeper.hosts, auth=ALICE) as zk, Coordinator(zookeeper.hosts) as nobody:
        zk.create(f"{base}-c", b"x", acl="creator")
        zk.create(f"{base}-r", b"x", acl="read")
        with pytest.raises(NoAuthError):
            nobody.get(f"{base}-c")
        assert nobody.get(f"{base}-r").value == b"x"
        with pytest.raises(NoAuthError):
            nobody.set(f"{base}-r", b"y")
        zk.set(f"{base}-r", b"y")


@pytest.mark.parametrize("word", ["creator", "read"])
def test_a_creator_has_to_be_somebody(face: faces.Face, zookeeper: ZooKeeperServer, word: str) -> None:
    """Without auth, sasl or a certificate it is refused before anything is written, parents included."""
    with pytest.raises(ConfigurationError, match=f'acl="{word}" needs somebody to be'):
        face(zookeeper.hosts, acl=word)
    base = new_place()
    with face(zookeeper.hosts) as zk:
        for refused in (
            lambda: zk.create(f"{base}/a", parents=True, acl=word),
            lambda: zk.ephemeral(f"{base}/b", acl=word),
            lambda: zk.transaction().create(f"{base}/c", acl=word),
        ):
            with pytest.raises(ConfigurationError, match="configure `auth`, `sasl`, or"):
                refused()
        assert zk.exists(base) is None


def test_an_adopted_client_is_somebody_if_its_owner_says_so(zookeeper: ZooKeeperServer) -> None:
    """Its credentials are its owner's: the word is taken, and the server knows."""
    client = KazooClient(zookeeper.hosts, handler=KazooHandler(), auth_data=[("digest", ALICE[7:])])
    client.start(15)
    try:
        with Coordinator.adopt(client) as zk:
            assert acl_of(zk, zk.create(new_place(), acl="creator")) == CREATOR
            assert acl_of(zk, zk.create(new_place())) == OPEN
    finally:
        client.stop()
        client.close()


@pytest.mark.parametrize("wrong", ["everybody", "world:anyone:r", [("world", "anyone")], 31, [3]])
def test_what_is_no_acl(face: faces.Face, zookeeper: ZooKeeperServer, wrong: Any) -> None:
    """Refused by a message that says what is one."""
    with face(zookeeper.hosts) as zk, pytest.raises(ConfigurationError, match='"open", "creator", "read"'):
        zk.create(new_place(), acl=wrong)


def test_a_certificate_that_a_server_did_not_ask_for_makes_nobody(zookeeper: ZooKeeperServer) -> None:
    """What only the server can know, the server says: auth entries of nobody are invalid."""
    with Coordinator(zookeeper.hosts) as zk, pytest.raises(InvalidACLError):
        zk.create(new_place(), acl=[ACL("auth", "")])
