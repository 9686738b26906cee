"""The intent that a copy of a znode, or of its children, is fresh and its watch armed.

A watch is a trigger, not a log (rule R16): when it fires, and after every gap in which
none stood, the znode is read again and compared with the copy. Compared are czxid,
mzxid and pzxid, not the version: that of a recreated znode begins at 0 again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from coordinator.core.draft import Draft, draft
from coordinator.core.intent import Intent, Outcome
from coordinator.core.requests import Children, Exists, Flow, Get, Standing, Unwatch, ask
from coordinator.errors import CoordinatorError, NoNodeError, PayloadError, ZnodeError
from coordinator.events import ChildrenChanged, ZnodeChanged, ZnodeCreated, ZnodeDeleted, ZnodeUnreadable
from coordinator.models import Stat

T = TypeVar("T")

Decode = Callable[[str, bytes], T]
"""Turns the data of the znode at a path into its value, or raises PayloadError."""


@dataclass(frozen=True, slots=True)
class Copy(Generic[T]):
    """What a znode was when it was last read; ``stat`` None: it does not exist."""

    stat: Stat | None
    value: T | None
    error: CoordinatorError | None = None
    """Why the value is not that of the stat but an older one, or None."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Which children a znode had when it was last read; ``stat`` None: it did not exist."""

    stat: Stat | None
    names: frozenset[str]
    error: CoordinatorError | None = None


class ZnodeMirror(Intent, Generic[T]):
    """The copy of one znode is fresh."""

    def __init__(self, token: int, path: str, decode: Decode[T]) -> None:
        super().__init__(token, path)
        self._decode = decode
        self.copy: Copy[T] | None = None
        """None until it was read for the first time."""

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        try:
            data, stat = yield from self._read()
        except ZnodeError as error:
            return self._unreadable(error, None, after_gap=after_gap, retry=True)
        before = self.copy
        if stat is None:
            self.copy = Copy(None, None)
            existed = before is not None and before.stat is not None
            drafts = (draft(ZnodeDeleted, path=self.path, after_gap=after_gap),) if existed else ()
            return Outcome(drafts, changed=existed)
        if before is not None and not isinstance(before.error, ZnodeError) and _same(before.stat, stat):
            # Other fields of the stat may have moved: children, ACL.
            self.copy = Copy(stat, before.value, before.error)
            return Outcome()
        try:
            value = self._decode(self.path, data)
        except PayloadError as error:
            return self._unreadable(error, stat, after_gap=after_gap, retry=False)
        self.copy = Copy(stat, value)
        if before is None or (before.stat is None and before.error is not None):
            return Outcome(changed=before is not None)  # nothing readable to compare with
        return Outcome(tuple(self._differences(before.stat, stat, after_gap=after_gap)), changed=True)

    def _read(self) -> Flow[tuple[bytes, Stat | None]]:
        while True:
            try:
                return (yield from ask(Get(self.path, watch=self.token)))
            except NoNodeError:
                # A read that fails arms no watch on the server; this arms the one that
                # fires on creation.
                if (yield from ask(Exists(self.path, watch=self.token))) is None:
                    return b"", None

    def _differences(self, before: Stat | None, after: Stat, *, after_gap: bool) -> list[Draft]:
        told = {"path": self.path, "after_gap": after_gap}
        news = {"version": after.version, "mzxid": after.mzxid}
        if before is None:
            return [draft(ZnodeCreated, **told, **news)]
        if before.czxid != after.czxid:
            return [draft(ZnodeDeleted, **told), draft(ZnodeCreated, **told, **news)]
        return [] if before.mzxid == after.mzxid else [draft(ZnodeChanged, **told, **news)]

    def _unreadable(
        self, error: CoordinatorError, stat: Stat | None, *, after_gap: bool, retry: bool
    ) -> Outcome:
        before = self.copy
        value = None if before is None else before.value
        if stat is None and before is not None:
            stat = before.stat
        self.copy = Copy(stat, value, error)
        if before is not None and str(before.error) == str(error) and before.stat == stat:
            return Outcome(retry=retry, error=error if retry else None)
        told = draft(ZnodeUnreadable, path=self.path, error=str(error), after_gap=after_gap)
        return Outcome((told,), retry=retry, error=error if retry else None, changed=before is not None)

    def withdraw(self, standing: Standing) -> Flow[None]:
        yield from ask(Unwatch(self.path, self.token))


def _same(before: Stat | None, after: Stat) -> bool:
    """Whether it is the same data of the same incarnation; mzxid alone tells both."""
    return before is not None and before.mzxid == after.mzxid


class ChildrenMirror(Intent):
    """The copy of the set of a znode's children is fresh."""

    def __init__(self, token: int, path: str) -> None:
        super().__init__(token, path)
        self.copy: Membership | None = None
        """None until it was read for the first time."""

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        before = self.copy
        try:
            names, stat = yield from self._read()
        except ZnodeError as error:
            return self._unreadable(error, after_gap=after_gap)
        self.copy = Membership(stat, names)
        if before is None:
            return Outcome()
        if before.stat is not None and stat is not None:
            if (before.stat.czxid, before.stat.pzxid) == (stat.czxid, stat.pzxid):
                return Outcome()
            if before.stat.czxid == stat.czxid:
                added, removed = names - before.names, before.names - names
            else:  # the parent was recreated: whatever has the same name is another znode
                added, removed = names, before.names
        else:
            added, removed = names - before.names, before.names - names
            if not added and not removed:
                return Outcome()
        told = draft(
            ChildrenChanged,
            path=self.path,
            added=tuple(sorted(added)),
            removed=tuple(sorted(removed)),
            after_gap=after_gap,
        )
        return Outcome((told,), changed=True)

    def _read(self) -> Flow[tuple[frozenset[str], Stat | None]]:
        while True:
            try:
                names, stat = yield from ask(Children(self.path, watch=self.token))
                return frozenset(names), stat
            except NoNodeError:
                if (yield from ask(Exists(self.path, watch=self.token))) is None:
                    return frozenset(), None

    def _unreadable(self, error: ZnodeError, *, after_gap: bool) -> Outcome:
        before = self.copy
        self.copy = Membership(None, frozenset(), error)
        if before is not None:
            self.copy = Membership(before.stat, before.names, error)
        if before is not None and str(before.error) == str(error):
            return Outcome(retry=True, error=error)
        told = draft(ZnodeUnreadable, path=self.path, error=str(error), after_gap=after_gap)
        return Outcome((told,), retry=True, error=error)

    def withdraw(self, standing: Standing) -> Flow[None]:
        yield from ask(Unwatch(self.path, self.token))
