"""How a command ends: by itself, by a signal, or because nobody reads its output.

Whatever ends it passes through the command as an exception, so that it can tidy up; only
then does it become an exit code. Those are public: docs/cli.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from coordinator.errors import ConfigurationError, CoordinatorError

__all__ = [
    "FAILED",
    "FAULT",
    "FINE",
    "LOST",
    "NOT_EXECUTABLE",
    "NOT_FOUND",
    "SIGNALS",
    "TIMED_OUT",
    "UNREACHABLE",
    "USAGE",
    "WRONG_USAGE",
    "Handler",
    "SignalledError",
    "cannot_run",
    "complain",
    "conclude",
    "handlers",
    "held_back",
]

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

FINE, FAILED, USAGE = 0, 1, 2
NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""Exit codes of a command that cannot be run, as shells and env(1) have them."""
LOST, UNREACHABLE, WRONG_USAGE, TIMED_OUT, FAULT = 121, 122, 123, 124, 125
"""Exit codes of `coordinator run` that are not the command's; those of timeout(1) mean the same there."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a command: Ctrl-C, kill, the terminal's end. The exit code is 128 + number."""


class SignalledError(BaseException):
    """A signal asks the command to end; not an Exception, so that nobody takes it for a fault."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def complain(command: str, text: str) -> None:
    """Say on stderr what is wrong, if anybody listens."""
    from rich.console import Console
    from rich.text import Text

    with contextlib.suppress(OSError):
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            Text(f"coordinator {command}: {text}", "red")
        )


def cannot_run(command: str, program: str) -> int:
    """Return the exit code for a program that cannot be run, and say so; 0 for one that seems to be there."""
    if shutil.which(program) is not None:
        return FINE
    found = os.path.exists(program)  # noqa: PTH110 -- as typed, not made a path
    complain(command, f"{program}: {'not executable' if found else 'command not found'}")
    return NOT_EXECUTABLE if found else NOT_FOUND


def conclude(command: str, run: Callable[[], int]) -> int:
    """Run a command and return its exit code; what it raises becomes one, and a line on stderr."""
    for name in ("kazoo", "coordinator.kazoo"):  # they tell of every link that breaks; so do the events
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # from here on it is an exception, as usual
    try:
        with _signals_raised():
            return run()
    except SignalledError as ended:
        return 128 + ended.number
    except BrokenPipeError:
        _forget_stdout()
        return 128 + signal.SIGPIPE
    except ConfigurationError as error:
        complain(command, str(error))
        return USAGE
    except (CoordinatorError, OSError) as error:
        complain(command, f"{type(error).__name__}: {error}")
        return FAILED


def _forget_stdout() -> None:
    """Let the interpreter flush into nothing at its end: the reader of the pipe has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    """Raise SignalledError in the main thread when a signal comes."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SignalledError(number)

    with handlers(dict.fromkeys(SIGNALS, end)):
        yield


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back for a moment that must not be interrupted.

    A container that is just being created would be left behind; what is being removed, too.
    """
    caught: list[int] = []
    with handlers({number: lambda number, _frame: caught.append(number) for number in SIGNALS}):
        yield
    if caught:
        signal.raise_signal(caught[0])


@contextlib.contextmanager
def handlers(wanted: Mapping[int, Handler]) -> Iterator[None]:
    """Handle signals in this way for a while; one that is ignored stays so: nohup, &."""
    before = {
        number: signal.signal(number, handler)
        for number, handler in wanted.items()
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
