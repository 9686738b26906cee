"""Waiting that can be interrupted: kazoo's wake channel, one poll() for all, and a connect that can stop.

kazoo wakes its connection thread with a byte per request through a socket pair of 278 slots, and blocks
the caller when it is full: an event loop freezes, `stop()` deadlocks (facts/kazoo.md section 2). Here the
requests are *counted* under a lock, without limit, and the file descriptor is only a bell:

    caller:  count += 1;  asleep and not rung?  -> ring                    (never blocks)
    loop:    count > 0?   -> work, no system call
             otherwise    -> asleep = True; poll(bell, socket); asleep = False; silence the bell

The bell is rung under the same lock that sets `asleep`: without it a request could be counted after the loop
looked and before it slept, and would wait for the next heartbeat.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

from kazoo.handlers.utils import selector_select

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence


class WakeChannel:
    """Both ends of kazoo's `create_socket_pair`: counts without limit, wakes with one eventfd.

    Args:
        portable: use a pipe even where there is an eventfd (Linux), as every other POSIX system must.
    """

    def __init__(self, *, portable: bool = False) -> None:
        self.count = 0
        self._lock = threading.Lock()
        self._asleep = False
        self._rung = False
        self._closed = False
        if hasattr(os, "eventfd") and not portable:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._rope = self._bell
        else:
            self._bell, self._rope = os.pipe()
            os.set_blocking(self._bell, False)
            os.set_blocking(self._rope, False)

    def fileno(self) -> int:
        """The descriptor to poll between `fall_asleep` and `wake_up`; -1 once closed."""
        return -1 if self._closed else self._bell

    def send(self, data: bytes) -> int:
        """Count one request and wake the loop if it sleeps; from any thread, without ever blocking.

        Raises:
            OSError: the channel is closed.
        """
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "wake channel is closed")
            self.count += 1
            if self._asleep and not self._rung:
                self._rung = True
                self._ring()
        return len(data)

    def recv(self, size: int) -> bytes:
        """Take one request off the count.

        Raises:
            BlockingIOError: none is outstanding; kazoo takes this OSError for an empty socket.
            OSError: the channel is closed.
        """
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "wake channel is closed")
            if self.count == 0:
                raise BlockingIOError(errno.EAGAIN, "no request is outstanding")
            self.count -= 1
        return b"\0"[:size]

    def fall_asleep(self) -> bool:
        """Ask to be woken by the descriptor; False when there is work already."""
        with self._lock:
            self._asleep = self.count == 0
            return self._asleep

    def wake_up(self) -> bool:
        """End the sleep and silence the descriptor; True when there is work."""
        with self._lock:
            self._asleep = False
            if self._rung:
                self._rung = False
                with contextlib.suppress(OSError):
                    os.read(self._bell, 8)
            return self.count > 0

    def _ring(self) -> None:
        if self._rope == self._bell:
            os.eventfd_write(self._bell, 1)
        else:
            os.write(self._rope, b"\0")

    def close(self) -> None:
        """Free the descriptors; a second close (kazoo closes both ends) does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._bell)
            if self._rope != self._bell:
                os.close(self._rope)


def wait_for(
    reads: Collection[int], writes: Collection[int], timeout: float | None
) -> tuple[set[int], set[int]]:
    """Wait until one of the descriptors can be read or written; an error or hang-up counts as both.

    Args:
        reads: descriptors to wait for reading.
        writes: descriptors to wait for writing.
        timeout: seconds; None waits without limit.

    Returns:
        The readable and the writable descriptors; none after the timeout.
    """
    if not hasattr(select, "poll"):  # Windows; some old macOS builds
        readable, writable, _ = selector_select(list(reads), list(writes), [], timeout)
        return set(readable), set(writable)
    poll = select.poll()
    for fd in reads:
        poll.register(fd, select.POLLIN)
    for fd in writes:
        poll.register(fd, select.POLLOUT | (select.POLLIN if fd in reads else 0))
    ready = poll.poll(None if timeout is None else timeout * 1000)
    return (
        {fd for fd, event in ready if event != select.POLLOUT and fd in reads},
        {fd for fd, event in ready if event != select.POLLIN and fd in writes},
    )


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


