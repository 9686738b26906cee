"""``coordinator demo``: a server, a proxy, the play, and a way out of everything.

Whatever happens - a failed check, Ctrl-C, a closed pipe, time running out - the server
that was started is removed, and on one that was there before our znodes are.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Iterator
from types import FrameType

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from coordinator.cli.checks import Check
from coordinator.cli.ending import FAILED, FINE, USAGE, SignalledError, complain, conclude, held_back
from coordinator.cli.play import SESSION_TIMEOUT, OutOfTimeError, Play, Recorder, Witness
from coordinator.cli.screen import Screen
from coordinator.client import Coordinator
from coordinator.errors import ConfigurationError
from coordinator.settings import split_hosts
from coordinator.testing import (
    ExternalZooKeeper,
    FaultProxy,
    ZooKeeperServer,
    ZooKeeperUnavailableError,
    provide,
)

__all__ = ["run_demo"]

TIME_LIMIT = 20.0
"""Seconds from the choice of a server to the end of the play, which takes about 3; closing
adds 2 at most, so that the whole ends within 30."""
SERVE_WITHIN = 10.0
"""Seconds for a server of our own to serve; a container takes 0.5, and 5 on a busy machine."""
ANSWER_WITHIN = 2.0
"""Seconds for a server that is there already."""
TIDY_WITHIN = 3.0
"""Seconds to remove our znodes from a server that is not ours."""


def run_demo(*, as_json: bool = False, hosts: str | None = None) -> int:
    """Run the demo and return its exit code."""
    return conclude("demo", lambda: _attempt(Screen(as_json=as_json), hosts))


def _attempt(screen: Screen, hosts: str | None) -> int:
    try:
        return _run(screen, hosts)
    except SignalledError as ended:
        complain("demo", "interrupted" if ended.number == signal.SIGINT else f"ended by {ended}")
        raise
    except (ZooKeeperUnavailableError, ConfigurationError) as error:
        complain("demo", str(error) + ("" if hosts else "; or use one that runs: --zookeeper HOSTS"))
        return USAGE
    except KazooException as error:
        complain("demo", f"{type(error).__name__}: {error}")
        return FAILED


def _run(screen: Screen, hosts: str | None) -> int:
    screen.note("looking for a ZooKeeper")
    server = provide(hosts)
    deadline = time.monotonic() + TIME_LIMIT
    foreign = isinstance(server, ExternalZooKeeper)
    chroot = _chroot(server.hosts) if foreign else ""
    try:
        with held_back():
            server.start(ANSWER_WITHIN if foreign else SERVE_WITHIN)
        screen.note(f"ZooKeeper {server.version} at {server.hosts}: {server.origin}")
        checks = _perform(screen, server, chroot, deadline)
    finally:
        with held_back():
            server.close()
    screen.verdict(checks)
    failed = sum(not check.holds for check in checks)
    screen.note(f"{failed} of {len(checks)} checks failed" if failed else "all checks hold")
    return FAILED if failed else FINE


def _perform(screen: Screen, server: ZooKeeperServer, chroot: str, deadline: float) -> list[Check]:
    host, port = server.address
    direct = f"{host}:{port}"
    with (
        _plain_client(direct) as client,
        _own_place(client, chroot, tidy=isinstance(server, ExternalZooKeeper)) as place,
        _plain_client(direct + place) as inside,
        FaultProxy(host, port) as proxy,
    ):
        record = Recorder(screen, deadline)
        zk = Coordinator(proxy.hosts + place, session_timeout=SESSION_TIMEOUT, start_timeout=SERVE_WITHIN)
        zk.on(record)
        with zk:
            play = Play(zk, proxy, direct, Witness(inside, deadline), record, screen)
            try:
                with _alarm(deadline):
                    play.run()
            except OutOfTimeError as error:
                play.checks.append(Check(f"{play.act}: came to its end", str(error)))
            finally:
                proxy.refuse = proxy.blackhole = False  # so that closing need not wait
    return play.checks


def _chroot(hosts: str) -> str:
    try:
        return split_hosts(hosts)[1]
    except ValueError as error:
        raise ConfigurationError(f"hosts {hosts!r}: {error}") from None


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
def _own_place(client: KazooClient, chroot: str, *, tidy: bool) -> Iterator[str]:
    """A znode of our own that everything happens below; ``tidy``: it is removed at the end."""
    place = f"{chroot}/coordinator-demo-{secrets.token_hex(4)}"
    try:
        client.create(place)
    except NoNodeError:
        raise ConfigurationError(f"the chroot {chroot} does not exist there; create it first") from None
    try:
        yield place
    finally:
        if tidy:
            try:
                with _alarm(time.monotonic() + TIDY_WITHIN):
                    client.delete(place, recursive=True)
            except (OutOfTimeError, KazooException) as error:
                complain("demo", f"{place} is left on the server: {error}")


@contextlib.contextmanager
def _alarm(deadline: float) -> Iterator[None]:
    """Raise OutOfTimeError at the deadline, out of whatever call does not return."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTimeError("out of time: a call to ZooKeeper did not return")

    before = signal.signal(signal.SIGALRM, ring)
    # A little later than the deadline itself: who waits for an event can say for which.
    signal.setitimer(signal.ITIMER_REAL, max(0.1, deadline - time.monotonic() + 0.5))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
