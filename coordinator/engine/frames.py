"""The frames of one connection, by their headers: what was sent, what was answered, and when.

`Ledger` is fed the bytes of both directions as they pass, however they are torn, and keeps what kazoo does
not tell: the negotiated timeout, and the send time of the last request that was *answered*.

    ConnectRequest ->   <- ConnectResponse          timeout > 0: established;  <= 0: expired;  EOF: refused
    len|xid|type.. ->   <- len|xid|zxid|err..       xid -1 watch event, -2 ping, -4 auth, >= 1 reply

The lease clock runs from the send time of an answered frame: the server touched the session no earlier than
that. A receipt proves nothing about the client's own frames, a watch event nothing at all (measured with
kazoo 2.11.0: watch events went on arriving while the server expired the session).

It must not touch a socket, and must not keep or log a password, a path or data: of each frame it reads the
header and forgets the rest.
"""

from __future__ import annotations

import struct
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from coordinator.engine import clock

if TYPE_CHECKING:
    from collections.abc import Callable

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

# ZooDefs.OpCode, ClientCnxn.*_XID and KeeperException.Code of the Java client.
_WATCH_XID, _PING_XID, _AUTH_XID = -1, -2, -4
_CLOSE, _SASL = -11, 102
_SESSION_EXPIRED, _AUTH_FAILED, _SESSION_MOVED, _AUTH_REQUIRED = -112, -115, -118, -124
_NO_TOKEN = _REPLY.size - 4 + 4
"""Length of an answer to SASL that carries no token: the length of none, after the header."""

REFUSALS = {
    "auth": "the server refused a credential of `auth`, or does not know its scheme",
    "sasl": "the server refused the SASL user name or password",
    "sasl_unsupported": "the server is not configured for SASL, or not for DIGEST-MD5",
    "auth_required": "the server demands an authentication that was not given",
}
"""What a server may say that ends a link because of who we are; no other link would end otherwise."""
_LARGEST_HANDSHAKE = 1024


class Ledger:
    """The book of one connection. Written by the connection thread alone; all attributes are for any thread.

    Args:
        on_heartbeat: called in the connection thread with the round trip of each answered ping and the time
            at which it was sent.

    Attributes:
        established: the server has confirmed the session.
        expired: the server has refused the session, because it has expired.
        timeout: negotiated, in seconds; None before the ConnectResponse.
        session_id: as confirmed; None before the ConnectResponse.
        read_only: the server has no quorum and only reads.
        contact: when the last answered frame was sent, by `clock.now`; -inf before the ConnectResponse.
        last_zxid: highest zxid of a reply read off the socket. It may be one read-ahead ahead of what kazoo
            has handed on: a watch is re-armed relative to kazoo's `client.last_zxid`, never to this.
        rtt: round trip of the last answered ping, in seconds.
        heard: when an answer last came, by `clock.now`; -inf before the first.
        patience: seconds without contact after which `silent_at` is worth computing.
        frames_in: frames of which the header has been read.
        frames_out: frames sent in full.
    """

    def __init__(self, on_heartbeat: Callable[[float, float], None] | None = None) -> None:
        self.established = False
        self.expired = False
        self.timeout: float | None = None
        self.session_id: int | None = None
        self.read_only = False
        self.contact = -inf
        self.heard = -inf
        self.patience = inf
        self.last_zxid = 0
        self.rtt: float | None = None
        self.frames_in = 0
        self.frames_out = 0
        self._on_heartbeat = on_heartbeat
        self._verdict = ""  # what the server said that ends the link: "expired", or one of REFUSALS
        self._head_in = b""
        self._skip_in = 0
        self._head_out = b""
        self._skip_out = 0
        self._begun_out: float | None = None
        self._replies: deque[float] = deque()
        self._pings: deque[float] = deque()
        self._auths: deque[float] = deque()
        self._sasls: deque[float] = deque()
        self._sasl_answers = 0
        self._sent_to = self._replies
        self._intelligible = True

    @property
    def outstanding(self) -> int:
        """Frames sent and not yet answered, pings included."""
        return len(self._replies) + len(self._pings) + len(self._auths) + len(self._sasls)

    @property
    def ping_outstanding(self) -> bool:
        """Whether a ping is unanswered; kazoo drops such a link after an idle select."""
        return bool(self._pings)

    def silent_at(self) -> float:
        """When, by `clock.now`, the link is to be given up; inf when it owes us nothing.

        Counted from when an answer was last heard, not from when what it answers was sent:
        a link that is slow, but answers, is not given up.
        """
        if not self.established or self.timeout is None:
            return inf
        waiting = [queue[0] for queue in (self._replies, self._pings, self._auths, self._sasls) if queue]
        if self._begun_out is not None:
            waiting.append(self._begun_out)
        if not waiting:
            return inf
        heard = max(self.contact, self.heard)
        return max(heard + self.timeout * SUSPECT_AFTER, min(waiting) + self.timeout * PING_GRACE)

    # -- what is sent

    def _closes(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether these bytes, the next to be sent, are a CloseSession."""
        begins = self.established and not self._skip_out and not self._head_out
        return begins and len(data) == _REQUEST.size and _REQUEST.unpack(data)[2] == _CLOSE

    def _note_sent(self, data: bytes | bytearray | memoryview, sent: int, at: float) -> None:
        """Note each frame that these bytes complete as sent `at`, just before the call that did so."""
        if not self._skip_out and not self._head_out and self.frames_out and sent >= _REQUEST.size:
            length, xid, kind = _REQUEST.unpack_from(data)
            if length + 4 == sent:  # the common case: one call of kazoo's, one frame
                self.frames_out += 1
                self._queue_of(xid, kind).append(at)
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
                length, xid, kind = _REQUEST.unpack(self._head_out)
                self._head_out = b""
                self._sent_to = self._queue_of(xid, kind) if self.frames_out else self._replies
                self._skip_out = max(0, length + 4 - _REQUEST.size)
            else:
                step = min(self._skip_out, len(data))
                self._skip_out, data = self._skip_out - step, data[step:]
            if not self._skip_out:
                self.frames_out += 1
                self._sent_to.append(at)
                self._begun_out = None

    def _queue_of(self, xid: int, kind: int) -> deque[float]:
        if xid >= 0:
            return self._sasls if kind == _SASL else self._replies
        if xid == _PING_XID:
            return self._pings
        return self._auths if xid == _AUTH_XID else self._replies

    # -- what is received

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
                if self._sasls:  # kazoo sends nothing else before SASL is done
                    self._answered_sasl(length, error)
                else:
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
            self._verdict = "expired"
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
            self.heard = clock.now()
        if error == _AUTH_FAILED:
            self._verdict = self._verdict or "auth"
        elif error == _AUTH_REQUIRED:
            self._verdict = self._verdict or "auth_required"

    def _answered_sasl(self, length: int, error: int) -> None:
        self._sasl_answers += 1
        if error:
            self._verdict = self._verdict or "sasl"
        elif length == _NO_TOKEN:
            # A server without SASL answers like that for ever, and kazoo goes on asking; one that lets
            # clients in whom it could not authenticate does, too, after the first answer.
            self._verdict = self._verdict or ("sasl" if self._sasl_answers > 1 else "sasl_unsupported")
        self._answered(self._sasls, 0)

    @property
    def authenticating(self) -> bool:
        """Whether SASL has begun, and its last step was not answered yet."""
        return bool(self._sasls)

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
                self._verdict = self._verdict or "auth"
        else:
            self._answered(self._replies, error)
