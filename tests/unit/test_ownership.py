"""Who is gone, and who cannot be judged from here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.testing import ownership
from coordinator.testing.ownership import is_orphaned, owner


@pytest.fixture(params=["proc", "ps"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Systems with /proc, and without."""
    if request.param == "ps":
        monkeypatch.setattr(ownership, "PROC", tmp_path)
    return request.param


@pytest.fixture
def child(system: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its input does."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def stamp_of(pid: int) -> str:
    """What that process would call itself."""
    *namespace, _, _ = owner().split("/")
    return "/".join([*namespace, str(pid), ownership._start_of(pid)])


def test_who_lives_is_no_orphan(child: subprocess.Popen[bytes]) -> None:
    """Neither we nor our neighbour."""
    assert not is_orphaned(owner())
    assert not is_orphaned(stamp_of(child.pid))
    child.communicate(b"\n")


def test_who_has_ended_is_one(child: subprocess.Popen[bytes]) -> None:
    """Also as long as nobody has asked for its exit code."""
    stamp = stamp_of(child.pid)
    assert child.stdin is not None
    child.stdin.close()
    if Path("/proc") == ownership.PROC:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_orphaned(stamp)
    child.wait()
    assert is_orphaned(stamp)


def test_a_number_that_is_used_again_is_somebody_else(system: str) -> None:
    """The same pid with another start is another process."""
    assert is_orphaned(owner() + "0")


@pytest.mark.parametrize("part", range(2))
def test_others_are_not_judged(part: int) -> None:
    """Of another machine, or another pid namespace, a pid says nothing."""
    parts = [*owner().split("/")[:2], str(2**22 + 1), "1"]
    assert is_orphaned("/".join(parts))
    parts[part] += "x"
    assert not is_orphaned("/".join(parts))


@pytest.mark.parametrize("stamp", ["", "x", "a/b/c", "a/b/c/d/e/f", "////"])
def test_what_is_no_stamp_is_not_judged(stamp: str) -> None:
    """Whoever wrote it meant something else."""
    assert not is_orphaned(stamp)


def test_without_ps_nobody_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that tells nothing about processes: all may live."""
    monkeypatch.setattr(ownership, "PROC", tmp_path)
    gone = "/".join([*owner().split("/")[:2], str(2**22 + 1), "Mon"])
    assert is_orphaned(gone)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not is_orphaned(gone)


def test_who_is_hidden_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc may hide the processes of other users; signals do not."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    gone = "/".join([*owner().split("/")[:2], str(2**22 + 1), "1"])
    assert is_orphaned(gone)
    monkeypatch.setattr(ownership.os, "kill", refuse)
    assert not is_orphaned(gone)


class Refused(Exception):
    """As docker says it."""


class Engine:
    """What a Docker engine keeps, as far as we ask it."""

    def __init__(self, *stamps: str) -> None:
        self.kept = {f"{kind}{n}": stamp for kind in "cn" for n, stamp in enumerate(stamps)}
        self.asked: list[str] = []
        self.api = self.errors = self
        self.NotFound = self.APIError = Refused

    def from_env(self) -> Engine:
        return self

    def _listed(self, kind: str) -> list[dict[str, Any]]:
        things = [(name, stamp) for name, stamp in self.kept.items() if name[0] == kind]
        return [{"Id": name, "Labels": {ownership.LABEL: stamp}} for name, stamp in things]

    def containers(self, **asked: Any) -> list[dict[str, Any]]:
        assert asked == {"all": True, "filters": {"label": ownership.LABEL}}
        return self._listed("c")

    def networks(self, **asked: Any) -> list[dict[str, Any]]:
        assert asked == {"filters": {"label": ownership.LABEL}}
        return self._listed("n")

    def remove_container(self, name: str, **how: Any) -> None:
        assert how == {"v": True, "force": True}
        self.remove_network(name)

    def remove_network(self, name: str) -> None:
        if name.endswith("0"):
            raise Refused  # somebody else was quicker
        del self.kept[name]

    def close(self) -> None:
        self.asked.append("close")


def test_the_engine_is_swept_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What orphans have left goes, what others have stays; a line tells what was removed by us."""
    monkeypatch.setattr(ownership, "_done", set())
    monkeypatch.setattr(ownership, "_told", [])
    *here, _, _ = owner().split("/")
    gone = "/".join([*here, str(2**22 + 1), "1"])
    engine = Engine(gone, gone, gone, owner(), "another/machine/1/1")
    ownership.sweep_engine(engine)
    assert sorted(engine.kept) == ["c0", "c3", "c4", "n0", "n3", "n4"]
    lines = [
        "removed 2 containers left by a run that was killed",
        "removed 2 networks left by a run that was killed",
    ]
    assert ownership.swept() == lines
    assert capsys.readouterr().err == "".join(f"coordinator.testing: {line}\n" for line in lines)
    engine.kept["c5"] = gone
    ownership.sweep_engine(SimpleNamespace())  # it is not asked again
    assert "c5" in engine.kept
