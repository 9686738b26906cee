"""Hands events to subscribers, each at its own pace.

A subscription is a bounded queue. A reader that is too slow gets one EventsDropped in
the place of what it missed; it delays nobody, and session events are never dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.events import BaseEvent, EventsDropped, Heartbeat, SessionClosed, SessionEvent

QUEUE_LIMIT = 10_000
"""Events that one subscription holds for a slow reader: at about 1 KiB each, 10 MiB."""


@dataclass(slots=True)
class _Gap:
    """What was dropped so far, in the place of the first of it."""

    first: BaseEvent
    last_seq: int
    count: int = 1

    def event(self) -> EventsDropped:
        first = self.first
        return EventsDropped(
            seq=first.seq,
            at=first.at,
            epoch=first.epoch,
            session_id=first.session_id,
            count=self.count,
            first_seq=first.seq,
            last_seq=self.last_seq,
        )


class Subscription:
    """The queue of one subscriber; filled by the engine, emptied by one reader."""

    def __init__(
        self, kinds: tuple[type[BaseEvent], ...], limit: int, wake: Callable[[], None] | None = None
    ) -> None:
        self._kinds = kinds
        self._limit = limit
        self._wake = wake
        self.reader: object = None
        """Kept alive as long as it is subscribed: a task that nobody else holds would be collected."""
        self._events: deque[BaseEvent | _Gap] = deque()
        self._gap: _Gap | None = None  # the one that is still unread
        self._changed = threading.Condition()
        self._ended = False
        self.forgotten = False
        """Nobody will read it."""

    def forget(self) -> None:
        """Say that its reader is gone; the next event, or subscription, finds out.

        Takes no lock: readers are collected wherever memory is asked for, also in a thread that
        holds the lock of another subscription, for which the one that publishes waits.
        """
        self.forgotten = True

    def wants(self, event: BaseEvent) -> bool:
        """Whether the event is of the kinds asked for; a heartbeat only by its own name."""
        if not self._kinds:
            return not isinstance(event, Heartbeat)
        if isinstance(event, Heartbeat):
            return Heartbeat in self._kinds
        return isinstance(event, self._kinds)

    def put(self, event: BaseEvent) -> None:
        """Queue the event, or note that it was dropped."""
        with self._changed:
            if self._ended or self.forgotten or not self.wants(event):
                return
            if len(self._events) >= self._limit and not event.essential:
                self._drop(event)
            else:
                self._events.append(event)
            self._changed.notify()
        if self._wake is not None:
            self._wake()

    def _drop(self, event: BaseEvent) -> None:
        if self._gap is None:
            self._gap = _Gap(event, event.seq)
            self._events.append(self._gap)
        else:  # counted in its place, which need not be searched for
            self._gap.count += 1
            self._gap.last_seq = event.seq

    def get(self, timeout: float | None) -> BaseEvent | None:
        """Return the next event, or None at the end.

        Raises:
            TimeoutError: there was none in that many seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._events or self._ended, timeout):
                raise TimeoutError
            if not self._events:
                return None
            event = self._events.popleft()
            if isinstance(event, _Gap):
                self._gap = None
                return event.event()
            return event

    def end(self) -> None:
        """Let the reader come to the end of what is queued."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._wake is not None:
            self._wake()


class Fanout:
    """All subscriptions of one coordinator."""

    def __init__(self) -> None:
        # Re-entrant: whatever is collected while an event is being published may close a stream.
        self._lock = threading.RLock()
        self._subscriptions: list[Subscription] = []
        self._state: SessionEvent | None = None
        self._over = False

    def subscribe(
        self,
        kinds: tuple[type[BaseEvent], ...],
        limit: int = QUEUE_LIMIT,
        wake: Callable[[], None] | None = None,
    ) -> Subscription:
        """Return a new subscription; it begins with the event that made the present state.

        ``wake`` is called, in any thread, when there is something new to be got.
        """
        subscription = Subscription(kinds, limit, wake)
        with self._lock:
            if self._state is not None:
                subscription.put(self._state)
            if self._over:
                subscription.end()
            else:
                self._sweep()
                self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
        subscription.end()

    def publish(self, event: BaseEvent) -> None:
        """Give the event to all who want it; only the engine calls this."""
        with self._lock:
            if isinstance(event, SessionEvent):
                self._state = event
            self._sweep()
            for subscription in tuple(self._subscriptions):
                subscription.put(event)
        if isinstance(event, SessionClosed):
            self.end()

    def _sweep(self) -> None:
        self._subscriptions = [one for one in self._subscriptions if not one.forgotten]

    def end(self) -> None:
        """Let every reader come to the end."""
        with self._lock:
            self._over = True
            for subscription in tuple(self._subscriptions):
                subscription.end()
            self._subscriptions.clear()
