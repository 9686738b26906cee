"""Two owners of one lock: what plain kazoo lets happen, and ours does not (experiments E1 and E6).

A client whose server has lost the majority goes on believing in its session: its heartbeats are answered, by
that server alone. The majority expires the session meanwhile, and gives its lock to somebody else. kazoo's
lock and ours are held at that server by one client each, and wanted by another one elsewhere, in the same
fault; with ZooKeeper's own settings and with a shorter session, where it lasts for seconds.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial

import pytest
from kazoo.client import KazooClient
from kazoo.recipe.lock import Lock

from coordinator import Coordinator
from coordinator.engine import clock
from coordinator.testing import Faults, LeaseHistory, ZooKeeperEnsemble, ZooKeeperServer, eventually
from tests.support import in_thread, new_place, observing

TIMES = int(os.environ.get("COORDINATOR_DOUBLE_OWNERSHIP", "1"))
"""How often each case is tried; ``make soak`` takes ten."""


@dataclass(frozen=True)
class Setting:
    """What decides who is quicker: the majority to expire a session, or its server to give up."""

    tick: float
    sync_limit: int
    session: float

    @property
    def silence(self) -> float:
        """Seconds between two heartbeats of kazoo's: a third of the timeout, less 0.4 s at most."""
        return self.session / 3 - 0.45

    def __str__(self) -> str:
        return f"tick {self.tick:g} s, syncLimit {self.sync_limit}, session {self.session:g} s"


STOCK = Setting(2.0, 5, 10.0)
"""As ZooKeeper and kazoo come."""
SHORT = Setting(1.0, 10, 4.0)
SETTINGS = (STOCK, SHORT)


HARMFUL = 0.1
"""Seconds of double ownership that count as seen."""
LONG = 60.0
"""Seconds; longer than any of it takes."""
LOOK = 0.05


@dataclass
class Seen:
    """Who believed what in one contest."""

    setting: Setting
    ours: LeaseHistory
    plain: LeaseHistory
    """By kazoo's ``is_acquired``."""
    careful: LeaseHistory
    """The same, and only as long as the client is connected."""

    def __str__(self) -> str:
        victim, rival = self.ours.tenures
        ended = rival.began if victim.ended is None else victim.ended
        return (
            f"{self.setting}: two owners of kazoo's lock for {longest(self.plain):.2f} s, by a careful "
            f"reading for {longest(self.careful):.2f} s; of ours for {longest(self.ours):.2f} s, and nobody "
            f"held it for {rival.began - ended:.2f} s"
        )


def longest(history: LeaseHistory) -> float:
    """Seconds of the longest double ownership."""
    return max((one.lasted for one in history.overlaps()), default=0.0)


class Contest:
    """Two locks, kazoo's and ours: their owners at the server that is about to lose the others."""

    def __init__(self, at: ZooKeeperServer, elsewhere: ZooKeeperServer, setting: Setting) -> None:
        self._at, self._elsewhere = at, elsewhere
        self._setting = setting

    def run(self, fault: AbstractContextManager[object]) -> Seen:
        """Let them contend until the victims' links have ended; return who believed what."""
        path, session = new_place(), self._setting.session
        here, there = self._at.hosts, self._elsewhere.hosts
        with (
            observing(here, session) as victim,
            observing(there, session) as rival,
            Coordinator(here, session_timeout=session) as our_victim,
            Coordinator(there, session_timeout=session) as our_rival,
            LeaseHistory() as ours,
            LeaseHistory() as plain,
            LeaseHistory() as careful,
        ):
            held, wanted = Lock(victim, f"{path}/kazoo", "victim"), Lock(rival, f"{path}/kazoo", "rival")
            assert held.acquire(timeout=10.0)
            taken = in_thread(lambda: wanted.acquire(timeout=LONG))
            lease, want = our_victim.lock(f"{path}/ours").acquire(10.0), our_rival.lock(f"{path}/ours")
            ours_taken = in_thread(lambda: want.acquire(LONG))
            for queue in (f"{path}/kazoo", f"{path}/ours"):
                eventually(partial(_both_queue, rival, queue), message="the rival queues")
            for name, lock, client in (("victim", held, victim), ("rival", wanted, rival)):
                plain.watch(name, partial(_acquired, lock))
                careful.watch(name, partial(_acquired, lock, client))
            ours.watch("victim", lambda: lease.held and lease.token)
            ours.watch("rival", lambda: (its := want.lease) and its.held and its.token)
            self._await_silence(victim)
            with fault:
                eventually(lambda: len(plain.tenures) == len(ours.tenures) == 2, timeout=LONG)
                eventually(lambda: not victim.connected, timeout=LONG, message="the victim's link ends")
                eventually(lambda: longest(plain) > HARMFUL, message="two own kazoo's lock")
            taken()
            ours_taken()
        return Seen(self._setting, ours, plain, careful)

    def _await_silence(self, client: KazooClient) -> None:
        """Wait until its next heartbeat is nearly due: it will be expired as early as ever."""
        last, since = "", clock.now()
        while clock.now() - since < self._setting.silence:
            found = re.search(rf"sid={client.client_id[0]:#x},.*?lresp=(\d+)", self._at.four_letters("cons"))
            assert found, "it has a session there"
            if found[1] != last:
                last, since = found[1], clock.now()
            time.sleep(LOOK)


