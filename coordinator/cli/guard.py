"""The process between ``coordinator run`` and its command: it ends the command before the lease ends.

::

    run, holds the lease                guard                          the command, a process group
      start, end, stop, signal ------->   SIGTERM, SIGKILL, signals ---->  and whatever it starts
      <------ started, halted, gone       by its own clock

It is a process of its own because the one that holds the lease may be stopped, starved or killed: whoever
is left of the two ends the command. It is the parent of the command and the subreaper of all that comes
from it: what leaves the process group becomes its child when its parent dies, and is ended, too.

It runs as a script, without site-packages: it may import the standard library only. It must not wait for
anything but its own poll. Linux only: prctl(2), /proc, CLOCK_BOOTTIME.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

__all__ = ["CATCHABLE", "Guard", "adopt_orphans", "childless", "children", "now", "reserve"]

KILL, TERM, IGNORE = "kill", "term", "ignore"
"""What becomes of the command when the lease is lost."""
CATCHABLE = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD,
    signal.SIGPIPE, signal.SIGXFSZ,  # Python has a use for them
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS,  # faults
}  # fmt: skip
"""Signals that can be handed on."""
JOB_CONTROL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGSTOP}
LOOK = 0.25
"""Seconds between two looks at the clock: poll's stands still while the machine sleeps, ours does not."""
PRESS = 0.02
"""Seconds between two rounds of SIGKILL, until nobody is left."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Source: linux/prctl.h."""

_libc = ctypes.CDLL(None, use_errno=True)


