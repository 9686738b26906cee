r"""One time of holding a lock: from when it was proved until it is lost or given back, for good.

::

    granted ---- stop_within before the end, and whatever else ends it ----> lost ---> end
            \                      (the holder stops meanwhile)                         |
             +--- given back ---------------------------------------------------------+--> seat deleted

Between *lost* and the end nobody else can hold it: that is the time to stop. A term never comes
back; holding again is another term with a greater token.

The engine's thread writes it, any thread reads it: what is read belongs together because the
reason is written last and read first.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from coordinator.core.lease import LeaseClock
from coordinator.models import SessionId

Loss = Literal["lapsed", "expired", "deleted", "suspended", "closed"]
Reason = Literal["lapsed", "expired", "deleted", "suspended", "closed", "released"]


class Term:
    """A lease as the core knows it.

    Args:
        seat: the path of the znode by which it is held.
        token: the transaction that created that.
        session_id: whose it is.
        stop_within: seconds before its end at which it is lost.
        clock: until when the session certainly lives.
    """

    def __init__(
        self, seat: str, token: int, session_id: SessionId, stop_within: float, clock: LeaseClock
    ) -> None:
        self.seat = seat
        self.token = token
        self.session_id = session_id
        self.stop_within = stop_within
        self.reason: Reason | None = None
        """Why it is over; None: it is not."""
        self._clock = clock
        self._latest = inf

    @property
    def end(self) -> float:
        """When it ends, by the engine's clock: later with each beat until it is lost.

        The clock is read first: should it be that of the next session by now, then this is over already.
        """
        return min(self._clock.end, self._latest)

    @property
    def stops_at(self) -> float:
        """When it is lost unless a beat is answered before."""
        return self.end - self.stop_within

    def held(self, now: float) -> bool:
        """Whether nobody else can hold it at that time."""
        return now < self.end

    def remaining(self, now: float) -> float:
        """Return the seconds until it ends."""
        return max(0.0, self.end - now)

    def over(self, reason: Reason, latest: float = inf) -> None:
        """It is lost or given back; it ends where it would have, or at ``latest``."""
        self._latest = min(self.end, latest)
        self.reason = reason
