"""The seats of a queue: which children of a lock's znode stand in it, and in which order.

A queue is made of ephemeral sequential children. What they are called says who may stand in the same
queue; that is the contract with other clients (`Dialect`)::

    kazoo           0f3c...__lock__0000000017            kazoo's Lock, Election
    curator-lock    _c_7d2e...-lock-0000000017           Curator's InterProcessMutex, LeaderSelector
    curator-latch   _c_7d2e...-latch-0000000017          Curator's LeaderLatch

The number is the order, and nothing else: what stands before it is drawn anew for each attempt, so that a
client whose answer was lost finds its own seat again. Children that are called otherwise are strangers
and stand in no queue.

Numbers are 32 bits and signed. A parent of which more than 2^31 children were created goes on with
negative ones, so they are ordered by their distance from one of them, as serial numbers are (RFC 1982):
those who stand in one queue at the same time are less than half of all numbers apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Dialect = Literal["kazoo", "curator-lock", "curator-latch"]

_MARKS: dict[Dialect, tuple[str, str]] = {
    "kazoo": ("", "__lock__"),
    "curator-lock": ("_c_", "-lock-"),
    "curator-latch": ("_c_", "-latch-"),
}
"""What stands before an attempt's id, and between it and the number. Source: kazoo.recipe.lock.Lock;
Curator's ProtectedUtils, LockInternals ("lock-") and LeaderLatch ("latch-")."""

_SPAN = 1 << 32
_NUMBER = r"(?P<number>\d{10}|-\d{9,10})$"
"""Source: ZooKeeper's PrepRequestProcessor: ``String.format("%010d", cversion of the parent)``."""
_PATTERNS = {dialect: re.compile(re.escape(mark[1]) + _NUMBER) for dialect, mark in _MARKS.items()}


class Seat(NamedTuple):
    """A child of the lock's znode that stands in the queue."""

    name: str
    number: int


def seat_prefix(dialect: Dialect, attempt: str) -> str:
    """Return what the name of a seat begins with, up to the number that the server adds.

    Args:
        dialect: whose queue it is.
        attempt: an id that no other attempt has: 32 hexadecimal digits for kazoo's dialect, a UUID with
            dashes for Curator's.
    """
    before, between = _MARKS[dialect]
    return f"{before}{attempt}{between}"


def seats(names: Iterable[str], dialect: Dialect) -> list[Seat]:
    """Return those who stand in the queue, the first of them first; strangers are left out."""
    pattern = _PATTERNS[dialect]
    found = [Seat(name, int(match["number"])) for name in names if (match := pattern.search(name))]
    pivot = found[0].number + _SPAN // 2 if found else 0
    found.sort(key=lambda seat: ((seat.number - pivot) % _SPAN, seat.name))
    return found


def foreign(names: Iterable[str], dialect: Dialect) -> Dialect | None:
    """Return another dialect in whose queue one of them stands; None: there is none."""
    listed = list(names)
    return next((other for other in _MARKS if other != dialect and seats(listed, other)), None)


def before(queue: list[Seat], name: str) -> Seat | None:
    """Return whom the holder of that seat waits for; None: nobody, it is the first.

    Raises:
        ValueError: it does not stand in the queue any more.
    """
    place = [seat.name for seat in queue].index(name)
    return queue[place - 1] if place else None
