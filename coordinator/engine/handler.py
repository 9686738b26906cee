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
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from kazoo.handlers.threading import SequentialThreadingHandler

from coordinator.engine import fork, poll, tls
from coordinator.engine.connect import Connector
from coordinator.engine.link import Link
from coordinator.engine.results import DirectResult, DirectScope, DirectWatch
from coordinator.engine.rounds import Jitter, LinkListener
from coordinator.engine.wake import WakeChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

_logger = logging.getLogger(__name__)

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
        self._portable = portable
        self._make_context = make_context
        self._connection_thread: threading.Thread | None = None
        self._lifecycle = threading.Lock()
        self._alive = False
        self._workers_alive: list[tuple[threading.Thread, queue.Queue[Callable[[], object] | None]]] = []
        self._direct = DirectScope()
        self._channel: WakeChannel | None = None
        self.connector = Connector(
            name=name,
            hosts=hosts,
            listener=listener,
            connect_timeout=connect_timeout,
            first_delay=first_delay,
            max_delay=max_delay,
            random=random,
            portable=portable,
            busy=lambda: self._channel is not None and self._channel.count > 0,
        )
        self.heard = listener is not None
        """Somebody listens, or is about to."""
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
        self.connector.let_go()
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
            self.connector.allow()
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
        self.connector.call_off()
        self.connector.stay()
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
            self.connector.connection_ended()

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
        return poll.select(self.connector.last_link, rlist, wlist, timeout)

    def sleep_func(self, seconds: float) -> None:
        """Sleep; in the connection thread, where it means that a pass has failed, for our own backoff."""
        if threading.current_thread() is not self._connection_thread:
            time.sleep(seconds)
            return
        self._check_process()
        self.connector.pause(seconds)

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
            return self.connector.ask(address, name, timeout, make_context)
        if isinstance(hostname, str):
            return self.connector.open(address, hostname, timeout, make_context)
        self.connector.consider()
        return _NobodyCanWrite()

    # -- what the engine asks

    @property
    def link(self) -> Link | None:
        """The link that kazoo uses, dead or alive, until it closes it."""
        return self.connector.link

    def abort(self) -> None:
        """Give up the link, a connect or a pause at once, from any thread but a holder of the link's gate.

        Until the next `start` every connect fails at once: stop the client next.
        """
        self.connector.call_off()
        link = self.connector.last_link
        if link is not None:
            link.cut("cut")

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