def _both_queue(client: KazooClient, path: str) -> bool:
    return len(client.get_children(path)) == 2


def _acquired(lock: Lock, client: KazooClient | None = None) -> bool:
    return bool(lock.is_acquired and (client is None or client.connected))


@dataclass
class Stage:
    """An ensemble with a setting, and faults for it."""

    setting: Setting
    ensemble: ZooKeeperEnsemble
    faults: Faults

    def cut_quorum_link(self) -> Seen:
        one, other = self.ensemble.followers()
        return Contest(one, other, self.setting).run(self.faults.cut_quorum_link(one))

    def depose_leader(self) -> Seen:
        contest = Contest(self.ensemble.leader(), self.ensemble.followers()[0], self.setting)
        return contest.run(self.faults.depose_leader())

    def ready(self) -> None:
        """Wait until all of them serve again."""
        for node in self.ensemble.nodes:
            node.wait_serving()


@pytest.fixture(scope="module")
def stages() -> Iterator[list[Stage]]:
    """One for each setting: they wait most of the time, so that they can do so side by side."""
    with ExitStack() as open_, ThreadPoolExecutor(len(SETTINGS)) as pool:
        made = [
            ZooKeeperEnsemble(3, tick=one.tick, quorum_links=True, config={"syncLimit": str(one.sync_limit)})
            for one in SETTINGS
        ]
        for one in made:
            open_.callback(one.close)
        list(pool.map(ZooKeeperEnsemble.start, made))
        faults = [open_.enter_context(Faults(one)) for one in made]
        yield [Stage(*one) for one in zip(SETTINGS, made, faults, strict=True)]


def tried(stages: list[Stage], contest: Callable[[Stage], Seen]) -> list[Seen]:
    """Let them contend on all stages side by side, as often as told."""

    def on(stage: Stage) -> list[Seen]:
        found = []
        for _ in range(TIMES):
            stage.ready()
            found.append(contest(stage))
        return found

    with ThreadPoolExecutor(len(stages)) as pool:
        return [one for found in pool.map(on, stages) for one in found]


def check(found: list[Seen], *careful: Setting) -> None:
    """Plain kazoo has had two owners each time, in these settings also by a careful reading; ours never."""
    told = "\n".join(map(str, found))
    print(told)
    for one in found:
        assert longest(one.plain) > HARMFUL, told
        assert longest(one.careful) > HARMFUL or one.setting not in careful, told
        one.ours.assert_one_at_a_time()
        one.ours.assert_tokens_ascend()


@pytest.mark.timeout(60 + 60 * TIMES)
def test_a_cut_quorum_link(stages: list[Stage]) -> None:
    """E1: their server cannot know, and tells both victims that the lock is theirs.

    With ZooKeeper's own settings kazoo may notice that its link is silent before a rival is there, or after.
    """
    check(tried(stages, Stage.cut_quorum_link), SHORT)


@pytest.mark.timeout(60 + 60 * TIMES)
def test_a_deposed_leader(stages: list[Stage]) -> None:
    """E6: a leader that does not know of its successor even answers `sync`.

    With ZooKeeper's own settings it gives up before its successor expires the session, which begins anew
    with him: then it is only kazoo's lock that goes on believing, not its connection.
    """
    check(tried(stages, Stage.depose_leader), SHORT)
