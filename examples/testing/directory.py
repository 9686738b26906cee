"""A program that needs ZooKeeper: instances announce themselves, callers pick one that is there."""

from __future__ import annotations

import itertools

from coordinator import Coordinator


class Directory:
    """Who serves, as far as we know: while ZooKeeper is out of reach, the last that was known."""

    def __init__(self, zk: Coordinator, service: str) -> None:
        self._zk = zk
        self._path = f"/services/{service}"
        self._instances = zk.watch_children(self._path)
        self._turns = itertools.count()

    def announce(self, address: str) -> None:
        """Be there under this address until the coordinator is closed, over all its sessions."""
        self._zk.ephemeral(f"{self._path}/{address}")

    def pick(self) -> str:
        """An address, each in its turn.

        Raises:
            LookupError: nobody serves.
        """
        if not (known := self._instances.children):
            raise LookupError(f"nobody serves {self._path}")
        return known[next(self._turns) % len(known)]
