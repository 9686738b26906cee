"""Contenders for one lock, in a process of their own, and what each of them believed, line by line.

    python -m tests.faults.contenders RECIPE HOSTS PATH SESSION TICK CREW COUNT SEED

Each has a client of its own, and does the same again and again: acquire, look, act, look, ..., release. What
it believes is what its looks say: a tenure is told from the beginning of the first look that confirmed it to
the beginning of the last one. So an overlap of two tenures is true, and a process that is stopped believes
nothing until it looks again. Lines go to stdout, a JSON object each; orders come by stdin, and its end is the
last of them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException
from kazoo.recipe.lock import Lock
from kazoo.retry import KazooRetry

from coordinator import Coordinator, Lease, LeaseLostError, OperationTimeoutError
from coordinator.engine import clock
from coordinator.testing import LeaseHistory
from tests import faces

LOOK = 0.005
"""Seconds between two looks of a holder."""
GAP = 0.1
"""Seconds between two looks after which the next one is told: the process may have been stopped."""
SHORT = 0.6
"""Seconds that a holder stays at most, unless ordered otherwise."""
STUBBORN = 0.5
"""Share of the tenures that last as long as the lease is held, not only until it is lost."""
PATIENCE = (1.0, 8.0)
"""Seconds from which each attempt draws how long it waits for its turn."""
START = 20.0
"""Seconds for a client to connect."""


class MissedError(Exception):
    """It was not acquired."""


class LostError(Exception):
    """It is held no more."""


class Tenure(Protocol):
    """What was acquired."""

    @property
    def token(self) -> int: ...

    @property
    def held(self) -> bool:
        """Whether nobody else can hold it now, as far as it knows."""

    def check(self) -> None:
        """Raise LostError unless it may be worked under; never passes what is not held."""

    def release(self) -> None: ...


class Contender(Protocol):
    """One client, and how it contends."""

    def acquire(self, timeout: float) -> Tenure:
        """Raise MissedError if it was not acquired in that time, or at all."""

    def port(self) -> int:
        """Of the proxy that it is connected to; 0 if to none."""

    def close(self) -> None: ...


# -- kazoo's Lock


class KazooTenure:
    """What a careful program makes of kazoo's Lock: with its connection it gives up its lock, too."""

    def __init__(self, contender: KazooContender, lock: Lock, breaks: int) -> None:
        self._contender, self._lock, self._breaks = contender, lock, breaks
        stat = contender.client.exists(f"{lock.path}/{lock.node}") if lock.is_acquired else None
        if stat is None:
            raise MissedError("it has no node")
        self.token: int = stat.czxid

    @property
    def held(self) -> bool:
        whole = self._contender.client.connected and self._contender.breaks == self._breaks
        return bool(self._lock.is_acquired and whole)

    def check(self) -> None:
        if not self.held:
            raise LostError

    def release(self) -> None:
        self._lock.release()


class KazooContender:
    """A client of kazoo's, with a Lock of its own for each attempt."""

    def __init__(self, hosts: str, path: str, session: float, tick: float, name: str) -> None:
        self._path, self._name = path, name
        self.breaks = 0
        self.client = KazooClient(
            hosts,
            timeout=session,
            connection_retry=KazooRetry(max_tries=-1, delay=0.02, max_delay=0.1),
            command_retry=KazooRetry(max_tries=-1, delay=0.02, max_delay=0.1),
        )
        self.client.add_listener(self._look)
        self.client.start(START)

    def _look(self, state: KazooState) -> None:
        if state != KazooState.CONNECTED:
            self.breaks += 1

    def acquire(self, timeout: float) -> KazooTenure:
        lock = Lock(self.client, self._path, self._name)
        try:
            breaks = self.breaks
            lock.acquire(timeout=timeout)
            return KazooTenure(self, lock, breaks)
        except (KazooException, MissedError) as missed:
            self._clear(lock)
            raise MissedError(type(missed).__name__) from missed

    def _clear(self, lock: Lock) -> None:
        """Delete what a failed attempt left behind: it would block everybody as long as the session lives."""
        for name in self.client.retry(self.client.get_children, self._path):
            if name.startswith(lock.prefix):
                self.client.retry(_deleted, self.client, f"{self._path}/{name}")

    def port(self) -> int:
        with contextlib.suppress(AttributeError, OSError):  # it has no connection
            return int(self.client._connection._socket.getpeername()[1])
        return 0

    def close(self) -> None:
        self.client.stop()
        self.client.close()


def _deleted(client: KazooClient, path: str) -> None:
    if client.exists(path):
        client.delete(path)


# -- ours


