"""The command ``coordinator``, also ``python -m coordinator``.

It needs the extra ``cli``; without it, it says so and how to get it.
"""

from __future__ import annotations

import sys

from coordinator.errors import MissingExtraError

__all__ = ["main"]

USAGE = 2
"""The exit code of a command that could not even begin, as click has it."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write(f"coordinator: {MissingExtraError('cli')}\n")
        return USAGE
    try:
        from coordinator.cli.app import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:  # before or after the command itself, which tidies up
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
