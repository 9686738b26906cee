"""A ZooKeeper ensemble in memory, for tests that need no server.

::

    from coordinator.testing.memory import MemoryEnsemble

    with MemoryEnsemble() as zookeeper, zookeeper.coordinator() as zk:
        zk.create("/config", b"...")

Coordinators on it are real, and so are their engines; only the network and the server are not.
``FakeZooKeeper`` is the pure part: it answers requests.
"""

from __future__ import annotations

from coordinator.testing.memory.ensemble import MemoryEnsemble
from coordinator.testing.memory.zookeeper import FakeZooKeeper

__all__ = ["FakeZooKeeper", "MemoryEnsemble"]
