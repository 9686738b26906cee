"""The end of a session, for which the server is asked."""

from __future__ import annotations

import socket
import struct

from coordinator.models import hex_id
from coordinator.settings import split_hosts

__all__ = ["expire"]

_CLOSE = struct.pack("!iii", 8, 1, -11)
"""A request of 8 bytes: xid 1, ZooDefs.OpCode.closeSession."""


_TRIES = 5
"""A server that ends the session may close the connection before it has sent its answers; asked
again it says that there is no such session. One that does not serve never answers."""


def _answered(server: tuple[str, int], request: bytes, timeout: float) -> bool:
    with socket.create_connection(server, timeout) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    return bool(answer)


def expire(client_id: tuple[int, bytes], hosts: str, *, timeout: float = 10.0) -> None:
    """End a session on the server, at once and for certain; its client is not asked.

    A second connection takes the session over by id and password, and closes it. Handshake
    and close are sent together, since the server drops the first connection when it reads
    the one; a client that is very quick may all the same be back, for a moment, before the
    other is carried out. kazoo.testing only raises SessionExpiredError in the client; the
    session, and its ephemerals, live on.

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
        for _ in range(_TRIES):
            try:
                if _answered(server, struct.pack("!i", len(body)) + body + _CLOSE, timeout):
                    return
            except OSError as error:
                faults.append(f"{server[0]}:{server[1]}: {error}")
                break
        else:
            faults.append(f"{server[0]}:{server[1]}: closed without an answer")
    raise TimeoutError(f"session {hex_id(session_id)} not expired: {'; '.join(faults)}")
