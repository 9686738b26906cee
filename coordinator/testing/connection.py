"""A connection through the fault proxy: two sockets, and what is under way between them.

::

    client ==== up ====>  | chunks, each with its time of arrival |  ====> server
    client <=== down ===  | chunks, each with its time of arrival |  <==== server

It keeps and tells; when anything is read or passed on is for the proxy to say.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections import deque
from typing import Any

#: Bytes that a stream keeps before it stops to read, as a full socket buffer would.
KEPT_MOST = 1 << 20
CHUNK = 65536
#: Closing a socket that lingers for 0 s sends RST instead of FIN (socket(7), SO_LINGER).
LINGER_NONE = struct.pack("ii", 1, 0)

#: A family of addresses, and one of them as the module `socket` has it.
Place = tuple[int, tuple[Any, ...]]


class Stream:
    """One direction of a connection: what was read and not passed on yet."""

    def __init__(self, side: str) -> None:
        self.side = side
        # Time of arrival, then bytes; b"" stands for FIN, None for RST.
        self.chunks: deque[tuple[float, bytes | None]] = deque()
        self.kept = 0
        self.ended = False  # no more will be read
        self.finished = False  # the FIN was passed on
        self.clogged = True  # the sink takes nothing now

    def keep(self, data: bytes | None) -> None:
        """Take in what was read; b"" for FIN, None for RST."""
        self.chunks.append((time.monotonic(), data))
        self.kept += len(data or b"")
        self.ended = not data

    def passed(self, count: int) -> None:
        """Forget what was passed on: `count` bytes of the first chunk."""
        at, data = self.chunks.popleft()
        self.kept -= count
        if data and count < len(data):
            self.chunks.appendleft((at, data[count:]))


class Connection:
    """A client's socket, the server's socket once there is one, and two streams."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.connected = False
        self.places: deque[Place] = deque()  # where it is still to be tried
        self.since = self.retry_at = time.monotonic()
        self.up = Stream("up")
        self.down = Stream("down")
        self.down.clogged = False

    def sink(self, stream: Stream) -> socket.socket | None:
        """Where the stream goes; None as long as there is no server."""
        return self.server if stream is self.up else self.client

    def streams(self, end: socket.socket) -> tuple[Stream, Stream]:
        """The stream that is read from one of the two sockets, and the one that is written to it."""
        return (self.up, self.down) if end is self.client else (self.down, self.up)

    def interest(self, end: socket.socket) -> int:
        """What the selector shall tell about one of the two sockets."""
        read, write = self.streams(end)
        events = 0
        if end is self.server and not self.connected:
            return selectors.EVENT_WRITE
        if not read.ended and read.kept < KEPT_MOST:
            events |= selectors.EVENT_READ
        if write.clogged:
            events |= selectors.EVENT_WRITE
        return events

    def close(self, *, reset: bool, spare: socket.socket | None = None) -> None:
        """Close both sockets but the one to spare, by RST or by FIN."""
        for end in (self.client, self.server):
            if end is None or end is spare:
                continue
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
                else:
                    # With unread bytes a close would send RST.
                    end.shutdown(socket.SHUT_WR)
                    while end.recv(CHUNK):
                        pass
            end.close()
