"""A TCP proxy that breaks on command: faults on the wire without root or kernel modules.

One thread serves all connections (testing/relay.py). A knob that was set has taken effect when the
assignment returns: the thread itself turns it, between two looks at the sockets.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Literal, Self

from coordinator.errors import ClosedError
from coordinator.testing.ports import free_port
from coordinator.testing.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.testing.connection import Place

__all__ = ["FaultProxy"]


class FaultProxy:
    """A proxy in front of a server, with knobs for faults.

    As a context manager it is closed on exit, with its thread and all sockets.

    Args:
        host: the server's host; all of its addresses are tried, as a client would.
        port: the server's port.
        listen: where it listens itself, an IPv4 address and a port; unless given, a free
            port of 127.0.0.1. With other addresses of 127/8, one name can have several.
        connect_within: seconds for which a client's connection waits for a server that refuses
            it; 0: it is reset at once.

    Raises:
        OSError: if the host cannot be resolved, or it cannot listen there.
    """

    def __init__(
        self, host: str, port: int, *, listen: tuple[str, int] | None = None, connect_within: float = 0.0
    ) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._places: list[Place] = [(family, address) for family, *_, address in found]
        self._upstream = f"{host}:{port}"
        self._address = listen or ("127.0.0.1", free_port())
        self._relay = Relay(self._address, self._where, connect_within)

    def _where(self) -> Sequence[Place]:
        """Where the server may be at this moment. Called in the thread."""
        return self._places

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect to."""
        return self._address

    @property
    def port(self) -> int:
        """The port that clients connect to; stays the same while `refuse` is set."""
        return self._address[1]

    @property
    def hosts(self) -> str:
        """The connection string for clients, such as ``127.0.0.1:PORT``."""
        return f"{self._address[0]}:{self._address[1]}"

    @property
    def connections(self) -> int:
        """How many connections of clients are open, those that wait for the server included."""
        return len(self._relay.connections)

    @property
    def latency(self) -> float:
        """Seconds by which each chunk is late, in each direction."""
        return self._relay.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._relay.do(lambda: setattr(self._relay, "latency", seconds))

    @property
    def blackhole(self) -> bool:
        """Nothing passes in either direction, connections stay open: a pulled cable."""
        return self._relay.black["up"] and self._relay.black["down"]

    @blackhole.setter
    def blackhole(self, black: bool) -> None:
        self._relay.do(lambda: self._relay.black.update(up=black, down=black))

    @property
    def blackhole_up(self) -> bool:
        """Nothing passes from client to server; new connections are not passed on either."""
        return self._relay.black["up"]

    @blackhole_up.setter
    def blackhole_up(self, black: bool) -> None:
        self._relay.do(lambda: self._relay.black.update(up=black))

    @property
    def blackhole_down(self) -> bool:
        """Nothing passes from server to client: requests arrive, answers do not."""
        return self._relay.black["down"]

    @blackhole_down.setter
    def blackhole_down(self, black: bool) -> None:
        self._relay.do(lambda: self._relay.black.update(down=black))

    @property
    def refuse(self) -> bool:
        """New connections are refused; those that stand are left alone."""
        return not self._relay.listening

    @refuse.setter
    def refuse(self, refused: bool) -> None:
        self._relay.do(self._relay.deafen if refused else self._relay.listen)

    @property
    def cut_after_up(self) -> int | None:
        """Bytes from client to server until the connection is reset; None again when it was."""
        return self._relay.cut_after["up"]

    @cut_after_up.setter
    def cut_after_up(self, count: int | None) -> None:
        self._relay.do(lambda: self._relay.cut_after.update(up=count))

    @property
    def cut_after_down(self) -> int | None:
        """Bytes from server to client until the connection is reset; None again when it was."""
        return self._relay.cut_after["down"]

    @cut_after_down.setter
    def cut_after_down(self, count: int | None) -> None:
        self._relay.do(lambda: self._relay.cut_after.update(down=count))

    def reset_all(self) -> None:
        """Break every connection by RST, to both sides; what was kept is lost."""
        self._relay.do(lambda: self._relay.drop_all(reset=True))

    def cut(self) -> None:
        """End every connection by FIN, to both sides; what was kept is lost."""
        self._relay.do(lambda: self._relay.drop_all(reset=False))

    def half_open(self, *, open_end: Literal["client", "server"] = "server") -> None:
        """End every connection by FIN at one end; the other one stays open and silent.

        Who is there believes in them for as long as he can do without an answer: half-open
        connections (RFC 9293, 3.5.1). `cut`, `reset_all` and `mend` end them there as well.
        """
        self._relay.do(lambda: self._relay.orphan_all(open_end))

    def mend(self) -> None:
        """Break nothing any more: all knobs as they were in the beginning; what stands, stands."""
        with contextlib.suppress(ClosedError):
            self._relay.do(self._relay.mend)

    def close(self) -> None:
        """Reset all connections, stop listening, end the thread. May be called again."""
        self._relay.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultProxy {self.hosts} -> {self._upstream}>"
