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
from coordinator.testing.options import ServerOptions, check_known
from coordinator.testing.process import ZooKeeperProcess, find_installation
from coordinator.testing.server import ExternalZooKeeper, ZooKeeperServer

__all__ = ["Kind", "choose", "provide"]

Kind = Literal["container", "process"]


def provide(
    hosts: str | None = None, *, kind: Kind | None = None, **options: Unpack[ServerOptions]
) -> ZooKeeperServer:
    """A server that can be had here, not started yet: use it in a ``with`` statement.

    Args:
        hosts: the connection string of a running ZooKeeper; options do not apply to it.
        kind: ``container`` or ``process``: only that, whatever the environment says.
        options: see `ServerOptions`.

    Raises:
        ConfigurationError: if an argument or a variable of the environment is wrong.
        ZooKeeperUnavailableError: if there is none; names the three ways to get one.
            Within 2 s, unless an image has to be pulled.
    """
    check_known(options)
    if hosts is not None and not hosts.strip():
        raise ConfigurationError("hosts is empty; leave it out to start a server")
    if hosts and kind:
        raise ConfigurationError(f"hosts={hosts!r} and kind={kind!r}: a server that runs is not started")
    external = hosts or (os.environ.get("COORDINATOR_TEST_HOSTS") if kind is None else None)
    if external:
        return ExternalZooKeeper(external)
    if choose(kind, image=options.get("image"), home=options.get("home")) == "container":
        return ZooKeeperContainer(**options)
    return ZooKeeperProcess(**options)


def choose(kind: Kind | None = None, *, image: str | None = None, home: str | None = None) -> Kind:
    """How a server of our own can be run here, by what is asked for and what there is.

    Args:
        kind: only that one; COORDINATOR_ZOOKEEPER unless given.
        image: see `ServerOptions`; a container is possible where the image can be had.
        home: see `ServerOptions`; a process is possible where there are jars and a java.

    Raises:
        ConfigurationError: if a kind is neither ``container`` nor ``process``.
        ZooKeeperUnavailableError: if there is no way, or not the one that is asked for.
    """
    forced = kind or os.environ.get("COORDINATOR_ZOOKEEPER", "")
    if forced not in ("", "container", "process"):
        said = "kind=" if kind else "COORDINATOR_ZOOKEEPER="
        raise ConfigurationError(f"{said}{forced!r}, must be 'container' or 'process'")
    faults = []
    if forced != "process":
        fault = _container_fault(image or default_image())
        if not fault:
            return "container"
        faults.append(fault)
    if forced != "container":
        try:
            find_installation(home)
        except ZooKeeperUnavailableError as fault_of_process:
            faults.append(str(fault_of_process))
        else:
            return "process"
    raise ZooKeeperUnavailableError(
        f"no ZooKeeper: {'; '.join(faults)}. Either name one that runs (COORDINATOR_TEST_HOSTS=HOST:PORT, or "
        "pytest --zookeeper HOST:PORT), or start a Docker engine, or set ZOOKEEPER_HOME to a ZooKeeper on "
        "this machine"
    )


def _container_fault(image: str) -> str:
    """Why no container can be had; empty if one can."""
    try:
        fault = engine_fault()
        if not fault:
            settle_image(image)
    except (MissingExtraError, ZooKeeperUnavailableError) as reason:
        return str(reason)
    return fault
