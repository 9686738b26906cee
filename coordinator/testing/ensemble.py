"""A ZooKeeper ensemble under a test's control: several servers that elect a leader."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, Unpack

from coordinator.errors import ConfigurationError
from coordinator.testing.container import CLIENT_PORT, ZooKeeperContainer, import_docker, labels
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.options import Member, ServerOptions
from coordinator.testing.ports import free_port
from coordinator.testing.process import ZooKeeperProcess
from coordinator.testing.provision import Kind, choose
from coordinator.testing.server import POLL, START_TIMEOUT, ZooKeeperServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ZooKeeperEnsemble"]


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
        options: see `ServerOptions`; each server gets a port of its own.

    Raises:
        ConfigurationError: if ``size`` is below 2, or a port is given.
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
        **options: Unpack[ServerOptions],
    ) -> None:
        if size < 2:
            raise ConfigurationError(f"an ensemble of {size}: it takes two to elect a leader")
        if "port" in options:
            raise ConfigurationError("port is given, but each server of an ensemble needs one of its own")
        self._network: Any = None
        self._contained = (kind or choose()) == "container"
        self._network_name = f"coordinator-{secrets.token_hex(6)}" if self._contained else ""
        self._password = secrets.token_hex(8) if dynamic else ""
        self._options = self._dynamic(options) if dynamic else options
        self._ports: dict[int, int] = {}
        self._lines = {number: self._place(number) for number in range(1, size + 1)}
        lines = list(self._lines.values())
        self._numbered = {number: self._server(number, lines) for number in self._lines}
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

    def _place(self, number: int) -> str:
        """Give a server its ports; return its line in the configuration of all."""
        port = self._ports[number] = free_port()
        if not self._contained:
            peers = f"127.0.0.1:{free_port()}:{free_port()}"
            return f"server.{number}={peers};127.0.0.1:{port}"
        # The same port inside as outside: what the configuration tells to clients is then right,
        # but for the name.
        return f"server.{number}=zk{number}:2888:3888;{port if self._password else CLIENT_PORT}"

    def _server(self, number: int, lines: Sequence[str]) -> ZooKeeperServer:
        port = self._ports[number]
        options = ServerOptions(**self._options, port=port)
        if not self._contained:
            return ZooKeeperProcess(member=Member(number, lines), **options)
        member = Member(number, lines, self._network_name, port if self._password else 0)
        return ZooKeeperContainer(member=member, **options)

    def add(self, timeout: float = START_TIMEOUT) -> ZooKeeperServer:
        """Start one more server and make it a member; it is the last of ``nodes`` then.

        Raises:
            ConfigurationError: if the ensemble is not ``dynamic``.
            ZooKeeperUnavailableError: if it is no member within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        self._check_dynamic("add a server to")
        number = max(self._ports) + 1
        line = self._place(number)
        server = self._server(number, [*self._lines.values(), line])
        self._former.append(server)  # closed with the ensemble, whatever comes
        server.start(timeout)
        self._reconfigure(deadline, joining=line)
        self._former.remove(server)
        self._lines[number], self._numbered[number] = line, server
        self.nodes = (*self.nodes, server)
        return server

    def remove(self, node: ZooKeeperServer, timeout: float = START_TIMEOUT) -> None:
        """Make a member none any more; like any such server it runs on until it is stopped.

        Raises:
            ConfigurationError: if the ensemble is not ``dynamic``, or the server not its member.
            ZooKeeperUnavailableError: if it still is one after ``timeout`` seconds.
        """
        self._check_dynamic("remove a server from")
        if node not in self.nodes:
            raise ConfigurationError(f"server {node.hosts} is no member of the {self.origin}")
        number = next(number for number, server in self._numbered.items() if server is node)
        self._reconfigure(time.monotonic() + timeout, leaving=str(number))
        self.nodes = tuple(server for server in self.nodes if server is not node)
        del self._lines[number]
        self._former.append(node)

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
        return "\n".join(self._lines.values())

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
        """Start all servers side by side and wait until each serves; about 2 s.

        Raises:
            ZooKeeperUnavailableError: if one does not within ``timeout`` seconds.
        """
        if self._network_name and self._network is None:
            self._network = self._docker(
                lambda client: client.networks.create(self._network_name, labels=labels())
            )
        self._each(lambda node: node.start(timeout))
        return self

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
