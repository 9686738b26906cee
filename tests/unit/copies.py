"""The copies that one member of the simulation keeps of znodes and of their children.

``Copies`` knows what was asked for, what a view shows and what the events of its path tell; both have to
come to the same at every moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.core.messages import Unwant, Want
from coordinator.core.mirror import ChildrenMirror, ZnodeMirror
from coordinator.events import (
    BaseEvent,
    ChildrenChanged,
    RecoveryCompleted,
    RecoveryStarted,
    SessionExpired,
    ZnodeChanged,
    ZnodeCreated,
    ZnodeDeleted,
)

if TYPE_CHECKING:
    from member import Member

View = ZnodeMirror[bytes] | ChildrenMirror


class Replay:
    """What the events of one path tell, beginning with the first copy of a view."""

    def __init__(self) -> None:
        self.known = False
        self.blurred = False
        """Views came and went unseen: nothing can be said of this path any more."""
        self.state: Any = None
        """The mzxid of a znode, None if there is none; or the names of the children."""

    def told(self, event: BaseEvent) -> None:
        """Apply an event."""
        if not self.known or self.blurred:
            return
        match event:
            case ZnodeCreated():
                assert self.state is None, f"{event}: it was there"
                self.state = event.mzxid
            case ZnodeChanged():
                assert self.state is not None, f"{event}: it was not there"
                assert event.mzxid > self.state, f"{event}: goes backwards from {self.state}"
                self.state = event.mzxid
            case ZnodeDeleted():
                assert self.state is not None, f"{event}: it was not there"
                self.state = None
            case ChildrenChanged():
                assert set(event.removed) <= self.state, f"{event}: not all of them were there"
                left = self.state - set(event.removed)
                assert not left & set(event.added), f"{event}: some of them were there"
                self.state = left | set(event.added)

    def read(self, view: View) -> None:
        """Compare with what a view has just read."""
        if view.copy is None or view.copy.error is not None or self.blurred:
            return
        if isinstance(view, ChildrenMirror):
            now: Any = set(view.copy.names)
        else:
            now = None if view.copy.stat is None else view.copy.stat.mzxid
        if not self.known:
            self.known, self.state = True, now
        assert self.state == now, f"{view.path}: the events tell {self.state}, the view shows {now}"


class Copies:
    """All of one member."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.all: dict[View, str | None] = {}
        """None, or who waits for its end."""
        self.recovering: set[int] = set()
        """Tokens of those that are to be brought back in the present recovery."""
        self._closings: dict[str, View] = {}
        self._replays: dict[tuple[type, str], Replay] = {}
        self._shown: dict[View, object] = {}

    @property
    def wanted(self) -> list[View]:
        """Those that nobody has closed."""
        return [view for view, waiter in self.all.items() if waiter is None]

    # -- what its users do

    def want(self, kind: type[View], path: str, timeout: float) -> None:
        """Keep a copy of a znode, or of its children."""
        token = self._member.token()
        one: View = (
            ChildrenMirror(token, path) if kind is ChildrenMirror else ZnodeMirror(token, path, _unchanged)
        )
        self.all[one] = None
        self._replays.setdefault((kind, path), Replay())
        self._member.say(Want(one, f"watch {path}", 0.0, timeout, None))

    def leave(self, view: View, timeout: float) -> None:
        """Close one."""
        self.recovering.discard(view.token)
        waiter = self._member.waiter(f"unwatch {view.path}", timeout)
        self.all[view], self._closings[waiter] = waiter, view
        self._member.say(Unwant(view.token, waiter, self._member.now + timeout, timeout, waiter))

    # -- what it is told

    def settled(self, waiter: str, error: BaseException | None) -> None:
        """See that nothing is expected any more of one that was closed."""
        view = self._closings.get(waiter)
        if view is None:
            return
        del self.all[view]
        key = (type(view), view.path)
        if error is not None:
            self._replays[key].blurred = True  # it may still be there
        elif not self._replays[key].blurred and not any((type(one), one.path) == key for one in self.all):
            del self._replays[key]

    def refreshed(self, token: int) -> None:
        """Compare what one shows with what was told of it."""
        for view in list(self.all):
            if view.token == token and view.copy is not self._shown.get(view):
                self._shown[view] = view.copy
                self.recovering.discard(view.token)
                self._replays[type(view), view.path].read(view)

    def told(self, event: BaseEvent) -> None:
        """Apply an event."""
        match event:
            case SessionExpired():
                self.recovering.clear()
            case RecoveryStarted():
                self.recovering = {one.token for one in self.wanted}
                assert event.watches == len(self.recovering)
            case RecoveryCompleted():
                assert not self.recovering, f"completed without {self.recovering}"
            case ZnodeCreated() | ZnodeChanged() | ZnodeDeleted():
                self._replays[ZnodeMirror, event.path].told(event)
            case ChildrenChanged():
                self._replays[ChildrenMirror, event.path].told(event)


def _unchanged(path: str, data: bytes) -> bytes:
    return data
