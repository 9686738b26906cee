"""How a pattern and the events part, told side by side.

::

    no session.expired confirmed_by='server' within 2 s

         expected                              actual
      4  session.suspended                     session.suspended server=127.0.0.1:2181 ...
      5                                        (connection.failed server=127.0.0.1:2181 ...)
      6  ...                                   session.expired confirmed_by=refused ...
    >    session.expired confirmed_by='server'  nothing more
         session.established
    event 6, session.expired: confirmed_by: expected 'server', was 'refused'

The number is the event's ``seq``; in brackets stands what was ignored; ``>`` is where they
part, and below it what is left on each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from coordinator.events import BaseEvent
from coordinator.models import hex_id
from coordinator.testing.patterns import (
    Again,
    Anything,
    Comparison,
    EventPattern,
    Node,
    Shuffle,
    State,
    awaited,
)

__all__ = ["Told", "difference"]

EVENT_WIDTH = 100
"""Characters of an event that are shown; most are shorter."""
PATTERN_WIDTH = 48
"""Characters to which the column of the pattern is filled up at most."""
RUN = 6
"""Events in a row that nothing named expects, of which all are shown; of more, the ends."""
LEFT = 20
"""Events that are shown of what is left."""
CLOSE = 3
"""Events that are shown for having come close."""


@dataclass(frozen=True)
class Told:
    """An event as it came, and whether the comparison passed over it."""

    event: BaseEvent
    ignored: bool = False

    def __str__(self) -> str:
        # The session's id is the same in most events, and long.
        text = str(self.event).replace(f" session_id={hex_id(self.event.session_id)}", "", 1)
        text = text if len(text) <= EVENT_WIDTH else text[: EVENT_WIDTH - 3] + "..."
        return f"({text})" if self.ignored else text


@dataclass(frozen=True)
class _Row:
    mark: str
    seq: int | None
    expected: str
    actual: str
    swallowed: bool = False
    """Nothing that was expected by name took it."""


def difference(comparison: Comparison, told: Sequence[Told], ended: str) -> str:
    """Return where they part, in words and side by side.

    Args:
        comparison: one that is not complete, or that failed.
        told: all events in order, ignored ones and those that were not read included.
        ended: why no more events came, e.g. ``within 5 s``; for what is missing at the end.
    """
    state, trail = comparison.best()
    takers = trail.takers()
    read, left = _split(told, len(takers))
    rows = list(_read_rows(read, takers))
    rows += _left_rows(state, left if comparison.failed else [])
    culprit = comparison.events[-1] if comparison.failed else None
    hints = _hints(state, culprit, comparison.events, takers)
    return "\n".join([_headline(state, culprit, ended), "", *_table(rows), *hints])


def _split(told: Sequence[Told], count: int) -> tuple[list[Told], list[Told]]:
    """Part the events behind that many that were not ignored."""
    seen = 0
    for place, one in enumerate(told):
        if seen == count and not one.ignored:
            return list(told[:place]), list(told[place:])
        seen += not one.ignored
    return list(told), []


def _headline(state: State, culprit: BaseEvent | None, ended: str) -> str:
    names = " or ".join(dict.fromkeys(str(one) for one in awaited(state)))
    if culprit is None:
        return f"no {names} {ended}"
    if not names:
        return f"one event too many: {culprit.kind} (event {culprit.seq})"
    return f"event {culprit.seq} is {culprit.kind}, expected {names}"


def _read_rows(read: Sequence[Told], takers: Sequence[EventPattern | None]) -> Iterator[_Row]:
    following = iter(takers)
    for one in read:
        taker = None if one.ignored else next(following)
        expected = "" if one.ignored else ("..." if taker is None else str(taker))
        yield _Row("", one.event.seq, expected, str(one), swallowed=taker is None)


def _left_rows(state: State, left: Sequence[Told]) -> Iterator[_Row]:
    expected = [line for node in _named(state) for line in _lines(node)] or ["nothing more"]
    actual: list[tuple[int | None, str]] = [(one.event.seq, str(one)) for one in left[:LEFT]]
    if len(left) > LEFT:
        actual.append((None, f"and {len(left) - LEFT} more"))
    actual = actual or [(None, "nothing more")]
    for number, (line, one) in enumerate(zip_longest(expected, actual)):
        seq, text = one or (None, "")
        yield _Row("" if number else ">", seq, line or "", text)


def _named(state: State) -> State:
    """Leave out the ``...`` at the beginning, to which any event would have been right."""
    return state[1:] if state and isinstance(state[0], Anything) else state


def _lines(node: Node) -> list[str]:
    match node:
        case EventPattern():
            return [str(node)]
        case Anything():
            return ["..."]
        case Again():
            return [f"more of: {', '.join(line for one in node.states for line in _lines(one))}"]
        case Shuffle():
            branches = [[line for one in branch for line in _lines(one)] for branch in node.branches]
            return [
                f"{' ' if number else '~'} {line}" for lines in branches for number, line in enumerate(lines)
            ]


def _hints(
    state: State,
    culprit: BaseEvent | None,
    events: Sequence[BaseEvent],
    takers: Sequence[EventPattern | None],
) -> list[str]:
    """Say what was wrong with an event that came close: of the right kind, with other fields."""
    passed = [one for one, taker in zip(events, takers, strict=False) if taker is None]
    near = [culprit] if culprit is not None else passed
    found = [
        f"event {one.seq}, {one.kind}: {line}"
        for pattern in awaited(state)
        for one in near
        if pattern.is_kind(one)
        for line in pattern.differences(one)
    ]
    return found[:CLOSE]


def _table(rows: Sequence[_Row]) -> list[str]:
    seqs = max([len(str(row.seq)) for row in rows if row.seq is not None], default=1)
    width = min(PATTERN_WIDTH, max(len(row.expected) for row in [*rows, _HEAD]))
    lines = []
    for row in [_HEAD, *_shortened(rows)]:
        seq = "" if row.seq is None else row.seq
        lines.append(f"{row.mark:1} {seq:>{seqs}}  {row.expected:{width}}  {row.actual}".rstrip())
    return lines


_HEAD = _Row("", None, "expected", "actual")


def _shortened(rows: Sequence[_Row]) -> Iterator[_Row]:
    """Leave out the middle of long runs that nothing named took."""
    for swallowed, group in groupby(rows, lambda row: row.swallowed):
        run = list(group)
        if not swallowed or len(run) <= RUN:
            yield from run
            continue
        yield from run[: RUN // 2]
        yield _Row("", None, run[0].expected, f"and {len(run) - 2 * (RUN // 2)} more")
        yield from run[-(RUN // 2) :]
