"""When a lease is granted: by the beats, and without waiting for what need not be waited for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator import Coordinator
from coordinator.testing.memory import MemoryEnsemble

PATH = "/locks/reindex"
WITHIN = 5.0
"""Seconds of the machine's for a thread to go on."""


@pytest.fixture
def zookeeper() -> Iterator[MemoryEnsemble]:
    with MemoryEnsemble() as made:
        yield made


def hand_over(zookeeper: MemoryEnsemble, holder: Coordinator, successor: Coordinator) -> None:
    """Release what another one has waited for so long that its first beat proves something."""
    lease = holder.lock(PATH).acquire(1.0)
    waiting = zookeeper.begin(successor.lock(PATH).acquire, 60.0)
    zookeeper.advance(30.0)
    lease.release()
    zookeeper.settle()
    waiting.result(WITHIN).release()


def test_who_has_waited_is_granted_the_lease_at_once(zookeeper: MemoryEnsemble) -> None:
    """Its session has answered heartbeats for long enough: two beats, one after the other, prove it."""
    with zookeeper.coordinator() as holder, zookeeper.coordinator() as successor:
        hand_over(zookeeper, holder, successor)


def test_who_held_it_before_is_granted_it_at_once(zookeeper: MemoryEnsemble) -> None:
    """His beats of long ago prove something that has passed, and are not to be taken for enough."""
    with zookeeper.coordinator() as holder, zookeeper.coordinator() as successor:
        hand_over(zookeeper, holder, successor)
        hand_over(zookeeper, holder, successor)
