"""The znodes, the sessions and the watches of one ensemble, in memory: pure, without threads.

``FakeZooKeeper`` answers ``Request`` objects as a server does: one transaction number for
each write, one-shot watches by session and token, all or nothing for a Multi.
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from typing import Any

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
from coordinator.errors import (
    BadVersionError,
    CoordinatorError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ReadOnlyError,
    TransactionFailedError,
)
from coordinator.models import Stat


def parent_of(path: str) -> str:
    """The path of the parent; that of the root is the root."""
    return path.rpartition("/")[0] or "/"


@dataclass
class Node:
    """A znode, as the server keeps it."""

    czxid: int
    mzxid: int
    pzxid: int
    owner: int = 0
    data: bytes = b""
    version: int = 0
    cversion: int = 0


class FakeZooKeeper:
    """The znodes, the sessions and the watches of one ensemble."""

    def __init__(self) -> None:
        self.zxid = 0
        self.nodes: dict[str, Node] = {"/": Node(0, 0, 0)}
        self.sessions: set[int] = set()
        self.forbidden: set[tuple[type[Request[Any]], str]] = set()
        """Which requests on which paths the ACL refuses; a Create is looked up by the created path."""
        self.fired: deque[tuple[int, int]] = deque()
        """Session and token of watches that fired and are still to be delivered."""
        self._data_watches: dict[str, dict[tuple[int, int], None]] = {}
        self._child_watches: dict[str, dict[tuple[int, int], None]] = {}
        self._ids = count(0x1000)

    # -- sessions

    def open(self) -> int:
        """Begin a session, and return its id."""
        session = next(self._ids)
        self.sessions.add(session)
        return session

    def expire(self, session: int) -> None:
        """End a session, its ephemerals with it."""
        self.unlink(session)
        self.sessions.discard(session)
        for path in [path for path, node in self.nodes.items() if node.owner == session]:
            self.execute(Delete(path), 0)

    def unlink(self, session: int) -> None:
        """The link of a session is gone, and with it what it watched."""
        for table in (self._data_watches, self._child_watches):
            for watchers in table.values():
                for watcher in [one for one in watchers if one[0] == session]:
                    del watchers[watcher]
        self.fired = deque(one for one in self.fired if one[0] != session)

    def forbid(self, kind: type[Request[Any]], path: str) -> None:
        """Refuse that kind of request on the path from now on."""
        self.forbidden.add((kind, path))

    def permit(self) -> None:
        """Refuse nothing any more."""
        self.forbidden.clear()

    def watched(self, session: int, token: int) -> int:
        """Return how many watches of that token stand."""
        tables = (self._data_watches, self._child_watches)
        return sum((session, token) in watchers for table in tables for watchers in table.values())

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names of the children, sorted."""
        stem = path.rstrip("/") + "/"
        return tuple(sorted(one[len(stem) :] for one in self._children(path)))

    def _children(self, path: str) -> list[str]:
        return [one for one in self.nodes if one != "/" and parent_of(one) == path]

    def stat(self, path: str) -> Stat | None:
        """Return the stat of a znode, None if there is no such znode."""
        node = self.nodes.get(path)
        if node is None:
            return None
        return Stat(
            czxid=node.czxid,
            mzxid=node.mzxid,
            pzxid=node.pzxid,
            version=node.version,
            cversion=node.cversion,
            aversion=0,
            ctime=0,
            mtime=0,
            ephemeral_owner=node.owner,
            data_length=len(node.data),
            num_children=len(self._children(path)),
        )

    # -- requests

    def execute(self, request: Request[Any], session: int = 0, *, read_only: bool = False) -> Any:
        """Carry a request out and return its answer, or raise its error."""
        if (type(request), request.path) in self.forbidden and session:
            raise NoAuthError(path=request.path)
        if request.writes and read_only:
            raise ReadOnlyError(path=request.path)
        match request:
            case Get(watch=token) | GetConfig(watch=token):
                stat = self._stat_of(request.path)
                self._watch(self._data_watches, request.path, session, token)
                return self.nodes[request.path].data, stat
            case Exists(watch=token):
                self._watch(self._data_watches, request.path, session, token)
                return self.stat(request.path)
            case Children(watch=token):
                stat = self._stat_of(request.path)
                self._watch(self._child_watches, request.path, session, token)
                return tuple(reversed(self.names(request.path))), stat
            case Sync():
                return None
            case Unwatch(token=token):
                for table in (self._data_watches, self._child_watches):
                    table.get(request.path, {}).pop((session, token), None)
                return None
            case Multi(operations=operations):
                return self._multi(operations, session)
            case _:
                return self._write(request, session, self.zxid + 1)

    def _stat_of(self, path: str) -> Stat:
        stat = self.stat(path)
        if stat is None:
            raise NoNodeError(path=path)
        return stat

    def _multi(self, operations: tuple[Any, ...], session: int) -> tuple[object, ...]:
        nodes, fired, zxid = deepcopy(self.nodes), deque(self.fired), self.zxid
        tables = deepcopy((self._data_watches, self._child_watches))
        results: list[object] = []
        for index, operation in enumerate(operations):
            try:
                if (type(operation), operation.path) in self.forbidden:
                    raise NoAuthError(path=operation.path)
                answer = self._write(operation, session, zxid + 1)
            except CoordinatorError as error:
                self.nodes, self.fired, self.zxid = nodes, fired, zxid
                self._data_watches, self._child_watches = tables
                raise TransactionFailedError(
                    f"{operation.path}: {error}", index=index, operation=type(operation).__name__, error=error
                ) from error
            results.append(answer[0] if isinstance(operation, Create) else answer)
        return tuple(results)

    def _write(self, request: Request[Any], session: int, zxid: int) -> Any:
        path, parent = request.path, parent_of(request.path)
        if isinstance(request, Create):
            self._stat_of(parent)
            if path in self.nodes:
                raise NodeExistsError(path=path)
            owner = session if request.ephemeral else 0
            self.nodes[path] = Node(zxid, zxid, zxid, owner, request.data)
            self._membership_changed(parent, zxid)
            self._fire(self._data_watches, path)
            self.zxid = zxid
            return path, self.stat(path)
        stat = self._stat_of(path)
        version = getattr(request, "version", -1)
        if version not in (-1, stat.version):
            raise BadVersionError(path=path)
        match request:
            case Check():
                return None
            case Set(data=data):
                node = self.nodes[path]
                node.data, node.version, node.mzxid = data, node.version + 1, zxid
                self._fire(self._data_watches, path)
                self.zxid = zxid
                return self.stat(path)
            case Delete():
                if stat.num_children:
                    raise NotEmptyError(path=path)
                del self.nodes[path]
                self._membership_changed(parent, zxid)
                self._fire(self._data_watches, path)
                self._fire(self._child_watches, path)
                self.zxid = zxid
                return None
            case _:
                raise AssertionError(request)

    def _membership_changed(self, parent: str, zxid: int) -> None:
        node = self.nodes[parent]
        node.pzxid, node.cversion = zxid, node.cversion + 1
        self._fire(self._child_watches, parent)

    def _watch(self, table: dict[str, Any], path: str, session: int, token: int | None) -> None:
        if token is not None:
            table.setdefault(path, {})[session, token] = None

    def _fire(self, table: dict[str, Any], path: str) -> None:
        self.fired.extend(table.pop(path, {}))
