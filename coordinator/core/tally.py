"""Counts what the events tell, over the life and over the last hour."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import fields, replace
from typing import Any

from coordinator.events import (
    BaseEvent,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionOpened,
    Heartbeat,
    SessionEstablished,
    SessionExpired,
    SessionLapsed,
    SessionResumed,
    SessionSuspended,
)
from coordinator.models import Stats

BUCKET = 60.0
"""Seconds that one entry of the last hour covers."""
BUCKETS = 60

_COUNTED: dict[type[BaseEvent], str] = {
    ConnectionOpened: "connections_opened",
    ConnectionFailed: "connections_failed",
    ConnectionClosed: "connections_closed",
    SessionEstablished: "sessions_established",
    SessionSuspended: "sessions_suspended",
    SessionResumed: "sessions_resumed",
    SessionLapsed: "sessions_lapsed",
    SessionExpired: "sessions_expired",
    Heartbeat: "heartbeats_answered",
}


class Tally:
    """The counts of one coordinator."""

    def __init__(self) -> None:
        self._life = _zeros()
        self._hour: deque[tuple[int, Counter[str]]] = deque(maxlen=BUCKETS + 1)

    def event(self, event: BaseEvent, now: float) -> None:
        """Count an event."""
        name = _COUNTED.get(type(event))
        if name is not None:
            self.add(name, now)

    def add(self, name: str, now: float) -> None:
        """Count one of something that has no event of its own."""
        bucket = int(now // BUCKET)
        if not self._hour or self._hour[-1][0] != bucket:
            self._hour.append((bucket, _zeros()))
        self._life[name] += 1
        self._hour[-1][1][name] += 1

    def stats(self, now: float) -> Stats:
        """Return the counts as they stand."""
        oldest = int(now // BUCKET) - BUCKETS
        hour: Counter[str] = Counter()
        for bucket, counts in list(self._hour):
            if bucket > oldest:
                hour.update(counts)
        return replace(_stats(self._life), last_hour=_stats(hour))


def _zeros() -> Counter[str]:
    # With every name in it from the start: it is read by other threads while it counts,
    # and a dict that does not grow can be.
    return Counter(dict.fromkeys([*_COUNTED.values(), "heartbeats_lost"], 0))


def _stats(counts: Counter[str]) -> Stats:
    known = {one.name for one in fields(Stats)}
    counts = counts + Counter(heartbeats_sent=counts["heartbeats_answered"] + counts["heartbeats_lost"])
    known_counts: dict[str, Any] = {name: number for name, number in counts.items() if name in known}
    stats = Stats(**known_counts)
    return replace(
        stats,
        connection_success=_success(stats.connections_opened, stats.connections_failed),
        # A session that began before the hour may expire within it.
        session_success=_success(
            max(0, stats.sessions_established - stats.sessions_expired), stats.sessions_expired
        ),
    )


def _success(good: int, bad: int) -> float | None:
    """Return P(success) = 1 - P(failure), or None where nothing was tried."""
    return None if good + bad == 0 else 1 - bad / (good + bad)
