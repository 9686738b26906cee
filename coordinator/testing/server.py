"""A real ZooKeeper server that a test may start, freeze, kill and wipe.

`ZooKeeperServer` is what tests see; `container` and `process` say how one is run. A
server keeps its port over all restarts, because clients must find it again.

::

    new --start--> serving --freeze--> frozen --thaw--> serving
                   serving --stop, kill--> down (data kept) --start--> serving
                   any --wipe--> serving, empty       any --close--> gone

This module must not import Docker or kazoo: it is cheap to import.
"""

from __future__ import annotations

import abc
import re
import time
from typing import Self

from coordinator.errors import ConfigurationError
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.ports import four_letters, speaks_tls

__all__ = ["POLL", "START_TIMEOUT", "ExternalZooKeeper", "ZooKeeperServer"]

#: Seconds between two looks at a server that starts; a look costs about 1 ms.
POLL = 0.02
#: Seconds; a container serves after 0.5 s, three of them on a busy machine after 5 s.
START_TIMEOUT = 30.0


class ZooKeeperServer(abc.ABC):
    """A ZooKeeper server under a test's control.

    As a context manager it starts on entry and is gone, with its data, on exit.
    """

    origin: str
    """One line: how it is provided, e.g. ``container zookeeper:3.9 via testcontainers``."""

    @property
    @abc.abstractmethod
    def address(self) -> tuple[str, int]:
        """Host and client port; the same over all restarts."""

    @property
    def hosts(self) -> str:
        """The connection string, e.g. ``127.0.0.1:21810``."""
        host, port = self.address
        return f"{host}:{port}"

    @property
    def secure_address(self) -> tuple[str, int]:
        """Host and port for TLS; the same over all restarts.

        Raises:
            ConfigurationError: if it was not asked for.
        """
        raise ConfigurationError(
            f"the {self.origin} has no port for TLS that is known: give it tls=ServerTLS(...)"
        )

    @property
    def secure_hosts(self) -> str:
        """The connection string of the port for TLS."""
        host, port = self.secure_address
        return f"{host}:{port}"

    @property
    def version(self) -> str:
        """The server's version, e.g. ``3.9.3``, as it says itself."""
        found = re.search(r"version: (\d+(?:\.\d+)+)", self.four_letters("srvr"))
        return found[1] if found else "unknown"

    @property
    def mode(self) -> str:
        """``standalone``, ``leader`` or ``follower``; empty while it does not serve."""
        try:
            found = re.search(r"^Mode: (\S+)", self.four_letters("srvr"), re.MULTILINE)
        except OSError:
            return ""
        return found[1] if found else ""

    def four_letters(self, word: str, timeout: float = 1.0) -> str:
        """Send a four-letter word such as ``srvr`` or ``dump``; return the answer.

        Raises:
            OSError: if nobody answers within ``timeout`` seconds.
        """
        return four_letters(self.address, word, timeout)

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Start, with the data there is, and wait until it serves.

        Raises:
            ZooKeeperUnavailableError: if it does not within ``timeout`` seconds; with the
                end of its log.
        """
        self._launch()
        self.wait_serving(timeout)
        return self

    @abc.abstractmethod
    def stop(self) -> None:
        """End it in good order; its data is kept. A server that is down stays so."""

    @abc.abstractmethod
    def kill(self) -> None:
        """End it by SIGKILL; its data is kept."""

    def restart(self, timeout: float = START_TIMEOUT) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start(timeout)

    @abc.abstractmethod
    def freeze(self) -> None:
        """Freeze it: connections stay open, nothing answers."""

    @abc.abstractmethod
    def thaw(self) -> None:
        """End a freeze, if it is frozen."""

    def wipe(self, timeout: float = START_TIMEOUT) -> None:
        """Stop, delete all data, start anew on the same port.

        To clients it is a ZooKeeper that forgot everything, their sessions as well.
        """
        self.close()
        self.start(timeout)

    @abc.abstractmethod
    def close(self) -> None:
        """End it and delete its data. May be called again."""

    def wait_serving(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until ``srvr`` tells a mode, and the port for TLS, if there is one, speaks TLS.

        Connecting proves nothing: proxies accept early.

        Raises:
            ZooKeeperUnavailableError: after ``timeout`` seconds, or as soon as it has ended.
        """
        deadline = time.monotonic() + timeout
        while not (self.mode and self._serves_tls()):
            ended = self._ended()
            if ended or time.monotonic() >= deadline:
                what = "ended at once" if ended else f"does not serve after {timeout} s"
                log = self._log_tail()
                raise ZooKeeperUnavailableError(
                    f"{self.origin}{'' if self.hosts in self.origin else f' at {self.hosts}'} {what}"
                    + (f"; the end of its log:\n{log}" if log else "")
                )
            time.sleep(POLL)

    def _serves_tls(self) -> bool:
        """Whether the port for TLS is open, which it is last of all; True if there is none."""
        try:
            return speaks_tls(self.secure_address)
        except ConfigurationError:
            return True

    @abc.abstractmethod
    def _launch(self) -> None:
        """Set it going; `wait_serving` follows."""

    @abc.abstractmethod
    def _ended(self) -> bool:
        """Whether it will never serve, since it has ended."""

    @abc.abstractmethod
    def _log_tail(self) -> str:
        """The last lines of its log, for an error message."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.hosts} ({self.origin})>"


class ExternalZooKeeper(ZooKeeperServer):
    """A ZooKeeper that somebody else runs: usable, not controllable."""

    def __init__(self, hosts: str) -> None:
        servers = []
        for one in hosts.partition("/")[0].split(","):
            host, _, port = one.strip().rpartition(":") if ":" in one else (one.strip(), "", "2181")
            host = host.removeprefix("[").removesuffix("]")  # of an IPv6 address
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ConfigurationError(f"hosts {hosts!r}: expected HOST:PORT[,HOST:PORT...][/CHROOT]")
            servers.append((host, int(port)))
        self._hosts = hosts
        self._address = servers[0]
        self.origin = f"external ZooKeeper at {hosts}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first server of the connection string."""
        return self._address

    @property
    def hosts(self) -> str:
        """The connection string as it was given."""
        return self._hosts

    def start(self, timeout: float = 5.0) -> Self:
        """Check that it serves; a server that is far away or ill fails within ``timeout`` seconds."""
        self.wait_serving(timeout)
        return self

    def stop(self) -> None:
        """Refuse."""
        raise self._foreign("stop")

    def kill(self) -> None:
        """Refuse."""
        raise self._foreign("kill")

    def restart(self, timeout: float = START_TIMEOUT) -> None:
        """Refuse."""
        raise self._foreign("restart")

    def freeze(self) -> None:
        """Refuse."""
        raise self._foreign("freeze")

    def thaw(self) -> None:
        """Refuse."""
        raise self._foreign("thaw")

    def wipe(self, timeout: float = START_TIMEOUT) -> None:
        """Refuse."""
        raise self._foreign("wipe")

    def close(self) -> None:
        """Leave it alone."""

    def _foreign(self, deed: str) -> ConfigurationError:
        return ConfigurationError(
            f"cannot {deed} the {self.origin}: it is not ours; "
            "without --zookeeper HOSTS, zookeeper_hosts in an ini file and COORDINATOR_TEST_HOSTS one is"
            " started that is"
        )

    def _launch(self) -> None:
        """Nothing to do."""

    def _ended(self) -> bool:
        return False

    def _log_tail(self) -> str:
        return ""
