"""The session machine: signals in, next state and events out. Total and pure.

::

                 LinkUp                     Proved               LinkDown
    CONNECTING ----------> VERIFYING ----------> CONNECTED ----------> SUSPENDED
         ^                   ^   |                   |                    |  |
         |                   |   | LinkDown          | Tick past          |  | LinkUp
         |                   |   v                   | lapses_at          |  v
         |                   |  SUSPENDED/LAPSED     +-----> LAPSED <-----+  VERIFYING
         |                   +------------------------------- | LinkUp
         +------ Expired, or a LinkUp with another id: from any phase that has a session

    CLOSED: by Closing, AuthFailed, GaveUp or Ended, from everywhere; terminal.

What is told follows from what was *proved*, not from what kazoo says:

- a link counts when a round trip on it has succeeded (kazoo says CONNECTED before
  authentication is done);
- ids are compared on every LinkUp: another id is an expiry, whatever was said;
- ``lapses_at`` is the send time of the latest answered request or ping, plus the
  negotiated timeout: until then no server can have expired the session.

Times are readings of one clock, in seconds, that come in with the signal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

from coordinator.core.draft import Draft, draft
from coordinator.events import (
    ConnectionClosed,
    ConnectionFailed,
    ConnectionOpened,
    Heartbeat,
    SessionClosed,
    SessionEstablished,
    SessionExpired,
    SessionLapsed,
    SessionResumed,
    SessionSuspended,
)
from coordinator.models import Phase

Confirmation = Literal["server", "new_session_id", "refused"]
Reason = Literal["requested", "auth_failed", "gave_up", "stopped"]


# -- signals


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A server accepted the session on a new link."""

    session_id: int
    timeout: float
    server: str
    read_only: bool
    contact: float
    """Send time of the answered handshake."""
    number: int = 0
    """Which link it is: what is sent on it names it, so that it goes out on no other."""


@dataclass(frozen=True, slots=True)
class Proved:
    """A round trip on the link has succeeded."""

    contact: float


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link is gone. ``contact``: send time of what was answered last on it."""

    contact: float
    ping_lost: bool = False
    """A ping had been sent and was not answered."""


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A server could not be connected to."""

    server: str
    cause: str
    detail: str
    next_try_in: float | None


@dataclass(frozen=True, slots=True)
class RoundRefused:
    """Every server accepted the connection and refused the session's handshake."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A ping was answered."""

    rtt: float
    contact: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. ``contact``: send time of what was answered last."""

    contact: float


@dataclass(frozen=True, slots=True)
class Expired:
    """A server said that the session is gone."""


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """A server refused who we are, for good."""

    cause: str = "auth"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Closing:
    """Our user closed us."""

    left: bool = False
    """The link stays open: the client is somebody else's."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """There was no session within the time given for it."""

    left: bool = False
    """As of Closing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The client has come to its end, and is not ours to replace."""

    reason: Literal["gave_up", "stopped"]


Signal: TypeAlias = (
    LinkUp
    | Proved
    | LinkDown
    | AttemptFailed
    | RoundRefused
    | Beat
    | Tick
    | Expired
    | AuthFailed
    | Closing
    | GaveUp
    | Ended
)


# -- the state


@dataclass(frozen=True, slots=True)
class Session:
    """What is known about the session. ``session_id`` is 0 while there is none."""

    phase: Phase = Phase.CONNECTING
    epoch: int = 0
    session_id: int = 0
    previous_session_id: int | None = None
    timeout: float = 10.0
    server: str = ""
    read_only: bool = False
    contact: float = 0.0
    """Send time of the latest request or ping that was answered."""
    link: LinkUp | None = None
    """The open link on which a server accepted the session."""
    proved: bool = False
    """A round trip on that link has succeeded."""
    suspended_at: float | None = None
    """When ``session.suspended`` was told, until it is resumed or expired."""
    refused: bool = False
    """Lapsed, and since then every server has refused the handshake at least once."""
    rtt: float | None = None

    @property
    def lapses_at(self) -> float | None:
        """When the session can no longer be proved alive; None if that is not awaited."""
        if self.session_id and self.phase in (Phase.CONNECTED, Phase.VERIFYING, Phase.SUSPENDED):
            return self.contact + self.timeout
        return None

    def remaining(self, now: float) -> float:
        """Return the seconds for which the session has certainly not timed out."""
        if not self.session_id or self.phase is Phase.CLOSED:
            return 0.0
        return max(0.0, self.contact + self.timeout - now)


Step: TypeAlias = tuple[Session, list[Draft]]


def step(session: Session, signal: Signal, now: float) -> Step:
    """Return the session after the signal, and what there is to tell."""
    if session.phase is Phase.CLOSED:
        return session, []
    match signal:
        case LinkUp():
            return _link_up(session, signal)
        case Proved():
            return _proved(session, signal, now)
        case LinkDown():
            return _link_down(session, signal, now)
        case AttemptFailed():
            return session, [_attempt_failed(signal)]
        case RoundRefused():
            # Before the lapse it means little: a server that starts refuses everybody.
            return replace(session, refused=session.phase is Phase.LAPSED), []
        case Beat():
            return _beat(session, signal)
        case Tick():
            return _tick(session, signal, now)
        case Expired():
            return _expired(session, "server")
        case AuthFailed():
            return _closed(session, "auth_failed", signal.cause, signal.detail)
        case Closing(left=left):
            return _closed(session, "requested", left=left)
        case GaveUp(left=left):
            return _closed(session, "gave_up", left=left)
        case Ended(reason=reason):
            return _closed(session, reason)
        case _:
            assert_never(signal)


