"""Which servers there are to connect to: as given, as ZooKeeper itself says, as is tried now.

ZooKeeper keeps the configuration of an ensemble that can be changed in a znode::

    server.1=zk1:2888:3888:participant;0.0.0.0:2181
    server.2=zk2:2888:3888:participant;zk2.example.org:2181
    version=100000003

Source: ZooKeeper Dynamic Reconfiguration Guide, "Specifying the client port". What stands
there are the addresses that the servers bind to; whether they lead anywhere from where a
client is, only trying them tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from coordinator.core.intent import Intent, Outcome
from coordinator.core.requests import Flow, GetConfig, Standing, ask
from coordinator.errors import NoNodeError, ZnodeError
from coordinator.settings import split_hosts

Server: TypeAlias = tuple[str, int]
"""Host and port for clients."""

CONFIG = "/zookeeper/config"
"""Outside of any chroot. Source: ZooDefs.CONFIG_NODE, 3.5 and later."""

ANYWHERE = ("", "0.0.0.0", "::", "*")  # noqa: S104 -- it is read, not bound
"""Bound to by a server that listens on all of its addresses; the peers' name leads there."""

_SERVER = re.compile(r"server\.\d+=(.*)\Z")
_ADDRESS = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*)):(\d+)(?::.*)?\Z")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What ZooKeeper said of its ensemble."""

    version: int
    servers: tuple[Server, ...]
    """Where clients are to go, if they can get there; without those that tell no client port."""


def parse(data: bytes) -> Configuration:
    """Read the data of the configuration znode; what is malformed is left out."""
    version, servers = 0, dict[Server, None]()
    for line in data.decode("utf-8", "replace").split("\n"):
        key, _, value = line.strip().partition("=")
        if key == "version" and re.fullmatch(r"[0-9a-fA-F]{1,16}", value):
            version = int(value, 16)
        elif _SERVER.match(line.strip()):
            servers.update(dict.fromkeys(_clients(value)))
    return Configuration(version, tuple(servers))


def _clients(value: str) -> Iterable[Server]:
    """Return the client addresses of one server: several if it has several addresses for its peers."""
    peers, _, client = value.partition(";")
    client = client.partition(";")[0].strip()
    found = _ADDRESS.match(client) if not client.isdigit() else None
    bound, port = (found[1] or found[2] or "", found[3]) if found else ("", client)
    names = [bound]
    if bound in ANYWHERE:
        names = [one[1] or one[2] or "" for peer in peers.split("|") if (one := _ADDRESS.match(peer.strip()))]
    for name in names:
        try:
            yield from split_hosts(f"[{name}]:{port}" if ":" in name else f"{name}:{port}")[0]
        except ValueError:
            continue


class Roster:
    """The servers that are tried: those given, or those followed, or both where neither is enough.

    Args:
        given: by the user; never empty.
    """

    def __init__(self, given: Sequence[Server]) -> None:
        self._given = tuple(given)
        self._followed: tuple[Server, ...] = ()
        self._fallen_back = False
        self.listed: set[Server] = set()
        """Every server that the ensemble has ever listed."""

    @property
    def servers(self) -> tuple[Server, ...]:
        """What is tried now."""
        if not self._followed:
            return self._given
        return tuple(dict.fromkeys(self._followed + self._given)) if self._fallen_back else self._followed

    @property
    def fallen_back(self) -> bool:
        """Whether none of those followed could be reached, since when the given ones are tried, too."""
        return self._fallen_back

    def give(self, servers: Sequence[Server]) -> bool:
        """Take the user's word, before any that was followed; return whether something changed."""
        before = self.servers
        self._given, self._followed, self._fallen_back = tuple(servers), (), False
        return set(self.servers) != set(before)

    def follow(self, servers: Sequence[Server]) -> bool:
        """Take what the ensemble says and was seen to answer; return whether something changed."""
        before = self.servers
        self._followed, self._fallen_back = tuple(servers), False
        self.listed |= set(servers)
        return set(self.servers) != set(before)

    def fall_back(self) -> bool:
        """None could be reached: try the given ones as well; return whether something changed."""
        before = self.servers
        self._fallen_back = bool(self._followed)
        return set(self.servers) != set(before)

    def reached(self, server: Server) -> bool:
        """A server answered; return whether the given ones are no longer needed for that reason."""
        before = self.servers
        self._fallen_back = self._fallen_back and server not in self._followed
        return set(self.servers) != set(before)


class Census(Intent):
    """The intent that the configuration of the ensemble is known; it tells nothing by itself."""

    recovered = False

    def __init__(self, token: int) -> None:
        super().__init__(token, CONFIG)
        self.configuration: Configuration | None = None
        """None until it was read, and where the server has none."""

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        try:
            data, _ = yield from ask(GetConfig(CONFIG, watch=self.token))
        except NoNodeError:
            return Outcome()  # older than 3.5: there is nothing to follow
        except ZnodeError as error:
            return Outcome(error=error, retry=True)
        if not standing.read_only:  # cut off from the others, a server may be behind by years
            self.configuration = parse(data)
        return Outcome()

    def withdraw(self, standing: Standing) -> Flow[None]:
        yield from ()
