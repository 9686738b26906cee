"""The time of an ensemble in memory, and whose turn it is: one engine runs at a time.

::

    Turns.now        stands still; MemoryEnsemble.advance() alone moves it
    Turn (an inbox)  an engine waits in take() until it has something to do and no other runs
    Turns.settle()   waits until none has anything to do at this moment

Among those that have something to do the one that was started first is next, and whoever asks or
breaks something from outside waits until all have come to rest. So what comes of a call depends on
nothing but the calls before it, however the system schedules threads.
"""

from __future__ import annotations

import queue
import random
import threading
from collections import Counter, deque
from datetime import UTC, datetime, timedelta

from coordinator.core.calls import Alarms
from coordinator.core.messages import Close, Message, Moment
from coordinator.errors import CoordinatorError

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
"""What the calendar says when the clock reads 0."""
FIRST = 1000.0
"""What the clock reads at first: a contact at 0 would be none."""
PATIENCE = 10.0
"""Seconds of the system's clock for which calls, and the ensemble itself, wait for engines: all
that they do is computing."""


class Turns:
    """The one clock, and all inboxes in the order in which their engines were started."""

    def __init__(self) -> None:
        self.now = FIRST
        self.changed = threading.Condition(threading.RLock())
        """Held while anything of the ensemble is looked at or changed."""
        self.inboxes: list[TurnInbox] = []
        self.running: TurnInbox | None = None
        self.asked: Counter[int] = Counter()
        """How many messages each thread has put."""

    def wall(self) -> int:
        """Return the milliseconds since 1970."""
        return round((BEGAN.timestamp() + self.now) * 1000)

    def next(self) -> TurnInbox | None:
        """Return whose turn it is."""
        if self.running is not None:
            return None
        return next((one for one in self.inboxes if one.waiting and one.has_something), None)

    @property
    def at_rest(self) -> bool:
        """Whether nobody has anything to do at this moment."""
        return self.running is None and all(one.waiting and not one.has_something for one in self.inboxes)

    @property
    def within(self) -> bool:
        """Whether this is the thread of an engine."""
        return any(one.thread == threading.get_ident() for one in self.inboxes)

    def rest(self) -> bool:
        """Wait until nobody has anything to do at this moment; return whether that came to be.

        An engine does not wait for itself.
        """
        with self.changed:
            self.changed.notify_all()  # time may have moved
            return self.within or self.changed.wait_for(lambda: self.at_rest, PATIENCE)

    def settle(self) -> None:
        """Wait until nobody has anything to do at this moment.

        Raises:
            CoordinatorError: an engine does not come to rest.
        """
        with self.changed:
            if self.within:
                raise CoordinatorError("an engine cannot wait for itself: a model or a log handler asked")
            if not self.rest():
                raise CoordinatorError(f"an engine did not come to rest within {PATIENCE:g} s")


class TurnClock:
    """The clock of one client: that of the ensemble, but that one who closes does not wait."""

    unanswered = (
        "the time of a MemoryEnsemble stands still, so that a call waits until somebody calls advance(); "
        "begin() starts a call beside the test"
    )

    def __init__(self, turns: Turns, seed: str) -> None:
        self._turns = turns
        self._random = random.Random(seed)  # noqa: S311 -- jitter, the same in each run
        self.ahead = 0.0

    @property
    def random(self) -> random.Random:
        """Where this client draws its delays from."""
        return self._random

    def now(self) -> float:
        """Return the ensemble's time."""
        return self._turns.now + self.ahead

    def moment(self) -> Moment:
        """Return this moment, with jitter that is the same in each run."""
        now = self.now()
        return Moment(now, BEGAN + timedelta(seconds=now), self._random.random())

    def patience(self, timeout: float) -> float:
        """Return how long a call waits; its own limit is by the ensemble's clock."""
        return PATIENCE


class TurnInbox:
    """The messages to one engine, and what is due in its port: taken when it is its turn."""

    def __init__(self, turns: Turns, clock: TurnClock) -> None:
        self._turns = turns
        self._clock = clock
        self._messages: deque[Message] = deque()
        self._until: float | None = None
        self._closing = False
        self.alarms = Alarms()
        """What the port has to do, by this client's clock."""
        self.waiting = False
        self.frozen = False
        """Its process is stopped: it takes nothing, and nothing falls due."""
        self.thread = 0

    @property
    def due(self) -> float | None:
        """When there is something to do even if nothing is put, by this client's clock."""
        times = (self._until, self.alarms.next())
        return min((when for when in times if when is not None), default=None)

    @property
    def wakes_at(self) -> float | None:
        """When time has to stop for it, by the ensemble's clock."""
        return None if self.frozen or self.due is None else self.due - self._clock.ahead

    @property
    def has_something(self) -> bool:
        """Whether there is something to do at this moment."""
        if self.frozen:
            return False
        due = self.due
        return bool(self._messages) or (due is not None and (self._closing or due <= self._clock.now()))

    def put(self, message: Message) -> None:
        """Leave a message of a caller's, when what was asked for before has been done."""
        with self._turns.changed:
            self._turns.rest()
            self.tell(message)
            self._turns.asked[threading.get_ident()] += 1

    def tell(self, message: Message) -> None:
        """Leave a message at once: what has happened to the link, or the end."""
        with self._turns.changed:
            self._messages.append(message)
            if isinstance(message, Close):
                self._closing, self.frozen = True, False  # no process can end while it is stopped
            self._turns.changed.notify_all()

    def take(self, until: float | None) -> Message | None:
        """Return the next message, or None at that time, when it is this engine's turn."""
        turns = self._turns
        with turns.changed:
            self._until, self.thread = until, threading.get_ident()
            while True:
                self._rest()
                turns.changed.wait_for(lambda: turns.next() is self)
                self.waiting, turns.running = False, self
                if self._messages:
                    return self._messages.popleft()
                self._catch_up()
                now = self._clock.now()
                first = now if self._until is None else min(now, self._until)
                port_due = self.alarms.next()
                if port_due is None or port_due > first:
                    return None
                self.alarms.ring(first)

    def _catch_up(self) -> None:
        """Whoever closes does not wait: what he would wait for is due now."""
        due = self.due
        if due is not None and due > self._clock.now():
            self._clock.ahead += due - self._clock.now()

    def _rest(self) -> None:
        self.waiting = True
        if self._turns.running is self:
            self._turns.running = None
        self._turns.changed.notify_all()

    def get_nowait(self) -> Message:
        """Return the next message: the engine is at its end, and refuses what came too late."""
        with self._turns.changed:
            if self._messages:
                return self._messages.popleft()
            self.leave()
            raise queue.Empty

    def leave(self) -> None:
        """Take part no more."""
        with self._turns.changed:
            if self in self._turns.inboxes:
                self._turns.inboxes.remove(self)
            if self._turns.running is self:
                self._turns.running = None
            self._turns.changed.notify_all()
