"""Tenures: who believed to hold a lease, from when to when, and where two of them overlap.

Pure: what `LeaseHistory` has recorded is judged and drawn here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Overlap", "Tenure"]

WIDTH = 60
"""Columns of a picture."""
ROWS = 12
"""Owners in a picture, and lines in a list; of more, the first."""


@dataclass(frozen=True)
class Tenure:
    """One owner's belief that the lease is his, without a break."""

    owner: str
    token: int | None
    began: float
    """Seconds on the clock of the history."""
    ended: float | None
    """The same; None: it has not ended."""

    def __str__(self) -> str:
        return self.owner if self.token is None else f"{self.owner} (token {self.token})"


@dataclass(frozen=True)
class Overlap:
    """A time during which two owners believed at once."""

    first: Tenure
    """Whose lease had begun before."""
    second: Tenure
    began: float
    """Seconds on the clock of the history."""
    lasted: float
    """Seconds."""

    @property
    def ended(self) -> float:
        """When the first of the two ended."""
        return self.began + self.lasted


def in_order(tenures: Iterable[Tenure]) -> list[Tenure]:
    """Return them in the order in which they began."""
    return sorted(tenures, key=lambda one: one.began)


def end_of(tenure: Tenure, now: float) -> float:
    """Return when it ended; one that has not lasts until now."""
    return now if tenure.ended is None else tenure.ended


def overlaps(tenures: Iterable[Tenure], now: float) -> list[Overlap]:
    """Return every overlap of two tenures, in the order in which they began.

    A tenure ends just before the moment of its end: one that begins then does not overlap.
    """
    found: list[Overlap] = []
    held: list[tuple[float, int, Tenure]] = []  # by their end; the number decides between equals
    for number, second in enumerate(in_order(tenures)):
        while held and held[0][0] <= second.began:
            heapq.heappop(held)
        ends = end_of(second, now)
        for other, _, first in sorted(held, key=lambda one: one[1]):
            if ends > second.began:
                found.append(Overlap(first, second, second.began, min(other, ends) - second.began))
        heapq.heappush(held, (ends, number, second))
    return found


def covered(tenures: Iterable[Tenure], since: float, until: float) -> float:
    """Return for how many seconds between the two at least one tenure stood."""
    total, reached = 0.0, since
    for one in in_order(tenures):
        begins, ends = max(one.began, reached), min(end_of(one, until), until)
        if ends > begins:
            total, reached = total + ends - begins, ends
    return total


def picture(tenures: Sequence[Tenure], found: Sequence[Overlap], now: float) -> list[str]:
    """Draw who believed when: ``=`` one of them, ``X`` several at once, ``.`` not this one."""
    start = min(one.began for one in tenures)
    span = max(end_of(one, now) for one in tenures) - start or 1.0
    guilty = [one for overlap in found for one in (overlap.first, overlap.second)]
    owners = list(dict.fromkeys(one.owner for one in in_order(guilty or tenures)))
    names = max(len(owner) for owner in owners[:ROWS])

    def columns(begins: float, ends: float) -> range:
        first = min(int((begins - start) / span * WIDTH), WIDTH - 1)
        return range(first, max(first + 1, min(WIDTH, round((ends - start) / span * WIDTH))))

    lines = [f"{'':{names}}  0 s{f'{span:.3f} s':>{WIDTH - 1}}"]
    for owner in owners[:ROWS]:
        row = ["."] * WIDTH
        marks = [("=", one.began, end_of(one, now)) for one in tenures if one.owner == owner]
        marks += [
            ("X", one.began, one.ended) for one in found if owner in (one.first.owner, one.second.owner)
        ]
        for mark, begins, ends in marks:
            for column in columns(begins, ends):
                row[column] = mark
        lines.append(f"{owner:{names}}  |{''.join(row)}|")
    if len(owners) > ROWS:
        lines.append(f"and {len(owners) - ROWS} more")
    return lines
