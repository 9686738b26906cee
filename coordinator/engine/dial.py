"""Connecting in a way that can be called off: names, TCP, and the words for what went wrong.

kazoo connects with a blocking call: `stop()` waits for a host that does not answer. Here each connect polls
the socket together with a bell (engine/wake.py) that another thread may ring.

    resolve -> addresses of one server -> Dialler.dial: connect, secure (engine/tls.py); the next one where
                                          that fails

It must not know of passes over the hosts: that is engine/rounds.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from coordinator.engine import fork, tls
from coordinator.engine.wake import WakeChannel, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Address = tuple[str, int] | tuple[str, int, int, int]
"""A resolved IPv4 or IPv6 socket address."""


def connect(address: Address, timeout: float, bell: WakeChannel) -> socket.socket:
    """Open a TCP connection; a `send` on the bell gives it up.

    Returns:
        A blocking socket, its timeout being what is left of `timeout`.

    Raises:
        ConnectionAbortedError: the bell was rung.
        TimeoutError: after `timeout` seconds.
        OSError: as of connect(2).
    """
    until = time.monotonic() + timeout
    sock = socket.socket(socket.AF_INET6 if len(address) == 4 else socket.AF_INET, socket.SOCK_STREAM)
    fork.let_go_by(sock, socket.socket.close)
    try:
        error = _finish_connect(sock, address, timeout, bell)
        if error:
            raise OSError(error, os.strerror(error))  # noqa: TRY301 - the socket is closed below
        sock.settimeout(max(0.001, until - time.monotonic()))
    except BaseException:
        sock.close()
        raise
    return sock


def _finish_connect(sock: socket.socket, address: Address, timeout: float, bell: WakeChannel) -> int:
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    error = sock.connect_ex(address)
    if error in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
        ready: set[int] = set()
        if bell.fall_asleep():
            _, ready = wait_for([bell.fileno()], [sock.fileno()], timeout)
        if bell.wake_up():
            raise ConnectionAbortedError(errno.ECONNABORTED, "connect was called off")
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else errno.ETIMEDOUT
    if not error and sock.getsockname() == sock.getpeername():
        # TCP's simultaneous open: nobody listens on a local port, and we were given that port as our own.
        return errno.ECONNREFUSED
    return error


_CAUSES: dict[int | None, str] = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
}


def cause_of(error: OSError) -> str:
    """Name why a connection could not be opened, in the words of `connection.failed`."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return tls.told(error)[0]
    if isinstance(error, socket.gaierror):
        return "dns"
    return _CAUSES.get(error.errno, "other")


def told(error: OSError) -> tuple[str, str]:
    """Return the cause and the detail of `connection.failed`."""
    if isinstance(error, ssl.SSLError):
        return tls.told(error)
    return cause_of(error), error.strerror or str(error)


def resolve(hostname: str, address: tuple[str, int]) -> list[Address]:
    """Look a name up anew, kazoo's choice first: its list is as old as the pass, perhaps days.

    Returns:
        All addresses of the name; kazoo's own when the resolver has none now.
    """
    found: list[Address] = []
    with contextlib.suppress(socket.gaierror):
        found = addresses(hostname, address[1])
    found.sort(key=lambda each: each[:2] != address)
    return found or [address]


def addresses(host: str, port: int) -> list[Address]:
    """Look a name up anew.

    Raises:
        socket.gaierror: the resolver has no address of that name now.
    """
    return [each for *_, each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]  # type: ignore[misc]


class Dialler:
    """Connects and pauses that another thread can call off.

    Args:
        portable: no eventfd.
    """

    def __init__(self, *, portable: bool = False) -> None:
        self._portable = portable
        self._called_off = False
        self._turn = 0
        self._lock = threading.Condition()
        self._bell: WakeChannel | None = None

    @property
    def called_off(self) -> bool:
        """Whether connects are refused."""
        return self._called_off

    @property
    def turn(self) -> int:
        """How often it was interrupted: what is begun with an older number is not begun."""
        return self._turn

    def call_off(self) -> None:
        """End a connect or a pause, and refuse any until `allow`; from any thread."""
        with self._lock:
            self._called_off = True
            self._ring()

    def interrupt(self) -> None:
        """End the connect or the pause that is under way; later ones are not affected."""
        with self._lock:
            self._turn += 1
            self._ring()

    def _ring(self) -> None:
        self._lock.notify_all()
        if self._bell is not None:
            self._bell.send(b"\0")

    def allow(self) -> None:
        """Allow connects again."""
        with self._lock:
            self._called_off = False

    def pause(self, seconds: float, turn: int | None = None) -> None:
        """Sleep until called off or interrupted.

        Args:
            seconds: how long at most.
            turn: do not even begin if it was interrupted since then.
        """
        with self._lock:
            if self._called_off:
                # kazoo asks for its own stop flag next; without a pause this would be a busy loop.
                self._lock.wait(0.01)
                return
            since = self._turn if turn is None else turn
            self._lock.wait_for(lambda: self._called_off or self._turn != since, seconds)

    def dial(
        self,
        targets: Sequence[Address],
        hostname: str,
        limit: float,
        make_context: tls.MakeContext | None = None,
        tried: set[Address] | None = None,
        turn: int | None = None,
    ) -> socket.socket:
        """Connect to the first target that answers, each having its share of `limit` seconds.

        Args:
            targets: addresses of one server, at least one.
            hostname: whom the server's certificate must name.
            limit: seconds for all of them.
            make_context: makes the TLS context of each connect; None: without TLS.
            tried: receives each target that was dialled.
            turn: give up, or do not even begin, if it was interrupted since then.

        Raises:
            ConnectionAbortedError: called off, or interrupted.
            OSError: none could be reached; the error that tells most.
        """
        until = time.monotonic() + limit
        errors: list[OSError] = []
        since = self._turn if turn is None else turn
        with self._ringing(since) as bell:
            for index, target in enumerate(targets):
                if self._called_off or self._turn != since:
                    break
                if tried is not None:
                    tried.add(target)
                try:
                    share = max(0.0, until - time.monotonic()) / (len(targets) - index)
                    sock = connect(target, share, bell)
                    return sock if make_context is None else _secured(sock, hostname, make_context, bell)
                except OSError as error:
                    errors.append(error)
        if self._called_off or self._turn != since:
            raise ConnectionAbortedError(errno.ECONNABORTED, "connecting was called off")
        raise max(errors, key=_tells)  # the first of those that tell most

    def ask(self, target: Address, limit: float, question: bytes) -> bytes:
        """Send a question on a connection of its own, and return how the answer begins; b"" for none."""
        try:
            with self._ringing(self._turn) as bell, connect(target, limit, bell) as sock:
                sock.sendall(question)
                return sock.recv(16)
        except OSError:
            return b""

    @contextlib.contextmanager
    def _ringing(self, turn: int) -> Iterator[WakeChannel]:
        bell = WakeChannel(portable=self._portable)
        with self._lock:
            self._bell = bell
            if self._called_off or self._turn != turn:
                bell.send(b"\0")
        try:
            yield bell
        finally:
            with self._lock:
                self._bell = None
            bell.close()


def _tells(error: OSError) -> int:
    if isinstance(error, ssl.SSLError):
        return 2
    return cause_of(error) != "unreachable"


def _secured(
    sock: socket.socket, hostname: str, make_context: tls.MakeContext, bell: WakeChannel
) -> socket.socket:
    try:
        return tls.secure(sock, hostname, make_context(), bell)
    except BaseException:
        sock.close()
        raise
