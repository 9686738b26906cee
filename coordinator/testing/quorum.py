"""The links between the servers of an ensemble, through proxies, so that they can be broken.

::

    server 1 --1>2--> server 2      Each server has a configuration of its own, in which the others
             --1>3--> server 3      are found behind proxies. Followers connect to the leader: what
    server 2 --2>1--> server 1      breaks 2>1 breaks the quorum link of 2, while 1 leads.
             ...

Elections use ports of their own. They pass through proxies as well, since a server has one address
for both, but are never broken here: servers connect back past them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.testing.ports import free_port
from coordinator.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["QuorumLinks"]


class QuorumLinks:
    """The way of each server to each other one.

    Args:
        targets: quorum port and election port of each server, by its number; on 127.0.0.1.
    """

    def __init__(self, targets: Mapping[int, tuple[int, int]]) -> None:
        self._targets = dict(targets)
        self._ports = {
            (one, other): (free_port(), free_port()) for one in targets for other in targets if one != other
        }
        self._quorum: dict[tuple[int, int], FaultProxy] = {}
        self._election: list[FaultProxy] = []

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

    def open(self, host: str) -> None:
        """Listen on that address; nothing is broken.

        Raises:
            OSError: it is not an address of this machine.
        """
        try:
            for pair, ports in self._ports.items():
                quorum, election = (
                    FaultProxy("127.0.0.1", target, listen=(host, port))
                    for target, port in zip(self._targets[pair[1]], ports, strict=True)
                )
                self._quorum[pair] = quorum
                self._election.append(election)
        except OSError:
            self.close()
            raise

    def cut(self, number: int) -> None:
        """Let nothing pass between that server and the others; all connections stay open."""
        for link in self._of(number):
            link.blackhole = True

    def desert(self, number: int) -> None:
        """Close the links to that server at the others' ends; its own ends stay open and silent."""
        for link in self._of(number):
            link.refuse = True
        for (_, other), link in self._quorum.items():
            if other == number:
                link.half_open()

    def mend(self) -> None:
        """Break nothing any more."""
        for link in self._quorum.values():
            link.mend()

    def close(self) -> None:
        """End all proxies. May be called again."""
        for link in (*self._quorum.values(), *self._election):
            link.close()
        self._quorum.clear()
        self._election.clear()

    def _of(self, number: int) -> Iterable[FaultProxy]:
        return [link for pair, link in self._quorum.items() if number in pair]
