"""A thousand contenders for one lead, and what they cost the server, by its own books.

A few coordinators with many latches each: a thousand sessions would cost it more, but not for their watches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from coordinator import Coordinator, Latch
from coordinator.testing import ZooKeeperServer, ephemerals, eventually, watches
from tests.support import new_place

COORDINATORS, CONTENDERS, RELEASES = 4, 1000, 8
WITHIN = 60.0
"""Seconds for all of them to queue, and to have read the list of all; about 7 are needed."""
REQUESTS = 12
"""At most, from one release to the next lead; five, and a heartbeat of each session now and then."""


class Counts:
    """What the server has counted so far."""

    def __init__(self, server: ZooKeeperServer) -> None:
        told = dict(re.findall(r"^(\S+)\t(\S+)$", server.four_letters("mntr", timeout=5.0), re.MULTILINE))
        kinds = ("deleted", "children", "changed", "created")
        self.requests = int(told["zk_packets_received"])
        self.fired = sum(int(told[f"zk_sum_node_{kind}_watch_count"]) for kind in kinds)
        """Watches; how many clients were woken up."""


def leader(latches: list[Latch]) -> Latch:
    """The one that leads, as soon as one does."""
    return eventually(
        lambda: next((one for one in latches if one.held), None), timeout=WITHIN, message="one leads"
    )


def watched(server: ZooKeeperServer, path: str) -> dict[str, set[int]]:
    """Who watches what of the queue."""
    return {at: by for at, by in watches(server).items() if at.startswith(path)}


def queue(server: ZooKeeperServer, path: str) -> dict[str, int]:
    """All seats, the first of them first, and whose they are."""
    owners = {at: session for session, paths in ephemerals(server).items() for at in paths}
    return {at: owners[at] for at in sorted(owners, key=lambda at: at[-10:]) if at.startswith(path)}


def wait_for_rest(server: ZooKeeperServer) -> None:
    """Wait until nobody asks anything between two looks, but for a heartbeat."""
    counts = [0]

    def rests() -> bool:
        counts.append(Counts(server).requests)
        return counts[-1] - counts[-2] <= 1 + 1  # the look is one

    eventually(rests, interval=0.2, message="all contenders are at rest")


@pytest.fixture
def crowd(zookeeper: ZooKeeperServer) -> Iterator[list[Latch]]:
    """All of them, about to queue."""
    path = new_place()
    with ExitStack() as ends:
        made = [Coordinator(zookeeper.hosts, session_timeout=20.0) for _ in range(COORDINATORS)]
        for one in made:
            ends.enter_context(one)
        yield [made[number % COORDINATORS].latch(path, wait=False) for number in range(CONTENDERS)]


@pytest.mark.timeout(WITHIN * 2)
def test_one_watch_each_and_one_wake_up_per_release(crowd: list[Latch], zookeeper: ZooKeeperServer) -> None:
    """Whoever waits watches the one before him; the next one, like the holder, his own seat as well.

    A release wakes up the next, and its holder.
    """
    path = crowd[0].path
    eventually(lambda: len(queue(zookeeper, path)) == CONTENDERS, timeout=WITHIN, message="all have seats")
    present = leader(crowd)
    seats = queue(zookeeper, path)
    ahead = dict(zip(seats, list(seats.values())[1:], strict=False))
    expected = {seat: {next_one} for seat, next_one in ahead.items()}
    first, second, *_ = seats
    assert first == present.lease.path
    expected[first].add(seats[first])
    expected[second].add(seats[second])
    eventually(lambda: watched(zookeeper, path) == expected, timeout=WITHIN, message="each has his watch")
    wait_for_rest(zookeeper)
    costs = []
    for _ in range(RELEASES):
        before = Counts(zookeeper)
        present.close()
        present = leader(crowd)
        after = Counts(zookeeper)
        costs.append((after.fired - before.fired, after.requests - before.requests))
    assert max(fired for fired, _ in costs) <= 2, costs
    assert max(requests for _, requests in costs) <= REQUESTS, costs
