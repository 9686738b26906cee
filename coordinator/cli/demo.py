"""``coordinator demo``: a server, a proxy, the play, and a way out of everything.

Whatever happens - a failed check, Ctrl-C, a closed pipe, time running out - the server
that was started is removed, and on one that was there before our znodes are.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Iterator
from types import FrameType

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from coordinator.cli.play import SESSION_TIMEOUT, OutOfTimeError, Play, Recorder, Witness
from coordinator.cli.screen import Screen, forget_stdout
from coordinator.client import Coordinator
from coordinator.errors import ConfigurationError, CoordinatorError
from coordinator.settings import split_hosts
from coordinator.testing import FaultProxy, ZooKeeperServer, ZooKeeperUnavailableError, provide

__all__ = ["run_demo"]

TIME_LIMIT = 27.0
"""Seconds from the choice of a server to the end of the play; closing takes up to 2 more."""
SERVE_WITHIN = 10.0
"""Seconds for a server of our own to serve; a container takes 0.5, and 5 on a busy machine."""
ANSWER_WITHIN = 3.0
"""Seconds for a server that is there already."""

HOLDS, FAILED, UNAVAILABLE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


class _TerminatedError(BaseException):
    """SIGTERM: atexit would not remove the container."""


def run_demo(*, as_json: bool = False, hosts: str | None = None) -> int:
    """Run the demo and return its exit code."""
    # kazoo warns of every link that breaks; here the events tell it.
    logging.getLogger("kazoo").addHandler(logging.NullHandler())
    logging.getLogger("kazoo").propagate = False
    screen = Screen(as_json=as_json)
    try:
        with _terminable():
            return _run(screen, hosts)
    except KeyboardInterrupt:
        screen.problem("interrupted")
        return INTERRUPTED
    except _TerminatedError:
        screen.problem("terminated")
        return TERMINATED
    except BrokenPipeError:
        forget_stdout()
        return FAILED
    except (ZooKeeperUnavailableError, ConfigurationError) as error:
        screen.problem(str(error))
        return UNAVAILABLE
    except OutOfTimeError as error:
        screen.problem(str(error))
        return FAILED
    except (CoordinatorError, KazooException, TimeoutError) as error:
        screen.problem(f"{type(error).__name__}: {error}")
        return FAILED


def _run(screen: Screen, hosts: str | None) -> int:
    chroot = _chroot(hosts)
    screen.note("looking for a ZooKeeper")
    server = provide(hosts)
    deadline = time.monotonic() + TIME_LIMIT
    try:
        with _held_back():
            server.start(ANSWER_WITHIN if hosts else SERVE_WITHIN)
        screen.note(f"ZooKeeper {server.version} at {server.hosts}: {server.origin}")
        return _perform(screen, server, chroot, deadline)
    finally:
        with _held_back():
            server.close()


def _perform(screen: Screen, server: ZooKeeperServer, chroot: str, deadline: float) -> int:
    host, port = server.address
    direct = f"{host}:{port}"
    with (
        _alarm(deadline),
        _plain_client(direct) as client,
        _own_place(client, chroot) as place,
        _chrooted(direct, place) as inside,
        FaultProxy(host, port) as proxy,
    ):
        record = Recorder(screen, deadline)
        zk = Coordinator(proxy.hosts + place, session_timeout=SESSION_TIMEOUT)
        zk.on(record)
        with zk:
            play = Play(zk, proxy, direct, Witness(inside, deadline), record, screen)
            try:
                play.run()
            finally:
                proxy.refuse = proxy.blackhole = False  # so that closing need not wait
        signal.setitimer(signal.ITIMER_REAL, 0)
    screen.verdict(play.checks)
    failed = [check for check in play.checks if not check.holds]
    screen.note(f"{len(failed)} of {len(play.checks)} checks failed" if failed else "all checks hold")
    return FAILED if failed else HOLDS


def _chroot(hosts: str | None) -> str:
    if hosts is None:
        return ""
    try:
        return split_hosts(hosts)[1]
    except ValueError as error:
        raise ConfigurationError(f"--zookeeper: {error}") from None


@contextlib.contextmanager
def _plain_client(hosts: str) -> Iterator[KazooClient]:
    client = KazooClient(hosts=hosts, timeout=10.0)
    try:
        client.start(timeout=ANSWER_WITHIN)
    except KazooTimeoutError as late:
        raise ZooKeeperUnavailableError(
            f"the ZooKeeper at {hosts} gives no session within {ANSWER_WITHIN:g} s"
        ) from late
    try:
        yield client
    finally:
        client.stop()
        client.close()


@contextlib.contextmanager
def _chrooted(server: str, place: str) -> Iterator[KazooClient]:
    with _plain_client(server + place) as client:
        yield client


@contextlib.contextmanager
def _own_place(client: KazooClient, chroot: str) -> Iterator[str]:
    """A znode of our own that everything happens below; removed at the end."""
    place = f"{chroot}/coordinator-demo-{secrets.token_hex(4)}"
    try:
        client.create(place)
    except NoNodeError:
        raise ConfigurationError(
            f"--zookeeper: chroot {chroot} does not exist there; create it first"
        ) from None
    try:
        yield place
    finally:
        client.delete(place, recursive=True)


@contextlib.contextmanager
def _alarm(deadline: float) -> Iterator[None]:
    """Raise OutOfTimeError at the deadline, out of whatever call does not return."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTimeError(f"out of time: a call did not return within {TIME_LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    # A little later than the deadline itself: who waits for an event can say for which.
    signal.setitimer(signal.ITIMER_REAL, max(0.1, deadline - time.monotonic() + 0.5))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for the moment in which a container comes or goes.

    Interrupted between its creation and its being known, it would be left behind.
    """
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
