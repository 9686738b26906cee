"""Leaving a link for a better server: one that serves, and is listed.

    link read-only, or to a server listed no more --> Scout: which listed server serves?
    one is found --> no request in any more --> what is under way is answered --> cut --> kazoo connects to it

kazoo asks one server alone, the first of its list, whether it can write, without TLS and without a limit of
time, and connects to the next server of its list under that one's name (connection.py, RWPinger and
_connect_attempt). So it is told that there is none, and the search is made here. Nor does kazoo leave a
server that was taken off the list.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from coordinator.engine import clock
from coordinator.engine.rounds import server_name
from coordinator.engine.scout import JOIN_TIMEOUT, Scout, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordinator.engine.link import Link
    from coordinator.engine.scout import Reach

FIRST_PAUSE = 0.1
"""Seconds, bound of the pause after the first round in which no better server was found; doubled each time.
A server that has just been added, or the first of a new quorum, needs about that long."""

FINISH_WITHIN = 1.0
"""Seconds that requests under way are given to be answered before the link is cut. A server that answers
takes milliseconds; what is answered is not ambiguous."""

_LOOK = 0.005
"""Seconds between two looks at whether they were."""


class Departure:
    """Sees to it that a link which is not good enough is left; for one handler.

    Args:
        name: prefix of the thread's name.
        reach: how to connect.
        hosts: what is listed now; none: anything is.
        link: the session's link now.
        busy: whether requests wait to be written.
        max_pause: bound of the pause between two rounds over the hosts, in seconds.
    """

    def __init__(
        self,
        *,
        name: str,
        reach: Reach,
        hosts: Callable[[], Sequence[tuple[str, int]]],
        link: Callable[[], Link | None],
        busy: Callable[[], bool],
        max_pause: float,
    ) -> None:
        self._name = name
        self._reach = reach
        self._hosts = hosts
        self._link = link
        self._busy = busy
        self._max_pause = max_pause
        self._lock = threading.Lock()
        self._scout: Scout | None = None
        self._leaving: Link | None = None
        self._better: tuple[str, int] | None = None
        self._tolerated: Link | None = None

    def tolerate(self) -> None:
        """Let the link be that stands now, though its server is not listed; from any thread."""
        self._tolerated = self._link()

    def consider(self) -> None:
        """Look for a better server if the link is not good enough; from any thread, never waits."""
        link = self._link()
        if link is None or not self._poor(link):
            return
        with self._lock:
            if self._scout is not None and self._scout.alive and self._leaving is link:
                self._scout.hurry()
                return
            if self._scout is not None:
                self._scout.call_off()
            self._leaving, self._better = link, None
            self._scout = Scout(f"{self._name}-scout", self._reach, lambda scout: self._seek(scout, link))

    def stay(self) -> None:
        """Call the search off, and wait for its end; a link that was about to be left is not cut."""
        with self._lock:
            scout, self._scout = self._scout, None
        if scout is not None:
            scout.call_off()
            scout.join(JOIN_TIMEOUT)

    def take(self) -> tuple[str, int] | None:
        """Return where to connect to next, once; None: wherever it is due."""
        with self._lock:
            better, self._better = self._better, None
        return better if better in self._hosts() else None

    def _poor(self, link: Link) -> bool:
        return link.established and not link.dead and (link.read_only or not self._listed(link))

    def _listed(self, link: Link) -> bool:
        hosts = self._hosts()
        return not hosts or link is self._tolerated or link.server in {server_name(*each) for each in hosts}

    def _seek(self, scout: Scout, link: Link) -> None:
        bound = FIRST_PAUSE
        while self._link() is link and self._poor(link) and not scout.called_off:
            better = self._found(scout, link)
            if better is not None:
                self._leave(scout, link, better)
                return
            bound = min(2 * bound, self._max_pause)
            scout.pause(bound * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter

    def _found(self, scout: Scout, link: Link) -> tuple[str, int] | None:
        good = {Verdict.SERVES} if link.read_only else {Verdict.SERVES, Verdict.MUTE}
        hosts = [each for each in self._hosts() if server_name(*each) != link.server]
        random.shuffle(hosts)
        for each in hosts:
            if scout.called_off or not self._poor(link):
                return None
            if scout.survey(each) in good:
                return each
        return None

    def _leave(self, scout: Scout, link: Link, better: tuple[str, int]) -> None:
        with self._lock:
            if scout.called_off or self._leaving is not link or not self._poor(link):
                return  # its server may have been listed again while the other was asked
            self._better = better
        link.bury("moved")
        until = clock.now() + FINISH_WITHIN
        while (link.outstanding or self._busy()) and not link.closed and clock.now() < until:
            if scout.called_off:
                return
            scout.pause(_LOOK)
        if not scout.called_off:
            link.cut("moved")
