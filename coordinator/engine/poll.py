"""One wait for all that kazoo waits for, in which a silent link is noticed.

    readable without asking the kernel?   what a link has read ahead, a wake channel with requests: no sleep
    otherwise                             sleep until a descriptor, the bell, the time, or a link falls silent
    time is up                            kazoo is about to drop the link: it is cut first

kazoo judges a link only when nothing else happens: under traffic, its own requests keep it from noticing that
none is answered. It must not open or close anything: it cuts, and kazoo does the rest.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any

from coordinator.engine import clock
from coordinator.engine.link import Link
from coordinator.engine.wake import WakeChannel, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

_logger = logging.getLogger(__name__)


def select(
    link: Link | None, rlist: Sequence[Any], wlist: Sequence[Any], timeout: float | None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Wait as select.select does, for `KazooHandler.select`.

    Args:
        link: the session's; judged if it is in one of the lists.
        rlist: what to read: descriptors, objects with `fileno`, links, at most one wake channel.
        wlist: what to write: as `rlist`, without wake channels.
        timeout: seconds; None waits without limit.
    """
    if link is None or not (link in rlist or link in wlist):
        link = None
    elif clock.now() - link.contact >= link.patience:
        _judge(link)
    readable, reads, bell = _triage_reads(rlist)
    writable, writes = _triage_writes(wlist)
    if not readable and not writable:
        can_read, can_write = _wait(link, bell, reads, writes, timeout)
        if bell is not None and bell.count:
            readable.append(bell)
        elif link is not None and not can_read and not can_write:
            return _give_up(link, rlist, wlist)
    elif reads or writes:
        can_read, can_write = wait_for(reads, writes, 0)
    else:
        return readable, writable, []
    readable += [reads[fd] for fd in can_read if fd in reads]
    writable += [writes[fd] for fd in can_write]
    if link is not None and link in writable:
        link.writable = True
    return readable, writable, []


def _wait(
    link: Link | None,
    bell: WakeChannel | None,
    reads: dict[int, Any],
    writes: dict[int, Any],
    timeout: float | None,
) -> tuple[set[int], set[int]]:
    """Sleep until something is ready or time is up; cut a link that falls silent meanwhile."""
    until = inf if timeout is None else clock.now() + timeout
    polled = [*reads] if bell is None else [*reads, bell.fileno()]
    while True:
        if link is not None and link.readable and link.fileno() in reads:
            return {link.fileno()}, set()  # read ahead while silence was judged, or cut by another thread
        nap = max(0.0, min(until, inf if link is None else link.silent_at()) - clock.now())
        if bell is not None and not bell.fall_asleep():
            nap = 0.0
        ready = wait_for(polled, writes, None if nap == inf else nap)
        woken = bell is not None and bell.wake_up()
        if woken or any(ready):
            return ready
        if clock.now() >= until:
            if link is None or bell is None or not link.ping_outstanding:
                return ready
            # kazoo would drop the link here, when a ping has been out for as little as a
            # fifth of the timeout; the link has until it is silent.
            until = inf
        if link is not None:
            _judge(link)


def _judge(link: Link) -> None:
    """Cut the link if it is silent, after a look at what the kernel holds: we may be the slow ones."""
    if clock.now() < link.silent_at():
        return
    link.read_ahead()
    if clock.now() >= link.silent_at():
        _logger.info("link to %s cut: no answer for %.2f s", link.server, clock.now() - link.contact)
        link.cut("silence")


def _give_up(
    link: Link, rlist: Sequence[Any], wlist: Sequence[Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """Time is up: cut the link where kazoo is about to drop it (connection.py, _read, _write)."""
    if len(rlist) + len(wlist) == 1:
        link.cut("timeout")
    return [], [], []


def _triage_reads(rlist: Sequence[Any]) -> tuple[list[Any], dict[int, Any], WakeChannel | None]:
    """Split into what can be read without asking the kernel, what to poll, and an idle wake channel."""
    readable: list[Any] = []
    reads: dict[int, Any] = {}
    bell: WakeChannel | None = None
    for item in rlist:
        if isinstance(item, WakeChannel):
            if item.count:
                readable.append(item)
            else:
                bell = item
        elif isinstance(item, Link) and item.readable:
            readable.append(item)
        else:
            reads[_descriptor(item)] = item
    return readable, reads, bell


def _triage_writes(wlist: Sequence[Any]) -> tuple[list[Any], dict[int, Any]]:
    writable: list[Any] = []
    writes: dict[int, Any] = {}
    for item in wlist:
        if isinstance(item, Link) and item.writable:
            writable.append(item)
        else:
            writes[_descriptor(item)] = item
    return writable, writes


def _descriptor(item: Any) -> int:
    fd: int = item if isinstance(item, int) else item.fileno()
    if fd < 0:
        raise ValueError(f"file descriptor cannot be negative: {fd}")
    return fd
