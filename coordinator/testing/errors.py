"""What may go wrong with a test's ZooKeeper itself."""

from __future__ import annotations

from coordinator.errors import CoordinatorError

__all__ = ["ZooKeeperUnavailableError"]


class ZooKeeperUnavailableError(CoordinatorError):
    """No ZooKeeper could be started, or it does not serve."""
