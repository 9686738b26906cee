"""What the tests against a real server share: a place of one's own, an observer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.recipe.lock import Lock
from kazoo.retry import KazooRetry

from coordinator import ConnectionFailed, Coordinator, CoordinatorError
from coordinator.testing import FaultProxy, ZooKeeperServer, ephemerals, eventually, expire

T = TypeVar("T")
PATIENCE = 15.0
"""Seconds after which a test no longer believes that something will happen."""


def story(events: list[Any]) -> list[str]:
    """The kinds, without failed attempts to connect: how many there are is up to chance."""
    return [event.kind for event in events if not isinstance(event, ConnectionFailed)]


@contextmanager
def observing(hosts: str, session_timeout: float = 10.0) -> Iterator[KazooClient]:
    """A plain kazoo client, directly at the server: what others see."""
    client = KazooClient(
        hosts, timeout=session_timeout, connection_retry=KazooRetry(max_tries=-1, delay=0.02, max_delay=0.1)
    )
    client.start(15)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def owner(observer: KazooClient, path: str) -> int:
    """The session that owns the ephemeral at a path; 0 if there is none."""
    stat = observer.exists(path)
    return 0 if stat is None else stat.ephemeralOwner


def owned_by(server: ZooKeeperServer, session_id: int) -> set[str]:
    """The ephemerals of a session, as the server itself counts them."""
    return ephemerals(server).get(session_id, set())


def expire_behind(proxy: FaultProxy, zk: Coordinator, server: ZooKeeperServer) -> None:
    """End the session at the server; the client is not let in again before that is done.

    Otherwise it may be back between the takeover and the close of it, for a moment, and be told
    as opened again: true, but not the same story each time.
    """
    client_id = zk.kazoo.client_id
    proxy.refuse = True
    expire(client_id, server.hosts)
    proxy.refuse = False


def in_thread(call: Callable[[], T]) -> Callable[[], T]:
    """Begin a call that waits, and return what waits for its result."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except CoordinatorError as error:
            future.set_exception(error)

    threading.Thread(target=run, name="test-in-thread").start()
    return lambda: future.result(PATIENCE)


_places = itertools.count(1)


def new_place() -> str:
    """A path that no other test uses."""
    return f"/test-{time.time_ns():x}-{next(_places)}"


@contextmanager
def held(observer: KazooClient, path: str) -> Iterator[None]:
    """The lock of kazoo's at that path is held by ada."""
    lock = Lock(observer, path, "ada")
    lock.acquire(timeout=PATIENCE)
    try:
        yield
    finally:
        lock.release()


def queued(observer: KazooClient, path: str, count: int) -> list[str]:
    """The seats at that path, the first one first, when there are so many."""
    eventually(
        lambda: len(observer.get_children(path)) == count,
        timeout=PATIENCE * 2,
        message=f"{count} in the queue",
    )
    return sorted(observer.get_children(path), key=lambda name: name[-10:])