def now() -> float:
    """Return the time of the clock that a lease is measured by: `coordinator.engine.clock`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def reserve(stop_within: float) -> float:
    """Return how many seconds before the end of the lease SIGKILL is sent, whatever the grace."""
    return stop_within / 3


def children() -> set[int]:
    """Return the children of this process, dead ones that nobody waited for included.

    Raises:
        OSError: /proc is not that of our PID namespace, or the kernel lacks CONFIG_PROC_CHILDREN.
    """
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            if task.exists():  # no thread that has just ended
                raise
    return found


def childless() -> bool:
    """Whether we have no children at all: certain, while `children` may overlook some while others die.

    Source: proc_pid_task_tid_children(5).
    """
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent dies: PR_SET_CHILD_SUBREAPER."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Guard:
    """Runs one command, until nothing of it is left."""

    def __init__(self, channel: socket.socket, on_lost: str, grace: float, command: list[str]) -> None:
        self._channel = channel
        self._on_lost = on_lost
        self._grace = grace
        self._command = command
        self._group = 0
        """The command's pid, too: it stays a zombie until the end, so that nobody else gets the number."""
        self._process: subprocess.Popen[bytes] | None = None
        self._end, self._stop_within = -inf, 0.0
        self._lost_at: float | None = None
        self._abandoned_at: float | None = None
        self._ended: tuple[int, float] | None = None
        """The command's own status, as subprocess has it, and when that was seen."""
        self._asked: set[int] = set()

    def run(self) -> None:
        """Obey until the command is gone, or until there is nobody to obey and nothing to guard."""
        wake, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        for number in CATCHABLE | {signal.SIGCHLD}:  # a handler, so that the command begins with the default
            if number == signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        while True:
            ready = dict(poll.poll(self._patience() * 1000))
            if wake in ready:
                os.read(wake, 4096)
            if self._channel.fileno() in ready:
                for order in self._orders():
                    self._obey(order)
                if self._abandoned_at is not None:
                    poll.unregister(self._channel)
            if self._process is not None:
                self._look()
                self._act()
            elif self._abandoned_at is not None:
                return  # not sooner: what is sent to nobody would hide what we have told

    def _patience(self) -> float:
        if self._kill_at <= now():
            return PRESS
        return max(0.0, min(LOOK, self._kill_at - now(), self._given_up_at - now()))

    # -- what we are told, and what we tell

    def _orders(self) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    order = self._channel.recv(1 << 16)
                except ConnectionError:
                    order = b""
                if not order:  # whoever holds the lease is dead
                    self._abandoned_at = now()
                    return
                yield json.loads(order)

    def _obey(self, order: dict[str, Any]) -> None:
        match order["do"]:
            case "start":
                self._end, self._stop_within = order["end"], order["stop_within"]
                self._start(order["environment"])
            case "extend" if self._lost_at is None:
                self._end = order["end"]
            case "stop":
                self._end = min(self._end, order["end"])
                self._lost_at = now() if self._lost_at is None else self._lost_at
            case "signal" if self._process is not None and self._ended is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    (os.killpg if order["group"] else os.kill)(self._group, order["number"])

    def _tell(self, **report: object) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(json.dumps(report).encode())

    def _start(self, environment: dict[str, str]) -> None:
        guard = os.getpid()
        caught = [number for number in CATCHABLE if signal.getsignal(number) is not signal.SIG_IGN]

        def prepare() -> None:
            for number in caught:  # until exec does it, they would be lost
                signal.signal(number, signal.SIG_DFL)
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # it died before we asked to be told
                os._exit(128 + signal.SIGKILL)

        try:
            # Threads make preexec_fn dangerous; this process has none.
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                env={**os.environ, **environment},
                process_group=0,
                close_fds=False,  # what was handed to us is for the command
                preexec_fn=prepare,
            )
        except OSError as error:
            self._tell(**{"is": "unable", "errno": error.errno})
            return
        self._group = self._process.pid
        self._tell(**{"is": "started", "group": self._group})

    # -- what has become of them, and what is to be done

    def _look(self) -> None:
        for pid in children() - {self._group}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if self._ended is not None:
            return
        with contextlib.suppress(ChildProcessError):
            halted = os.waitid(os.P_PID, self._group, os.WSTOPPED | os.WNOHANG)
            if halted is not None and halted.si_status in JOB_CONTROL:
                self._tell(**{"is": "halted", "signal": halted.si_status})
        ended = os.waitid(os.P_PID, self._group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            self._ended = status, now()

    def _act(self) -> None:
        if self._given_up_at <= now():
            self._lost_at = now()
        left = children() - {self._group}
        if self._ended is not None and not left:
            self._finish()
        elif self._kill_at <= now():
            self._kill(left)
        elif any(why is not None for why in (self._lost_at, self._ended, self._abandoned_at)):
            self._ask(left)

    @property
    def _given_up_at(self) -> float:
        """When we take the lease for lost by ourselves: whoever holds it should have said so before."""
        if self._process is None or self._lost_at is not None or self._on_lost == IGNORE:
            return inf
        return self._end - self._stop_within / 2

    @property
    def _kill_at(self) -> float:
        """When patience ends; infinite as long as nobody has been asked to end."""
        times = []
        last = self._end - reserve(self._stop_within)
        if self._ended is not None:
            times.append(self._ended[1] + self._grace)
        if self._lost_at is not None and self._on_lost == KILL:
            times += [self._lost_at + self._grace, last]
        if self._abandoned_at is not None:
            times += [self._abandoned_at + self._grace, last]
        return min(times, default=inf)

    def _ask(self, left: set[int]) -> None:
        """Send SIGTERM once: to the group, and to each that has left it, when it becomes our child."""
        if self._group and not self._asked:
            self._send(os.killpg, self._group, signal.SIGTERM, signal.SIGCONT)  # a stopped one must see it
        for pid in left - self._asked:
            if os.getpgid(pid) != self._group:  # dead or alive, it is there until we have waited for it
                self._send(os.kill, pid, signal.SIGTERM, signal.SIGCONT)
        self._asked |= {self._group, *left}

    def _kill(self, left: set[int]) -> None:
        if self._group:
            self._send(os.killpg, self._group, signal.SIGKILL)
        for pid in left:
            self._send(os.kill, pid, signal.SIGKILL)

    def _send(self, kill: Any, target: int, *numbers: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; another user's since a setuid
            for number in numbers:
                kill(target, number)

    def _finish(self) -> None:
        """Tell the end, if the kernel agrees that nobody is left."""
        if self._process is None or self._ended is None:
            return
        status, ended_at = self._ended
        self._process.wait()
        self._group = 0  # from now on the number may be anybody's
        if childless():
            lost = self._lost_at is not None and self._lost_at <= ended_at
            self._tell(**{"is": "gone", "status": status, "lost": lost})
            self._process = None  # nothing to guard any more: we end with the channel


def main() -> None:
    """Guard the command of the arguments: descriptor, what a loss means, grace, command."""
    descriptor, on_lost, grace, *command = sys.argv[1:]
    channel = socket.socket(fileno=int(descriptor))
    channel.set_inheritable(False)
    channel.settimeout(0)
    adopt_orphans()
    Guard(channel, on_lost, float(grace), command).run()


if __name__ == "__main__":
    main()
