"""eventually(): what it returns, how long it waits, and what it says when that was in vain."""

from __future__ import annotations

import asyncio
import time

import pytest

from coordinator import ConfigurationError
from coordinator.testing import eventually, eventually_async


@pytest.fixture(params=[eventually, eventually_async], ids=["blocking", "asyncio"])
def wait(request):
    return request.param


def run(wait, condition, **how):
    """Call either of the two, and return what it returns."""
    result = wait(condition, **how)
    return asyncio.run(result) if wait is eventually_async else result


def looks(*results):
    """A condition that returns, or raises, these one after another, and then the last for ever."""
    left = list(results)

    def condition():
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    return condition


def failure(wait, condition, timeout=0.01, **how) -> AssertionError:
    with pytest.raises(AssertionError) as caught:
        run(wait, condition, timeout=timeout, interval=0.001, **how)
    return caught.value


def test_it_returns_the_first_true_value(wait):
    assert run(wait, looks(0, "", None, [7], [8]), interval=0.001) == [7]


def test_an_assertion_error_means_not_yet(wait):
    assert run(wait, looks(AssertionError("no"), "there"), interval=0.001) == "there"


def test_any_other_error_ends_it_at_once(wait):
    with pytest.raises(KeyError, match="oops"):
        run(wait, looks(KeyError("oops"), True))


def test_without_time_it_looks_once(wait):
    assert run(wait, lambda: "at once", timeout=0) == "at once"
    assert "1 look;" in str(failure(wait, lambda: False, timeout=0))


def test_it_looks_once_more_when_the_time_is_up(wait):
    """A long pause does not go beyond the end, and the last look is there, not before it."""
    seen = []
    began = time.monotonic()
    with pytest.raises(AssertionError):
        run(wait, lambda: seen.append(time.monotonic() - began), timeout=0.05, interval=30.0)
    assert len(seen) == 2
    assert 0.05 <= seen[-1] < 5.0


def test_it_says_what_was_waited_for_how_long_and_what_came(wait):
    text = str(failure(wait, looks(0, []), message="the session is gone"))
    assert text.startswith("not within 0.01 s: the session is gone (")
    assert "looks; the last returned [])" in text


def test_it_chains_the_last_assertion_error(wait):
    last = AssertionError("three are left")
    raised = failure(wait, looks(AssertionError("four are left"), last))
    assert raised.__cause__ is last
    assert "the last raised AssertionError: three are left" in str(raised)


def test_an_error_that_was_overcome_is_not_told(wait):
    raised = failure(wait, looks(AssertionError("no"), False))
    assert raised.__cause__ is None
    assert "the last returned False" in str(raised)


def test_a_condition_that_only_asserts_is_told_to_return_something(wait):
    assert "a condition returns something true when it holds" in str(failure(wait, lambda: None))


def test_what_came_last_is_shown_in_short(wait):
    assert len(str(failure(wait, looks(Long())))) < 400


class Long:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "x" * 10_000


@pytest.mark.parametrize("how", [{"timeout": -1.0}, {"timeout": float("nan")}, {"interval": 0.0}])
def test_times_that_make_no_sense_are_refused(wait, how):
    with pytest.raises(ConfigurationError, match="takes seconds"):
        run(wait, lambda: True, **how)


async def seven():
    await asyncio.sleep(0)
    return 7


def test_an_async_condition_is_awaited():
    assert run(eventually_async, seven) == 7


def test_an_async_condition_is_refused_by_the_blocking_one():
    """A coroutine is true: it must not be taken for the answer."""
    with pytest.raises(ConfigurationError, match="await eventually_async"):
        eventually(seven)


def test_a_look_that_hangs_is_cancelled():
    ended = []

    async def hangs():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    assert "one more did not return in time" in str(failure(eventually_async, hangs))
    assert ended


def test_a_timeout_of_the_condition_is_its_own(wait):
    with pytest.raises(TimeoutError, match="mine"):
        run(wait, looks(TimeoutError("mine")))


async def test_the_loop_goes_on_meanwhile():
    turns = []

    async def other():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await eventually_async(lambda: len(turns) > 10, interval=0.001)
    task.cancel()


@pytest.mark.parametrize(("timeout", "looks"), [(0, 1), (0.05, 2)])
async def test_a_last_look_is_awaited(timeout: float, looks: int) -> None:
    """When the time is up, as without an event loop: what is true is not missed by a hair."""
    count = 0

    async def condition() -> bool:
        nonlocal count
        await asyncio.sleep(0.001)
        count += 1
        return count == looks

    assert await eventually_async(condition, timeout=timeout, interval=0.1)