def _link_up(session: Session, signal: LinkUp) -> Step:
    told: list[Draft] = []
    if session.link is not None:  # its end was never told
        told.append(draft(ConnectionClosed, server=session.link.server))
        session = replace(session, link=None, proved=False)
    if session.session_id and signal.session_id != session.session_id:
        session, expired = _expired(session, "refused" if session.refused else "new_session_id")
        told += expired
    told.append(draft(ConnectionOpened, server=signal.server))
    same = session.session_id != 0
    return (
        replace(
            session,
            # Lapsed stays lapsed until the link has proved itself.
            phase=Phase.LAPSED if session.phase is Phase.LAPSED else Phase.VERIFYING,
            link=signal,
            proved=False,
            server=signal.server,
            contact=max(session.contact, signal.contact) if same else signal.contact,
            timeout=min(session.timeout, signal.timeout) if same else signal.timeout,
            refused=False,
        ),
        told,
    )


def _proved(session: Session, signal: Proved, now: float) -> Step:
    link = session.link
    if link is None:  # the answer of a link that is gone already
        return session, []
    contact = max(session.contact, signal.contact)
    session = replace(session, contact=contact, proved=True, timeout=link.timeout, read_only=link.read_only)
    if session.session_id:
        return _resumed(session, now) if session.suspended_at is not None else (_connected(session), [])
    session = replace(session, phase=Phase.CONNECTED, epoch=session.epoch + 1, session_id=link.session_id)
    return session, [
        draft(
            SessionEstablished,
            timeout=link.timeout,
            server=link.server,
            read_only=link.read_only,
            previous_session_id=session.previous_session_id,
        )
    ]


def _connected(session: Session) -> Session:
    return replace(session, phase=Phase.CONNECTED, suspended_at=None)


def _resumed(session: Session, now: float) -> Step:
    since = now if session.suspended_at is None else session.suspended_at
    return _connected(session), [draft(SessionResumed, server=session.server, outage=max(0.0, now - since))]


def _link_down(session: Session, signal: LinkDown, now: float) -> Step:
    if session.link is None:
        return session, []
    told = [draft(ConnectionClosed, server=session.link.server)]
    session = replace(session, link=None, proved=False)
    if not session.session_id:
        return replace(session, phase=Phase.CONNECTING), told
    session = replace(session, contact=max(session.contact, signal.contact))
    if session.phase is Phase.VERIFYING:
        session = replace(session, phase=Phase.SUSPENDED)
    if session.suspended_at is None:
        session, suspended = _suspended(session, now)
        told += suspended
    return session, told


def _suspended(session: Session, now: float) -> Step:
    return replace(session, phase=Phase.SUSPENDED, suspended_at=now), [
        draft(
            SessionSuspended,
            server=session.server,
            silent_for=max(0.0, now - session.contact),
            lapses_in=session.remaining(now),
        )
    ]


def _tick(session: Session, signal: Tick, now: float) -> Step:
    if session.link is not None:
        session = replace(session, contact=max(session.contact, signal.contact))
    told: list[Draft] = []
    if session.lapses_at is not None and now >= session.lapses_at:
        if session.suspended_at is None:
            # The link is open, yet nothing was answered: a process that was stopped, or
            # a machine that slept. A lapse is always told inside of a suspension.
            session, told = _suspended(session, now)
        told.append(draft(SessionLapsed, silent_for=max(0.0, now - session.contact)))
        return replace(session, phase=Phase.LAPSED), told
    if session.phase is Phase.LAPSED and session.proved and session.remaining(now) > 0:
        return _resumed(session, now)  # the same link answers again
    return session, told


def _beat(session: Session, signal: Beat) -> Step:
    if session.link is None:
        return session, []
    session = replace(session, rtt=signal.rtt, contact=max(session.contact, signal.contact))
    return session, [draft(Heartbeat, rtt=signal.rtt)]


def _attempt_failed(signal: AttemptFailed) -> Draft:
    return draft(
        ConnectionFailed,
        server=signal.server,
        cause=signal.cause,
        detail=signal.detail,
        next_try_in=signal.next_try_in,
    )


def _expired(session: Session, confirmed_by: Confirmation) -> Step:
    told: list[Draft] = []
    if session.link is not None:
        told.append(draft(ConnectionClosed, server=session.link.server))
    if session.session_id:
        told.append(draft(SessionExpired, confirmed_by=confirmed_by))
    return (
        replace(
            session,
            phase=Phase.CONNECTING,
            session_id=0,
            previous_session_id=session.session_id or session.previous_session_id,
            link=None,
            proved=False,
            suspended_at=None,
            refused=False,
        ),
        told,
    )


def _closed(
    session: Session, reason: Reason, cause: str = "", detail: str = "", *, left: bool = False
) -> Step:
    told = [] if session.link is None or left else [draft(ConnectionClosed, server=session.link.server)]
    told.append(draft(SessionClosed, reason=reason, cause=cause, detail=detail))
    return replace(session, phase=Phase.CLOSED, link=None, proved=False, suspended_at=None), told
