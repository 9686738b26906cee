"""The demo's three acts: a session is expired, cut off, and frozen to death.

It waits for events and for the state of the server, never for time to pass. What is
claimed at the end is judged by ``checks`` from the events and from what an independent
client saw.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from kazoo.client import KazooClient

from coordinator.cli.checks import (
    Change,
    Check,
    Owned,
    Ownership,
    back_under,
    in_order,
    recovered_in_order,
    reported_once,
    untouched,
)
from coordinator.cli.screen import Screen
from coordinator.client import Coordinator
from coordinator.errors import CoordinatorError
from coordinator.events import (
    BaseEvent,
    ConnectionFailed,
    EphemeralCreated,
    RecoveryCompleted,
    SessionClosed,
    SessionEstablished,
    SessionLapsed,
    SessionResumed,
    SessionSuspended,
    ZnodeEvent,
)
from coordinator.models import hex_id
from coordinator.testing import FaultProxy, expire

__all__ = ["OutOfTimeError", "Play", "Recorder", "Witness"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseEvent)

SESSION_TIMEOUT = 2.0
"""Seconds: long enough to survive a cut on a busy machine, short enough to wait it out."""
POLL = 0.02
"""Seconds between two looks at the server's state."""
WORKERS = ("/workers/w-1", "/workers/w-2", "/workers/w-3")
CONFIG = "/config"
MEMBERS = "/members"


class OutOfTimeError(CoordinatorError):
    """The demo's deadline passed; the message names what it waited for."""


class Recorder:
    """Keeps and shows every event, and lets the play wait for one."""

    def __init__(self, screen: Screen, deadline: float) -> None:
        self.events: list[BaseEvent] = []
        self._screen = screen
        self._deadline = deadline
        self._changed = threading.Condition()
        self._unread = False

    def __call__(self, event: BaseEvent) -> None:
        """Take one event; called on a thread of the coordinator's."""
        try:
            if not self._unread:
                self._screen.event(event)  # type: ignore[arg-type]
        except (OSError, ValueError):
            self._unread = True
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, what: str, look: Callable[[], T | None]) -> T:
        """Return what ``look`` finds, looking again after each event.

        Raises:
            OutOfTimeError: it found nothing until the deadline.
            BrokenPipeError: nobody reads the output any more.
        """
        with self._changed:
            while True:
                if self._unread:
                    raise BrokenPipeError
                if (found := look()) is not None:
                    return found
                remaining = self._deadline - time.monotonic()
                if remaining <= 0:
                    raise OutOfTimeError(f"out of time, waiting for {what}")
                self._changed.wait(remaining)

    def first(self, kind: type[E], since: int) -> E:
        """Return the first event of that class from that position on."""

        def look() -> E | None:
            return next((event for event in self.events[since:] if isinstance(event, kind)), None)

        return self.wait(str(kind.model_fields["kind"].default), look)

    def count(self, kind: type[BaseEvent], count: int, since: int) -> None:
        """Wait until so many events of that class were told from that position on."""

        def look() -> bool | None:
            return sum(isinstance(event, kind) for event in self.events[since:]) >= count or None

        self.wait(f"{count} of {kind.__name__}", look)


class Witness:
    """An independent plain kazoo client: it makes changes, and sees what is true."""

    def __init__(self, client: KazooClient, deadline: float) -> None:
        self._client = client
        self._deadline = deadline

    def create(self, path: str) -> None:
        """Create a znode."""
        self._client.create(path, b"", makepath=True)

    def set_config(self, data: bytes, *, after_gap: bool) -> list[Change]:
        """Set the configuration once."""
        stat = self._client.set(CONFIG, data)
        return [Change("znode.changed", CONFIG, stat.version, stat.mzxid, after_gap=after_gap)]

    def replace_config(self) -> list[Change]:
        """Delete the configuration and create it anew, up to the version it had."""
        version = self._client.get(CONFIG)[1].version
        self._client.delete(CONFIG)
        self._client.create(CONFIG, b"another one")
        stat = self._client.exists(CONFIG)
        while stat.version < version:
            stat = self._client.set(CONFIG, b"another one")
        return [
            Change("znode.deleted", CONFIG, after_gap=True),
            Change("znode.created", CONFIG, stat.version, stat.mzxid, after_gap=True),
        ]

    def join(self, name: str) -> None:
        """Add a member."""
        self._client.create(f"{MEMBERS}/{name}")

    def leave(self, name: str) -> None:
        """Remove a member."""
        self._client.delete(f"{MEMBERS}/{name}")

    def ephemerals(self) -> Ownership:
        """Return which of the ephemerals exist, and whose they are."""
        self._client.sync("/")
        seen = {}
        for path in WORKERS:
            stat = self._client.exists(path)
            if stat is not None:
                seen[path] = Owned(stat.ephemeralOwner, stat.czxid)
        return seen

    def wait_expired(self, session_id: int) -> None:
        """Wait until the server has removed the session's ephemerals, as it does when it expires.

        Raises:
            OutOfTimeError: it has not until the deadline.
        """
        while any(one.session_id == session_id for one in self.ephemerals().values()):
            if time.monotonic() >= self._deadline:
                raise OutOfTimeError("out of time, waiting for the server to expire the session")
            time.sleep(POLL)


