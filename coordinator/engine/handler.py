"""Our kazoo handler: kazoo's threads, sockets and waiting, through its public seams only.

`KazooClient(handler=KazooHandler(...))` asks the handler for everything that touches the operating system.
That is where we hear what kazoo does not tell: the negotiated timeout, the last contact, why an attempt
failed; and where we do what it does not do: give up a silent link under traffic, never block a caller, stop
at once, call our own callbacks in the order of the wire.

    kazoo's connection thread --create_connection--> Link (engine/link.py)
                              --select-------------> silence is judged (engine/poll.py)
                              --sleep_func---------> one pass over all hosts has failed: our backoff
                              --dispatch_callback--> DirectWatch: at once;   others: kazoo's watch thread
                              --async_result.set---> DirectResult: at once;  others: kazoo's completion thread

It must not interpret sessions or keep requests: that is the session machine's and the port's.
"""

from __future__ import annotations

import atexit
import errno
import logging
import queue
import random as random_module
import socket
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any

from kazoo.handlers.threading import SequentialThreadingHandler

from coordinator.engine import fork, poll, tls
from coordinator.engine.departure import Departure
from coordinator.engine.dial import Address, Dialler, addresses, resolve, told
from coordinator.engine.link import Link
from coordinator.engine.results import DirectResult, DirectScope, DirectWatch
from coordinator.engine.rounds import Backoff, Jitter, LinkListener, Passes, Unheard, server_name
from coordinator.engine.wake import WakeChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

_logger = logging.getLogger(__name__)

PROBE_TIMEOUT = 0.5
"""Seconds to find out whether a server that closed speaks TLS, or that it does not; local ones take 5 ms."""

JOIN_TIMEOUT = 1.0
"""Seconds that `stop` waits for each of kazoo's two callback threads: two of them keep `close` within 2 s."""


class _NobodyCanWrite:
    """The socket of kazoo's search for a read-write server: ours (engine/departure.py) takes its place."""

    def sendall(self, data: bytes) -> None:
        """Take the question."""

    def recv(self, size: int) -> bytes:
        """Answer that this server only reads."""
        return b"ro"

    def close(self) -> None:
        """Nothing is open."""


