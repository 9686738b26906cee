"""The thread of a fault proxy: it passes on what is due, and does what it is told between two looks.

::

    FaultProxy --do(deed)--> bell --> Relay, one thread: accepts, connects, reads, keeps, passes on

A stream that is black or waits for its latency keeps what arrives, the end of the stream included, and
passes it on later; nothing is lost unless the connection is.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal

from coordinator.errors import ClosedError
from coordinator.testing.connection import CHUNK, Connection, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordinator.testing.connection import Place

__all__ = ["Relay"]

#: Seconds that the thread may take to end; it takes one pass over the sockets.
JOIN_TIMEOUT = 5.0
#: Seconds between two attempts to reach a server that is still waited for.
RETRY = 0.02


class Relay:
    """All connections of one proxy, in a thread of its own.

    What has no underscore is for the proxy: `do` and `close` from any thread, the rest only
    in a deed.

    Args:
        address: where it listens.
        where: says where the server is at this moment: families and addresses, to be tried in turn.
        connect_within: seconds for which a client's connection waits for a server that refuses.
    """

    def __init__(
        self,
        address: tuple[str, int],
        where: Callable[[], Iterable[Place]],
        connect_within: float,
    ) -> None:
        self._address = address
        self._where = where
        self._connect_within = connect_within
        self.latency = 0.0
        self.black = {"up": False, "down": False}
        self.cut_after: dict[str, int | None] = {"up": None, "down": None}
        self.connections: set[Connection] = set()
        self._orphans: set[socket.socket] = set()  # what is left of half-open connections
        self._deeds: deque[tuple[Callable[[], object], Future[None]]] = deque()
        self._lock = threading.Lock()
        self._closing = False  # under the lock: no further deeds
        self._stopped = False  # the thread's own
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._ear.settimeout(0)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        try:
            self.listen()
        except OSError:
            self._release()
            raise
        name = f"coordinator-fault-proxy-{address[1]}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def listening(self) -> bool:
        """Whether new connections are taken."""
        return self._listener is not None

    def do(self, deed: Callable[[], object], *, last: bool = False) -> None:
        """Have the thread do it, and wait until it is done."""
        done: Future[None] = Future()
        with self._lock:
            if self._closing:
                raise self._closed()
            self._closing = last
            self._deeds.append((deed, done))
            self._bell.send(b"\0")
        done.result()

    def close(self) -> None:
        """Reset all connections, stop listening, end the thread. May be called again."""
        with contextlib.suppress(ClosedError):
            self.do(self._stop, last=True)
        self._thread.join(JOIN_TIMEOUT)

    def _closed(self) -> ClosedError:
        return ClosedError(f"the fault proxy at {self._address[0]}:{self._address[1]} is closed")

    # -- in the thread

    def _run(self) -> None:
        try:
            while not self._stopped:
                for key, events in self._selector.select(self._patience()):
                    if key.fileobj is self._ear:
                        self._obey()
                    elif key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._orphans:
                        self._listen_in_vain(key.fileobj)
                    elif isinstance(key.data, Connection) and key.data in self.connections:
                        self._attend(key.data, key.fileobj, events)  # type: ignore[arg-type]
                for connection in tuple(self.connections):
                    self._serve(connection)
        finally:
            self._bury()

    def _patience(self) -> float | None:
        """Seconds until the next chunk or attempt is due; None if only a socket can bring news."""
        due = [
            stream.chunks[0][0] + self.latency
            for connection in self.connections
            for stream in (connection.up, connection.down)
            if stream.chunks and not stream.clogged and not self.black[stream.side]
        ]
        if not self.black["up"]:
            due += [connection.retry_at for connection in self.connections if connection.server is None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)
        while self._deeds:
            deed, done = self._deeds.popleft()
            try:
                deed()
            except OSError as failed:
                done.set_exception(failed)
            else:
                done.set_result(None)

    def listen(self) -> None:
        """Take new connections from now on."""
        if self._listener is None:
            listener = socket.socket()
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(self._address)
                listener.listen(128)
            except OSError:
                listener.close()
                raise
            listener.settimeout(0)
            self._listener = listener
            self._selector.register(listener, selectors.EVENT_READ)

    def deafen(self) -> None:
        """Refuse new connections from now on."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):
            client, _ = self._listener.accept()
            client.settimeout(0)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.add(Connection(client))

    def _connect(self, connection: Connection) -> None:
        if not connection.places:
            connection.places.extend(self._where())
        if not connection.places:
            self._refused(connection)
            return
        family, address = connection.places.popleft()
        try:
            server = socket.socket(family)
        except OSError:  # this machine has no such addresses
            self._refused(connection)
            return
        server.settimeout(0)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.server = server
        if server.connect_ex(address) not in (0, errno.EINPROGRESS):
            self._refused(connection)

    def _refused(self, connection: Connection) -> None:
        """The server is not to be reached: try elsewhere, or again in a moment, or reset the client's end."""
        now = time.monotonic()
        if not connection.places and now - connection.since >= self._connect_within:
            self._drop(connection, reset=True)
            return
        self._forget(connection.server)
        if connection.server is not None:
            connection.server.close()
        connection.server, connection.retry_at = None, now + (0.0 if connection.places else RETRY)

    def _attend(self, connection: Connection, end: socket.socket, events: int) -> None:
        if end is connection.server and not connection.connected:
            if end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._refused(connection)
                return
            connection.connected = True
        read, write = connection.streams(end)
        if events & selectors.EVENT_WRITE:
            write.clogged = False
        if events & selectors.EVENT_READ and not read.ended:
            try:
                read.keep(end.recv(CHUNK))
            except BlockingIOError:
                pass
            except OSError:
                read.keep(None)

    def _serve(self, connection: Connection) -> None:
        """Pass on what is due, then tell the selector what to wait for."""
        if connection.server is None and not self.black["up"] and connection.retry_at <= time.monotonic():
            self._connect(connection)
        for stream in (connection.up, connection.down):
            while connection in self.connections and self._pass(connection, stream):
                pass
        if connection in self.connections:
            self._watch(connection, connection.client)
            if connection.server is not None:
                self._watch(connection, connection.server)

    def _pass(self, connection: Connection, stream: Stream) -> bool:
        """Pass on one chunk of a stream; whether it is worth trying again."""
        sink = connection.sink(stream)
        if sink is None or stream.clogged or self.black[stream.side] or not stream.chunks:
            return False
        at, data = stream.chunks[0]
        if at + self.latency > time.monotonic():
            return False
        if data is None:
            self._drop(connection, reset=True)
            return False
        if not data:
            self._finish(connection, stream, sink)
            return False
        return self._send(connection, stream, sink, data)

    def _send(self, connection: Connection, stream: Stream, sink: socket.socket, data: bytes) -> bool:
        left = self.cut_after[stream.side]
        piece = data if left is None else data[:left]
        try:
            sent = sink.send(piece) if piece else 0
        except BlockingIOError:
            stream.clogged = True
            return False
        except OSError:
            self._drop(connection, reset=True)
            return False
        stream.passed(sent)
        if left is not None:
            self.cut_after[stream.side] = left - sent if left > sent else None
            if left <= sent:
                self._drop(connection, reset=True)
        return True

    def _finish(self, connection: Connection, stream: Stream, sink: socket.socket) -> None:
        """Pass on a FIN; the other direction may still be in use."""
        stream.passed(0)
        stream.finished = True
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if connection.up.finished and connection.down.finished:
            self._drop(connection, reset=False)

    def _watch(self, connection: Connection, end: socket.socket) -> None:
        events = connection.interest(end)
        key = self._selector.get_map().get(end)
        if key is None and events:
            self._selector.register(end, events, connection)
        elif key is not None and not events:
            self._selector.unregister(end)
        elif key is not None and key.events != events:
            self._selector.modify(end, events, connection)

    def _drop(self, connection: Connection, *, reset: bool, spare: socket.socket | None = None) -> None:
        self.connections.discard(connection)
        for end in (connection.client, connection.server):
            self._forget(end)
        connection.close(reset=reset, spare=spare)

    def _forget(self, end: socket.socket | None) -> None:
        if end is not None and self._selector.get_map().get(end) is not None:
            self._selector.unregister(end)

    def drop_all(self, *, reset: bool) -> None:
        """Break every connection, and what is left of half-open ones."""
        for connection in tuple(self.connections):
            self._drop(connection, reset=reset)
        for end in tuple(self._orphans):
            self._bury_orphan(end)

    def orphan_all(self, open_end: Literal["client", "server"]) -> None:
        """Close one end of every connection, and keep the other one open."""
        for connection in tuple(self.connections):
            end = connection.client if open_end == "client" else connection.server
            self._drop(connection, reset=False, spare=end)
            if end is not None:
                self._orphans.add(end)
                self._selector.register(end, selectors.EVENT_READ)

    def _listen_in_vain(self, end: socket.socket) -> None:
        """Read what nobody will get, until the other side gives up."""
        try:
            over = not end.recv(CHUNK)
        except BlockingIOError:
            over = False
        except OSError:
            over = True
        if over:
            self._bury_orphan(end)

    def _bury_orphan(self, end: socket.socket) -> None:
        self._orphans.discard(end)
        self._forget(end)
        end.close()

    def mend(self) -> None:
        """Break nothing any more; what stands, stands."""
        self.latency = 0.0
        self.black = dict.fromkeys(self.black, False)
        self.cut_after = dict.fromkeys(self.cut_after, None)
        for end in tuple(self._orphans):
            self._bury_orphan(end)
        self.listen()

    def _stop(self) -> None:
        self._stopped = True

    def _bury(self) -> None:
        """Leave no socket, and nobody waiting for a deed."""
        with self._lock:
            self._closing = True
        self.drop_all(reset=True)
        self.deafen()
        while self._deeds:
            self._deeds.popleft()[1].set_exception(self._closed())
        self._release()

    def _release(self) -> None:
        self._selector.close()
        self._bell.close()
        self._ear.close()
