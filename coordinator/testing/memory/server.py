"""The ensemble as its clients meet it: which link serves which session, and who is told of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from coordinator.core.requests import Request
from coordinator.testing.memory.access import ADDRESS, Identity
from coordinator.testing.memory.link import MemoryLink
from coordinator.testing.memory.turns import Turns
from coordinator.testing.memory.zookeeper import FakeZooKeeper

if TYPE_CHECKING:
    from coordinator.testing.memory.port import MemoryPort

Verdict = Literal["accepted", "expired", "closed"]


class MemoryServer:
    """One ``FakeZooKeeper``, the links to it, and its time. Used under the lock of ``turns``."""

    def __init__(self, turns: Turns, tick: float) -> None:
        self.turns = turns
        self.zookeeper = FakeZooKeeper(tick=tick, wall=turns.wall, furnished=True)
        self.ports: list[MemoryPort] = []
        self.frozen = False
        """It does nothing at all; connections stay open."""
        self.quorum = True
        """Otherwise it only reads, for those who would have that."""

    def join(self, port: MemoryPort) -> None:
        """Serve one client more."""
        self.ports.append(port)
        self.turns.inboxes.append(port.inbox)

    # -- sessions and links

    def attach(
        self,
        link: MemoryLink,
        session_id: int,
        timeout: float,
        identities: tuple[Identity, ...] | None,
        may_read_only: bool,  # noqa: FBT001 -- as it stands in the handshake
    ) -> Verdict:
        """Accept a handshake, or not: for that session, or a new one if it is 0."""
        if not self.quorum and not may_read_only:
            return "closed"
        sessions = self.zookeeper.sessions
        entry = sessions.get(session_id)
        if session_id and (entry is None or entry.read_only == self.quorum):
            return "expired"
        if entry is None:
            session_id = self.zookeeper.open(
                timeout=timeout, now=self.turns.now, identities=identities or (ADDRESS,)
            )
            entry = sessions[session_id]
            entry.read_only = not self.quorum
        entry.link = link  # whatever comes over another one from now on came too late
        self.zookeeper.touch(session_id, self.turns.now)
        link.session_id, link.timeout, link.read_only = session_id, entry.timeout, entry.read_only
        return "accepted"

    def detach(self, link: MemoryLink) -> None:
        """The link has ended, as the server sees it."""
        entry = self.zookeeper.sessions.get(link.session_id)
        if entry is not None and entry.link is link:
            entry.link = None
            self.zookeeper.unlink(link.session_id)

    def forget_watches(self, link: MemoryLink) -> None:
        """Nobody will hear what is watched over that link."""
        entry = self.zookeeper.sessions.get(link.session_id)
        if entry is not None and entry.link is link:
            self.zookeeper.unlink(link.session_id)

    def hears(self, link: MemoryLink) -> bool:
        """Note that a session was heard over a link; False: it has ended, or moved to another link."""
        entry = self.zookeeper.sessions.get(link.session_id)
        if entry is None or entry.link is not link:
            return False
        self.zookeeper.touch(link.session_id, self.turns.now)
        return True

    def execute(self, link: MemoryLink, request: Request[Any]) -> Any:
        """Carry a request out, tell whoever watches, and return the answer."""
        try:
            return self.zookeeper.execute(request, link.session_id, read_only=link.read_only)
        finally:
            self._tell()

    def close_session(self, link: MemoryLink) -> None:
        """A client ends its session."""
        if self.hears(link):
            self.zookeeper.expire(link.session_id)
            self._tell()

    def end(self, session_id: int) -> None:
        """End a session, and close its link."""
        entry = self.zookeeper.sessions.get(session_id)
        self.zookeeper.expire(session_id)
        self._tell()
        self._hang_up(entry.link if entry is not None else None)

    def _hang_up(self, link: object) -> None:
        for port in self.ports:
            if port.link is not None and port.link is link:
                port.ended(port.link)

    # -- time

    def next_expiry(self) -> float | None:
        """Return when the next session ends; never while nobody counts."""
        return None if self.frozen or not self.quorum else self.zookeeper.next_expiry()

    def expire_due(self) -> None:
        """End the sessions that have timed out."""
        if self.next_expiry() is not None:
            for session_id in list(self.zookeeper.sessions):
                if self.zookeeper.expires_at(session_id) <= self.turns.now:
                    self.end(session_id)

    def lose_quorum(self) -> None:
        """Every link ends; from now on it only reads."""
        self.quorum = False
        self._drop_all()

    def regain_quorum(self) -> None:
        """Every link ends, and with it what was read-only; the others begin their time anew."""
        self.quorum = True
        for session_id, entry in list(self.zookeeper.sessions.items()):
            if entry.read_only:
                self.zookeeper.unlink(session_id)
                del self.zookeeper.sessions[session_id]
            else:
                entry.heard_at = self.turns.now
        self._drop_all()

    def _drop_all(self) -> None:
        for port in self.ports:
            port.cut()

    # -- watches

    def _tell(self) -> None:
        fired = self.zookeeper.fired
        while fired:
            session_id, token, deleted = fired.popleft()
            entry = self.zookeeper.sessions.get(session_id)
            for port in self.ports:
                if entry is not None and port.link is not None and port.link is entry.link:
                    port.fire(port.link, token, deleted)
