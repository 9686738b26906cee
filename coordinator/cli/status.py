"""``coordinator status``: does ZooKeeper serve? A health check.

Three looks, side by side: a session of our own with a few round trips; a ``sync``, which the
leader has to answer; and the word ``srvr`` to each server, over a connection of its own
without TLS. The first two decide about health; the last tells what else is to be known.
"""

from __future__ import annotations

import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from kazoo.exceptions import KazooException
from pydantic import BaseModel, ConfigDict
from rich.text import Text

from coordinator.cli.ending import FAILED, FINE, conclude
from coordinator.cli.screen import Terminal
from coordinator.client import Coordinator
from coordinator.errors import CoordinatorError
from coordinator.events.base import ShownId
from coordinator.settings import Settings
from coordinator.testing.ports import four_letters

__all__ = ["DEGRADED", "Quorum", "RoundTrip", "Server", "Session", "Status", "run_status"]

DEGRADED = 3
"""The exit code of --strict where a server of the list does not serve."""
ROUND_TRIPS = 5
LEAST = 0.1
"""Seconds that a look gets however late it is."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Session(_Part):
    """The session that was made."""

    session_id: ShownId
    timeout: float
    """Seconds, as granted."""
    server: str
    read_only: bool
    established_in: float
    """Seconds."""


class RoundTrip(_Part):
    """Reads of the root, one after another; seconds."""

    minimum: float
    median: float
    count: int


class Server(_Part):
    """One server of the list, by its answer to ``srvr``."""

    server: str
    serves: bool | None
    """None: it is there, but ``srvr`` is not allowed."""
    mode: str | None = None
    """leader, follower, observer, standalone, read-only."""
    version: str | None = None
    problem: str = ""


class Quorum(_Part):
    """What the servers of the list say about each other."""

    leader: str | None
    """The server that leads, or stands alone; None: none of the list says that it does."""
    serving: int
    of: int
    majority: bool
    """More than half of the list serve."""


class Status(_Part):
    """All that ``coordinator status`` found; ``--json`` prints it."""

    status: Literal["healthy", "degraded", "unhealthy"]
    hosts: str
    problem: str = ""
    """Why it is unhealthy, or degraded."""
    session: Session | None = None
    round_trip: RoundTrip | None = None
    sync: float | None = None
    """Seconds until the leader answered."""
    servers: tuple[Server, ...]
    quorum: Quorum


def run_status(
    hosts: str | None = None, *, as_json: bool = False, timeout: float = 5.0, strict: bool = False
) -> int:
    """Look, show what was found, and return the exit code."""
    return conclude("status", lambda: _report(hosts, timeout, as_json=as_json, strict=strict))


def _report(hosts: str | None, timeout: float, *, as_json: bool, strict: bool) -> int:
    status = examine(Settings.make(hosts=hosts), timeout)
    if as_json:
        sys.stdout.write(status.model_dump_json() + "\n")
        sys.stdout.flush()
    else:
        _show(status)
    if status.status == "unhealthy":
        return FAILED
    return DEGRADED if strict and status.status == "degraded" else FINE


def examine(given: Settings, timeout: float) -> Status:
    """Return what is found within that many seconds; closing the session may add two."""
    deadline = time.monotonic() + timeout
    ask = _asked(given.servers, timeout)
    # kazoo waits for a server's handshake for the session timeout divided by the servers: one that swallows
    # everything must leave time for all others.
    patience = timeout * len(given.servers) / (len(given.servers) + 1)
    settings = given.model_copy(
        update={"start_timeout": timeout, "session_timeout": min(given.session_timeout, patience)}
    )
    session: Session | None = None
    round_trip: RoundTrip | None = None
    sync: float | None = None
    problem = ""
    try:
        began = time.monotonic()
        with Coordinator(settings) as zk:
            info = zk.session
            session = Session(
                session_id=info.session_id,
                timeout=info.timeout,
                server=info.server,
                read_only=info.read_only,
                established_in=time.monotonic() - began,
            )
            round_trip = _round_trips(zk, deadline)
            sync = _sync(zk, deadline)
    except (CoordinatorError, KazooException) as error:
        problem = _words(error)
    servers = ask(deadline)
    quorum = _quorum(servers)
    if not problem and quorum.serving < quorum.of:
        down = [one.server for one in servers if one.serves is False]
        problem = f"does not serve: {', '.join(down)}" if down else ""
    verdict: Literal["healthy", "degraded", "unhealthy"] = (
        "unhealthy" if sync is None else "degraded" if problem else "healthy"
    )
    return Status(
        status=verdict,
        hosts=given.hosts,
        problem=problem,
        session=session,
        round_trip=round_trip,
        sync=sync,
        servers=servers,
        quorum=quorum,
    )


def _round_trips(zk: Coordinator, deadline: float) -> RoundTrip:
    took = []
    for _ in range(ROUND_TRIPS):
        began = time.monotonic()
        zk.exists("/", timeout=max(LEAST, deadline - began))
        took.append(time.monotonic() - began)
    return RoundTrip(minimum=min(took), median=statistics.median(took), count=len(took))


def _sync(zk: Coordinator, deadline: float) -> float:
    """Return how long the leader took to answer, through the server of the session."""
    began = time.monotonic()
    client = zk.kazoo
    try:
        client.sync_async("/").get(timeout=max(LEAST, deadline - began))
    except client.handler.timeout_exception:
        raise CoordinatorError("the leader does not answer a sync: no quorum") from None
    return time.monotonic() - began


def _words(error: Exception) -> str:
    if isinstance(error, KazooException):
        return f"sync failed: {type(error).__name__}: there is no quorum, or the link broke"
    return str(error)


# -- the word srvr


def _asked(servers: Sequence[tuple[str, int]], timeout: float) -> Callable[[float], tuple[Server, ...]]:
    """Ask all servers at once; return what waits for their answers until a deadline."""
    answers: dict[tuple[str, int], Server] = {}

    def ask(address: tuple[str, int]) -> None:
        answers[address] = _look_at(address, timeout)

    # Not a pool: a name that is not resolved in time would hold up the end of the process.
    threads = [
        threading.Thread(target=ask, args=(server,), name=f"srvr-{server[0]}", daemon=True)
        for server in servers
    ]
    for thread in threads:
        thread.start()

    def answered(deadline: float) -> tuple[Server, ...]:
        for thread in threads:
            thread.join(max(LEAST, deadline - time.monotonic()))
        silent = f"no answer within {timeout:g} s"
        return tuple(
            answers.get(one) or Server(server=_shown(one), serves=False, problem=silent) for one in servers
        )

    return answered


def _look_at(address: tuple[str, int], timeout: float) -> Server:
    try:
        answer = four_letters(address, "srvr", timeout)
    except TimeoutError:
        return Server(server=_shown(address), serves=False, problem=f"no answer within {timeout:g} s")
    except OSError as error:
        return Server(server=_shown(address), serves=False, problem=(error.strerror or str(error)).lower())
    return read_srvr(_shown(address), answer)


def read_srvr(server: str, answer: str) -> Server:
    """Return what an answer to ``srvr`` says.

    Source: ZooKeeper Administrator's Guide, "The Four Letter Words"; NIOServerCnxn.
    """
    version = re.search(r"version: (\d+(?:\.\d+)+)", answer)
    mode = re.search(r"^Mode: (\S+)", answer, re.MULTILINE)
    problem = ""
    serves: bool | None = mode is not None
    if "not in the whitelist" in answer:
        serves, problem = None, "srvr not allowed"
    elif mode is None:
        not_yet = "not currently serving" in answer
        problem = "not currently serving requests" if not_yet else "no ZooKeeper, or one that wants TLS"
    return Server(
        server=server,
        serves=serves,
        mode=mode[1] if mode else None,
        version=version[1] if version else None,
        problem=problem,
    )


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _quorum(servers: Sequence[Server]) -> Quorum:
    leading = (one.server for one in servers if one.mode in ("leader", "standalone"))
    serving = sum(one.serves is True for one in servers)
    return Quorum(
        leader=next(leading, None), serving=serving, of=len(servers), majority=2 * serving > len(servers)
    )


# -- for people


_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "bold red"}


def _show(status: Status) -> None:
    console = Terminal(highlight=False, soft_wrap=True)
    why = f": {status.problem}" if status.problem else ""
    console.print(Text.assemble((status.status, _STYLES[status.status]), why))
    for name, value in _rows(status):
        console.print(Text.assemble((f"{name:<11}", "dim"), value))


def _rows(status: Status) -> list[tuple[str, str]]:
    rows = []
    if session := status.session:
        shown = Session.model_dump(session, mode="json")["session_id"]
        rows.append(
            (
                "session",
                f"{shown} at {session.server}, timeout {session.timeout:g} s, established in "
                f"{session.established_in * 1000:.0f} ms{', read-only' if session.read_only else ''}",
            )
        )
    if trip := status.round_trip:
        rows.append(
            ("round trip", f"{trip.minimum * 1000:.1f} ms at least, {trip.median * 1000:.1f} ms median")
        )
    if status.sync is not None:
        rows.append(("sync", f"the leader answered in {status.sync * 1000:.1f} ms"))
    for one in status.servers:
        version = f"{one.mode}, ZooKeeper {one.version}" if one.mode else ""
        rows.append(("server", f"{one.server}: {one.problem or version}"))
    quorum = status.quorum
    leader = f", leader {quorum.leader}" if quorum.leader else ""
    rows.append(("quorum", f"{quorum.serving} of {quorum.of} serve{leader}"))
    return rows
