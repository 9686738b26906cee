"""A ZooKeeper server as a child process: for machines without any Docker engine.

It needs ZooKeeper's jars, in ``ZOOKEEPER_HOME`` or where Debian puts them, and a java.
The child has a process group of its own, so that Ctrl-C reaches only us; it ends with
`close`, at the latest at interpreter exit. What a process leaves that is killed, the next
one removes that starts a server.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.options import MAIN, Member, ServerOptions, configuration, jvm_flags
from coordinator.testing.ownership import own_folder, sweep_folders
from coordinator.testing.ports import free_port
from coordinator.testing.security import placed, secured
from coordinator.testing.server import ZooKeeperServer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Installation", "ZooKeeperProcess", "find_installation"]

#: Where Debian's libzookeeper-java and its dependencies put their jars.
DEBIAN_JARS = Path("/usr/share/java")
#: What a server loads, seen by logging its class loading.
JARS = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "metrics-core", "snappy-java")
#: What it needs besides for TLS; without these it serves plain connections.
NETTY = (
    *("buffer", "codec", "common", "handler", "resolver", "transport"),
    *("transport-native-epoll", "transport-native-unix-common"),
)
#: Seconds until a stop by SIGTERM becomes SIGKILL; it takes about 0.1 s.
STOP_TIMEOUT = 5.0


class Installation:
    """A java and a class path that can run a ZooKeeper server."""

    def __init__(self, java: str, classpath: Sequence[str], where: str) -> None:
        self.java = java
        self.classpath = tuple(classpath)
        self.where = where

    @property
    def netty(self) -> bool:
        """Whether it can serve TLS."""
        return any(Path(jar).name.startswith("netty-handler") for jar in self.classpath)


def find_installation(home: str | None = None) -> Installation:
    """Find ZooKeeper's jars and a java on this machine.

    Args:
        home: a folder with ZooKeeper's jars; ZOOKEEPER_HOME unless given.

    Raises:
        ZooKeeperUnavailableError: naming what is missing.
    """
    configured = home or os.environ.get("ZOOKEEPER_HOME")
    if not configured:
        classpath = _debian_jars()
        return Installation(_find_java(None), classpath, str(DEBIAN_JARS))
    folder = Path(configured)
    classpath = _jars_of(folder, said=f"{'home' if home else 'ZOOKEEPER_HOME'}={configured}")
    return Installation(_find_java(folder), classpath, configured)


def _jars_of(home: Path, said: str) -> list[str]:
    jars = [*sorted(home.glob("zookeeper-*.jar")), *sorted((home / "lib").glob("*.jar"))]
    if not any(jar.name.startswith("zookeeper") for jar in jars):
        raise ZooKeeperUnavailableError(f"{said} has no lib/zookeeper*.jar")
    # The official distribution logs at DEBUG without its own configuration.
    return [*map(str, jars), *([str(home / "conf")] if (home / "conf").is_dir() else [])]


def _debian_jars() -> list[str]:
    jars = [DEBIAN_JARS / f"{name}.jar" for name in JARS]
    if missing := [jar.name for jar in jars if not jar.exists()]:
        raise ZooKeeperUnavailableError(
            f"ZOOKEEPER_HOME is not set, and {DEBIAN_JARS} lacks {', '.join(missing)}"
        )
    netty = [DEBIAN_JARS / f"netty-{part}.jar" for part in NETTY]
    return [str(jar) for jar in [*jars, *netty] if jar.exists()]


def _find_java(home: Path | None) -> str:
    candidates = [home / "jre/bin/java"] if home is not None else []
    if java_home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(java_home) / "bin/java")
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return str(candidate)
    if found := shutil.which("java"):
        return found
    raise ZooKeeperUnavailableError("no java: neither jre/ in ZooKeeper's home, nor JAVA_HOME, nor on PATH")


class ZooKeeperProcess(ZooKeeperServer):
    """A ZooKeeper server as a child process, its data in a temporary folder.

    Args:
        member: its place in an ensemble, if it is in one.
        options: see `ServerOptions`.

    Raises:
        ZooKeeperUnavailableError: if this machine has no ZooKeeper or no java.
    """

    def __init__(self, *, member: Member | None = None, **options: Unpack[ServerOptions]) -> None:
        self._installation = find_installation(options.get("home"))
        self._member = member
        self._port = options.get("port") or free_port()
        self._secure_port = options.get("secure_port") or free_port() if "tls" in options else None
        if self._secure_port is not None and not self._installation.netty:
            raise ZooKeeperUnavailableError(
                f"no netty in {self._installation.where}: a server needs it for TLS"
            )
        options = secured(options)
        self._config = configuration(options)
        self._files = dict(options.get("files", {}))
        self._flags = tuple(jvm_flags(options))
        self._environment = dict(options.get("environment", {}))
        self._folder: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.origin = f"child process, ZooKeeper of {self._installation.where}"

    @property
    def address(self) -> tuple[str, int]:
        """127.0.0.1 and the client port."""
        return "127.0.0.1", self._port

    @property
    def secure_address(self) -> tuple[str, int]:
        """127.0.0.1 and the port for TLS."""
        return super().secure_address if self._secure_port is None else ("127.0.0.1", self._secure_port)

    def stop(self) -> None:
        """End it by SIGTERM; its data is kept."""
        child = self._child
        if child is None:
            return
        self.thaw()
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._child = None

    def kill(self) -> None:
        """End it by SIGKILL; its data is kept."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def freeze(self) -> None:
        """Freeze it by SIGSTOP."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End a freeze by SIGCONT, if it is frozen."""
        if self._child is not None:
            self._child.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and delete its data."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        atexit.unregister(self.close)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise ZooKeeperUnavailableError(f"{self.origin} at {self.hosts} is not running")
        return self._child

    def _launch(self) -> None:
        if self._child is not None:
            if self._child.poll() is None:
                return
            self._child = None
        if self._folder is None:
            sweep_folders()
            self._folder = self._furnish()
            atexit.register(self.close)
        folder = str(self._folder / "files")
        flags = [placed(flag, folder) for flag in self._flags]
        environment = {name: placed(value, folder) for name, value in self._environment.items()}
        command = [self._installation.java, *flags, f"-Dzookeeper.log.dir={self._folder}"]
        command += ["-cp", os.pathsep.join(self._installation.classpath), MAIN, str(self._folder / "zoo.cfg")]
        with (self._folder / "log").open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 the command is ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def _furnish(self) -> Path:
        """A new folder with zoo.cfg and, in an ensemble, the server's number."""
        folder = own_folder()
        data = folder / "data"
        data.mkdir()
        lines = {**self._config, "dataDir": str(data)}
        files = folder / "files"  # in a folder of mkdtemp's, which nobody else may enter
        files.mkdir()
        for name, content in self._files.items():
            (files / name).write_bytes(content)
        if self._secure_port is not None:
            lines |= {"secureClientPort": str(self._secure_port), "secureClientPortAddress": "127.0.0.1"}
        if self._member is None:
            lines |= {"clientPort": str(self._port), "clientPortAddress": "127.0.0.1"}
        text = [placed(f"{key}={value}", str(files)) for key, value in lines.items()]
        if self._member is not None:
            text += self._member.servers
            (data / "myid").write_text(f"{self._member.my_id}\n")
        (folder / "zoo.cfg").write_text("\n".join(text) + "\n")
        return folder

    def _ended(self) -> bool:
        return self._child is None or self._child.poll() is not None

    def _log_tail(self) -> str:
        if self._folder is None:
            return ""
        with contextlib.suppress(OSError):
            return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-20:])
        return ""
