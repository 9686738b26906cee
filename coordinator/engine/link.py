"""One TCP connection to one server: a socket for kazoo that keeps the session's clock.

kazoo's connection thread uses a `Link` as its socket. Every byte passes through here, so the link knows what
kazoo does not tell: the negotiated timeout, and the send time of the last request that was *answered*.

    ConnectRequest ->   <- ConnectResponse          timeout > 0: established;  <= 0: expired;  EOF: refused
    len|xid|type.. ->   <- len|xid|zxid|err..       xid -1 watch event, -2 ping, -4 auth, >= 1 reply

The lease clock runs from the send time of an answered frame: the server touched the session no earlier than
that. A receipt proves nothing about the client's own frames, a watch event nothing at all (facts/kazoo.md
section 5: watch events went on arriving while the server expired the session).

It must not keep or log a password, a path or data: of each frame it reads the header and forgets the rest.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import struct
import threading
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from coordinator.engine import clock

if TYPE_CHECKING:
    from collections.abc import Callable

READ_AHEAD = 64 * 1024
"""Bytes asked of the socket at once. kazoo reads a frame in two pieces, each after a select of its own;
64 KiB hold some 500 small replies, read with one system call (facts/kazoo.md section 9: 19k, not 12k/s)."""

DRAIN_LIMIT = 16 * 1024 * 1024
"""Bytes read at most while looking for an answer that would disprove a silence; more than a kernel's largest
default receive buffer (tcp_rmem: 6 MiB)."""

SUSPECT_AFTER = 2 / 3
"""Part of the timeout without an answer after which the link is given up. Source: kazoo's and the Java
client's read timeout (ClientCnxn.onConnected: readTimeout = negotiated * 2 / 3), leaving a third to reach
another server."""

PING_GRACE = 1 / 3
"""Part of the timeout that any frame is given to be answered, however old the last contact is: after a stall
of this process the first ping must not be judged by the age of what was sent before the stall."""

_REQUEST = struct.Struct("!iii")  # length, xid, type
_REPLY = struct.Struct("!iiqi")  # length, xid, zxid, error
_CONNECTED = struct.Struct("!iiiqi")  # length, protocol, timeout in ms, session id, length of the password
_LENGTH = struct.Struct("!i")

# ZooDefs.OpCode, ClientCnxn.*_XID and KeeperException.Code of the Java client.
_WATCH_XID, _PING_XID, _AUTH_XID = -1, -2, -4
_CLOSE = -11
_SESSION_EXPIRED, _AUTH_FAILED, _SESSION_MOVED = -112, -115, -118
_LARGEST_HANDSHAKE = 1024


class Link:
    """A connected socket as kazoo's connection thread uses it, with clocks.

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
        cause: why it died: "closed" (by the server), "reset", "timeout", "silence", "expired", "auth",
            "closing" (by us), "cut" (by us, without ceremony); "" while it lives.
        timeout: negotiated, in seconds; None before the ConnectResponse.
        contact: when the last answered frame was sent, by `clock.now`; -inf before the ConnectResponse.
        last_zxid: highest zxid of a reply read off the socket. It may be one read-ahead ahead of what kazoo
            has handed on: a watch is re-armed relative to kazoo's `client.last_zxid`, never to this.
        rtt: round trip of the last answered ping, in seconds.
        patience: seconds without contact after which `silent_at` is worth computing.
        writable: False between a full socket buffer and the next poll.
    """

    def __init__(
        self, sock: socket.socket, server: str, on_heartbeat: Callable[[float, float], None] | None = None
    ) -> None:
        self.server = server
        self.gate = threading.Lock()
        self.dead = False
        self.closed = False
        self.cause = ""
        self.established = False
        self.expired = False
        self.timeout: float | None = None
        self.session_id: int | None = None
        self.read_only = False
        self.contact = -inf
        self.patience = inf
        self.last_zxid = 0
        self.rtt: float | None = None
        self.frames_in = 0
        self.frames_out = 0
        self.writable = True
        self._sock = sock
        self._fd = sock.fileno()
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._on_heartbeat = on_heartbeat
        self._cut = False
        self._ended = False
        self._unread = b""
        self._position = 0
        self._head_in = b""
        self._skip_in = 0
        self._head_out = b""
        self._skip_out = 0
        self._begun_out: float | None = None
        self._replies: deque[float] = deque()
        self._pings: deque[float] = deque()
        self._auths: deque[float] = deque()
        self._sent_to = self._replies
        self._intelligible = True

    # -- what kazoo calls --------------------------------------------------------------------------------

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
        if not self.dead:
            self._close_gate_on(data)
        at = clock.now()
        try:
            sent = self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.writable = False
            raise
        except BlockingIOError:
            self.writable = False
            raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "socket buffer is full") from None
        except OSError:
            self.bury("reset")
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

    # -- what the handler calls --------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """Whether `recv` returns at once, without asking the kernel."""
        return self._cut or self._ended or self.pending() > 0

    @property
    def outstanding(self) -> int:
        """Frames sent and not yet answered, pings included."""
        return len(self._replies) + len(self._pings) + len(self._auths)

    @property
    def ping_outstanding(self) -> bool:
        """Whether a ping is unanswered; kazoo drops such a link after an idle select."""
        return bool(self._pings)

    def silent_at(self) -> float:
        """When, by `clock.now`, the link is to be given up; inf when it owes us nothing."""
        if not self.established or self.timeout is None:
            return inf
        waiting = [queue[0] for queue in (self._replies, self._pings, self._auths) if queue]
        if self._begun_out is not None:
            waiting.append(self._begun_out)
        if not waiting:
            return inf
        return max(self.contact + self.timeout * SUSPECT_AFTER, min(waiting) + self.timeout * PING_GRACE)

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

    # -- the wire ----------------------------------------------------------------------------------------

    def _take(self) -> bytes:
        try:
            data = self._sock.recv(READ_AHEAD)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except BlockingIOError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "nothing to read yet") from None
        except OSError:
            self.bury("reset")
            raise
        if data:
            self._note_received(data)
        return data

    def _close_gate_on(self, data: bytes | bytearray | memoryview) -> None:
        """Die before a CloseSession goes out: what would be queued behind it is never answered."""
        begins = self.established and not self._skip_out and not self._head_out
        if begins and len(data) == _REQUEST.size and _REQUEST.unpack(data)[2] == _CLOSE:
            self.bury("closing")

    def _note_sent(self, data: bytes | bytearray | memoryview, sent: int, at: float) -> None:
        """Note each frame that these bytes complete as sent `at`, just before the call that did so."""
        if not self._skip_out and not self._head_out and self.frames_out and sent >= _REQUEST.size:
            length, xid, _ = _REQUEST.unpack_from(data)
            if length + 4 == sent:  # the common case: one call of kazoo's, one frame
                self.frames_out += 1
                (self._replies if xid >= 0 else self._queue_of(xid)).append(at)
                return
        self._note_pieces(bytes(data[:sent]), at)

    def _note_pieces(self, data: bytes, at: float) -> None:
        while data:
            if self._begun_out is None:
                self._begun_out = at
            if not self._skip_out:
                needed = _REQUEST.size - len(self._head_out)
                self._head_out, data = self._head_out + data[:needed], data[needed:]
                if len(self._head_out) < _REQUEST.size:
                    return
                length, xid, _ = _REQUEST.unpack(self._head_out)
                self._head_out = b""
                self._sent_to = self._queue_of(xid) if self.frames_out else self._replies
                self._skip_out = max(0, length + 4 - _REQUEST.size)
            else:
                step = min(self._skip_out, len(data))
                self._skip_out, data = self._skip_out - step, data[step:]
            if not self._skip_out:
                self.frames_out += 1
                self._sent_to.append(at)
                self._begun_out = None

    def _queue_of(self, xid: int) -> deque[float]:
        if xid == _PING_XID:
            return self._pings
        return self._auths if xid == _AUTH_XID else self._replies

    def _note_received(self, data: bytes) -> None:
        """Read the headers in the next bytes of the stream, wherever it was torn."""
        if not self._intelligible:
            return
        position = self._skip_in
        end = len(data)
        if position >= end:
            self._skip_in = position - end
            return
        if self._head_in:
            data = self._head_in + data  # position is 0: the last piece ended inside a header
            end = len(data)
        if not self.frames_in:
            position = self._note_handshake(data)
        while end - position >= _REPLY.size and self._intelligible and self.frames_in:
            length, xid, zxid, error = _REPLY.unpack_from(data, position)
            self.frames_in += 1
            if xid >= 0:
                self._answered(self._replies, error)
                if zxid > self.last_zxid:
                    self.last_zxid = zxid
            elif xid != _WATCH_XID:
                self._answered_special(xid, error)
            position += 4 + length
            self._intelligible = length >= _REPLY.size - 4
        self._head_in = data[position:] if self._intelligible else b""
        self._skip_in = max(0, position - end)

    def _note_handshake(self, data: bytes) -> int:
        """Read the ConnectResponse if it is complete; where the next frame begins."""
        if len(data) < _CONNECTED.size:
            return 0
        length: int
        length, _, timeout, session_id, password = _CONNECTED.unpack_from(data)
        if not _CONNECTED.size - 4 <= length <= _LARGEST_HANDSHAKE:
            self._intelligible = False  # not ZooKeeper; kazoo drops it
            return 0
        if len(data) < 4 + length:
            return 0
        self.frames_in = 1
        if timeout <= 0:
            self.expired = True
            self.bury("expired")
            return 4 + length
        self.session_id = session_id
        self.timeout = timeout / 1000.0
        flag = _CONNECTED.size + max(0, password)
        self.read_only = flag < 4 + length and data[flag] != 0
        self.contact = self._replies.popleft() if self._replies else -inf
        self.patience = self.timeout * SUSPECT_AFTER
        self.established = True
        return 4 + length

    def _answered(self, queue: deque[float], error: int) -> None:
        if not queue:
            return
        at = queue.popleft()
        if at > self.contact and error != _SESSION_EXPIRED and error != _SESSION_MOVED:
            self.contact = at
        if error == _AUTH_FAILED:  # kazoo turns AUTH_FAILED, and fails its queue, before it closes the socket
            self.bury("auth")

    def _answered_special(self, xid: int, error: int) -> None:
        if xid == _PING_XID and self._pings:
            at = self._pings[0]
            self.rtt = clock.now() - at
            self._answered(self._pings, error)
            if self._on_heartbeat is not None:
                self._on_heartbeat(self.rtt, at)
        elif xid == _AUTH_XID:
            self._answered(self._auths, error)
            if error:
                self.bury("auth")
        else:
            self._answered(self._replies, error)
