"""The way from one engine into an ensemble in memory: links, and what breaks them.

::

    engine --send--> [lost?] --> [held: black hole up] --> server executes
    engine <-inbox-- [lost?] <-- [held: black hole down] <-- answer, watches, pings

It does to its link what kazoo's client and our handler do to theirs: pings, gives up a link that
owes an answer for too long, pauses with backoff between attempts. All of it happens under the lock of
the ensemble's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from coordinator.core.messages import Fired, HostsChanged, Message, Replied
from coordinator.core.requests import Request
from coordinator.core.session import AttemptFailed, AuthFailed, Beat, Expired, LinkDown, LinkUp, RoundRefused
from coordinator.engine.frames import REFUSALS
from coordinator.engine.rounds import Backoff, Passes, server_name
from coordinator.errors import ConfigurationError, CoordinatorError
from coordinator.settings import Settings, join_hosts
from coordinator.testing.memory.access import ADDRESS, Identity, identity
from coordinator.testing.memory.chroot import rooted, unrooted, unrooted_error, unrooted_path
from coordinator.testing.memory.link import Faults, MemoryLink
from coordinator.testing.memory.turns import TurnClock, TurnInbox

if TYPE_CHECKING:
    from coordinator.testing.memory.server import MemoryServer

PINGS = 3
"""Pings per session timeout. Source: kazoo 2.11, connection.py: a third of the negotiated timeout."""
CLOSED = "closed before the handshake was answered"


class MemoryPort:
    """One client of an ensemble in memory."""

    adopted = False

    def __init__(self, settings: Settings, server: MemoryServer, clock: TurnClock, inbox: TurnInbox) -> None:
        self._settings = settings
        self._server = server
        self._clock = clock
        self.inbox = inbox
        self.faults = Faults()
        self.link: MemoryLink | None = None
        """The link that was accepted last, until it ends."""
        self.session_id = 0
        self._links = 0
        self._tried: MemoryLink | None = None
        """The link whose handshake is not answered yet."""
        self._late: list[MemoryLink] = []
        """Links that were given up here, and from which something is still to arrive there."""
        self._attempts = 0
        self._servers = tuple(settings.servers)
        self._round: list[tuple[str, int]] = []
        """Those of the present round that are still to be tried."""
        self._stopping = False
        backoff = Backoff(settings.retry_first_delay, settings.retry_max_delay, clock.random)
        self._passes = Passes(self, backoff)

    # -- what the engine asks

    @property
    def client(self) -> NoReturn:
        """There is none.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            "there is no kazoo client below a coordinator of a MemoryEnsemble; what needs one needs a server"
        )

    @property
    def hosts(self) -> str:
        """The servers that are tried now, with the chroot."""
        return join_hosts(self._servers, self._settings.chroot)

    def start(self) -> None:
        """Begin to connect."""
        with self._server.turns.changed:
            self._server.turns.rest()
            self._server.join(self)
            self._next_attempt(0.0)

    def rebuild(self) -> None:
        """Connect anew, on the same session."""
        with self._server.turns.changed:
            self._tried = None
            self._next_attempt(0.0)

    def stop(self) -> None:
        """End the session, if there is a link; a request that cannot arrive may arrive later."""
        with self._server.turns.changed:
            self._stopping = True
            self._attempts += 1
            self._tried = None
            link = self.link
            if link is None:
                return
            self._upward(link, lambda: self._server.close_session(link))
            self._give_up(link)

    def contact(self, session_id: int) -> float:
        """Return when the last answered request of that session was sent."""
        link = self.link
        return link.contact if link is not None and link.session_id == session_id else 0.0

    def give(self, servers: Sequence[tuple[str, int]]) -> None:
        """Try these from now on: names for one and the same ensemble."""
        with self._server.turns.changed:
            self._server.turns.rest()
            if set(servers) == set(self._servers):
                return
            self._servers = tuple(servers)
            self._round.clear()
            names = tuple(server_name(*one) for one in servers)
            self._post(HostsChanged(self.hosts, names, (), "set_hosts"))
            if self.link is not None and self.link.server not in names:
                self._lost(self.link, pause=False)
            elif self.link is None:
                self._tried = None
                self._passes.abandoned()
                self._next_attempt(0.0)

    def follower(self, token: int) -> NoReturn:
        """There is none.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("a MemoryEnsemble is never reconfigured: leave follow_reconfig off")

    def send(self, request_id: int, request: Request[Any], number: int) -> bool:
        """Send a request on the link of that number; False: it is gone, nothing was sent."""
        with self._server.turns.changed:
            link = self.link
            if link is None or link.number != number:
                return False
            at = self._owe(link)
            if self.faults.lose == "request":
                self.faults.lose = ""
                self._lost(link)
            else:
                self._upward(link, lambda: self._asked(link, request_id, request, at))
                self._expect(link)
            return True

    # -- on the wire

    def _upward(self, link: MemoryLink, arrive: Callable[[], None]) -> None:
        link.up.append(arrive)
        self.flow()

    def _downward(self, link: MemoryLink, arrive: Callable[[], None]) -> None:
        link.down.append(arrive)
        if not (self.faults.down or self._server.frozen):
            self._receive(link)

    def flow(self) -> None:
        """Let through what nothing holds any more."""
        if not (self.faults.up or self._server.frozen):
            late, self._late = self._late, []
            for link in late:
                self._deliver(link)
                self._server.detach(link)
            if self._tried is not None:
                self._deliver(self._tried)
            if self.link is not None:
                self._deliver(self.link)
        if not (self.faults.down or self._server.frozen):
            for standing in (self._tried, self.link):
                if standing is not None:
                    self._receive(standing)
            if self.link is not None and self.link.closed and not self.inbox.frozen:
                self._lost(self.link)

    def _deliver(self, link: MemoryLink) -> None:
        while link.up:
            link.up.popleft()()

    def _receive(self, link: MemoryLink) -> None:
        while link.down:
            link.down.popleft()()

    def _owe(self, link: MemoryLink) -> float:
        at = self._clock.now()
        link.owed.append(at)
        return at

    def _answered(self, link: MemoryLink, at: float) -> bool:
        """Book an answer; return whether there is anybody to hear it."""
        if link is not self.link:
            return False
        link.owed.popleft()
        link.contact, link.heard = max(link.contact, at), self._clock.now()
        return True

    def _asked(self, link: MemoryLink, request_id: int, request: Request[Any], at: float) -> None:
        """At the server: a request arrived."""
        if not self._server.hears(link):
            return
        chroot, value = self._settings.chroot, None
        error: CoordinatorError | None = None
        try:
            value = unrooted(request, self._server.execute(link, rooted(request, chroot)), chroot)
        except CoordinatorError as refused:
            error = unrooted_error(refused, chroot)
        zxid = self._server.zookeeper.zxid
        if self.faults.lose == "answer":
            self.faults.lose = ""
            if link is self.link:  # one that was given up is lost already
                self._lost(link)
            return

        def arrive() -> None:
            if self._answered(link, at):
                self._post(Replied(request_id, value, error, zxid, link.contact))

        self._downward(link, arrive)

    def fire(self, link: MemoryLink, token: int, deleted: str | None) -> None:
        """A watch has fired; it arrives behind what was answered before."""
        told = None if deleted is None else unrooted_path(deleted, self._settings.chroot)

        def arrive() -> None:
            if link is self.link:
                self._post(Fired(token, told))

        self._downward(link, arrive)

    def _post(self, message: Message) -> None:
        if not self._stopping:
            self.inbox.tell(message)

    # -- the link's life

    def _next_attempt(self, pause: float) -> None:
        self._attempts += 1
        number = self._attempts
        self._at(pause, lambda: self._attempt() if number == self._attempts else None)

    def _at(self, delay: float, ring: Callable[[], None]) -> None:
        self.inbox.alarms.set(self._clock.now() + delay, ring)
        self._server.turns.changed.notify_all()

    def _attempt(self) -> None:
        if self._stopping or self.link is not None:
            return
        self._round = self._round or list(self._servers)
        host = self._round.pop(0)
        link = self._tried = MemoryLink(server_name(*host), contact=self._clock.now())
        self._passes.attempted(*host)
        if self.faults.refuse:
            self._failed(link, "refused", "Connection refused")
            return
        limit = self._settings.connect_timeout or self._settings.session_timeout / len(self._servers)
        self._at(limit, lambda: self._failed(link, "timeout", "no answer to the handshake"))
        self._upward(link, lambda: self._greeted(link))

    def _failed(self, link: MemoryLink, cause: str, detail: str) -> None:
        if link is self._tried:
            self._tried = None
            self._passes.failed(link.server, cause, detail)
            if self._round:
                self._next_attempt(0.0)
            else:
                self._pause()

    def _pause(self) -> None:
        self._next_attempt(self._passes.ended(self._servers, lambda _host, _port: "name did not resolve"))

    def _greeted(self, link: MemoryLink) -> None:
        """At the server: a handshake arrived."""
        settings = self._settings
        verdict = self._server.attach(
            link, self.session_id, settings.session_timeout, self._identities(), settings.read_only
        )

        def arrive() -> None:
            if link is not self._tried:
                return
            match verdict:
                case "accepted":
                    self._accepted(link)
                case "expired":
                    self._told_expired()
                case "closed":
                    self._failed(link, "handshake", CLOSED)

        self._downward(link, arrive)

    def _identities(self) -> tuple[Identity, ...] | None:
        """Return who this client is; None: it uses a scheme that the server does not know."""
        shown = [identity(one.scheme, one.credential.get_secret_value()) for one in self._settings.auth]
        known = [one for one in shown if one is not None]
        return (ADDRESS, *known) if len(known) == len(shown) else None

    def _accepted(self, link: MemoryLink) -> None:
        self._tried, self.link = None, link
        self._passes.reached()
        self._links += 1
        link.number, self.session_id = self._links, link.session_id
        link.heard = self._clock.now()
        self._round.clear()
        self._post(
            LinkUp(link.session_id, link.timeout, link.server, link.read_only, link.contact, link.number)
        )
        if self._identities() is None:
            self._post(AuthFailed("auth", REFUSALS["auth"]))
        self._at(link.timeout / PINGS, lambda: self._ping(link))

    def _told_expired(self) -> None:
        self._tried, self.session_id = None, 0
        self._round.clear()
        self._passes.reached()
        self._post(LinkDown(0.0))
        self._post(Expired())
        self._pause()

    def _ping(self, link: MemoryLink) -> None:
        if link is not self.link:
            return
        self._at(link.timeout / PINGS, lambda: self._ping(link))
        if link.pinged:
            return
        link.pinged, at = True, self._owe(link)

        def arrive() -> None:
            if self._answered(link, at):
                link.pinged = False
                self._post(Beat(self._clock.now() - at, at))

        def asked() -> None:
            if self._server.hears(link):
                self._downward(link, arrive)

        self._upward(link, asked)
        self._expect(link)

    def _expect(self, link: MemoryLink) -> None:
        """Look again when it will have been silent for too long."""
        if link is self.link and link.owed:
            self.inbox.alarms.set(link.silent_at(), lambda: self._judge(link))

    def _judge(self, link: MemoryLink) -> None:
        if link is not self.link or not link.owed:
            return
        if self._clock.now() >= link.silent_at():
            self._lost(link, late=True)
        else:
            self._expect(link)

    def cut(self) -> None:
        """End the link, and the one that is being made; what was on its way is lost."""
        self._late.clear()
        if self._tried is not None:
            self._failed(self._tried, "handshake", CLOSED)
        if self.link is not None:
            self._lost(self.link)

    def ended(self, link: MemoryLink) -> None:
        """The server has closed the link; it is seen when nothing is in the way."""
        link.closed = True
        self.flow()

    def thawed(self) -> None:
        """The process goes on, and sees what happened to its link meanwhile."""
        self._at(0.0, self.flow)

    def _lost(self, link: MemoryLink, *, late: bool = False, pause: bool = True) -> None:
        """The link is gone, as the client sees it; ``late``: what was sent may still arrive."""
        lost = link.pinged
        if late:
            self._give_up(link)
        else:
            self.link, link.dead = None, True
            self._server.detach(link)
        self._post(LinkDown(link.contact, ping_lost=lost))
        if pause:
            self._pause()
        else:
            self._next_attempt(0.0)

    def _give_up(self, link: MemoryLink) -> None:
        self.link, link.dead = None, True
        self._server.forget_watches(link)
        if link.up:
            self._late.append(link)
        else:
            self._server.detach(link)

    # -- what came of an attempt, and of a round of them

    def attempt_failed(self, server: str, cause: str, detail: str, next_try_in: float | None) -> None:
        """Tell of it."""
        self._post(AttemptFailed(server, cause, detail, next_try_in))

    def pass_failed(self, *, refused: bool) -> None:
        """Tell that nobody would have us."""
        if refused:
            self._post(RoundRefused())

    def heartbeat(self, rtt: float, sent_at: float) -> None:
        """Pings are told as they are answered."""

    def connection_ended(self) -> None:
        """There is no thread that could end."""
