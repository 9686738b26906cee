"""One ensemble in memory, seen as one server: pure, without threads or a clock of its own.

``FakeZooKeeper`` answers ``Request`` objects as a server does: one transaction number for
each write, also for one that is refused; one-shot watches by session and token; all or
nothing for a Multi. Sessions time out when it is told what time it is.

::

    execute(request, session) --> access (ACL) --> znodes (a new tree) --> watches --> fired
    expire_due(now) ------------> sessions ------> their ephemerals, in one transaction
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from coordinator.core.requests import (
    Check,
    Children,
    Create,
    Delete,
    Exists,
    Get,
    GetConfig,
    Multi,
    Request,
    Set,
    Sync,
    Unwatch,
)
from coordinator.errors import CoordinatorError, NoAuthError, ReadOnlyError, TransactionFailedError
from coordinator.models import Stat
from coordinator.testing.memory.access import ADDRESS, Identity
from coordinator.testing.memory.watches import Change, Firing, Watches
from coordinator.testing.memory.znodes import Node, Writer, Znodes, demand

Write: TypeAlias = Create | Set | Delete | Check


@dataclass(slots=True)
class SessionEntry:
    """What the ensemble knows of one session."""

    timeout: float
    """Seconds."""
    heard_at: float
    identities: tuple[Identity, ...] = (ADDRESS,)
    read_only: bool = False
    """It is one of a server without a quorum."""
    link: object = None
    """The link that it was last attached to: what comes over another one came too late."""


class FakeZooKeeper:
    """The znodes, the sessions and the watches of one ensemble.

    Args:
        tick: seconds; sessions are looked at that often, so that they end up to a tick late.
        wall: returns the milliseconds since 1970.
        furnished: it has the znodes that every ensemble has; otherwise only the root.
    """

    def __init__(
        self, *, tick: float = 0.1, wall: Callable[[], int] = lambda: 0, furnished: bool = False
    ) -> None:
        self.zxid = 0
        self.sessions: dict[int, SessionEntry] = {}
        self.forbidden: set[tuple[type[Request[Any]], str]] = set()
        """Which requests on which paths are refused; a Create is looked up by the path that was asked for."""
        self._tick = tick
        self._wall = wall
        self._znodes = Znodes.furnished() if furnished else Znodes()
        self._watches = Watches()
        self._ids = count(0x1000)

    # -- sessions

    def open(
        self, *, timeout: float = 10.0, now: float = 0.0, identities: tuple[Identity, ...] = (ADDRESS,)
    ) -> int:
        """Begin a session, and return its id."""
        session = next(self._ids)
        self.zxid += 1
        self.sessions[session] = SessionEntry(timeout, now, identities)
        return session

    def touch(self, session: int, now: float) -> None:
        """The session was heard."""
        self.sessions[session].heard_at = now

    def expire(self, session: int) -> None:
        """End a session, and in the same transaction its ephemerals."""
        self.unlink(session)
        self.sessions.pop(session, None)
        self.zxid += 1
        for change in self._znodes.remove(self._znodes.owned(session), self.zxid):
            self._watches.trigger(change)

    def expires_at(self, session: int) -> float:
        """Return when a session that is heard no more ends.

        Source: ``ExpiryQueue.roundToNextInterval``: the end of the tick in which it timed out.
        """
        entry = self.sessions[session]
        return (math.floor((entry.heard_at + entry.timeout) / self._tick) + 1) * self._tick

    def next_expiry(self) -> float | None:
        """Return when the next session ends if none is heard before."""
        return min(map(self.expires_at, self.sessions), default=None)

    def expire_due(self, now: float) -> list[int]:
        """End the sessions that have timed out by then; return their ids."""
        due = [session for session in self.sessions if self.expires_at(session) <= now]
        for session in due:
            self.expire(session)
        return due

    def unlink(self, session: int) -> None:
        """The link of a session is gone, and with it what it watched."""
        self._watches.unlink(session)

    # -- access

    def forbid(self, kind: type[Request[Any]], path: str) -> None:
        """Refuse that kind of request on the path from now on, whatever the ACL says."""
        self.forbidden.add((kind, path))

    def permit(self) -> None:
        """Refuse nothing any more but what the ACLs do."""
        self.forbidden.clear()

    # -- what there is

    @property
    def nodes(self) -> dict[str, Node]:
        """All znodes, by path."""
        return self._znodes.nodes

    @property
    def fired(self) -> deque[Firing]:
        """Session, token, and path if it was deleted, of watches that fired and are still to be delivered."""
        return self._watches.fired

    def watched(self, session: int, token: int) -> int:
        """Return how many watches of that token stand."""
        return self._watches.count(session, token)

    def watchers(self) -> dict[str, set[int]]:
        """Return which sessions watch which paths."""
        return self._watches.sessions()

    def owned(self, session: int) -> list[str]:
        """Return the ephemerals of a session."""
        return self._znodes.owned(session)

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names of the children, sorted."""
        return self._znodes.names(path)

    def stat(self, path: str) -> Stat | None:
        """Return the stat of a znode, None if there is no such znode."""
        node = self.nodes.get(path)
        return None if node is None else node.stat

    # -- requests

    def execute(self, request: Request[Any], session: int = 0, *, read_only: bool = False) -> Any:
        """Carry a request out and return its answer, or raise its error.

        Args:
            request: what is asked.
            session: who asks; 0: somebody whom no ACL stops.
            read_only: the server that is asked has no quorum.
        """
        self._allow(request, session)
        if request.writes and read_only:
            raise ReadOnlyError(path=request.path)
        path = request.path
        match request:
            case Get(watch=token) | GetConfig(watch=token):
                node = self._readable(path, session)
                self._watches.data(path, session, token)
                return node.data, node.stat
            case Exists(watch=token):
                if path in self.nodes:
                    self._readable(path, session)
                self._watches.data(path, session, token)
                return self.stat(path)
            case Children(watch=token):
                node = self._readable(path, session)
                self._watches.children(path, session, token)
                return tuple(reversed(self.names(path))), node.stat
            case Sync():
                return None
            case Unwatch(token=token):
                return self._watches.free(path, session, token)
            case Multi(operations=operations):
                return self._multi(operations, session)
            case Create() | Set() | Delete():
                return self._single(request, session)
            case _:
                raise TypeError(f"{type(request).__name__} is no request of its own")

    def _allow(self, request: Request[Any], session: int) -> None:
        if session and (type(request), request.path) in self.forbidden:
            raise NoAuthError(path=request.path)

    def _readable(self, path: str, session: int) -> Node:
        node = self._znodes.node(path)
        demand(node, "r", self._identities(session), path)
        return node

    def _identities(self, session: int) -> tuple[Identity, ...] | None:
        if not session:
            return None
        entry = self.sessions.get(session)
        return (ADDRESS,) if entry is None else entry.identities

    # -- writes

    def _writer(self, session: int) -> Writer:
        self.zxid += 1
        return Writer(session, self.zxid, self._wall(), self._identities(session))

    def _single(self, request: Create | Set | Delete, session: int) -> Any:
        answer, changes = self._write(self._znodes, request, self._writer(session))
        for change in changes:
            self._watches.trigger(change)
        return (answer, self.stat(answer)) if isinstance(request, Create) else answer

    def _multi(self, operations: tuple[Write, ...], session: int) -> tuple[object, ...]:
        writer, znodes = self._writer(session), self._znodes.copy()
        results: list[object] = []
        changes: list[Change] = []
        for index, operation in enumerate(operations):
            try:
                self._allow(operation, session)
                answer, changed = self._write(znodes, operation, writer)
            except CoordinatorError as error:
                told = f"{type(operation).__name__.lower()} {operation.path}"
                raise TransactionFailedError(
                    f"transaction not applied: operation {index} ({told}): {error}",
                    index=index,
                    operation=told,
                    error=error,
                ) from error
            results.append(answer)
            changes += changed
        self._znodes = znodes
        for change in changes:
            self._watches.trigger(change)
        return tuple(results)

    def _write(self, znodes: Znodes, request: Write, writer: Writer) -> tuple[Any, list[Change]]:
        match request:
            case Create():
                return znodes.create(request, writer)
            case Set():
                return znodes.set(request, writer)
            case Delete():
                return znodes.delete(request, writer)
            case Check():
                return znodes.check(request, writer)
