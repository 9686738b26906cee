"""What a new session has to bring back, in which order, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.core.draft import Draft, draft
from coordinator.core.intent import Outcome
from coordinator.events import SHOWN_PATHS, RecoveryCompleted, RecoveryStarted


@dataclass(eq=False, slots=True)
class Recovery:
    """Ephemerals first, then views; a stage ends with the first outcome of each of its intents."""

    started_at: float
    ephemerals: dict[int, str]
    """Paths by token, as of the views."""
    views: dict[int, str]
    waiting: set[int] = field(default_factory=set)
    """Tokens of the present stage that have had no outcome yet."""
    views_begun: bool = False
    conflicts: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting |= set(self.ephemerals)

    def holds_back(self, token: int) -> bool:
        """Whether it is the turn of others first."""
        return not self.views_begun and token in self.views

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
