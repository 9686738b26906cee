"""Records of events: what a coordinator told, and whether it is what was expected.

::

    record = EventRecord(zk)
    proxy.cut()
    record.expect("connection.closed", "session.suspended", ..., "session.resumed")
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from weakref import WeakMethod, finalize

from coordinator.errors import ConfigurationError
from coordinator.events import BaseEvent
from coordinator.testing.differences import Told, difference
from coordinator.testing.patterns import Comparison, EventPattern, Pattern, parse

if TYPE_CHECKING:
    from coordinator.face import Face

__all__ = ["EventRecord", "match_events"]

TIMEOUT = 15.0
"""Seconds after which a test no longer believes that an event will come."""


OneEvent: TypeAlias = str | type[BaseEvent] | EventPattern
"""What stands for one event in a pattern: a kind, with wildcards; a class; ``event(...)``."""
Several: TypeAlias = list[OneEvent] | tuple[OneEvent, ...]


def match_events(
    events: Sequence[BaseEvent],
    *pattern: Pattern,
    ignoring: OneEvent | Several = (),
) -> None:
    """Assert that the events, all of them, are what the pattern says.

    ::

        match_events(record.events, ..., "session.suspended", "session.resumed")

    Args:
        events: in order, as a record or a stream gave them.
        pattern: see `Pattern`.
        ignoring: kinds, classes or ``event(...)``: events that are passed over wherever they are.

    Raises:
        AssertionError: they are not; shows expected and actual side by side.
        ConfigurationError: something in the pattern is no element of a pattern.
    """
    comparison = Comparison(parse(pattern))
    passed_over = _one_event_each(ignoring)
    told = [Told(one, _matches(one, passed_over)) for one in events]
    for one in told:
        if not one.ignored and not comparison.failed:
            comparison.read(one.event)
    if not comparison.complete:
        raise AssertionError(difference(comparison, told, "by the end"))


def _one_event_each(given: OneEvent | Several) -> list[EventPattern]:
    nodes = parse(given if isinstance(given, list | tuple) else [given])
    wrong = [one for one in nodes if not isinstance(one, EventPattern)]
    if wrong:
        raise ConfigurationError("ignoring=, and until(), take kinds, event classes or event(...)")
    return [one for one in nodes if isinstance(one, EventPattern)]


def _matches(candidate: BaseEvent, patterns: Sequence[EventPattern]) -> bool:
    return any(one.matches(candidate) for one in patterns)


def _waker(collect: WeakMethod[Callable[[], None]]) -> Callable[[], None]:
    """Return what is called after each event; it does not keep the record alive."""

    def wake() -> None:
        there = collect()
        if there is not None:
            there()

    return wake


class EventRecord:
    """All events of a coordinator from the moment it was made, in order.

    It begins with the event that made the session's present state. The events are recorded as
    they happen, of a `Coordinator` and of an `AsyncCoordinator` alike, and from any thread; what
    waits here blocks its thread, so in a coroutine call ``await asyncio.to_thread(record.expect,
    ...)``. What ``until``, ``expect``, ``quiet`` and ``rest`` return is read: the next of them
    begins behind it. One that fails reads nothing.

    Args:
        zk: whose events; may not be started yet.
        kinds: classes of ``coordinator.events``; none: all but heartbeats.
    """

    def __init__(self, zk: Face, *kinds: type[BaseEvent]) -> None:
        from coordinator.face import checked_kinds

        engine = getattr(zk, "_engine", None)
        if engine is None:
            raise ConfigurationError(
                f"EventRecord takes a Coordinator or an AsyncCoordinator, got {type(zk).__name__}"
            )
        self._engine = engine
        self._changed = threading.Condition()
        self._events: list[BaseEvent] = []
        self._read = 0
        self._ended = False
        self._subscription: Any = None  # the first event may come before it is there
        wake = _waker(WeakMethod(self._collect))
        self._subscription = engine.fanout.subscribe(checked_kinds(kinds), wake=wake)
        finalize(self, self._subscription.forget).atexit = False
        self._collect()

    def _collect(self) -> None:
        """Take what has come; called by whoever publishes an event, so that none waits to be read."""
        with self._changed:
            if self._subscription is None:
                return
            try:
                while (event := self._subscription.get(0)) is not None:
                    self._events.append(event)
                self._ended = True
            except TimeoutError:
                pass
            self._changed.notify_all()

    @property
    def events(self) -> list[Any]:
        """All events so far, read or not."""
        self._engine.check_process()
        with self._changed:
            return list(self._events)

    def until(self, *kinds: OneEvent, timeout: float = TIMEOUT) -> list[Any]:
        """Wait until each of these was seen once more, in any order; return all events up to there.

        Raises:
            AssertionError: one was not seen in that many seconds; shows what came instead.
        """
        missing, read = _one_event_each(kinds), 0
        end = time.monotonic() + timeout
        while missing:
            candidate = self._next(read, end)
            if candidate is None:
                names = ", ".join(str(one) for one in missing)
                came = [f"  {one.seq} {Told(one)}" for one in self._unread()] or ["  nothing"]
                raise AssertionError("\n".join([f"no {names} {self._why(timeout)}; there came:", *came]))
            read += 1
            found = next((one for one in missing if one.matches(candidate)), None)
            if found is not None:
                missing.remove(found)
        return self._take(read)

    def expect(
        self,
        *pattern: Pattern,
        timeout: float = TIMEOUT,
        ignoring: OneEvent | Several = (),
    ) -> list[Any]:
        """Assert that the next events are what the pattern says, and return them.

        It ends with the first event that completes the pattern, so a ``...`` at the end stands
        for nothing; an event that does not fit fails at once.

        ::

            down, up = record.expect("session.suspended", "session.resumed", ignoring="connection.*")

        Args:
            pattern: see `Pattern`.
            timeout: seconds for all of it.
            ignoring: kinds, classes or ``event(...)``: events that are passed over wherever they
                are; they are read, but not returned.

        Raises:
            AssertionError: other events came, or too few; shows both sides.
            ConfigurationError: something in the pattern is no element of a pattern.
        """
        comparison, passed_over = Comparison(parse(pattern)), _one_event_each(ignoring)
        told: list[Told] = []
        end = time.monotonic() + timeout
        while not comparison.complete:
            candidate = None if comparison.failed else self._next(len(told), end)
            if candidate is None:
                told += [Told(one, _matches(one, passed_over)) for one in self._unread()[len(told) :]]
                raise AssertionError(difference(comparison, told, self._why(timeout)))
            told.append(Told(candidate, _matches(candidate, passed_over)))
            if not told[-1].ignored:
                comparison.read(candidate)
        self._take(len(told))
        return list(comparison.events)

    def quiet(self, seconds: float) -> list[Any]:
        """Return what comes within that time: to show that something does not."""
        read, end = 0, time.monotonic() + seconds
        while self._next(read, end) is not None:
            read += 1
        return self._take(read)

    def rest(self, timeout: float = TIMEOUT) -> list[Any]:
        """Wait for the end, which is ``session.closed`` or `close`; return what came until then.

        Raises:
            AssertionError: it did not end in that many seconds.
        """
        read, end = 0, time.monotonic() + timeout
        while self._next(read, end) is not None:
            read += 1
        if not self._ended:
            raise AssertionError(f"the events did not end within {timeout:g} s: {self!r}")
        return self._take(read)

    def _next(self, read: int, end: float) -> BaseEvent | None:
        """Return the event behind that many unread ones; None if none comes until then, or ever."""
        self._engine.check_process()
        with self._changed:
            place = self._read + read
            self._changed.wait_for(
                lambda: len(self._events) > place or self._ended, max(0.0, end - time.monotonic())
            )
            return self._events[place] if len(self._events) > place else None

    def _unread(self) -> list[BaseEvent]:
        with self._changed:
            return self._events[self._read :]

    def _take(self, count: int) -> list[Any]:
        with self._changed:
            self._read += count
            return self._events[self._read - count : self._read]

    def _why(self, timeout: float) -> str:
        return "before the events ended" if self._ended else f"within {timeout:g} s"

    def close(self) -> None:
        """Record no more; what was recorded stays."""
        self._engine.end_stream(self._subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EventRecord of {len(self._events)} events, {len(self._events) - self._read} unread>"
