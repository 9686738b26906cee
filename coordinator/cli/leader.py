"""``coordinator leader``: who holds a lock or leads, as the servers know it.

Whether he believes it still, only he knows: docs/leases.md.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict
from rich.text import Text

from coordinator.blocking_locks import LeaderView
from coordinator.cli.ending import FAILED, FINE, UNREACHABLE, complain, conclude, held_back
from coordinator.cli.screen import Terminal
from coordinator.cli.watch import sort_out
from coordinator.client import Coordinator
from coordinator.contending import Family, dialect_of
from coordinator.core.seats import foreign
from coordinator.errors import ConfigurationError, CoordinatorError, NoNodeError
from coordinator.events import ConnectionEvent, ConnectionFailed, ConnectionOpened
from coordinator.events.base import ShownId
from coordinator.models import Contender, hex_id
from coordinator.settings import Settings

__all__ = ["Leader", "Look", "run_leader"]


class Leader(BaseModel):
    """Who leads; ``--json`` prints it. All but ``at`` and ``path`` are null where nobody does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    path: str
    identity: str | None = None
    token: int | None = None
    session_id: ShownId | None = None
    seat: str | None = None
    """The znode by which it is held."""

    @classmethod
    def of(cls, path: str, leader: Contender | None) -> Leader:
        """Return what is to be told of that contender."""
        if leader is None:
            return cls(at=datetime.now(UTC), path=path)
        return cls(
            at=datetime.now(UTC),
            path=path,
            identity=leader.identity,
            token=leader.token,
            session_id=leader.session_id,
            seat=leader.path,
        )


@dataclass(frozen=True)
class Look:
    """How it is looked for who leads."""

    watch: bool = False
    as_json: bool = False
    timeout: float = 5.0
    """Seconds until it is known; not with ``watch``."""
    dialect: Family = "kazoo"


def run_leader(arguments: Sequence[str], look: Look) -> int:
    """Tell who leads, once or each time that changes; return the exit code."""

    def attempt() -> int:
        hosts, paths = sort_out(arguments, "leader")
        if len(paths) != 1:
            raise ConfigurationError(
                "one PATH is needed, which begins with a slash: coordinator leader [HOSTS] PATH"
            )
        settings = Settings.make(hosts=hosts, start_timeout=0.0 if look.watch else look.timeout)
        try:
            return (_watch if look.watch else _once)(settings, paths[0], look)
        except ConfigurationError:
            raise
        except CoordinatorError as error:
            complain("leader", str(error))
            return UNREACHABLE

    return conclude("leader", attempt)


def _once(settings: Settings, path: str, look: Look) -> int:
    with Coordinator(settings) as zk:
        leader = zk.observe(path, dialect=look.dialect, timeout=look.timeout).leader
        others = "" if leader is not None else _others(zk, path, look)
    if leader is not None or look.as_json:
        _show(Leader.of(path, leader), as_json=look.as_json)
    if leader is None:
        complain("leader", f"nobody leads at {path}{others}")
    return FINE if leader is not None else FAILED


def _others(zk: Coordinator, path: str, look: Look) -> str:
    """Say who queues there in another way: whoever asks may have forgotten it."""
    try:
        dialect = foreign(zk.children(path, timeout=look.timeout), dialect_of(look.dialect, "lead"))
    except NoNodeError:
        return ""
    return {
        None: "",
        "kazoo": "; there is a queue of another kind: --dialect kazoo",
        "curator-latch": "; there is a queue of another kind: --dialect curator",
        "curator-lock": "; there is a queue of Curator's locks, whose holder is not shown",
    }[dialect]


def _watch(settings: Settings, path: str, look: Look) -> int:
    zk = Coordinator(settings)
    try:
        zk.on(Waiting(), ConnectionFailed, ConnectionOpened)
        zk.start()
        view = zk.observe(path, dialect=look.dialect, wait=False)
        gone = threading.Event()
        threading.Thread(target=_await_hang_up, args=(view, gone), name="leader-reader", daemon=True).start()
        for leader in view.changes():
            _show(Leader.of(path, leader), as_json=look.as_json, dated=True)
        if gone.is_set():
            raise BrokenPipeError
    finally:
        with held_back():
            zk.close()
    complain("leader", "the session has ended: see COORDINATOR_AUTH")
    return UNREACHABLE


class Waiting:
    """Says on stderr that no server is reached: once, until one is."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, event: ConnectionEvent) -> None:
        """Take notice of an attempt to connect."""
        if isinstance(event, ConnectionFailed) and not self._said:
            complain("leader", f"{event.server}: {event.cause}; it is tried until it answers")
        self._said = isinstance(event, ConnectionFailed)


def _await_hang_up(view: LeaderView, gone: threading.Event) -> None:
    """End the view when nobody reads the output any more: the next change may be hours away."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)  # no event asked for: POLLERR and POLLHUP are told always
    reader.poll()
    gone.set()
    view.close()


def _show(leader: Leader, *, as_json: bool, dated: bool = False) -> None:
    if as_json:
        sys.stdout.write(leader.model_dump_json() + "\n")
        sys.stdout.flush()
        return
    at = f"{leader.at.astimezone():%Y-%m-%d %H:%M:%S}  " if dated else ""
    line = Text.assemble((at, "dim"))
    if leader.token is None or leader.session_id is None:
        line.append("nobody", "yellow")
    else:
        line.append(leader.identity or "(without a name)", "green")
        line.append(f"  token {leader.token}  session {hex_id(leader.session_id)}")
    Terminal(file=sys.stdout, highlight=False, soft_wrap=True).print(line)
