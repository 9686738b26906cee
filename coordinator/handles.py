"""What a face hands out, as far as it does not wait: written once for both faces.

A handle shows the state of an intent, which the engine's thread replaces as a whole; it
is read without a lock. What waits stands with the faces.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from coordinator.core.layout import REQUEST_LIMIT, check_path, deletable
from coordinator.core.mirror import ChildrenMirror, ZnodeMirror
from coordinator.core.presence import Presence
from coordinator.core.requests import ANY_VERSION, OPEN, Check, Create, Delete, Multi, Request, Set, size_of
from coordinator.errors import ConfigurationError, CoordinatorError, DataTooLargeError
from coordinator.models import ACL, SessionId, Stat, Znode, hex_id
from coordinator.payload import encode

if TYPE_CHECKING:
    from coordinator.engine.engine import Engine

T_co = TypeVar("T_co", covariant=True)


class Handle:
    """The common part: which intent it is, and whether it was closed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._version = 0
        self._closed = False
        self._token = engine.token(self._refreshed)

    def _refreshed(self) -> None:
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    def _shut(self) -> bool:
        """Mark it closed; return whether it was not before."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.notify_all()
        return first

    def _forget(self) -> None:
        """Let go of what the engine keeps of it; after its withdrawal has been asked for."""
        self._engine.forget(self._token)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed


class EphemeralHandle(Handle):
    """An ephemeral that is kept, across sessions, until it is closed."""

    def __init__(
        self, engine: Engine, path: str, data: bytes, acl: tuple[ACL, ...], on_conflict: Any
    ) -> None:
        super().__init__(engine)
        self._intent = Presence(self._token, path, data, acl=acl, on_conflict=on_conflict)

    def _forget(self) -> None:
        super()._forget()
        self._engine.release(self.path)

    @property
    def path(self) -> str:
        """Where it is."""
        return self._intent.path

    @property
    def present(self) -> bool:
        """Whether it existed, owned by our session, when ZooKeeper was last heard."""
        return self._intent.present

    @property
    def rival(self) -> SessionId | None:
        """The session that owns the znode in its place; 0 if that is not ephemeral; else None."""
        return self._intent.rival

    @property
    def czxid(self) -> int:
        """The transaction that created the present znode; 0 while there is none."""
        return self._intent.czxid

    def __repr__(self) -> str:
        rival = self.rival
        stands = "present" if self.present else "absent"
        return f"<{type(self).__name__} {self.path} {stands if rival is None else _owned_by(rival)}>"


def _owned_by(session_id: SessionId) -> str:
    return (
        f"owned by session {hex_id(session_id)}" if session_id else "taken by a znode that is not ephemeral"
    )


class ZnodeViewHandle(Handle, Generic[T_co]):
    """A copy of one znode that is kept fresh, across sessions, until it is closed."""

    def __init__(self, engine: Engine, path: str, decode: Any) -> None:
        super().__init__(engine)
        self._intent: ZnodeMirror[T_co] = ZnodeMirror(self._token, path, decode)

    @property
    def path(self) -> str:
        """Which znode it is."""
        return self._intent.path

    @property
    def _read(self) -> bool:
        return self._intent.copy is not None

    @property
    def value(self) -> T_co | None:
        """The last value that could be read; None if the znode does not exist."""
        copy = self._intent.copy
        return None if copy is None else copy.value

    @property
    def stat(self) -> Stat | None:
        """The stat that was read last; None if the znode does not exist."""
        copy = self._intent.copy
        return None if copy is None else copy.stat

    @property
    def exists(self) -> bool:
        """Whether the znode existed when it was last read."""
        return self.stat is not None

    @property
    def error(self) -> CoordinatorError | None:
        """Why ``value`` is older than ``stat``, or None if it is not.

        PayloadError: the data does not fit the model; NoAuthError: we may not read it.
        """
        copy = self._intent.copy
        return None if copy is None else copy.error

    @property
    def znode(self) -> Znode[T_co] | None:
        """Value and stat of one and the same read; None if there is no readable znode."""
        copy = self._intent.copy
        if copy is None or copy.stat is None or copy.error is not None or copy.value is None:
            return None
        return Znode(self.path, copy.value, copy.stat)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {'exists' if self.exists else 'absent'}>"


class ChildrenViewHandle(Handle):
    """A copy of the names of a znode's children, kept fresh until it is closed."""

    def __init__(self, engine: Engine, path: str) -> None:
        super().__init__(engine)
        self._intent = ChildrenMirror(self._token, path)

    @property
    def path(self) -> str:
        """Whose children they are."""
        return self._intent.path

    @property
    def _read(self) -> bool:
        return self._intent.copy is not None

    @property
    def children(self) -> tuple[str, ...]:
        """The names of the children, sorted; empty if the parent does not exist."""
        copy = self._intent.copy
        return () if copy is None else tuple(sorted(copy.names))

    @property
    def stat(self) -> Stat | None:
        """The stat of the parent; None if it does not exist."""
        copy = self._intent.copy
        return None if copy is None else copy.stat

    @property
    def exists(self) -> bool:
        """Whether the parent existed when it was last read."""
        return self.stat is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {len(self.children)} children>"


