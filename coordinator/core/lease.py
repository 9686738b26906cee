"""How long a held lock may be believed, by our own clock and without the network.

A server that has lost its leader goes on answering, and so does a leader that has lost its
followers (tests/faults/test_double_ownership.py): an answer proves only the server that gave it.
What proves more is a *beat*, a transaction that a quorum has to agree to. From the beats that were
answered, and from when they were sent, follows a time before which no leader can have expired the
session::

    X sent .. answered | tick/2 | A sent .. answered | B sent .. answered
                                                                  |
    end = min(sent(A) - tick/2, sent(X)) + timeout - drift  <-----+

B is the newest beat that was answered, A the newest one that had been answered when B was sent, on the
same look at the clock or before, X the newest frame of any kind that was answered before
``sent(A) - tick/2``. Why:

1. A server that is not the leader reports the sessions it has heard of only in its replies to the
   leader's pings, which go out every tick/2. The last of them before A was committed was sent no
   earlier than ``sent(A) - tick/2``.
2. Its reply reports X at least, and left that server before the answer to A, hence before B, on one
   ordered connection to the leader.
3. B was committed, so the leader had seen that reply, and counts the timeout from a moment not
   before the ping, or not before X. A new leader counts from its own beginning, which is later.

B may also be a ``sync`` on the same link: it passes the leader, after that reply, if it is A's leader;
if that was deposed since, the next one counts from its own beginning, which is after A.

A session that was made by the very handshake of the link needs no beat for its first timeout: its
creation is such a transaction, too, and its time cannot begin before.

Assumed: the leader's ping thread is on time, and clocks run at rates that differ by less than the
drift allowed. Never a fixed margin behind the last beat: after a silence that is wrong by seconds.

Pure: times come with each call, in seconds of one clock that only goes forward.
"""

from __future__ import annotations

from collections import deque
from math import inf

DRIFT, GRAIN = 0.01, 0.01
"""Part of the timeout, and seconds, by which two clocks may differ over one timeout: crystals differ by
1e-4, and a server rounds its deadlines to ticks in our favour; the rest is for what nobody has thought of."""

BEATS = 6
"""Beats in one session timeout: a lease lasts two thirds of the timeout after each."""

SAMPLES = 100
"""Frames that are remembered of one session timeout, at most: more would not make the end later by more
than a hundredth of it."""


def beat_interval(timeout: float) -> float:
    """Return the seconds between two beats."""
    return timeout / BEATS


def half_tick(timeout: float, tick: float | None) -> float:
    """Return the seconds between two pings of the leader to its followers, at most."""
    return (timeout / 2 if tick is None else tick) / 2


def lasts(timeout: float, tick: float | None) -> float:
    """Return the seconds that a lease lasts after a beat, when beats are answered at once.

    The last but one beat counts from the youngest frame that was answered half a tick before it; with
    no other traffic that is a beat as well.
    """
    beat = beat_interval(timeout)
    return timeout * (1 - DRIFT) - GRAIN - beat * (2 + half_tick(timeout, tick) // beat)


def too_short(timeout: float, tick: float | None, stop_within: float) -> str | None:
    """Return what is wrong with a session in which a lease would not outlast two beats; else None.

    Args:
        timeout: of the session, seconds.
        tick: as for LeaseClock.
        stop_within: seconds before its end at which a lease is lost.
    """
    lease, needed = lasts(timeout, tick), 2 * beat_interval(timeout) + stop_within
    if lease >= needed:
        return None
    known = "half of that is assumed for tick_time" if tick is None else f"tick_time {tick:g} s"
    return (
        f"a session timeout of {timeout:g} s is too short for a lease ({known}): it lasts "
        f"{max(0.0, lease):.2f} s after a beat, and two beats and stop_within ({stop_within:g} s) need "
        f"{needed:.2f} s; ask for a longer session_timeout, "
        "a shorter stop_within, or give the servers' tick_time"
    )


class LeaseClock:
    """Until when the session certainly lives, as far as the beats on its links have shown.

    Args:
        tick: the servers' tickTime, seconds; None: unknown, and then half of the timeout, because the
            least timeout that a server grants by default is two ticks.
    """

    def __init__(self, tick: float | None = None) -> None:
        self.end = -inf
        """No server can have expired the session before that; -inf: nothing is proved."""
        self.proved = False
        """Something was proved on the present link, be it that this has made the session."""
        self._tick = tick
        self._timeout = 0.0
        self._frames: deque[tuple[float, float]] = deque()  # answered at, sent at; of the present link
        self._beats: deque[tuple[float, float]] = deque()  # the same, of beats alone

    @property
    def interval(self) -> float:
        """Seconds between two beats."""
        return beat_interval(self._timeout)

    @property
    def half_tick(self) -> float:
        """Seconds between two pings of the leader to its followers."""
        return half_tick(self._timeout, self._tick)

    def provable_at(self, now: float) -> float:
        """Return when a beat is to be sent so that the next one proves something."""
        return max(now, self._frames[0][0] + self.half_tick + GRAIN) if self._frames else now

    def linked(self, timeout: float, sent_at: float, *, created: bool = False) -> None:
        """A link stands: what was answered on the last one says nothing about its server.

        Args:
            timeout: as negotiated now; a shorter one counts at once.
            sent_at: when the handshake was sent.
            created: it made the session.
        """
        self._timeout = timeout
        self._frames.clear()
        self._beats.clear()
        self.proved = created
        self.end = sent_at + self._believed() if created else min(self.end, sent_at + self._believed())

    def renewed(self) -> None:
        """There is another session: nothing is proved about it."""
        self.end = -inf

    def answered(self, sent_at: float, now: float) -> None:
        """A frame that was sent no earlier than that has been answered by now."""
        if self._frames and now - self._frames[-1][0] < self._timeout / SAMPLES:
            return  # remembering fewer makes the end earlier, never later
        self._frames.append((now, sent_at))
        while self._frames[0][0] < now - 2 * self._timeout:
            self._frames.popleft()

    def beaten(self, sent_at: float, now: float) -> None:
        """A beat that was sent no earlier than that has been answered by now: a quorum agreed to it."""
        self.synced(sent_at)
        self._beats.append((now, sent_at))
        self.answered(sent_at, now)

    def synced(self, sent_at: float) -> None:
        """A sync that was sent no earlier than that has been answered: it passed the leader.

        What is sent in the moment in which a beat's answer was heard is sent after it.
        """
        while len(self._beats) > 1 and self._beats[1][0] <= sent_at:
            self._beats.popleft()
        if self._beats and self._beats[0][0] <= sent_at:
            self._prove(self._beats[0][1] - self.half_tick)

    def _prove(self, pinged: float) -> None:
        """The leader has heard of what was answered before that moment, in which it may have sent a ping."""
        heard = max((sent for answered, sent in self._frames if answered < pinged), default=-inf)
        self.proved |= heard > -inf
        self.end = max(self.end, min(pinged, heard) + self._believed())

    def _believed(self) -> float:
        return self._timeout - self._timeout * DRIFT - GRAIN
