"""A ZooKeeper ensemble under a test's control: several servers that elect a leader."""

from __future__ import annotations

import contextlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, Unpack

from coordinator.errors import ConfigurationError
from coordinator.testing.container import ZooKeeperContainer, import_docker, labels
from coordinator.testing.process import ZooKeeperProcess
from coordinator.testing.provide import Kind, choose
from coordinator.testing.zookeeper import (
    POLL,
    START_TIMEOUT,
    Member,
    ServerOptions,
    ZooKeeperServer,
    ZooKeeperUnavailableError,
    free_port,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ZooKeeperEnsemble"]


class ZooKeeperEnsemble:
    """Several servers, as containers on a network of their own or as child processes.

    ::

        with ZooKeeperEnsemble(3) as ensemble:
            ensemble.leader().kill()

    Args:
        size: how many servers; 3 survive the loss of one.
        kind: ``container`` or ``process``; unless given, what `choose` finds.
        options: see `ServerOptions`; each server gets a port of its own.

    Raises:
        ConfigurationError: if ``size`` is below 2, or a port is given.
        ZooKeeperUnavailableError: if this machine can run none.
    """

    nodes: tuple[ZooKeeperServer, ...]
    """The servers; the first has number 1."""

    def __init__(self, size: int = 3, *, kind: Kind | None = None, **options: Unpack[ServerOptions]) -> None:
        if size < 2:
            raise ConfigurationError(f"an ensemble of {size}: it takes two to elect a leader")
        if "port" in options:
            raise ConfigurationError("port is given, but each server of an ensemble needs one of its own")
        self._network: Any = None
        if (kind or choose()) == "container":
            self._network_name = f"coordinator-{secrets.token_hex(6)}"
            self.nodes = self._containers(size, options)
        else:
            self._network_name = ""
            self.nodes = self._processes(size, options)
        self.origin = f"ensemble of {size}: {self.nodes[0].origin}"

    def _containers(self, size: int, options: ServerOptions) -> tuple[ZooKeeperServer, ...]:
        numbers = range(1, size + 1)
        servers = [f"server.{number}=zk{number}:2888:3888;2181" for number in numbers]
        return tuple(
            ZooKeeperContainer(member=Member(number, servers, self._network_name), **options)
            for number in numbers
        )

    def _processes(self, size: int, options: ServerOptions) -> tuple[ZooKeeperServer, ...]:
        numbers = range(1, size + 1)
        ports = [free_port() for _ in numbers]
        servers = [
            f"server.{number}=127.0.0.1:{free_port()}:{free_port()};127.0.0.1:{port}"
            for number, port in zip(numbers, ports, strict=True)
        ]
        return tuple(
            ZooKeeperProcess(member=Member(number, servers), **ServerOptions(**options, port=port))
            for number, port in zip(numbers, ports, strict=True)
        )

    @property
    def hosts(self) -> str:
        """The connection string of all servers."""
        return ",".join(node.hosts for node in self.nodes)

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
