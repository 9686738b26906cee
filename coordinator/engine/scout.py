"""Asking servers, beside the session's own link, whether they would serve us.

A link is left for another server only when that one has said that it serves: never while nothing better is at
hand. `survey` asks one; a `Scout` is an errand of many such questions, on a thread that ends with it.

    handler: link read-only, or to a server listed no more --> Scout --> a listed server that serves
    follower: addresses that the ensemble tells            --> Scout --> those that answer

It must not touch the session's link: what is found is for who sent it out.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from coordinator.engine.dial import Dialler

if TYPE_CHECKING:
    from collections.abc import Callable

Reach: TypeAlias = "Callable[[Dialler, tuple[str, int], float], socket.socket]"
"""Connects to a server as the session's links do, TLS included, in so many seconds."""

ANSWER_WITHIN = 2.0
"""Seconds that one server has to be reached and to answer. A live one takes milliseconds; what takes longer
is tried again."""

JOIN_TIMEOUT = 0.1
"""Seconds that a scout which was called off is waited for. It ends at once, but for the name resolver."""

_LONGEST = 4096
"""Bytes of an answer that are looked at; `srvr` has about 250."""

_SLICE = 0.05
"""Seconds between two looks at whether an answer is still wanted."""

_logger = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What a server came to."""

    SERVES = "serves"
    """It has a quorum, or needs none."""
    READ_ONLY = "read-only"
    """It is cut off from the others, and only reads."""
    MUTE = "mute"
    """It is a ZooKeeper, which does not say more: the words are not in its whitelist."""
    ABSENT = "absent"
    """Nobody answers, or somebody else, or a ZooKeeper that does not serve at present."""


def survey(reach: Reach, dialler: Dialler, server: tuple[str, int]) -> Verdict:
    """Ask a server how it does; never raises.

    `srvr` is answered by default (4lw.commands.whitelist), `isro` wherever there is a read-only mode.
    """
    verdict = judge(_ask(reach, dialler, server, b"srvr"))
    return judge(_ask(reach, dialler, server, b"isro")) if verdict is Verdict.MUTE else verdict


def judge(answer: bytes) -> Verdict:
    """Read an answer to `srvr` or `isro`. Source: ZooKeeper's StatCommand, IsroCommand, NopCommand."""
    if answer == b"ro" or b"\nMode: read-only" in answer:
        return Verdict.READ_ONLY
    if answer == b"rw" or b"\nMode: " in answer:
        return Verdict.SERVES
    return Verdict.MUTE if b"not in the whitelist" in answer else Verdict.ABSENT


def _ask(reach: Reach, dialler: Dialler, server: tuple[str, int], word: bytes) -> bytes:
    until = time.monotonic() + ANSWER_WITHIN
    answer = b""
    with contextlib.suppress(OSError), reach(dialler, server, ANSWER_WITHIN) as sock:
        sock.sendall(word)
        while len(answer) < _LONGEST:
            if dialler.called_off or time.monotonic() >= until:
                return b""
            sock.settimeout(_SLICE)
            try:
                chunk = sock.recv(_LONGEST)
            except TimeoutError:
                continue
            if not chunk:
                break
            answer += chunk
    return answer


class Scout:
    """An errand on a thread of its own, which can be called off.

    Args:
        name: of the thread.
        reach: how to connect.
        errand: what to do; it looks at `called_off` between its steps.
    """

    def __init__(self, name: str, reach: Reach, errand: Callable[[Scout], None]) -> None:
        self._reach = reach
        self._errand = errand
        self._dialler = Dialler()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._errand(self)
        except Exception:
            _logger.exception("an errand failed in %s", self._thread.name)

    @property
    def alive(self) -> bool:
        """Whether it is still under way."""
        return self._thread.is_alive()

    @property
    def called_off(self) -> bool:
        """Whether nobody wants to know any more."""
        return self._dialler.called_off

    def survey(self, server: tuple[str, int]) -> Verdict:
        """Ask a server how it does; "absent" once called off."""
        return survey(self._reach, self._dialler, server)

    @property
    def turn(self) -> int:
        """How often it was hurried."""
        return self._dialler.turn

    def pause(self, seconds: float, turn: int | None = None) -> None:
        """Sleep until called off or hurried; not at all if that was done since the given turn."""
        self._dialler.pause(seconds, turn)

    def hurry(self) -> None:
        """End a pause, and whatever it waits for: there is news."""
        self._dialler.interrupt()

    def call_off(self) -> None:
        """End it at its next step; from any thread."""
        self._dialler.call_off()

    def join(self, timeout: float) -> None:
        """Wait for its end, unless it is this thread."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