def secure(sock: socket.socket, hostname: str, options: Mapping[str, Any]) -> ssl.SSLSocket:
    """Wrap a connected socket in TLS with kazoo's keyword arguments, within the socket's own timeout.

    Raises:
        ssl.SSLError: the handshake failed, or a certificate cannot be loaded or believed.
        OSError: the connection broke in the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.get("options") is not None:
        context.options = options["options"]
    if options.get("ciphers"):
        context.set_ciphers(options["ciphers"])
    verify = options.get("verify_certs", True)
    context.check_hostname = bool(options.get("check_hostname", False)) and verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    try:
        if options.get("ca"):
            context.load_verify_locations(options["ca"])
        if options.get("certfile") and options.get("keyfile"):
            context.load_cert_chain(
                certfile=options["certfile"],
                keyfile=options["keyfile"],
                password=options.get("keyfile_password"),
            )
    except FileNotFoundError as error:
        raise ssl.SSLError(f"certificate or key cannot be read: {error.strerror}") from error
    return context.wrap_socket(sock, server_hostname=hostname)


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
        return "tls"
    if isinstance(error, socket.gaierror):
        return "dns"
    return _CAUSES.get(error.errno, "other")


def resolve(hostname: str, address: tuple[str, int]) -> list[Address]:
    """Look a name up anew, kazoo's choice first: its list is as old as the pass, perhaps days.

    Returns:
        All addresses of the name; kazoo's own when the resolver has none now.
    """
    found: list[Address] = []
    with contextlib.suppress(socket.gaierror):
        for *_, each in socket.getaddrinfo(hostname, address[1], type=socket.SOCK_STREAM):
            found.append(each)  # type: ignore[arg-type]
    found.sort(key=lambda each: each[:2] != address)
    return found or [address]


class Dialler:
    """Connects and pauses that another thread can call off.

    Args:
        portable: no eventfd.
    """

    def __init__(self, *, portable: bool = False) -> None:
        self._portable = portable
        self._called_off = threading.Event()
        self._lock = threading.Lock()
        self._bell: WakeChannel | None = None

    @property
    def called_off(self) -> bool:
        """Whether connects are refused."""
        return self._called_off.is_set()

    def call_off(self) -> None:
        """End a connect or a pause, and refuse any until `allow`; from any thread."""
        with self._lock:
            self._called_off.set()
            if self._bell is not None:
                self._bell.send(b"\0")

    def allow(self) -> None:
        """Allow connects again."""
        self._called_off.clear()

    def pause(self, seconds: float) -> None:
        """Sleep until called off."""
        if self.called_off:
            time.sleep(
                0.01
            )  # kazoo asks for its own stop flag next; without a pause this would be a busy loop
        else:
            self._called_off.wait(seconds)

    def dial(
        self,
        targets: Sequence[Address],
        hostname: str,
        limit: float,
        options: Mapping[str, Any],
        tried: set[Address] | None = None,
    ) -> socket.socket:
        """Connect to the first target that answers, each having its share of `limit` seconds.

        Args:
            targets: addresses of one server, at least one.
            hostname: whom the server's certificate must name.
            limit: seconds for all of them.
            options: kazoo's TLS arguments; TLS only with `use_ssl`.
            tried: receives each target that was dialled.

        Raises:
            ConnectionAbortedError: called off.
            OSError: none could be reached; the error that tells most.
        """
        until = time.monotonic() + limit
        errors: list[OSError] = []
        with self._ringing() as bell:
            for index, target in enumerate(targets):
                if self.called_off:
                    break
                if tried is not None:
                    tried.add(target)
                try:
                    share = max(0.0, until - time.monotonic()) / (len(targets) - index)
                    sock = connect(target, share, bell)
                    return _secured(sock, hostname, options) if options.get("use_ssl") else sock
                except OSError as error:
                    errors.append(error)
        if self.called_off:
            raise ConnectionAbortedError(errno.ECONNABORTED, "connecting was called off")
        raise next((error for error in errors if cause_of(error) != "unreachable"), errors[-1])

    @contextlib.contextmanager
    def _ringing(self) -> Iterator[WakeChannel]:
        bell = WakeChannel(portable=self._portable)
        with self._lock:
            self._bell = bell
            if self.called_off:
                bell.send(b"\0")
        try:
            yield bell
        finally:
            with self._lock:
                self._bell = None
            bell.close()


def _secured(sock: socket.socket, hostname: str, options: Mapping[str, Any]) -> socket.socket:
    try:
        return secure(sock, hostname, options)
    except BaseException:
        sock.close()
        raise
