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

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter
from pydantic.functional_validators import BeforeValidator

from coordinator.models import hex_id

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

SHOWN_PATHS = 100
"""How many paths a recovery event lists at most; its counts are complete."""


def _signed(value: object) -> object:
    if isinstance(value, str) and value.startswith("0x"):
        number = int(value, 16)
        return number - (1 << 64) if number >= 1 << 63 else number
    return value


ShownId = Annotated[
    int,
    BeforeValidator(_signed),
    PlainSerializer(hex_id, return_type=str, when_used="json"),
    Field(description="session id; 0x... in JSON"),
]


class BaseEvent(BaseModel):
    """What all events have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    essential: ClassVar[bool] = False
    """Never dropped, however slow the reader is."""

    kind: str
    seq: int
    """Ascending over all events of this coordinator, from 1."""
    at: AwareDatetime
    """When it was noticed, UTC."""
    epoch: int
    """Our count of sessions, from 1; 0 before the first."""
    session_id: ShownId
    """The session of that epoch; 0 while there is none: before the first, and between an
    expiry and the next ``session.established``."""

    def __str__(self) -> str:
        told = {
            name: hex_id(value) if name in _ID_FIELDS and isinstance(value, int) else value
            for name, value in self
            if name not in ("kind", "seq", "at", "epoch") and value not in (None, (), "")
        }
        return f"{self.kind} " + " ".join(f"{name}={_text(value)}" for name, value in told.items())


_ID_FIELDS = ("session_id", "previous_session_id", "owner_session_id")


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


# -- the link


class ConnectionEvent(BaseEvent):
    """Something happened to the link to a server."""

    server: str
    """``host:port``."""


class ConnectionOpened(ConnectionEvent):
    """A server accepted the link and the session on it."""

    kind: Literal["connection.opened"] = "connection.opened"


class ConnectionFailed(ConnectionEvent):
    """An attempt to connect failed."""

    kind: Literal["connection.failed"] = "connection.failed"
    cause: str
    """"refused", "dns", "timeout", "unreachable", "handshake", "reset", "sasl", "other"; of TLS:
    "tls_untrusted", "tls_hostname", "tls_expired", "tls_not_spoken", "tls_required",
    "tls_refused", "tls_files", "tls"."""
    detail: str = ""
    next_try_in: float | None = None
    """Seconds until the next round; None: the next server is tried at once."""


class ConnectionClosed(ConnectionEvent):
    """A link that had been opened is gone."""

    kind: Literal["connection.closed"] = "connection.closed"


# -- the session


class SessionEvent(BaseEvent):
    """The session changed its state."""

    essential = True


class SessionEstablished(SessionEvent):
    """A new session stands and its first round trip has succeeded."""

    kind: Literal["session.established"] = "session.established"
    timeout: float
    """Seconds, as negotiated."""
    server: str
    read_only: bool = False
    previous_session_id: ShownId | None = None


class SessionSuspended(SessionEvent):
    """The link is down; whether the session lives is not known."""

    kind: Literal["session.suspended"] = "session.suspended"
    server: str
    silent_for: float
    """Seconds since the server last proved the session alive."""
    lapses_in: float
    """Seconds until the session can no longer be proved alive."""


class SessionResumed(SessionEvent):
    """The same session goes on; its ephemerals are untouched."""

    kind: Literal["session.resumed"] = "session.resumed"
    server: str
    outage: float
    """Seconds for which the session was suspended."""


class SessionLapsed(SessionEvent):
    """By our clock the session timed out; the ensemble has not been heard yet."""

    kind: Literal["session.lapsed"] = "session.lapsed"
    silent_for: float
    """Seconds since the server last proved the session alive."""


class SessionExpired(SessionEvent):
    """The session is gone, and with it its ephemerals and watches."""

    kind: Literal["session.expired"] = "session.expired"
    confirmed_by: Literal["server", "new_session_id", "refused"]
    """Who said so: the server; a next session with another id; or an ensemble that
    refused us as long as we claimed to have seen what it has not (its data was wiped)."""
    lost_ephemerals: int = 0
    lost_leases: int = 0


class SessionClosed(SessionEvent):
    """The end: no event follows."""

    kind: Literal["session.closed"] = "session.closed"
    reason: Literal["requested", "auth_failed", "gave_up", "stopped"]
    """By ``close()``; the server refused the credentials; no session within
    ``start_timeout``, or a client that was adopted ended by itself; the owner of a client
    that was adopted stopped it."""
    cause: str = ""
    """Of auth_failed: "auth", "sasl", "sasl_unsupported" or "auth_required"."""
    detail: str = ""
    """More about that, in words."""


class Heartbeat(BaseEvent):
    """The server answered a ping. Delivered only to those who ask for this kind."""

    kind: Literal["session.heartbeat"] = "session.heartbeat"
    rtt: float
    """Seconds."""


# -- the ensemble


class EnsembleChanged(BaseEvent):
    """Other servers are tried from now on, or some that the ensemble lists do not answer."""

    kind: Literal["ensemble.changed"] = "ensemble.changed"
    servers: tuple[str, ...]
    """``host:port`` of each that is tried from now on."""
    ignored: tuple[str, ...] = ()
    """``host:port`` of those that the ensemble lists, and that did not answer us."""
    source: Literal["set_hosts", "reconfiguration", "fallback"]
    """Who said so: the user; the ensemble; or a whole round in which none of those that the
    ensemble had listed could be reached, so that those of the user are tried as well."""


# -- recovery


class RecoveryEvent(BaseEvent):
    """A new session takes over what the old one held."""

    ephemerals: int
    """How many there are to bring back."""
    watches: int
    """How many views there are to re-arm and compare."""


class RecoveryStarted(RecoveryEvent):
    """Bringing back what the expired session held begins."""

    kind: Literal["recovery.started"] = "recovery.started"
    ephemeral_paths: tuple[str, ...] = ()
    """The first 100."""
    watch_paths: tuple[str, ...] = ()
    """The first 100."""


class RecoveryCompleted(RecoveryEvent):
    """Every ephemeral and view had its first outcome under the new session."""

    kind: Literal["recovery.completed"] = "recovery.completed"
    conflicts: int = 0
    failed: int = 0
    changed: int = 0
    """How many views found a change that was made in the gap."""
    took: float
    """Seconds since recovery.started."""
    conflict_paths: tuple[str, ...] = ()
    failed_paths: tuple[str, ...] = ()
    changed_paths: tuple[str, ...] = ()


# -- ephemerals


class EphemeralEvent(BaseEvent):
    """Something happened to an ephemeral that this coordinator keeps."""

    path: str


class EphemeralCreated(EphemeralEvent):
    """It exists, for the first time."""

    kind: Literal["ephemeral.created"] = "ephemeral.created"
    czxid: int


class EphemeralRecreated(EphemeralEvent):
    """It exists again: after an expiry, a conflict, or somebody's deletion."""

    kind: Literal["ephemeral.recreated"] = "ephemeral.recreated"
    czxid: int


