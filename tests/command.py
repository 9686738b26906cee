"""``coordinator`` as a user runs it: a process, its lines, its exit code."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from coordinator.engine.clock import now
from tests.support import PATIENCE

ROOT = Path(__file__).parents[1]


def start(*arguments: str, python: tuple[str, ...] = (), **given: Any) -> subprocess.Popen[str]:
    """Start a command; ``environment`` is added to ours, the rest is for Popen."""
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment = {**ours, "PYTHONPATH": str(ROOT), **given.pop("environment", {})}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
    command = [sys.executable, *python, "-m", "coordinator", *arguments]
    return subprocess.Popen(command, text=True, env=environment, **streams)


def run(*arguments: str, **given: Any) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code and what it said."""
    process = start(*arguments, **given)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


class Watched:
    """Processes whose deaths are seen from now on."""

    def __init__(self, pids: list[int]) -> None:
        self._fds = {os.pidfd_open(pid): pid for pid in pids}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._fds:
            os.close(fd)

    @property
    def alive(self) -> set[int]:
        """Those that have not died yet."""
        return {*self._fds.values()} - {self._fds[fd] for fd in select.select([*self._fds], [], [], 0)[0]}

    def deaths(self) -> dict[int, float]:
        """Wait until all have died; return when each was seen to."""
        died: dict[int, float] = {}
        while left := self._fds.keys() - died.keys():
            ready, _, _ = select.select([*left], [], [], PATIENCE)
            assert ready, f"alive: {self.alive}"
            died |= dict.fromkeys(ready, now())
        return {self._fds[fd]: at for fd, at in died.items()}


class Command:
    """A command that runs, and what it has said so far."""

    def __init__(self, *arguments: str, **given: Any) -> None:
        self.process = start(*arguments, **given)
        self.out: list[str] = []
        self.err: list[str] = []
        self._lines: dict[str, queue.Queue[str | None]] = {"out": queue.Queue(), "err": queue.Queue()}
        self._threads = [
            threading.Thread(target=self._read, args=(name, stream), name=f"test-read-{name}")
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, stream: IO[str] | None) -> None:
        if stream is not None:
            for line in stream:
                self._lines[name].put(line.rstrip("\n"))
        self._lines[name].put(None)

    def until(self, *texts: str, stream: str = "out") -> str:
        """Wait for a line that holds all of these texts, and return it."""
        seen = self.out if stream == "out" else self.err
        end = time.monotonic() + PATIENCE * 2
        while True:
            try:
                line = self._lines[stream].get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no {texts}: {self.out[-9:]} {self.err[-9:]}, {self.process.poll()}")
            seen.append(line)
            if all(text in line for text in texts):
                return line

    def end(self, number: int = signal.SIGINT) -> int:
        """Send it a signal, and return its exit code; all that it said is there then."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        code = self.process.wait(PATIENCE * 2)
        for name, seen in (("out", self.out), ("err", self.err)):
            while (line := self._lines[name].get(timeout=PATIENCE)) is not None:
                seen.append(line)
            self._lines[name].put(None)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # not kill: what it started has to go, too
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for thread in self._threads:
            thread.join(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
