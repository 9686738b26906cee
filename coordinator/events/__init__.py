"""What happened, as typed facts: one frozen pydantic model for each kind.

A stream of events is NDJSON: ``event.model_dump_json()`` a line, which
``TypeAdapter(Event).validate_json`` reads back.

Order is part of the contract:

- ``seq`` ascends over all events of one coordinator; a filtered stream has gaps.
- An epoch begins with exactly one ``session.established``. ``session.suspended`` and
  ``session.resumed`` alternate. At most one ``session.expired`` ends an epoch; nothing
  follows ``session.closed``.
- ``connection.opened`` comes before the ``session.established`` or ``session.resumed``
  that it made possible, ``connection.closed`` before ``session.suspended``; a process that
  stood still may find its session suspended and lapsed on a link that is still open.
- After an expiry: ``session.expired``, ``connection.opened``, ``session.established``,
  ``recovery.started``; then every ``ephemeral.*``, then every ``znode.*`` and
  ``children.changed`` that the recovery brought to light; then ``recovery.completed``.
- ``lease.acquired`` is followed by exactly one ``lease.lost`` or ``lease.released`` of the same
  token before the next ``lease.acquired`` of the same object; after an expiry every ``lease.lost`` comes
  before ``session.expired``. Queueing again begins after the views were compared, and before
  ``recovery.completed``.
- Events of one path come in the order in which ZooKeeper applied the changes.

Events carry no data of a znode and no secret.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from coordinator.events.base import BaseEvent, EventsDropped
from coordinator.events.kept import (
    ChildrenChanged,
    EphemeralConflict,
    EphemeralCreated,
    EphemeralEvent,
    EphemeralFailed,
    EphemeralRecreated,
    EphemeralRemoved,
    RecoveryCompleted,
    RecoveryEvent,
    RecoveryStarted,
    ZnodeChanged,
    ZnodeCreated,
    ZnodeDeleted,
    ZnodeEvent,
    ZnodeUnreadable,
)
from coordinator.events.leases import (
    LeaderChanged,
    LeaseAcquired,
    LeaseEvent,
    LeaseFailed,
    LeaseLost,
    LeaseReleased,
)
from coordinator.events.session import (
    ConnectionClosed,
    ConnectionEvent,
    ConnectionFailed,
    ConnectionOpened,
    EnsembleChanged,
    Heartbeat,
    SessionClosed,
    SessionEstablished,
    SessionEvent,
    SessionExpired,
    SessionLapsed,
    SessionResumed,
    SessionSuspended,
)

__all__ = [
    "BaseEvent",
    "ChildrenChanged",
    "ConnectionClosed",
    "ConnectionEvent",
    "ConnectionFailed",
    "ConnectionOpened",
    "EnsembleChanged",
    "EphemeralConflict",
    "EphemeralCreated",
    "EphemeralEvent",
    "EphemeralFailed",
    "EphemeralRecreated",
    "EphemeralRemoved",
    "Event",
    "EventsDropped",
    "Heartbeat",
    "LeaderChanged",
    "LeaseAcquired",
    "LeaseEvent",
    "LeaseFailed",
    "LeaseLost",
    "LeaseReleased",
    "RecoveryCompleted",
    "RecoveryEvent",
    "RecoveryStarted",
    "SessionClosed",
    "SessionEstablished",
    "SessionEvent",
    "SessionExpired",
    "SessionLapsed",
    "SessionResumed",
    "SessionSuspended",
    "ZnodeChanged",
    "ZnodeCreated",
    "ZnodeDeleted",
    "ZnodeEvent",
    "ZnodeUnreadable",
    "event_adapter",
]

Event = Annotated[
    ConnectionOpened
    | ConnectionFailed
    | ConnectionClosed
    | SessionEstablished
    | SessionSuspended
    | SessionResumed
    | SessionLapsed
    | SessionExpired
    | SessionClosed
    | Heartbeat
    | EnsembleChanged
    | RecoveryStarted
    | RecoveryCompleted
    | EphemeralCreated
    | EphemeralRecreated
    | EphemeralConflict
    | EphemeralFailed
    | EphemeralRemoved
    | LeaseAcquired
    | LeaseLost
    | LeaseReleased
    | LeaseFailed
    | LeaderChanged
    | ZnodeCreated
    | ZnodeChanged
    | ZnodeDeleted
    | ZnodeUnreadable
    | ChildrenChanged
    | EventsDropped,
    Field(discriminator="kind"),
]
"""The discriminated union of all kinds."""

event_adapter: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads an event back: ``event_adapter.validate_json(line)``."""
