"""What the tests of a fork run in a process of its own: a parent, its child, and what each saw.

    python -W error -m tests.faults.forking SCENE HOSTS

A process of its own, because a test run has threads and sockets that no child should inherit. It prints one
line of JSON for each thing seen, and must leave stderr empty.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import inspect
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError

from coordinator import TLS, AsyncCoordinator, BaseEvent, Coordinator, Heartbeat, KazooHandler
from coordinator.face import Face
from coordinator.handles import TransactionHandle
from coordinator.leases import HolderHandle
from coordinator.testing import EventRecord, eventually
from tests.faces import Loop
from tests.support import PATIENCE, new_place

HANG = 40
"""Seconds after which a child that hangs shows where, and ends."""
GIVEN: dict[str, Any] = {
    "path": "/elsewhere",
    "value": b"x",
    "handler": print,
    "hosts": "127.0.0.1:1",
    "timeout": 0.1,
    "minimum": 1,
    "work": print,
    "transaction": None,
}
"""An argument for each parameter that a public method requires."""
SILENT = {"close", "__exit__", "__aexit__"}
DUNDERS = {"__enter__", "__exit__", "__next__", "__aenter__", "__aexit__", "__anext__", "__bool__"}
READABLE = {"path", "closed", "settings", "results", "adopt", "token", "identity"}
"""What does not depend on the process that it is asked in."""
BUILDERS = {"create", "set", "delete", "check", "__exit__", "__aexit__"}
"""Of a transaction: they note what its commit is to send; the last is one, unless an error passes through."""


def say(**told: object) -> None:
    """Print a line for the test; in one piece, because parent and child write to one pipe."""
    os.write(1, json.dumps(told).encode() + b"\n")


def members(one: object) -> Iterator[tuple[str, Callable[[], object]]]:
    """Return all that can be asked of an object, by its public names."""
    kind = type(one)
    for name in dir(kind):
        if name.startswith("_") and name not in DUNDERS:
            continue
        if name in READABLE or (issubclass(kind, TransactionHandle) and name in BUILDERS):
            continue
        if name in ("__enter__", "__aenter__") and not issubclass(kind, Face | HolderHandle):
            continue  # it does nothing
        found = inspect.getattr_static(kind, name)
        if isinstance(found, property):
            yield name, lambda name=name: getattr(one, name)
        elif inspect.isfunction(found):
            wanted = [
                GIVEN[parameter.name]
                for parameter in list(inspect.signature(found).parameters.values())[1:]
                if parameter.default is parameter.empty
                and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
                and name not in SILENT
            ]
            arguments = (None, None, None) if name in ("__exit__", "__aexit__") else tuple(wanted)
            yield name, lambda name=name, arguments=arguments: getattr(one, name)(*arguments)


def ask_all(*objects: object) -> None:
    """Ask everything of each of them, and say what came of it and how long it took."""
    for one in objects:
        for name, ask in members(one):
            began = time.monotonic()
            try:
                answer = ask()
                if inspect.isgenerator(answer):
                    next(answer)
                elif inspect.isasyncgen(answer):
                    asyncio.run(_next(answer))
                elif inspect.iscoroutine(answer):
                    asyncio.run(answer)
                came = "silent"
            except BaseException as error:  # noqa: BLE001 -- whatever it is, it is told
                came = type(error).__name__
            wanted = "silent" if name in SILENT else "ForkedError"
            took = time.monotonic() - began
            say(asked=f"{type(one).__name__}.{name}", came=came, wanted=wanted, took=took)


async def _next(generator: Any) -> object:
    return await anext(generator)


def sockets() -> list[str]:
    """Return the sockets and bells that this process has open."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            names.append(str(entry.readlink()))
    return [name for name in names if name.startswith("socket:") or "eventfd" in name]


def watch_for_hang() -> None:
    """Have a child that hangs show where, and end; no thread, which would keep it alive."""
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(HANG)


