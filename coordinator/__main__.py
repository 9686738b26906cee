"""The command ``coordinator``, also ``python -m coordinator``.

It needs the extra ``cli``; without it, it says so and how to get it. Until a command begins
there is nothing to tidy up: a signal, or a pipe that nobody reads, ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]

USAGE = 2
"""The exit code of a command that could not even begin, as click has it."""


def main() -> int:
    """Run the command line and return its exit code."""
    _settle()
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        from coordinator.errors import MissingExtraError

        sys.stderr.write(f"coordinator: {MissingExtraError('cli')}\n")
        return USAGE
    from coordinator.cli.app import run

    return run(sys.argv[1:])


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


def _settle() -> None:
    """Let signals and closed pipes end the process without a word, until a command knows better."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and & have it
            signal.signal(number, _end)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed: >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 -- for good


if __name__ == "__main__":
    sys.exit(main())
