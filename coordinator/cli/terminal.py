"""The terminal that we were started from, if there is one, and who may read it.

A command that has a process group of its own is in the background of that terminal, and is stopped when
it reads from it. A shell would know what to do then; whoever stands between the two has to do the same:
give the terminal to the command that wants it, and stop together with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import TracebackType
from typing import Self

__all__ = ["Terminal"]


class Terminal:
    """The controlling terminal; all is false, and nothing is done, where there is none."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self._given = 0

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            self._fd = os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            self.take_back()
            os.close(self._fd)
            self._fd = None

    @property
    def there(self) -> bool:
        """Whether there is one."""
        return self._fd is not None

    @property
    def foreground(self) -> bool:
        """Whether we may read from it: Ctrl-C reaches all of our process group."""
        return self._holder == os.getpgrp()

    @property
    def _holder(self) -> int:
        try:
            return -1 if self._fd is None else os.tcgetpgrp(self._fd)
        except OSError:  # it was hung up
            return -1

    def give(self, group: int) -> None:
        """Let a process group read from it, if we may."""
        if self.foreground:
            self._hand(group)
            self._given = group

    def take_back(self) -> None:
        """End what `give` has begun."""
        if self._given and self._holder == self._given:
            self._hand(os.getpgrp())
        self._given = 0

    def stop(self) -> None:
        """Stop ourselves and our process group as Ctrl-Z does; return when we are continued.

        Nothing happens where nobody could continue us: the kernel sees to that.
        """
        self.take_back()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            os.killpg(os.getpgrp(), signal.SIGTSTP)
        finally:
            signal.signal(signal.SIGTSTP, before)

    def _hand(self, group: int) -> None:
        # From the background it takes this; whoever is given nothing is stopped again, and asks again.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            with contextlib.suppress(OSError):
                os.tcsetpgrp(self._fd if self._fd is not None else -1, group)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