def fork(child: Callable[[], object], *, go: int | None = None) -> int:
    """Fork; in the child call it, wait for a byte if there is a pipe, and leave as a worker does."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # "multi-threaded, use of fork()": that is the point
        pid = os.fork()
    if pid == 0:
        watch_for_hang()
        say(child=os.getpid(), sockets=sockets())
        child()
        gc.collect()
        if go is not None:
            os.read(go, 1)
        sys.exit(0)
    return pid


def wait(pid: int) -> None:
    """Say how the child ended."""
    say(ended=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@contextmanager
def all_locks_held() -> Iterator[None]:
    """Let another thread hold every lock of ours, as may be at the moment of any fork.

    In the child they stay held for good, whatever becomes of them here.
    """
    held, release = threading.Event(), threading.Event()
    kinds = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    ours = [one for one in gc.get_objects() if type(one).__module__.startswith("coordinator")]
    locks = []
    for one in ours:
        slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
        values = [*getattr(one, "__dict__", {}).values(), *(getattr(one, name, None) for name in slots)]
        locks += [value for value in values if isinstance(value, kinds)]
    unique = list({id(lock): lock for lock in locks}.values())

    def hold() -> None:
        taken = [lock for lock in unique if lock.acquire(timeout=1)]
        say(locks=len(unique), held=len(taken))
        held.set()
        release.wait(PATIENCE)
        for lock in taken:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        release.set()
        thread.join()


def house(zk: Coordinator) -> list[Any]:
    """Let a coordinator keep one of each but what holds a lease, all of it in use."""
    base = new_place()
    worker = zk.ephemeral(f"{base}/worker", b"here")
    view, kids = zk.watch(f"{base}/worker"), zk.watch_children(base)
    changes, names = view.changes(), kids.changes()
    next(changes), next(names)
    transaction = zk.transaction()
    transaction.delete(f"{base}/worker")
    quiet = zk.on(lambda _: None)
    return [zk, worker, view, kids, zk.events(), quiet, transaction, _Begun(changes), _Begun(names)]


def queues(zk: Coordinator) -> list[Any]:
    """The same of what queues; whoever holds a lease sends so much that there are no heartbeats."""
    base = new_place()
    lock, lead, latch = zk.lock(f"{base}/a", on_lost=repr), zk.lead(f"{base}/b"), zk.latch(f"{base}/c")
    lease, view = lock.acquire(), zk.observe(f"{base}/c")
    lead.campaign()
    changes, leaders = latch.changes(), view.changes()
    next(changes), next(leaders)
    free = [zk.lock(f"{base}/d"), zk.lead(f"{base}/d")]
    return [lock, lead, latch, lease, lease.lost, view, *free, _Begun(changes), _Begun(leaders)]


class _Begun:
    """A generator that was begun in the parent."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def __next__(self) -> object:
        return (
            asyncio.run(_next(self.generator)) if inspect.isasyncgen(self.generator) else next(self.generator)
        )


def beats(zk: Coordinator, count: int) -> list[str]:
    """Return the kinds of all that happens until there were so many heartbeats."""
    with zk.events(Heartbeat, BaseEvent) as stream:
        seen: list[str] = []
        while seen.count("session.heartbeat") < count:
            seen.append(stream.next(PATIENCE).kind)
    return seen[1:]  # it begins with what made the present state


# -- scenes


def connected(hosts: str, *, hold: bool = False) -> None:
    """A live session; the child asks for everything, and stays for more than the session's timeout."""
    tls = TLS(ca=os.environ["FORKING_CA"]) if "FORKING_CA" in os.environ else None
    with Coordinator(hosts, session_timeout=2.0, tls=tls) as zk, Coordinator(hosts, tls=tls) as beside:
        objects = house(zk) + queues(beside)
        worker = objects[1]
        before = (worker.czxid, zk.session.session_id)
        reading, writing = os.pipe()
        if hold:
            with all_locks_held():
                pid = fork(lambda: ask_all(*objects), go=reading)
        else:
            pid = fork(lambda: ask_all(*objects), go=reading)
        while_alive = beats(zk, 8)  # 8 heartbeats take longer than the session can live without one
        os.write(writing, b".")
        wait(pid)
        after = beats(zk, 3)
        say(
            parent=[kind for kind in while_alive + after if kind != "session.heartbeat"],
            same=before == (worker.czxid, zk.session.session_id) and worker.present,
            stands=zk.exists(worker.path).ephemeral_owner == before[1],  # type: ignore[union-attr]
            held=[one.lease.held for one in objects if hasattr(one, "lease") and one.lease],
        )


def awaited(hosts: str) -> None:
    """The same for the asyncio face; the loop runs in a thread, the child makes loops of its own."""
    loop, beside = Loop(), AsyncCoordinator(hosts)

    async def furnish() -> list[Any]:
        zk = await AsyncCoordinator(hosts, session_timeout=2.0).start()
        base = new_place()
        worker = await zk.ephemeral(f"{base}/worker", b"here")
        view, kids = await zk.watch(f"{base}/worker"), await zk.watch_children(base)
        transaction = zk.transaction().delete(f"{base}/worker")
        changes = view.changes()
        await anext(changes)
        kept = [zk, worker, view, kids, zk.events(), zk.on(lambda _: None), transaction]
        return [*kept, *await line_up(base), beside, _Begun(changes)]

    async def line_up(base: str) -> list[Any]:
        await beside.start()
        lock, lead, latch = (
            beside.lock(f"{base}/a"),
            beside.lead(f"{base}/b"),
            await beside.latch(f"{base}/c"),
        )
        lease, view = await lock.acquire(), await beside.observe(f"{base}/c")
        await lead.campaign()
        return [lock, lead, latch, lease, lease.lost, view, beside.lock(f"{base}/d")]

    async def beating(zk: AsyncCoordinator, count: int) -> list[str]:
        stream, seen = zk.events(Heartbeat, BaseEvent), [""]
        while seen.count("session.heartbeat") < count:
            seen.append((await stream.next(PATIENCE)).kind)
        return [kind for kind in seen[2:] if kind != "session.heartbeat"]

    objects = loop.call(furnish())
    wait(fork(lambda: ask_all(*objects)))
    say(parent=loop.call(beating(objects[0], 6)))
    changes = objects[-1].generator
    loop.call(objects[0].close())
    loop.call(beside.close())
    loop.call(changes.aclose())
    assert loop.stop() == []


