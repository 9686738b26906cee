"""Ports of servers: a free one, and what answers on one."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import ssl
import time
from pathlib import Path

from coordinator.testing.errors import ZooKeeperUnavailableError

__all__ = ["four_letters", "free_port", "speaks_tls"]

_given_ports: set[int] = set()


def _ephemeral_port_range() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return 49152, 65535  # IANA's, which other systems use
    return int(low), int(high)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and no client gets by chance.

    Ports that the kernel gives to outgoing connections are avoided: while the server is
    down, a client that tries 127.0.0.1 again and again would at some time get the
    server's own port as its source, connect to itself, and keep the server from coming back.
    Each worker of pytest-xdist has ports of its own: one that is given is bound a while later.
    """
    low, high = _ephemeral_port_range()
    candidates = range(20000, low) if low > 21000 else range(high + 1, 65536)
    if len(candidates) < 1000:  # somebody opened the whole range to clients
        candidates = range(20000, 65536)
    candidates = candidates[_worker() :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    for _ in range(200):
        # Not `random`: test plugins seed it alike in every worker.
        port = candidates[secrets.randbelow(len(candidates))]
        if port in _given_ports:  # it may be about to be bound
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))  # noqa: S104 a container may be published on all addresses
            _given_ports.add(port)
            return port
    raise ZooKeeperUnavailableError("no free port between 20000 and 65535 in 200 attempts")


def _worker() -> int:
    """The number of this worker of pytest-xdist; 0 without it."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return int(number) if number.isdecimal() else 0


def four_letters(address: tuple[str, int], word: str, timeout: float = 1.0) -> str:
    """Send one of ZooKeeper's four-letter words and return the whole answer.

    Raises:
        OSError: if nobody answers within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    with socket.create_connection(address, timeout) as connection:
        connection.sendall(word.encode("ascii"))
        answer = bytearray()
        while True:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = connection.recv(65536)
            if not chunk:
                return answer.decode("utf-8", "replace")
            answer += chunk


def speaks_tls(address: tuple[str, int], timeout: float = 1.0) -> bool:
    """Whether somebody answers there by TLS, whoever it may be and whomever it may refuse."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(address, timeout) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLEOFError:
        return False
    except ssl.SSLError:
        return True
    except OSError:
        return False
