"""A real ZooKeeper for tests, and faults for it.

::

    from coordinator.testing import FaultProxy, expire, provide

    with provide() as zookeeper, FaultProxy(*zookeeper.address) as proxy:
        ...  # a client of proxy.hosts
        proxy.blackhole = True

Importing this package needs neither Docker nor testcontainers; a container does.
"""

from __future__ import annotations

from coordinator.testing.container import ZooKeeperContainer
from coordinator.testing.ensemble import ZooKeeperEnsemble
from coordinator.testing.faults import expire
from coordinator.testing.inspection import ephemerals, session_ids, watches
from coordinator.testing.process import ZooKeeperProcess
from coordinator.testing.provide import provide
from coordinator.testing.proxy import FaultProxy
from coordinator.testing.security import ServerTLS
from coordinator.testing.zookeeper import (
    ExternalZooKeeper,
    ServerOptions,
    ZooKeeperServer,
    ZooKeeperUnavailableError,
)

__all__ = [
    "ExternalZooKeeper",
    "FaultProxy",
    "ServerOptions",
    "ServerTLS",
    "ZooKeeperContainer",
    "ZooKeeperEnsemble",
    "ZooKeeperProcess",
    "ZooKeeperServer",
    "ZooKeeperUnavailableError",
    "ephemerals",
    "expire",
    "provide",
    "session_ids",
    "watches",
]
