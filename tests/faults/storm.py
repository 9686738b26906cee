"""Contenders in several processes, an ensemble, and a storm of faults on both: seeded, and told.

::

    5 crews of 4 contenders === 3 proxies for each crew ===> 3 servers <=== links between them
      stopped (SIGSTOP)         cut, black holes             killed, cut off, deposed

Faults come one after the other, each after a calm; from the second round on some come in pairs. A fault is
aimed: whoever holds the lease where it will strike is ordered to stay in office, as long as he is believed,
until it is over. Without that a lease would mostly be free already when it is lost.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import IO, Self

from coordinator.engine import clock
from coordinator.testing import Faults, ZooKeeperEnsemble, ZooKeeperServer, eventually
from tests.command import ROOT
from tests.faults.verdict import Deed, Verdict

CREWS, CONTENDERS = 5, 4
"""Processes, since a process can be stopped, and contenders in each."""
CALM = (1.0, 2.5)
"""Seconds between two faults."""
AIM = 6.0
"""Seconds for which a fault waits until somebody holds the lease where it will strike."""
START, END = 60.0, 30.0
"""Seconds for a crew to be there, and to go."""
STEADY, PAIRED = 0.75, 0.25
"""Shares of the faults: holders stay in office; another one comes beside it, from the second round on."""

HIDDEN = ("quorum link cut", "leader deposed")
"""No client can see them. They last as long as a server serves on without the others, and longer."""
STRIKES = {
    "server killed": (0.1, 0.8),
    "leader killed": (0.1, 0.8),
    "cut": (0.0, 0.0),
    "black hole": (0.2, 0.9),
    "requests lost": (0.3, 1.5),
    "answers lost": (0.3, 1.5),
    "silence": (1.3, 1.8),
    "stopped": (1.2, 2.2),
}
"""How long the others last, in session timeouts: silence expires sessions, and so does who is stopped."""
ALL = "all"
OF_SERVERS = (*HIDDEN, "server killed", "leader killed")


@dataclass(frozen=True)
class Climate:
    """What is given; all in seconds."""

    session: float
    """The timeout of the contenders' sessions."""
    tick: float
    sync_limit: int
    """Ticks."""

    @property
    def patience(self) -> float:
        """For which a server without the others serves on."""
        return self.tick * self.sync_limit


@dataclass(frozen=True)
class Gust:
    """A fault to come."""

    what: str
    calm: float
    """Seconds before it."""
    lasts: float
    """Seconds."""
    target: int
    """Which crew, or which server, counted around; where a holder stays in office, if one shall."""
    steady: bool
    """Whether the holder whom it strikes stays in office."""
    beside: str = ""
    """Another fault, of the crew that is counted so."""


def gusts(seed: str, climate: Climate) -> Iterator[Gust]:
    """All faults in an order by chance, again and again; in the first round the hidden ones come first.

    The same seed, the same faults.
    """
    chance = random.Random(seed)
    for number in itertools.count():
        strikes = chance.sample(list(STRIKES), len(STRIKES))
        kinds = (
            [*HIDDEN, *strikes]
            if number == 0
            else chance.sample([*HIDDEN, *strikes], len(HIDDEN) + len(strikes))
        )
        for what in kinds:
            hidden = what in HIDDEN
            calm, part = chance.uniform(*CALM), chance.uniform(*STRIKES.get(what, (0.0, 0.5)))
            steady = chance.random() < STEADY or (number == 0 and (hidden or what == "stopped"))
            paired = chance.random() < PAIRED and number > 0 and what in OF_SERVERS
            beside = chance.choice([one for one in STRIKES if one not in OF_SERVERS])
            yield Gust(
                what,
                calm,
                climate.patience * hidden + climate.session * part,
                chance.randrange(CREWS * 6),
                steady,
                beside if paired else "",
            )


class Crew:
    """A process with contenders, and the proxies that it comes by."""

    def __init__(
        self, name: str, recipe: str, ensemble: ZooKeeperEnsemble, path: str, climate: Climate, seed: str
    ) -> None:
        self.name = name
        self.faults = Faults(ensemble)
        self.lines: list[str] = []
        self.ready = 0
        self.staying: dict[str, int] = {}
        """Who holds the lease longer than he would, and through the proxy of which port."""
        given = [str(climate.session), str(climate.tick), name, str(CONTENDERS), seed]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.contenders", recipe, self.faults.hosts, path, *given],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"crew-{name}")
        self._reader.start()

    def _read(self) -> None:
        for line in _given(self._process.stdout):
            self.lines.append(line)
            told = json.loads(line)
            match told["what"]:
                case "ready":
                    self.ready += 1
                case "stays":
                    self.staying[told["owner"]] = told["port"]
                case "ended":
                    self.staying.pop(told["owner"], None)

    def port(self, node: ZooKeeperServer) -> int:
        """Of its proxy before that server."""
        return self.faults.proxies[self.faults.nodes.index(node)].port

    def order(self, order: str) -> None:
        """Tell all of them; see Orders in contenders.py."""
        with contextlib.suppress(BrokenPipeError):  # its end is told by end()
            orders = _given(self._process.stdin)
            orders.write(f"{order}\n")
            orders.flush()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the process meanwhile: it notices nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def dismiss(self) -> None:
        """Give the last order."""
        self.faults.mend()
        with contextlib.suppress(BrokenPipeError):
            _given(self._process.stdin).close()

    def end(self) -> str:
        """Wait for its end, after it was dismissed; return what is wrong with how it ended."""
        try:
            code = self._process.wait(END)
            wrong = f"crew {self.name} ended with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGUSR1)  # its stderr shows where it hangs
            self._process.terminate()
            self._process.wait()
            wrong = f"crew {self.name} did not end in {END:g} s"
        self._reader.join(END)
        _given(self._process.stdout).close()
        self.faults.close()
        return wrong


