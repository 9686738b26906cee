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
import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, assert_never

from coordinator.core import session as machine
from coordinator.core.kernel import Kernel
from coordinator.core.messages import (
    Effect,
    Emit,
    Message,
    Moment,
    NotSent,
    Rebuild,
    Refresh,
    Send,
    Settle,
    StopClient,
    Want,
)
from coordinator.core.tally import Tally
from coordinator.engine import clock, fork
from coordinator.engine.fanout import Fanout, Subscription
from coordinator.engine.follow import Follower
from coordinator.engine.logs import logger
from coordinator.engine.port import Port
from coordinator.engine.waiters import Waiter
from coordinator.errors import ClosedError, ForkedError
from coordinator.models import Phase, SessionInfo, Stats
from coordinator.settings import Settings

_numbers = itertools.count(1)


class Engine:
    """The running part of one coordinator.

    Args:
        settings: of the coordinator.
        client: a kazoo client of somebody else's, to be adopted.
    """

    def __init__(self, settings: Settings, client: object = None) -> None:
        self.name = f"coordinator-{next(_numbers)}"
        """Prefix of the names of all threads."""
        self.pid = os.getpid()
        """The process that it belongs to."""
        self._fanout = Fanout()
        self._kernel = Kernel(session_timeout=settings.session_timeout, shared=client is not None)
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._port = Port(settings, self.name, self._inbox.put, client)
        self._tally = Tally()
        self._tokens = itertools.count(1)
        self._refreshed: dict[int, Callable[[], None]] = {}
        self._follower: Follower | None = None
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

    def forget_stream(self, subscription: Subscription) -> None:
        """End a subscription whose reader is gone; in a forked child its locks may be held for ever."""
        if not self.forked:
            self.fanout.unsubscribe(subscription)

    def forget(self, token: int) -> None:
        """Tell of no more changes behind a token."""
        self._refreshed.pop(token, None)

    def _following(self) -> Follower:
        token = next(self._tokens)
        follower = Follower(self.name, self._port, token)
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
            remaining=max(0.0, contact + session.timeout - clock.now()) if live else 0.0,
            read_only=session.read_only,
            rtt=session.rtt,
        )

    @property
    def stats(self) -> Stats:
        """What was counted so far."""
        self.check_process()
        return self._tally.stats(clock.now())

    # -- the thread

    def _run(self) -> None:
        while not self._over:
            self._handle(self._next())
        if not self.forked:
            self._drain()

    def _next(self) -> Message:
        deadline = self._kernel.deadline()
        if deadline is None:
            return self._inbox.get()
        remaining = deadline - clock.now()
        if remaining <= 0:
            return self._tick()
        try:
            return self._inbox.get(timeout=min(remaining, threading.TIMEOUT_MAX))
        except queue.Empty:
            return self._tick()

    def _tick(self) -> machine.Tick:
        return machine.Tick(self._port.contact(self._kernel.session.session_id))

    def _handle(self, message: Message) -> None:
        moment = Moment(clock.now(), datetime.now(UTC), random.random())  # noqa: S311 -- jitter
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
                self._tally.event(event, clock.now())
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
                waiter.settle(None, ClosedError())
