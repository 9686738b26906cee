"""Where the output goes: lines for people, or NDJSON for programs.

For programs, stdout bears events and nothing else; everything said around them goes to
stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coordinator.cli.checks import Check
from coordinator.cli.words import style_of, words_of
from coordinator.events import Event
from coordinator.models import hex_id

__all__ = ["Lines", "Screen", "Terminal"]

PIPED_WIDTH = 110
"""Columns where there is no terminal to ask."""
NARROW = 72
"""Columns below which the words go on a line of their own."""


class Terminal(Console):
    """A console of rich's that raises BrokenPipeError, like any file."""

    def on_broken_pipe(self) -> None:
        """Raise it, instead of ending the process from whatever thread this is."""
        raise  # noqa: PLE0704, RUF100 -- called from the except clause


def _write(event: Event) -> None:
    sys.stdout.write(event.model_dump_json() + "\n")
    sys.stdout.flush()


class Lines:
    """The output of a watch: a line for each event on stdout, everything else on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Terminal(file=sys.stdout, highlight=False, soft_wrap=True)
        self._notes = Terminal(stderr=True, highlight=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Show one event.

        Raises:
            OSError: nobody reads any more.
        """
        if self._as_json:
            _write(event)
            return
        at = event.at.astimezone()
        day = "" if self._console.is_terminal else f"{at:%Y-%m-%d} "  # a file is read on another day
        line = Text.assemble(
            (f"{day}{at:%H:%M:%S}.{at.microsecond // 1000:03}  ", "dim"),
            (f"{event.kind:<19}  ", style_of(event)),
            words := words_of(event),
        )
        if event.session_id and hex_id(event.session_id) not in words:
            line.append(f"  {hex_id(event.session_id)}", "dim")
        self._console.print(line)

    def note(self, text: str) -> None:
        """Say something that is no event; may be called from any thread."""
        with suppress(OSError):
            self._notes.print(Text(text, "dim"))


class Screen:
    """The output of one demo; may be used from any thread."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        stream = sys.stderr if as_json else sys.stdout
        width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
        self._console = Terminal(file=stream, highlight=False, width=width)
        self._began: datetime | None = None

    def event(self, event: Event) -> None:
        """Show one event.

        Raises:
            OSError: nobody reads any more.
        """
        if self._as_json:
            _write(event)
            return
        began = self._began = self._began or event.at
        time = f"{(event.at - began).total_seconds():6.2f} s"
        self._row(Text(time, "dim"), Text(event.kind, style_of(event)), Text(words_of(event)))

    def heading(self, text: str) -> None:
        """Begin an act."""
        self._console.print()
        self._console.print(Text(text, "bold"))

    def deed(self, text: str) -> None:
        """Say what is done to the session or its server."""
        self._row(Text("      >>", "dim"), Text(text, "bold magenta"))

    def note(self, text: str) -> None:
        """Say something that is no event."""
        self._console.print(Text(text))

    def verdict(self, checks: Sequence[Check]) -> None:
        """Show the checks as a table."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("")
        table.add_column("check")
        table.add_column("recovery", justify="right", no_wrap=True)
        for check in checks:
            mark = Text("ok", "green") if check.holds else Text("FAILED", "bold red")
            claim = Text(check.claim)
            if check.problem:
                claim.append(f"\n{check.problem}", "red")
            table.add_row(mark, claim, "" if check.took is None else f"{check.took:.3f} s")
        self.heading("Verdict, by an independent plain kazoo client")
        self._console.print(table)

    def _row(self, time: Text, kind: Text, words: Text | None = None) -> None:
        row: Any = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(no_wrap=True, width=8)
        if words is None:
            row.add_column()
            row.add_row(time, kind)
        elif self._console.width < NARROW:
            row.add_column()
            row.add_row(time, Text.assemble(kind, "\n", words))
        else:
            row.add_column(no_wrap=True, width=19)
            row.add_column()
            row.add_row(time, kind, words)
        self._console.print(row)
