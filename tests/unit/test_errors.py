"""Errors: one tree, as its module draws it, that survives pickling."""

from __future__ import annotations

import copy
import pickle

import pytest

import coordinator
from coordinator import errors
from coordinator.errors import (
    AuthFailedError,
    ClosedError,
    ConnectionLossError,
    CoordinatorError,
    EphemeralConflictError,
    ForkedError,
    MissingExtraError,
    NoAuthError,
    OperationTimeoutError,
    PayloadError,
    ReadOnlyError,
    ServerError,
    SessionExpiredError,
    StartError,
    TransactionFailedError,
    ZnodeError,
)

CLASSES = [getattr(errors, name) for name in errors.__all__]
SAMPLES = [
    MissingExtraError("cli"),
    ClosedError("closed", ambiguous=True),
    ForkedError("another process", pid=7),
    StartError("no session", cause="refused"),
    AuthFailedError("refused"),
    OperationTimeoutError("late", ambiguous=True),
    ConnectionLossError("lost", ambiguous=False),
    SessionExpiredError("gone"),
    PayloadError("does not fit", path="/a"),
    TransactionFailedError("refused", index=2, operation="Set", error=NoAuthError(path="/a")),
    EphemeralConflictError("it is there", path="/e", owner_session_id=-5),
    NoAuthError(path="/a"),
    ServerError(path="/a", code=-7),
]


def drawn() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return each class of the tree in the docstring, with its parent and its other bases."""
    tree: dict[str, tuple[str, tuple[str, ...]]] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        if "Error" not in line or not (line.startswith("    Coord") or "── " in line):
            continue
        head = line.partition("── ")
        depth = 0 if not head[1] else line.index("├" if "├" in line else "└") // 4
        words = (head[2] or line).strip().split()
        other = (words[1].strip("()"),) if len(words) > 1 and words[1].startswith("(") else ()
        above[depth:] = [words[0]]
        tree[words[0]] = (above[depth - 1] if depth else "Exception", other)
    return tree


def test_the_tree_is_the_one_that_is_drawn():
    """The docstring is the contract: every class, its parent, and what else it is."""
    real = {}
    for one in CLASSES:
        first, *others = (base.__name__ for base in one.__bases__)
        real[one.__name__] = (first, tuple(others))
    told = drawn()
    undrawn = {"MissingExtraError": ("ImportError",)}
    for name, others in undrawn.items():  # an addition that the drawing has no room for
        told[name] = (told[name][0], told[name][1] or others)
    assert told == real


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("through", ["pickle", "copy"])
def test_every_error_survives(error, through):
    """With its message and all of its attributes."""
    again = pickle.loads(pickle.dumps(error)) if through == "pickle" else copy.copy(error)
    assert (type(again), str(again)) == (type(error), str(error))
    assert {k: str(v) for k, v in vars(again).items()} == {k: str(v) for k, v in vars(error).items()}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_can_be_pickled(kind):
    """A worker process may send any of them."""
    error = kind("cli")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_public_under_its_name(kind):
    """Tracebacks show a name that can be imported."""
    assert kind.__module__ == "coordinator"
    assert getattr(coordinator, kind.__name__) is kind


def test_what_may_be_retried():
    """The same call may succeed later without being changed."""
    assert {kind.__name__ for kind in CLASSES if kind.retryable} == {
        "StartError",
        "TLSError",
        "OperationTimeoutError",
        "AcquireTimeoutError",
        "ConnectionLossError",
        "SessionExpiredError",
        "EphemeralConflictError",
        "ReadOnlyError",
    }


def test_only_a_lost_answer_is_ambiguous_by_default():
    """Everything else is certain unless it says otherwise."""
    ambiguous = {kind.__name__ for kind in CLASSES if kind("cli").ambiguous}
    assert ambiguous == {"ConnectionLossError"}


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (OperationTimeoutError, TimeoutError),
        (PayloadError, ValueError),
        (errors.ConfigurationError, ValueError),
        (MissingExtraError, ImportError),
    ],
)
def test_errors_are_what_python_would_raise(kind, builtin):
    """``except TimeoutError`` catches ours."""
    assert issubclass(kind, builtin)


def test_codes_of_the_server_are_unique():
    """One class for one code."""
    codes = [kind.code for kind in ZnodeError.__subclasses__() if kind.code]
    assert len(set(codes)) == len(codes)


def test_a_znode_error_names_the_path():
    """What, and where."""
    assert str(ReadOnlyError(path="/a")) == "the session is read-only: /a"


def test_a_missing_extra_says_what_to_install():
    """The command is in the message."""
    assert "pip install 'coordinator[cli]'" in str(MissingExtraError("cli"))


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_messages_are_lower_case_without_a_full_stop(error):
    """As the conventions say."""
    assert str(error)[0].islower()
    assert not str(error).endswith(".")


def test_everything_is_a_coordinator_error():
    """One except clause catches all."""
    assert all(issubclass(kind, CoordinatorError) for kind in CLASSES)
