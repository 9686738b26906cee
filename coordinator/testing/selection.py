"""Which ZooKeeper a test run is told to use: by a fixture, an option, the ini file, the environment.

::

    argument of the factory  >  command line  >  ini file  >  environment  >  what this machine has
    zookeeper(kind=...)         --zookeeper-kind  zookeeper_kind  COORDINATOR_ZOOKEEPER

Hosts and kind are one decision, and are taken from the same level: ``--zookeeper-kind process``
starts a server although the environment names hosts.

This module must import neither Docker, kazoo nor pydantic: pytest loads it in every project.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from coordinator.errors import ConfigurationError
from coordinator.testing.options import ServerOptions, configuration
from coordinator.testing.server import ExternalZooKeeper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pytest

    from coordinator.testing.provision import Kind

__all__ = ["KNOBS", "Knob", "Selection", "check", "select"]

KINDS = ("container", "process")


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting, and what it is called at each level."""

    name: str
    option: str
    variable: str
    metavar: str
    help: str

    @property
    def ini(self) -> str:
        """Its name in the ini file, and where the command line's value is kept."""
        return f"zookeeper_{self.name}"


KNOBS = (
    Knob(
        "hosts", "--zookeeper", "COORDINATOR_TEST_HOSTS", "HOSTS",
        "use this running ZooKeeper, HOST:PORT[,HOST:PORT...][/CHROOT], instead of starting one",
    ),
    Knob(
        "kind", "--zookeeper-kind", "COORDINATOR_ZOOKEEPER", "container|process",
        "start ZooKeeper only like this; otherwise a container, else a child process",
    ),
    Knob(
        "image", "--zookeeper-image", "COORDINATOR_ZOOKEEPER_IMAGE", "IMAGE",
        "the image of containers; otherwise zookeeper:3.9",
    ),
    Knob(
        "home", "--zookeeper-home", "ZOOKEEPER_HOME", "FOLDER",
        "where child processes find ZooKeeper's jars; otherwise where Debian puts them",
    ),
    Knob(
        "tick", "--zookeeper-tick", "COORDINATOR_ZOOKEEPER_TICK", "SECONDS",
        "tickTime of servers that are started; otherwise 0.1",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """What was decided, and by whom."""

    hosts: str | None
    kind: Kind | None
    image: str | None
    home: str | None
    tick: float | None
    said_by: Mapping[str, str]
    """The option, the line or the variable that a value is from, by the name of the setting."""

    @property
    def options(self) -> ServerOptions:
        """What of it a server that is started has to be told; it reads some variables itself."""
        found = {"image": self.image, "home": self.home, "tick": self.tick}
        known = {"image": "COORDINATOR_ZOOKEEPER_IMAGE", "home": "ZOOKEEPER_HOME"}
        told = {
            name: value
            for name, value in found.items()
            if value is not None and self.said_by[name] != known.get(name)
        }
        return cast("ServerOptions", told)


@dataclass(frozen=True, slots=True)
class _Level:
    name: str
    values: Mapping[str, Any]

    def said(self, knob: Knob) -> str:
        """How the setting is called here."""
        return {
            "fixture": f"{knob.name} of the fixture",
            "command line": knob.option,
            "ini file": f"{knob.ini} in the ini file",
            "environment": knob.variable,
        }[self.name]


def select(config: pytest.Config, given: Mapping[str, Any]) -> Selection:
    """Decide, from the strongest level that says something.

    Args:
        config: pytest's.
        given: what the fixture was made with; None for what it leaves open.

    Raises:
        ConfigurationError: if a value is wrong; it says whose.
    """
    return _decide(_levels(config, given))


def check(config: pytest.Config) -> None:
    """See that command line and ini file say nothing wrong; what the environment says may be for others.

    Raises:
        ConfigurationError: it says what, and where.
    """
    levels = [level for level in _levels(config, {}) if level.name != "environment"]
    for level in levels:
        _decide([level])
    _decide(levels)


def _decide(levels: Iterable[_Level]) -> Selection:
    found: dict[str, Any] = {}
    said_by: dict[str, str] = {}
    for level in levels:
        decided = "hosts" in found or "kind" in found
        for knob in KNOBS:
            value = level.values.get(knob.name)
            if value in (None, "") or knob.name in found or (decided and knob.name in ("hosts", "kind")):
                continue
            found[knob.name] = _read(knob, value, level)
            said_by[knob.name] = level.said(knob)
        if not decided and "hosts" in found and "kind" in found:
            if level.name != "environment":  # where hosts have always been the stronger
                raise ConfigurationError(
                    f"both {said_by['hosts']} and {said_by['kind']}: a server that runs is not started; "
                    "leave one of them out"
                )
            del found["kind"], said_by["kind"]
    return Selection(**{knob.name: found.get(knob.name) for knob in KNOBS}, said_by=said_by)


def _levels(config: pytest.Config, given: Mapping[str, Any]) -> Iterator[_Level]:
    yield _Level("fixture", given)
    yield _Level("command line", {knob.name: config.getoption(knob.ini) for knob in KNOBS})
    ini = {knob.name: config.getini(knob.ini) for knob in KNOBS}
    if ini["home"]:
        ini["home"] = str((config.inipath.parent if config.inipath else config.rootpath) / ini["home"])
    yield _Level("ini file", ini)
    yield _Level("environment", {knob.name: os.environ.get(knob.variable) for knob in KNOBS})


def _read(knob: Knob, value: Any, level: _Level) -> Any:
    said = f"{level.said(knob)}={value!r}"
    if knob.name == "kind" and value not in KINDS:
        raise ConfigurationError(f"{said}, must be 'container' or 'process'")
    if knob.name == "home" and level.name != "environment" and not Path(value).is_dir():
        raise ConfigurationError(f"{said}: there is no such folder")
    if knob.name == "hosts":
        try:
            ExternalZooKeeper(value)
        except ConfigurationError as wrong:
            raise ConfigurationError(f"{level.said(knob)}: {wrong}") from None
    if knob.name == "tick":
        try:
            value = float(value)
            configuration(ServerOptions(tick=value))
        except (ValueError, ConfigurationError):
            raise ConfigurationError(f"{said}, must be seconds, from 0.001 to 60") from None
    return value
