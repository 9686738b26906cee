"""The public names of the testing kit, which ``coordinator.testing`` hands out."""

from __future__ import annotations

from coordinator.testing.container import ZooKeeperContainer
from coordinator.testing.ensemble import ZooKeeperEnsemble
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.expiry import expire
from coordinator.testing.faults import Faults
from coordinator.testing.histories import BeliefWatch, LeaseHistory
from coordinator.testing.inspection import ephemerals, session_ids, watches
from coordinator.testing.options import ServerOptions
from coordinator.testing.patterns import event, some, times, unordered
from coordinator.testing.polling import eventually, eventually_async
from coordinator.testing.process import ZooKeeperProcess
from coordinator.testing.provision import provide
from coordinator.testing.proxy import FaultProxy
from coordinator.testing.records import EventRecord, match_events
from coordinator.testing.residue import assert_no_leaks, child_watches, leaks
from coordinator.testing.security import ServerTLS
from coordinator.testing.server import ExternalZooKeeper, ZooKeeperServer
from coordinator.testing.tenures import Overlap, Tenure

__all__ = [
    "BeliefWatch",
    "EventRecord",
    "ExternalZooKeeper",
    "FaultProxy",
    "Faults",
    "LeaseHistory",
    "Overlap",
    "ServerOptions",
    "ServerTLS",
    "Tenure",
    "ZooKeeperContainer",
    "ZooKeeperEnsemble",
    "ZooKeeperProcess",
    "ZooKeeperServer",
    "ZooKeeperUnavailableError",
    "assert_no_leaks",
    "child_watches",
    "ephemerals",
    "event",
    "eventually",
    "eventually_async",
    "expire",
    "leaks",
    "match_events",
    "provide",
    "session_ids",
    "some",
    "times",
    "unordered",
    "watches",
]
