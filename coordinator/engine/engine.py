"""The one thread: takes messages in order, hands them to the kernel, does what it says.

::

    callers ---- Submit, Want, ... ---+
    kazoo's connection thread         +--> inbox --> kernel --> effects --> port, fan-out,
      ---- signals, replies, watches -+                                     futures, handles

It never blocks, but for the end: stopping kazoo is its last act. It must not decide
anything: that is the kernel's.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, assert_never

from coordinator.core import session as machine
from coordinator.core.kernel import Kernel
from coordinator.core.messages import (
    Effect,
    Emit,
    Message,
    NotSent,
    Rebuild,
    Refresh,
    Send,
    Settle,
    StopClient,
    Want,
)
from coordinator.core.tally import Tally
from coordinator.engine import fork
from coordinator.engine.fanout import Fanout, Subscription
from coordinator.engine.logs import logger
from coordinator.engine.waiters import Waiter
from coordinator.engine.wiring import Clock, Following, KazooWiring, Wiring
from coordinator.errors import ForkedError
from coordinator.models import Phase, SessionInfo, Stats
from coordinator.settings import Settings

_numbers = itertools.count(1)


class Engine:
    """The running part of one coordinator.

    Args:
        settings: of the coordinator.
        wiring: clock, inbox and port; by default the system's, and kazoo.
    """

    def __init__(self, settings: Settings, wiring: Wiring | None = None) -> None:
        self.name = f"coordinator-{next(_numbers)}"
        """Prefix of the names of all threads."""
        self.pid = os.getpid()
        """The process that it belongs to."""
        wiring = wiring or KazooWiring()
        self.clock: Clock = wiring.clock
        """What deadlines are given by."""
        self._fanout = Fanout()
        self._inbox = wiring.inbox
        self._port = wiring.port(settings, self.name)
        self._kernel = Kernel(
            session_timeout=settings.session_timeout, tick=settings.tick_time, shared=self._port.adopted
        )
        self._tally = Tally()
        self._tokens = itertools.count(1)
        self._refreshed: dict[int, Callable[[], None]] = {}
        self._follower: Following | None = None
        if settings.follow_reconfig:
            self._follower = self._following()
        self._claims = threading.Lock()
        self._claimed: set[str] = set()
        self._over = False
        self.begun = threading.Event()
        """It was started, or will never be: whoever waits for events waits for something."""
        self._thread = threading.Thread(target=self._run, name=f"{self.name}-engine", daemon=True)
        fork.let_go_by(self, Engine._let_go)

    def _let_go(self) -> None:
        """In a forked child: end the loop, should the fork have been made on its thread."""
        self._over = True

    # -- for the faces

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that it belongs to."""
        return os.getpid() != self.pid

    def check_process(self) -> None:
        """Refuse to work in a forked child; takes no lock, and comes before any.

        Raises:
            ForkedError: this process is not the one that it belongs to.
        """
        if self.forked:
            raise ForkedError(
                f"this coordinator belongs to process {self.pid}, of which this one ({os.getpid()}) was "
                "forked; make one in each process, after the fork",
                pid=self.pid,
            )

    def start(self) -> None:
        """Start the thread, and let kazoo connect."""
        self.check_process()
        self._thread.start()
        self._port.start()
        if self._follower is not None:
            self.post(Want(self._follower.census, "follow the ensemble", 0.0, 0.0, None))
        self.begun.set()

    def never(self) -> None:
        """It is closed without having been started."""
        self._port.stop()
        self.begun.set()
        self._fanout.end()

    def post(self, message: Message) -> None:
        """Hand a message to the kernel; never blocks."""
        self.check_process()
        self._inbox.put(message)
        if self._over:  # nobody may be left to take it
            self._drain()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; return whether it did."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def token(self, refreshed: Callable[[], None]) -> int:
        """Return a new token for an intent, and have changes behind it told."""
        token = next(self._tokens)
        self._refreshed[token] = refreshed
        return token

    def claim(self, path: str) -> bool:
        """Take the path for an ephemeral; return whether it was free."""
        with self._claims:
            free = path not in self._claimed
            self._claimed.add(path)
        return free

    def release(self, path: str) -> None:
        """Give the path free for another ephemeral."""
        with self._claims:
            self._claimed.discard(path)

    def end_stream(self, subscription: Subscription) -> None:
        """End a subscription; in a forked child its locks may be held for ever."""
        if not self.forked:
            self.fanout.unsubscribe(subscription)

    def forget(self, token: int) -> None:
        """Tell of no more changes behind a token."""
        self._refreshed.pop(token, None)

    def _following(self) -> Following:
        token = next(self._tokens)
        follower = self._port.follower(token)
        self._refreshed[token] = follower.configured
        return follower

    def set_hosts(self, servers: Sequence[tuple[str, int]]) -> None:
        """Have other servers tried from now on; from any thread, never waits."""
        self.check_process()
        if self._follower is not None:
            self._follower.forget()
        self._port.give(servers)

    @property
    def hosts(self) -> str:
        """The servers that are tried now, with the chroot."""
        self.check_process()
        return self._port.hosts

    @property
    def over(self) -> bool:
        """Whether the thread has come to its end."""
        return self._over

    @property
    def fanout(self) -> Fanout:
        """Where events are subscribed to."""
        self.check_process()
        return self._fanout

    @property
    def client(self) -> Any:
        """Kazoo's client of the moment."""
        self.check_process()
        return self._port.client

    @property
    def session(self) -> SessionInfo:
        """The session as this moment knows it."""
        self.check_process()
        session = self._kernel.session
        contact = max(session.contact, self._port.contact(session.session_id))
        live = session.session_id and session.phase is not Phase.CLOSED
        return SessionInfo(
            phase=session.phase,
            epoch=session.epoch,
            session_id=session.session_id,
            server=session.server,
            timeout=session.timeout,
            remaining=max(0.0, contact + session.timeout - self.clock.now()) if live else 0.0,
            read_only=session.read_only,
            rtt=session.rtt,
        )

    @property
    def stats(self) -> Stats:
        """What was counted so far."""
        self.check_process()
        return self._tally.stats(self.clock.now())

    # -- the thread

    def _run(self) -> None:
        while not self._over:
            message = self._inbox.take(self._kernel.deadline())
            self._handle(self._tick() if message is None else message)
        if not self.forked:
            self._drain()

    def _tick(self) -> machine.Tick:
        return machine.Tick(self._port.contact(self._kernel.session.session_id))

    def _handle(self, message: Message) -> None:
        moment = self.clock.moment()
        try:
            effects = self._kernel.handle(message, moment)
        except Exception:  # noqa: BLE001 -- the thread must live on
            logger.exception("a fault of coordinator itself, while handling %s", type(message).__name__)
            return
        if isinstance(message, machine.LinkDown) and message.ping_lost:
            self._tally.add("heartbeats_lost", moment.now)
        unsent: list[int] = []
        for effect in effects:
            try:
                if not self._perform(effect) and isinstance(effect, Send):
                    unsent.append(effect.request_id)
            except Exception:  # noqa: BLE001 -- the thread must live on
                logger.exception("a fault of coordinator itself, in %s", type(effect).__name__)
        for request_id in unsent:
            # Before the next message: after a LinkDown in the inbox it would count as sent.
            self._handle(NotSent(request_id))

    def _perform(self, effect: Effect) -> bool:
        """Do it; return False for a request that could not be sent."""
        match effect:
            case Emit(event=event):
                self._tally.event(event, self.clock.now())
                self._fanout.publish(event)
            case Send(request_id=request_id, request=request, link=link):
                return self._port.send(request_id, request, link)
            case Settle(waiter=waiter, value=value, error=error):
                if isinstance(waiter, Waiter):
                    waiter.settle(value, error)
            case Refresh(token=token):
                refreshed = self._refreshed.get(token)
                if refreshed is not None:
                    refreshed()
            case Rebuild():
                self._port.rebuild()
            case StopClient(reason=reason):
                self._end(reason)
            case _:
                assert_never(effect)
        return True

    def _end(self, reason: str) -> None:
        if self._follower is not None:
            self._follower.stop()
        self._port.stop()
        if reason == "requested":
            self._handle(machine.Closing(left=self._port.adopted))
        elif reason == "gave_up":
            self._handle(machine.GaveUp(left=self._port.adopted))
        self._over = True
        for refreshed in list(self._refreshed.values()):
            refreshed()

    def _drain(self) -> None:
        """Refuse what came too late."""
        while True:
            try:
                message = self._inbox.get_nowait()
            except queue.Empty:
                return
            waiter = getattr(message, "waiter", None)
            if isinstance(waiter, Waiter):
                waiter.settle(None, self._kernel.refusal(message))
