"""When a client whose thread has ended is replaced: at once, but not in a loop."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.core.calls import Alarms

FIRST, LONGEST, FORGET = 0.05, 5.0, 30.0
"""Seconds: the delay before the second of two rebuilds in a row, doubled each time, its
bound, and the time after which a rebuild is the first again."""


class Rebuilds:
    """Has a client rebuilt, with a growing delay if each of them ends again.

    Args:
        alarms: wakes it when the delay is over.
        rebuild: called when the time has come.
    """

    def __init__(self, alarms: Alarms, rebuild: Callable[[], None]) -> None:
        self._alarms = alarms
        self._rebuild = rebuild
        self._count = 0
        self._last = 0.0
        self._due = False

    def ask(self, now: float) -> None:
        """Have one made, unless one is due already."""
        if self._due:
            return
        self._due = True
        if now - self._last > FORGET:
            self._count = 0
        delay = 0.0 if self._count == 0 else min(LONGEST, FIRST * 2.0 ** min(self._count, 16))
        self._count += 1
        self._last = now
        self._alarms.set(now + delay, self._ring)

    def _ring(self) -> None:
        self._due = False
        self._rebuild()
