"""What is kept across sessions: recovery, ephemerals, znodes that are watched."""

from __future__ import annotations

from typing import Literal

from coordinator.events.base import BaseEvent, ShownId

SHOWN_PATHS = 100
"""How many paths a recovery event lists at most; its counts are complete."""


class RecoveryEvent(BaseEvent):
    """A new session takes over what the old one held."""

    ephemerals: int
    """How many there are to bring back."""
    watches: int
    """How many views there are to re-arm and compare."""


class RecoveryStarted(RecoveryEvent):
    """Bringing back what the expired session held begins."""

    kind: Literal["recovery.started"] = "recovery.started"
    ephemeral_paths: tuple[str, ...] = ()
    """The first 100."""
    watch_paths: tuple[str, ...] = ()
    """The first 100."""


class RecoveryCompleted(RecoveryEvent):
    """Every ephemeral and view had its first outcome under the new session."""

    kind: Literal["recovery.completed"] = "recovery.completed"
    conflicts: int = 0
    failed: int = 0
    changed: int = 0
    """How many views found a change that was made in the gap."""
    took: float
    """Seconds since recovery.started."""
    conflict_paths: tuple[str, ...] = ()
    failed_paths: tuple[str, ...] = ()
    changed_paths: tuple[str, ...] = ()


class EphemeralEvent(BaseEvent):
    """Something happened to an ephemeral that this coordinator keeps."""

    path: str


class EphemeralCreated(EphemeralEvent):
    """It exists, for the first time."""

    kind: Literal["ephemeral.created"] = "ephemeral.created"
    czxid: int


class EphemeralRecreated(EphemeralEvent):
    """It exists again: after an expiry, a conflict, or somebody's deletion."""

    kind: Literal["ephemeral.recreated"] = "ephemeral.recreated"
    czxid: int


class EphemeralConflict(EphemeralEvent):
    """Somebody else's znode stands in its place; it is never touched."""

    kind: Literal["ephemeral.conflict"] = "ephemeral.conflict"
    czxid: int
    owner_session_id: ShownId
    """0: the znode is not an ephemeral."""


class EphemeralFailed(EphemeralEvent):
    """The server refused to create or write it."""

    kind: Literal["ephemeral.failed"] = "ephemeral.failed"
    error: str
    next_try_in: float | None
    """Seconds."""


class EphemeralRemoved(EphemeralEvent):
    """It was withdrawn by us, or was found deleted by somebody else."""

    kind: Literal["ephemeral.removed"] = "ephemeral.removed"
    by: Literal["us", "others"]


class ZnodeEvent(BaseEvent):
    """Something happened to a znode that is watched."""

    path: str
    after_gap: bool = False
    """The change was made while no watch stood; it was found by comparing."""


class ZnodeCreated(ZnodeEvent):
    """A watched path that did not exist does now."""

    kind: Literal["znode.created"] = "znode.created"
    version: int
    mzxid: int


class ZnodeChanged(ZnodeEvent):
    """The data of a watched znode was set."""

    kind: Literal["znode.changed"] = "znode.changed"
    version: int
    mzxid: int


class ZnodeDeleted(ZnodeEvent):
    """A watched znode is gone."""

    kind: Literal["znode.deleted"] = "znode.deleted"


class ZnodeUnreadable(ZnodeEvent):
    """A watched znode cannot be read, or its data does not fit the model.

    The view keeps the last value that did.
    """

    kind: Literal["znode.unreadable"] = "znode.unreadable"
    error: str


class ChildrenChanged(ZnodeEvent):
    """The set of children of a watched znode changed.

    Both empty: a child came and went, or went and came back, between two looks. A
    parent that was itself recreated has lost all of its children and got new ones.
    """

    kind: Literal["children.changed"] = "children.changed"
    added: tuple[str, ...] = ()
    """Names, sorted."""
    removed: tuple[str, ...] = ()
    """Names, sorted."""
