"""A ZooKeeper ensemble under a test's control: several servers that elect a leader."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, Unpack

from coordinator.errors import ConfigurationError
from coordinator.testing.container import CLIENT_PORT, ZooKeeperContainer, import_docker, labels
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.options import Member, ServerOptions
from coordinator.testing.ports import free_port
from coordinator.testing.process import ZooKeeperProcess
from coordinator.testing.provision import Kind, choose
from coordinator.testing.quorum import QuorumLinks
from coordinator.testing.security import FOLDER
from coordinator.testing.server import POLL, START_TIMEOUT, ZooKeeperServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ZooKeeperEnsemble"]

#: Inside of a container, as the official image has them.
QUORUM_PORT, ELECTION_PORT = 2888, 3888
#: By which name containers find the proxies between them.
LINKS = "quorum-links"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a member of an ensemble is found."""

    number: int
    port: int
    """For clients, on this host."""
    host: str
    """As the others find it."""
    peers: tuple[int, int]
    """Its ports for quorum and election."""
    client: str
    """What its line says about clients."""

    @property
    def line(self) -> str:
        """Its line in the configuration of all."""
        return self.line_at(self.host)

    def line_at(self, host: str) -> str:
        """Its line, if it is found there."""
        return f"server.{self.number}={host}:{self.peers[0]}:{self.peers[1]};{self.client}"


