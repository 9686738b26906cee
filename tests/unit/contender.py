"""A member whose link is a line to an ensemble in time: its client connects, pings and gives up by itself."""

from __future__ import annotations

from collections import deque
from math import inf

from lines import Accepted, Connect, Heard, Line, Lost, Ping, Refused
from majority import Majority, Peer
from member import TIMEOUT, Member

from coordinator.core.messages import Fired, Replied
from coordinator.core.session import Beat, Expired, LinkDown, LinkUp, Tick

BEGAN = 1000.0
"""What its clock says at the beginning."""
PULSE = 0.5
"""Seconds between two looks of the client at its line."""
PATIENCE = TIMEOUT / 3
"""Seconds after which it pings, or gives up a server that does not accept it."""
SILENCE = TIMEOUT * 2 / 3
"""Seconds without an answer after which it gives up a line."""


class Contender(Member):
    """A kernel, its clock, and the client below it.

    Args:
        name: of it.
        ensemble: where it connects to.
        home: the server that it tries first.
        rate: how fast its clock goes.
        tick: what it knows of the servers' tickTime.
    """

    def __init__(self, name: str, ensemble: Majority, home: int, *, rate: float, tick: float | None) -> None:
        self.frozen = False
        """Its process stands still."""
        self._ensemble = ensemble
        self._time = ensemble.time
        self._rate = rate
        self._home = home
        self.line: Line | None = None
        self._tried_at = self._pinged_at = 0.0
        self._missed: deque[tuple[Line, Heard]] = deque()
        super().__init__(name, ensemble.books, tick=tick)
        self._connect()
        self._time.every(PULSE, self._pulse)

    @property
    def peer(self) -> Peer:
        """The server that it is connected to, or tries."""
        return self._ensemble.peers[self._home]

    # -- time

    @property
    def clock(self) -> float:
        """What its clock says."""
        return max(self.now, BEGAN + self._rate * self._time.now)

    @property
    def due(self) -> float:
        """When its kernel wants to be woken, in true time."""
        deadline = self.kernel.deadline()
        return inf if deadline is None or self.frozen else self.truly(deadline)

    def truly(self, reading: float) -> float:
        """Return the true time at which its clock says that."""
        return (reading - BEGAN) / self._rate

    def wake(self) -> None:
        """Tell the kernel what time it is."""
        self.now = max(self.clock, self.kernel.deadline() or 0.0)
        self.say(Tick(self.contact if self.link is not None else 0.0))

    def freeze(self, seconds: float) -> None:
        """Have its process stand still for that long; what comes meanwhile is found afterwards."""
        if not self.frozen:
            self.frozen = True
            self._time.at(self._time.now + seconds, self._thaw)

    def _thaw(self) -> None:
        self.frozen = False
        while self._missed:
            self.hears(*self._missed.popleft())
        self.now = self.clock
        self.say(Tick(self.contact if self.link is not None else 0.0))

    # -- the client

    def move(self, home: int) -> None:
        """Go to another server."""
        self._home = home
        self._break()
        self._connect()

    def _connect(self) -> None:
        self.now = self._tried_at = self.clock
        line = self.line = Line(self.token(), self.peer, self, self._time)
        line.send(Connect(self.session_id, self._seen if self.session_id else 0, self.now))

    def _break(self) -> None:
        self.now = self.clock
        if self.line is not None:
            self.line.leave()
            self.line = None
        if self.link is not None:
            self.link = None
            self.say(LinkDown(self.contact))

    def _pulse(self) -> None:
        if self.frozen:
            return
        waited = self.clock - (self.contact if self.link is not None else self._tried_at)
        if self.line is None or waited > (PATIENCE if self.link is None else SILENCE):
            self.move((self._home + 1) % len(self._ensemble.peers))
        elif self.link is not None and self.clock - self._pinged_at > PATIENCE:
            self._pinged_at = self.clock
            self.line.send(Ping(self.clock))

    def hears(self, line: Line, message: Heard) -> None:
        """Something has come down a line."""
        if self.frozen:
            self._missed.append((line, message))
            return
        if line is not self.line:
            return
        self.now = self.clock
        match message:
            case Accepted(session_id=session_id, at=at):
                self.session_id, self.link, self.contact = session_id, line, max(self.contact, at)  # type: ignore[assignment]
                self._seen = self._seen if session_id in self.sessions else 0
                self.sessions.add(session_id)
                self.say(LinkUp(session_id, TIMEOUT, self.peer.name, False, at, line.number))
            case Refused():
                self.session_id = 0
                self.say(Expired())
                self.move(self._home)
            case Ping(at=at):
                self.contact = max(self.contact, at)
                self.say(Beat(self.now - at, at))
            case Lost():
                line.open = False
                self._break()
            case Fired() | Replied():
                self.take(message)