class TransactionHandle:
    """Operations that are carried out together, or not at all."""

    def __init__(self, chroot: str) -> None:
        self._chroot = chroot
        self._operations: list[Create | Set | Delete | Check] = []
        self._sent = False
        self.results: tuple[object, ...] = ()
        """After the commit: a path for each create, a Stat for each set, else None."""

    def create(
        self,
        path: str,
        value: object = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        acl: Sequence[ACL] | None = None,
        model: Any = None,
    ) -> Self:
        """Add a creation; its result is the path."""
        checked_flags(ephemeral=ephemeral, sequential=sequential)
        return self._add(
            Create(check_path(path), encode(value, model), ephemeral, sequential, checked_acl(acl))
        )

    def set(self, path: str, value: object, *, version: int = ANY_VERSION, model: Any = None) -> Self:
        """Add a write of data; its result is the new Stat."""
        return self._add(Set(check_path(path), encode(value, model), checked_version(version)))

    def delete(self, path: str, *, version: int = ANY_VERSION) -> Self:
        """Add a deletion; its result is None."""
        return self._add(Delete(deletable(path), checked_version(version)))

    def check(self, path: str, *, version: int = ANY_VERSION) -> Self:
        """Add the condition that the znode exists and has that version; result None."""
        return self._add(Check(check_path(path), checked_version(version)))

    def _add(self, operation: Create | Set | Delete | Check) -> Self:
        if self._sent:
            raise ConfigurationError("this transaction was committed; begin another one")
        self._operations.append(operation)
        return self

    def _request(self) -> Multi | None:
        """Return the whole as one request, once; None if there is nothing to do."""
        if self._sent:
            raise ConfigurationError("this transaction was committed; begin another one")
        if not self._operations:
            return None
        request = sized(Multi(self._operations[0].path, tuple(self._operations)), self._chroot)
        self._sent = True
        return request


R = TypeVar("R", bound=Request[Any])


def sized(request: R, chroot: str) -> R:
    """Return the request if a server would read it.

    Raises:
        DataTooLargeError: it names the size and the limit.
    """
    size = size_of(request, chroot)
    if size > REQUEST_LIMIT:
        name = type(request).__name__.lower()
        raise DataTooLargeError(
            f"{name} {request.path}: the request has {size} bytes, above the limit of {REQUEST_LIMIT} "
            "bytes (jute.maxbuffer) at which a server drops the connection; nothing was sent"
        )
    return request


def checked_version(version: object) -> int:
    """Return the version if it can be one: a 32-bit number, -1 for any.

    Raises:
        ConfigurationError: it cannot.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not ANY_VERSION <= version < 1 << 31:
        raise ConfigurationError(f"version is a number from 0 to 2147483647, or -1 for any, got {version!r}")
    return version


def checked_flags(**flags: object) -> None:
    """Refuse what is not True or False.

    Raises:
        ConfigurationError: it names the flag.
    """
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigurationError(f"{name} is True or False, got {flag!r}")


def checked_acl(acl: Sequence[ACL] | None) -> tuple[ACL, ...]:
    """Return the list, or that which lets everybody do everything.

    Raises:
        ConfigurationError: it is no list of ACL.
    """
    if acl is None:
        return OPEN
    given: object = acl
    if not isinstance(given, list | tuple) or not all(isinstance(entry, ACL) for entry in given):
        raise ConfigurationError("acl takes a list of coordinator.ACL(scheme, id, permissions)")
    return tuple(acl)
