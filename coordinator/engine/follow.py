"""Following an ensemble whose servers change: only to servers that answer.

    Census (core/ensemble.py) --configuration--> Scout: which of its addresses answer us? --> KazooPort.follow

What ZooKeeper says are the addresses that its servers bind to: names and networks that exist where they run,
and often not where a client is. A list that works is therefore never replaced by one that does not; what does
not answer is asked again, now and then, as long as it is listed.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from coordinator.core.ensemble import Census, Configuration
from coordinator.engine.scout import JOIN_TIMEOUT, Scout, Verdict

if TYPE_CHECKING:
    import socket

    from coordinator.engine.dial import Dialler
    from coordinator.engine.port import KazooPort

FIRST_PAUSE, MAX_PAUSE = 0.5, 60.0
"""Seconds, bounds of the pauses before those are asked again that did not answer. A server that joins may
serve a moment after the change was committed; one that cannot be reached from here never will."""


class Follower:
    """Keeps the list of servers in step with the configuration of the ensemble.

    Args:
        name: prefix of the thread's name.
        port: whose list it is.
        token: that of the intent.
    """

    def __init__(self, name: str, port: KazooPort, token: int) -> None:
        self.census = Census(token)
        self._name = name
        self._port = port
        self._lock = threading.Lock()
        self._scout: Scout | None = None
        self._wanted: Configuration | None = None
        self._version: int | None = None
        self._stopped = False

    def configured(self) -> None:
        """Follow the configuration that was just read; never waits."""
        configuration = self.census.configuration
        if configuration is None or not configuration.servers:
            return
        with self._lock:
            # The same again is what every new link brings. It is followed anew only where it was left for
            # want of an answer; who was given other servers meanwhile keeps them.
            if self._stopped or (configuration.version == self._version and not self._port.fallen_back):
                return
            self._version, self._wanted = configuration.version, configuration
            if self._scout is not None and self._scout.alive:
                self._scout.hurry()
            else:
                self._scout = Scout(f"{self._name}-follower", self._reach, self._follow)

    def forget(self) -> None:
        """The user gave other servers: they stay until the configuration changes the next time."""
        with self._lock:
            self._wanted = None

    def stop(self) -> None:
        """End it, and wait a little for its thread, if the name resolver does not hold that up."""
        with self._lock:
            self._stopped, self._wanted = True, None
            scout = self._scout
        if scout is not None:
            scout.call_off()
            scout.join(JOIN_TIMEOUT)

    def _reach(self, dialler: Dialler, server: tuple[str, int], limit: float) -> socket.socket:
        return self._port.handler.connector.reach(dialler, server, limit)

    def _follow(self, scout: Scout) -> None:
        bound, before = FIRST_PAUSE, None
        while True:
            with self._lock:
                wanted = self._wanted
                if wanted is None or scout.called_off:
                    self._scout = None  # under the lock: who wants something next starts another
                    return
                turn = scout.turn
            bound = FIRST_PAUSE if wanted is not before else min(2 * bound, MAX_PAUSE)
            before = wanted
            missing = self._survey(scout, wanted)
            with self._lock:
                if wanted is self._wanted and not missing:
                    self._wanted = None
                    continue
            scout.pause(bound * random.uniform(0.5, 1.0), turn)  # noqa: S311 -- jitter

    def _survey(self, scout: Scout, wanted: Configuration) -> bool:
        """Ask all that are listed, and follow those that answer; return whether some did not."""
        answering = [
            one for one in wanted.servers if scout.survey(one) is not Verdict.ABSENT and not scout.called_off
        ]
        with self._lock:
            if wanted is not self._wanted or scout.called_off:
                return True
            # One that was tried so far, and is still listed, is being restarted: it is kept.
            known = set(self._port.servers)
            taken = [one for one in wanted.servers if one in answering or one in known] if answering else []
            ignored = [one for one in wanted.servers if one not in (taken or known)]
            self._port.follow(taken, ignored)
        return len(answering) < len(wanted.servers)
