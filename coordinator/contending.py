"""What a place in a queue is asked for with: checked before anything is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal
from uuid import uuid4

from coordinator.core.contention import Contention
from coordinator.core.layout import check_path
from coordinator.core.lease import too_short
from coordinator.core.requests import Create
from coordinator.core.seats import Dialect, seat_prefix
from coordinator.engine.engine import Engine
from coordinator.errors import ConfigurationError, InvalidPathError
from coordinator.models import ACL, IDENTITY_LIMIT
from coordinator.payload import encode
from coordinator.questions import Questions
from coordinator.security import AccessWord

Family = Literal["kazoo", "curator"]
OnSuspend = Literal["keep", "revoke"]

STOP_PART = 10
"""Part of the session timeout that a holder gets to stop in, unless said otherwise: a tenth."""


@dataclass(frozen=True, slots=True)
class Candidature:
    """What a place in a queue is asked for with, checked."""

    path: str
    kind: str
    """What it is for, in messages: "lock", "lead", "latch"."""
    identity: str
    data: bytes
    dialect: Dialect
    stop_within: float
    tick_time: float | None
    revoked: bool
    acl: tuple[ACL, ...]
    parents_acl: tuple[ACL, ...]
    on_lost: Callable[[Any], object] | None

    @property
    def label(self) -> str:
        """What it is and where, for messages."""
        return f"{self.kind} {self.path}"

    def check_session(self, timeout: float) -> None:
        """Go on if a lease is proved again before it ends, in a session with that timeout.

        Raises:
            ConfigurationError: it says how long the timeout has to be, or what else would do.
        """
        wrong = too_short(timeout, self.tick_time, self.stop_within)
        if wrong:
            raise ConfigurationError(f"{self.label}: {wrong}")

    def contention(self, token: int, *, once: bool) -> Contention:
        """Return it as an intent."""
        return Contention(
            token,
            self.path,
            self.data,
            _attempt_of(self.dialect),
            identity=self.identity,
            stop_within=self.stop_within,
            dialect=self.dialect,
            once=once,
            revoked=self.revoked,
            acl=self.acl,
            parents_acl=self.parents_acl,
        )


def _attempt_of(dialect: Dialect) -> Callable[[], str]:
    return (lambda: uuid4().hex) if dialect == "kazoo" else (lambda: str(uuid4()))


def dialect_of(family: object, kind: str) -> Dialect:
    """Return in whose queue that stands.

    Raises:
        ConfigurationError: there is no such dialect.
    """
    if family == "kazoo":
        return "kazoo"
    if family == "curator":
        return "curator-lock" if kind == "lock" else "curator-latch"
    raise ConfigurationError(f'dialect is "kazoo" or "curator", got {family!r}')


def queue_path(path: object, kind: str) -> str:
    """Return the path if a queue can stand there.

    Raises:
        InvalidPathError: it is malformed, or the root.
    """
    checked = check_path(path)
    if checked == "/":
        raise InvalidPathError(f"{kind} at the root: it needs a path of its own, such as /{kind}/name")
    return checked


def candidature(
    engine: Engine,
    questions: Questions,
    kind: str,
    path: str,
    *,
    identity: str | None,
    data: object,
    model: Any,
    dialect: object,
    stop_within: float | None,
    on_suspend: object,
    on_lost: Callable[[Any], object] | None,
    acl: AccessWord | Sequence[ACL] | None,
    tick_time: float | None,
) -> Candidature:
    """Return the wish for a place in a queue, checked.

    Raises:
        ConfigurationError: something of it is wrong; nothing was sent.
    """
    queue_path(path, kind)
    if on_suspend not in ("keep", "revoke"):
        raise ConfigurationError(f'on_suspend is "keep" or "revoke", got {on_suspend!r}')
    if on_lost is not None and not callable(on_lost):
        raise ConfigurationError(f"on_lost is a callable, got {type(on_lost).__name__}")
    if model is not None and data is None:
        raise ConfigurationError(f"{kind} {path}: model= says how data= is written, and there is no data=")
    who = f"{socket.gethostname()}:{os.getpid()}" if identity is None else checked_identity(identity)
    made = Candidature(
        path,
        kind,
        who,
        who.encode() if data is None else encode(data, model),
        dialect_of(dialect, kind),
        _stop_within(engine.session.timeout, stop_within),
        tick_time,
        on_suspend == "revoke",
        questions.acl(acl),
        questions.acl(),
        on_lost,
    )
    made.check_session(engine.session.timeout)
    name = seat_prefix(made.dialect, _attempt_of(made.dialect)())
    questions.sized(Create(f"{path}/{name}", made.data, ephemeral=True, sequential=True, acl=made.acl))
    return made


def checked_identity(identity: object) -> str:
    """Return the identity if others can read it.

    Raises:
        ConfigurationError: it is empty, too long, or not printable.
    """
    if not isinstance(identity, str) or not identity.strip() or not identity.isprintable():
        raise ConfigurationError(f"identity is a printable text that is not empty, got {identity!r}")
    if len(identity) > IDENTITY_LIMIT:
        raise ConfigurationError(f"identity has {len(identity)} letters, above {IDENTITY_LIMIT}")
    return identity


def _stop_within(timeout: float, given: object) -> float:
    seconds = timeout / STOP_PART if given is None else given
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < inf:
        raise ConfigurationError(f"stop_within is in seconds, 0 or more, got {seconds!r}")
    return seconds
