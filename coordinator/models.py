"""The nouns that calls and events speak of: a znode, its stat, a session.

None of them shows the data of a znode in its ``repr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar

from coordinator.errors import ConfigurationError

__all__ = [
    "ACL",
    "ConnectionFailure",
    "Contender",
    "Phase",
    "SessionId",
    "SessionInfo",
    "Stat",
    "Stats",
    "Znode",
    "hex_id",
]

T_co = TypeVar("T_co", covariant=True)

IDENTITY_LIMIT = 200
"""Letters of a contender's data that are taken for an identity; more is something else."""

SessionId = int
"""A session's id: a signed 64-bit integer, shown as 0x... in text."""


def hex_id(session_id: SessionId) -> str:
    """Return a session id as ZooKeeper's own log shows it.

    Source: ``Long.toHexString``, which prints the two's complement without a sign.
    """
    return f"0x{session_id & 0xFFFF_FFFF_FFFF_FFFF:x}"


class Phase(StrEnum):
    """What is known about the session right now."""

    CONNECTING = "connecting"
    """There is no session (yet): the first one, or the next after an expiry."""
    VERIFYING = "verifying"
    """A server accepted the session; no round trip has succeeded on the link yet."""
    CONNECTED = "connected"
    """The link works and the session lives."""
    SUSPENDED = "suspended"
    """The link is down; the session may still be resumed."""
    LAPSED = "lapsed"
    """Nothing was answered for a whole session timeout: it may be alive, or not."""
    CLOSED = "closed"
    """The end; nothing leads out of it."""


@dataclass(frozen=True, slots=True)
class Stat:
    """The metadata of a znode, as the server keeps it."""

    czxid: int
    """Transaction that created the znode; a recreated one has another."""
    mzxid: int
    """Transaction that last changed its data."""
    pzxid: int
    """Transaction that last changed the set of its children."""
    version: int
    """Number of changes of its data; begins at 0 again when it is recreated."""
    cversion: int
    aversion: int
    ctime: int
    """Creation, in milliseconds since 1970 by the server's clock."""
    mtime: int
    """Last change, in milliseconds since 1970 by the server's clock."""
    ephemeral_owner: SessionId
    """The session that owns it, 0 if it is not ephemeral."""
    data_length: int
    """Bytes."""
    num_children: int

    @property
    def created_at(self) -> datetime:
        """When the znode was created, by the server's clock."""
        return datetime.fromtimestamp(self.ctime / 1000, UTC)

    @property
    def changed_at(self) -> datetime:
        """When its data last changed, by the server's clock."""
        return datetime.fromtimestamp(self.mtime / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Znode(Generic[T_co]):
    """What was read: the value, and the stat that belongs to it."""

    path: str
    value: T_co = field(repr=False)
    stat: Stat


@dataclass(frozen=True, slots=True)
class Contender:
    """Who stands in the queue for a lock or for leadership; the first of them has it."""

    path: str
    """Its znode."""
    token: int
    """The transaction that created it: the fencing token of the lease that comes of it."""
    session_id: SessionId
    """The session that owns it; 0 if it is not ephemeral."""
    data: bytes = field(repr=False)
    """What its znode holds."""

    @property
    def identity(self) -> str:
        """Who it says to be: its data, if that is a short text; empty otherwise."""
        try:
            text = self.data.decode()
        except UnicodeDecodeError:
            return ""
        return text if len(text) <= IDENTITY_LIMIT and text.isprintable() else ""


_PERMISSIONS = {"r": 1, "w": 2, "c": 4, "d": 8, "a": 16}
"""Source: org.apache.zookeeper.ZooDefs.Perms."""


@dataclass(frozen=True, slots=True)
class ACL:
    """One entry of an access control list.

    ``permissions`` is a string of ``cdrwa`` (create, delete, read, write, admin).
    """

    scheme: str
    id: str = field(repr=False)
    permissions: str = "cdrwa"

    def __post_init__(self) -> None:
        for name in ("scheme", "id", "permissions"):
            text: object = getattr(self, name)
            if not isinstance(text, str) or not text.isprintable():
                raise ConfigurationError(f"{name} of an ACL is a printable text")
        if not self.permissions or set(self.permissions) - set(_PERMISSIONS):
            raise ConfigurationError(f"permissions are letters of 'cdrwa', got {self.permissions!r}")

    @property
    def mask(self) -> int:
        """The permissions as ZooKeeper's bits."""
        return sum(_PERMISSIONS[letter] for letter in set(self.permissions))


@dataclass(frozen=True, slots=True)
class ConnectionFailure:
    """The last attempt to connect that failed, and why."""

    server: str
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """The session as this moment knows it."""

    phase: Phase
    epoch: int
    """Our count of sessions, from 1; 0 before the first."""
    session_id: SessionId
    """0 before the first."""
    server: str
    """Where the link goes or went: ``host:port``; empty before the first."""
    timeout: float
    """Seconds, as negotiated with the server; before that, as asked for."""
    remaining: float
    """Seconds for which the session is certain not to have timed out, at least 0."""
    read_only: bool
    rtt: float | None
    """Seconds that the last heartbeat took."""

    def __repr__(self) -> str:
        return (
            f"SessionInfo({self.phase.value}, {hex_id(self.session_id)}, epoch={self.epoch}, "
            f"server={self.server!r}, timeout={self.timeout:g}, remaining={self.remaining:.3f})"
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the life of a coordinator, or over the last hour."""

    connections_opened: int = 0
    connections_failed: int = 0
    connections_closed: int = 0
    sessions_established: int = 0
    sessions_suspended: int = 0
    sessions_resumed: int = 0
    sessions_lapsed: int = 0
    sessions_expired: int = 0
    heartbeats_sent: int = 0
    heartbeats_answered: int = 0
    connection_success: float | None = None
    """P(success) = 1 - P(failure) of an attempt to connect; None without any."""
    session_success: float | None = None
    """P(success) = 1 - P(failure) of a session: the share that did not expire."""
    last_hour: Stats | None = None
