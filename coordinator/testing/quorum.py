"""The links between the servers of an ensemble, through proxies, so that they can be broken.

::

    server 1 --1>2--> server 2      Each server has a configuration of its own, in which the others
             --1>3--> server 3      are found behind proxies: one for the quorum port, to which followers
    server 2 --2>1--> server 1      connect, and one for the election port.
             ...

When a server with a low number asks one with a high number for a vote, that one closes the connection
and connects back, to the address that it was told. A wildcard address is no such address (ZOOKEEPER-3769,
since 3.5.8 and 3.6.1): it connects back to what its own configuration says, by its own proxy. So whatever
a server calls itself has to be a wildcard address to the others; how, is for the ensemble to say.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

from coordinator.testing.ports import free_port
from coordinator.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from coordinator.testing.connection import Place

__all__ = ["QuorumLinks"]

#: Seconds for which a link waits for a server that does not listen yet.
PATIENCE = 2.0


class QuorumLinks:
    """The way of each server to each other one.

    Args:
        peers: quorum port and election port of each server, by its number.
    """

    def __init__(self, peers: Mapping[int, tuple[int, int]]) -> None:
        self._peers = dict(peers)
        self._ports = {
            (one, other): (free_port(), free_port()) for one in peers for other in peers if one != other
        }
        self._links: list[tuple[int, int, FaultProxy]] = []
        """From which server to which, twice each."""
        self._broken: set[int] = set()

    def line(self, one: int, other: int, host: str, client: str) -> str:
        """The line ``server.N=...`` of the other server in the configuration of the one.

        Args:
            one: the number of the server that reads it.
            other: the number of the server that it is about.
            host: where the proxies are found.
            client: what the line says about the port for clients.
        """
        quorum, election = self._ports[one, other]
        return f"server.{other}={host}:{quorum}:{election};{client}"

    def open(self, host: str, find: Callable[[int], str]) -> None:
        """Listen on that address; nothing is broken.

        Args:
            host: an address of this machine.
            find: says where a server is at this moment, by its number; empty: it is down.

        Raises:
            OSError: it is not an address of this machine.
        """
        try:
            for (one, other), ports in self._ports.items():
                for target, port in zip(self._peers[other], ports, strict=True):
                    link = _Link(partial(find, other), target, listen=(host, port))
                    self._links.append((one, other, link))
        except OSError:
            self.close()
            raise

    @property
    def opened(self) -> bool:
        """Whether it listens."""
        return bool(self._links)

    def cut(self, number: int) -> None:
        """Let nothing pass between that server and the others; all connections stay open."""
        self._broken.add(number)
        for link in self._of(number):
            link.blackhole = True

    def desert(self, number: int) -> None:
        """Close the links to and from that server at the others' ends; its own stay open and silent."""
        self._broken.add(number)
        for link in self._of(number):
            link.refuse = True
        for one, other, link in self._links:
            if other == number:
                link.half_open(open_end="server")
            elif one == number:
                link.half_open(open_end="client")

    def mend(self, number: int | None = None) -> None:
        """Break nothing any more between that server, or any, and those that are not broken themselves."""
        self._broken -= self._broken if number is None else {number}
        for one, other, link in self._links:
            if self._broken.isdisjoint((one, other)):
                link.mend()

    def close(self) -> None:
        """End all proxies. May be called again."""
        while self._links:
            self._links.pop()[2].close()

    def _of(self, number: int) -> Iterator[FaultProxy]:
        return (link for one, other, link in self._links if number in (one, other))


class _Link(FaultProxy):
    """A proxy before a server that is somewhere else after each start."""

    def __init__(self, find: Callable[[], str], port: int, *, listen: tuple[str, int]) -> None:
        self._find, self._behind = find, port
        # A follower knows its leader before that one listens. Refused, it would ask again; accepted and
        # then reset, it gives up the leader, and the election begins anew.
        super().__init__("127.0.0.1", port, listen=listen, connect_within=PATIENCE)

    def _where(self) -> Sequence[Place]:
        host = self._find()
        return [(socket.AF_INET, (host, self._behind))] if host else []
