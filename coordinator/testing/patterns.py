"""Patterns of events: what is expected of a sequence, and the machine that compares the two.

::

    parse(["session.suspended", ..., event("session.expired", confirmed_by="server")])

A pattern is a tuple of elements; what is left of it after an event is a tuple again. All ways
to read the events are followed side by side, one trail each, so that nothing is read twice and
a record can be compared while it grows. None of it waits or prints.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import EllipsisType
from typing import Any, Final, TypeAlias, get_args

from coordinator.errors import ConfigurationError
from coordinator.events import BaseEvent, Event
from coordinator.models import hex_id

__all__ = ["EventPattern", "Pattern", "event", "some", "times", "unordered"]


def _known_kinds() -> dict[str, type[BaseEvent]]:
    union = get_args(Event)[0]
    return {one.model_fields["kind"].default: one for one in get_args(union)}


KINDS: Final = _known_kinds()


@dataclass(frozen=True, eq=False)
class EventPattern:
    """One event of a kind, whose fields are as they shall be; `event` makes it."""

    kind: str | type[BaseEvent]
    fields: dict[str, object]

    def is_kind(self, candidate: BaseEvent) -> bool:
        """Whether it is of that kind, whatever its fields are."""
        if isinstance(self.kind, str):
            return fnmatchcase(candidate.kind, self.kind)
        return isinstance(candidate, self.kind)

    def differences(self, candidate: BaseEvent) -> list[str]:
        """What is wrong with the fields of an event of that kind, a line each."""
        wrong = []
        for name, expected in self.fields.items():
            actual = getattr(candidate, name, _MISSING)
            if actual is _MISSING or not _fits(expected, actual):
                wrong.append(f"{name}: expected {_shown(name, expected)}, was {_shown(name, actual)}")
        return wrong

    def matches(self, candidate: BaseEvent) -> bool:
        """Whether the event is as expected."""
        return self.is_kind(candidate) and not self.differences(candidate)

    def __str__(self) -> str:
        kind = self.kind if isinstance(self.kind, str) else self.kind.__name__
        return " ".join([kind, *(f"{name}={_shown(name, value)}" for name, value in self.fields.items())])


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING: Final = _Missing()


def _fits(expected: object, actual: object) -> bool:
    return bool(expected(actual)) if callable(expected) else bool(expected == actual)


def _shown(name: str, value: object) -> str:
    if callable(value):
        word = getattr(value, "__name__", type(value).__name__)
        return "<predicate>" if word == "<lambda>" else f"<{word}>"
    if name.endswith("session_id") and isinstance(value, int):
        return hex_id(value)
    return repr(value)


@dataclass(frozen=True, eq=False)
class Unordered:
    """Sequences whose events may come in between one another; `unordered` makes it."""

    branches: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Times:
    """The same several times; ``most`` is None where there is no limit."""

    least: int
    most: int | None
    element: Any


Element: TypeAlias = str | type[BaseEvent] | EventPattern | EllipsisType | Unordered | Times
Pattern: TypeAlias = Element | Sequence[Element]
"""What may stand in a pattern: a kind, with wildcards; a class of events; ``event(...)``; ``...``
for any events or none; ``unordered``, ``times``, ``some``; or a list of those, one after another."""


def event(kind: str | type[BaseEvent], /, **fields: object) -> EventPattern:
    """Expect one event of a kind, with fields that are or satisfy what is given.

    ::

        event("ephemeral.recreated", path="/workers/w-1", czxid=lambda czxid: czxid > before)

    Args:
        kind: a kind, in which ``*`` stands for anything (``"ephemeral.*"``), or a class of
            ``coordinator.events``, also a base class.
        fields: a value that the field equals, or a callable that is true of it.

    Raises:
        ConfigurationError: no event is of that kind, or none of those has such a field.
    """
    classes = _classes(kind)
    for name in fields:
        if not any(name in one.model_fields for one in classes):
            known = sorted({field for one in classes for field in one.model_fields})
            raise ConfigurationError(f"{_name(kind)} has no field {name!r}{_instead(name, known)}")
    return EventPattern(kind, fields)


def _classes(kind: object) -> list[type[BaseEvent]]:
    if isinstance(kind, str):
        found = [one for name, one in KINDS.items() if fnmatchcase(name, kind)]
        if not found:
            raise ConfigurationError(f"no event is of kind {kind!r}{_instead(kind, list(KINDS))}")
        return found
    if isinstance(kind, type) and issubclass(kind, BaseEvent):
        return [kind, *(one for one in KINDS.values() if issubclass(one, kind))]
    raise ConfigurationError(
        f"{kind!r} in a pattern of events: expected a kind, an event class, event(...), ..., "
        "unordered(...), times(...), some(...), or a list of those"
    )


def _name(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _instead(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, 1)
    return f": did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"


def unordered(*elements: Pattern) -> Unordered:
    """Expect all of these, in any order; a list among them stays in its own order.

    ::

        unordered(["znode.deleted", "znode.created"], "children.changed")
    """
    return Unordered(elements)


def times(count: int, element: Pattern) -> Times:
    """Expect the same that many times, one after another."""
    if count < 0:
        raise ConfigurationError(f"times({count}, ...): expected 0 or more")
    return Times(count, count, element)


def some(element: Pattern) -> Times:
    """Expect the same once or more, one after another."""
    return Times(1, None, element)


# -- the machine


class Anything:
    """Any events, or none."""


@dataclass(frozen=True, eq=False)
class Again:
    """A sequence any number of times, or not at all."""

    states: State


@dataclass(frozen=True)
class Shuffle:
    """What is left of sequences that come in between one another."""

    branches: tuple[State, ...]


Node: TypeAlias = EventPattern | Anything | Again | Shuffle
State: TypeAlias = tuple[Node, ...]
"""What is still to come."""

ANYTHING: Final = Anything()


def parse(elements: Sequence[Pattern]) -> State:
    """Turn a pattern into what the machine works with.

    Raises:
        ConfigurationError: something in it is no element of a pattern.
    """
    return tuple(node for element in elements for node in _nodes(element))


def _nodes(element: object) -> Iterator[Node]:
    match element:
        case EllipsisType():
            yield ANYTHING
        case EventPattern():
            yield element
        case Unordered():
            yield from _shuffled([parse([branch]) for branch in element.branches])
        case Times():
            state = parse([element.element])
            for _ in range(element.least):
                yield from state
            if element.most is None and state:
                yield Again(state)
        case list() | tuple():
            yield from parse(element)
        case _:
            _classes(element)
            yield EventPattern(element, {})  # type: ignore[arg-type]  # it has just been looked at


def _shuffled(branches: Sequence[State]) -> State:
    left = tuple(branch for branch in branches if branch)
    return (Shuffle(left),) if len(left) > 1 else (left[0] if left else ())


def satisfied(state: State) -> bool:
    """Whether nothing more has to come."""
    return all(
        not isinstance(node, EventPattern)
        and (not isinstance(node, Shuffle) or all(satisfied(one) for one in node.branches))
        for node in state
    )


def steps(state: State, candidate: BaseEvent) -> Iterator[tuple[State, EventPattern | None]]:
    """Yield each way to read the event: what is left then, and what took it (None: ``...``)."""
    if not state:
        return
    node, rest = state[0], state[1:]
    match node:
        case EventPattern():
            if node.matches(candidate):
                yield rest, node
            return
        case Anything():
            yield from steps(rest, candidate)
            yield state, None
            return
        case Again():
            for left, taker in steps(node.states, candidate):
                yield (*left, node, *rest), taker
        case Shuffle():
            for number, branch in enumerate(node.branches):
                for left, taker in steps(branch, candidate):
                    others = (*node.branches[:number], left, *node.branches[number + 1 :])
                    yield (*_shuffled(others), *rest), taker
    if satisfied((node,)):
        yield from steps(rest, candidate)


def awaited(state: State) -> list[EventPattern]:
    """What could come next, as far as it is expected by name."""
    found: list[EventPattern] = []
    for node in state:
        match node:
            case EventPattern():
                found.append(node)
            case Again():
                found += awaited(node.states)
            case Shuffle():
                for branch in node.branches:
                    found += awaited(branch)
            case Anything():
                pass
        if not satisfied((node,)):
            break
    return found


def required(state: State) -> list[EventPattern]:
    """All that still has to come, in the order of the pattern."""
    found: list[EventPattern] = []
    for node in state:
        if isinstance(node, EventPattern):
            found.append(node)
        elif isinstance(node, Shuffle):
            found += [one for branch in node.branches for one in required(branch)]
    return found


@dataclass(frozen=True)
class Trail:
    """One way in which the events so far were read."""

    before: Trail | None
    taker: EventPattern | None
    taken: int
    """How many events were taken by something that was expected by name."""

    def takers(self) -> list[EventPattern | None]:
        """What took each event, from the first on."""
        found: list[EventPattern | None] = []
        trail: Trail | None = self
        while trail is not None and trail.before is not None:
            found.append(trail.taker)
            trail = trail.before
        return found[::-1]


class Comparison:
    """Events against a pattern, one event after another."""

    def __init__(self, pattern: State) -> None:
        self.events: list[BaseEvent] = []
        """Those that were read, the one that did not fit included."""
        self._trails: dict[State, Trail] = {pattern: Trail(None, None, 0)}
        self.failed = False
        """The last event did not fit, whatever comes after it."""

    @property
    def complete(self) -> bool:
        """Whether the events so far are all that was expected."""
        return not self.failed and any(satisfied(state) for state in self._trails)

    def read(self, candidate: BaseEvent) -> None:
        """Take one more event."""
        self.events.append(candidate)
        following: dict[State, Trail] = {}
        for state, trail in self._trails.items():
            for left, taker in steps(state, candidate):
                taken = trail.taken + (taker is not None)
                if left not in following or following[left].taken < taken:
                    following[left] = Trail(trail, taker, taken)
        if following:
            self._trails = following
        else:
            self.failed = True

    def best(self) -> tuple[State, Trail]:
        """The way that came furthest, without the event that did not fit."""
        return max(self._trails.items(), key=lambda one: (one[1].taken, -len(required(one[0]))))
