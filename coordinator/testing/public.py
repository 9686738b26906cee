"""The public names of the testing kit, which ``coordinator.testing`` hands out."""

from __future__ import annotations

from coordinator.testing.container import ZooKeeperContainer
from coordinator.testing.ensemble import ZooKeeperEnsemble
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.expiry import expire
from coordinator.testing.faults import Faults
from coordinator.testing.inspection import ephemerals, session_ids, watches
from coordinator.testing.options import ServerOptions
from coordinator.testing.polling import eventually, eventually_async
from coordinator.testing.process import ZooKeeperProcess
from coordinator.testing.provision import provide
from coordinator.testing.proxy import FaultProxy
from coordinator.testing.security import ServerTLS
from coordinator.testing.server import ExternalZooKeeper, ZooKeeperServer

__all__ = [
    "ExternalZooKeeper",
    "FaultProxy",
    "Faults",
    "ServerOptions",
    "ServerTLS",
    "ZooKeeperContainer",
    "ZooKeeperEnsemble",
    "ZooKeeperProcess",
    "ZooKeeperServer",
    "ZooKeeperUnavailableError",
    "ephemerals",
    "eventually",
    "eventually_async",
    "expire",
    "provide",
    "session_ids",
    "watches",
]
