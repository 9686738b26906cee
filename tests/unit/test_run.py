"""``coordinator run`` without a server: what it refuses before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.cli import app, ending
from coordinator.cli.app import UponLoss
from coordinator.cli.leader import Leader

CLI = Path(__file__).parents[2] / "docs" / "cli.md"
Capture = pytest.CaptureFixture[str]


def test_docs_name_every_field_of_the_leader() -> None:
    section = CLI.read_text("utf-8").split("### The fields of leader --json\n")[1].split("\n#")[0]
    for field in Leader.model_fields:
        assert f"`{field}`" in section


def test_docs_name_every_option_and_code_of_run() -> None:
    section = CLI.read_text("utf-8").split("\n## coordinator run\n")[1].split("\n## ")[0]
    for name in (
        "lead",
        "lock",
        "timeout",
        "identity",
        "stop-within",
        "grace",
        "dialect",
        *(f"on-lost {one}" for one in UponLoss),
    ):
        assert f"`--{name}" in section
    for code in (ending.LOST, ending.UNREACHABLE, ending.WRONG_USAGE, ending.TIMED_OUT, ending.FAULT):
        assert f"\n| {code} |" in section


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--lock /a", "a command is needed, after --"),
        ("--lock /a true", "a command is needed, after --"),
        ("--lock /a --", "a command is needed, after --"),
        ("--lock /a python -m billing", "a command is needed, after --"),
        ("", "a command is needed, after --"),
        ("-- true", "either --lead PATH or --lock PATH"),
        ("/a -- true", "/a is a path: give it as --lead /a or --lock /a"),
        ("--lock /a --lead /b -- true", "--lead /b and --lock /a: one of them"),
        ("--lock /a /b -- true", "/b is a path"),
        ("--lock /a --dialect zookeeper -- true", "zookeeper"),
        ("--lock a -- true", "slash"),
        ("--lock / -- true", "the root"),
        ("--lock /a//b -- true", "/a//b"),
        ("--lock /a zk1:x -- true", "port"),
        ("--lock /a zk1 zk2 -- true", "zk2"),
        ("--lock /a --identity= -- true", "identity"),
        ("--lock /a --grace -1 -- true", "--grace"),
        ("--lock /a --timeout 0 -- true", "--timeout"),
        ("--lock /a --stop-within 0 -- true", "--stop-within"),
        ("--lock /a --on-lost never -- true", "never"),
        ("--lock -- true", "--lock"),
        ("--no-such-option -- true", "--no-such-option"),
    ],
)
def test_wrong_usage_has_a_code_that_no_command_has(arguments: str, told: str, capsys: Capture) -> None:
    """123: 2 could be that of the command."""
    assert app.run(["run", *arguments.split()]) == 123
    assert told in capsys.readouterr().err


def test_a_command_that_is_not_there_is_told_before_it_is_waited_for(tmp_path: Path, capsys: Capture) -> None:
    assert app.run(["run", "--lock", "/a", "--", "no-such-command"]) == 127
    assert capsys.readouterr().err == "coordinator run: no-such-command: command not found\n"
    assert app.run(["run", "--lock", "/a", "--", str(tmp_path)]) == 126
    assert "not executable" in capsys.readouterr().err