class ZooKeeperEnsemble:
    """Several servers, as containers on a network of their own or as child processes.

    ::

        with ZooKeeperEnsemble(3) as ensemble:
            ensemble.leader().kill()

        with ZooKeeperEnsemble(3, dynamic=True) as ensemble:
            fourth = ensemble.add()
            ensemble.remove(ensemble.nodes[0])

    Args:
        size: how many servers; 3 survive the loss of one.
        kind: ``container`` or ``process``; unless given, what `choose` finds.
        dynamic: servers may be added and removed (ZooKeeper's dynamic reconfiguration).
        quorum_links: the servers reach each other through proxies of this process, so that
            `cut_quorum_link` and `depose_leader` can break their links. Containers need an
            engine on this machine for it.
        options: see `ServerOptions`; each server gets a port of its own.

    Raises:
        ConfigurationError: if ``size`` is below 2, a port is given, or ``quorum_links``
            together with ``dynamic``.
        ZooKeeperUnavailableError: if this machine can run none.
    """

    nodes: tuple[ZooKeeperServer, ...]
    """The members; the first has number 1."""

    def __init__(
        self,
        size: int = 3,
        *,
        kind: Kind | None = None,
        dynamic: bool = False,
        quorum_links: bool = False,
        **options: Unpack[ServerOptions],
    ) -> None:
        if size < 2:
            raise ConfigurationError(f"an ensemble of {size}: it takes two to elect a leader")
        if "port" in options:
            raise ConfigurationError("port is given, but each server of an ensemble needs one of its own")
        if dynamic and quorum_links:
            raise ConfigurationError(
                "dynamic and quorum_links: servers whose list can change tell each other where they are, "
                "which leads past the proxies"
            )
        self._network: Any = None
        self._contained = (kind or choose()) == "container"
        self._network_name = f"coordinator-{secrets.token_hex(6)}" if self._contained else ""
        self._password = secrets.token_hex(8) if dynamic else ""
        self._options = self._dynamic(options) if dynamic else options
        self._links_host: dict[str, str] = {}
        places = [self._place(number) for number in range(1, size + 1)]
        self._places = {place.number: place for place in places}
        self._links = QuorumLinks({one.number: one.peers for one in places}) if quorum_links else None
        self._numbered = {place.number: self._server(place, places) for place in places}
        self._former: list[ZooKeeperServer] = []
        self.nodes = tuple(self._numbered.values())
        self.origin = f"ensemble of {size}: {self.nodes[0].origin}"

    def _dynamic(self, options: ServerOptions) -> ServerOptions:
        """What servers need whose ensemble can be changed, and by whom."""
        digest = base64.b64encode(hashlib.sha1(f"super:{self._password}".encode()).digest())  # noqa: S324 -- ZooKeeper's choice
        properties = {
            "zookeeper.DigestAuthenticationProvider.superDigest": f"super:{digest.decode()}",
            **options.get("properties", {}),
        }
        config = {"reconfigEnabled": "true", "standaloneEnabled": "false", **options.get("config", {})}
        return {**options, "properties": properties, "config": config}

    def _place(self, number: int) -> _Place:
        port = free_port()
        if not self._contained:
            return _Place(number, port, "127.0.0.1", (free_port(), free_port()), f"127.0.0.1:{port}")
        # The same port inside as outside: what the configuration tells to clients is then right,
        # but for the name.
        inside = port if self._password else CLIENT_PORT
        return _Place(number, port, f"zk{number}", (QUORUM_PORT, ELECTION_PORT), str(inside))

    def _server(self, place: _Place, members: Sequence[_Place]) -> ZooKeeperServer:
        options = ServerOptions(**self._options, port=place.port)
        lines = [self._line(place, other) for other in members]
        if not self._contained:
            if self._links is not None:
                options = _with_names(options, place, members)
            return ZooKeeperProcess(member=Member(place.number, lines), **options)
        member = Member(
            place.number,
            lines,
            self._network_name,
            place.port if self._password else 0,
            self._links_host,
        )
        return ZooKeeperContainer(member=member, **options)

    def _line(self, reader: _Place, about: _Place) -> str:
        """How a server finds another one, or itself."""
        if self._links is None:
            return about.line
        if reader is not about:
            host = LINKS if self._contained else "127.0.0.1"
            return self._links.line(reader.number, about.number, host, about.client)
        # What it calls itself has to be a wildcard to the others (quorum.py). A container has a network
        # of its own to listen on; a process shall not listen on more than 127.0.0.1.
        return about.line_at("0.0.0.0" if self._contained else f"zk{about.number}")  # noqa: S104

    def add(self, timeout: float = START_TIMEOUT) -> ZooKeeperServer:
        """Start one more server and make it a member; it is the last of ``nodes`` then, and all serve.

        Raises:
            ConfigurationError: if the ensemble is not ``dynamic``.
            ZooKeeperUnavailableError: if it is no member within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        self._check_dynamic("add a server to")
        place = self._place(max(self._places) + 1)
        server = self._server(place, [*self._places.values(), place])
        self._former.append(server)  # closed with the ensemble, whatever comes
        server.start(timeout)
        serving = [node for node in self.nodes if node.mode]
        self._reconfigure(deadline, joining=place.line)
        _await_serving([*serving, server], deadline)
        self._former.remove(server)
        self._places[place.number], self._numbered[place.number] = place, server
        self.nodes = (*self.nodes, server)
        return server

    def remove(self, node: ZooKeeperServer, timeout: float = START_TIMEOUT) -> None:
        """Make a member none any more; like any such server it runs on until it is stopped.

        Raises:
            ConfigurationError: if the ensemble is not ``dynamic``, or the server not its member.
            ZooKeeperUnavailableError: if it still is one after ``timeout`` seconds.
        """
        self._check_dynamic("remove a server from")
        number = self._number(node)
        deadline = time.monotonic() + timeout
        serving = [one for one in self.nodes if one.mode and one is not node]
        self._reconfigure(deadline, leaving=str(number))
        _await_serving(serving, deadline)
        self.nodes = tuple(server for server in self.nodes if server is not node)
        del self._places[number]
        self._former.append(node)

    def _number(self, node: ZooKeeperServer) -> int:
        for number, server in self._numbered.items():
            if server is node and node in self.nodes:
                return number
        raise ConfigurationError(f"server {node.hosts} is no member of the {self.origin}")

    # -- the links between the servers

    def cut_quorum_link(self, node: ZooKeeperServer) -> None:
        """Let nothing pass any more between one server and the others; until `mend_links`.

        Its clients stay connected. A follower goes on answering them, reads and pings, until
        syncLimit ticks have passed; writes and `sync` wait in vain. The leader meanwhile expires
        the sessions of those clients, since it hears nothing of them.

        Raises:
            ConfigurationError: if the ensemble has no ``quorum_links``, or the server is no member.
        """
        self._breakable("cut a quorum link of").cut(self._number(node))

    def depose_leader(self) -> ZooKeeperServer:
        """Have the followers leave their leader without its knowledge; return it; until `mend_links`.

        Their ends of the quorum links are closed, and they elect another leader; its own ends
        stay open and silent, so that it goes on answering its clients, even `sync`, until
        syncLimit ticks have passed; only what a quorum has to agree to, a write, is never answered.

        Raises:
            ConfigurationError: if the ensemble has no ``quorum_links``.
            ZooKeeperUnavailableError: if there is no leader.
        """
        links = self._breakable("depose the leader of")
        leader = self.leader()
        links.desert(self._number(leader))
        return leader

    def mend_links(self, node: ZooKeeperServer | None = None) -> None:
        """End `cut_quorum_link` and `depose_leader`; of one server, or of all."""
        if self._links is not None:
            self._links.mend(None if node is None else self._number(node))

    def _breakable(self, deed: str) -> QuorumLinks:
        if self._links is None:
            raise ConfigurationError(f"cannot {deed} the {self.origin}: make it with quorum_links=True")
        return self._links

    def _check_dynamic(self, deed: str) -> None:
        if not self._password:
            raise ConfigurationError(f"cannot {deed} the {self.origin}: make it with dynamic=True")

    def _reconfigure(self, deadline: float, joining: str | None = None, leaving: str | None = None) -> None:
        from kazoo.client import KazooClient
        from kazoo.exceptions import ConnectionLoss, NewConfigNoQuorumError, ReconfigInProcessError

        client = KazooClient(self.hosts, auth_data=[("digest", f"super:{self._password}")])
        try:
            client.start(max(1.0, deadline - time.monotonic()))
            while True:
                try:
                    client.reconfig(joining, leaving, None)
                except (NewConfigNoQuorumError, ReconfigInProcessError, ConnectionLoss) as refused:
                    # A server that has just joined may not have caught up yet. After a lost
                    # answer the same change may be asked for again.
                    if time.monotonic() >= deadline:
                        raise ZooKeeperUnavailableError(
                            f"the {self.origin} cannot be changed: {type(refused).__name__}"
                        ) from refused
                    time.sleep(POLL)
                else:
                    return
        except client.handler.timeout_exception as late:
            raise ZooKeeperUnavailableError(f"the {self.origin} does not serve") from late
        finally:
            client.stop()
            client.close()

    @property
    def hosts(self) -> str:
        """The connection string of all members."""
        return ",".join(node.hosts for node in self.nodes)

    @property
    def configuration(self) -> str:
        """The lines ``server.N=...`` of all members: how they know each other."""
        return "\n".join(place.line for place in self._places.values())

    def leader(self, timeout: float = START_TIMEOUT) -> ZooKeeperServer:
        """The server that leads, once one does.

        Raises:
            ZooKeeperUnavailableError: if none does within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            for node in self.nodes:
                if node.mode == "leader":
                    return node
            if time.monotonic() >= deadline:
                raise ZooKeeperUnavailableError(f"no leader at {self.hosts} after {timeout} s")
            time.sleep(POLL)

    def followers(self) -> list[ZooKeeperServer]:
        """The servers that follow a leader now."""
        return [node for node in self.nodes if node.mode == "follower"]

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Start all servers that do not run, side by side, and wait until each serves; about 2 s.

        Raises:
            ZooKeeperUnavailableError: if one does not within ``timeout`` seconds.
        """
        if self._network_name and self._network is None:
            self._network = self._docker(
                lambda client: client.networks.create(self._network_name, labels=labels())
            )
        if self._links is not None and not self._links.opened:
            self._open_links(self._links)
        self._each(lambda node: node.start(timeout))
        return self

    def _find(self, number: int) -> str:
        """Where a server is found by this process at this moment; empty while it is down."""
        node = self._numbered[number]
        return node.network_address if isinstance(node, ZooKeeperContainer) else "127.0.0.1"

    def _open_links(self, links: QuorumLinks) -> None:
        """Listen where the servers find this process: containers on the address of their network here."""
        host = "127.0.0.1"
        if self._contained:
            self._network.reload()
            host = self._links_host[LINKS] = self._network.attrs["IPAM"]["Config"][0]["Gateway"]
        try:
            links.open(host, self._find)
        except OSError as elsewhere:
            if not self._contained:
                raise
            raise ConfigurationError(
                f"quorum_links: the containers' network does not end on this machine ({host}: "
                f"{elsewhere.strerror}); use an engine that runs here, or kind='process'"
            ) from elsewhere

    def close(self) -> None:
        """End all servers and delete their data. May be called again."""
        self._each(lambda node: node.close())
        for node in self._former:
            node.close()
        if self._network is not None:
            docker = import_docker()
            with contextlib.suppress(docker.errors.NotFound):
                self._docker(lambda client: client.networks.get(self._network_name).remove())
            self._network = None
        if self._links is not None:
            self._links.close()

    def _each(self, deed: Callable[[ZooKeeperServer], object]) -> None:
        with ThreadPoolExecutor(len(self.nodes), thread_name_prefix="coordinator-ensemble") as pool:
            list(pool.map(deed, self.nodes))

    @staticmethod
    def _docker(deed: Callable[[Any], Any]) -> Any:
        client = import_docker().from_env()
        try:
            return deed(client)
        finally:
            client.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


def _await_serving(nodes: Sequence[ZooKeeperServer], deadline: float) -> None:
    """Wait for those who served before a change to serve again: they may elect once more."""
    for node in nodes:
        node.wait_serving(max(0.1, deadline - time.monotonic()))


def _with_names(options: ServerOptions, own: _Place, members: Sequence[_Place]) -> ServerOptions:
    """The options of a process to which its own name is 127.0.0.1 and those of the others a wildcard."""
    names = [("127.0.0.1" if one is own else "0.0.0.0", f"zk{one.number}") for one in members]  # noqa: S104
    hosts = "".join(f"{address} {name}\n" for address, name in [("127.0.0.1", "localhost"), *names])
    named = options.copy()
    named["files"] = {**options.get("files", {}), "hosts": hosts.encode()}
    named["properties"] = {**options.get("properties", {}), "jdk.net.hosts.file": f"{FOLDER}/hosts"}
    return named
