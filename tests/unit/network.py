"""An ensemble whose servers lag, and links on which everything may be lost: without threads.

``Books`` is the leader: each write becomes an entry of its log, and it remembers every
znode that ever was. A ``Server`` follows that log, more or less far behind. What it has
not applied yet it does not show, and tells no watch of; a write or a sync makes it catch
up. A ``Link`` has one queue up and one down, each in its order::

    member --- up: requests ---> Server --- log ---> Books
       ^                           |
       +---- down: watches, replies, in the order in which the server came to them
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from coordinator.core.messages import Fired, Replied
from coordinator.core.requests import Create, Delete, Multi, Request, Set, Sync
from coordinator.errors import CoordinatorError
from coordinator.models import Stat
from coordinator.testing.memory import FakeZooKeeper

Entry = Callable[[FakeZooKeeper], object]


class SessionGoneError(Exception):
    """The server knows no such session, and closes the link."""


def parts(request: Request[Any]) -> tuple[Request[Any], ...]:
    """Return what a request does: itself, or the operations of a Multi."""
    return request.operations if isinstance(request, Multi) else (request,)


class Books:
    """What truly is: the leader's state, its log, and every znode that ever was."""

    def __init__(self) -> None:
        self.now = FakeZooKeeper()
        self.log: list[Entry] = []
        self.owners: dict[tuple[str, int], int] = {}
        """The owner of each znode that ever was, by path and czxid."""
        self.wrote: set[tuple[int, str, bytes]] = set()
        """Session, path and data of every write."""
        self.held: list[int] = []
        """The tokens of the leases that were granted, in that order."""
        self.ended_outside: set[int] = set()
        """Those whose seat or session somebody else has ended: that comes without warning."""

    def enter(self, entry: Entry) -> Any:
        """Carry it out here, and sooner or later on every server."""
        self.log.append(entry)  # also what fails: a server gives it a number, too
        try:
            return entry(self.now)
        finally:
            for path, node in self.now.nodes.items():
                self.owners[path, node.czxid] = node.owner

    @property
    def sessions(self) -> set[int]:
        """The sessions that live."""
        return set(self.now.sessions)

    def execute(self, request: Request[Any], session: int = 0) -> Any:
        """Carry a write out."""
        result = self.enter(lambda zookeeper: zookeeper.execute(request, session))
        for one in parts(request):
            if isinstance(one, Create | Set):
                self.wrote.add((session, one.path, one.data))
        return result

    def others(self, request: Request[Any], session: int = 0) -> None:
        """Have a client that is none of ours write; an error of it is its own."""
        node = self.now.nodes.get(request.path)
        if isinstance(request, Delete) and node is not None:
            self.ended_outside.add(node.czxid)
        try:
            self.execute(request, session)
        except CoordinatorError:
            return

    def open(self) -> int:
        """Begin a session."""
        return self.enter(lambda zookeeper: zookeeper.open())

    def expire(self, session: int, *, outside: bool = True) -> None:
        """End a session, its ephemerals with it; ``outside``: somebody closes it without need."""
        if session in self.sessions:
            if outside:
                self.ended_outside |= {self.now.nodes[path].czxid for path in self.now.owned(session)}
            self.enter(lambda zookeeper: zookeeper.expire(session))


@dataclass
class Sent:
    """A request on its way to the server."""

    request_id: int
    request: Request[Any]
    at: float
    """When it was sent, by its sender's clock."""
    look: Stat | None
    """What its sender had last been told of the znode."""


@dataclass(eq=False)
class Link:
    """A connection of one session to one server."""

    number: int
    server: Server
    session_id: int
    up: deque[Sent] = field(default_factory=deque)
    down: deque[Fired | Replied] = field(default_factory=deque)
    open: bool = True
    asked: dict[int, Request[Any]] = field(default_factory=dict)
    """What was sent and not answered."""
    answers: int = 0
    """How many replies the client has got on it."""

    def ask(self, sent: Sent) -> None:
        """Send a request."""
        self.up.append(sent)
        self.asked[sent.request_id] = sent.request

    def serve(self) -> None:
        """Have the server do the request that came first."""
        sent, error, value = self.up.popleft(), None, None
        try:
            value = self.server.execute(sent.request, self.session_id)
        except SessionGoneError:
            self.close()
        except CoordinatorError as refused:
            error = refused
        if self.open:
            self.tell(Replied(sent.request_id, value, error, self.server.replica.zxid, sent.at))

    def tell(self, message: Fired | Replied) -> None:
        """Send something down."""
        self.down.append(message)

    def close(self) -> None:
        """Lose what is under way, be it that the client or the server ends it."""
        self.open = False
        self.up.clear()
        self.down.clear()
        self.server.leave(self)


class Server:
    """One server: it has applied the log up to some entry, and answers from that."""

    def __init__(self, books: Books) -> None:
        self.replica = FakeZooKeeper()
        self._books = books
        self._applied = 0
        self._links: dict[int, Link] = {}

    def accept(self, link: Link, seen: int) -> None:
        """Take a link; its client has seen that transaction, so the server must have, too."""
        while self.replica.zxid < seen:
            self.apply()
        self._links[link.session_id] = link

    def leave(self, link: Link) -> None:
        """Forget a link, and the watches that were set on it."""
        if self._links.get(link.session_id) is link:
            del self._links[link.session_id]
            self.replica.unlink(link.session_id)

    @property
    def lags(self) -> bool:
        """Whether it has not applied everything."""
        return self._applied < len(self._books.log)

    def apply(self) -> None:
        """Apply the next entry of the log: tell of watches, close the links of what expired."""
        entry, self._applied = self._books.log[self._applied], self._applied + 1
        with suppress(CoordinatorError):
            entry(self.replica)
        for session, token, deleted in self._fired():
            if session in self._links:
                self._links[session].tell(Fired(token, deleted))
        for link in list(self._links.values()):
            # An id that is not yet known here was only just begun elsewhere.
            if link.session_id not in self._books.sessions and not self._knows(link.session_id):
                link.close()

    def catch_up(self) -> None:
        """Apply everything."""
        while self.lags:
            self.apply()

    def execute(self, request: Request[Any], session: int) -> Any:
        """Answer a request, as a server does that forwards writes to its leader."""
        if not request.writes and not isinstance(request, Sync):
            return self.replica.execute(request, session)
        self.catch_up()
        if session not in self._books.sessions:
            raise SessionGoneError
        if not request.writes:
            return None
        try:
            return self._books.execute(request, session)
        finally:
            self.catch_up()

    def _knows(self, session: int) -> bool:
        return session in self.replica.sessions

    def _fired(self) -> Iterator[tuple[int, int, str | None]]:
        while self.replica.fired:
            yield self.replica.fired.popleft()
