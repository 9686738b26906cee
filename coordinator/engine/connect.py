"""The session's connects: what is tried, what came of it, and the link that stands.

    kazoo's connection thread --open--> Dialler (dial.py) --> Link (link.py): the present one
                              --pause-> Passes (rounds.py): a pass over all hosts has failed, how long to wait
    anybody                   --set_hosts, consider--> Departure (departure.py): is there a better server?

One for each handler. It books each attempt, and tells the listener; what a link means for the session it
must not know.
"""

from __future__ import annotations

import errno
import logging
import random as random_module
import socket
from math import inf
from typing import TYPE_CHECKING

from coordinator.engine import tls
from coordinator.engine.departure import Departure
from coordinator.engine.dial import Address, Dialler, addresses, resolve, told
from coordinator.engine.link import Link
from coordinator.engine.rounds import Backoff, Jitter, LinkListener, Passes, Unheard, server_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_logger = logging.getLogger(__name__)

PROBE_TIMEOUT = 0.5
"""Seconds to find out whether a server that closed speaks TLS, or that it does not; local ones take 5 ms."""


class Connector:
    """Connects a session, one attempt after another.

    Args:
        name: prefix of the names of threads.
        hosts: the configured (host, port) pairs, as kazoo.hosts.collect_hosts gives them; also an attribute.
        listener: told of failed attempts and heartbeats.
        connect_timeout: seconds to open a connection to one host; None: the session timeout divided by the
            number of hosts, so that one silent host does not cost the session (kazoo: all of it, for each).
        first_delay: bound of the first pause after a failed pass, in seconds.
        max_delay: bound of any pause, in seconds.
        random: where the jitter comes from.
        portable: no eventfd, as on a system without it.
        busy: says whether requests wait to be sent.
    """

    def __init__(
        self,
        *,
        name: str,
        hosts: Sequence[tuple[str, int]],
        listener: LinkListener | None,
        connect_timeout: float | None,
        first_delay: float,
        max_delay: float,
        random: Jitter | None,
        portable: bool,
        busy: Callable[[], bool],
    ) -> None:
        self.hosts = hosts
        self._listener: LinkListener = listener if listener is not None else Unheard()
        self._connect_timeout = connect_timeout
        self._portable = portable
        self._answered: set[str] = set()  # servers that have once answered a handshake as they should
        jitter: Jitter = random if random is not None else random_module.SystemRandom()
        self._passes = Passes(self._listener, Backoff(first_delay, max_delay, jitter))
        self._per_host = 10.0
        self._tried: set[Address] = set()
        self._targets: Sequence[Address] = ()  # of the last attempt
        self._unresolved: dict[tuple[str, int], str] = {}
        self._link: Link | None = None
        self._unsettled: Link | None = None
        self._contact = -inf
        self._dialler = Dialler(portable=portable)
        self._secure: tls.MakeContext | None = None
        """How the last connect was secured; None: without TLS."""
        self._turn = 0
        """Of the dialler, when the present pass began: the list has not changed since."""
        self._departure = Departure(
            name=name,
            reach=self.reach,
            hosts=lambda: self.hosts,
            link=lambda: self.link,
            busy=busy,
            max_pause=max_delay,
        )
        self._announced = False
        self._paused = False

    def let_go(self) -> None:
        """In a forked child: nobody is told any more, and nothing is connected."""
        self._listener = Unheard()
        self._dialler = Dialler()
        self._dialler.call_off()

    # -- in the connection thread

    def pause(self, seconds: float) -> None:
        """Pause where kazoo would sleep that long: after a failed pass, for as long as our backoff says."""
        if self._paused and (self._announced or not self.hosts):
            # The rest of a pause that kazoo cuts into slices of 0.1 s: no round has begun since. A client
            # that nobody has adopted keeps its own pace.
            self._dialler.pause(0.0 if self._announced else seconds)
            return
        self._paused = True
        self._settle()
        if self._dialler.turn == self._turn:
            self._dialler.pause(self._passes.ended(self.hosts, self._why_unresolved), self._turn)
        if self._dialler.turn != self._turn:
            self._passes.abandoned()
        self._tried.clear()
        self._turn = self._dialler.turn

    def open(
        self,
        address: tuple[str, int],
        hostname: str,
        timeout: float | None,
        make_context: tls.MakeContext | None,
    ) -> Link:
        """Open a connection for the session, and return it as the present link.

        Args:
            address: the host's, as kazoo resolved it, and the port.
            hostname: the host as it is configured.
            timeout: seconds of the session, of which each host gets its share.
            make_context: makes the TLS context; None: without TLS.

        Raises:
            OSError: it could not be opened in time, or was called off.
        """
        self._paused = False
        self._settle()
        self._limit_host(timeout)
        turn = self._dialler.turn
        better = self._departure.take()
        if better is not None:
            hostname, address = better[0], better
        server = server_name(hostname, address[1])
        if self.hosts and (hostname, address[1]) not in self.hosts:
            # After a cut kazoo goes on through the list as it was when its pass began.
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, f"{server} is not in the list of servers any more"
            )
        targets = [each for each in resolve(hostname, address) if each not in self._tried]
        if not targets:  # kazoo tries each address of a name; we did so in the first attempt at the name
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"every address of {server} failed in this pass")
        self._targets = targets
        self._passes.attempted(hostname, address[1])
        self._unresolved.pop((hostname, address[1]), None)
        try:
            self._secure = make_context
            sock = self._dialler.dial(targets, hostname, self._per_host, make_context, self._tried, turn)
        except OSError as error:
            if not self._dialler.called_off and self._dialler.turn == turn:
                self._passes.failed(server, *self._told(error, targets))
            raise
        link = self._link = self._unsettled = Link(sock, server, self._heartbeat)
        if self._dialler.called_off or (self._dialler.turn != turn and not self._lists(link)):
            link.cut("cut")
        return link

    def _lists(self, link: Link) -> bool:
        return not self.hosts or link.server in {server_name(*each) for each in self.hosts}

    def _told(self, error: OSError, targets: Sequence[Address]) -> tuple[str, str]:
        if isinstance(error, tls.UnansweredError) and any(self._asked(each, b"srvr") for each in targets):
            return "tls_not_spoken", "the server answers without TLS: is this its port for TLS?"
        return told(error)

    def _closed_on(self, link: Link) -> tuple[str, str]:
        """Say why a server closed instead of answering the handshake."""
        if link.error is not None:
            return tls.told(link.error)
        # A port for TLS closes on plain text without a word, and so does a server without a quorum.
        doubtful = not link.secured and link.server not in self._answered
        if doubtful and any(tls.is_tls(self._asked(each, tls.hello())) for each in self._targets):
            return "tls_required", "the server speaks TLS on this port, and we do not"
        return "handshake", "closed before the handshake was answered"

    def _asked(self, target: Address, question: bytes) -> bytes:
        return self._dialler.ask(target, min(PROBE_TIMEOUT, self._per_host), question)

    def _limit_host(self, timeout: float | None) -> None:
        if timeout is not None:
            self._per_host = min(timeout, self._connect_timeout or timeout / max(1, len(self.hosts)))

    def _settle(self) -> None:
        """Book the last link, now that kazoo has gone on to the next thing."""
        link, self._unsettled = self._unsettled, None
        if link is None:
            return
        self._contact = max(self._contact, link.contact)
        if link.established or link.expired:
            self._answered.add(link.server)
            self._passes.reached()
            self._tried.clear()
        elif link.cause == "timeout":
            self._passes.failed(link.server, "timeout", "no answer to the handshake")
        elif link.cause in ("closed", "reset"):
            self._passes.failed(link.server, *self._closed_on(link))
        elif link.cause != "cut":
            self._passes.failed(link.server, "other", "not a ZooKeeper handshake")

    def _why_unresolved(self, host: str, port: int) -> str:
        """Ask the resolver again, once per outage: kazoo asks before each pass, and may wait for it long."""
        if (host, port) not in self._unresolved and not self._dialler.called_off:
            try:
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                detail = "name did not resolve"
            except OSError as error:
                detail = error.strerror or str(error)
            self._unresolved[host, port] = detail
        return self._unresolved.get((host, port), "name did not resolve")

    def _heartbeat(self, rtt: float, sent_at: float) -> None:
        try:
            self._listener.heartbeat(rtt, sent_at)
        except Exception:
            _logger.exception("link listener failed")

    # -- from any thread

    def ask(
        self, address: tuple[str, int], name: str, timeout: float | None, make_context: tls.MakeContext | None
    ) -> socket.socket:
        """Connect for a question of kazoo's, such as a four-letter word.

        Raises:
            OSError: it could not be opened in time.
        """
        limit = self._per_host if timeout is None else timeout
        return Dialler(portable=self._portable).dial(resolve(name, address), name, limit, make_context)

    def reach(self, dialler: Dialler, server: tuple[str, int], limit: float) -> socket.socket:
        """Connect as the session's links do, for a question; from any thread."""
        return dialler.dial(addresses(*server), server[0], limit, self._secure)

    def listen(
        self, listener: LinkListener | None, hosts: Sequence[tuple[str, int]], *, announced: bool = False
    ) -> None:
        """Tell this listener from now on, or nobody; for a client that is adopted.

        Args:
            listener: who is told.
            hosts: as in the constructor.
            announced: `begin_pass` is called before each round over the hosts.
        """
        self.hosts = hosts
        self._announced = announced
        self._listener = self._passes.listener = listener if listener is not None else Unheard()

    def begin_pass(self) -> None:
        """A round over the hosts begins: what is slept after it is a pause of its own."""
        self._paused = False

    @property
    def link(self) -> Link | None:
        """The link that kazoo uses, dead or alive, until it closes it."""
        link = self._link
        return None if link is None or link.closed else link

    @property
    def last_link(self) -> Link | None:
        """The latest link, even after kazoo has closed it."""
        return self._link

    @property
    def contact(self) -> float | None:
        """When the last answered frame of any link was sent, by `clock.now`; None before the first."""
        link = self._link
        contact = self._contact if link is None else max(self._contact, link.contact)
        return None if contact == -inf else contact

    def set_hosts(self, hosts: Sequence[tuple[str, int]], *, leave: bool = True) -> None:
        """Try other servers from now on; from any thread, never waits.

        A pause ends, an attempt to reach a server that is listed no more is given up. A link to such a server
        is left when a listed one was seen to serve. Tell kazoo's client first (`client.set_hosts`).

        Args:
            hosts: what is tried from now on.
            leave: False: the link that stands is kept, wherever it goes.
        """
        if not leave:
            self._departure.tolerate()
        self.hosts = tuple(hosts)
        self._dialler.interrupt()
        link = self.link
        if link is not None and not link.established and not self._lists(link):
            link.cut("cut")
        self._departure.consider()

    def consider(self) -> None:
        """Look for a better server if the link is read-only, or to one that is listed no more."""
        self._departure.consider()

    def stay(self) -> None:
        """Leave the link for no other server any more: it is about to be closed."""
        self._departure.stay()

    def call_off(self) -> None:
        """Have connects fail and pauses end at once, until `allow`."""
        self._dialler.call_off()

    def allow(self) -> None:
        """Allow connects again."""
        self._dialler.allow()

    def connection_ended(self) -> None:
        """The connection thread has come to its end."""
        self._listener.connection_ended()
