"""What can be said about a ZooKeeper before any is started, in no time: which way, which version.

What was really used is told after the run; this is for the head of the report.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.testing.server import ExternalZooKeeper

if TYPE_CHECKING:
    from coordinator.testing.selection import Selection

__all__ = ["sighted"]

#: Seconds for a running server to tell its version; longer, and the report does without.
PATIENCE = 0.3
#: Where Maven writes the version into a jar.
POM = "META-INF/maven/org.apache.zookeeper/zookeeper/pom.properties"


def sighted(chosen: Selection) -> str:
    """One line: the way, its version where that is known, and who has said so."""
    if chosen.hosts:
        return f"{_external(chosen.hosts)} ({chosen.said_by['hosts']})"
    if chosen.kind == "container":
        return f"{_container(chosen)} ({chosen.said_by['kind']})"
    if chosen.kind == "process":
        return f"{_process(chosen)} ({chosen.said_by['kind']})"
    return f"{_container(chosen)}, else child process"


def _external(hosts: str) -> str:
    server = ExternalZooKeeper(hosts)
    try:
        found = re.search(r"version: (\d+(?:\.\d+)+)", server.four_letters("srvr", PATIENCE))
    except OSError:
        return f"{server.origin}, which does not answer"
    return f"{server.origin}, ZooKeeper {found[1]}" if found else server.origin


def _container(chosen: Selection) -> str:
    from coordinator.testing.container import default_image

    return f"container {chosen.image or default_image()}"


def _process(chosen: Selection) -> str:
    from coordinator.testing.errors import ZooKeeperUnavailableError
    from coordinator.testing.process import find_installation

    try:
        found = find_installation(chosen.options.get("home"))
    except ZooKeeperUnavailableError as missing:
        return f"child process, but {missing}"
    version = next((said for jar in found.classpath if (said := _version(Path(jar)))), "")
    return f"child process, ZooKeeper{f' {version}' if version else ''} of {found.where}"


def _version(jar: Path) -> str:
    """The version of ZooKeeper's own jar: by its name, or by what it says of itself; or nothing."""
    if not re.match(r"zookeeper(-\d.*)?\.jar", jar.name):
        return ""
    if named := re.match(r"zookeeper-(\d+(?:\.\d+)+)", jar.resolve().name):
        return named[1]
    try:
        with zipfile.ZipFile(jar) as opened:
            text = opened.read(POM).decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""
    told = re.search(r"^version=(\d+(?:\.\d+)+)", text, re.MULTILINE)
    return told[1] if told else ""
