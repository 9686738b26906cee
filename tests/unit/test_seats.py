"""The order of a queue, and who stands in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.recipe.lock import Lock

from coordinator.core.seats import Dialect, Seat, before, seat_prefix, seats

HEX = "0f3c1d2e" * 4
UUID = "7d2e1f30-0000-4000-8000-000000000001"
DIALECTS: list[Dialect] = ["kazoo", "curator-lock", "curator-latch"]


def name(number: int, dialect: Dialect = "kazoo", attempt: str = HEX) -> str:
    """As a server names it."""
    return seat_prefix(dialect, attempt) + "%010d" % number  # noqa: UP031 -- Java's format, sign included


@pytest.mark.parametrize(
    ("dialect", "attempt", "prefix"),
    [
        ("kazoo", HEX, f"{HEX}__lock__"),
        ("curator-lock", UUID, f"_c_{UUID}-lock-"),
        ("curator-latch", UUID, f"_c_{UUID}-latch-"),
    ],
)
def test_what_a_seat_is_called(dialect: Dialect, attempt: str, prefix: str) -> None:
    """Public API: other clients stand in the same queue."""
    assert seat_prefix(dialect, attempt) == prefix


def test_kazoo_finds_our_seats_and_we_find_its() -> None:
    """By the pattern that its Lock looks for, negative numbers included."""
    pattern = re.compile(r"(?:__lock__)(-?\d{10})$")
    assert Lock._NODE_NAME == "__lock__"
    assert pattern.search(name(17))
    assert seats([HEX[::-1] + "__lock__0000000003"], "kazoo") == [Seat(HEX[::-1] + "__lock__0000000003", 3)]


def test_strangers_stand_in_no_queue() -> None:
    """Neither notes of somebody's, nor another dialect's seats, nor numbers of another length."""
    strangers = [
        "leader",
        "config",
        f"{HEX}__lock__17",
        f"{HEX}__rlock__0000000001",
        name(1, "curator-lock", UUID),
    ]
    assert seats([*strangers, name(5)], "kazoo") == [Seat(name(5), 5)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_number_alone_is_the_order(dialect: Dialect) -> None:
    """Not what stands before it."""
    names = [name(2, dialect, "a" * 32), name(1, dialect, "f" * 32), name(10, dialect, "0" * 32)]
    assert [seat.number for seat in seats(names, dialect)] == [1, 2, 10]


def test_numbers_go_on_behind_the_last_one() -> None:
    """2147483647 is followed by -2147483648, and -1 by 0."""
    wrapped = [name(-2147483648), name(2147483647), name(-2147483647), name(2147483646)]
    assert [seat.number for seat in seats(wrapped, "kazoo")] == [
        2147483646,
        2147483647,
        -2147483648,
        -2147483647,
    ]
    assert [seat.number for seat in seats([name(0), name(-1)], "kazoo")] == [-1, 0]


NUMBERS = st.one_of(st.integers(2**31 - 30, 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
"""Most of them far from where they turn negative."""


@given(start=NUMBERS, count=st.integers(2, 30), seed=st.randoms())
def test_any_run_of_numbers_is_in_order(start, count, seed) -> None:
    """Wherever it begins, and however the server lists it."""
    numbers = [(start + step + 2**31) % 2**32 - 2**31 for step in range(count)]
    names = [name(number) for number in numbers]
    seed.shuffle(names)
    assert [seat.number for seat in seats(names, "kazoo")] == numbers


def test_whom_one_waits_for() -> None:
    """The one right before, so that one departure wakes one."""
    queue = seats([name(3), name(1), name(2)], "kazoo")
    assert before(queue, name(1)) is None
    assert before(queue, name(3)) == Seat(name(2), 2)
    with pytest.raises(ValueError, match="not in list"):
        before(queue, name(9))
