"""The intent that a copy of a znode, or of its children, is fresh and its watch armed.

A watch is a trigger, not a log (rule R16): when it fires, and after every gap in which
none stood, the znode is read again and compared with the copy. Compared are czxid,
mzxid and pzxid, not the version: that of a recreated znode begins at 0 again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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


class ZnodeHistory:
    """What was told of a znode so far, by all views of it: nothing is told twice."""

    def __init__(self) -> None:
        self._known = False
        self._told: Stat | None = None

    def begin(self, stat: Stat | None) -> None:
        """Take this as the state from which changes are told, if there is none yet."""
        if not self._known:
            self._known, self._told = True, stat

    def advance_unread(self, path: str, after: Stat, *, after_gap: bool) -> tuple[Draft, ...]:
        """Return what there is to tell of a znode whose data could not be read: whether it is new."""
        self.begin(after)
        if self._told is not None and self._told.czxid == after.czxid:
            return ()  # what is readable next is compared with what was readable before
        return self.advance(path, after, after_gap=after_gap)

    def advance(self, path: str, after: Stat | None, *, after_gap: bool) -> tuple[Draft, ...]:
        """Return what there is to tell now that the znode was seen like this."""
        self.begin(after)
        before, self._told = self._told, after
        told: dict[str, object] = {"path": path, "after_gap": after_gap}
        if after is None:
            return () if before is None else (draft(ZnodeDeleted, **told),)
        news: dict[str, object] = {**told, "version": after.version, "mzxid": after.mzxid}
        if before is None:
            return (draft(ZnodeCreated, **news),)
        if before.czxid != after.czxid:
            return (draft(ZnodeDeleted, **told), draft(ZnodeCreated, **news))
        return () if before.mzxid == after.mzxid else (draft(ZnodeChanged, **news),)


class ZnodeMirror(Intent, Generic[T]):
    """The copy of one znode is fresh."""

    def __init__(self, token: int, path: str, decode: Decode[T]) -> None:
        super().__init__(token, path)
        self._decode = decode
        self._history = ZnodeHistory()
        self.copy: Copy[T] | None = None
        """None until it was read for the first time."""

    def share(self, common: dict[tuple[type, str], Any]) -> None:
        self._history = common.setdefault((type(self), self.path), self._history)

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        try:
            data, stat = yield from self._read()
        except ZnodeError as error:
            return self._unreadable(error, None, after_gap=after_gap, retry=True)
        before = self.copy
        if stat is None:
            self.copy = Copy(None, None)
            drafts = self._history.advance(self.path, None, after_gap=after_gap)
            return Outcome(drafts, changed=before is not None and before.stat is not None)
        if before is not None and not isinstance(before.error, ZnodeError) and _same(before.stat, stat):
            # Other fields of the stat may have moved: children, ACL.
            self.copy = Copy(stat, before.value, before.error)
            return Outcome()
        try:
            value = self._decode(self.path, data)
        except PayloadError as error:
            drafts = self._history.advance_unread(self.path, stat, after_gap=after_gap)
            return self._unreadable(error, stat, after_gap=after_gap, retry=False, drafts=drafts)
        self.copy = Copy(stat, value)
        drafts = self._history.advance(self.path, stat, after_gap=after_gap)
        return Outcome(drafts, changed=before is not None)

    def _read(self) -> Flow[tuple[bytes, Stat | None]]:
        while True:
            try:
                return (yield from ask(Get(self.path, watch=self.token)))
            except NoNodeError:
                # A read that fails arms no watch on the server; this arms the one that
                # fires on creation.
                if (yield from ask(Exists(self.path, watch=self.token))) is None:
                    return b"", None

    def _unreadable(
        self,
        error: CoordinatorError,
        stat: Stat | None,
        *,
        after_gap: bool,
        retry: bool,
        drafts: tuple[Draft, ...] = (),
    ) -> Outcome:
        before = self.copy
        value = None if before is None else before.value
        if stat is None and before is not None:
            stat = before.stat
        self.copy = Copy(stat, value, error)
        if before is not None and str(before.error) == str(error) and before.stat == stat:
            return Outcome(drafts, retry=retry, error=error if retry else None)
        told = draft(ZnodeUnreadable, path=self.path, error=str(error), after_gap=after_gap)
        return Outcome(
            (*drafts, told), retry=retry, error=error if retry else None, changed=before is not None
        )

    def withdraw(self, standing: Standing) -> Flow[None]:
        yield from ask(Unwatch(self.path, self.token))


def _same(before: Stat | None, after: Stat) -> bool:
    """Whether it is the same data of the same incarnation; mzxid alone tells both."""
    return before is not None and before.mzxid == after.mzxid


def _moved(before: Stat | None, after: Stat | None) -> bool:
    """Whether the set of children was changed; pzxid moves with each change of it."""
    return (before and (before.czxid, before.pzxid)) != (after and (after.czxid, after.pzxid))


class ChildrenHistory:
    """What was told of a znode's children so far, by all views of them."""

    def __init__(self) -> None:
        self._told: Membership | None = None

    def advance(self, path: str, after: Membership, *, after_gap: bool) -> tuple[Draft, ...]:
        """Return what there is to tell now that the children were seen like this."""
        before, self._told = self._told or after, after
        added, removed = after.names - before.names, before.names - after.names
        if before.stat is None or after.stat is None:
            if not added and not removed:
                return ()
        elif before.stat.czxid != after.stat.czxid:
            # The parent was recreated: whatever has the same name is another znode.
            added, removed = after.names, before.names
        elif before.stat.pzxid == after.stat.pzxid:
            return ()
        names = {"added": tuple(sorted(added)), "removed": tuple(sorted(removed))}
        return (draft(ChildrenChanged, path=path, after_gap=after_gap, **names),)


class ChildrenMirror(Intent):
    """The copy of the set of a znode's children is fresh."""

    def __init__(self, token: int, path: str) -> None:
        super().__init__(token, path)
        self._history = ChildrenHistory()
        self.copy: Membership | None = None
        """None until it was read for the first time."""

    def share(self, common: dict[tuple[type, str], Any]) -> None:
        self._history = common.setdefault((type(self), self.path), self._history)

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        before = self.copy
        try:
            names, stat = yield from self._read()
        except ZnodeError as error:
            return self._unreadable(error, after_gap=after_gap)
        self.copy = Membership(stat, names)
        drafts = self._history.advance(self.path, self.copy, after_gap=after_gap)
        return Outcome(drafts, changed=before is not None and _moved(before.stat, stat))

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
        yield from ask(Unwatch(self.path, self.token, children=True))
