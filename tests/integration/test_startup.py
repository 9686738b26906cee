"""The command while it loads: whatever ends it then, it ends without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.command import ROOT, Command, run, start
from tests.support import PATIENCE

COMMANDS = ("demo", "watch", "dev", "status")
NOWHERE = {"COORDINATOR_HOSTS": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("watch", "typer._click.core"),
        ("watch", "coordinator.errors"),
        ("watch", "kazoo.client"),
        ("demo", "pydantic"),
        ("status", "pydantic"),
        ("dev", "pydantic"),
        ("dev", "docker"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_ends_it_cleanly(name: str, module: str, number: signal.Signals) -> None:
    """128 + its number, and no traceback, whatever has just been imported."""
    with Command(name, python=("-X", "importtime"), environment=NOWHERE) as command:
        while not command.until("|", stream="err").endswith(f" {module}"):
            pass
        assert command.end(number) == 128 + number
        said = [line for line in command.err if not line.startswith("import time:")]
        assert [line for line in said if "Traceback" in line or "Error" in line or "Exception" in line] == []


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("watch", "--help")])
def test_help_into_a_closed_pipe_ends_silently(arguments: tuple[str, ...]) -> None:
    """As SIGPIPE would have it: 141 in a shell."""
    process = start(*arguments, stdout=closed_pipe())
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGPIPE
    assert err == ""


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_pipe_closed_before_it_begins_ends_it_silently(form: tuple[str, ...]) -> None:
    """The same while it waits for an ensemble, or says that there is none: 141, no traceback."""
    for name in ("watch", "status"):
        process = start(name, "127.0.0.1:1", *form, stdout=closed_pipe())
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + signal.SIGPIPE
        assert "Traceback" not in err
        assert "BrokenPipe" not in err


def test_without_any_stdout_it_works() -> None:
    """>&- is no reason for a traceback."""
    script = f"exec {sys.executable} -m coordinator status 127.0.0.1:1 --timeout 0.2 >&-"
    done = subprocess.run(
        ["sh", "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert done.stderr == ""


def test_help_needs_neither_pydantic_nor_kazoo() -> None:
    """It is there at once: what a command needs is loaded with that command."""
    code, out, err = run("--help", python=("-X", "importtime"))
    assert code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in out
    loaded = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert "coordinator.cli.app" in loaded
    assert loaded & {"pydantic", "kazoo", "rich.console", "docker", "coordinator.client"} == set()


def test_status_and_watch_work_without_the_extra_testing() -> None:
    """Neither touches Docker, testcontainers or pytest."""
    block = "import sys; sys.modules.update(dict.fromkeys(('docker', 'testcontainers', 'pytest')));"
    for name in ("status", "watch"):
        code = f"{block} from coordinator.cli.app import run; sys.exit(run(['{name}', 'bad::hosts']))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=PATIENCE,
        )
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"coordinator {name}: hosts: ")


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write
