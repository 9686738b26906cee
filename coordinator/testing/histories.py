"""Histories of a lease: who believed to hold it, and whether ever two did at once.

Independent of how a lease is made: kazoo's Lock and Election, a row in a database, or ours.

::

    history = LeaseHistory()
    with lock, history.held("worker-1", token): ...      # in each contender
    history.assert_one_at_a_time()
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from coordinator.engine import clock
from coordinator.errors import ConfigurationError
from coordinator.testing import tenures
from coordinator.testing.tenures import ROWS, Overlap, Tenure

__all__ = ["BeliefWatch", "LeaseHistory"]

INTERVAL = 0.002
"""Seconds between two looks at what an owner believes: a look costs microseconds, and an overlap of
as little as that does harm."""
PATIENCE = 10.0
"""Seconds that a look which is under way gets to return, when its watch is closed."""


class LeaseHistory:
    """Who believed to hold one lease, from when to when; one history for each lease.

    May be used from any thread. The clock counts on while the machine sleeps and is the same
    in all processes of a machine, so that histories of several can be put together; not of
    several machines.

    Args:
        now: the clock; give that of a simulation to record simulated time.
        write: is given each transition at once, as a line of JSON without its end: for a process
            that will be killed.
    """

    def __init__(
        self, *, now: Callable[[], float] = clock.now, write: Callable[[str], object] | None = None
    ) -> None:
        self._now = now
        self._write = write
        self._lock = threading.Lock()
        self._tenures: list[Tenure] = []
        self._watches: list[BeliefWatch] = []

    # -- recording

    def began(self, owner: str, token: int | None = None, at: float | None = None) -> None:
        """Record that an owner believes to hold the lease; say so after it was acquired.

        Args:
            owner: a name of each contender's own.
            token: its fencing token, if there is one.
            at: seconds on the clock; unless given, now.

        Raises:
            ConfigurationError: he holds it already.
        """
        with self._lock:
            if self._open(owner) is not None:
                raise ConfigurationError(f"{owner!r} holds the lease already: record its end before")
            moment = self._now() if at is None else at
            self._tenures.append(Tenure(owner, token, moment, None))
            self._tell("began", owner, token, moment)

    def ended(self, owner: str, at: float | None = None) -> None:
        """Record that an owner believes so no more; say so before it is released.

        Of a process that was killed, its killer says so: ``at`` a moment before the kill.

        Raises:
            ConfigurationError: he does not hold it, or began later than that.
        """
        moment = self._now() if at is None else at
        with self._lock:
            place = self._open(owner)
            if place is None:
                raise ConfigurationError(f"{owner!r} does not hold the lease: record its beginning before")
            if moment < self._tenures[place].began:
                raise ConfigurationError(f"the lease of {owner!r} cannot end before it began")
            self._tenures[place] = replace(self._tenures[place], ended=moment)
            self._tell("ended", owner, None, moment)

    def _open(self, owner: str) -> int | None:
        places = (
            place for place, one in enumerate(self._tenures) if one.owner == owner and one.ended is None
        )
        return next(places, None)

    def _tell(self, what: str, owner: str, token: int | None, at: float) -> None:
        if self._write is not None:
            self._write(_line(what, owner, token, at))

    @contextmanager
    def held(self, owner: str, token: int | None = None) -> Iterator[None]:
        """Record that an owner believes to hold the lease while the block runs."""
        self.began(owner, token)
        try:
            yield
        finally:
            self.ended(owner)

    def watch(self, owner: str, believes: Callable[[], object], *, interval: float = INTERVAL) -> BeliefWatch:
        """Poll what an owner believes, in a thread, and record it until that is closed.

        ::

            with history.watch("worker-1", lambda: lock.is_acquired): ...

        Only what was seen counts: a tenure is recorded from the end of the first look that saw it
        to the beginning of the last one. So an overlap that is found is true, and one as short as
        two intervals, or as a pause of the thread, may be missed.

        Args:
            owner: a name of each contender's own.
            believes: true while he does; a number is taken for the token. What it raises ends the
                watch and is raised when that is closed.
            interval: seconds between two looks.
        """
        watch = BeliefWatch(self, owner, believes, interval, self._now)
        self._watches.append(watch)
        return watch

    def close(self) -> None:
        """End all watches.

        Raises:
            Exception: the first error of a watch.
        """
        for one in self._watches:
            one.stop()
        for one in self._watches:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self, error)

    # -- asking

    @property
    def tenures(self) -> list[Tenure]:
        """All tenures in the order in which they began."""
        with self._lock:
            return tenures.in_order(self._tenures)

    def _seen(self) -> tuple[list[Tenure], float]:
        """Return all tenures, and the moment until which those last that have not ended."""
        found = self.tenures
        return found, max([self._now(), *(one.began if one.ended is None else one.ended for one in found)])

    def overlaps(self) -> list[Overlap]:
        """Every time in which two tenures stood at once; one that has not ended lasts until now."""
        return tenures.overlaps(*self._seen())

    def led(self, since: float | None = None, until: float | None = None) -> float:
        """Return the share of the time, from 0 to 1, in which somebody believed to hold the lease.

        Args:
            since: seconds on the clock; unless given, when the first tenure began.
            until: the same; unless given, now or the last moment recorded.
        """
        found, now = self._seen()
        start = min((one.began for one in found), default=now) if since is None else since
        end = now if until is None else until
        return tenures.covered(found, start, end) / (end - start) if end > start else 0.0

    # -- asserting

    def assert_one_at_a_time(self, tolerance: float = 0.0) -> None:
        """Assert that no two tenures overlapped for longer than ``tolerance`` seconds.

        Raises:
            AssertionError: two did, told with a picture; or nothing was recorded at all.
        """
        found, now = self._recorded()
        wrong = [one for one in tenures.overlaps(found, now) if one.lasted > tolerance]
        if not wrong:
            return
        start = found[0].began
        longest = max(one.lasted for one in wrong)
        lines = [f"{len(wrong)} overlap{'s' * (len(wrong) > 1)} of leases, the longest of {longest:.3f} s:"]
        lines += [
            f"  {one.first} and {one.second}: at {one.began - start:.3f} s, for {one.lasted:.3f} s"
            for one in wrong[:ROWS]
        ]
        lines += [f"  and {len(wrong) - ROWS} more"] * (len(wrong) > ROWS)
        raise AssertionError("\n".join([*lines, "", *tenures.picture(found, wrong, now)]))

    def assert_tokens_ascend(self) -> None:
        """Assert that each tenure has a token greater than that of the one which began before.

        Raises:
            AssertionError: one has not; or nothing was recorded at all.
        """
        found, _ = self._recorded()
        wrong = {place for place, one in enumerate(found) if one.token is None}
        wrong |= {place for place, one in enumerate(found) if place and not _ascend(found[place - 1], one)}
        if not wrong:
            return
        first = min(wrong)
        shown = range(max(0, first - ROWS // 2), min(len(found), first + ROWS // 2))
        rows = [
            f"{'>' if place in wrong else ' '} {found[place].began - found[0].began:9.3f} s  {found[place]}"
            for place in shown
        ]
        what = "has no token" if found[first].token is None else f"follows {found[first - 1]}"
        raise AssertionError("\n".join([f"tokens do not ascend: {found[first]} {what}", "", *rows]))

    def _recorded(self) -> tuple[list[Tenure], float]:
        found, now = self._seen()
        if not found:
            raise AssertionError("nobody held the lease: nothing was recorded")
        return found, now

    # -- between processes

    def to_lines(self) -> list[str]:
        """Return all transitions as NDJSON, for `from_lines`."""
        lines = []
        for one in self.tenures:
            lines.append(_line("began", one.owner, one.token, one.began))
            if one.ended is not None:
                lines.append(_line("ended", one.owner, None, one.ended))
        return lines

    @classmethod
    def from_lines(cls, *histories: Iterable[str], now: Callable[[], float] = clock.now) -> Self:
        """Put histories together that were recorded in several processes of this machine.

        Args:
            histories: the lines of each; the same owner in two of them is two contenders.
            now: the clock.

        Raises:
            ConfigurationError: a line is no transition, or does not follow from those before it.
        """
        together = cls(now=now)
        for lines in histories:
            one = cls(now=now)
            for number, line in enumerate(lines, 1):
                try:
                    one._replay(line)
                except (ValueError, TypeError, KeyError, ConfigurationError) as error:
                    raise ConfigurationError(f"line {number} of a history: {error}: {line!r}") from error
            together._tenures += one._tenures
        return together

    def _replay(self, line: str) -> None:
        transition = json.loads(line)
        what, owner, at = transition["what"], str(transition["owner"]), float(transition["at"])
        token = transition.get("token")
        if not isinstance(token, int | None):
            raise ConfigurationError("the token is no number")
        if what == "began":
            self.began(owner, token, at)
        elif what == "ended":
            self.ended(owner, at)
        else:
            raise ConfigurationError("neither began nor ended")

    def __repr__(self) -> str:
        found = self.tenures
        held = [one.owner for one in found if one.ended is None]
        return f"<LeaseHistory of {len(found)} tenures, held by {', '.join(held) or 'nobody'}>"


def _line(what: str, owner: str, token: int | None, at: float) -> str:
    known = {} if token is None else {"token": token}
    return json.dumps({"what": what, "owner": owner, **known, "at": at})


def _ascend(former: Tenure, latter: Tenure) -> bool:
    return former.token is None or latter.token is None or former.token < latter.token


def _close(one: LeaseHistory | BeliefWatch, error: BaseException | None) -> None:
    """End it at the end of a block; an error of the block is the one that counts."""
    try:
        one.close()
    except Exception:
        if error is None:
            raise


class BeliefWatch:
    """A thread that records what an owner believes; `LeaseHistory.watch` makes it."""

    def __init__(
        self,
        history: LeaseHistory,
        owner: str,
        believes: Callable[[], object],
        interval: float,
        now: Callable[[], float],
    ) -> None:
        self._history = history
        self._owner = owner
        self._believes = believes
        self._interval = interval
        self._now = now
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"coordinator-belief-{owner}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._record()
        except Exception as error:  # noqa: BLE001 -- it is the user's; close() raises it
            self._error = error

    def _record(self) -> None:
        token: int | None = None
        last: float | None = None
        try:
            while not self._stopping.is_set():
                begun = self._now()
                belief = self._believes()
                number = belief if isinstance(belief, int) and not isinstance(belief, bool) else None
                if last is not None and (not belief or number != token):
                    ending, last = last, None
                    self._history.ended(self._owner, ending)
                if belief and last is None:
                    last, token = self._now(), number
                    self._history.began(self._owner, token, last)
                elif belief:
                    last = begun
                self._stopping.wait(self._interval)
        finally:
            if last is not None:
                self._history.ended(self._owner, last)

    def stop(self) -> None:
        """Look no more, without waiting for a look that is under way."""
        self._stopping.set()

    def close(self) -> None:
        """Look no more, and wait for the thread.

        Raises:
            Exception: what was asked for the belief had raised it.
            TimeoutError: that has not returned for 10 s; the thread is left behind.
        """
        self.stop()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise TimeoutError(f"the watch of {self._owner!r} does not end: what it asks hangs")
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self, error)
