"""A store that refuses who is not the leader any more: what a fencing token is for.

    python examples/fenced_store.py 127.0.0.1:2181

A process can be stopped between its last look at the lease and its write, for minutes, by a debugger, a
hypervisor or a full machine. No clock helps against that: it goes on as if nothing had happened. Only
the store can tell, if it keeps the greatest token that it has seen and refuses any lower one.

Here worker A is elected and then stands still; its session ends, worker B is elected and writes; then A
goes on with what it had begun.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

from coordinator import Coordinator, Lease, LeaseLostError
from coordinator.testing import expire


class FencedStore:
    """Rows that are only written under a token that is not older than the last one."""

    def __init__(self) -> None:
        self._base = sqlite3.connect(":memory:")
        self._base.execute("create table balance (name text primary key, amount int, token int)")

    def write(self, name: str, amount: int, token: int) -> bool:
        """Write it, in one statement with the comparison; return whether it was allowed."""
        with self._base:
            done = self._base.execute(
                "insert into balance values (?, ?, ?) on conflict (name) do update"
                " set amount = excluded.amount, token = excluded.token where excluded.token >= token",
                (name, amount, token),
            )
        return done.rowcount == 1

    def close(self) -> None:
        """Close the base."""
        self._base.close()


def main(hosts: str) -> None:
    with closing(FencedStore()) as store, Coordinator(hosts) as a, Coordinator(hosts) as b:
        first = a.lead("/leaders/billing", identity="A").campaign(timeout=10)
        print("A leads, and writes:", store.write("total", 100, first.token))
        stale = first.token  # A has read its token, and stands still here ...
        expire(a.kazoo.client_id, hosts)
        second: Lease = b.lead("/leaders/billing", identity="B").campaign(timeout=30)
        print("B leads, with a greater token:", second.token > stale)
        print("B writes:", store.write("total", 250, second.token))
        print("A goes on and writes:", store.write("total", 100, stale))  # ... and goes on here
        first.wait_lost(timeout=30)  # it is told of an end that came from outside, but after the fact
        try:
            first.check()
        except LeaseLostError as error:
            print("A looks at its lease:", error.reason)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
