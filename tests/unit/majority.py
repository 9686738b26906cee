"""An ensemble in time: a leader that expires sessions, followers that lose it, a leader that was deposed.

::

    client --line--> follower --way--> leader ---- commits, if a quorum follows
       ^                |  ^              |   \\___ expires a session T after it heard of it last
       +--- replies ----+  +----- way ----+
            watches         pings, commits, answers

Everything happens at its own true time (``lines.py``). The leader pings its followers every half tick;
their answers report the sessions that they have heard of since; from when such an answer comes in the
leader counts the timeout. A follower that is cut off goes on serving until ``LIMIT``; so does a leader
whose followers have left it, which answers reads and syncs, and no write. Source: Leader.lead,
LearnerHandler.run (PING), Follower.processPacket, LearnerSessionTracker.snapshot, CommitProcessor of
ZooKeeper 3.9; the double ownership that they allow: tests/faults/test_double_ownership.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lines import Accepted, Connect, Deed, Gone, Item, Line, Ping, Refused, Time, Way
from network import Books, Sent, Server

from coordinator.core.messages import Replied
from coordinator.core.requests import Request, Sync
from coordinator.errors import CoordinatorError

LIMIT = 12.0
"""Seconds after which a server gives up a leader, or followers, of which it hears nothing: syncLimit."""
ELECTION = 0.2
"""Seconds that an election takes."""


@dataclass(eq=False)
class Follower:
    """A server that follows, as its leader knows it."""

    to: Way
    back: Way
    heard_at: float

    @property
    def hears(self) -> bool:
        """Whether it can agree to anything."""
        return not self.to.held and not self.back.held


class Peer(Server):
    """A server of the ensemble."""

    def __init__(self, name: str, ensemble: Majority) -> None:
        super().__init__(ensemble.books)
        self.name = name
        self.leader: Peer | None = None
        """Whom it follows; itself, if it leads; None: it looks for one, and serves nobody."""
        self.lines: list[Line] = []
        self.followers: dict[Peer, Follower] = {}
        self.alive_until: dict[int, float] = {}
        """Of a leader: when it will have heard of a session for too long no more."""
        self._ensemble = ensemble
        self._time = ensemble.time
        self._touched: set[int] = set()
        """Of a follower: sessions heard of since the leader was told last."""
        self._heard_at = 0.0
        self._moved: dict[int, Line] = {}
        self._stuck: list[tuple[Peer, Line, Sent | Connect]] = []

    # -- clients

    def receive(self, line: Line, item: Item) -> None:
        """Something came in on a line."""
        if self.leader is None:
            line.close()
            return
        if isinstance(item, Connect):
            if self.replica.zxid < item.seen:
                line.close()
                return
            self.lines.append(line)
        elif line.session_id:
            self._touch(line.session_id)
        line.waiting.append(item)
        self._work(line)

    def _touch(self, session: int) -> None:
        if self.leader is self:
            self.hear_of({session})
        else:
            self._touched.add(session)

    def _work(self, line: Line) -> None:
        while line.waiting and not line.busy and not line.up.closed:
            item = line.waiting.popleft()
            if isinstance(item, Ping):
                line.tell(item)
            elif isinstance(item, Sent) and not item.request.writes and not isinstance(item.request, Sync):
                read = partial(self.replica.execute, item.request, line.session_id)
                self._reply(line, item, *self._carried_out(read))
            else:
                line.busy = True
                self._forward(line, item)

    def _carried_out(self, deed: Callable[[], Any]) -> tuple[Any, CoordinatorError | None]:
        try:
            return deed(), None
        except CoordinatorError as error:
            return None, error

    def _forward(self, line: Line, item: Sent | Connect) -> None:
        leader = self.leader
        if leader is self:
            self.lead(self, line, item)
        elif leader is not None and self in leader.followers:
            leader.followers[self].back.send(lambda: leader.lead(self, line, item))

    def answered(self, line: Line, item: Sent | Connect, value: Any, error: CoordinatorError | None) -> None:
        """The leader has answered what was forwarded."""
        if line.up.closed or line not in self.lines:
            return
        line.busy = False
        if isinstance(value, Gone):
            line.close()
        elif isinstance(item, Sent):
            self._reply(line, item, value, error)
        elif value is None:
            line.tell(Refused())
        else:
            if value in self._links:
                self._links[value].close()  # type: ignore[attr-defined]
            line.session_id = value
            self._links[value] = line  # type: ignore[assignment]
            line.tell(Accepted(value, item.at))
        self._work(line)

    def _reply(self, line: Line, sent: Sent, value: Any, error: CoordinatorError | None) -> None:
        line.tell(Replied(sent.request_id, value, error, self.replica.zxid, sent.at))

    def leave(self, line: Any) -> None:
        if line in self.lines:
            self.lines.remove(line)
        super().leave(line)

    # -- as a leader

    def lead(self, origin: Peer, line: Line, item: Sent | Connect) -> None:
        """Decide about what a client of ``origin`` has asked for."""
        if self.leader is not self:
            return
        if isinstance(item, Sent) and isinstance(item.request, Sync):
            self._answer(origin, line, item, None, None)
        elif isinstance(item, Connect) and item.session_id:
            known = item.session_id in self.alive_until
            if known:
                self.hear_of({item.session_id})
                self._moved[item.session_id] = line
            self._answer(origin, line, item, item.session_id if known else None, None)
        elif not self.has_quorum:
            self._stuck.append((origin, line, item))
            return
        elif isinstance(item, Connect):
            session = self._ensemble.books.open()
            self.alive_until[session] = self._time.now
            self.hear_of({session})
            self._moved[session] = line
            self._commit()
            self._answer(origin, line, item, session, None)
        elif (
            line.session_id not in self.alive_until
            or self._moved.setdefault(line.session_id, line) is not line
        ):
            self._answer(origin, line, item, Gone(), None)
        else:
            self._ensemble.about_to_commit(line.session_id, item.request)
            books = self._ensemble.books
            value, error = self._carried_out(lambda: books.execute(item.request, line.session_id))
            self._commit()
            self._answer(origin, line, item, value, error)
        self._ensemble.passed(origin, line, item)

    def _commit(self) -> None:
        upto = len(self._ensemble.books.log)
        for peer, follower in self.followers.items():
            follower.to.send(lambda peer=peer: peer.apply_to(upto))  # type: ignore[misc]
        self.apply_to(upto)

    def _answer(self, origin: Peer, line: Line, item: Sent | Connect, value: Any, error: Any) -> None:
        if origin is self:
            self.answered(line, item, value, error)
        elif origin in self.followers:
            self.followers[origin].to.send(lambda: origin.answered(line, item, value, error))

    @property
    def has_quorum(self) -> bool:
        """Whether it is the leader, and another server can agree."""
        return self._ensemble.leader is self and any(one.hears for one in self.followers.values())

    def hear_of(self, sessions: set[int]) -> None:
        """Count the timeout of sessions from now on."""
        for session in sessions & self.alive_until.keys():
            waits = self.alive_until[session] <= self._time.now
            self.alive_until[session] = self._time.now + self._ensemble.timeout
            if waits:
                self._time.at(self.alive_until[session], lambda session=session: self._expire(session))  # type: ignore[misc]

    def _expire(self, session: int) -> None:
        if self.leader is not self or session not in self.alive_until:
            return
        if self.alive_until[session] > self._time.now:
            self._time.at(self.alive_until[session], lambda: self._expire(session))
        elif self.has_quorum:
            del self.alive_until[session]
            self._ensemble.books.expire(session, outside=False)
            self._commit()
        else:  # it is tried again when it has one
            self._time.at(self._time.now + self._ensemble.tick, lambda: self._expire(session))

    def ping(self) -> None:
        """Of a leader: ask the followers of which sessions they have heard; give up who does not answer."""
        if self.leader is not self:
            return
        for peer, follower in list(self.followers.items()):
            follower.to.send(peer.pinged)
            if self._time.now - follower.heard_at > LIMIT:
                del self.followers[peer]
        if not self.followers:
            self.look()
        if self.has_quorum:
            stuck, self._stuck = self._stuck, []
            for origin, line, item in stuck:
                self.lead(origin, line, item)

    def take_over(self, others: list[Peer]) -> None:
        """Lead from now on: everybody's time begins anew."""
        self.apply_to(len(self._ensemble.books.log))
        self.leader = self
        self._moved, self._stuck, self.alive_until = {}, [], {}
        for session in self._ensemble.books.sessions:
            self.alive_until[session] = self._time.now
        self.hear_of(set(self.alive_until))
        for peer in others:
            peer.follow(self)

    # -- as a follower

    def follow(self, leader: Peer) -> None:
        """Follow from now on, and see what was done."""
        self.leader = leader
        self._heard_at = self._time.now
        self._touched.clear()
        leader.followers[self] = Follower(Way(self._time), Way(self._time), self._time.now)
        self.apply_to(len(self._ensemble.books.log))

    def pinged(self) -> None:
        """The leader asks of which sessions we have heard."""
        leader = self.leader
        if leader is None or self not in leader.followers:
            return
        self._heard_at = self._time.now
        touched, self._touched = self._touched, set()

        def told() -> None:
            if self in leader.followers:
                leader.followers[self].heard_at = self._time.now
                leader.hear_of(touched)

        leader.followers[self].back.send(told)

    def look_round(self) -> None:
        """Of a follower: give up a leader of which nothing is heard."""
        if self.leader not in (None, self) and self._time.now - self._heard_at > LIMIT:
            self.look()

    def look(self) -> None:
        """Serve nobody, and look for a leader."""
        leader, self.leader = self.leader, None
        if leader is not None and self in leader.followers:
            follower = leader.followers.pop(self) if leader is not self else None
            for way in (follower.to, follower.back) if follower is not None else ():
                way.closed = True
        for follower in self.followers.values():
            follower.to.closed = follower.back.closed = True
        self.followers.clear()
        for line in list(self.lines):
            line.close()
        self._ensemble.looks(self)

    def apply_to(self, upto: int) -> None:
        """Apply the log up to there."""
        while self._applied < upto:
            self.apply()


