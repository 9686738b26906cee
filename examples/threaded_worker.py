"""Threads that share the tasks below /tasks with all other workers, through one coordinator.

    python examples/threaded_worker.py 127.0.0.1:2181

Put tasks there, from anywhere, and end it with Ctrl-C or SIGTERM:

    coordinator.Coordinator(...).create("/tasks/t-", b"what to do", sequential=True)

A task is claimed by an ephemeral, so that a worker that dies gives it back. It is done at least once: a
session that expires takes the claim with it while the thread still works; whoever finishes first, wins.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
from contextlib import suppress

from coordinator import (
    ChildrenChanged,
    Coordinator,
    CoordinatorError,
    NodeExistsError,
    NoNodeError,
    TransactionFailedError,
)

THREADS = 4


def work(zk: Coordinator, names: queue.SimpleQueue[str | None]) -> None:
    while (name := names.get()) is not None:
        try:
            do(zk, name)
        except CoordinatorError as error:
            # Whatever happened to the link, the claim ends with the session at the latest.
            print(f"{name} given up: {error}", flush=True)


def do(zk: Coordinator, name: str) -> None:
    task, claim = f"/tasks/{name}", f"/claims/{name}"
    try:
        zk.create(claim, ephemeral=True)
        data = zk.get(task).value
    except NodeExistsError:
        return  # somebody else does it
    except NoNodeError:
        zk.delete(claim)  # somebody else has done it
        return
    result = data.upper()  # the work itself
    try:
        # One step: the result is there, the task gone, and nobody has taken the claim from us.
        with zk.transaction() as done:
            done.delete(claim).delete(task).create(f"/results/{name}", result)
    except TransactionFailedError as lost:
        print(f"{name} was done by somebody else: {lost}", flush=True)
    else:
        print(f"{name} done by {threading.current_thread().name}", flush=True)


def main(hosts: str) -> None:
    names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with Coordinator(hosts) as zk:
        for path in ("/tasks", "/claims", "/results"):
            with suppress(NodeExistsError):
                zk.create(path)
        changes = zk.events(ChildrenChanged)
        signal.signal(signal.SIGINT, lambda *_: changes.close())
        signal.signal(signal.SIGTERM, lambda *_: changes.close())
        tasks, claims = zk.watch_children("/tasks"), zk.watch_children("/claims")

        def offer() -> None:
            for name in sorted(set(tasks.children) - set(claims.children)):
                names.put(name)  # perhaps more than once: only one thread gets the claim

        threads = [threading.Thread(target=work, args=(zk, names), name=f"w-{n}") for n in range(THREADS)]
        print(f"{THREADS} threads wait for tasks", flush=True)
        for thread in threads:
            thread.start()
        offer()
        for _ in changes:  # new tasks, and claims that were given back
            offer()
        for _ in threads:
            names.put(None)
        for thread in threads:
            thread.join()
    print("bye")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
