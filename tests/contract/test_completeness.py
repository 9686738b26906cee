"""No cell of the matrix is missing: a new operation, or a new error of one, has to be tried."""

from __future__ import annotations

import inspect
import re

import pytest

import coordinator
from coordinator import errors
from coordinator.errors import CoordinatorError
from tests.contract.matrix import (
    BY_CONDITION,
    CONDITIONS,
    OF_ALL,
    OPERATIONS,
)
from tests.contract.refusals import ERRORS
from tests.contract.test_read_only import READS, WAITING, WRITES

FACES = (
    *("Coordinator", "Ephemeral", "ZnodeView", "ChildrenView", "Transaction"),
    *("Lock", "Candidacy", "Latch", "LeaderView", "Lease", "Loss"),
)
"""Whose public methods are operations."""

NOT_ASKED = {
    "Coordinator.start": "how it begins: tests/unit/test_memory.py, tests/faults/test_sequences.py",
    "Coordinator.close": "how it ends: tests/faults/test_close.py, and test_after_the_end",
    "Coordinator.adopt": "needs kazoo: tests/faults/test_adopt.py",
    "Coordinator.events": "asks nothing of a server",
    "Coordinator.on": "asks nothing of a server",
    "Coordinator.set_hosts": "asks nothing of a server",
    "Coordinator.transaction": "its operations are in the matrix",
    "Transaction.commit": "its operations are in the matrix",
    "Ephemeral.wait_present": "asks nothing: it waits for what is told",
    "ZnodeView.changes": "asks nothing: it waits for what is told",
    "ZnodeView.close": "test_watches.py",
    "ChildrenView.changes": "asks nothing: it waits for what is told",
    "ChildrenView.wait": "asks nothing: it waits for what is told",
    "ChildrenView.close": "test_watches.py",
    "Coordinator.lock": "asks nothing before it is acquired",
    "Coordinator.lead": "asks nothing before it campaigns",
    "Latch.wait": "asks nothing: it waits for what is told",
    "Latch.changes": "asks nothing: it waits for what is told",
    "LeaderView.wait": "asks nothing: it waits for what is told",
    "LeaderView.changes": "asks nothing: it waits for what is told",
    "LeaderView.close": "test_latches.py",
    "Lease.check": "asks nothing of a server",
    "Lease.guard": "asks nothing before the commit: test_locks.py",
    "Lease.wait_lost": "asks nothing of a server",
    "Loss.is_set": "asks nothing of a server",
    "Loss.wait": "asks nothing of a server",
}
"""Public methods without a row, and why."""

ELSEWHERE = {
    "StartError": "of start(): tests/unit/test_memory.py, tests/faults/test_sequences.py",
    "TLSError": "of start(): tests/integration/test_tls.py",
    "MissingChrootError": "of start(): tests/unit/test_memory.py, tests/faults/test_sequences.py",
    "AuthFailedError": "ends the session: tests/unit/test_memory.py, tests/faults/test_sequences.py",
    "LeaseLostError": "of a lease that is over: test_locks.py, test_latches.py",
    "ForkedError": "of every call in a forked child: tests/faults/test_fork.py",
    "SessionExpiredError": "only of a server that lags behind an expiry: tests/unit/test_kernel.py",
    "MissingExtraError": "of the construction: tests/integration/test_sasl.py",
    "QuotaExceededError": "only where a server is told to enforce quotas, which the memory has none of",
}
"""Errors without a cell, and why."""


IMPOSSIBLE: dict[str, dict[str, str]] = {
    "create ephemeral": {"ConnectionLossError": "its owner, or its absence, tells what became of it"},
    "create sequential": {"NodeExistsError": "its number makes the name a new one"},
    "create ephemeral sequential": {"NodeExistsError": "its number makes the name a new one"},
    "create parents": {"NoNodeError": "the parents are created"},
}
"""Errors of a method that one kind of it cannot come to, and why."""


def tried(name: str) -> set[type[CoordinatorError]]:
    """Every error of an operation that has a cell."""
    refused = {errors.ReadOnlyError} if name in WRITES else set()
    return set(ERRORS[name]) | BY_CONDITION[name] | OF_ALL | refused


def public_methods() -> set[str]:
    return {
        f"{face}.{name}"
        for face in FACES
        for name, member in inspect.getmembers(getattr(coordinator, face))
        if not name.startswith("_") and callable(member)
    }


def documented(method: str) -> set[type[CoordinatorError]]:
    """The errors that a docstring says are raised."""
    face, _, name = method.partition(".")
    text = inspect.getdoc(getattr(getattr(coordinator, face), name)) or ""
    section = re.search(r"^Raises:\n((?:    .*\n?|\n(?=    ))+)", text, re.MULTILINE)
    if section is None:
        return set()
    names = re.findall(r"\b([A-Z]\w*Error)\b", section[1])
    return {getattr(errors, name) for name in names}


def test_every_operation_is_tried_without_a_quorum() -> None:
    """It reads, or it is refused, or it waits."""
    assert sorted((*READS, *WRITES, *WAITING)) == sorted(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_condition_has_a_cell(name: str) -> None:
    """And there is no cell of a condition that nobody tries."""
    assert set(OPERATIONS[name].cells) == set(CONDITIONS)


def test_every_operation_has_its_errors() -> None:
    """A row in the one table is a row in the other."""
    assert set(ERRORS) == set(OPERATIONS)


def test_every_method_is_an_operation_or_says_why_not() -> None:
    """A new public method needs a row, or a reason."""
    rows = {one.method for one in OPERATIONS.values()}
    assert rows | set(NOT_ASKED) == public_methods()
    assert not rows & set(NOT_ASKED)


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_docstring_says_is_raised_has_a_cell(name: str) -> None:
    """In the row of each kind of the operation; a base class stands for those of its kinds that are tried."""
    cells = tried(name)
    untried = {
        error.__name__
        for error in documented(OPERATIONS[name].method)
        if not any(issubclass(cell, error) for cell in cells)
    }
    assert untried == set(IMPOSSIBLE.get(name, {}))


def test_docstrings_are_understood() -> None:
    """Otherwise the test above would see nothing."""
    assert documented("Coordinator.delete") == {
        errors.NoNodeError,
        errors.BadVersionError,
        errors.NotEmptyError,
        errors.ConnectionLossError,
    }
    assert errors.ZnodeError in documented("Coordinator.ephemeral")


def test_every_error_has_a_cell_or_says_why_not() -> None:
    """Of the tree in errors.py: leaves, and classes that are raised as they are."""
    cells = {error.__name__ for name in OPERATIONS for error in tried(name)}
    guilty = {
        way.guilty.__name__
        for rows in ERRORS.values()
        for ways in rows.values()
        for way in (ways if isinstance(ways, tuple) else (ways,))
        if way.guilty is not None
    }
    every = {name for name in errors.__all__ if name not in ("CoordinatorError", "ZnodeError")}
    assert every - cells - guilty == set(ELSEWHERE)
