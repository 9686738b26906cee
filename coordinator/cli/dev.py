"""``coordinator dev``: a ZooKeeper for as long as it is needed.

It comes from where those of the tests come from (`coordinator.testing.provide`), and is
removed at the end, with its data, whatever that end is: a signal, or that of a command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from coordinator.cli.ending import (
    FAILED,
    FINE,
    SIGNALS,
    USAGE,
    cannot_run,
    complain,
    conclude,
    handlers,
    held_back,
)
from coordinator.cli.terminal import Terminal
from coordinator.errors import ConfigurationError
from coordinator.settings import DEFAULT_PORT
from coordinator.testing import (
    ExternalZooKeeper,
    ZooKeeperEnsemble,
    ZooKeeperServer,
    ZooKeeperUnavailableError,
    provide,
)

__all__ = ["run_dev"]

ANSWER_WITHIN = 5.0
"""Seconds for a server that is there already."""


def run_dev(command: Sequence[str] = (), *, size: int = 1, port: int | None = None) -> int:
    """Keep a ZooKeeper running until a signal, or until the command ends; return the exit code."""
    return conclude("dev", lambda: _attempt(command, size, port))


def _attempt(command: Sequence[str], size: int, port: int | None) -> int:
    if command and (code := cannot_run("dev", command[0])):
        return code
    _say("looking for a way to run a ZooKeeper")
    try:
        server = _server(size, port, fixed=not command)
    except ZooKeeperUnavailableError as error:
        complain("dev", str(error))
        return USAGE
    ours = not isinstance(server, ExternalZooKeeper)
    try:
        with held_back():
            server.start() if ours else server.start(ANSWER_WITHIN)
        _say(f"{server.origin}, {'until this ends' if ours else 'COORDINATOR_TEST_HOSTS: it is not ours'}")
        return _beside(server.hosts, command) if command else _keep(server.hosts)
    finally:
        with held_back():
            server.close()
        if ours:
            _say("removed")


def _server(size: int, port: int | None, *, fixed: bool) -> ZooKeeperServer | ZooKeeperEnsemble:
    if size > 1:
        if port:
            raise ConfigurationError("--port is for one server: each of an ensemble gets a free port")
        return ZooKeeperEnsemble(size)
    if os.environ.get("COORDINATOR_TEST_HOSTS"):
        return provide()
    chosen = port if port is not None else DEFAULT_PORT if fixed else 0
    if not chosen:
        return provide()
    _check_free(chosen)
    return provide(port=chosen)


def _check_free(port: int) -> None:
    """See that nobody has the port.

    Raises:
        ConfigurationError: it says who has it, if that is a ZooKeeper.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise ConfigurationError(f"port {port} needs privileges; --port 0 takes any free one") from None
        except OSError:
            there = ExternalZooKeeper(f"127.0.0.1:{port}")
            who = f"a ZooKeeper ({there.version}, {mode})" if (mode := there.mode) else "another program"
            raise ConfigurationError(
                f"port {port} of 127.0.0.1 is taken by {who}; --port 0 takes any free one"
            ) from None


def _keep(hosts: str) -> int:
    sys.stdout.write(f"{hosts}\n")
    sys.stdout.flush()
    threading.Event().wait()  # a signal raises out of it
    return FINE


def _beside(hosts: str, command: Sequence[str]) -> int:
    """Run a command that knows the hosts, hand signals on to it, and return its exit code."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and terminal.foreground:
            return  # Ctrl-C reaches all of the foreground, also the child
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    _say(f"COORDINATOR_HOSTS={hosts}")
    with Terminal() as terminal, handlers(dict.fromkeys(SIGNALS, hand_on)):
        try:
            child = subprocess.Popen(command, env={**os.environ, "COORDINATOR_HOSTS": hosts})  # noqa: S603
        except OSError as error:
            complain("dev", f"{command[0]}: {error.strerror}")
            return FAILED
        for number in early:
            child.send_signal(number)
        code = child.wait()
    return 128 - code if code < 0 else code


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
