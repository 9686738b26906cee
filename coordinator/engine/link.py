"""One TCP connection to one server: a socket for kazoo that keeps the session's clock.

kazoo's connection thread uses a `Link` as its socket. Every byte passes through here, and is entered in the
link's ledger (engine/frames.py). What is its own is the end of a connection: in which order kazoo, whoever
sends requests and the operating system learn of it.

    kazoo --send--> gate still open? --> socket;  noted: sent at
    kazoo <--recv-- read ahead <-------- socket;  noted: answered; a bad end is known here before kazoo knows
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

from coordinator.engine import clock
from coordinator.engine.frames import REFUSALS, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

READ_AHEAD = 64 * 1024
"""Bytes asked of the socket at once. kazoo reads a frame in two pieces, each after a select of its own;
64 KiB hold some 500 small replies, read with one system call (measured with kazoo 2.11.0: 19k, not 12k/s)."""

DRAIN_LIMIT = 16 * 1024 * 1024
"""Bytes read at most while looking for an answer that would disprove a silence; more than a kernel's largest
default receive buffer (tcp_rmem: 6 MiB)."""


class Link(Ledger):
    """A connected socket as kazoo's connection thread uses it, with its ledger.

    Only the connection thread reads and writes; `cut` and all attributes are for any thread.

    Args:
        sock: connected, plain or TLS.
        server: "host:port" as configured, for people.
        on_heartbeat: called in the connection thread with the round trip of each answered ping and the time
            at which it was sent.

    Attributes:
        gate: hold it to send a request only while `dead` is False. The link dies under this lock *before*
            kazoo learns of it: otherwise a request could enter kazoo's queue after kazoo has failed all that
            was queued, and be executed after the reconnect, perhaps under another session. Whoever holds it
            must not wait for the connection thread, nor call `cut`.
        dead: no request may be sent any more.
        cause: why it died: "closed" (by the server), "reset", "timeout", "silence", "expired", one of
            REFUSALS, "closing" (by us), "moved" (by us, to a better server), "cut" (by us, without ceremony);
            "" while it lives.
        error: what TLS said when it died; None for any other death.
        secured: it is TLS.
        writable: False between a full socket buffer and the next poll.
    """

    def __init__(
        self, sock: socket.socket, server: str, on_heartbeat: Callable[[float, float], None] | None = None
    ) -> None:
        super().__init__(on_heartbeat)
        self.server = server
        self.gate = threading.Lock()
        self.dead = False
        self.closed = False
        self.cause = ""
        self.error: ssl.SSLError | None = None
        self.secured = isinstance(sock, ssl.SSLSocket)
        self.writable = True
        self._sock = sock
        self._fd = sock.fileno()
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._cut = False
        self._ended = False
        self._unread = b""
        self._position = 0

    # -- what kazoo calls

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._fd

    def pending(self) -> int:
        """Bytes that `recv` returns without asking the kernel. kazoo skips its select when there are any."""
        if self._cut:
            return 0
        buffered = len(self._unread) - self._position
        return buffered + self._tls.pending() if self._tls is not None else buffered

    def recv(self, size: int) -> bytes:
        """Read at most `size` bytes; b"" after the end, when `dead` is already True.

        Raises:
            ssl.SSLWantReadError: nothing to read yet, also on a plain socket: kazoo selects again.
            OSError: the connection broke; `dead` is already True.
        """
        if self._cut:
            return b""
        if not self._unread:
            self._unread = b"" if self._ended else self._take()
            if not self._unread:
                self.bury("closed")
                return b""
        position = self._position
        end = position + size
        chunk = self._unread[position:end]
        if end < len(self._unread):
            self._position = end
        else:
            self._unread, self._position = b"", 0
        return chunk

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Write what the kernel takes.

        Raises:
            ssl.SSLWantWriteError: it takes nothing now, also on a plain socket: kazoo selects again.
            OSError: the connection broke; `dead` is already True.
        """
        if self._cut:
            raise ConnectionAbortedError(errno.ECONNABORTED, f"link to {self.server} was cut: {self.cause}")
        if not self.dead and self._closes(data):
            self.bury("closing")  # before it goes out: what would be queued behind it is never answered
        at = clock.now()
        try:
            sent = self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.writable = False
            raise
        except BlockingIOError:
            self.writable = False
            raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "socket buffer is full") from None
        except OSError as error:
            self._bury_by(error)
            raise
        self._note_sent(data, sent, at)
        return sent

    def sendall(self, data: bytes) -> None:
        """Write all of it; for a blocking socket."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - a socket's signature
        """As of a socket."""
        self._sock.setblocking(bool(flag))

    def settimeout(self, value: float | None) -> None:
        """As of a socket."""
        self._sock.settimeout(value)

    def getpeername(self) -> Any:
        """As of a socket."""
        return self._sock.getpeername()

    def shutdown(self, how: int) -> None:
        """As of a socket, and `dead` first."""
        self.cut("cut", how)

    def close(self) -> None:
        """Close the socket, and `dead` first; a second close does nothing."""
        with self.gate:
            self.dead = self.closed = True
            self._fd = -1
            self._sock.close()

    # -- what the handler calls

    @property
    def readable(self) -> bool:
        """Whether `recv` returns at once, without asking the kernel."""
        return self._cut or self._ended or self.pending() > 0

    def read_ahead(self) -> None:
        """Take in what the kernel already has, so that no answer is overlooked when silence is judged."""
        pieces = [self._unread[self._position :]]
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while len(pieces) <= DRAIN_LIMIT // READ_AHEAD and not self._ended:
                try:
                    pieces.append(self._take())
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except OSError:
                    self._ended = True
                self._ended = self._ended or not pieces[-1]
        self._unread, self._position = b"".join(pieces), 0

    @property
    def refusal(self) -> str:
        """Which of REFUSALS ended it; "" for none of them."""
        return self.cause if self.cause in REFUSALS else ""

    def bury(self, cause: str) -> None:
        """Let no request in any more; kazoo may still read what it needs to find out why."""
        with self.gate:
            if not self.dead:
                self.cause = cause
            self.dead = True

    def cut(self, cause: str, how: int = socket.SHUT_RDWR) -> None:
        """Give the link up, from any thread: kazoo sees its end at once."""
        with self.gate:
            if self.closed:
                return
            if not self.dead:
                self.cause = cause
            self.dead = self._cut = True
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: it drops the TLS state under the reading thread.
                socket.socket.shutdown(self._sock, how)

    # -- reading

    def _take(self) -> bytes:
        try:
            data = self._sock.recv(READ_AHEAD)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except BlockingIOError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "nothing to read yet") from None
        except OSError as error:
            self._bury_by(error)
            raise
        if data:
            self._note_received(data)
            if self._verdict:  # kazoo turns AUTH_FAILED, and fails its queue, before it closes the socket
                self.bury(self._verdict)
                # An answer without a token, and kazoo would ask again, without end.
                self._cut = self._cut or self._verdict in ("sasl", "sasl_unsupported")
        return data

    def _bury_by(self, error: OSError) -> None:
        if not self.dead and isinstance(error, ssl.SSLError):
            self.error = error
        self.bury("reset")
