"""Faults that need a client of their own: the expiry of somebody else's session."""

from __future__ import annotations

from kazoo.client import KazooClient

__all__ = ["expire"]


def expire(client_id: tuple[int, bytes], hosts: str, *, timeout: float = 10.0) -> None:
    """End another client's session on the server, at once and for certain.

    A second client takes the session over with its id and password and closes it. To the
    first client that is an expiry: its connection breaks, and the server refuses its
    session when it comes back. A frozen server or a cut link expire a session mostly,
    and late.

    Args:
        client_id: session id and password, as `KazooClient.client_id`.
        hosts: where to connect; not through a proxy that holds traffic back.
        timeout: seconds to connect in; a local server needs 0.01.

    Raises:
        TimeoutError: if no server answered in time.
    """
    usurper = KazooClient(hosts=hosts, client_id=client_id, timeout=timeout)
    try:
        usurper.start(timeout=timeout)
    except usurper.handler.timeout_exception as late:
        raise TimeoutError(
            f"session {client_id[0]:#x} not expired: no server at {hosts} in {timeout} s"
        ) from late
    finally:
        usurper.stop()
        usurper.close()
