"""leaks() against real servers: what clients of kazoo and of ours leave, and how long it stands."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.serialization import int_struct, write_string

from coordinator.testing import (
    FaultProxy,
    ZooKeeperEnsemble,
    ZooKeeperServer,
    assert_no_leaks,
    child_watches,
    eventually,
    leaks,
)
from tests.faces import Face
from tests.support import new_place, observing

PERSISTENT, RECURSIVE = 0, 1


@dataclass(frozen=True)
class AddWatch:
    """What kazoo lacks. Source: ZooDefs.OpCode.addWatch, zookeeper.jute AddWatchRequest."""

    type: ClassVar[int] = 106
    path: str
    mode: int

    def serialize(self) -> bytearray:
        return bytearray(write_string(self.path) + int_struct.pack(self.mode))

    @classmethod
    def deserialize(cls, _bytes: bytes, _offset: int) -> bool:
        return True


def add_watch(client: KazooClient, path: str, mode: int) -> None:
    answer = client.handler.async_result()
    client._call(AddWatch(path, mode), answer)
    answer.get(5.0)


@contextmanager
def kazoo(hosts: str) -> Iterator[tuple[KazooClient, str]]:
    with observing(hosts) as client:
        yield client, f"0x{client.client_id[0] & (1 << 64) - 1:x}"


def ignore(_event: object) -> None:
    """Never called: the watch is left behind."""


def test_what_a_client_leaves_is_told_and_gone_with_it(zookeeper: ZooKeeperServer) -> None:
    """Every kind of watch that the server tells by path, and an ephemeral."""
    place = new_place()
    with kazoo(zookeeper.hosts) as (client, session):
        client.ensure_path(f"{place}/data")
        client.get(f"{place}/data", watch=ignore)
        client.exists(f"{place}/missing", watch=ignore)
        add_watch(client, f"{place}/persistent", PERSISTENT)
        add_watch(client, f"{place}/recursive", RECURSIVE)
        client.create(f"{place}/worker", ephemeral=True)
        left = leaks(zookeeper, below=place)
        assert left == [
            f"watch on {place}/data of session {session}",
            f"watch on {place}/missing of session {session}",
            f"watch on {place}/persistent of session {session}",
            f"watch on {place}/recursive of session {session}",
            f"ephemeral {place}/worker of session {session}",
        ]
        assert leaks(zookeeper, below=place, sessions=[client.client_id[0]]) == left
        with pytest.raises(AssertionError, match=f"5 leaks below {place} after 0.05 s:"):
            assert_no_leaks(zookeeper, below=place, timeout=0.05)
    assert_no_leaks(zookeeper, below=place)


def test_watches_on_children_are_only_counted(zookeeper: ZooKeeperServer) -> None:
    """That is all that the server tells: this fails when a version of it tells more."""
    place, before = new_place(), child_watches(zookeeper)
    with kazoo(zookeeper.hosts) as (client, _):
        client.ensure_path(place)
        client.get_children(place, watch=ignore)
        assert child_watches(zookeeper) == before + 1
        assert leaks(zookeeper, below=place) == []
        assert f"{before + 1} watch" in leaks(zookeeper)[-1]
    eventually(lambda: child_watches(zookeeper) == before)


def test_what_is_closed_is_not_left(zookeeper: ZooKeeperServer, face: Face) -> None:
    """Handles of ours that are closed leave nothing, though their session goes on."""
    place, before = new_place(), child_watches(zookeeper)
    with face(zookeeper.hosts) as zk:
        worker = zk.ephemeral(f"{place}/worker")
        views = [zk.watch(f"{place}/worker"), zk.watch_children(place), zk.watch(f"{place}/missing")]
        assert len(leaks(zookeeper, below=place)) >= 3
        for one in (*views, worker):
            one.close()
        assert_no_leaks(zookeeper, below=place)
        eventually(lambda: child_watches(zookeeper) == before)


def test_a_session_without_a_client_leaves_all_until_it_expires(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, face: Face
) -> None:
    """Its close never arrived; the assertion that waits long enough sees it end."""
    place = new_place()
    with face(proxy.hosts, session_timeout=1.0, operation_timeout=0.2) as zk:
        zk.ephemeral(f"{place}/worker")
        proxy.blackhole = True
    left = leaks(zookeeper, below=place)
    assert [line.split(" of ")[0] for line in left if line.startswith("ephemeral")] == [
        f"ephemeral {place}/worker"
    ]
    assert_no_leaks(zookeeper, below=place, timeout=10.0)


def test_one_that_ends_while_it_is_waited_for_is_no_leak(zookeeper: ZooKeeperServer) -> None:
    place = new_place()
    with kazoo(zookeeper.hosts) as (client, _):
        client.create(f"{place}/worker", ephemeral=True, makepath=True)
        ending = threading.Timer(0.1, client.stop)
        ending.start()
        assert_no_leaks(zookeeper, below=place, timeout=10.0)
        ending.join()


def test_every_server_of_an_ensemble_is_asked(ensemble: ZooKeeperEnsemble) -> None:
    """A server tells only the watches of its own clients; one that is down has none."""
    place = new_place()
    one, other = ensemble.followers()
    with kazoo(one.hosts) as (client, session):
        client.ensure_path(place)
        client.get(place, watch=ignore)
        expected = [f"watch on {place} of session {session}"]
        assert leaks(ensemble, below=place) == expected
        assert leaks(other, below=place) == []
        other.kill()
        try:
            assert leaks(ensemble, below=place) == expected
        finally:
            other.start()
    assert_no_leaks(ensemble, below=place)
