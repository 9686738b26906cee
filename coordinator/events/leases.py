"""Locks and leadership."""

from __future__ import annotations

from typing import Literal

from coordinator.events.base import BaseEvent


class LeaseEvent(BaseEvent):
    """Something happened to a lock or leadership of this coordinator."""

    essential = True
    path: str
    """Of the queue: what was given to ``lock()``, ``lead()``, ``latch()``."""
    token: int
    """The fencing token."""


class LeaseAcquired(LeaseEvent):
    """It is held."""

    kind: Literal["lease.acquired"] = "lease.acquired"
    identity: str
    """As which it is held."""
    remaining: float
    """Seconds for which that is certain; each beat makes it more."""


class LeaseLost(LeaseEvent):
    """It is lost, for good: whoever works under it has to stop."""

    kind: Literal["lease.lost"] = "lease.lost"
    reason: Literal["lapsed", "expired", "deleted", "suspended", "closed"]
    """It can no longer be proved by our clock; the session expired; somebody deleted its znode; the
    link is down (``on_suspend="revoke"``); the coordinator was closed."""
    remaining: float
    """Seconds for which nobody else can hold it yet."""


class LeaseReleased(LeaseEvent):
    """It was given back."""

    kind: Literal["lease.released"] = "lease.released"


class LeaseFailed(BaseEvent):
    """The server refused to let a latch queue, or a seat could not be removed."""

    kind: Literal["lease.failed"] = "lease.failed"
    path: str
    error: str
    next_try_in: float | None
    """Seconds; None: the znode stands until the session ends."""


class LeaderChanged(BaseEvent):
    """Another contender is first in a queue that is observed, or nobody is."""

    kind: Literal["leader.changed"] = "leader.changed"
    essential = True
    path: str
    """Of the queue."""
    leader: str | None
    """The identity; None: nobody leads."""
    token: int
    """The fencing token; 0 without a leader."""
    previous: str | None
    """Who was first when it was looked at before."""