class KazooHandler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo is untyped
    """A threading handler with clocks, for one KazooClient.

    Give it `KazooRetry(max_tries=-1, delay=0.1, backoff=1, max_jitter=0.0, max_delay=0.1,
    sleep_func=handler.sleep_func)` as `connection_retry`: kazoo then sleeps exactly once per failed pass, and
    how long is decided here.

    Args:
        name: prefix of the names of kazoo's threads.
        hosts: the configured (host, port) pairs, as kazoo.hosts.collect_hosts gives them; also an attribute.
        listener: told of failed attempts and heartbeats.
        connect_timeout: seconds to open a connection to one host; None: the session timeout divided by the
            number of hosts, so that one silent host does not cost the session (kazoo: all of it, for each).
        first_delay: bound of the first pause after a failed pass, in seconds. Small: most outages are one
            server of several being restarted.
        max_delay: bound of any pause, in seconds: an ensemble is found within one second of its return.
        make_context: makes the TLS context of each connect; None: as kazoo's `use_ssl` and its like say.
        random: where the jitter comes from.
        portable: no eventfd, as on a system without it.
    """

    def __init__(
        self,
        *,
        name: str = "coordinator",
        hosts: Sequence[tuple[str, int]] = (),
        listener: LinkListener | None = None,
        connect_timeout: float | None = None,
        first_delay: float = 0.02,
        max_delay: float = 1.0,
        make_context: tls.MakeContext | None = None,
        random: Jitter | None = None,
        portable: bool = False,
    ) -> None:
        super().__init__()
        self.callback_queue: queue.Queue[Any]
        self.completion_queue: queue.Queue[Any]
        self.thread_prefix = name
        self.hosts = hosts
        self._listener: LinkListener = listener if listener is not None else Unheard()
        self._connect_timeout = connect_timeout
        self._portable = portable
        self._make_context = make_context
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
        self._connection_thread: threading.Thread | None = None
        self._dialler = Dialler(portable=portable)
        self._lifecycle = threading.Lock()
        self._alive = False
        self._workers_alive: list[tuple[threading.Thread, queue.Queue[Callable[[], object] | None]]] = []
        self._direct = DirectScope()
        self._secure: tls.MakeContext | None = None
        """How the last connect was secured; None: without TLS."""
        self._channel: WakeChannel | None = None
        self._turn = 0
        """Of the dialler, when the present pass began: the list has not changed since."""
        self._departure = Departure(
            name=name,
            reach=self.reach,
            hosts=lambda: self.hosts,
            link=lambda: self.link,
            busy=lambda: self._channel is not None and self._channel.count > 0,
            max_pause=max_delay,
        )
        self.heard = listener is not None
        """Somebody listens, or is about to."""
        self._announced = False
        self._paused = False
        self._forked = False
        fork.let_go_by(self, KazooHandler._let_go)

    def _let_go(self) -> None:
        """In a forked child: there are no threads to stop here, and nobody to tell."""
        self._forked = True
        self._alive = False
        self._workers_alive = []
        self._lifecycle = threading.Lock()
        self.callback_queue = queue.Queue()
        self.completion_queue = queue.Queue()
        self._listener = Unheard()
        self._dialler = Dialler()
        self._dialler.call_off()
        atexit.unregister(self.stop)

    def _check_process(self) -> None:
        """End kazoo's loop where a fork was made in its thread: it would take the session along."""
        if self._forked:
            raise SystemExit

    # -- threads

    @property
    def running(self) -> bool:
        """Whether kazoo's callback threads are to be used."""
        return self._alive

    def start(self) -> None:
        """Start kazoo's callback threads; a second start does nothing."""
        with self._lifecycle:
            if self._alive:
                return
            self.reset_abort()
            self._workers_alive = [
                (self._start_thread(_work, role, work), work)
                for role, work in (("completions", self.completion_queue), ("watches", self.callback_queue))
            ]
            self._alive = True
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop kazoo's callback threads, and let no connect or pause hold up the connection thread.

        A user's callback that blocks cannot hang it: after `JOIN_TIMEOUT` a thread is left to itself, with a
        warning that names it. From one of these threads it does not wait for that thread.
        """
        with self._lifecycle:
            if not self._alive:
                return
            self._alive = False
            workers, self._workers_alive = self._workers_alive, []
            self.callback_queue = queue.Queue()
            self.completion_queue = queue.Queue()
        self._dialler.call_off()
        self._departure.stay()
        atexit.unregister(self.stop)
        for _, work in workers:
            work.put(None)
        for thread, _ in workers:
            if thread is threading.current_thread():
                continue
            thread.join(JOIN_TIMEOUT)
            if thread.is_alive():
                _logger.warning(
                    "thread %s did not stop in %.1f s: a callback blocks it, and it is left behind",
                    thread.name,
                    JOIN_TIMEOUT,
                )

    def spawn(self, func: Callable[..., object], *args: Any, **kwargs: Any) -> threading.Thread:
        """Start a named daemon thread; the one that runs kazoo's `zk_loop` is the connection thread."""
        role = getattr(func, "__name__", "thread")
        if role == "zk_loop":
            return self._start_thread(self._run_connection, "connection", func)
        return self._start_thread(func, role, *args, **kwargs)

    def _run_connection(self, zk_loop: Callable[[], object]) -> None:
        # kazoo tells nobody of an end before the first session, nor of one by SystemExit.
        try:
            zk_loop()
        finally:
            self._listener.connection_ended()

    def _start_thread(
        self, func: Callable[..., object], role: str, *args: Any, **kwargs: Any
    ) -> threading.Thread:
        name = f"{self.thread_prefix}-kazoo-{role}"
        thread = threading.Thread(target=func, args=args, kwargs=kwargs, name=name, daemon=True)
        if role == "connection":
            self._connection_thread = thread
        thread.start()
        return thread

    # -- waiting

    def create_socket_pair(self) -> tuple[WakeChannel, WakeChannel]:
        """Make kazoo's wake-up channel: one object for both ends."""
        channel = self._channel = WakeChannel(portable=self._portable)
        return channel, channel

    def select(
        self, rlist: Sequence[Any], wlist: Sequence[Any], xlist: Sequence[Any], timeout: float | None = None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """As select.select, of descriptors, objects with `fileno`, links and the wake channel.

        What a link has read ahead counts as readable. A link that owes an answer for too long is cut: kazoo
        sees it end, says SUSPENDED and tries the next server (its own detection needs an idle connection).
        """
        self._check_process()
        return poll.select(self._link, rlist, wlist, timeout)

    def sleep_func(self, seconds: float) -> None:
        """Sleep; in the connection thread, where it means that a pass has failed, for our own backoff."""
        if threading.current_thread() is not self._connection_thread:
            time.sleep(seconds)
            return
        self._check_process()
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

    # -- connecting

    def create_connection(
        self,
        address: tuple[str, int],
        hostname: object = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Open a connection: a `Link` for the session, an ordinary socket for anybody else.

        The session's own connects come from the connection thread with the host's name. `client.command()`
        comes from any thread with a port as hostname, kazoo's search for a read-write server without one.

        Raises:
            OSError: it could not be opened in time, or was called off.
        """
        self._check_process()
        make_context = self._make_context
        if make_context is None and options.get("use_ssl"):
            make_context = lambda: tls.context_from(options)  # noqa: E731
        if threading.current_thread() is not self._connection_thread:
            name = hostname if isinstance(hostname, str) else address[0]
            limit = self._per_host if timeout is None else timeout
            return Dialler(portable=self._portable).dial(resolve(name, address), name, limit, make_context)
        if isinstance(hostname, str):
            return self._open_link(address, hostname, timeout, make_context)
        self._departure.consider()
        return _NobodyCanWrite()

    def _open_link(
        self,
        address: tuple[str, int],
        hostname: str,
        timeout: float | None,
        make_context: tls.MakeContext | None,
    ) -> Link:
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

    def reach(self, dialler: Dialler, server: tuple[str, int], limit: float) -> socket.socket:
        """Connect as the session's links do, for a question; from any thread."""
        return dialler.dial(addresses(*server), server[0], limit, self._secure)

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

    # -- what the engine asks

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

    def abort(self) -> None:
        """Give up the link, a connect or a pause at once, from any thread but a holder of the link's gate.

        Until `reset_abort` every connect fails at once: stop the client next.
        """
        self._dialler.call_off()
        link = self._link
        if link is not None:
            link.cut("cut")

    def reset_abort(self) -> None:
        """Allow connects again."""
        self._dialler.allow()

    def direct(self) -> AbstractContextManager[None]:
        """With it, results that kazoo makes in this thread are `DirectResult`s."""
        return self._direct

    def async_result(self) -> Any:
        """Make a result: kazoo's, or a direct one under `direct`."""
        return DirectResult(self) if self._direct.depth else super().async_result()

    def dispatch_callback(self, callback: Any) -> None:
        """Deliver a watch event: to a `DirectWatch` at once, to others in kazoo's watch thread."""
        if not isinstance(callback.func, DirectWatch):
            super().dispatch_callback(callback)
            return
        try:
            callback.func(*callback.args)
        except Exception:
            _logger.exception("a direct watch failed")


def _work(work: queue.Queue[Callable[[], object] | None]) -> None:
    """Call what is queued, in order, until None."""
    while (call := work.get()) is not None:
        try:
            call()
        except Exception:
            _logger.exception("a callback failed in %s", threading.current_thread().name)
        del call  # nothing is kept alive while idle
