"""Waiting that can be interrupted: kazoo's wake channel, and one poll() for all.

kazoo wakes its connection thread with a byte per request through a socket pair of 278 slots, and blocks
the caller when it is full: an event loop freezes, `stop()` deadlocks (measured with kazoo 2.11.0). Here the
requests are *counted* under a lock, without limit, and the file descriptor is only a bell:

    caller:  count += 1;  asleep and not rung?  -> ring                    (never blocks)
    loop:    count > 0?   -> work, no system call
             otherwise    -> asleep = True; poll(bell, socket); asleep = False; silence the bell

The bell is rung under the same lock that sets `asleep`: without it a request could be counted after the loop
looked and before it slept, and would wait for the next heartbeat.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
from typing import TYPE_CHECKING

from kazoo.handlers.utils import selector_select

from coordinator.engine import fork

if TYPE_CHECKING:
    from collections.abc import Collection


class WakeChannel:
    """Both ends of kazoo's `create_socket_pair`: counts without limit, wakes with one eventfd.

    Args:
        portable: use a pipe even where there is an eventfd (Linux), as every other POSIX system must.
    """

    def __init__(self, *, portable: bool = False) -> None:
        self.count = 0
        self._lock = threading.Lock()
        self._asleep = False
        self._rung = False
        self._closed = False
        if hasattr(os, "eventfd") and not portable:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._rope = self._bell
        else:
            self._bell, self._rope = os.pipe()
            os.set_blocking(self._bell, False)
            os.set_blocking(self._rope, False)
        fork.let_go_by(self, WakeChannel._let_go)

    def fileno(self) -> int:
        """The descriptor to poll between `fall_asleep` and `wake_up`; -1 once closed."""
        return -1 if self._closed else self._bell

    def send(self, data: bytes) -> int:
        """Count one request and wake the loop if it sleeps; from any thread, without ever blocking.

        Raises:
            OSError: the channel is closed.
        """
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "wake channel is closed")
            self.count += 1
            if self._asleep and not self._rung:
                self._rung = True
                self._ring()
        return len(data)

    def recv(self, size: int) -> bytes:
        """Take one request off the count.

        Raises:
            BlockingIOError: none is outstanding; kazoo takes this OSError for an empty socket.
            OSError: the channel is closed.
        """
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "wake channel is closed")
            if self.count == 0:
                raise BlockingIOError(errno.EAGAIN, "no request is outstanding")
            self.count -= 1
        return b"\0"[:size]

    def fall_asleep(self) -> bool:
        """Ask to be woken by the descriptor; False when there is work already."""
        with self._lock:
            self._asleep = self.count == 0
            return self._asleep

    def wake_up(self) -> bool:
        """End the sleep and silence the descriptor; True when there is work."""
        with self._lock:
            self._asleep = False
            if self._rung:
                self._rung = False
                with contextlib.suppress(OSError):
                    os.read(self._bell, 8)
            return self.count > 0

    def _ring(self) -> None:
        if self._rope == self._bell:
            os.eventfd_write(self._bell, 1)
        else:
            os.write(self._rope, b"\0")

    def close(self) -> None:
        """Free the descriptors; a second close (kazoo closes both ends) does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._bell)
            if self._rope != self._bell:
                os.close(self._rope)

    def _let_go(self) -> None:
        self._lock = threading.Lock()
        self.close()


def wait_for(
    reads: Collection[int], writes: Collection[int], timeout: float | None
) -> tuple[set[int], set[int]]:
    """Wait until one of the descriptors can be read or written; an error or hang-up counts as both.

    Args:
        reads: descriptors to wait for reading.
        writes: descriptors to wait for writing.
        timeout: seconds; None waits without limit.

    Returns:
        The readable and the writable descriptors; none after the timeout.
    """
    if not hasattr(select, "poll"):  # Windows; some old macOS builds
        readable, writable, _ = selector_select(list(reads), list(writes), [], timeout)
        return set(readable), set(writable)
    poll = select.poll()
    for fd in reads:
        poll.register(fd, select.POLLIN)
    for fd in writes:
        poll.register(fd, select.POLLOUT | (select.POLLIN if fd in reads else 0))
    ready = poll.poll(None if timeout is None else timeout * 1000)
    return (
        {fd for fd, event in ready if event != select.POLLOUT and fd in reads},
        {fd for fd, event in ready if event != select.POLLIN and fd in writes},
    )


def wait_unless(bell: WakeChannel, reads: Collection[int], writes: Collection[int], timeout: float) -> None:
    """Wait until one of the descriptors can be read or written; a `send` on the bell gives it up.

    Raises:
        ConnectionAbortedError: the bell was rung.
        TimeoutError: after `timeout` seconds.
    """
    ready: tuple[set[int], set[int]] = set(), set()
    if bell.fall_asleep():
        ready = wait_for([bell.fileno(), *reads], writes, max(0.0, timeout))
    if bell.wake_up():
        raise ConnectionAbortedError(errno.ECONNABORTED, "connecting was called off")
    if not any(ready):
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
