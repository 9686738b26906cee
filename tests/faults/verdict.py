"""What the lines of all contenders, and the faults meanwhile, come to: was there ever more than one?

Pure: it judges what was recorded. A tenure is what looks confirmed (contenders.py). Held against them is that

- two tenures overlap;
- the token of a tenure is not greater than that of the one that began before;
- the first look after a pause, such as of a stopped process, let its holder go on although another tenure
  had begun: it must raise;
- less than 60 % of the fault-free time was led.

Fault-free is the time in which no fault is in force: from when the repair of one has returned (a killed
server serves again, links are whole, a stopped process was continued) until the next one is about to begin.
So what it takes to get over a fault counts as fault-free. Led is what looks confirmed, no more.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.testing import LeaseHistory, Overlap
from coordinator.testing.tenures import Tenure, covered, end_of, picture

LED = 0.6
"""Share of the fault-free time that has to be led."""
AROUND = 2.0
"""Seconds before and after an overlap that are drawn."""


@dataclass(frozen=True)
class Deed:
    """A fault, and when it was in force."""

    what: str
    began: float
    ended: float


@dataclass(frozen=True)
class Look:
    """A look of a holder: the first one after a pause, or one that took long."""

    owner: str
    after: float
    """When the look before it began."""
    at: float
    """When this one was told: no later than that if it is let go on, no earlier if not."""
    passed: bool
    """Whether it is let go on."""


@dataclass
class Verdict:
    """A run: what the contenders said, and what was done to them."""

    lines: list[list[str]]
    """Of each process of contenders, in order."""
    deeds: list[Deed]
    since: float
    until: float
    seed: str = ""
    failures: list[str] = field(default_factory=list)
    """What else went wrong."""
    history: LeaseHistory = field(init=False)
    looks: list[Look] = field(init=False)
    missed: Counter[str] = field(init=False)
    """How often the lease was not acquired, by why."""
    unended: list[str] = field(init=False)
    """Whose last tenure has not ended: how long it was confirmed is not known yet."""

    def __post_init__(self) -> None:
        self.looks, self.unended, self.missed = [], [], Counter()
        self.history = LeaseHistory.from_lines(*map(self._heard, self.lines))

    def _heard(self, lines: list[str]) -> list[str]:
        """Take in what a process said, and return its tenures."""
        tenures: list[str] = []
        begun: dict[str, str] = {}
        for line in lines:
            match json.loads(line):
                case {"what": "began", "owner": owner}:
                    begun[owner] = line
                case {"what": "ended", "owner": owner}:
                    tenures += [begun.pop(owner), line]
                case {"what": "looked", **look}:
                    self.looks.append(Look(**look))
                case {"what": "failed", "owner": owner, "why": why}:
                    self.failures.append(f"{owner} failed: {why}")
                case {"what": "missed", "why": why}:
                    self.missed[why] += 1
        self.unended += begun
        return tenures

    # -- what is wrong

    def wrongs(self) -> list[str]:
        """All that is held against them, in words."""
        found = [*self.failures, *self.rivalries()]
        found += [f"{one} has not told the end of his tenure" for one in self.unended]
        if not self.history.tenures:
            return [*found, "nobody ever held the lease"]
        try:
            self.history.assert_tokens_ascend()
        except AssertionError as wrong:
            found.append(str(wrong))
        if self.led < LED:
            found.append(
                f"led for {self.led:.0%} of the {self.calm:.1f} s without a fault, less than {LED:.0%}"
            )
        return found

    def rivalries(self) -> list[str]:
        """That ever two believed at once."""
        overlaps = self.history.overlaps()
        stale = [look for look in self.looks if look.passed and self._granted_meanwhile(look)]
        found = [
            f"the first look of {look.owner} after {look.at - look.after:.3f} s, at {self._moment(look.at)}, "
            f"let it go on although {self._granted_meanwhile(look)} had begun"
            for look in stale
        ]
        if overlaps:
            found.insert(0, self._picture(overlaps))
        return found

    def stale(self) -> list[Look]:
        """The looks after a pause in which another one's tenure had begun: each of them must not confirm."""
        return [look for look in self.looks if self._granted_meanwhile(look)]

    def _granted_meanwhile(self, look: Look) -> Tenure | None:
        for one in self.history.tenures:
            if one.owner != look.owner and look.after < one.began < look.at:
                return one
        return None

    def _picture(self, overlaps: list[Overlap]) -> str:
        """Tell all of them, and draw what was around the first one."""
        first = overlaps[0]
        since, until = first.began - AROUND, first.ended + AROUND
        near = [one for one in self.history.tenures if one.began < until and end_of(one, self.until) > since]
        return "\n".join(
            [
                f"{len(overlaps)} times two held the lease at once:",
                *(
                    f"  {self._moment(one.began)} for {one.lasted:.3f} s: {one.first} and {one.second}"
                    f", during: {', '.join(self.during(one)) or 'no fault'}"
                    for one in overlaps
                ),
                f"around the first, from {self._moment(near[0].began)}:",
                *picture(near, [one for one in overlaps if one.began < until], self.until),
            ]
        )

    def during(self, overlap: Overlap) -> list[str]:
        """The faults in force while two believed."""
        return [one.what for one in self.deeds if one.began < overlap.ended and overlap.began < one.ended]

    # -- how well they did

    @property
    def calms(self) -> Iterator[tuple[float, float]]:
        """The times in which no fault was in force."""
        reached = self.since
        for one in sorted(self.deeds, key=lambda deed: deed.began):
            if one.began > reached:
                yield reached, min(one.began, self.until)
            reached = max(reached, one.ended)
        if self.until > reached:
            yield reached, self.until

    @property
    def calm(self) -> float:
        """Seconds in which no fault was in force."""
        return sum(end - start for start, end in self.calms)

    @property
    def led(self) -> float:
        """The share of them in which somebody believed to hold the lease."""
        led = sum(covered(self.history.tenures, start, end) for start, end in self.calms)
        return led / self.calm if self.calm else 0.0

    def _moment(self, at: float) -> str:
        return f"{at - self.since:.3f} s"

    def report(self) -> str:
        """The seed, the faults with their times, and figures."""
        missed = ", ".join(f"{count} by {why}" for why, count in sorted(self.missed.items()))
        tenures, stale = len(self.history.tenures), len(self.stale())
        return "\n".join(
            [
                f"seed {self.seed}; faults:",
                *(
                    f"  {self._moment(one.began):>10} .. {self._moment(one.ended):>10}  {one.what}"
                    for one in self.deeds
                ),
                f"{tenures} tenures in {self.until - self.since:.1f} s; led for {self.led:.0%} of "
                f"{self.calm:.1f} s without a fault; {stale} stale looks; missed: {missed or 'none'}",
            ]
        )

    def assert_never_two(self) -> None:
        """Raise AssertionError with everything that is wrong, and the report."""
        wrong = self.wrongs()
        if wrong:
            raise AssertionError("\n\n".join([*wrong, self.report()]))
