"""What a face hands out, as far as it does not wait: written once for both faces.

A handle shows the state of an intent, which the engine's thread replaces as a whole; it
is read without a lock. What waits stands with the faces: blocking.py and awaiting.py.

In a forked child nobody replaces it any more: there ``_live`` raises ForkedError, and with
it all but where the handle is and whether it was closed.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Self, TypeVar

from coordinator.core.intent import Intent
from coordinator.core.layout import check_path, deletable
from coordinator.core.messages import Unwant
from coordinator.core.mirror import ChildrenMirror, ZnodeMirror
from coordinator.core.presence import Presence
from coordinator.core.requests import ANY_VERSION, Check, Create, Delete, Multi, Set
from coordinator.engine.engine import Engine
from coordinator.errors import ClosedError, ConfigurationError, CoordinatorError, OperationTimeoutError
from coordinator.models import ACL, SessionId, Stat, Znode, hex_id
from coordinator.payload import decode, encode
from coordinator.questions import Question, Questions, checked_flags, checked_version
from coordinator.security import AccessWord

T_co = TypeVar("T_co", covariant=True)

NOTHING: Final = object()
"""Stands where a view has nothing to show."""


class Handle(ABC):
    """The common part: which intent it is, and how it ends."""

    _kind: str
    """What it is, for messages."""
    _intent: Intent

    def __init__(self, engine: Engine, questions: Questions) -> None:
        self._engine = engine
        self._questions = questions
        self._closing = threading.Lock()
        self._closed = False
        self._token = engine.token(self._refreshed)

    def __repr__(self) -> str:
        state = f"of process {self._engine.pid}" if self._engine.forked else self._state()
        return f"<{type(self).__name__} {self.path} {state}>"

    @abstractmethod
    def _state(self) -> str:
        """Return in a word or two how it stands."""

    @abstractmethod
    def _refreshed(self) -> None:
        """Wake whoever waits for a change; called in any thread."""

    @property
    def path(self) -> str:
        """Which znode it is about."""
        return self._intent.path

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def _label(self) -> str:
        return f"{self._kind} {self.path}"

    @property
    def _over(self) -> bool:
        """Whether nothing of it will change any more."""
        return self._closed or self._engine.over

    def _shut(self) -> bool:
        """Mark it closed; return whether it was not before."""
        with self._closing:
            first, self._closed = not self._closed, True
        self._refreshed()
        return first

    def _withdrawal(self, timeout: float | None) -> Question[None] | None:
        """Close it; return what is to be asked for, or None if that was done before.

        None, too, in a forked child: it is its parent's to close.
        """
        if self._engine.forked:
            return None
        question = self._questions.unwant(self._token, f"close {self._label}", timeout)
        return question if self._shut() else None

    def _abandon(self) -> None:
        """Withdraw it without waiting: nobody will have it."""
        if self._shut():
            self._engine.post(Unwant(self._token, self._label, 0.0, 0.0, None))
            self._forget()

    def _forget(self) -> None:
        """Let go of what the engine keeps of it; after its withdrawal has been asked for."""
        self._engine.forget(self._token)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self._label} was closed")

    def _too_late(self, what: str, seconds: float) -> CoordinatorError:
        """Return the error for what did not come true, in that time or ever."""
        if self._over:
            return ClosedError(f"{self._label} was closed")
        return OperationTimeoutError(
            f"{what} within {seconds:g} s: {self!r}, session {self._engine.session.phase}"
        )


class EphemeralHandle(Handle):
    """An ephemeral that is kept, across sessions, until it is closed."""

    _kind = "ephemeral"
    _intent: Presence

    def __init__(
        self,
        engine: Engine,
        questions: Questions,
        path: str,
        data: bytes,
        *,
        acl: tuple[ACL, ...],
        parents_acl: tuple[ACL, ...],
        on_conflict: Any,
        model: Any,
    ) -> None:
        super().__init__(engine, questions)
        self._intent = Presence(
            self._token, path, data, acl=acl, parents_acl=parents_acl, on_conflict=on_conflict
        )
        self._model = model

    @property
    def _live(self) -> Presence:
        self._engine.check_process()
        return self._intent

    def _forget(self) -> None:
        super()._forget()
        self._engine.release(self.path)

    def _renewal(self, value: object, timeout: float | None) -> Question[None]:
        """Return what is to be asked for so that it gets other data."""
        self._engine.check_process()
        data = encode(value, self._model)
        self._questions.sized(Set(self.path, data))
        self._check_open()
        return self._questions.renew(self._token, data, f"set ephemeral {self.path}", timeout)

    @property
    def present(self) -> bool:
        """Whether it existed, owned by our session, when ZooKeeper was last heard."""
        return self._live.present

    @property
    def rival(self) -> SessionId | None:
        """The session that owns the znode in its place; 0 if that is not ephemeral; else None."""
        return self._live.rival

    @property
    def czxid(self) -> int:
        """The transaction that created the present znode; 0 while there is none."""
        return self._live.czxid

    def _state(self) -> str:
        rival = self.rival
        stands = "present" if self.present else "absent"
        return stands if rival is None else _owned_by(rival)


def _owned_by(session_id: SessionId) -> str:
    return (
        f"owned by session {hex_id(session_id)}" if session_id else "taken by a znode that is not ephemeral"
    )


class ZnodeViewHandle(Handle, Generic[T_co]):
    """A copy of one znode that is kept fresh, across sessions, until it is closed."""

    _kind = "watch"
    _intent: ZnodeMirror[T_co]

    def __init__(self, engine: Engine, questions: Questions, path: str, model: Any) -> None:
        super().__init__(engine, questions)
        self._intent = ZnodeMirror(self._token, path, lambda at, data: decode(at, data, model))

    @property
    def _live(self) -> ZnodeMirror[T_co]:
        self._engine.check_process()
        return self._intent

    def _shown(self) -> object:
        """Return what ``changes`` shows of this moment."""
        return NOTHING if self._live.copy is None or self.error else self.znode

    @property
    def value(self) -> T_co | None:
        """The last value that could be read; None if the znode does not exist."""
        copy = self._live.copy
        return None if copy is None else copy.value

    @property
    def stat(self) -> Stat | None:
        """The stat that was read last; None if the znode does not exist."""
        copy = self._live.copy
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
        copy = self._live.copy
        return None if copy is None else copy.error

    @property
    def znode(self) -> Znode[T_co] | None:
        """Value and stat of one and the same read; None if there is no readable znode."""
        copy = self._live.copy
        if copy is None or copy.stat is None or copy.error is not None or copy.value is None:
            return None
        return Znode(self.path, copy.value, copy.stat)

    def _state(self) -> str:
        return "exists" if self.exists else "absent"


class ChildrenViewHandle(Handle):
    """A copy of the names of a znode's children, kept fresh until it is closed."""

    _kind = "watch_children"
    _intent: ChildrenMirror

    def __init__(self, engine: Engine, questions: Questions, path: str) -> None:
        super().__init__(engine, questions)
        self._intent = ChildrenMirror(self._token, path)

    @property
    def _live(self) -> ChildrenMirror:
        self._engine.check_process()
        return self._intent

    def _shown(self) -> object:
        """Return what ``changes`` shows of this moment."""
        return NOTHING if self._live.copy is None else self.children

    def _at_least(self, minimum: int) -> tuple[str, ...] | None:
        return self.children if len(self.children) >= minimum else None

    def _fewer_than(self, minimum: int) -> str:
        return f"{self.path} had less than {minimum} children"

    @property
    def children(self) -> tuple[str, ...]:
        """The names of the children, sorted; empty if the parent does not exist."""
        copy = self._live.copy
        return () if copy is None else tuple(sorted(copy.names))

    @property
    def stat(self) -> Stat | None:
        """The stat of the parent; None if it does not exist."""
        copy = self._live.copy
        return None if copy is None else copy.stat

    @property
    def exists(self) -> bool:
        """Whether the parent existed when it was last read."""
        return self.stat is not None

    def _state(self) -> str:
        return f"{len(self.children)} children"


class TransactionHandle:
    """Operations that are carried out together, or not at all."""

    def __init__(self, engine: Engine, questions: Questions, check_open: Callable[[], None]) -> None:
        self._engine = engine
        self._questions = questions
        engine.check_process()
        self._check_open = check_open
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
        acl: AccessWord | Sequence[ACL] | None = None,
        model: Any = None,
    ) -> Self:
        """Add a creation; its result is the path."""
        checked_flags(ephemeral=ephemeral, sequential=sequential)
        return self._add(
            Create(check_path(path), encode(value, model), ephemeral, sequential, self._questions.acl(acl))
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

    def _question(self, timeout: float | None) -> Question[tuple[object, ...]] | None:
        """Return the whole as one question, once; None if there is nothing to do."""
        self._engine.check_process()
        if self._sent:
            raise ConfigurationError("this transaction was committed; begin another one")
        if not self._operations:
            return None
        request = self._questions.sized(Multi(self._operations[0].path, tuple(self._operations)))
        question = self._questions.commit(request, timeout)
        self._check_open()
        self._sent = True
        return question
