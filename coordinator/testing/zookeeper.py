"""A real ZooKeeper server that a test may start, freeze, kill and wipe.

`ZooKeeperServer` is what tests see; `container` and `process` say how one is run. A
server keeps its port over all restarts, because clients must find it again.

::

    new --start--> serving --pause--> frozen --thaw--> serving
                   serving --stop, kill--> down (data kept) --start--> serving
                   any --wipe--> serving, empty       any --close--> gone

This module must not import Docker or kazoo: it is cheap to import.
"""

from __future__ import annotations

import abc
import contextlib
import re
import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict

from coordinator.errors import ConfigurationError, CoordinatorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordinator.testing.security import ServerTLS

__all__ = [
    "ExternalZooKeeper",
    "Member",
    "ServerOptions",
    "ZooKeeperServer",
    "ZooKeeperUnavailableError",
    "configuration",
    "four_letters",
    "free_port",
    "jvm_flags",
    "speaks_tls",
]

#: Seconds between two looks at a server that starts; a look costs about 1 ms.
POLL = 0.02
#: Seconds; a container serves after 0.5 s, three of them on a busy machine after 5 s.
START_TIMEOUT = 30.0
#: Seconds; a twentieth of ZooKeeper's default, so that sessions of 0.2 s can be had.
DEFAULT_TICK = 0.1
#: Seconds; ZooKeeper's own default of 20 ticks would be 2 s with our tick.
DEFAULT_MAX_SESSION_TIMEOUT = 60.0
#: Measured: 0.52 s to serving and 48 MB instead of 0.58 s and 62 MB. Without forceSync a
#: write takes 0.7 ms instead of 0.9; a killed process loses nothing by it, only a power cut does.
DEFAULT_JVM_FLAGS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx128m",
    "-Dzookeeper.forceSync=no",
)

_given_ports: set[int] = set()


class ZooKeeperUnavailableError(CoordinatorError):
    """No ZooKeeper could be started, or it does not serve."""


class ServerOptions(TypedDict, total=False):
    """What a test may choose about a server; all durations in seconds."""

    tick: float
    """ZooKeeper's tickTime, 0.1 s unless given: the grain of every server-side timeout."""
    min_session_timeout: float
    """2 ticks unless given, as in ZooKeeper."""
    max_session_timeout: float
    """60 s unless given."""
    jvm_flags: Sequence[str]
    """Instead of `DEFAULT_JVM_FLAGS`."""
    properties: Mapping[str, str]
    """Java system properties, such as ``readonlymode.enabled``, beside the JVM's flags."""
    config: Mapping[str, str]
    """Further lines of zoo.cfg; they win."""
    environment: Mapping[str, str]
    """Environment variables of the server."""
    port: int
    """The client port on this host; a free one unless given."""
    secure_port: int
    """The port for TLS on this host, with `tls`; a free one unless given."""
    files: Mapping[str, bytes]
    """Files for the server, by name; ``{files}`` in config, environment and jvm_flags is their folder."""
    tls: ServerTLS
    """A second port, for TLS."""
    sasl_users: Mapping[str, str]
    """Passwords by user: the server knows SASL (DIGEST-MD5). Others are let in, too."""
    sasl_required: bool
    """It ends the sessions of all who did not authenticate by SASL."""


@dataclass(frozen=True, slots=True)
class Member:
    """A server's place in an ensemble."""

    my_id: int
    servers: Sequence[str]
    """The lines ``server.N=...`` of zoo.cfg, the same for all members."""
    network: str = ""
    """The Docker network that the members share; containers only."""
    client_port: int = 0
    """The client port inside of a container, if not ZooKeeper's own."""


