"""What an engine stands on: a clock, an inbox and a port. The one seam where all three can be others.

::

    Engine --take, until when--> Inbox <--put-- callers, port
           --send, start, stop-> Port  ---> ZooKeeper: kazoo's client, or an ensemble in memory
           --now, moment-------> Clock

``KazooWiring`` is what every coordinator has; ``coordinator.testing.memory`` brings another.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from coordinator.core.intent import Intent
from coordinator.core.messages import Message, Moment
from coordinator.core.requests import Request
from coordinator.engine import clock
from coordinator.engine.port import KazooPort
from coordinator.settings import Settings

OVERDUE = 5.0
"""Seconds after a deadline at which a call no longer trusts the engine to answer it."""


class Clock(Protocol):
    """What time it is, for deadlines and for whoever reads an event."""

    unanswered: str
    """Why a call might get no answer at all, not even that it is too late: for the message."""

    def now(self) -> float:
        """Return the reading that deadlines are given in, seconds."""
        ...

    def moment(self) -> Moment:
        """Return all that the kernel has to know of this moment."""
        ...

    def patience(self, timeout: float) -> float:
        """Return the seconds of the system's clock for which a call with that limit is waited for."""
        ...


class Inbox(Protocol):
    """Messages to one engine, in the order in which they were put."""

    def put(self, message: Message) -> None:
        """Leave a message; from any thread, never blocks."""
        ...

    def take(self, until: float | None) -> Message | None:
        """Return the next message, or None at that time; None: wait without limit."""
        ...

    def get_nowait(self) -> Message:
        """Return the next message at once.

        Raises:
            queue.Empty: there is none.
        """
        ...


class Following(Protocol):
    """Follows the ensemble when it is reconfigured."""

    @property
    def census(self) -> Intent:
        """The intent that reads the configuration."""
        ...

    def configured(self) -> None:
        """The configuration was read anew."""
        ...

    def forget(self) -> None:
        """The user gave other servers."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Port(Protocol):
    """The way down: requests go in, signals and replies come out into the inbox, in their order."""

    @property
    def adopted(self) -> bool:
        """Whether the session is somebody else's, and lives on when this ends."""
        ...

    @property
    def client(self) -> Any:
        """Kazoo's client of the moment."""
        ...

    @property
    def hosts(self) -> str:
        """The servers that are tried now, with the chroot."""
        ...

    def start(self) -> None:
        """Begin to connect; return at once."""
        ...

    def rebuild(self) -> None:
        """Connect by a new client, on the same session."""
        ...

    def stop(self) -> None:
        """End the session, if there is a link, in bounded time."""
        ...

    def send(self, request_id: int, request: Request[Any], number: int) -> bool:
        """Send a request on the link of that number; False: it is gone, nothing was sent."""
        ...

    def contact(self, session_id: int) -> float:
        """Return when the last answered request of that session was sent."""
        ...

    def give(self, servers: Sequence[tuple[str, int]]) -> None:
        """Try these servers from now on."""
        ...

    def follower(self, token: int) -> Following:
        """Return what follows the ensemble; its intent has that token."""
        ...


class Wiring(Protocol):
    """What one engine is given to stand on."""

    @property
    def clock(self) -> Clock:
        """Its clock."""
        ...

    @property
    def inbox(self) -> Inbox:
        """Its inbox."""
        ...

    def port(self, settings: Settings, name: str) -> Port:
        """Return its port; ``name`` is the prefix of the names of its threads."""
        ...


class SystemClock:
    """The clock of this machine."""

    unanswered = "a fault of coordinator itself, or the process was stopped"

    def now(self) -> float:
        """Return the seconds on the clock that never stands still."""
        return clock.now()

    def moment(self) -> Moment:
        """Return this moment, with fresh jitter."""
        return Moment(clock.now(), datetime.now(UTC), random.random())  # noqa: S311 -- jitter

    def patience(self, timeout: float) -> float:
        """Return the limit, and some more: the engine answers at its deadline itself."""
        return timeout + OVERDUE


class QueueInbox(queue.SimpleQueue[Message]):
    """An inbox in which the engine's thread waits."""

    def take(self, until: float | None) -> Message | None:
        """Return the next message, or None at that time by the system's clock."""
        if until is None:
            return self.get()
        remaining = until - clock.now()
        if remaining <= 0:
            return None
        try:
            return self.get(timeout=min(remaining, threading.TIMEOUT_MAX))
        except queue.Empty:
            return None


class KazooWiring:
    """The system's clock, a queue, and kazoo.

    Args:
        client: a kazoo client of somebody else's, to be adopted.
    """

    def __init__(self, client: object = None) -> None:
        self.clock = SystemClock()
        self.inbox = QueueInbox()
        self._client = client

    def port(self, settings: Settings, name: str) -> KazooPort:
        """Return the way down to kazoo."""
        post: Callable[[Message], None] = self.inbox.put
        return KazooPort(settings, name, post, self._client)
