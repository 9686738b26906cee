"""A command that runs as long as a lease is held, and what `coordinator run` does meanwhile.

The guard (`coordinator.cli.guard`) is the command's parent. It is told when the lease ends, whenever that
has changed, and which signals have come. It ends the command in time, also when we cannot say so; when the
guard cannot, we do.

Nothing here knows ZooKeeper: a lease is whatever says how long it is certain, and when it is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Literal, Protocol, Self

from coordinator.cli import guard
from coordinator.cli.ending import handlers
from coordinator.cli.guard import CATCHABLE, adopt_orphans, childless, children, now, reserve
from coordinator.cli.terminal import Terminal

__all__ = ["Child", "GuardLostError", "Held", "OnLost", "Outcome", "shell_code"]

OnLost = Literal["kill", "term", "ignore"]
PROMPT = 0.25
"""Seconds until the guard hears that the lease has become longer, at most."""
GRAIN = 0.01
"""Seconds by which the end of a lease may seem to move without being told."""
ANSWER = 0.1
"""Seconds that the guard gets to end a command whose lease has ended without warning."""
TYPED = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP}
"""Signals that keys of a terminal send to all of its foreground."""
HANDED_ON = CATCHABLE - {signal.SIGTTIN, signal.SIGTTOU}
LOSS = 0
"""What the bell says beside the numbers of signals."""


class Held(Protocol):
    """What is asked of a lease."""

    @property
    def remaining(self) -> float:
        """Seconds for which it is certainly held, as far as is known now."""

    def wait_lost(self, timeout: float | None = None) -> bool:
        """Wait until it is lost, or, with a timeout, for that long; return whether it is."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """As a shell tells it: 128 + number for a signal."""
    lost: bool
    """It was still there when the lease was lost, and was asked to end because of that."""


class GuardLostError(OSError):
    """The guard was killed; so was the command, by us."""


def shell_code(status: int) -> int:
    """Return the exit code of a shell for a return code of subprocess."""
    return 128 - status if status < 0 else status


class Child:
    """A command and its guard. The guard begins at once: make it before there are threads.

    Args:
        command: the program and its arguments.
        grace: seconds between SIGTERM and SIGKILL; fewer, where the lease ends before.
        on_lost: "kill": both; "term": SIGTERM only, and it may go on beyond the lease; "ignore": neither.

    Raises:
        OSError: the guard cannot run here.
    """

    def __init__(self, command: Sequence[str], *, grace: float, on_lost: OnLost = "kill") -> None:
        self._strangers = children()  # of whoever became us by exec
        adopt_orphans()
        self._on_lost = on_lost
        self._command = command[0]
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(0)
        theirs.set_inheritable(True)
        script = [sys.executable, "-I", "-S", guard.__file__]
        with theirs:
            self._guard = subprocess.Popen(  # noqa: S603
                [*script, str(theirs.fileno()), on_lost, repr(grace), *command],
                close_fds=False,  # what was handed to us is for the command
                process_group=0,  # what is typed is for us
            )
        self._terminal = Terminal()
        self._end = 0.0
        self._lost_at: float | None = None
        self._group = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the command, if it is still there, and wait until nothing of it is left."""
        self._channel.close()
        self._guard.wait()

    def reap(self) -> None:
        """Wait for orphans that have died: as PID 1 we are their parent, and nobody else does it."""
        for pid in children() - {self._guard.pid}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def run(
        self,
        lease: Held,
        environment: Mapping[str, str],
        *,
        stop_within: float,
        on_loss: Callable[[], object] = lambda: None,
    ) -> Outcome:
        """Run the command until it ends, or until the lease is lost; return when nothing of it is left.

        It must be called in the main thread: signals are handed on to the command meanwhile.

        Args:
            lease: held.
            environment: what is added to ours.
            stop_within: seconds before the end of the lease at which it says that it is lost.
            on_loss: called once, in this thread, when it does.

        Raises:
            OSError: the command cannot be run; as a FileNotFoundError, a PermissionError, ...
            GuardLostError: somebody has killed the guard.
        """
        with self._terminal, Bell() as bell, bell.rung_by(lease):
            self.reap()  # who died before the bell was there
            self._end = _end_of(lease)
            self._send(do="start", end=self._end, stop_within=stop_within, environment=dict(environment))
            poll = select.poll()
            poll.register(bell.fileno(), select.POLLIN)
            poll.register(self._channel, select.POLLIN)
            while True:
                ready = dict(poll.poll(min(PROMPT, stop_within / 4) * 1000))
                if self._channel.fileno() in ready and (outcome := self._hear()) is not None:
                    if outcome.lost and self._lost_at is None:  # we were stopped; the guard was not
                        on_loss()
                    return outcome
                for number in bell.rings() if bell.fileno() in ready else ():
                    if number == LOSS:
                        self._lost_at = now()
                        self._say_end(lease, stop=True)
                        on_loss()
                    else:
                        self._heed(number)
                self._say_end(lease)
                if self._late(stop_within):
                    self._end_all()
                    return Outcome(128 + signal.SIGKILL, lost=True)

    # -- the lease, and the guard that must know of it

    def _say_end(self, lease: Held, *, stop: bool = False) -> None:
        """Tell the guard when the lease ends, if that has changed; a lost one only ends sooner."""
        end = _end_of(lease)
        if stop or (self._lost_at is not None and end < self._end - GRAIN):
            self._end = end
            if self._on_lost != "ignore":
                self._send(do="stop", end=end)
        elif self._lost_at is None and abs(end - self._end) > GRAIN:
            self._end = end
            self._send(do="extend", end=end)

    def _late(self, stop_within: float) -> bool:
        """Whether the guard should have ended the command by now: it may be stopped itself."""
        if self._lost_at is None or self._on_lost != "kill":
            return False
        return now() >= max(self._end - reserve(stop_within) * 3 / 4, self._lost_at + ANSWER)

    def _send(self, **order: object) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # it is stopped, or dead: we are told
            self._channel.send(json.dumps(order).encode())

    def _hear(self) -> Outcome | None:
        """Read one report of the guard's; return how the command ended, if it says so."""
        try:
            report: dict[str, Any] = json.loads(self._channel.recv(4096) or b"{}")
        except ConnectionError:
            report = {}
        match report.get("is"):
            case "started":
                self._group = report["group"]
            case "halted":
                self._halted(report["signal"])
            case "unable":
                raise OSError(report["errno"], os.strerror(report["errno"]), self._command)
            case "gone":
                return Outcome(shell_code(report["status"]), lost=report["lost"])
            case _:
                self._end_all()
                raise GuardLostError("the guard of the command was killed: the command, too, then")
        return None

    def _end_all(self) -> None:
        """Kill the guard and whatever the command has become; what it leaves becomes our child."""
        self._guard.kill()
        self._guard.wait()
        if self._group in children():  # not if its number may be somebody else's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)
        while not childless():
            left = children() - self._strangers
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(left.pop(), 0)
            elif self._strangers:
                return

    # -- signals

    def _heed(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self.reap()
        elif number == signal.SIGCONT:
            self._continue()
        else:
            typed = number in TYPED and self._terminal.foreground
            self._send(do="signal", number=number, group=typed)

    def _halted(self, number: int) -> None:
        """The command was stopped: it wants the terminal, or Ctrl-Z was typed."""
        wants = number in (signal.SIGTTIN, signal.SIGTTOU)
        if wants and self._terminal.foreground:
            self._terminal.give(self._group)
        elif number == signal.SIGSTOP or not self._terminal.there:
            return  # somebody has a reason
        else:
            self._terminal.stop()
            if wants and not self._terminal.foreground:
                return  # until somebody continues us
        self._continue()

    def _continue(self) -> None:
        """Let it go on; if we were stopped for longer than the lease, the guard has ended it meanwhile."""
        self._send(do="signal", number=signal.SIGCONT, group=True)


class Bell:
    """A pipe in which signals, and the loss of a lease, leave a byte: the one wait of a `Child`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            os.close(self._read)
            os.close(self._write)

    def fileno(self) -> int:
        """Return what poll is asked about."""
        return self._read

    def rings(self) -> bytes:
        """Return what was left there."""
        return os.read(self._read, 4096)

    @contextlib.contextmanager
    def rung_by(self, lease: Held) -> Iterator[None]:
        """Have the loss of this lease ring, and every signal that can be handed on."""
        threading.Thread(target=self._watch, args=(lease,), name="coordinator-run-loss", daemon=True).start()
        before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            with handlers(dict.fromkeys(HANDED_ON | {signal.SIGCHLD}, _leave)):
                yield
        finally:
            signal.set_wakeup_fd(before)

    def _watch(self, lease: Held) -> None:
        if lease.wait_lost():
            with self._lock:
                if not self._closed:  # a loss after the end is of no interest, and the descriptor another's
                    os.write(self._write, bytes([LOSS]))


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Leave a signal to the bell."""


def _end_of(lease: Held) -> float:
    began = now()
    return began + lease.remaining  # in this order: a moment too early, never too late
