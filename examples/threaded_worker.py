"""Threads that share the tasks below /tasks with all other workers, through one coordinator.

    python examples/threaded_worker.py 127.0.0.1:2181

Put tasks there, from anywhere, and end it with Ctrl-C or SIGTERM:

    coordinator.Coordinator(...).create("/tasks/t-", b"what to do", sequential=True)

A task is claimed by an ephemeral, so that a worker that dies gives it back. Its work is done at least once,
its result is written once: a session that expires takes the claim with it while the thread still works, and
whoever finishes first, wins.
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
    DuplicateEphemeralError,
    EphemeralConflictError,
    NodeExistsError,
    NoNodeError,
    TransactionFailedError,
)

THREADS = 4


def work(zk: Coordinator, names: queue.SimpleQueue[str], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            name = names.get(timeout=0.5)
        except queue.Empty:
            continue
        try:
            do(zk, name)
        except CoordinatorError as error:
            print(f"{name} given up: {error}", flush=True)


def do(zk: Coordinator, name: str) -> None:
    task = f"/tasks/{name}"
    try:
        # A claim of our own is withdrawn at the end, whatever happens to the link meanwhile.
        claim = zk.ephemeral(f"/claims/{name}", on_conflict="fail")
    except (EphemeralConflictError, DuplicateEphemeralError):
        return  # somebody else does it, or another thread of ours
    with claim:
        try:
            result = zk.get(task).value.upper()  # the work itself
            # One step: the result is there and the task gone. Whoever else did it, did it before.
            with zk.transaction() as done:
                done.delete(task).create(f"/results/{name}", result)
        except (NoNodeError, TransactionFailedError):
            return  # somebody else has done it
    print(f"{name} done by {threading.current_thread().name}", flush=True)


def main(hosts: str) -> None:
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    stop = threading.Event()
    with Coordinator(hosts) as zk:
        for path in ("/tasks", "/claims", "/results"):
            with suppress(NodeExistsError):
                zk.create(path)
        changes = zk.events(ChildrenChanged)
        signal.signal(signal.SIGINT, lambda *_: changes.close())
        signal.signal(signal.SIGTERM, lambda *_: changes.close())
        tasks, claims = zk.watch_children("/tasks"), zk.watch_children("/claims")
        threads = [
            threading.Thread(target=work, args=(zk, names, stop), name=f"w-{n}") for n in range(THREADS)
        ]
        print(f"{THREADS} threads wait for tasks", flush=True)
        for thread in threads:
            thread.start()
        for name in tasks.children:
            names.put(name)
        for change in changes:
            # New tasks, and those whose claim was given back: only one thread gets the claim.
            new = change.added if change.path == "/tasks" else change.removed
            for name in sorted(set(new) & set(tasks.children) - set(claims.children)):
                names.put(name)
        stop.set()
        for thread in threads:
            thread.join()
    print("bye")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