class EphemeralConflict(EphemeralEvent):
    """Somebody else's znode stands in its place; it is never touched."""

    kind: Literal["ephemeral.conflict"] = "ephemeral.conflict"
    czxid: int
    owner_session_id: ShownId
    """0: the znode is not an ephemeral."""


class EphemeralFailed(EphemeralEvent):
    """The server refused to create or write it."""

    kind: Literal["ephemeral.failed"] = "ephemeral.failed"
    error: str
    next_try_in: float | None
    """Seconds."""


class EphemeralRemoved(EphemeralEvent):
    """It was withdrawn by us, or was found deleted by somebody else."""

    kind: Literal["ephemeral.removed"] = "ephemeral.removed"
    by: Literal["us", "others"]


# -- locks and leadership


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
    """The server refused to let a latch queue."""

    kind: Literal["lease.failed"] = "lease.failed"
    path: str
    error: str
    next_try_in: float | None
    """Seconds."""


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


# -- znodes


class ZnodeEvent(BaseEvent):
    """Something happened to a znode that is watched."""

    path: str
    after_gap: bool = False
    """The change was made while no watch stood; it was found by comparing."""


class ZnodeCreated(ZnodeEvent):
    """A watched path that did not exist does now."""

    kind: Literal["znode.created"] = "znode.created"
    version: int
    mzxid: int


class ZnodeChanged(ZnodeEvent):
    """The data of a watched znode was set."""

    kind: Literal["znode.changed"] = "znode.changed"
    version: int
    mzxid: int


class ZnodeDeleted(ZnodeEvent):
    """A watched znode is gone."""

    kind: Literal["znode.deleted"] = "znode.deleted"


class ZnodeUnreadable(ZnodeEvent):
    """A watched znode cannot be read, or its data does not fit the model.

    The view keeps the last value that did.
    """

    kind: Literal["znode.unreadable"] = "znode.unreadable"
    error: str


class ChildrenChanged(ZnodeEvent):
    """The set of children of a watched znode changed.

    Both empty: a child came and went, or went and came back, between two looks. A
    parent that was itself recreated has lost all of its children and got new ones.
    """

    kind: Literal["children.changed"] = "children.changed"
    added: tuple[str, ...] = ()
    """Names, sorted."""
    removed: tuple[str, ...] = ()
    """Names, sorted."""


class EventsDropped(BaseEvent):
    """This subscriber was too slow; ``seq`` is that of the first event dropped.

    It stands where the first dropped event would have stood, and takes no number of
    its own. Session events are never dropped.
    """

    kind: Literal["events.dropped"] = "events.dropped"
    essential = True
    count: int
    first_seq: int
    last_seq: int


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
