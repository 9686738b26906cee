"""The link, the session, the servers."""

from __future__ import annotations

from typing import Literal

from coordinator.events.base import BaseEvent, ShownId


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
