"""How long nobody leads: from a leader's end until the next one holds its lease.

    python benchmarks/handover.py HOSTS [--rounds 50] [--curator "java -cp ... Bench"]

Two latches on two sessions in one process. *close*: the leader closes its latch. *kill*: the leader's
session is closed on the server by a second connection. With ``--curator`` the same is measured of
Apache Curator's LeaderLatch, in turns with ours, so that both meet the same machine.

Prints a line of JSON for each of them: milliseconds, median and 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import threading
import time

from kazoo.client import KazooClient

from coordinator import Coordinator, Latch

PATH = "/bench/handover"
SETTLED = 0.06
"""Seconds between two rounds, as Curator's benchmark has them."""
WARM_UP = 5
SESSION = 4.0


class Pair:
    """Two who want to lead, and who does."""

    def __init__(self, hosts: str) -> None:
        self.coordinators = [Coordinator(hosts, session_timeout=SESSION).start() for _ in range(2)]
        self.path = f"{PATH}/{time.time_ns()}"
        self.latches = [self._latch(0), self._latch(1)]

    def _latch(self, number: int) -> Latch:
        return self.coordinators[number].latch(self.path, identity=f"p{number}")

    def round(self, *, kill: bool) -> float:
        """Return the seconds for which nobody led."""
        leader = 0 if self.latches[0].held else 1
        follower = self.latches[1 - leader]
        elected, led = threading.Event(), [0.0]

        def wait() -> None:
            follower.wait(30)
            led[0] = time.perf_counter()
            elected.set()

        threading.Thread(target=wait).start()
        time.sleep(SETTLED)
        began = self._kill(leader) if kill else self._close(leader)
        elected.wait()
        if not kill:
            self.latches[leader] = self._latch(leader)
        while not self.latches[leader].closed and len(follower.members()) < 2:
            time.sleep(0.005)  # the one that was killed has to queue again
        return led[0] - began

    def _close(self, leader: int) -> float:
        began = time.perf_counter()
        self.latches[leader].close()
        return began

    def _kill(self, leader: int) -> float:
        coordinator = self.coordinators[leader]
        killer = KazooClient(coordinator.hosts, client_id=coordinator.kazoo.client_id)
        killer.start()
        began = time.perf_counter()
        killer.stop()
        killer.close()
        return began

    def close(self) -> None:
        """End it."""
        for coordinator in self.coordinators:
            coordinator.close()


def ours(hosts: str, rounds: int, how: str) -> list[float]:
    """Return the milliseconds of that many rounds."""
    pair = Pair(hosts)
    pair.latches[0].wait(30)
    found = [pair.round(kill=how == "kill") * 1000 for _ in range(rounds + WARM_UP)]
    pair.close()
    return found[WARM_UP:]


def told(what: str, how: str, found: list[float]) -> None:
    """Print what was found."""
    ordered = sorted(found)
    print(
        json.dumps(
            {
                "bench": what,
                "how": how,
                "rounds": len(found),
                "median_ms": round(statistics.median(found), 2),
                "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 2),
            }
        ),
        flush=True,
    )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("hosts")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=1, help="how often, in turns")
    parser.add_argument("--curator", default="", help="the command that runs its Bench, without arguments")
    given = parser.parse_args()
    for how in ("close", "kill"):
        for _ in range(given.repeat):
            told("coordinator", how, ours(given.hosts, given.rounds, how))
            if given.curator:
                command = [*shlex.split(given.curator), given.hosts, "latch", str(given.rounds), how]
                ran = subprocess.run(command, check=True, capture_output=True, text=True)
                print(
                    *(line for line in ran.stdout.splitlines() if line.startswith("{")), sep="\n", flush=True
                )


if __name__ == "__main__":
    main()
