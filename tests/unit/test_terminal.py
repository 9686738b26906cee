"""A command within a lease at a terminal: it reads, Ctrl-C and Ctrl-Z do what they do elsewhere."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import PATIENCE

ROOT = Path(__file__).parents[2]
CTRL_C, CTRL_D, CTRL_Z = "\x03", "\x04", "\x1a"
READS = "echo $$ up; while read line; do echo got $line; done; exit 4"


class Screen:
    """A program at a terminal of its own, what is typed there and what can be seen."""

    def __init__(self, *command: str) -> None:
        self._keys, theirs = pty.openpty()
        # A session of its own, with that terminal: setsid(1).
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={**os.environ, "PS1": "$ ", "TERM": "dumb"},
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._keys, text.encode())

    def until(self, text: str) -> str:
        """Wait until this can be seen, after what was waited for before; return what came before it."""
        while text not in self.seen:
            ready, _, _ = select.select([self._keys], [], [], PATIENCE)
            assert ready, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self._keys, 4096).decode()
        before, self.seen = self.seen.split(text, 1)
        return before

    def close(self) -> None:
        os.close(self._keys)  # it is hung up
        self.process.kill()
        self.process.wait(PATIENCE)


@contextmanager
def screen(*command: str) -> Iterator[Screen]:
    shown = Screen(*command)
    try:
        yield shown
    finally:
        shown.close()


def leased(given: str, text: str) -> tuple[str, ...]:
    """A shell script under a lease that never fails."""
    return sys.executable, "-m", "tests.unit.leased", "-1", given, "sh", "-c", text


@contextmanager
def at_a_shell(folder: Path, given: str) -> Iterator[tuple[Screen, int]]:
    """A shell with job control, in which READS runs under a lease, and has read a line; and its number."""
    program = folder / "program"
    program.write_text("exec " + shlex.join(leased(given, READS)))
    with screen("bash", "--norc", "--noediting", "-i") as shown:
        shown.until("$ ")
        shown.type(f"sh {program}\n")
        pid = int(shown.until(" up").split()[-1])
        shown.type("one\n")
        shown.until("got one")
        yield shown, pid


def test_the_command_reads_from_the_terminal() -> None:
    """It is in the background of it until it does; then the terminal is its own."""
    with screen(*leased("{}", READS)) as shown:
        shown.type("one\n")
        shown.until("got one")
        shown.type("two\n")
        shown.until("got two")
        shown.type(CTRL_D)
        assert shown.process.wait(PATIENCE) == 4


def test_afterwards_the_terminal_is_that_of_a_script_again() -> None:
    """A script has no job control that would see to that."""
    script = f"{shlex.join(leased('{}', READS))}; read line; echo after $line"
    with screen("sh", "-c", script) as shown:
        shown.type("one\n")
        shown.until("got one")
        shown.type(CTRL_D)
        shown.until("over")  # what the program says at its end
        shown.type("two\n")
        shown.until("after two")


def test_ctrl_c_reaches_all_of_the_command() -> None:
    """As it would without us: a shell and what it waits for."""
    with screen(*leased("{}", "trap 'exit 9' INT; sh -c 'echo up; exec sleep 100'; exit 1")) as shown:
        shown.until("up")
        shown.type(CTRL_C)
        assert shown.process.wait(PATIENCE) == 9


def test_ctrl_z_gives_the_shell_back_and_fg_the_command(tmp_path: Path) -> None:
    with at_a_shell(tmp_path, '{"lasts":20}') as (shown, _):
        shown.type(CTRL_Z)
        shown.until("Stopped")
        shown.until("$ ")
        shown.type("echo in the shell\n")
        shown.until("\nin the shell")
        shown.type("fg\n")
        shown.type("two\n")
        shown.until("got two")
        shown.type(CTRL_D)
        shown.until("$ ")  # before that it would be read by the command
        shown.type("echo code=$?\n")
        shown.until("code=4")


def test_stopped_for_longer_than_the_lease_it_is_ended(tmp_path: Path) -> None:
    """Nobody renews the lease then; the guard is not stopped. Continued, we say so."""
    with at_a_shell(tmp_path, "{}") as (shown, pid):
        shown.type(CTRL_Z)
        shown.until("Stopped")
        fd = os.pidfd_open(pid)
        assert select.select([fd], [], [], PATIENCE)[0]
        os.close(fd)
        shown.type("fg\n")
        shown.type("echo code=$?\n")
        shown.until("code=121")
