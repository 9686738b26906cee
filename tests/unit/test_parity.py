"""The two faces are one: the same names, parameters, defaults and first lines."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import coordinator
from coordinator import awaiting, awaiting_locks, blocking, blocking_locks

TWINS = [
    (coordinator.Coordinator, coordinator.AsyncCoordinator),
    (coordinator.Ephemeral, coordinator.AsyncEphemeral),
    (coordinator.ZnodeView, coordinator.AsyncZnodeView),
    (coordinator.ChildrenView, coordinator.AsyncChildrenView),
    (coordinator.Transaction, coordinator.AsyncTransaction),
    (coordinator.EventStream, coordinator.AsyncEventStream),
    (coordinator.HandlerThread, coordinator.HandlerTask),
    (coordinator.Lease, coordinator.AsyncLease),
    (coordinator.Loss, coordinator.AsyncLoss),
    (coordinator.Lock, coordinator.AsyncLock),
    (coordinator.Candidacy, coordinator.AsyncCandidacy),
    (coordinator.Latch, coordinator.AsyncLatch),
    (coordinator.LeaderView, coordinator.AsyncLeaderView),
]
ASYNC_NAMES = {
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
}
#: A thread becomes a task, and what waits in a thread becomes what waits in a task; nothing else differs.
WORDS = {"on a thread of its own": "in a task of its own", "A thread that": "A task that"}
#: What is told once for both differs where only one of them can be cancelled, or is left behind.
OWN_WORDS = {("HandlerThread", "join"), ("Coordinator", "")}

#: What is written in each face for another reason than waiting: it hands out what belongs to that face.
NEVER_WAIT = {
    ("Coordinator", "adopt"),
    ("Coordinator", "events"),
    ("Coordinator", "lead"),
    ("Coordinator", "lock"),
    ("Coordinator", "on"),
    ("Coordinator", "transaction"),
    ("EventStream", "__iter__"),
    ("EventStream", "close"),
    ("HandlerThread", "alive"),
    ("HandlerThread", "close"),
    ("Loss", "is_set"),
}
#: Only what runs in an event loop can be cancelled.
OWN_PARAMETERS = {("Coordinator", "lead"): {"cancel_on_loss"}, ("Coordinator", "lock"): {"cancel_on_loss"}}


def public(kind: type) -> set[str]:
    """What a user may call or read, and how it takes part in the language."""
    return {name for name in dir(kind) if not name.startswith("_") or name in ASYNC_NAMES}


def members() -> list[Any]:
    return [
        pytest.param(ours, theirs, name, id=f"{ours.__name__}.{name}")
        for ours, theirs in TWINS
        for name in sorted(public(ours))
    ]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_the_same_names(one: type, other: type) -> None:
    """Nothing is missing on either side."""
    expected = {ASYNC_NAMES.get(name, name) for name in public(one)}
    there = {name for name in dir(other) if not name.startswith("_") or name in ASYNC_NAMES.values()}
    assert there == expected


@pytest.mark.parametrize(("one", "other", "name"), members())
def test_the_same_parameters_and_first_line(one: type, other: type, name: str) -> None:
    """Names, order, kinds and defaults of all parameters; the first line of the docstring."""
    mine, theirs = getattr(one, name), getattr(other, ASYNC_NAMES.get(name, name))
    assert callable(mine) == callable(theirs)
    if callable(mine):
        own = OWN_PARAMETERS.get((one.__name__, name), set())
        assert shape(mine) == [part for part in shape(theirs) if part[0] not in own]
    if (one.__name__, name) not in OWN_WORDS and not name.startswith("_"):
        assert first_line(mine) == first_line(theirs)


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_the_same_construction(one: type, other: type) -> None:
    """What is told of the class, and what it is made of."""
    if one is coordinator.Coordinator:
        assert shape(one.__init__) == shape(other.__init__)
    else:
        assert first_line(one) == first_line(other)


@pytest.mark.parametrize(("one", "other", "name"), members())
def test_whatever_waits_is_awaited(one: type, other: type, name: str) -> None:
    """What the two faces do each in its own way is a coroutine in one of them, but for what never waits."""
    mine, theirs = getattr(one, name), getattr(other, ASYNC_NAMES.get(name, name))
    if callable(mine) and mine is not theirs:
        awaited = inspect.iscoroutinefunction(theirs) or inspect.isasyncgenfunction(theirs)
        assert awaited == ((one.__name__, name) not in NEVER_WAIT)


def test_no_handle_is_forgotten() -> None:
    """Every public class of one module has its twin in the other."""

    def classes(module: Any) -> set[str]:
        return {
            name
            for name, kind in vars(module).items()
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and not name.startswith("_")
        }

    mine, theirs = classes(blocking) | classes(blocking_locks), classes(awaiting) | classes(awaiting_locks)
    assert mine | {"Coordinator"} == {one.__name__ for one, _ in TWINS}
    assert theirs | {"AsyncCoordinator"} == {other.__name__ for _, other in TWINS}


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


def first_line(thing: Any) -> str:
    line = (inspect.getdoc(thing) or "").partition("\n")[0]
    for blocking_word, async_word in WORDS.items():
        line = line.replace(blocking_word, async_word)
    return line
