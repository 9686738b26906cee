"""The true time, and what is between two machines in it: ways, and the lines of clients to servers.

A ``Way`` keeps its order, may be slow, and may hold what is sent until it is released. A ``Line`` has one
in each direction: ``contender.py`` stands at one end, a server of ``majority.py`` at the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol

from network import Sent

from coordinator.core.messages import Fired, Replied
from coordinator.core.requests import Request

Deed = Callable[[], object]

QUICK = 0.004
"""Seconds for one way between two machines, unless it is slow."""


class Time:
    """The true time, and what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Deed]] = []
        self._order = count()

    def at(self, when: float, deed: Deed) -> None:
        """Have something happen at that time."""
        heappush(self._due, (when, next(self._order), deed))

    def every(self, seconds: float, deed: Deed) -> None:
        """Have something happen again and again."""

        def again() -> None:
            deed()
            self.at(self.now + seconds, again)

        self.at(self.now + seconds, again)

    @property
    def next(self) -> float:
        """When the next thing happens."""
        return self._due[0][0]

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, deed = heappop(self._due)
        deed()


class Way:
    """One direction between two machines."""

    def __init__(self, time: Time) -> None:
        self.delay = QUICK
        self.held = False
        """What is sent arrives when it is released."""
        self.closed = False
        self._time = time
        self._under_way: deque[tuple[float, Deed]] = deque()

    def send(self, deed: Deed) -> None:
        """Have something happen at the other end."""
        last = self._under_way[-1][0] if self._under_way else 0.0
        arrives = max(last, self._time.now + self.delay)
        self._under_way.append((arrives, deed))
        self._time.at(arrives, self._deliver)

    def release(self) -> None:
        """Let everything through again."""
        self.held, self.delay = False, QUICK
        self._deliver()

    def _deliver(self) -> None:
        while (
            self._under_way and self._under_way[0][0] <= self._time.now and not self.held and not self.closed
        ):
            self._under_way.popleft()[1]()


@dataclass(frozen=True)
class Connect:
    """A client asks for a session: 0 for a new one."""

    session_id: int
    seen: int
    at: float


@dataclass(frozen=True)
class Ping:
    """A client shows that it lives."""

    at: float


@dataclass(frozen=True)
class Accepted:
    """The session stands on this line."""

    session_id: int
    at: float


class Refused:
    """The session that was asked for is gone."""


class Lost:
    """The server has closed the line."""


class Gone:
    """The answer to a write of a session that is gone, or has moved."""


Item = Connect | Ping | Sent
Heard = Fired | Replied | Accepted | Refused | Ping | Lost


class Caller(Protocol):
    """Who is at one end of a line."""

    def hears(self, line: Line, message: Heard) -> None:
        """Something has arrived."""


class Host(Protocol):
    """Who is at the other end."""

    def receive(self, line: Line, item: Item) -> None:
        """Something has arrived."""

    def leave(self, line: Line) -> None:
        """It is closed."""


class Line:
    """A connection of a client to a server; for its kernel, a ``Link``."""

    def __init__(self, number: int, host: Host, client: Caller, time: Time) -> None:
        self.number = number
        self.server = host
        self.client = client
        self.up, self.down = Way(time), Way(time)
        self.session_id = 0
        """0 until it is accepted."""
        self.open = True
        self.answers = 0
        self.asked: dict[int, Request[Any]] = {}
        self.waiting: deque[Item] = deque()
        """What the server has not come to: it answers in order."""
        self.busy = False
        """The leader is asked for what came first."""

    def send(self, item: Item) -> None:
        """Send something up."""
        self.up.send(lambda: self.server.receive(self, item))

    def ask(self, sent: Sent) -> None:
        """Send a request of the kernel's."""
        self.asked[sent.request_id] = sent.request
        self.send(sent)

    def tell(self, message: Heard) -> None:
        """Send something down."""
        self.down.send(lambda: self.client.hears(self, message))

    def close(self) -> None:
        """The server closes it; the client is told."""
        if not self.up.closed:
            self.up.closed = True
            self.server.leave(self)
            self.tell(Lost())

    def leave(self) -> None:
        """The client closes it, and hears nothing more; the server is told."""
        self.open = False
        self.down.closed = True
        self.up.send(self.close)
