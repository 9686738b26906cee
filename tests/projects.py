"""A project of somebody who uses the kit: some files in a folder, and pytest run in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What says where a ZooKeeper comes from, or belongs to the run that we are in ourselves.
OURS = re.compile(r"COORDINATOR_|PYTEST_|ZOOKEEPER_HOME")
QUIET = ("-p", "no:randomly", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")


@dataclass(frozen=True)
class Ran:
    """How a run of pytest ended, and what it said."""

    code: int
    text: str

    def counts(self) -> dict[str, int]:
        """How many tests there were of each outcome, by the last line."""
        last = self.text.strip().splitlines()[-1]
        return {word.removesuffix("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last)}

    def said(self) -> list[str]:
        """What the report says about ZooKeeper: the head first."""
        return [line for line in self.text.splitlines() if line.startswith("zookeeper: ")]


class Project:
    """A folder with tests; pytest runs there in a process of its own."""

    def __init__(self, folder: Path, python: str = sys.executable, path: str = str(ROOT)) -> None:
        self.folder = folder
        self.python = python
        self._path = path

    def write(self, name: str, text: str) -> None:
        """Write one of its files."""
        (self.folder / name).write_text(text, "utf-8")

    def run(self, *arguments: str, **environment: str) -> Ran:
        """Run pytest; of our own environment it sees nothing that concerns ZooKeeper."""
        inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
        done = subprocess.run(
            [self.python, "-m", "pytest", *QUIET, *arguments],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": self._path, "COLUMNS": "400", **environment},
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Ran(done.returncode, done.stdout + done.stderr)
