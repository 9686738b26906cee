"""Faults that the server is asked for."""

from __future__ import annotations

import socket
import struct

from coordinator.models import hex_id
from coordinator.settings import split_hosts

__all__ = ["expire"]

_CLOSE = struct.pack("!iii", 8, 1, -11)
"""A request of 8 bytes: xid 1, ZooDefs.OpCode.closeSession."""


def expire(client_id: tuple[int, bytes], hosts: str, *, timeout: float = 10.0) -> None:
    """End a session on the server, at once and for certain; its client is not asked.

    A second connection takes the session over by id and password, and closes it. Handshake
    and close are sent together: the server drops the first connection when it reads the
    one, and has to know the session as closing before the client is back. kazoo.testing
    only raises SessionExpiredError in the client; the session, and its ephemerals, live on.

    Args:
        client_id: ``zk.kazoo.client_id``, taken while there is a link.
        hosts: where the servers themselves are, not a proxy that shall break.
        timeout: seconds for each of the servers.

    Raises:
        TimeoutError: no server could be asked.
    """
    session_id, password = client_id
    # zookeeper.jute, ConnectRequest: protocol, last zxid, timeout (ms), id, password, read-only
    body = struct.pack("!iqiqi", 0, 0, int(timeout * 1000), session_id, len(password)) + password + b"\0"
    faults = []
    for server in split_hosts(hosts)[0]:
        try:
            with socket.create_connection(server, timeout) as connection:
                connection.sendall(struct.pack("!i", len(body)) + body + _CLOSE)
                answered = b""
                while chunk := connection.recv(4096):
                    answered += chunk
        except OSError as error:
            faults.append(f"{server[0]}:{server[1]}: {error}")
            continue
        if answered:  # none: a server that does not serve
            return
        faults.append(f"{server[0]}:{server[1]}: closed without an answer")
    raise TimeoutError(f"session {hex_id(session_id)} not expired: {'; '.join(faults)}")