def configuration(options: ServerOptions) -> dict[str, str]:
    """The lines of zoo.cfg that do not depend on where the server runs.

    Raises:
        ConfigurationError: if a timeout is not positive or a line holds a blank.
    """
    tick = options.get("tick", DEFAULT_TICK)
    least = options.get("min_session_timeout", 2 * tick)
    most = options.get("max_session_timeout", DEFAULT_MAX_SESSION_TIMEOUT)
    if not 0.001 <= tick <= 60.0:
        raise ConfigurationError(f"tick is {tick} s, must be from 0.001 to 60 s")
    if not 0 < least <= most:
        raise ConfigurationError(f"session timeouts from {least} s to {most} s: no timeout is possible")
    lines = {
        "tickTime": _milliseconds(tick),
        # In ticks. With ticks of 0.1 s ZooKeeper's own 5 and 2 would give a JVM 0.2 s to catch up.
        "initLimit": "20",
        "syncLimit": "10",
        "minSessionTimeout": _milliseconds(least),
        "maxSessionTimeout": _milliseconds(most),
        "maxClientCnxns": "0",
        "admin.enableServer": "false",
        "4lw.commands.whitelist": "*",
        **options.get("config", {}),
    }
    for key, value in lines.items():
        # The images take further lines as a list that is split at blanks.
        if not key or re.search(r"\s", key + value):
            raise ConfigurationError(f"zoo.cfg line {key!r}: neither key nor value may hold a blank")
    return lines


def jvm_flags(options: ServerOptions) -> list[str]:
    """The flags of the server's JVM, system properties included.

    Raises:
        ConfigurationError: if a property holds a blank.
    """
    properties = [f"-D{name}={value}" for name, value in options.get("properties", {}).items()]
    for one in properties:
        if re.search(r"\s", one):
            raise ConfigurationError(f"property {one.partition('=')[0][2:]!r}: it may not hold a blank")
    return [*options.get("jvm_flags", DEFAULT_JVM_FLAGS), *properties]


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _ephemeral_port_range() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return 49152, 65535  # IANA's, which other systems use
    return int(low), int(high)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and no client gets by chance.

    Ports that the kernel gives to outgoing connections are avoided: while the server is
    down, a client that tries 127.0.0.1 again and again would at some time get the
    server's own port as its source, connect to itself, and keep the server from coming back.
    """
    low, high = _ephemeral_port_range()
    candidates = range(20000, low) if low > 21000 else range(high + 1, 65536)
    if len(candidates) < 1000:  # somebody opened the whole range to clients
        candidates = range(20000, 65536)
    for _ in range(200):
        # Not `random`: test plugins seed it alike in every worker.
        port = candidates[secrets.randbelow(len(candidates))]
        if port in _given_ports:  # it may be about to be bound
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))  # noqa: S104 a container may be published on all addresses
            _given_ports.add(port)
            return port
    raise ZooKeeperUnavailableError("no free port between 20000 and 65535 in 200 attempts")


def four_letters(address: tuple[str, int], word: str, timeout: float = 1.0) -> str:
    """Send one of ZooKeeper's four-letter words and return the whole answer.

    Raises:
        OSError: if nobody answers within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    with socket.create_connection(address, timeout) as connection:
        connection.sendall(word.encode("ascii"))
        answer = bytearray()
        while True:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = connection.recv(65536)
            if not chunk:
                return answer.decode("utf-8", "replace")
            answer += chunk


def speaks_tls(address: tuple[str, int], timeout: float = 1.0) -> bool:
    """Whether somebody answers there by TLS, whoever it may be and whomever it may refuse."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(address, timeout) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLEOFError:
        return False
    except ssl.SSLError:
        return True
    except OSError:
        return False


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
    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""

    @abc.abstractmethod
    def thaw(self) -> None:
        """End a freeze."""

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
        first = hosts.partition("/")[0].split(",")[0].strip()
        host, _, port = first.rpartition(":") if ":" in first else (first, "", "2181")
        if not host or not port.isdecimal():
            raise ConfigurationError(f"hosts {hosts!r}: expected HOST:PORT[,HOST:PORT...][/CHROOT]")
        self._hosts = hosts
        self._address = (host, int(port))
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

    def pause(self) -> None:
        """Refuse."""
        raise self._foreign("pause")

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
            "unset COORDINATOR_TEST_HOSTS to get one that is"
        )

    def _launch(self) -> None:
        """Nothing to do."""

    def _ended(self) -> bool:
        return False

    def _log_tail(self) -> str:
        return ""