def locked(hosts: str) -> None:
    """As connected, while other threads hold every lock there is."""
    connected(hosts, hold=True)


def suspended(hosts: str) -> None:
    """The link is gone; the test cuts it, and lets it come back when the child has ended."""
    with Coordinator(hosts, session_timeout=2.0) as zk:
        record, objects = EventRecord(zk), house(zk)
        say(ready=True)
        record.until("session.suspended")
        wait(fork(lambda: ask_all(*objects)))
        eventually(lambda: zk.session.phase == "connected")  # resumed, or on a busy machine too late for it
        say(parent=zk.session.phase)


def connecting(_hosts: str) -> None:
    """The kernel never completes the connection: a full backlog."""
    with socket.socket() as deaf, socket.socket() as filler:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filler.connect(deaf.getsockname())
        inherited = len(sockets())
        zk = Coordinator(f"127.0.0.1:{deaf.getsockname()[1]}", start_timeout=0, session_timeout=30.0).start()
        eventually(lambda: len(sockets()) > inherited + 2)  # the bells of kazoo's loop and ours, the socket
        stream = zk.events()
        for one in (deaf, filler):
            os.register_at_fork(after_in_child=one.close)
        wait(fork(lambda: ask_all(zk, stream)))
        zk.close()


def in_handler(hosts: str) -> None:
    """A handler forks, and its child comes back from it."""
    with Coordinator(hosts, session_timeout=2.0) as zk:
        _fork_in(lambda call: zk.on(lambda _: call()), zk)


def in_kazoo(hosts: str) -> None:
    """A listener of the user's forks in kazoo's connection thread, and the child comes back from it."""
    with Coordinator(hosts, session_timeout=2.0) as zk:
        begun = threading.Event()
        _fork_in(lambda call: zk.kazoo.add_listener(lambda _: call()), zk, begun)


def _fork_in(arrange: Callable[[Callable[[], object]], object], zk: Coordinator, ready: Any = None) -> None:
    pids: list[int] = []

    def call() -> None:
        if not pids and os.getpid() == zk._engine.pid:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                watch_for_hang()
                ask_all(zk)
            pids.append(pid)

    arrange(call)
    say(ready=True)
    eventually(lambda: pids)
    wait(pids[0])
    eventually(lambda: zk.session.phase == "connected")
    say(parent=[kind for kind in beats(zk, 4) if kind != "session.heartbeat"])


def orphan(hosts: str) -> None:
    """The parent is to be killed; the child lives on, with nothing of the connection."""
    zk = Coordinator(hosts, session_timeout=2.0).start()
    reading, _ = os.pipe()
    fork(lambda: None, go=reading)
    say(parent=os.getpid(), session=zk.session.session_id)
    time.sleep(PATIENCE)


def own(hosts: str) -> None:
    """A child makes a coordinator of its own at once, and works with it."""
    with Coordinator(hosts) as zk:
        place = zk.create(new_place())

        def child() -> None:
            with Coordinator(hosts) as mine:
                mine.ephemeral(f"{place}/child")
                say(children=mine.children(place))

        wait(fork(child))
        say(parent=zk.children(place))


def multiprocess(hosts: str) -> None:
    """The way of multiprocessing, with its method fork."""
    import multiprocessing

    with Coordinator(hosts) as zk:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=ask_all, args=(zk, zk.events()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        process.join(PATIENCE)
        say(ended=process.exitcode)
        say(parent=zk.session.phase)


def kept_client(hosts: str) -> None:
    """A kazoo client with our handler, adopted: the child may not even use the client."""
    client = KazooClient(hosts, handler=KazooHandler(), timeout=2.0)
    client.start()
    with Coordinator.adopt(client) as zk, Coordinator(hosts) as beside:
        objects = house(zk) + queues(beside)

        def child() -> None:
            ask_all(*objects)
            try:
                client.get("/")
            except ConnectionClosedError:
                say(client="closed")
            client.handler.stop()

        with all_locks_held():
            pid = fork(child)
        wait(pid)
        say(parent=[kind for kind in beats(zk, 6) if kind != "session.heartbeat"])
    client.stop()
    client.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
