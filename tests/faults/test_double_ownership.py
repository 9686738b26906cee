"""Two owners of one lock: what plain kazoo lets happen, and the kit can make happen (experiments E1 and E6).

A client whose server has lost the majority goes on believing in its session: its heartbeats are answered, by
that server alone. The majority expires the session meanwhile, and gives its lock to somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from kazoo.client import KazooClient
from kazoo.recipe.lock import Lock

from coordinator.testing import Faults, LeaseHistory, Overlap, ZooKeeperEnsemble, ZooKeeperServer, eventually
from tests.support import in_thread, new_place, observing

TICK = 0.4
SESSION = 1.2
"""Seconds; a server without a majority serves on for syncLimit ticks, that is 4 s."""
ATTEMPTS = 5
HARMFUL = 0.2
"""Seconds of double ownership that count as seen."""


@pytest.fixture(scope="module")
def slow_ensemble() -> Iterator[ZooKeeperEnsemble]:
    with ZooKeeperEnsemble(3, tick=TICK, quorum_links=True) as three:
        yield three


@pytest.fixture
def faults(slow_ensemble: ZooKeeperEnsemble) -> Iterator[Faults]:
    with Faults(slow_ensemble) as made:
        yield made
    for node in slow_ensemble.nodes:
        node.wait_serving()


@dataclass
class Contest:
    """A lock of kazoo's: its owner at the server that is about to lose the others, a rival elsewhere."""

    fault: AbstractContextManager[object]
    at: ZooKeeperServer
    elsewhere: ZooKeeperServer
    proof: Callable[[KazooClient, Lock], object]
    """What the victim asks its server, to be sure, when the rival has the lock."""

    def run(self) -> list[Overlap]:
        """Let them contend until the victim's link ends; return when both believed to own it."""
        path = f"{new_place()}/lock"
        with observing(self.at.hosts, SESSION) as victim, observing(self.elsewhere.hosts, SESSION) as rival:
            held, wanted = Lock(victim, path, "victim"), Lock(rival, path, "rival")
            assert held.acquire(timeout=10.0)
            taken = in_thread(lambda: wanted.acquire(timeout=20.0))
            eventually(lambda: len(held.contenders()) == 2, message="the rival queues")
            with (
                LeaseHistory() as history,
                history.watch("victim", lambda: believes(held, victim)),
                history.watch("rival", lambda: believes(wanted, rival)),
            ):
                with self.fault:
                    assert taken()
                    if victim.connected:
                        self.proof(victim, held)
                    eventually(lambda: not victim.connected, timeout=20.0, message="the victim's link ends")
                return history.overlaps()


def believes(lock: Lock, client: KazooClient) -> bool:
    """It holds the lock by kazoo's word and is connected: what a careful program looks at."""
    return bool(lock.is_acquired and client.connected)


def seen(attempt: Callable[[], Contest]) -> Overlap:
    """The first double ownership of more than 0.2 s, in at most five attempts."""
    for _ in range(ATTEMPTS):
        for found in attempt().run():
            if found.lasted > HARMFUL:
                return found
    raise AssertionError(f"no double ownership of more than {HARMFUL} s in {ATTEMPTS} attempts")


def test_a_cut_quorum_link_makes_two_owners(slow_ensemble: ZooKeeperEnsemble, faults: Faults) -> None:
    """E1: its server cannot know; even a read of the lock's node says that it is still the victim's."""

    def attempt() -> Contest:
        leader = slow_ensemble.leader()
        follower = slow_ensemble.followers()[0]
        return Contest(faults.cut_quorum_link(follower), follower, leader, still_mine)

    def still_mine(victim: KazooClient, held: Lock) -> None:
        _, stat = victim.get(f"{held.path}/{held.node}")
        assert stat.ephemeralOwner == victim.client_id[0]

    found = seen(attempt)
    assert {found.first.owner, found.second.owner} == {"victim", "rival"}


def test_a_deposed_leader_makes_two_owners(slow_ensemble: ZooKeeperEnsemble, faults: Faults) -> None:
    """E6: a leader that does not know of its successor even answers `sync`."""

    def attempt() -> Contest:
        follower = slow_ensemble.followers()[0]
        return Contest(faults.depose_leader(), slow_ensemble.leader(), follower, synced)

    def synced(victim: KazooClient, held: Lock) -> None:
        assert victim.sync(held.path) == held.path

    found = seen(attempt)
    assert {found.first.owner, found.second.owner} == {"victim", "rival"}