class OurTenure:
    """A lease of ours, as it is."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.token: int = lease.token

    @property
    def held(self) -> bool:
        return self._lease.held

    def check(self) -> None:
        try:
            self._lease.check()
        except LeaseLostError as lost:
            raise LostError(lost.reason) from lost

    def release(self) -> None:
        self._lease.release()


class OurContender:
    """A coordinator.

    By its number in the crew it locks or leads, in threads or in an event loop; every other one knows how
    long the servers' tick is, so that its leases are longer.
    """

    def __init__(self, hosts: str, path: str, session: float, tick: float, name: str) -> None:
        number = int(name.rpartition(".")[2])
        self._path, self._name = path, name
        self._leads, knows, waits = number % 2 == 1, number % 4 in (1, 2), number % 4 > 1
        self._open = contextlib.ExitStack()
        make = self._open.enter_context(faces.made("asyncio" if waits else "blocking"))
        settings = {"session_timeout": session, "tick_time": tick if knows else None}
        self._zk: Coordinator = self._open.enter_context(make(hosts, **settings))

    def acquire(self, timeout: float) -> OurTenure:
        try:
            if self._leads:
                return OurTenure(self._zk.lead(self._path, identity=self._name).campaign(timeout))
            return OurTenure(self._zk.lock(self._path, identity=self._name).acquire(timeout))
        except OperationTimeoutError as late:
            raise MissedError(type(late).__name__) from late

    def port(self) -> int:
        return int((self._zk.session.server or ":0").rpartition(":")[2])

    def close(self) -> None:
        self._open.close()


RECIPES: dict[str, Callable[[str, str, float, float, str], Contender]] = {
    "kazoo": KazooContender,
    "coordinator": OurContender,
}


# -- what all of them do


class Orders:
    """What the parent wants: who stays in office as long as he is believed, and when to end."""

    def __init__(self) -> None:
        self.ending = threading.Event()
        self._staying: tuple[str, ...] = ()

    def obey(self, line: str) -> None:
        """``stay all``; ``stay PORT PORT ...``: who is connected there; ``go``: stay no longer."""
        order, *who = line.split()
        self._staying = tuple(who) if order == "stay" else ()

    def pause(self) -> None:
        """Let time pass between two looks; without sleep when the process may be stopped.

        A process that does not sleep looks again sooner than its other threads can notice anything.
        """
        if "all" not in self._staying:
            self.ending.wait(LOOK)

    def wants(self, more: bool, contender: Contender) -> bool:
        """Whether a holder goes on, who would by himself or not."""
        staying = self._staying
        stays = "all" in staying or (staying and str(contender.port()) in staying)
        return bool(more or stays) and not self.ending.is_set()


def say(**told: Any) -> None:
    write(json.dumps(told))


def write(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # in one piece: several threads write


class Career:
    """What one contender does as long as the process runs."""

    def __init__(self, name: str, make: Callable[[], Contender], orders: Orders, seed: str) -> None:
        self.name = name
        self.failed = False
        self._make, self._orders = make, orders
        self._history = LeaseHistory(write=write)
        self._random = random.Random(f"{seed} {name}")
        self.thread = threading.Thread(target=self._run, name=f"contender-{name}")

    def _run(self) -> None:
        try:
            contender = self._make()
            try:
                say(what="ready", owner=self.name)
                while not self._orders.ending.is_set():
                    self._attempt(contender)
            finally:
                contender.close()
        except BaseException:  # noqa: BLE001 -- whatever it is, the parent shall know
            self.failed = True
            say(what="failed", owner=self.name, why=traceback.format_exc())

    def _attempt(self, contender: Contender) -> None:
        try:
            tenure = contender.acquire(self._random.uniform(*PATIENCE))
        except MissedError as missed:
            say(what="missed", owner=self.name, why=str(missed))
            return
        with contextlib.suppress(LostError):
            self._hold(contender, tenure)
        tenure.release()

    def _hold(self, contender: Contender, tenure: Tenure) -> None:
        last = began = clock.now()
        tenure.check()
        self._history.began(self.name, tenure.token, at=began)
        until = began + self._random.uniform(0.0, SHORT)
        stubborn = self._random.random() < STUBBORN
        try:
            while self._orders.wants(last < until, contender):
                if last >= until > began:
                    say(what="stays", owner=self.name, port=contender.port())
                    until = began
                self._orders.pause()
                last = self._look(tenure, last, stubborn)
            last = self._look(tenure, last, stubborn)  # also if the process was stopped since the one before
        finally:
            self._history.ended(self.name, at=last)

    def _look(self, tenure: Tenure, last: float, stubborn: bool) -> float:
        """Return when this look began, if it confirmed the lease; the first one after a gap is told.

        In one that was let go on the clock may have been compared as early as when it began; in one that was
        not, as late as when it ended.
        """
        now = told_at = clock.now()
        held, passed = tenure.held, False
        try:
            tenure.check()
            passed = True
            assert held, f"{self.name} is let work under a lease that it does not hold"
        except LostError:
            if not (held and stubborn):
                raise
        finally:
            if not passed:
                told_at = clock.now()
            if told_at - last > GAP:
                say(what="looked", owner=self.name, after=last, at=told_at, passed=passed)
        return now


def main(
    recipe: str, hosts: str, path: str, session: str, tick: str, crew: str, count: str, seed: str
) -> int:
    faulthandler.register(signal.SIGUSR1)
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # it tells every fault
    orders = Orders()

    def career(name: str) -> Career:
        return Career(
            name, lambda: RECIPES[recipe](hosts, path, float(session), float(tick), name), orders, seed
        )

    careers = [career(f"{crew}.{number}") for number in range(int(count))]
    for one in careers:
        one.thread.start()
    for line in sys.stdin:
        orders.obey(line)
    orders.ending.set()
    for one in careers:
        one.thread.join()
    return int(any(one.failed for one in careers))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
