"""Who waits for an answer, until when; and whatever else is due at a time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import inf

from coordinator.core.intent import Made
from coordinator.core.messages import Settle, Waiter
from coordinator.core.runner import Task


@dataclass(eq=False, slots=True)
class Call:
    """Somebody waits for something until a deadline."""

    waiter: Waiter
    label: str
    timeout: float
    task: Task | None = None
    made: Made | None = None
    """What is to be undone when the task is over, because its caller has given up."""
    over: bool = False


class Alarms:
    """What is to be called at which time, by the clock of the messages."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def set(self, when: float, ring: Callable[[], None]) -> None:
        """Have something called at that time."""
        heapq.heappush(self._heap, (when, next(self._numbers), ring))

    def next(self) -> float | None:
        """Return when the next one is due."""
        return self._heap[0][0] if self._heap else None

    def ring(self, now: float) -> None:
        """Call what is due."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()


class Calls:
    """Everybody who waits, by what he waits with."""

    def __init__(self, alarms: Alarms, settle: Callable[[Settle], None]) -> None:
        self._alarms = alarms
        self._settle = settle
        self._open: dict[Waiter, Call] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(
        self, waiter: Waiter, label: str, timeout: float, deadline: float, late: Callable[[Call], None]
    ) -> Call:
        """Remember that somebody waits, and what to do when his deadline passes."""
        call = self._open[waiter] = Call(waiter, label, timeout)
        if deadline < inf:
            self._alarms.set(deadline, lambda: None if call.over else late(call))
        return call

    def find(self, waiter: Waiter) -> Call | None:
        """Return his call, if it is still open."""
        return self._open.get(waiter)

    def all(self) -> list[Call]:
        """Return all that are open, the oldest first."""
        return list(self._open.values())

    def answer(self, call: Call, value: object = None, error: BaseException | None = None) -> None:
        """Answer a call, once."""
        if not call.over:
            call.over = True
            self._open.pop(call.waiter, None)
            self._settle(Settle(call.waiter, value, error))
            call.task = call.waiter = None  # its alarm stays until the deadline
