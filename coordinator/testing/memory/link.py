"""One connection in memory: what is on its way, what is owed, and what is wrong with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from coordinator.engine.frames import PING_GRACE, SUSPECT_AFTER


@dataclass(slots=True)
class Faults:
    """What is wrong on the way of one client."""

    refuse: bool = False
    up: bool = False
    """Nothing passes from client to server."""
    down: bool = False
    """Nothing passes from server to client."""
    lose: Literal["", "request", "answer"] = ""
    """What is lost next, and the link with it."""


@dataclass(eq=False, slots=True)
class MemoryLink:
    """One connection, from its handshake on."""

    server: str
    number: int = 0
    session_id: int = 0
    timeout: float = 0.0
    contact: float = 0.0
    """When what was answered last had been sent; before that, the handshake."""
    heard: float = 0.0
    """When an answer came last."""
    read_only: bool = False
    owed: deque[float] = field(default_factory=deque)
    """When what is not answered yet was sent."""
    pinged: bool = False
    """A ping is not answered yet."""
    dead: bool = False
    """The client has given it up."""
    closed: bool = False
    """The server has closed it."""
    up: deque[Callable[[], None]] = field(default_factory=deque)
    """What is yet to arrive at the server."""
    down: deque[Callable[[], None]] = field(default_factory=deque)
    """What is yet to arrive at the client."""

    def silent_at(self) -> float:
        """Return when it is given up unless an answer comes. Source: ``frames.Frames.silent_at``."""
        return max(self.heard + self.timeout * SUSPECT_AFTER, self.owed[0] + self.timeout * PING_GRACE)
