"""Every operation under every condition, and each of its errors: in memory as on a server."""

from __future__ import annotations

import copy
import re
from fnmatch import fnmatchcase
from typing import Any

import pytest

from coordinator import ClosedError, CoordinatorError, NoAuthError, ZnodeError
from tests.contract.matrix import CONDITIONS, OPERATIONS, Operation, Outcome
from tests.contract.refusals import ERRORS, Refusal
from tests.contract.site import SHORT, Call, Site

LOST = ("connection.closed", "session.suspended")
RESUMED = ("connection.opened", "session.resumed")
RENEWED = (
    "session.expired",
    "connection.opened",
    "session.established",
    "recovery.started",
    "recovery.completed",
)


def ok(site: Site, operation: Operation) -> tuple[Call, tuple[str, ...]]:
    return site.begin(lambda: operation.call(site, {}), "asked"), ()


def lost_before(site: Site, operation: Operation) -> tuple[Call, tuple[str, ...]]:
    site.hold(up=True)
    call = site.begin(lambda: operation.call(site, {}), "sent")
    site.cut()
    assert operation.look(site) == operation.before
    site.mend()
    return call, LOST + RESUMED


def lost_after(site: Site, operation: Operation) -> tuple[Call, tuple[str, ...]]:
    site.hold(down=True)
    call = site.begin(lambda: operation.call(site, {}), "sent")
    applied = operation.applied
    if applied is not None:
        site.wait(lambda: applied(site), "it was carried out")
    site.cut()
    site.mend()
    return call, LOST + RESUMED


def expired(site: Site, operation: Operation) -> tuple[Call, tuple[str, ...]]:
    before = site.zk.session.session_id
    site.cut()
    call = site.begin(lambda: operation.call(site, {}), "held")
    site.expire()
    site.wait(lambda: before not in site.sessions(), "the session has ended")
    site.mend()
    return call, LOST + RENEWED


def timed_out(site: Site, operation: Operation) -> tuple[Call, tuple[str, ...]]:
    site.hold(up=True, down=True)
    call = site.begin(lambda: operation.call(site, {"timeout": SHORT}), "sent")
    site.pass_time(SHORT)
    call.end()
    assert operation.look(site) == operation.before
    site.mend()
    return call, ()


ENDED = {"ephemeral close", "lock release", "resign", "lease release", "latch close"}
"""What the end of the coordinator has done already."""

WAYS = {
    "ok": ok,
    "lost before": lost_before,
    "lost after": lost_after,
    "expired": expired,
    "timed out": timed_out,
}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_condition(site: Site, name: str, condition: str) -> None:
    """What the caller gets, what is on the server afterwards, and what is told."""
    operation = OPERATIONS[name]
    outcome = operation.cells[condition]
    operation.prepare(site)
    assert operation.look(site) == operation.before
    call, story = WAYS[condition](site, operation)
    check(site, call, outcome)
    site.tells(*story, *outcome.told)
    site.wait(lambda: operation.look(site) == outcome.seen, f"it is {outcome.seen}")
    site.zk.exists("/")  # behind it on the wire: nothing of it is still under way
    assert operation.look(site) == outcome.seen
    site.tells()


def check(site: Site, call: Call, outcome: Outcome) -> None:
    """Assert that the caller got what was promised."""
    if not outcome.raises:
        assert plain(site, call.value()) == outcome.got
        return
    error = call.error()
    assert type(error) is outcome.got
    assert isinstance(error, CoordinatorError)
    assert (error.ambiguous, error.retryable) == (outcome.ambiguous, True)
    assert site.base in str(error)


def plain(site: Site, value: Any) -> Any:
    """What a transaction returns, without the place in its paths: a stat is its version."""
    if not isinstance(value, tuple):
        return value
    return tuple(
        one.removeprefix(f"{site.base}/") if isinstance(one, str) else getattr(one, "version", one)
        for one in value
    )


def refusals() -> list[Any]:
    """All errors of all operations, each way to come by them."""
    cells = []
    for name, errors in ERRORS.items():
        for error, ways in errors.items():
            for number, way in enumerate(ways if isinstance(ways, tuple) else (ways,)):
                guilty = f"-{way.guilty.__name__}" if way.guilty else f"-{number}" * bool(number)
                cells.append(pytest.param(error, way, id=f"{name}-{error.__name__}{guilty}"))
    return cells


@pytest.mark.parametrize(("error", "refusal"), refusals())
def test_an_error(site: Site, error: type[CoordinatorError], refusal: Refusal) -> None:
    """Exactly that class, certain, of the znode that was asked for; and nothing is changed by it."""
    refusal.prepare(site)
    before = tree(site)
    with pytest.raises(CoordinatorError) as raised:
        refusal.call(site)
    assert type(raised.value) is error
    assert (raised.value.ambiguous, raised.value.retryable) == (False, error.retryable)
    if refusal.guilty is not None:
        failed: Any = raised.value
        assert type(failed.error) is refusal.guilty
        assert failed.index == 1
        assert failed.operation in str(failed)
    about: Any = raised.value if refusal.guilty is None else failed.error
    if isinstance(about, ZnodeError):
        path = refusal.names if refusal.names.startswith("/") else f"{site.base}/{refusal.names}"
        assert fnmatchcase(about.path, path)
        assert about.path in re.split(r"[\s:]+", str(about))
    assert tree(site) == before
    assert str(copy.copy(raised.value)) == str(raised.value)
    site.tells(*refusal.told)


def tree(site: Site) -> dict[str, Any]:
    """All that is in the place, as far as everybody may look at it."""
    found: dict[str, Any] = {}
    for name in site.names():
        try:
            found[name] = site.other.exists(f"{site.base}/{name}")
        except NoAuthError as error:
            found[name] = type(error)
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_after_the_end(site: Site, name: str) -> None:
    """Whatever is asked of a closed coordinator is refused, and nothing of it is done."""
    operation = OPERATIONS[name]
    operation.prepare(site)
    site.zk.close()
    if name in ENDED:
        assert not operation.call(site, {})  # it ended with its session, and that is no error
        return
    before = tree(site)
    with pytest.raises(ClosedError) as closed:
        operation.call(site, {})
    assert (closed.value.ambiguous, closed.value.retryable) == (False, False)
    assert tree(site) == before