def _given(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@dataclass(frozen=True)
class Mark:
    """Where a fault can strike."""

    what: str
    where: str
    """A crew, or the number of a server."""
    struck: dict[Crew, str]
    """Whose contenders: all, or who comes through the proxy of that port."""
    fault: Callable[[], AbstractContextManager[object]]

    def hits_a_holder(self) -> bool:
        """Whether somebody holds the lease there, and stays."""
        return any(
            port in (ALL, str(at)) for crew, port in self.struck.items() for at in list(crew.staying.values())
        )

    def __str__(self) -> str:
        return f"{self.what} ({self.where})"


def _counted(marks: list[Mark], target: int) -> Mark:
    return marks[target % len(marks)]


class Storm:
    """Crews that contend for one lease while faults happen to them.

    Args:
        recipe: how they contend, see RECIPES in contenders.py.
        ensemble: three servers with quorum links.
        path: of the lock.
        climate: how the ensemble was made, and how long their sessions are.
        seed: what happens.
    """

    def __init__(
        self, recipe: str, ensemble: ZooKeeperEnsemble, path: str, climate: Climate, seed: str
    ) -> None:
        self._ensemble = ensemble
        self._gusts = gusts(seed, climate)
        self._seed = seed
        self._deeds: list[Deed] = []
        self._since = self._until = 0.0
        self._failures: list[str] = []
        self._never = threading.Event()
        self._faults = Faults(ensemble)
        names = [chr(ord("A") + number) for number in range(CREWS)]
        self._crews = [Crew(name, recipe, ensemble, path, climate, seed) for name in names]
        self._here = list(self._crews)

    def blow(self, enough: Callable[[float, Verdict], bool]) -> Verdict:
        """Let it blow until that is enough: it is asked after each fault, with the seconds it has lasted."""
        eventually(self._complete, timeout=START, message="all contenders are there")
        eventually(lambda: self._found().history.tenures, timeout=START, message="somebody leads")
        self._since = clock.now()
        found = self._found()
        while not found.failures and not enough(self._until - self._since, found):
            self._strike(next(self._gusts))
            found = self._found()
        self.close()
        return self._found()

    def _complete(self) -> bool:
        return all(one.ready == CONTENDERS for one in self._crews)

    def _strike(self, gust: Gust) -> None:
        self._pass(gust.calm)
        marks = self._marks(gust.what)
        mark = self._aim(marks, gust.target) if gust.steady else _counted(marks, gust.target)
        what = f"{mark}, holders stay" if gust.steady else str(mark)
        began = clock.now()
        with ExitStack() as beside:
            if gust.beside:
                other = _counted(self._marks(gust.beside), gust.target)
                what += f", beside it {other}"
                beside.enter_context(other.fault())
            with mark.fault():
                self._pass(gust.lasts)
        self._until = clock.now()
        self._deeds.append(Deed(what, began, self._until))
        for crew in self._crews:
            crew.order("go")

    def _pass(self, seconds: float) -> None:
        self._never.wait(seconds)

    def _marks(self, what: str) -> list[Mark]:
        """Whom that fault can strike."""
        if what not in OF_SERVERS:
            return [Mark(what, crew.name, {crew: ALL}, partial(_of_crew, what, crew)) for crew in self._crews]
        nodes = [self._ensemble.leader()] if "leader" in what else self._ensemble.followers()
        return [
            Mark(
                what,
                str(self._ensemble.nodes.index(node) + 1),
                {crew: str(crew.port(node)) for crew in self._crews},
                partial(self._of_server, what, node),
            )
            for node in nodes
        ]

    def _of_server(self, what: str, node: ZooKeeperServer) -> AbstractContextManager[object]:
        match what:
            case "quorum link cut":
                return self._faults.cut_quorum_link(node)
            case "leader deposed":
                return self._faults.depose_leader()
            case _:
                return self._faults.outage(node)

    def _aim(self, marks: list[Mark], target: int) -> Mark:
        """Order holders to stay, and return where the first does; the others need not."""
        for crew in self._crews:
            crew.order("stay " + " ".join(mark.struck[crew] for mark in marks if crew in mark.struck))
        found: list[Mark] = []

        def stays() -> bool:
            found[:] = [mark for mark in marks if mark.hits_a_holder()]
            return bool(found)

        with contextlib.suppress(AssertionError):  # then it does not strike the holder
            eventually(stays, timeout=AIM, interval=0.005)
        mark = found[0] if found else _counted(marks, target)
        for crew in self._crews:
            crew.order(f"stay {mark.struck[crew]}" if crew in mark.struck else "go")
        return mark

    def _found(self) -> Verdict:
        lines = [list(crew.lines) for crew in self._crews]
        return Verdict(lines, list(self._deeds), self._since, self._until, self._seed, list(self._failures))

    def close(self) -> None:
        """End the faults, and the crews. May be called again."""
        leaving, self._here = self._here, []
        self._faults.mend()
        for one in leaving:
            one.dismiss()
        self._failures += [wrong for one in leaving if (wrong := one.end())]
        self._faults.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _of_crew(what: str, crew: Crew) -> AbstractContextManager[object]:
    faults: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "cut": lambda: _at_once(crew.faults.cut),
        "requests lost": crew.faults.lose_requests,
        "answers lost": crew.faults.lose_answers,
        "stopped": crew.stopped,
    }
    return faults.get(what, crew.faults.blackhole)()


@contextmanager
def _at_once(deed: Callable[[], object]) -> Iterator[None]:
    deed()
    yield
