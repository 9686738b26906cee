"""What the demo claims, checked against what was seen. Pure: no server, no clock.

Each function returns a problem in words, empty if there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordinator.events import (
    BaseEvent,
    ChildrenChanged,
    ConnectionOpened,
    EphemeralEvent,
    EventsDropped,
    RecoveryCompleted,
    RecoveryStarted,
    SessionClosed,
    SessionEstablished,
    SessionExpired,
    SessionResumed,
    SessionSuspended,
    ZnodeChanged,
    ZnodeCreated,
    ZnodeEvent,
)
from coordinator.models import hex_id

__all__ = [
    "Change",
    "Check",
    "Owned",
    "Ownership",
    "back_under",
    "in_order",
    "recovered_in_order",
    "reported_once",
    "untouched",
]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict."""

    claim: str
    problem: str
    took: float | None = None
    """Seconds that the recovery took, where the claim is about one."""

    @property
    def holds(self) -> bool:
        """Whether there was no problem."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class Owned:
    """What an independent client saw of one ephemeral."""

    session_id: int
    czxid: int


Ownership = Mapping[str, Owned]
"""The ephemerals that exist, by path."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was made, as the one event that has to tell it."""

    kind: str
    path: str
    version: int | None = None
    mzxid: int | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    after_gap: bool = False

    def __str__(self) -> str:
        told = [f"{self.kind} {self.path}"]
        if self.version is not None:
            told.append(f"version {self.version} (mzxid {self.mzxid})")
        told += [f"+{name}" for name in self.added] + [f"-{name}" for name in self.removed]
        return " ".join(told) + (" after a gap" if self.after_gap else "")

    @classmethod
    def told_by(cls, event: ZnodeEvent) -> Change:
        """Return the change that the event tells."""
        version = mzxid = None
        added: tuple[str, ...] = ()
        removed: tuple[str, ...] = ()
        if isinstance(event, ZnodeCreated | ZnodeChanged):
            version, mzxid = event.version, event.mzxid
        if isinstance(event, ChildrenChanged):
            added, removed = event.added, event.removed
        return cls(event.kind, event.path, version, mzxid, added, removed, event.after_gap)


def reported_once(events: Iterable[BaseEvent], made: Sequence[Change]) -> str:
    """Every change that was made was told once, in its order, and nothing else was."""
    told = [Change.told_by(event) for event in events if isinstance(event, ZnodeEvent)]
    expected, seen = Counter(made), Counter(told)
    problems = [
        f"not reported: {change}" if change not in seen else f"reported {seen[change]} times: {change}"
        for change, count in expected.items()
        if seen[change] != count
    ]
    problems += [f"reported but never made: {change}" for change in seen if change not in expected]
    if not problems:
        for path in {change.path for change in made}:
            order = [change for change in told if change.path == path]
            if order != [change for change in made if change.path == path]:
                problems.append(f"out of order: {', '.join(map(str, order))}")
    return "; ".join(problems)


def back_under(session_id: int, owned: Ownership, paths: Iterable[str]) -> str:
    """Every ephemeral exists and belongs to that session."""
    problems = []
    for path in paths:
        if path not in owned:
            problems.append(f"{path} does not exist")
        elif owned[path].session_id != session_id:
            problems.append(f"{path} belongs to {hex_id(owned[path].session_id)}, not {hex_id(session_id)}")
    return "; ".join(problems)


def untouched(before: Ownership, after: Ownership) -> str:
    """Every ephemeral is the same znode (czxid) of the same session as before."""
    problems = [] if before else ["there was no ephemeral to begin with"]
    for path, was in before.items():
        now = after.get(path)
        if now is None:
            problems.append(f"{path} does not exist")
        elif now.session_id != was.session_id:
            problems.append(
                f"{path} belongs to {hex_id(now.session_id)}, belonged to {hex_id(was.session_id)}"
            )
        elif now.czxid != was.czxid:
            problems.append(f"{path} was created anew (czxid {was.czxid} before, {now.czxid} now)")
    return "; ".join(problems)


def recovered_in_order(events: Sequence[BaseEvent], paths: Iterable[str]) -> str:
    """After the expiry: link, session, start, every ephemeral once, changes, end."""
    start = next((at for at, event in enumerate(events) if isinstance(event, SessionExpired)), None)
    if start is None:
        return "session.expired was not told"
    ranks = []
    recreated: Counter[str] = Counter()
    for event in events[start:]:
        rank = _rank(event)
        if rank is None:
            continue
        ranks.append((rank, event.kind))
        if isinstance(event, EphemeralEvent):
            recreated[f"{event.kind} {event.path}"] += 1
        if isinstance(event, RecoveryCompleted):
            break
    problems = []
    missing = {0, 1, 2, 3, 6} - {rank for rank, _ in ranks}
    if missing:
        problems.append("missing: " + ", ".join(_STAGES[rank] for rank in sorted(missing)))
    if ranks != sorted(ranks, key=lambda one: one[0]):
        problems.append("out of order: " + ", ".join(kind for _, kind in ranks))
    expected = Counter(f"ephemeral.recreated {path}" for path in paths)
    if recreated != expected:
        problems.append(f"told {dict(recreated)}, expected {dict(expected)}")
    return "; ".join(problems)


_STAGES = {
    0: "session.expired",
    1: "connection.opened",
    2: "session.established",
    3: "recovery.started",
    4: "ephemeral.*",
    5: "znode.*, children.changed",
    6: "recovery.completed",
}


def _rank(event: BaseEvent) -> int | None:
    ranks: tuple[tuple[type[BaseEvent], int], ...] = (
        (SessionExpired, 0),
        (ConnectionOpened, 1),
        (SessionEstablished, 2),
        (RecoveryStarted, 3),
        (EphemeralEvent, 4),
        (ZnodeEvent, 5),
        (RecoveryCompleted, 6),
    )
    return next((rank for kind, rank in ranks if isinstance(event, kind)), None)


def in_order(events: Sequence[BaseEvent], *, ended: bool = True) -> str:
    """Numbers ascend, sessions begin and end once, nothing follows the end."""
    problems = []
    if any(one.seq >= next_one.seq for one, next_one in pairwise(events)):
        problems.append("seq does not ascend")
    epochs = [event.epoch for event in events if isinstance(event, SessionEstablished)]
    if epochs != list(range(1, len(epochs) + 1)):
        problems.append(f"sessions were established as epochs {epochs}")
    suspended = False
    for event in events:
        if isinstance(event, SessionSuspended):
            if suspended:
                problems.append("suspended twice")
            suspended = True
        elif isinstance(event, SessionResumed | SessionExpired):
            if isinstance(event, SessionResumed) and not suspended:
                problems.append("resumed without having been suspended")
            suspended = False
    if any(isinstance(event, EventsDropped) for event in events):
        problems.append("events were dropped")
    if ended and not (events and isinstance(events[-1], SessionClosed)):
        problems.append("session.closed is not the last event")
    return "; ".join(problems)
