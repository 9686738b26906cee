"""What a new session has to bring back, in which order, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.core.draft import Draft, draft
from coordinator.core.intent import Outcome
from coordinator.events import RecoveryCompleted, RecoveryStarted
from coordinator.events.kept import SHOWN_PATHS

LAST_STAGE = 2
"""Of views and queues; ephemerals are at 0."""


@dataclass(eq=False, slots=True)
class Recovery:
    """Ephemerals first, then views, then queues; a stage ends with the first outcome of each intent."""

    started_at: float
    ephemerals: dict[int, str]
    """Paths by token, as of the views."""
    views: dict[int, str]
    queues: dict[int, str] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    """Tokens of the present stage that have had no outcome yet."""
    stage: int = 0
    conflicts: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting |= set(self.ephemerals)

    def holds_back(self, token: int) -> bool:
        """Whether it is the turn of others first."""
        return any(token in stage for stage in (self.views, self.queues)[self.stage :])

    def next_stage(self) -> dict[int, str] | None:
        """Go on to the next stage, and return whose turn it is then; None: all had theirs."""
        self.stage += 1
        return (self.views, self.queues)[self.stage - 1] if self.stage <= LAST_STAGE else None

    def note(self, token: int, path: str, outcome: Outcome) -> bool:
        """Note an outcome; return whether it was the first of that intent and was waited for."""
        if token not in self.waiting:
            return False
        self.waiting.discard(token)
        if outcome.conflict:
            self.conflicts.append(path)
        elif outcome.error is not None:
            self.failed.append(path)
        if outcome.changed:
            self.changed.append(path)
        return True

    def started(self) -> Draft:
        """Return what there is to tell of its beginning."""
        return draft(
            RecoveryStarted,
            ephemerals=len(self.ephemerals),
            watches=len(self.views),
            ephemeral_paths=tuple(self.ephemerals.values())[:SHOWN_PATHS],
            watch_paths=tuple(self.views.values())[:SHOWN_PATHS],
        )

    def completed(self, now: float) -> Draft:
        """Return what there is to tell of its end."""
        return draft(
            RecoveryCompleted,
            ephemerals=len(self.ephemerals),
            watches=len(self.views),
            conflicts=len(self.conflicts),
            failed=len(self.failed),
            changed=len(self.changed),
            took=max(0.0, now - self.started_at),
            conflict_paths=tuple(self.conflicts[:SHOWN_PATHS]),
            failed_paths=tuple(self.failed[:SHOWN_PATHS]),
            changed_paths=tuple(self.changed[:SHOWN_PATHS]),
        )
