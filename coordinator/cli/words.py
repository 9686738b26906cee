"""What an event means, in a few plain words, and how much it hurts."""

from __future__ import annotations

from typing import assert_never

from coordinator.events import (
    ChildrenChanged,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionOpened,
    EnsembleChanged,
    EphemeralConflict,
    EphemeralCreated,
    EphemeralFailed,
    EphemeralRecreated,
    EphemeralRemoved,
    Event,
    EventsDropped,
    Heartbeat,
    LeaderChanged,
    LeaseAcquired,
    LeaseFailed,
    LeaseLost,
    LeaseReleased,
    RecoveryCompleted,
    RecoveryStarted,
    SessionClosed,
    SessionEstablished,
    SessionExpired,
    SessionLapsed,
    SessionResumed,
    SessionSuspended,
    ZnodeChanged,
    ZnodeCreated,
    ZnodeDeleted,
    ZnodeUnreadable,
)
from coordinator.models import hex_id

__all__ = ["style_of", "words_of"]

_STYLES: dict[str, tuple[type, ...]] = {
    "green": (
        SessionEstablished,
        SessionResumed,
        EphemeralCreated,
        EphemeralRecreated,
        RecoveryCompleted,
        LeaseAcquired,
    ),
    "yellow": (SessionSuspended, ConnectionClosed, ConnectionFailed, EphemeralConflict, EventsDropped),
    "red": (SessionExpired, SessionLapsed, EphemeralFailed, ZnodeUnreadable, LeaseLost, LeaseFailed),
    "cyan": (
        ZnodeCreated,
        ZnodeChanged,
        ZnodeDeleted,
        ChildrenChanged,
        EphemeralRemoved,
        LeaseReleased,
        LeaderChanged,
    ),
}


def style_of(event: Event) -> str:
    """Return green for back or well, yellow for in doubt, red for lost, cyan for news."""
    return next((style for style, kinds in _STYLES.items() if isinstance(event, kinds)), "default")


def words_of(event: Event) -> str:  # noqa: C901 -- one flat case for each kind
    """Return what the event means."""
    if isinstance(event, ZnodeCreated | ZnodeChanged | ZnodeDeleted | ZnodeUnreadable | ChildrenChanged):
        return _of_znode(event) + (", in the gap" if event.after_gap else "")
    match event:
        case ConnectionOpened():
            return f"{event.server} accepted the link"
        case ConnectionFailed():
            return f"{event.server}: {event.cause}" + _again(event.next_try_in)
        case ConnectionClosed():
            return f"the link to {event.server} is gone"
        case SessionEstablished():
            return f"{hex_id(event.session_id)} stands, timeout {event.timeout:g} s"
        case SessionSuspended():
            return f"in doubt; certain to live for {event.lapses_in:.2f} s yet"
        case SessionResumed():
            return f"the same session goes on after {event.outage:.2f} s; its ephemerals never went"
        case SessionLapsed():
            return f"silent for {event.silent_for:.2f} s: can no longer be proved alive"
        case SessionExpired():
            return f"{hex_id(event.session_id)} is gone, with {event.lost_ephemerals} ephemerals"
        case SessionClosed():
            return f"the end ({event.reason})"
        case Heartbeat():
            return f"answered in {event.rtt * 1000:.1f} ms"
        case EnsembleChanged():
            return f"{', '.join(event.servers)} are tried" + _ignored(event.ignored)
        case RecoveryStarted():
            return f"{event.ephemerals} ephemerals to bring back, {event.watches} views to compare"
        case RecoveryCompleted():
            took = f"{event.took * 1000:.0f} ms"
            return f"done in {took}: {event.changed} views had changed, {event.failed} failed"
        case EphemeralCreated():
            return f"{event.path} exists"
        case EphemeralRecreated():
            return f"{event.path} is back, under {hex_id(event.session_id)}"
        case EphemeralConflict():
            return f"{event.path} belongs to somebody else, {hex_id(event.owner_session_id)}"
        case EphemeralFailed():
            return f"{event.path}: {event.error}" + _again(event.next_try_in)
        case EphemeralRemoved():
            return f"{event.path} was withdrawn" if event.by == "us" else f"somebody deleted {event.path}"
        case LeaseAcquired():
            return f"{event.path} is held, token {event.token}, for {event.remaining:.2f} s at least"
        case LeaseLost():
            return f"{event.path} is lost ({event.reason}), token {event.token}; {event.remaining:.2f} s left"
        case LeaseReleased():
            return f"{event.path} was given back, token {event.token}"
        case LeaseFailed():
            return f"{event.path}: {event.error}" + _again(event.next_try_in)
        case LeaderChanged():
            return f"{event.path} is led by {event.leader or 'nobody'}"
        case EventsDropped():
            return f"{event.count} events missed by a slow reader"
        case _:
            assert_never(event)


def _of_znode(event: ZnodeCreated | ZnodeChanged | ZnodeDeleted | ZnodeUnreadable | ChildrenChanged) -> str:
    match event:
        case ZnodeCreated():
            return f"{event.path} exists, version {event.version}"
        case ZnodeChanged():
            return f"{event.path} was set, version {event.version}"
        case ZnodeDeleted():
            return f"{event.path} was deleted"
        case ZnodeUnreadable():
            return f"{event.path}: {event.error}"
        case ChildrenChanged():
            names = [f"+{name}" for name in event.added] + [f"-{name}" for name in event.removed]
            return f"{event.path}: {' '.join(names) or 'came and went'}"
        case _:
            assert_never(event)


def _ignored(servers: tuple[str, ...]) -> str:
    return f"; {', '.join(servers)} did not answer" if servers else ""


def _again(seconds: float | None) -> str:
    return ", next try at once" if seconds is None else f", next try in {seconds:.2f} s"
