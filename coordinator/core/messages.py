"""What goes into the kernel, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any, Literal, TypeAlias

from coordinator.core.intent import Intent, Made
from coordinator.core.operations import Operation
from coordinator.core.requests import Request
from coordinator.core.session import Reason, Signal
from coordinator.errors import CoordinatorError
from coordinator.events import BaseEvent

Waiter: TypeAlias = object
"""Whoever waits for an answer; the kernel hands it back and knows nothing about it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a message is handled: everything that the pure part cannot know by itself."""

    now: float
    """Reading of the clock that all deadlines are given in, seconds."""
    at: datetime
    jitter: float = 0.5
    """Drawn anew for each message, between 0 and 1."""


# -- messages


@dataclass(frozen=True, slots=True)
class Replied:
    """ZooKeeper answered a request, or the link broke after it was sent."""

    request_id: int
    value: object
    error: CoordinatorError | None
    zxid: int
    contact: float


@dataclass(frozen=True, slots=True)
class NotSent:
    """The link was gone before the request could be sent; it certainly was not."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Fired:
    """A watch of the intent with that token fired."""

    token: int
    deleted: str | None
    """The path of the znode if it was deleted; None: something else happened to it."""


@dataclass(frozen=True, slots=True)
class ClientEnded:
    """kazoo's thread ended although we had not asked it to."""

    contact: float
    stopped: bool = False
    """Whoever owns the client has stopped it."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Run an operation and settle the waiter with its result."""

    operation: Operation[Any]
    label: str
    """What it is and on which path, for messages: ``get /a``."""
    deadline: float
    timeout: float
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class AwaitSession:
    """Settle the waiter when a session is established."""

    hosts: str
    """Where, for the message."""
    deadline: float
    timeout: float
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Want:
    """Keep an intent from now on.

    With a waiter: settle it with the first outcome, and keep nothing if that is an error.
    """

    intent: Intent
    label: str
    deadline: float
    timeout: float
    waiter: Waiter | None


@dataclass(frozen=True, slots=True)
class Renew:
    """Give an ephemeral other data; settle the waiter when it is written."""

    token: int
    data: bytes
    label: str
    deadline: float
    timeout: float
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Unwant:
    """Withdraw an intent; settle the waiter when nothing is left of it."""

    token: int
    label: str
    deadline: float
    timeout: float
    waiter: Waiter | None


@dataclass(frozen=True, slots=True)
class StepDown:
    """Give back what a place in a queue holds, or has just lost; it queues again. Otherwise nothing.

    With a waiter: settle it when nothing is left of that.
    """

    token: int
    label: str
    waiter: Waiter | None
    lease: int | None = None
    """The fencing token of what is given back; None: whatever it is."""
    deadline: float = inf
    timeout: float = inf


@dataclass(frozen=True, slots=True)
class HostsChanged:
    """Other servers are tried from now on, or others were found not to answer."""

    hosts: str
    """All of them with the chroot, for messages."""
    servers: tuple[str, ...]
    ignored: tuple[str, ...]
    source: Literal["set_hosts", "reconfiguration", "fallback"]


@dataclass(frozen=True, slots=True)
class Close:
    """End it all."""

    reason: Literal["requested", "gave_up"]
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Abandon:
    """Whoever waits, or waited, has given up: what is held is not done, what it made is undone."""

    waiter: Waiter
    made: Made = field(default_factory=list)
    """What his operation has created; it may grow until the operation is over."""


Message: TypeAlias = (
    Signal
    | Replied
    | NotSent
    | Fired
    | ClientEnded
    | Submit
    | AwaitSession
    | Want
    | Renew
    | Unwant
    | StepDown
    | Abandon
    | HostsChanged
    | Close
)


# -- effects


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the subscribers."""

    event: BaseEvent


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request on that link, or say that it was not sent."""

    request_id: int
    request: Request[Any]
    link: int
    """The number of the link that the kernel believes in."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Answer a waiter."""

    waiter: Waiter
    value: object = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """The state behind a handle changed; wake those who wait for that."""

    token: int


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Replace kazoo's client by a new one that resumes the same session."""


@dataclass(frozen=True, slots=True)
class StopClient:
    """Stop kazoo's client, which ends the session if it is linked; then signal the end."""

    reason: Reason


Effect: TypeAlias = Emit | Send | Settle | Refresh | Rebuild | StopClient
