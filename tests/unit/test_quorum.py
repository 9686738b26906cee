"""The links between the servers of an ensemble: who finds whom where."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from coordinator.testing import ZooKeeperEnsemble
from coordinator.testing.container import ZooKeeperContainer
from coordinator.testing.ports import free_port
from coordinator.testing.process import ZooKeeperProcess
from coordinator.testing.quorum import QuorumLinks

LIMIT = 10.0


@pytest.fixture
def ports() -> dict[int, tuple[int, int]]:
    return {number: (free_port(), free_port()) for number in (1, 2)}


@pytest.fixture
def links(ports: dict[int, tuple[int, int]]) -> Iterator[QuorumLinks]:
    """The links of two servers that are not there yet."""
    made = QuorumLinks(ports)
    made.open("127.0.0.1", lambda _: "127.0.0.1")
    yield made
    made.close()


def addresses(links: QuorumLinks, one: int, other: int) -> list[tuple[str, int]]:
    """Quorum and election address of the other server, as the one finds them."""
    host, quorum, election = (
        links.line(one, other, "127.0.0.1", "2181").split("=")[1].split(";")[0].split(":")
    )
    return [(host, int(quorum)), (host, int(election))]


def test_a_leader_that_does_not_listen_yet_is_waited_for(
    links: QuorumLinks, ports: dict[int, tuple[int, int]]
) -> None:
    """A follower knows its leader before that one listens: accepted and reset, it would vote anew."""
    with socket.create_connection(addresses(links, 1, 2)[0], LIMIT) as follower:
        follower.sendall(b"i follow")
        with socket.create_server(("127.0.0.1", ports[2][0])) as quorum:
            quorum.settimeout(LIMIT)
            with quorum.accept()[0] as leader:
                assert leader.recv(8) == b"i follow"


def test_each_pair_and_port_has_a_way_of_its_own(
    links: QuorumLinks, ports: dict[int, tuple[int, int]]
) -> None:
    """So that one server's way to one other can be broken."""
    ways = [*addresses(links, 1, 2), *addresses(links, 2, 1)]
    assert len(set(ways)) == 4
    with ExitStack() as life:
        for way, port in zip(ways, [*ports[2], *ports[1]], strict=True):
            server = life.enter_context(socket.create_server(("127.0.0.1", port)))
            server.settimeout(LIMIT)
            client = life.enter_context(socket.create_connection(way, LIMIT))
            client.sendall(b"x")
            assert life.enter_context(server.accept()[0]).recv(1) == b"x"


def test_a_server_that_is_down_is_nowhere() -> None:
    """Nobody is connected to, not even one who happens to listen where it was."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        links = QuorumLinks({1: (stranger.getsockname()[1],) * 2, 2: (1, 1)})
        links.open("127.0.0.1", lambda _: "")
        try:
            with socket.create_connection(addresses(links, 2, 1)[0], LIMIT) as client:
                client.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                stranger.settimeout(0)
                with pytest.raises(BlockingIOError):
                    stranger.accept()
        finally:
            links.close()


def passes(links: QuorumLinks, one: int, other: int, port: int) -> bool:
    """Whether what the one says to the other arrives."""
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.create_connection(addresses(links, one, other)[0], LIMIT) as client,
    ):
        server.settimeout(0.3)
        client.sendall(b"x")
        try:
            with server.accept()[0] as end:
                end.settimeout(0.3)
                return end.recv(1) == b"x"
        except TimeoutError:
            return False


def test_who_is_mended_first_leaves_the_other_one_cut_off() -> None:
    """Two servers are cut off; between one of them and the third all is well when that one is mended."""
    ports = {number: (free_port(), free_port()) for number in (1, 2, 3)}
    links = QuorumLinks(ports)
    links.open("127.0.0.1", lambda _: "127.0.0.1")
    try:
        links.cut(1)
        links.cut(2)
        links.mend(1)
        assert passes(links, 1, 3, ports[3][0])
        assert not passes(links, 1, 2, ports[2][0])
        links.mend()
        assert passes(links, 1, 2, ports[2][0])
    finally:
        links.close()


@pytest.mark.docker
def test_a_container_calls_itself_a_wildcard() -> None:
    """Others would connect back to any other address past the proxies, which nothing could break."""
    for number, node in enumerate(ZooKeeperEnsemble(3, kind="container", quorum_links=True).nodes, 1):
        assert isinstance(node, ZooKeeperContainer)
        lines = dict(line.split("=") for line in node._environment["ZOO_SERVERS"].split())
        assert lines.pop(f"server.{number}") == "0.0.0.0:2888:3888;2181"
        assert all(line.startswith("quorum-links:") for line in lines.values())


def test_a_process_is_a_wildcard_to_the_others() -> None:
    """By its name, which means 127.0.0.1 to itself: it shall not listen on more than that."""
    for number, node in enumerate(ZooKeeperEnsemble(3, kind="process", quorum_links=True).nodes, 1):
        assert isinstance(node, ZooKeeperProcess)
        names = dict(reversed(line.split()) for line in node._files["hosts"].decode().splitlines())
        assert names.pop("localhost") == names.pop(f"zk{number}") == "127.0.0.1"
        assert set(names.values()) == {"0.0.0.0"}
        assert node._member is not None
        lines = dict(line.split("=") for line in node._member.servers)
        assert lines.pop(f"server.{number}").startswith(f"zk{number}:")
        assert all(line.startswith("127.0.0.1:") for line in lines.values())
