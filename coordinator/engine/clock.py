"""The clock that never stands still."""

from __future__ import annotations

import time


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


now = _boottime if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Seconds on a clock that only goes forward and keeps counting while the machine sleeps.

Source: clock_gettime(2). CLOCK_MONOTONIC stands still during a suspend, and the server's session timer does
not: a laptop or a migrated guest would wake up and believe a lease that ended long ago. CLOCK_BOOTTIME counts
on. Where there is none (outside Linux) it is `time.monotonic`.
"""
