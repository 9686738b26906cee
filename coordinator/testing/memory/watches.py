"""The watches of all sessions on one server: by path, one-shot, told in the server's order.

Source: ``DataTree.createNode``, ``deleteNode`` and ``setData``, ZooKeeper 3.9: first whoever watches the
znode itself, then whoever watches the children of its parent.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

Watcher: TypeAlias = tuple[int, int]
"""A session, and the token of an intent in it."""

Firing: TypeAlias = tuple[int, int, str | None]
"""A watcher, and the path of the znode if it was deleted."""

Change: TypeAlias = tuple[Literal["created", "changed", "deleted"], str]
"""What happened to which znode."""


def parent_of(path: str) -> str:
    """The path of the parent; that of the root is the root."""
    return path.rpartition("/")[0] or "/"


class Watches:
    """Who watches what; ``fired`` is still to be delivered."""

    def __init__(self) -> None:
        self.fired: deque[Firing] = deque()
        self._data: dict[str, dict[Watcher, None]] = {}
        self._children: dict[str, dict[Watcher, None]] = {}

    def data(self, path: str, session: int, token: int | None) -> None:
        """Watch a znode, which need not exist."""
        self._add(self._data, path, session, token)

    def children(self, path: str, session: int, token: int | None) -> None:
        """Watch the children of a znode."""
        self._add(self._children, path, session, token)

    def _add(self, table: dict[str, dict[Watcher, None]], path: str, session: int, token: int | None) -> None:
        if token is not None:
            table.setdefault(path, {})[session, token] = None

    def free(self, path: str, session: int, token: int) -> None:
        """Free what that token watches there."""
        for table in (self._data, self._children):
            watchers = table.get(path, {})
            watchers.pop((session, token), None)
            if not watchers:
                table.pop(path, None)

    def unlink(self, session: int) -> None:
        """The link of a session is gone, and with it what it watched."""
        for table in (self._data, self._children):
            for path, watchers in list(table.items()):
                for watcher in [one for one in watchers if one[0] == session]:
                    del watchers[watcher]
                if not watchers:
                    del table[path]
        self.fired = deque(one for one in self.fired if one[0] != session)

    def count(self, session: int, token: int) -> int:
        """Return how many watches of that token stand."""
        tables = (self._data, self._children)
        return sum((session, token) in watchers for table in tables for watchers in table.values())

    def sessions(self) -> dict[str, set[int]]:
        """Return which sessions watch which paths."""
        found: dict[str, set[int]] = {}
        for table in (self._data, self._children):
            for path, watchers in table.items():
                found.setdefault(path, set()).update(session for session, _ in watchers)
        return found

    def trigger(self, change: Change) -> None:
        """Fire whatever waits for that change."""
        kind, path = change
        deleted = path if kind == "deleted" else None
        self._fire(self._data, path, deleted)
        if kind == "deleted":
            self._fire(self._children, path, deleted)
        if kind != "changed":
            self._fire(self._children, parent_of(path), None)

    def _fire(self, table: dict[str, dict[Watcher, None]], path: str, deleted: str | None) -> None:
        self.fired.extend((*watcher, deleted) for watcher in table.pop(path, {}))
