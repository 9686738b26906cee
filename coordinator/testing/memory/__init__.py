"""A ZooKeeper ensemble in memory, for tests that need no server."""

from coordinator.testing.memory.zookeeper import FakeZooKeeper

__all__ = ["FakeZooKeeper"]
