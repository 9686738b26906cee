"""Where a real ZooKeeper comes from on this machine.

In this order: hosts given or in COORDINATOR_TEST_HOSTS; a container, where a Docker
engine answers; a child process, where there are jars and a java. COORDINATOR_ZOOKEEPER,
``container`` or ``process``, allows only that one.
"""

from __future__ import annotations

import os
from typing import Literal, Unpack

from coordinator.errors import ConfigurationError, MissingExtraError
from coordinator.testing.container import ZooKeeperContainer, default_image, engine_fault, settle_image
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.options import ServerOptions
from coordinator.testing.process import ZooKeeperProcess, find_installation
from coordinator.testing.server import ExternalZooKeeper, ZooKeeperServer

__all__ = ["Kind", "choose", "provide"]

Kind = Literal["container", "process"]


def provide(hosts: str | None = None, **options: Unpack[ServerOptions]) -> ZooKeeperServer:
    """A server that can be had here, not started yet: use it in a ``with`` statement.

    Args:
        hosts: the connection string of a running ZooKeeper; options do not apply to it.
        options: see `ServerOptions`.

    Raises:
        ConfigurationError: if COORDINATOR_ZOOKEEPER or an option is wrong.
        ZooKeeperUnavailableError: if there is none; names the three ways to get one.
            Within 2 s, unless an image has to be pulled.
    """
    unknown = sorted(set(options) - set(ServerOptions.__annotations__))
    if unknown:
        known = ", ".join(ServerOptions.__annotations__)
        raise ConfigurationError(f"unknown option {', '.join(unknown)}: a server takes {known}")
    if hosts is not None and not hosts.strip():
        raise ConfigurationError("hosts is empty; leave it out to start a server")
    external = hosts or os.environ.get("COORDINATOR_TEST_HOSTS")
    if external:
        return ExternalZooKeeper(external)
    if choose() == "container":
        return ZooKeeperContainer(**options)
    return ZooKeeperProcess(**options)


def choose() -> Kind:
    """How a server of our own can be run here, by COORDINATOR_ZOOKEEPER and what there is.

    Raises:
        ConfigurationError: if COORDINATOR_ZOOKEEPER is neither ``container`` nor ``process``.
        ZooKeeperUnavailableError: if there is no way, or not the one that is asked for.
    """
    forced = os.environ.get("COORDINATOR_ZOOKEEPER", "")
    if forced not in ("", "container", "process"):
        raise ConfigurationError(f"COORDINATOR_ZOOKEEPER={forced!r}, must be 'container' or 'process'")
    faults = []
    if forced != "process":
        fault = _container_fault()
        if not fault:
            return "container"
        faults.append(fault)
    if forced != "container":
        try:
            find_installation()
        except ZooKeeperUnavailableError as fault_of_process:
            faults.append(str(fault_of_process))
        else:
            return "process"
    raise ZooKeeperUnavailableError(
        f"no ZooKeeper: {'; '.join(faults)}. Either name one that runs (COORDINATOR_TEST_HOSTS=HOST:PORT), "
        "or start a Docker engine (scripts/engine.sh start), "
        "or set ZOOKEEPER_HOME to a ZooKeeper on this machine (scripts/zookeeper-home.sh fetches one)"
    )


def _container_fault() -> str:
    """Why no container can be had; empty if one can."""
    try:
        fault = engine_fault()
        if not fault:
            settle_image(default_image())
    except (MissingExtraError, ZooKeeperUnavailableError) as reason:
        return str(reason)
    return fault
