"""``coordinator`` as PID 1 of a container that has this machine's Python and this tree, and nothing else.

The image holds what is a link in our root directory (``/bin`` -> ``usr/bin``), and no file; the system's
directories, Python and the tree are mounted, read-only. So nothing has to be pulled or built, and what is
tested is what is here. It takes an engine on this machine, and Linux, as ``coordinator run`` does.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coordinator.testing import ZooKeeperContainer, eventually
from coordinator.testing.container import import_docker, labels
from tests.command import ROOT
from tests.support import PATIENCE

#: What begins like this in the root directory belongs to the system's programs and libraries.
SYSTEM = ("bin", "sbin", "lib", "usr", "nix")
#: Where libraries are that are not where they are by default.
LIBRARIES = Path("/etc/ld.so.cache")


@dataclass(frozen=True)
class Process:
    """A process of a container, as this machine sees it."""

    pid: int
    parent: int
    inside: int
    """Its number in the container."""


class Site:
    """Where such containers run: an image, and a network that has a ZooKeeper."""

    def __init__(self, client: Any, image: str, network: Any, hosts: str) -> None:
        self.client = client
        self.image = image
        self.network = network
        self.hosts = hosts
        """Of the ZooKeeper, as containers find it."""

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Box:
        """Start ``coordinator`` with these arguments as PID 1."""
        return Box(
            self,
            self.client.containers.run(
                self.image,
                [sys.executable, "-m", "coordinator", *arguments],
                detach=True,
                network=self.network.name,
                volumes=[f"{path}:{path}:ro" for path in _mounted()],
                security_opt=["label=disable"],
                labels=labels(),
                environment={"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **(environment or {})},
            ),
        )


@contextmanager
def site(zookeeper: ZooKeeperContainer) -> Iterator[Site]:
    """A network of our own, which that server joins, and the image; gone at the end."""
    client = import_docker().from_env()
    name = f"coordinator-{secrets.token_hex(6)}"
    with contextlib.ExitStack() as stack:
        stack.callback(client.close)
        client.api.import_image_from_data(_root(), repository=name)
        stack.callback(client.images.remove, name)
        network = client.networks.create(name, labels=labels())
        stack.callback(network.remove)
        network.connect(zookeeper.container_id)
        stack.callback(network.disconnect, zookeeper.container_id, force=True)
        server = client.containers.get(zookeeper.container_id)
        address = server.attrs["NetworkSettings"]["Networks"][name]["IPAddress"]
        yield Site(client, name, network, f"{address}:2181")


def _root() -> bytes:
    """An archive of the links in our root directory that belong to the system."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path in Path("/").iterdir():
            if path.is_symlink() and path.name.startswith(SYSTEM):
                archive.add(path)
        archive.addfile(_folder("tmp"))
    return made.getvalue()


def _folder(name: str) -> tarfile.TarInfo:
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    return folder


def _mounted() -> list[Path]:
    """What Python and a shell need: no path that lies within another."""
    system = [path for path in Path("/").iterdir() if path.name.startswith(SYSTEM) and not path.is_symlink()]
    python = [sys.prefix, sys.base_prefix, *sys.path]
    wanted = {path for path in (*system, LIBRARIES, ROOT, *map(Path, python)) if path.exists()} - {Path()}
    return sorted(path for path in wanted if not wanted & {*path.parents})


class Box:
    """A container in which ``coordinator`` is PID 1."""

    def __init__(self, site: Site, container: Any) -> None:
        self._site = site
        self.container = container

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.remove(force=True)

    def out(self) -> str:
        """What it has said so far."""
        return str(self.container.logs(stdout=True, stderr=False).decode())

    def err(self) -> str:
        """What it has complained of so far."""
        return str(self.container.logs(stdout=False, stderr=True).decode())

    def line(self) -> str:
        """Its first line, once it is whole."""

        def whole() -> str:
            assert "\n" in self.out(), self.err()
            return self.out().split("\n")[0]

        return str(eventually(whole, timeout=PATIENCE, message="its first line"))

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return int(self.container.wait(timeout=PATIENCE)["StatusCode"])

    def stop(self) -> tuple[int, float]:
        """``docker stop``: SIGTERM, and SIGKILL after 10 s; return its exit code and how long it took."""
        began = time.monotonic()
        self.container.stop(timeout=10)
        return self.wait(), time.monotonic() - began

    def execute(self, script: str) -> str:
        """``docker exec``: run a shell script in it, and return what it said."""
        code, out = self.container.exec_run(["/bin/sh", "-c", script])
        assert code == 0, out
        return str(out.decode().strip())

    def cut(self) -> None:
        """``docker network disconnect``: nothing comes or goes any more, and nobody is told."""
        self._site.network.disconnect(self.container, force=True)

    @property
    def first(self) -> int:
        """Its PID 1, as this machine numbers it."""
        self.container.reload()
        return int(self.container.attrs["State"]["Pid"])

    def processes(self) -> list[Process]:
        """All in it, zombies included: PID 1, and what descends from it."""
        everybody = [found for path in Path("/proc").iterdir() if (found := _process(path)) is not None]
        family = {self.first}
        assert family & {one.pid for one in everybody}, "the engine does not run on this machine"
        while more := {one.pid for one in everybody if one.parent in family} - family:
            family |= more
        return [one for one in everybody if one.pid in family]

    def numbered(self, inside: Sequence[int]) -> list[int]:
        """The numbers on this machine of processes that have these in the container."""
        found = {one.inside: one.pid for one in self.processes()}
        return [found[pid] for pid in inside]


def _process(path: Path) -> Process | None:
    """What /proc tells of a process; None if it has ended, or is none."""
    try:
        lines = (path / "status").read_text().splitlines() if path.name.isdecimal() else []
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    if "NSpid" not in told:
        return None
    return Process(
        pid=int(path.name),
        parent=int(told["PPid"]),
        inside=int(told["NSpid"].split()[-1]),
    )
