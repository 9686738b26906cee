"""Never two: contenders for one lease, in several processes, in a storm of faults.

``COORDINATOR_STORM=300`` lets it blow for that many seconds, ``COORDINATOR_STORM_SEED`` repeats the faults of
a run that failed: what they meet is up to chance again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from coordinator.testing import ZooKeeperEnsemble
from tests.faults.storm import Climate, Storm
from tests.faults.verdict import Verdict
from tests.support import new_place

SECONDS = float(os.environ.get("COORDINATOR_STORM", "60"))
LATEST = SECONDS + 60.0
"""When it ends although not all has happened that shall."""
SEED = os.environ.get("COORDINATOR_STORM_SEED") or secrets.token_hex(4)
CLIMATE = Climate(session=2.0, tick=0.4, sync_limit=10)
"""A server without the others serves on for twice the sessions' timeout."""


@pytest.fixture(scope="module")
def slow_ensemble() -> Iterator[ZooKeeperEnsemble]:
    config = {"syncLimit": str(CLIMATE.sync_limit)}
    with ZooKeeperEnsemble(3, tick=CLIMATE.tick, quorum_links=True, config=config) as three:
        yield three


def storm(recipe: str, ensemble: ZooKeeperEnsemble) -> Storm:
    return Storm(recipe, ensemble, f"{new_place()}/lease", CLIMATE, SEED)


@pytest.mark.timeout(LATEST + 120)
def test_kazoos_lock_is_found_out(slow_ensemble: ZooKeeperEnsemble) -> None:
    """The same judge, and the same faults until one of them has made two owners of a lock of kazoo's."""

    def enough(lasted: float, found: Verdict) -> bool:
        return lasted >= SECONDS or bool(found.history.overlaps())

    with storm("kazoo", slow_ensemble) as blowing:
        found = blowing.blow(enough)
    print(found.report())
    assert found.history.overlaps(), found.report()
    with pytest.raises(AssertionError, match="held the lease at once"):
        found.assert_never_two()


@pytest.mark.timeout(LATEST + 120)
def test_ours_is_never_held_by_two(slow_ensemble: ZooKeeperEnsemble) -> None:
    """Through all faults; who was stopped too long is told so by his first look."""

    def enough(lasted: float, found: Verdict) -> bool:
        all_seen = lasted >= SECONDS and bool(found.stale())
        return all_seen or lasted >= LATEST or bool(found.rivalries())

    with storm("coordinator", slow_ensemble) as blowing:
        found = blowing.blow(enough)
    print(found.report())
    found.assert_never_two()
    assert found.stale(), f"nobody was stopped for long enough while he held the lease\n{found.report()}"