class Majority:
    """Three servers, of which two are a quorum."""

    def __init__(self, *, tick: float, timeout: float) -> None:
        self.time = Time()
        self.books = Books()
        self.tick = tick
        self.timeout = timeout
        self.peers = [Peer(name, self) for name in ("zk1", "zk2", "zk3")]
        self.leader: Peer | None = None
        """Whom a quorum follows."""
        self.isolated: Peer | None = None
        """Who is cut off from the others."""
        self.ambush: tuple[int, type[Request[Any]], Deed] | None = None
        """What happens as soon as such a request of that session has passed the leader."""
        self.about_to_commit: Callable[[int, Request[Any]], None] = lambda session, request: None
        self._elect()
        self.time.every(tick / 2, self._pulse)

    def _pulse(self) -> None:
        for peer in self.peers:
            peer.ping()
            peer.look_round()

    def passed(self, origin: Peer, line: Line, item: Item) -> None:
        """Something has passed the leader: now is the time for an ambush."""
        if self.ambush is None or not isinstance(item, Sent):
            return
        session, kind, deed = self.ambush
        if line.session_id == session and isinstance(item.request, kind):
            self.ambush = None
            deed()

    # -- elections

    def looks(self, peer: Peer) -> None:
        """A server has no leader any more."""
        if peer is self.leader:
            self.leader = None
        self.time.at(self.time.now + ELECTION, self._elect)

    def _elect(self) -> None:
        looking = [peer for peer in self.peers if peer.leader is None and peer is not self.isolated]
        if self.leader is not None and self.leader is not self.isolated:
            for peer in looking:
                peer.follow(self.leader)
        elif len(looking) > 1:
            self.leader = max(looking, key=lambda peer: peer.replica.zxid)
            self.leader.take_over([peer for peer in looking if peer is not self.leader])

    # -- faults

    def isolate(self, peer: Peer, *, up: bool = True, down: bool = True) -> None:
        """Cut a server off from the others, or one direction only of what is between it and its leader."""
        if self.isolated is not None:
            return
        self.isolated = peer
        for follower in self._between(peer):
            follower.back.held |= up
            follower.to.held |= down

    def depose(self) -> None:
        """Have the followers of the leader leave it, and elect another one; it hears nothing of that."""
        leader = self.leader
        if leader is None or self.isolated is not None:
            return
        self.isolated = leader
        followers = list(leader.followers)
        for follower in leader.followers.values():
            follower.back.held = follower.to.held = True
        for peer in followers:
            follower = leader.followers[peer]
            peer.look()
            leader.followers[peer] = follower  # as it still believes
        self.leader = None

    def slow_down(self, peer: Peer, *, back: float, to: float) -> None:
        """Have what is between a follower and its leader take that many seconds."""
        for follower in self._between(peer):
            follower.back.delay, follower.to.delay = back, to

    def heal(self) -> None:
        """Have every server reach every other one, quickly."""
        for peer in self.peers:
            for follower in list(peer.followers.values()):
                follower.to.release()
                follower.back.release()
        isolated, self.isolated = self.isolated, None
        if isolated is not None and isolated.leader is isolated and self.leader is not isolated:
            isolated.look()  # another one was elected, or is about to be
        self._elect()

    def _between(self, peer: Peer) -> list[Follower]:
        leader = peer.leader
        if leader is None:
            return []
        if leader is peer:
            return list(peer.followers.values())
        return [leader.followers[peer]] if peer in leader.followers else []
