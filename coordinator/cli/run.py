"""``coordinator run``: a command that runs only while a lock or leadership is held.

The lease, the command and its guard meet here; how the command is ended in time is told in
`coordinator.cli.child` and `coordinator.cli.guard`. Whatever happens, the lease is given back
only after nothing of the command is left.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from types import FrameType

from coordinator.blocking_locks import Lease, Lock
from coordinator.cli.child import HANDED_ON, Child, GuardLostError, OnLost
from coordinator.cli.ending import (
    FAULT,
    LOST,
    NOT_EXECUTABLE,
    NOT_FOUND,
    SIGNALS,
    TIMED_OUT,
    UNREACHABLE,
    WRONG_USAGE,
    Handler,
    SignalledError,
    cannot_run,
    complain,
    conclude,
    handlers,
)
from coordinator.client import Coordinator
from coordinator.contending import STOP_PART, Family, checked_identity
from coordinator.core.contention import WAYS
from coordinator.core.layout import deletable
from coordinator.core.seats import Dialect
from coordinator.engine.clock import now
from coordinator.errors import (
    AcquireTimeoutError,
    ConfigurationError,
    CoordinatorError,
    NotAQueueError,
)
from coordinator.settings import Settings

__all__ = ["Wish", "run_beside_a_lease"]


@dataclass(frozen=True)
class Wish:
    """What is to be held, and how."""

    lead: str | None = None
    lock: str | None = None
    timeout: float | None = None
    """Seconds until it has to be held; None: it is waited for without limit."""
    identity: str | None = None
    stop_within: float | None = None
    grace: float = 5.0
    on_lost: OnLost = "kill"
    dialect: Family = "kazoo"


def run_beside_a_lease(wish: Wish, hosts: str | None, command: Sequence[str]) -> int:
    """Wait for the lease, run the command while it is held, and return the exit code."""

    def attempt() -> int:
        try:
            return _attempt(wish, hosts, command)
        except AcquireTimeoutError as error:
            return _complain(TIMED_OUT, error)
        except ConfigurationError as error:
            return _complain(WRONG_USAGE, error)
        except NotAQueueError as error:
            complain("run", _in_options(str(error)))
            return WRONG_USAGE
        except CoordinatorError as error:
            return _complain(UNREACHABLE, error)
        except OSError as error:
            return _complain(FAULT, error)

    return conclude("run", attempt)


def _complain(code: int, error: Exception) -> int:
    complain("run", str(error))
    return code


OPTIONS: dict[Dialect, str] = {
    "kazoo": "--dialect kazoo",
    "curator-lock": "--lock with --dialect curator",
    "curator-latch": "--lead with --dialect curator",
}
"""How one queues there on a command line."""


def _in_options(text: str) -> str:
    """Say with our options what an error says with the arguments of Python."""
    for dialect, way in WAYS.items():
        text = text.replace(way, OPTIONS[dialect])
    return text


def _attempt(wish: Wish, hosts: str | None, command: Sequence[str]) -> int:
    if sys.platform != "linux":
        raise ConfigurationError("it needs Linux: elsewhere nobody tells what a command leaves behind")
    if hosts is not None and hosts.startswith("/"):
        raise ConfigurationError(f"{hosts} is a path: give it as --lead {hosts} or --lock {hosts}")
    if wish.lead is None and wish.lock is None:
        raise ConfigurationError("either --lead PATH or --lock PATH is needed")
    if wish.lead is not None and wish.lock is not None:
        raise ConfigurationError(f"--lead {wish.lead} and --lock {wish.lock}: one of them, not both")
    deletable(wish.lock or wish.lead or "")
    if wish.identity is not None:
        checked_identity(wish.identity)
    if code := cannot_run("run", command[0]):
        return code
    settings = Settings.make(hosts=hosts)
    due = inf
    if wish.timeout is not None:
        due = now() + wish.timeout
        settings = settings.model_copy(update={"start_timeout": min(settings.start_timeout, wish.timeout)})
    with Child(command, grace=wish.grace, on_lost=wish.on_lost) as child:
        zk = Coordinator(settings)
        try:
            with handlers({**UNUSUAL, signal.SIGCHLD: lambda *_: child.reap()}):
                child.reap()
                return _run(zk, wish, _wait(zk, wish, due), child, command[0])
        finally:
            with handlers(dict.fromkeys(SIGNALS, _leave)):  # the command has had its signals
                child.close()
                zk.close()


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Do nothing about a signal."""


def _end(number: int, _frame: FrameType | None) -> None:
    raise SignalledError(number)


UNUSUAL: dict[int, Handler] = {
    number: _end if number == signal.SIGQUIT else _leave
    for number in HANDED_ON - {signal.SIGTSTP, signal.SIGCONT, *SIGNALS}
}
"""What is done about signals that are meant for the command, until there is one."""


def _wait(zk: Coordinator, wish: Wish, due: float) -> Lease:
    zk.start()
    queue = (zk.lead if wish.lock is None else zk.lock)(
        wish.lock or wish.lead or "",
        timeout=None if due == inf else max(0.0, round(due - now(), 2)),
        identity=wish.identity,
        dialect=wish.dialect,
        stop_within=wish.stop_within,
    )
    return queue.acquire() if isinstance(queue, Lock) else queue.campaign()


def _run(zk: Coordinator, wish: Wish, lease: Lease, child: Child, program: str) -> int:
    def on_loss() -> None:
        then = {"kill": "it is ended", "term": "it is asked to end", "ignore": "it goes on"}[wish.on_lost]
        complain("run", f"the lease {lease.path} is lost ({lease.reason or 'lapsed'}): {then}")

    environment = {"COORDINATOR_LEASE_TOKEN": str(lease.token), "COORDINATOR_LEASE_PATH": lease.path}
    stop_within = zk.session.timeout / STOP_PART if wish.stop_within is None else wish.stop_within
    try:
        outcome = child.run(lease, environment, stop_within=stop_within, on_loss=on_loss)
    except GuardLostError:
        raise
    except OSError as error:  # of exec(2)
        complain("run", f"{program}: {(error.strerror or str(error)).lower()}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    with handlers(dict.fromkeys(SIGNALS, _leave)):
        lease.release()
    return LOST if outcome.lost else outcome.code
