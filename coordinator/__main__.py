"""The command ``coordinator``, also ``python -m coordinator``.

It needs the extra ``cli``; without it, it says so and how to get it.
"""

from __future__ import annotations

import sys

from coordinator.errors import MissingExtraError

__all__ = ["main"]

USAGE = 2
"""The exit code of a command that could not even begin, as click has it."""


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write(f"coordinator: {MissingExtraError('cli')}\n")
        return USAGE
    from coordinator.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
