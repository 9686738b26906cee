"""What a test may choose about a server, and what of it becomes zoo.cfg and flags of the JVM."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from coordinator.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordinator.testing.security import ServerTLS

__all__ = [
    "DEFAULT_JVM_FLAGS",
    "MAIN",
    "Member",
    "ServerOptions",
    "check_known",
    "configuration",
    "jvm_flags",
]

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
#: What a server's JVM runs.
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


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
    image: str
    """Of a container: COORDINATOR_ZOOKEEPER_IMAGE or ``zookeeper:3.9`` unless given."""
    home: str
    """Of a child process: ZOOKEEPER_HOME, or where Debian puts ZooKeeper, unless given."""


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
    names: Mapping[str, str] = field(default_factory=dict)
    """Addresses by further names of hosts that it can resolve; containers only."""


def check_known(options: ServerOptions) -> None:
    """See that there is no option that nobody would look at.

    Raises:
        ConfigurationError: if there is one.
    """
    unknown = sorted(set(options) - set(ServerOptions.__annotations__))
    if unknown:
        known = ", ".join(ServerOptions.__annotations__)
        raise ConfigurationError(f"unknown option {', '.join(unknown)}: a server takes {known}")


def configuration(options: ServerOptions) -> dict[str, str]:
    """The lines of zoo.cfg that do not depend on where the server runs.

    Raises:
        ConfigurationError: if an option is unknown, a timeout is not positive or a line holds a blank.
    """
    check_known(options)
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
