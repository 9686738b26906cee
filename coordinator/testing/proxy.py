"""A TCP proxy that breaks on command: faults on the wire without root or kernel modules.

One thread serves all connections (testing/connection.py). A knob that was set has taken effect when
the assignment returns: the thread itself turns it, between two looks at the sockets.

A stream that is black or waits for its latency keeps what arrives, the end of the stream
included, and passes it on later; nothing is lost unless the connection is.
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
from typing import TYPE_CHECKING, Any, Literal, Self

from coordinator.errors import ClosedError
from coordinator.testing.connection import CHUNK, Connection, Stream
from coordinator.testing.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FaultProxy"]

#: Seconds that the thread may take to end; it takes one pass over the sockets.
JOIN_TIMEOUT = 5.0
#: Seconds between two attempts to reach a server that is still waited for.
RETRY = 0.02


class FaultProxy:
    """A proxy in front of a server, with knobs for faults.

    As a context manager it is closed on exit, with its thread and all sockets.

    Args:
        host: the server's host.
        port: the server's port.
        listen: where it listens itself, an IPv4 address and a port; unless given, a free
            port of 127.0.0.1. With other addresses of 127/8, one name can have several.
        connect_within: seconds for which a client's connection waits for a server that refuses
            it; 0: it is reset at once.

    Raises:
        OSError: if the host cannot be resolved, or it cannot listen there.
    """

    def __init__(
        self, host: str, port: int, *, listen: tuple[str, int] | None = None, connect_within: float = 0.0
    ) -> None:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self._family, self._target = family, target
        self._upstream = f"{host}:{port}"
        self._host, self._port = listen or ("127.0.0.1", free_port())
        self._connect_within = connect_within
        self._latency = 0.0
        self._black = {"up": False, "down": False}
        self._cut_after: dict[str, int | None] = {"up": None, "down": None}
        self._connections: set[Connection] = set()
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
        self._listen()
        self._thread = threading.Thread(
            target=self._run, name=f"coordinator-fault-proxy-{self._port}", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect to."""
        return self._host, self._port

    @property
    def port(self) -> int:
        """The port that clients connect to; stays the same while `refuse` is set."""
        return self._port

    @property
    def hosts(self) -> str:
        """The connection string for clients, such as ``127.0.0.1:PORT``."""
        return f"{self._host}:{self._port}"

    @property
    def connections(self) -> int:
        """How many connections of clients are open, those that wait for the server included."""
        return len(self._connections)

    @property
    def latency(self) -> float:
        """Seconds by which each chunk is late, in each direction."""
        return self._latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._do(lambda: setattr(self, "_latency", seconds))

    @property
    def blackhole(self) -> bool:
        """Nothing passes in either direction, connections stay open: a pulled cable."""
        return self._black["up"] and self._black["down"]

    @blackhole.setter
    def blackhole(self, black: bool) -> None:
        self._do(lambda: self._black.update(up=black, down=black))

    @property
    def blackhole_up(self) -> bool:
        """Nothing passes from client to server; new connections are not passed on either."""
        return self._black["up"]

    @blackhole_up.setter
    def blackhole_up(self, black: bool) -> None:
        self._do(lambda: self._black.update(up=black))

    @property
    def blackhole_down(self) -> bool:
        """Nothing passes from server to client: requests arrive, answers do not."""
        return self._black["down"]

    @blackhole_down.setter
    def blackhole_down(self, black: bool) -> None:
        self._do(lambda: self._black.update(down=black))

    @property
    def refuse(self) -> bool:
        """New connections are refused; those that stand are left alone."""
        return self._listener is None

    @refuse.setter
    def refuse(self, refused: bool) -> None:
        self._do(self._deafen if refused else self._listen)

    @property
    def cut_after_up(self) -> int | None:
        """Bytes from client to server until the connection is reset; None again when it was."""
        return self._cut_after["up"]

    @cut_after_up.setter
    def cut_after_up(self, count: int | None) -> None:
        self._do(lambda: self._cut_after.update(up=count))

    @property
    def cut_after_down(self) -> int | None:
        """Bytes from server to client until the connection is reset; None again when it was."""
        return self._cut_after["down"]

    @cut_after_down.setter
    def cut_after_down(self, count: int | None) -> None:
        self._do(lambda: self._cut_after.update(down=count))

    def reset_all(self) -> None:
        """Break every connection by RST, to both sides; what was kept is lost."""
        self._do(lambda: self._drop_all(reset=True))

    def cut(self) -> None:
        """End every connection by FIN, to both sides; what was kept is lost."""
        self._do(lambda: self._drop_all(reset=False))

    def half_open(self, *, open_end: Literal["client", "server"] = "server") -> None:
        """End every connection by FIN at one end; the other one stays open and silent.

        Who is there believes in them for as long as he can do without an answer: half-open
        connections (RFC 9293, 3.5.1). `cut`, `reset_all` and `mend` end them there as well.
        """
        self._do(lambda: self._orphan_all(open_end))

    def mend(self) -> None:
        """Break nothing any more: all knobs as they were in the beginning; what stands, stands."""
        self._do(self._mend)

    def close(self) -> None:
        """Reset all connections, stop listening, end the thread. May be called again."""
        with contextlib.suppress(ClosedError):
            self._do(self._stop, last=True)
        self._thread.join(JOIN_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultProxy {self.hosts} -> {self._upstream}>"

    def _do(self, deed: Callable[[], object], *, last: bool = False) -> None:
        """Have the thread do it, and wait until it is done."""
        done: Future[None] = Future()
        with self._lock:
            if self._closing:
                raise ClosedError(f"the fault proxy at {self.hosts} is closed")
            self._closing = last
            self._deeds.append((deed, done))
            self._bell.send(b"\0")
        done.result()

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
                    elif isinstance(key.data, Connection) and key.data in self._connections:
                        self._attend(key.data, key.fileobj, events)  # type: ignore[arg-type]
                for connection in tuple(self._connections):
                    self._serve(connection)
        finally:
            self._bury()

    def _patience(self) -> float | None:
        """Seconds until the next chunk or attempt is due; None if only a socket can bring news."""
        due = [
            stream.chunks[0][0] + self._latency
            for connection in self._connections
            for stream in (connection.up, connection.down)
            if stream.chunks and not stream.clogged and not self._black[stream.side]
        ]
        if not self._black["up"]:
            due += [connection.retry_at for connection in self._connections if connection.server is None]
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

    def _listen(self) -> None:
        if self._listener is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            listener.listen(128)
            listener.settimeout(0)
            self._listener = listener
            self._selector.register(listener, selectors.EVENT_READ)

    def _deafen(self) -> None:
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
            self._connections.add(Connection(client))

    def _where(self) -> tuple[Any, ...] | None:
        """Where the server is at this moment; None if it is nowhere."""
        return self._target

    def _connect(self, connection: Connection) -> None:
        server = socket.socket(self._family)
        server.settimeout(0)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.server = server
        where = self._where()
        if where is None or server.connect_ex(where) not in (0, errno.EINPROGRESS):
            self._refused(connection)

    def _refused(self, connection: Connection) -> None:
        """The server is not to be reached: reset the client's connection, or try again in a moment."""
        now = time.monotonic()
        if now - connection.since >= self._connect_within:
            self._drop(connection, reset=True)
            return
        self._forget(connection.server)
        if connection.server is not None:
            connection.server.close()
        connection.server, connection.retry_at = None, now + RETRY

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
        if connection.server is None and not self._black["up"] and connection.retry_at <= time.monotonic():
            self._connect(connection)
        for stream in (connection.up, connection.down):
            while connection in self._connections and self._pass(connection, stream):
                pass
        if connection in self._connections:
            self._watch(connection, connection.client)
            if connection.server is not None:
                self._watch(connection, connection.server)

    def _pass(self, connection: Connection, stream: Stream) -> bool:
        """Pass on one chunk of a stream; whether it is worth trying again."""
        sink = connection.sink(stream)
        if sink is None or stream.clogged or self._black[stream.side] or not stream.chunks:
            return False
        at, data = stream.chunks[0]
        if at + self._latency > time.monotonic():
            return False
        if data is None:
            self._drop(connection, reset=True)
            return False
        if not data:
            self._finish(connection, stream, sink)
            return False
        return self._send(connection, stream, sink, data)

    def _send(self, connection: Connection, stream: Stream, sink: socket.socket, data: bytes) -> bool:
        left = self._cut_after[stream.side]
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
            self._cut_after[stream.side] = left - sent if left > sent else None
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
        self._connections.discard(connection)
        for end in (connection.client, connection.server):
            self._forget(end)
        connection.close(reset=reset, spare=spare)

    def _forget(self, end: socket.socket | None) -> None:
        if end is not None and self._selector.get_map().get(end) is not None:
            self._selector.unregister(end)

    def _drop_all(self, *, reset: bool) -> None:
        for connection in tuple(self._connections):
            self._drop(connection, reset=reset)
        for end in tuple(self._orphans):
            self._bury_orphan(end)

    def _orphan_all(self, open_end: Literal["client", "server"]) -> None:
        for connection in tuple(self._connections):
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

    def _mend(self) -> None:
        self._latency = 0.0
        self._black = dict.fromkeys(self._black, False)
        self._cut_after = dict.fromkeys(self._cut_after, None)
        for end in tuple(self._orphans):
            self._bury_orphan(end)
        self._listen()

    def _stop(self) -> None:
        self._stopped = True

    def _bury(self) -> None:
        """Leave no socket, and nobody waiting for a deed."""
        with self._lock:
            self._closing = True
        self._drop_all(reset=True)
        self._deafen()
        while self._deeds:
            self._deeds.popleft()[1].set_exception(ClosedError(f"the fault proxy at {self.hosts} is closed"))
        self._selector.close()
        self._bell.close()
        self._ear.close()
