"""One kernel among others on an ensemble, and what must hold for it after every message.

A ``Member`` is the other side of a kernel's effects, with a clock of its own. It does not
know how the kernel works; it knows the books, what it has sent and what it was told, and
fails as soon as these do not go together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

from copies import Copies
from network import Books, Link, Sent, Server, parts
from places import QUEUE, Places

from coordinator.core.kernel import Kernel
from coordinator.core.messages import (
    AwaitSession,
    ClientEnded,
    Close,
    Effect,
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
from coordinator.core.operations import Operation
from coordinator.core.presence import Presence
from coordinator.core.requests import ANY_VERSION, Children, Delete, Exists, Get, Set, Sync
from coordinator.core.session import AuthFailed, Closing, Expired, LinkDown, LinkUp, Tick
from coordinator.errors import ConnectionLossError, OperationTimeoutError
from coordinator.events import (
    BaseEvent,
    EphemeralConflict,
    EphemeralCreated,
    EphemeralFailed,
    EphemeralRecreated,
    RecoveryCompleted,
    RecoveryStarted,
    SessionEstablished,
    SessionExpired,
    SessionResumed,
)
from coordinator.models import Phase, Stat

AT = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT = 10.0
"""Of every session, and of every call; seconds."""
CALLS = "/calls"
"""Where operations of callers write, each a znode of its own."""
LEAST_DELAY = 0.05
"""Seconds between two attempts of an intent that nothing triggers: the least backoff."""
BURST = 60
"""Requests about one path within that time, if nobody gives cause for more; a run of a
contested ephemeral takes up to 24, and two views may read beside it."""


class Member:
    """A kernel, its clock and its link to one of the servers."""

    def __init__(self, name: str, books: Books, *, tick: float | None = None) -> None:
        self.name = name
        self.books = books
        self.kernel = Kernel(session_timeout=TIMEOUT, tick=tick)
        self.now = 1000.0
        self.jitter = 0.5
        self.link: Link | None = None
        """The one that the kernel knows of; it may be broken already."""
        self.session_id = 0
        """The session that is resumed on the next link."""
        self.sessions: set[int] = set()
        """All that were ever opened for it."""
        self.contact = 0.0
        """Send time of what was answered last, pings included."""
        self.kept: dict[str, Presence] = {}
        self.waiting: dict[str, float] = {}
        """Deadlines of those who were not answered yet."""
        self.answers: dict[str, BaseException | None] = {}
        self.never: set[str] = set()
        """Paths of creates that were said to be certainly not done."""
        self.done: set[str] = set()
        """Paths of creates that were said to be done."""
        self.events: list[BaseEvent] = []
        self.stragglers: list[tuple[Server, int, Sent]] = []
        """Requests that were on their way when their link broke."""
        self.stopped = False
        """Its client was told to stop."""
        self.ended = False
        """Its client has ended by itself, and makes no link until it is replaced."""
        self.copies = Copies(self)
        self.places = Places(self)
        self._firsts: dict[str, Presence] = {}
        self._renewals: dict[str, tuple[str, bytes]] = {}
        self._inbox: deque[Message] = deque()
        self._numbers = count(1)
        self._seen = 0
        self._looks: dict[str, Stat | None] = {}
        self._unknown: set[str] = set()
        """Paths of writes of callers that were sent, and nothing has told what became of them."""
        self._burst: dict[str, tuple[float, int]] = {}
        self._established: list[int] = []
        self._recovering: set[str] = set()
        """Paths of ephemerals that come first in the present recovery."""
        start = self.waiter("start")
        self.say(AwaitSession("zk1:2181", self.now + TIMEOUT, TIMEOUT, start))

    # -- messages and effects

    def say(self, message: Message) -> None:
        """Hand a message to the kernel, do what it says, and look whether all is well."""
        self._inbox.append(message)
        if not isinstance(message, Tick | Replied | NotSent):
            self._burst.clear()  # somebody gives cause for requests
        while self._inbox:
            message = self._inbox.popleft()
            for effect in self.kernel.handle(message, Moment(self.now, AT, self.jitter)):
                self._perform(effect)
            self._check(message)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Emit(event=event):
                self._told(event)
            case Send():
                self._send(effect)
            case Settle(waiter=waiter, error=error):
                self._settled(str(waiter), error)
            case Refresh(token=token):
                self._refreshed(token)
            case Rebuild():
                self.ended = False
                if self.link is not None:  # it came at the same time; it goes with its client
                    self.link.close()
            case StopClient():
                self.stopped = True
                if self.link is not None:
                    if self.link.open:
                        self.books.expire(self.link.session_id)
                    self.link.close()
                    self.link = None
                self._inbox.append(Closing())
            case _:
                raise AssertionError(effect)

    def _check(self, message: Message) -> None:
        session = self.kernel.session
        if session.phase is Phase.CONNECTED and not self.stopped:
            assert self.link is not None, "connected without a link"
            assert session.session_id == self.link.session_id, "believes in a session that it has not"
            assert self.link.answers, "connected on a link on which nothing was answered"
        assert session.contact <= self.contact, "believes in an answer that was not given"
        if isinstance(message, Tick):
            assert session.lapses_at is None or session.lapses_at > self.now, "the lapse was missed"
        late = [waiter for waiter, deadline in self.waiting.items() if deadline <= self.now]
        assert not late, f"not answered in time: {late}"
        for path, intent in self.kept.items():
            assert intent.owner in (0, session.session_id), f"{path}: shown as present under another session"
            if intent.present:
                owner = self.books.owners.get((path, intent.czxid))
                assert owner == intent.owner, f"{path}: shown as ours, and is of {owner}"
        self.places.check()

    # -- what is sent

    def _send(self, effect: Send) -> None:
        link, request = self.link, effect.request
        if link is None or not link.open or effect.link != link.number:
            self._inbox.append(NotSent(effect.request_id))
            return
        if not link.answers:
            assert isinstance(request, Sync), f"{request} before the link has proved itself"
        if request.path.startswith(CALLS + "/"):
            deadline = self.waiting.get(request.path)
            assert deadline is not None, f"{request} is sent, though its caller was answered"
            assert deadline > self.now, f"{request} is sent after its deadline"
            self._unknown |= {request.path} if request.writes else set()
        if isinstance(request, Get | Children) and request.watch in self.copies.recovering:
            assert not self._recovering, f"{request} before {self._recovering}: ephemerals come first"
        self.places.check_sent(request, too_early=bool(self._recovering or self.copies.recovering))
        since, number = self._burst.get(request.path, (self.now, 0))
        if self.now - since >= LEAST_DELAY:
            since, number = self.now, 0
        assert number < BURST, f"{request}: a hot loop"
        self._burst[request.path] = (since, number + 1)
        link.ask(Sent(effect.request_id, request, self.now, self._looks.get(request.path)))

    def _look_before(self, session_id: int, sent: Sent) -> None:
        """See that a write does no harm to what others own, unless nobody could have known.

        ZooKeeper has no condition on the owner: a write is bound to the version that was
        seen. Only what came in the place after that look, with the same version, may suffer.
        """
        if session_id in self.books.sessions:
            self.places.check_served(session_id, sent.request)
        for one in parts(sent.request):
            node = self.books.now.nodes.get(one.path)
            if node is None or not isinstance(one, Set | Delete):
                continue
            if one.path.startswith(QUEUE):  # named by an attempt, and nobody else's
                continue
            assert one.version != ANY_VERSION, f"{one}: not bound to what was seen"
            if node.owner in self.sessions:
                continue
            if session_id not in self.books.sessions or one.version != node.version:
                continue
            look = sent.look
            assert look is not None, f"{one} of a znode of {node.owner} that was not looked at"
            assert look.ephemeral_owner in self.sessions, f"{one} of a znode of {node.owner}"
            assert look.version == one.version, f"{one} was not bound to what was seen"

    # -- the link

    def relink(self, server: Server, *, confirm: bool = False, keep: bool = True) -> None:
        """Make a link: on the present session if it lives and is kept, else on a new one.

        ``confirm``: a server says first that the session is gone.
        """
        if not keep or self.session_id not in self.books.sessions:
            if confirm and self.session_id and self.session_id not in self.books.sessions:
                self.say(Expired())
            self.session_id = self.books.open()
            self.sessions.add(self.session_id)
            self._seen = 0
        # A session that moves leaves what was under way behind; a server refuses it.
        self.stragglers = [one for one in self.stragglers if one[1] != self.session_id]
        self.link = Link(next(self._numbers), server, self.session_id)
        server.accept(self.link, self._seen)
        self._looks.clear()
        self.contact = max(self.contact, self.now)
        self.say(LinkUp(self.session_id, TIMEOUT, "zk1:2181", False, self.now, self.link.number))

    def serve(self) -> bool:
        """Have the server do what came first; False if there is nothing to do."""
        link = self.link
        if link is None or not link.up:
            return False
        self._look_before(link.session_id, link.up[0])
        link.serve()
        return True

    def deliver(self) -> bool:
        """Take what comes down first; False if there is nothing."""
        if self.link is None or not self.link.down:
            return False
        self.take(self.link.down.popleft())
        return True

    def take(self, message: Fired | Replied) -> None:
        """Take what has come down."""
        request = None
        if isinstance(message, Replied) and self.link is not None:
            self.link.answers += 1
            self._seen = max(self._seen, message.zxid)
            self.contact = max(self.contact, message.contact)
            request = self.link.asked.pop(message.request_id)
            if isinstance(request, Exists) and message.error is None:
                self._looks[request.path] = message.value  # type: ignore[assignment]
        self.say(message)
        if request is not None:
            self._unknown.discard(request.path)  # what was due before it came could not know of it

    def lose(self, *, served: int = 0, replies: bool = False, told: bool = True) -> None:
        """Break the link; the server has still done the first so many requests.

        ``replies``: each request is told to be lost before the link is, as kazoo does it.
        ``told``: otherwise what is sent comes back as not sent, until ``down`` is told.
        """
        link = self.link
        if link is None:
            return
        wire = list(link.up)
        for _ in range(served):
            self.serve()
        self.stragglers += [(link.server, link.session_id, sent) for sent in link.up if sent.request.writes]
        link.close()
        for sent in wire if replies else ():
            loss = ConnectionLossError("lost")
            self.say(Replied(sent.request_id, None, loss, 0, self.contact))
        if told:
            self.down()

    def lose_the_answer(self, server: Server) -> None:
        """Have everything done that was sent, lose the answer to the last of it, and come back."""
        if self.link is not None:
            for _ in range(len(self.link.up) - 1):
                self.serve()
            self.lose(served=1)
        if self.linkable:
            self.relink(server)

    def down(self) -> None:
        """Tell of a link that is broken."""
        if self.link is not None and not self.link.open:
            self.link = None
            self.say(LinkDown(self.contact))

    def end_client(self) -> None:
        """Have kazoo's thread end by itself, and its link with it."""
        if self.link is not None:
            self.link.close()
            self.link = None
        self.ended = True
        self.say(ClientEnded(self.contact))

    @property
    def linkable(self) -> bool:
        """Whether its client looks for a link."""
        return not self.ended and (self.link is None or not self.link.open)

    def straggle(self) -> None:
        """Have a server do late what came before its link broke."""
        if self.stragglers:
            server, session_id, sent = self.stragglers.pop(0)
            self._look_before(session_id, sent)
            late = Link(0, server, session_id)
            late.up.append(sent)
            late.serve()

    def advance(self, seconds: float, *, alive: bool = True) -> None:
        """Let time pass here, and wake the kernel when it asked for that."""
        end = self.now + seconds
        while (due := self.kernel.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.tick(alive=alive)
        self.now = end

    def tick(self, *, alive: bool = True) -> None:
        """Say that time has passed; ``alive``: the server answers pings."""
        if alive and self.link is not None and self.link.open:
            self.contact = self.now
        self.say(Tick(self.contact if self.link is not None else 0.0))

    # -- what its users do

    def waiter(self, what: str, timeout: float = TIMEOUT) -> str:
        """Return somebody who waits for that until then."""
        waiter = f"{what} {next(self._numbers)}"
        self.waiting[waiter] = self.now + timeout
        return waiter

    def token(self) -> int:
        """Return a token for an intent."""
        return next(self._numbers)

    def want(self, path: str, *, on_conflict: Any = "wait", waits: bool = False) -> None:
        """Keep an ephemeral; ``waits``: the caller waits for the first outcome."""
        intent = self.kept[path] = Presence(
            next(self._numbers), path, self.name.encode(), on_conflict=on_conflict
        )
        waiter = self.waiter(f"keep {path}") if waits else None
        if waiter is not None:
            self._firsts[waiter] = intent
        self.say(Want(intent, f"keep {path}", self.now + TIMEOUT, TIMEOUT, waiter))

    def unwant(self, path: str) -> None:
        """Withdraw an ephemeral."""
        intent = self.kept.pop(path)
        self._recovering.discard(path)
        waiter = self.waiter(f"close {path}")
        self.say(Unwant(intent.token, waiter, self.now + TIMEOUT, TIMEOUT, waiter))

    def renew(self, path: str) -> None:
        """Give an ephemeral other data."""
        waiter = self.waiter(f"set {path}")
        data = f"{self.name} {waiter}".encode()
        self._renewals[waiter] = (path, data)
        token = self.kept[path].token
        self.say(Renew(token, data, waiter, self.now + TIMEOUT, TIMEOUT, waiter))

    def call(self, make: Callable[[str], Operation[Any]]) -> None:
        """Submit an operation that creates a znode of its own."""
        path = f"{CALLS}/{self.name}-{next(self._numbers)}"
        self.waiting[path] = self.now + TIMEOUT
        self.say(Submit(make(path), path, self.now + TIMEOUT, TIMEOUT, path))

    def close(self) -> None:
        """End it."""
        self.say(Close("requested", self.waiter("close")))

    def refuse(self) -> None:
        """Have a server refuse its credentials, for good."""
        self.say(AuthFailed())

    # -- what it is told

    def _settled(self, waiter: str, error: BaseException | None) -> None:
        assert waiter not in self.answers, f"{waiter} was answered twice"
        deadline = self.waiting.pop(waiter)
        self.answers[waiter] = error
        if isinstance(error, OperationTimeoutError):
            assert self.now >= deadline, f"{waiter}: too late, and it is not"
        if waiter.startswith(CALLS):
            certain = isinstance(error, ConnectionLossError | OperationTimeoutError) and not error.ambiguous
            assert not certain or waiter not in self._unknown, f"{waiter}: sent, and said to be not done"
            (self.done if error is None else self.never if certain else set()).add(waiter)
        elif waiter in self._firsts and error is not None:
            intent = self._firsts[waiter]
            if self.kept.get(intent.path) is intent:
                del self.kept[intent.path]
                self._recovering.discard(intent.path)
        elif waiter in self._renewals and error is None:
            path = self._renewals[waiter][0]
            later = list(self._renewals).index(waiter)  # what was asked for since then may come instead
            data = {one for where, one in list(self._renewals.values())[later:] if where == path}
            wrote = any((session, path, one) in self.books.wrote for session in self.sessions for one in data)
            assert wrote, f"{waiter}: said to be written, and was not"
        elif waiter.startswith("close /") and error is None:
            node = self.books.now.nodes.get(waiter.split()[1])
            ours = node is not None and node.owner and node.owner == self.kernel.session.session_id
            assert not ours, f"{waiter}: it stands"
        self.copies.settled(waiter, error)
        self.places.settled(waiter, error)

    def _refreshed(self, token: int) -> None:
        self.copies.refreshed(token)
        self._recovering -= {path for path, intent in self.kept.items() if intent.token == token}

    def _told(self, event: BaseEvent) -> None:
        assert not self.events or event.seq == self.events[-1].seq + 1
        self.events.append(event)
        self.copies.told(event)
        self.places.told(event)
        match event:
            case SessionEstablished(session_id=session_id):
                self._proved(event)
                assert self.link is not None
                assert session_id == self.link.session_id
                assert session_id not in self._established, "established twice"
                self._established.append(session_id)
                assert event.epoch == len(self._established)
            case SessionResumed(session_id=session_id):
                self._proved(event)
                assert session_id == self._established[-1]
            case SessionExpired(session_id=session_id):
                assert session_id == self._established[-1]
                self._recovering.clear()
            case RecoveryStarted():
                self._recovering = set(event.ephemeral_paths)
            case RecoveryCompleted():
                assert not self._recovering, f"completed without {self._recovering}"
            case EphemeralCreated() | EphemeralRecreated():
                owner = self.books.owners.get((event.path, event.czxid))
                assert owner == event.session_id, f"{event}: it is of {owner}"
            case EphemeralConflict():
                owner = self.books.owners.get((event.path, event.czxid))
                assert owner == event.owner_session_id != event.session_id, f"{event}: it is of {owner}"
            case EphemeralFailed(next_try_in=float(delay)):
                assert delay >= LEAST_DELAY, f"{event}: tried again too soon"

    def _proved(self, event: BaseEvent) -> None:
        assert self.link is not None, f"{event} without a link"
        assert self.link.answers, f"{event} before anything was answered on the link"
