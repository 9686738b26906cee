"""Who decides which ZooKeeper is used: fixture, command line, ini file, environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import ConfigurationError
from coordinator.testing.selection import KNOBS, check, select


class Config:
    """What pytest would know."""

    def __init__(self, folder: Path) -> None:
        self.rootpath = folder
        self.inipath: Path | None = folder / "pytest.ini"
        self.options: dict[str, str] = {}
        self.ini: dict[str, str] = {}

    def getoption(self, name: str) -> str | None:
        return self.options.get(name)

    def getini(self, name: str) -> str:
        return self.ini.get(name, "")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for knob in KNOBS:
        monkeypatch.delenv(knob.variable, raising=False)
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
    return Config(tmp_path)


#: A value for each level, the strongest first.
VALUES: dict[str, tuple[Any, ...]] = {
    "hosts": ("a:1", "b:2", "c:3", "d:4"),
    "kind": ("container", "process", "container", "process"),
    "image": ("a", "b", "c", "d"),
    "home": ("a", "b", "c", "d"),
    "tick": (0.1, "0.2", "0.3", "0.4"),
}


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_the_strongest_level_decides(knob: Any, config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them alone, and over all that are weaker."""
    values = VALUES[knob.name]
    if knob.name == "home":
        values = tuple(str(config.rootpath / one) for one in values)

    def decided(given: dict[str, Any]) -> tuple[Any, str]:
        chosen = select(config, given)
        return getattr(chosen, knob.name), chosen.said_by.get(knob.name, "nobody")

    def expected(level: int) -> Any:
        return float(values[level]) if knob.name == "tick" else values[level]

    assert decided({}) == (None, "nobody")
    monkeypatch.setenv(knob.variable, str(values[3]))
    assert decided({}) == (expected(3), knob.variable)
    config.ini[f"zookeeper_{knob.name}"] = values[2]
    assert decided({}) == (expected(2), f"zookeeper_{knob.name} in the ini file")
    config.options[f"zookeeper_{knob.name}"] = values[1]
    assert decided({}) == (expected(1), knob.option)
    assert decided({knob.name: None}) == (expected(1), knob.option)
    assert decided({knob.name: values[0]}) == (expected(0), f"{knob.name} of the fixture")


def test_hosts_and_kind_are_one_decision(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says one of them is not overruled by a weaker level that says the other."""
    monkeypatch.setenv("COORDINATOR_TEST_HOSTS", "a:1")
    config.options["zookeeper_kind"] = "process"
    chosen = select(config, {})
    assert (chosen.hosts, chosen.kind) == (None, "process")
    chosen = select(config, {"hosts": "b:1"})
    assert (chosen.hosts, chosen.kind) == ("b:1", None)


def test_in_the_environment_hosts_win(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As always; anywhere else, to say both is a contradiction."""
    monkeypatch.setenv("COORDINATOR_TEST_HOSTS", "a:1")
    monkeypatch.setenv("COORDINATOR_ZOOKEEPER", "process")
    chosen = select(config, {})
    assert (chosen.hosts, chosen.kind, "kind" in chosen.said_by) == ("a:1", None, False)
    config.ini |= {"zookeeper_hosts": "a:1", "zookeeper_kind": "process"}
    with pytest.raises(
        ConfigurationError, match="both zookeeper_hosts in the ini file and zookeeper_kind in"
    ):
        select(config, {})
    with pytest.raises(ConfigurationError, match="both hosts of the fixture and kind of the fixture"):
        select(config, {"hosts": "a:1", "kind": "process"})


WRONG = [
    ("hosts", "a:x", "HOST:PORT"),
    ("hosts", "a:1,b:70000", "HOST:PORT"),
    ("hosts", ":1", "HOST:PORT"),
    ("kind", "podman", "'podman', must be 'container' or 'process'"),
    ("home", "/no/such/folder", "no such folder"),
    ("tick", "soon", "'soon', must be seconds"),
    ("tick", "0", "'0', must be seconds"),
]


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
@pytest.mark.parametrize("level", ["options", "ini"])
def test_what_is_wrong_is_told_at_once(config: Any, level: str, name: str, value: str, says: str) -> None:
    """Also at a level that does not decide, with the name that it has there."""
    config.options |= {"zookeeper_hosts": "a:1"} if name != "hosts" and level == "ini" else {}
    getattr(config, level)[f"zookeeper_{name}"] = value
    knob = next(knob for knob in KNOBS if knob.name == name)
    with pytest.raises(ConfigurationError, match=says) as told:
        check(config)
    assert (knob.option if level == "options" else knob.ini) in str(told.value)


def test_the_environment_may_be_meant_for_others(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused when a test asks for a server, not before; ZOOKEEPER_HOME is looked at even later."""
    monkeypatch.setenv("COORDINATOR_ZOOKEEPER", "podman")
    monkeypatch.setenv("ZOOKEEPER_HOME", "/no/such/folder")
    check(config)
    with pytest.raises(ConfigurationError, match=r"COORDINATOR_ZOOKEEPER='podman'"):
        select(config, {})
    monkeypatch.delenv("COORDINATOR_ZOOKEEPER")
    assert select(config, {}).options == {}


def test_a_home_in_the_ini_file_is_beside_it(config: Any) -> None:
    """As paths in ini files are; without a file, beside the tests."""
    config.ini["zookeeper_home"] = "a"
    (config.rootpath / "b" / "a").mkdir()
    config.inipath = config.rootpath / "b" / "tox.ini"
    assert select(config, {}).options == {"home": str(config.rootpath / "b" / "a")}
    config.inipath = None
    assert select(config, {}).home == str(config.rootpath / "a")


def test_a_server_is_told_what_it_does_not_read_itself(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an error names the variable, where it was one."""
    monkeypatch.setenv("COORDINATOR_ZOOKEEPER_IMAGE", "one")
    monkeypatch.setenv("COORDINATOR_ZOOKEEPER_TICK", "0.5")
    assert select(config, {}).options == {"tick": 0.5}
    config.options["zookeeper_image"] = "two"
    assert select(config, {}).options == {"tick": 0.5, "image": "two"}