class Play:
    """The three acts, in a chroot that exists, and the checks that they lead to.

    Args:
        zk: a started coordinator, connected through the proxy.
        server: ``host:port`` of the server, past the proxy.
    """

    def __init__(
        self,
        zk: Coordinator,
        proxy: FaultProxy,
        server: str,
        witness: Witness,
        record: Recorder,
        screen: Screen,
    ) -> None:
        self._zk = zk
        self._proxy = proxy
        self._server = server
        self._witness = witness
        self._record = record
        self._screen = screen
        self.checks: list[Check] = []
        self.act = ""
        """Which one is being played."""

    def run(self) -> None:
        """Play all of it; ``checks`` has the outcome."""
        self._prologue()
        self._expired_by_the_server()
        self._cut()
        self._frozen()
        self._epilogue()

    def _prologue(self) -> None:
        self._record.first(SessionEstablished, 0)
        self._begin("prologue", "a session, three ephemerals, two watches")
        self._witness.create(CONFIG)
        self._witness.create(f"{MEMBERS}/ada")
        self._witness.create(f"{MEMBERS}/bob")
        for path in WORKERS:
            self._zk.ephemeral(path, b"at work")
        self._zk.watch(CONFIG)
        self._zk.watch_children(MEMBERS)
        self._record.count(EphemeralCreated, len(WORKERS), 0)

    def _expired_by_the_server(self) -> None:
        self._begin("act 1", "the server expires the session")
        since, old = self._mark(), self._zk.session.session_id
        self._screen.deed(f"end {hex_id(old)} at the server, behind the client's back")
        expire(self._zk.kazoo.client_id, self._server)
        completed = self._record.first(RecoveryCompleted, since)
        began = self._record.first(SessionSuspended, since).at
        self._judge_recovery("act 1", old, since, completed.at, began)
        self._judge("act 1: nothing was reported that did not happen", reported_once(self._since(since), []))

    def _cut(self) -> None:
        self._begin("act 2", "the link is cut, the session survives")
        since, old, before = self._mark(), self._zk.session.session_id, self._witness.ephemerals()
        self._screen.deed("cut the link and refuse new ones")
        self._proxy.refuse = True
        self._proxy.reset_all()
        self._record.first(SessionSuspended, since)
        self._screen.deed(f"meanwhile somebody sets {CONFIG} and adds a member")
        made = self._witness.set_config(b"2", after_gap=True)
        self._witness.join("cleo")
        made.append(Change("children.changed", MEMBERS, added=("cleo",), after_gap=True))
        self._record.first(ConnectionFailed, since)
        self._screen.deed("let links through again")
        healed = _now()
        self._proxy.refuse = False
        resumed = self._record.first(SessionResumed, since)
        self._record.count(ZnodeEvent, len(made), since)
        now = self._zk.session.session_id
        problem = untouched(before, self._witness.ephemerals())
        if now != old:
            problem = f"the session is {hex_id(now)}, was {hex_id(old)}; {problem}"
        took = (resumed.at - healed).total_seconds()
        self._judge("act 2: same session, ephemerals with the same czxid", problem, took)
        self._judge(f"act 2: {len(made)} changes reported once", reported_once(self._since(since), made))

    def _frozen(self) -> None:
        self._begin("act 3", "the link is frozen until the server gives the session up")
        since, old = self._mark(), self._zk.session.session_id
        self._screen.deed("freeze the link: it stays open, nothing passes")
        self._proxy.blackhole = True
        self._screen.deed("meanwhile a member leaves")
        self._witness.leave("ada")
        self._record.first(SessionSuspended, since)
        self._record.first(SessionLapsed, since)
        self._witness.wait_expired(old)
        self._screen.deed("the server has expired the session: its ephemerals are gone")
        self._screen.deed(f"{CONFIG} is deleted and made anew with the same version; a member joins")
        made = self._witness.replace_config()
        self._witness.join("dan")
        made.append(Change("children.changed", MEMBERS, added=("dan",), removed=("ada",), after_gap=True))
        self._screen.deed("thaw the link")
        healed = _now()
        self._proxy.blackhole = False
        completed = self._record.first(RecoveryCompleted, since)
        self._judge_recovery("act 3", old, since, completed.at, healed)
        self._judge(f"act 3: {len(made)} changes reported once", reported_once(self._since(since), made))

    def _epilogue(self) -> None:
        self._begin("epilogue", "are the watches still armed?")
        since = self._mark()
        made = self._witness.set_config(b"the end", after_gap=False)
        self._witness.join("eve")
        made.append(Change("children.changed", MEMBERS, added=("eve",)))
        self._record.count(ZnodeEvent, len(made), since)
        standing = self._zk.session.session_id
        owned = self._witness.ephemerals()
        self._zk.close()
        self._record.first(SessionClosed, since)
        # Events of one path come in order: a second report of an earlier change would
        # stand before the last ones.
        self._judge("watches still armed, nothing reported twice", reported_once(self._since(since), made))
        self._judge(f"all ephemerals under {hex_id(standing)}", back_under(standing, owned, WORKERS))
        left = self._witness.ephemerals()
        self._judge("closing removed them", f"still there: {', '.join(left)}" if left else "")
        self._judge("events in their promised order", in_order(self._record.events))

    def _begin(self, act: str, title: str) -> None:
        self.act = act
        self._screen.heading(f"{act.capitalize()}: {title}")

    def _judge_recovery(self, act: str, old: int, since: int, ended: datetime, began: datetime) -> None:
        now, owned = self._zk.session.session_id, self._witness.ephemerals()
        problem = back_under(now, owned, WORKERS)
        if now == old:
            problem = f"the session is still {hex_id(old)}; {problem}"
        took = (ended - began).total_seconds()
        self._judge(f"{act}: every ephemeral back under the new session", problem, took)
        self._judge(f"{act}: recovery told in order", recovered_in_order(self._since(since), WORKERS))

    def _judge(self, claim: str, problem: str, took: float | None = None) -> None:
        self.checks.append(Check(claim, problem.removesuffix("; "), took))

    def _mark(self) -> int:
        return len(self._record.events)

    def _since(self, position: int) -> list[BaseEvent]:
        return self._record.events[position:]


def _now() -> datetime:
    return datetime.now(UTC)
