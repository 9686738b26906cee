"""The world around one kernel: deterministic, without threads.

``World`` is the other side of a kernel's effects: a ``FakeZooKeeper`` behind a link that
can be cut at any request, a clock that moves only when told, and everything that was
told, sent and answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

from coordinator.core.intent import Intent, Outcome
from coordinator.core.kernel import Kernel
from coordinator.core.messages import (
    AwaitSession,
    Close,
    Emit,
    Fired,
    Message,
    Moment,
    NotSent,
    Rebuild,
    Refresh,
    Renew,
    Replied,
    Send,
    Settle,
    StopClient,
    Submit,
    Unwant,
    Want,
)
from coordinator.core.requests import (
    Create,
    Flow,
    Request,
    Standing,
)
from coordinator.core.session import AuthFailed, Closing, GaveUp, LinkDown, LinkUp, Tick
from coordinator.errors import (
    ConnectionLossError,
    CoordinatorError,
)
from coordinator.events import BaseEvent
from coordinator.models import Stat
from coordinator.testing.memory import FakeZooKeeper

AT = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = "zk1:2181"


# -- one flow against it

LOST = object()
"""The link broke; the flow was dropped."""


def run(
    flow: Flow[Any],
    zookeeper: FakeZooKeeper,
    session: int,
    *,
    lose_at: int = -1,
    applied: bool = False,
    before: dict[int, Any] | None = None,
) -> Any:
    """Run a flow to its end; or lose its nth request, after it was applied or before.

    ``before``: what others do right before the nth request arrives.
    """
    value: Any = None
    error: CoordinatorError | None = None
    for number in count():
        try:
            request = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as end:
            return end.value
        if before and number in before:
            before[number]()
        if number == lose_at and not applied:
            flow.close()
            return LOST
        value, error = None, None
        try:
            value = zookeeper.execute(request, session)
        except CoordinatorError as refused:
            error = refused
        if number == lose_at:
            flow.close()
            return LOST
    raise AssertionError


def standing(session: int, **given: Any) -> Standing:
    """Return the standing of a session in its first epoch."""
    return Standing(session_id=session, epoch=1, **given)


def kinds(outcome: Outcome) -> list[str]:
    """Return the kinds of the events of an outcome."""
    return [one.event.model_fields["kind"].default for one in outcome.drafts]


# -- one kernel against it


class World:
    """A kernel, the link to a ZooKeeper, and a clock."""

    def __init__(self, *, timeout: float = 10.0, tick: float | None = None, shared: bool = False) -> None:
        self.zookeeper = FakeZooKeeper()
        self.shared = shared
        self.kernel = Kernel(session_timeout=timeout, tick=tick, shared=shared)
        self.timeout = timeout
        self.now = 1000.0
        self.jitter = 0.5
        self.session_id = 0
        self.linked = False
        self.read_only = False
        self.auto_close = True
        self.wire: deque[tuple[int, Request[Any]]] = deque()
        """Requests sent on the present link and not answered."""
        self._left: dict[int, float] = {}
        """When those were sent."""
        self.sent: list[Request[Any]] = []
        self.sent_at: list[float] = []
        self.events: list[BaseEvent] = []
        self.answers: dict[Any, tuple[object, BaseException | None]] = {}
        self.refreshed: list[int] = []
        self.rebuilt_at: list[float] = []
        self.stops: list[str] = []
        self._inbox: deque[Message] = deque()
        self._tokens = count(1)

    # -- messages and effects

    def say(self, message: Message) -> None:
        """Hand a message to the kernel, and do what it says."""
        self._inbox.append(message)
        while self._inbox:
            for effect in self.kernel.handle(self._inbox.popleft(), Moment(self.now, AT, self.jitter)):
                self._perform(effect)

    def _perform(self, effect: object) -> None:
        match effect:
            case Emit(event=event):
                self.events.append(event)
            case Send(request_id=request_id, request=request):
                if self.linked:
                    self.sent.append(request)
                    self.sent_at.append(self.now)
                    self.wire.append((request_id, request))
                    self._left[request_id] = self.now
                else:
                    self._inbox.append(NotSent(request_id))
            case Settle(waiter=waiter, value=value, error=error):
                assert waiter not in self.answers, f"{waiter} was answered twice"
                self.answers[waiter] = (value, error)
            case Refresh(token=token):
                self.refreshed.append(token)
            case Rebuild():
                self.rebuilt_at.append(self.now)
            case StopClient(reason=reason):
                self.stops.append(reason)
                if self.auto_close and reason in ("requested", "gave_up"):
                    self.linked &= self.shared
                    self.wire.clear()
                    left = self.shared
                    self._inbox.append(Closing(left) if reason == "requested" else GaveUp(left))
            case _:
                raise AssertionError(effect)

    # -- the link

    def up(self, *, read_only: bool = False, settle: bool = True) -> None:
        """Make a link, on the present session if it lives, else on a new one."""
        if self.session_id not in self.zookeeper.sessions:
            self.session_id = self.zookeeper.open()
        self.linked, self.read_only = True, read_only
        self.wire.clear()
        self.say(LinkUp(self.session_id, self.timeout, SERVER, read_only, self.now))
        if settle:
            self.settle()

    def cut(self, *, applied: int = 0, replies: bool = False) -> None:
        """Break the link; the first so many requests on the wire are carried out all the same.

        ``replies``: each request is told to be lost before the link is, as kazoo does it.
        """
        wire = list(self.wire)
        self.wire.clear()
        self.linked = False
        for _, request in wire[:applied]:
            try:
                self.zookeeper.execute(request, self.session_id, read_only=self.read_only)
            except CoordinatorError:
                continue
        self.zookeeper.unlink(self.session_id)
        for request_id, _ in wire if replies else ():
            self.say(Replied(request_id, None, ConnectionLossError("lost"), 0, self.now))
        self.say(LinkDown(self.now))

    def expire(self) -> None:
        """Break the link, and let the session end on the server."""
        if self.linked:
            self.cut()
        self.zookeeper.expire(self.session_id)

    def reply(self) -> Request[Any]:
        """Answer the request that was sent first."""
        request_id, request = self.wire.popleft()
        value: Any = None
        error: CoordinatorError | None = None
        try:
            value = self.zookeeper.execute(request, self.session_id, read_only=self.read_only)
        except CoordinatorError as refused:
            error = refused
        zxid = self.zookeeper.zxid
        self.fire()  # a server tells of the watch before it answers the write that fired it
        self.say(Replied(request_id, value, error, zxid, self._left.pop(request_id)))
        return request

    def fire(self) -> None:
        """Deliver the watches that have fired."""
        while self.zookeeper.fired:
            session, token, deleted = self.zookeeper.fired.popleft()
            if self.linked and session == self.session_id:
                self.say(Fired(token, deleted))

    def settle(self) -> None:
        """Deliver everything, until nothing is under way."""
        self.fire()
        while self.wire:
            self.reply()
            self.fire()

    def advance(self, seconds: float, *, alive: bool = True) -> None:
        """Let time pass, and wake the kernel when it asked for that."""
        end = self.now + seconds
        while (due := self.kernel.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            contact = self.now if alive and self.linked else 0.0
            self.say(Tick(contact))
            if alive and self.linked:
                self.settle()
        self.now = end

    def tick(self, contact: float = 0.0) -> None:
        """Say that time has passed."""
        self.say(Tick(contact))

    # -- what callers do

    def token(self) -> int:
        """Return a token for an intent."""
        return next(self._tokens)

    def submit(self, operation: Any, waiter: str, *, timeout: float = 10.0) -> None:
        """Run an operation."""
        self.say(Submit(operation, waiter, self.now + timeout, timeout, waiter))

    def want(self, intent: Intent, waiter: str | None = None, *, timeout: float = 10.0) -> None:
        """Keep an intent."""
        self.say(Want(intent, f"keep {intent.path}", self.now + timeout, timeout, waiter))

    def unwant(self, intent: Intent, waiter: str | None = None, *, timeout: float = 10.0) -> None:
        """Withdraw an intent."""
        self.say(Unwant(intent.token, f"close {intent.path}", self.now + timeout, timeout, waiter))

    def renew(self, intent: Intent, data: bytes, waiter: str, *, timeout: float = 10.0) -> None:
        """Give an ephemeral other data."""
        self.say(Renew(intent.token, data, f"set {intent.path}", self.now + timeout, timeout, waiter))

    def await_session(self, waiter: str, *, timeout: float = 10.0) -> None:
        """Wait for a session."""
        self.say(AwaitSession("zk1:2181", self.now + timeout, timeout, waiter))

    def close(self, waiter: str = "close", reason: Any = "requested") -> None:
        """End it all."""
        self.say(Close(reason, waiter))

    def auth_failed(self) -> None:
        """A server refuses the credentials."""
        self.linked = False
        self.say(AuthFailed())

    # -- what others do

    def others(self, request: Request[Any]) -> None:
        """Have another client do something; an error of it is its own."""
        try:
            self.zookeeper.execute(request, 0)
        except CoordinatorError:
            return

    def foreign_ephemeral(self, path: str, data: bytes = b"") -> int:
        """Have another session create an ephemeral, and return that session."""
        session = self.zookeeper.open()
        self.zookeeper.execute(Create(path, data, ephemeral=True), session)
        return session

    # -- what came of it

    def error(self, waiter: str) -> Any:
        """Return the error that a waiter was answered with."""
        return self.answers[waiter][1]

    def value(self, waiter: str) -> Any:
        """Return what a waiter was answered with."""
        value, error = self.answers[waiter]
        if error is not None:
            raise error
        return value

    def kinds(self, *prefixes: str) -> list[str]:
        """Return the kinds of the events told, those that begin so."""
        return [event.kind for event in self.events if event.kind.startswith(prefixes or "")]

    def of(self, *classes: type[BaseEvent]) -> Iterator[Any]:
        """Return the events of these classes."""
        return (event for event in self.events if isinstance(event, classes))

    def requests(self, kind: type[Request[Any]]) -> list[Any]:
        """Return what was sent of that kind."""
        return [request for request in self.sent if type(request) is kind]

    def stat(self, path: str) -> Stat:
        """Return the stat of a znode that is there."""
        stat = self.zookeeper.stat(path)
        assert stat is not None
        return stat


__all__ = [
    "AT",
    "LOST",
    "FakeZooKeeper",
    "World",
    "kinds",
    "run",
    "standing",
]
