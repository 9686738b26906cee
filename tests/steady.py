"""Tests that compare times to fractions of a second, on machines that sometimes stand still for longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
GRAIN = 0.005
ATTEMPTS = 6


class Witness:
    """A thread that wakes up all the time, and knows by how much it was late at worst, in seconds."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="test-witness")

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._over.wait(GRAIN):
            before, last = last, time.monotonic()
            self.worst = max(self.worst, last - before - GRAIN)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


def undisturbed(play: Callable[[], T], within: float = 0.15) -> T:
    """Return what comes of a play during which the machine never stood still for longer than that.

    It is played again where it did, up to ATTEMPTS times; what came of the last counts in any case.
    """
    for _ in range(ATTEMPTS):
        with Witness() as witness:
            came = play()
        if witness.worst <= within:
            break
    return came
