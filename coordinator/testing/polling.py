"""Waiting for what no event tells: what a server knows, what another process does."""

from __future__ import annotations

import asyncio
import inspect
import reprlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from coordinator.errors import ConfigurationError

__all__ = ["eventually", "eventually_async"]

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds after which a test no longer believes that something will happen."""
INTERVAL = 0.02
"""Seconds between two looks; a four-letter word, which many of them cost, takes about 1 ms."""
GRACE = 0.5
"""Seconds that each look of a coroutine gets at least: the last begins when the time is up."""

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 200
_shortened.maxdict = _shortened.maxlist = _shortened.maxtuple = _shortened.maxset = 20


@dataclass
class _Looks:
    """What a condition has said so far, and how long it is still asked."""

    timeout: float
    interval: float
    message: str
    count: int = 0
    last: object = None
    error: AssertionError | None = None
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not (self.timeout >= 0 and self.interval > 0):  # NaN is neither
            raise ConfigurationError(
                f"timeout {self.timeout!r}, interval {self.interval!r}: eventually() takes seconds, "
                "0 or more of the one and more than 0 of the other"
            )

    @property
    def left(self) -> float:
        return self.began + self.timeout - time.monotonic()

    def returned(self, value: object) -> bool:
        """Note what a look returned; return whether it holds."""
        self.count, self.last, self.error = self.count + 1, value, None
        return bool(value)

    def failed(self, error: AssertionError) -> None:
        self.count, self.error = self.count + 1, error

    def pause(self) -> float:
        """Return the seconds to the next look.

        Raises:
            AssertionError: there is none, because the time is up.
        """
        left = self.left
        if left <= 0:
            raise self.too_late() from self.error
        return min(self.interval, left)

    def too_late(self, *, hanging: bool = False) -> AssertionError:
        what = f": {self.message}" if self.message else ""
        looks = f"{self.count} look{'' if self.count == 1 else 's'}"
        said = [self._said()] * bool(self.count) + ["one more did not return in time"] * hanging
        return AssertionError(f"not within {self.timeout:g} s{what} ({looks}; {'; '.join(said)})")

    def _said(self) -> str:
        if self.error is not None:
            return f"the last raised {type(self.error).__name__}: {self.error}"
        if self.last is None:
            return "the last returned None; a condition returns something true when it holds"
        return f"the last returned {_shortened.repr(self.last)}"


def eventually(
    condition: Callable[[], T],
    *,
    timeout: float = TIMEOUT,
    interval: float = INTERVAL,
    message: str = "",
) -> T:
    """Poll until the condition returns something true, and return that.

    For what no event tells; where there is an event, wait for that (`EventRecord`).

    ::

        eventually(lambda: session_id not in session_ids(server), message="the session is gone")

    Args:
        condition: called at least once, and once more when the time is up; an AssertionError
            that it raises means not yet, any other error ends the waiting.
        timeout: seconds; a call that hangs is not interrupted.
        interval: seconds between two calls.
        message: what is waited for, in words, for the error.

    Raises:
        AssertionError: it was not true in time; tells what it returned or raised last.
    """
    looks = _Looks(timeout, interval, message)
    while True:
        try:
            value = condition()
        except AssertionError as error:
            looks.failed(error)
        else:
            _refuse_awaitable(value)
            if looks.returned(value):
                return value
        time.sleep(looks.pause())


def _refuse_awaitable(value: object) -> None:
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise ConfigurationError(
            "eventually() was given an async condition: await eventually_async() instead"
        )


async def eventually_async(
    condition: Callable[[], Awaitable[T] | T],
    *,
    timeout: float = TIMEOUT,
    interval: float = INTERVAL,
    message: str = "",
) -> T:
    """Poll as `eventually` does, without blocking the event loop.

    Args:
        condition: a coroutine function, or a plain callable that does not block.
        timeout: seconds; a look that is still awaited then is cancelled, but none before it
            had 0.5 s.
        interval: seconds between two looks.
        message: what is waited for, in words, for the error.

    Raises:
        AssertionError: it was not true in time; tells what it returned or raised last.
    """
    looks = _Looks(timeout, interval, message)
    while True:
        try:
            async with asyncio.timeout(max(looks.left, GRACE)) as limit:
                value = await _result(condition())
        except AssertionError as error:
            looks.failed(error)
        except TimeoutError:
            if not limit.expired():
                raise
            raise looks.too_late(hanging=True) from looks.error
        else:
            if looks.returned(value):
                return value
        await asyncio.sleep(looks.pause())


async def _result(value: Awaitable[T] | T) -> T:
    return cast("T", await value if inspect.isawaitable(value) else value)
