"""A command within a lease: whatever happens to whom, nothing of it is left when the lease ends.

Real processes, no ZooKeeper: the lease exists on the clock only (`tests.unit.leased`).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from coordinator.cli import guard
from coordinator.cli.child import HANDED_ON
from coordinator.engine import clock
from coordinator.engine.clock import now
from coordinator.testing import eventually
from tests.steady import undisturbed
from tests.support import PATIENCE

ROOT = Path(__file__).parents[2]
LASTS = 1.2
BRIEF = {"lasts": 0.6, "stop_within": 0.5, "grace": 0}
#: A child and a grandchild that ignore SIGTERM, and one that has left the process group and its parents.
FAMILY = """
trap "" TERM
sleep 100 & grandchild=$!
daemon=$(setsid sh -c 'sleep 100 >/dev/null & echo $!')
echo $$ $grandchild $daemon
while :; do wait; done
"""
#: A child that ends politely, and says so; what it has forked would lose a signal before it is a sleep.
POLITE = """
trap 'echo tidied; exit 9' TERM
sleep 100 & until grep -q sleep /proc/$!/comm; do :; done
echo $$ $!
wait
"""


class Leased:
    """``tests.unit.leased``, the guard that it has, and what its command has said."""

    def __init__(self, given: dict[str, Any], command: list[str], **popen: Any) -> None:
        pipe, self._fails = os.pipe()
        popen["pass_fds"] = (pipe, *popen.get("pass_fds", ()))
        program = [*popen.pop("under", ()), sys.executable, "-m", "tests.unit.leased"]
        self.process = subprocess.Popen(
            [*program, str(pipe), json.dumps(given), *command],
            text=True,
            cwd=ROOT,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
        )
        os.close(pipe)
        self.fds: dict[int, int] = {}
        self.child = 0
        self.told: dict[str, Any] = {}
        self.rest = ""

    def fail(self) -> None:
        """From now on the lease is not renewed: it is certain for as long as it lasts."""
        os.write(self._fails, b"!")

    def until_after_the_lease(self) -> None:
        """Wait until it says on stderr that the lease has ended."""
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == "ended\n"

    def say(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line of the command."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def family(self) -> list[int]:
        """The processes whose numbers it says: from now on, we see when they die."""
        pids = [int(pid) for pid in self.line().split()]
        self.child = pids[0]
        self.fds |= {os.pidfd_open(pid): pid for pid in pids}
        return pids

    @property
    def guard(self) -> int:
        (pid,) = children_of(self.process.pid)
        return pid

    def deaths(self) -> dict[int, float]:
        """When each of the family died."""
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        died: dict[int, float] = {}
        while len(died) < len(self.fds):
            ready = poll.poll(PATIENCE * 1000)
            assert ready, f"alive: {set(self.fds.values()) - set(died)}"
            for fd, _ in ready:
                died[self.fds[fd]] = now()
                poll.unregister(fd)
        return died

    def end(self) -> int:
        """Wait for its end, with which nobody of the family may be left; return its exit code."""
        self.process.wait(PATIENCE)
        for fd, pid in self.fds.items():
            assert select.select([fd], [], [], 0)[0], f"{pid} is alive"
        self.rest, err = self.process.communicate(timeout=PATIENCE)
        assert "Traceback" not in err, err
        self.told = json.loads(err.splitlines()[-1]) if err else {}
        return self.process.returncode

    def close(self) -> None:
        for fd in (self._fails, *self.fds):
            os.close(fd)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)


def children_of(pid: int) -> set[int]:
    """The children of that process's first thread."""
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@contextmanager
def leased(given: dict[str, Any], *command: str, **popen: Any) -> Iterator[Leased]:
    run = Leased(given, list(command), **popen)
    try:
        yield run
    finally:
        run.close()


def python(text: str) -> tuple[str, str, str]:
    return sys.executable, "-c", text


# -- the lease ends


class Play(NamedTuple):
    """What was seen of a command that was ended."""

    died: dict[int, float]
    at: float
    """When what ended it was done."""
    code: int
    told: dict[str, Any]
    lines: tuple[str, ...] = ()

    @property
    def first(self) -> float:
        return min(self.died.values())

    @property
    def last(self) -> float:
        return max(self.died.values())


def lost(given: dict[str, Any], text: str, before: Callable[[Leased], object] = lambda _: None) -> Play:
    """What becomes of a shell script whose lease is not renewed any more."""

    def play() -> Play:
        with leased(given, "sh", "-c", text) as run:
            run.family()
            before(run)
            at = now()
            run.fail()
            died = run.deaths()
            code = run.end()
            return Play(died, at, code, run.told, tuple(run.rest.splitlines()))

    return undisturbed(play)


def test_nobody_is_left_when_the_lease_ends() -> None:
    """Child, grandchild, one that left the group; all deaf to SIGTERM; the grace is longer than the lease."""
    seen = lost({"grace": 60}, FAMILY)
    assert seen.code == 121
    assert len(seen.died) == 3
    assert seen.told["loss"] + 0.3 < seen.first, "they had no time to stop"
    assert seen.last < seen.told["end"]


def test_a_short_grace_does_not_wait_for_the_end_of_the_lease() -> None:
    seen = lost({"lasts": 3.0, "stop_within": 2.9, "grace": 0.2}, FAMILY)
    assert seen.code == 121
    assert seen.told["loss"] + 0.2 <= seen.first
    assert seen.last < seen.told["end"] - 1


def test_a_command_that_obeys_has_time_to_tidy_up() -> None:
    """Its own exit code does not count then. What it left is gone, too."""
    seen = lost({}, POLITE)
    assert (seen.lines, seen.code) == (("tidied",), 121)
    assert seen.told["over"] < seen.told["loss"] + 0.4  # SIGKILL would have come later


def test_a_command_that_is_stopped_sees_the_signal_to_end() -> None:
    seen = lost({}, POLITE, lambda run: os.kill(run.child, signal.SIGSTOP))
    assert (seen.lines, seen.code) == (("tidied",), 121)


def test_where_the_lease_has_ended_already_there_is_no_grace() -> None:
    """The session was closed from outside: somebody else may hold it by now."""
    seen = lost({"expires": True}, POLITE)
    assert (seen.lines, seen.code) == ((), 121)
    assert seen.last < seen.at + 0.4


def test_a_guard_that_is_stopped_is_done_without() -> None:
    seen = lost({}, FAMILY, lambda run: os.kill(run.guard, signal.SIGSTOP))
    assert seen.code == 121
    assert seen.last < seen.told["end"]


def test_asked_only_it_may_go_on_beyond_the_lease() -> None:
    """With "term" it is not killed; we wait for it, and the lease was lost all the same."""
    with leased({"on_lost": "term", **BRIEF}, *python(GOES_ON), stdin=subprocess.PIPE) as run:
        run.family()
        run.fail()
        assert run.line() == "asked"
        run.until_after_the_lease()
        run.say("end")
        assert run.end() == 121
    assert run.told["over"] > run.told["end"]


def test_a_loss_that_is_ignored_is_only_told() -> None:
    """The exit code remains that of the command."""
    with leased({"on_lost": "ignore", **BRIEF}, *python(GOES_ON), stdin=subprocess.PIPE) as run:
        run.family()
        run.fail()
        run.until_after_the_lease()
        run.say("end")
        assert run.line() == ""
        assert run.end() == 5
    assert run.told["loss"] < run.told["end"] < run.told["over"]


#: Says when it is asked to end, but does not; it ends with 5 when it is told to by somebody else.
GOES_ON = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print(os.getpid(), flush=True)
input()
os._exit(5)
"""


# -- somebody else ends


def disturbed(deed: Callable[[Leased], object], on_lost: str = "kill") -> Play:
    """What becomes of a family whose lease is held, when this is done to those who look after it."""

    def play() -> Play:
        with leased({"on_lost": on_lost}, "sh", "-c", FAMILY) as run:
            run.family()
            at = now()
            deed(run)
            died = run.deaths()
            run.process.send_signal(signal.SIGCONT)
            return Play(died, at, run.end(), run.told)

    return undisturbed(play)


def test_killed_itself_it_leaves_nobody() -> None:
    """SIGKILL, as by the OOM killer: the guard ends the rest within the lease, whatever a loss would mean."""
    seen = disturbed(lambda run: run.process.kill(), on_lost="ignore")
    assert seen.at + 0.2 < seen.first
    assert seen.last < seen.at + LASTS


def test_stopped_itself_it_leaves_nobody() -> None:
    """SIGSTOP: it cannot see that the lease ends, the guard can. It was lost, then, and that is told."""
    seen = disturbed(lambda run: run.process.send_signal(signal.SIGSTOP))
    assert seen.code == 121
    assert "loss" in seen.told
    assert seen.last < seen.at + LASTS


def test_a_guard_that_is_killed_takes_the_command_with_it() -> None:
    seen = disturbed(lambda run: os.kill(run.guard, signal.SIGKILL))
    assert seen.code == 125
    assert seen.last < seen.at + 0.4
    assert "guard" in seen.told["error"]


def test_where_both_are_killed_the_command_is_killed() -> None:
    """The kernel does it; what the command has started lives on, unless it notices by itself."""
    with leased({}, "sh", "-c", "echo $$; while :; do sleep 0.1; done") as run:
        run.family()
        guard = run.guard
        run.process.send_signal(signal.SIGSTOP)
        os.kill(guard, signal.SIGKILL)
        run.process.kill()
        run.deaths()


def test_what_the_command_leaves_behind_is_ended_before_its_exit_code_is_told() -> None:
    """In its group or not; at once if it obeys, after the grace if not."""
    text = """
    sleep 100 & obeys=$!
    daemon=$(setsid sh -c 'sleep 100 >/dev/null & echo $!')
    trap "" TERM; sleep 100 & deaf=$!
    echo $obeys $daemon $deaf
    read go
    exit 3"""

    def play() -> tuple[list[int], dict[int, float], int]:
        with leased({"grace": 0.4}, "sh", "-c", text, stdin=subprocess.PIPE) as run:
            pids = run.family()
            run.say("go")
            return pids, run.deaths(), run.end()

    (obeys, daemon, deaf), died, code = undisturbed(play)
    assert code == 3
    assert max(died[obeys], died[daemon]) + 0.2 < died[deaf]


def test_a_lease_that_is_renewed_does_not_end_it() -> None:
    """The guard hears of that, or it would end it by itself."""
    with leased({"lasts": 0.6, "stop_within": 0.5}, "sh", "-c", "sleep 1; exit 3") as run:
        assert run.end() == 3


# -- exit codes


class Ending(NamedTuple):
    command: str
    code: int


@pytest.mark.parametrize("ending", [Ending("exit 7", 7), Ending("kill -9 $$", 137)])
def test_the_exit_code_is_the_commands(ending: Ending) -> None:
    """A signal is 128 + its number, as a shell tells it."""
    with leased({}, "sh", "-c", ending.command) as run:
        assert run.end() == ending.code


def test_a_command_that_cannot_be_run_is_told() -> None:
    with leased({}, "/etc/passwd") as run:
        assert run.end() == 126
    assert run.told["error"] == "Permission denied: /etc/passwd"


# -- what the command has


def test_it_has_our_input_environment_and_descriptors() -> None:
    """Standard input as it is, what is added to the environment, and whatever else was handed to us."""
    reader, writer = os.pipe()
    text = f"""
import os, sys
print(os.environ["COORDINATOR_LEASE_TOKEN"], os.environ["MINE"], sys.stdin.read())
print(os.getpgrp() == os.getpid(), os.getpgrp() != os.getpgid(os.getppid()))
print({writer} in map(int, os.listdir("/dev/fd")), flush=True)
os.write({writer}, b"here")
"""
    with (
        os.fdopen(reader, "rb") as pipe,
        leased(
            {},
            *python(text),
            stdin=subprocess.PIPE,
            pass_fds=(writer,),
            env={**os.environ, "MINE": "x"},
        ) as run,
    ):
        os.close(writer)
        assert run.process.stdin is not None
        run.process.stdin.write("given")
        run.process.stdin.close()
        run.process.stdin = None
        assert run.line() == "7 x given"
        assert run.line() == "True True"
        assert run.line() == "True"
        assert run.end() == 0
        assert pipe.read() == b"here"


def test_signals_that_are_ignored_stay_so_and_others_have_their_default() -> None:
    """nohup; nothing of how we wait may be left in the command."""
    with leased(
        {}, "sh", "-c", "exec grep -E 'Sig(Ign|Blk)' /proc/self/status", preexec_fn=ignore_hangups
    ) as run:
        # Those from 32 on are the C library's own; what starts us may have left them as it likes.
        assert [int(run.line().split()[1], 16) % (1 << 31) for _ in range(2)] == [0, 1]
        assert run.end() == 0


def ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


# -- signals


#: Says which signals it gets, and so does what it has started.
SAYS = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
who = "" if os.fork() else "also "
if not who: print(os.getpid(), flush=True)
while True:
    got = signal.sigwaitinfo(signal.valid_signals() - {signal.SIGCHLD, signal.SIGCONT})
    print(f"{who}{int(got.si_signo)}", flush=True)
"""


def test_every_signal_is_handed_on() -> None:
    """To the command alone; those that must not be are faults, and those nobody can catch."""
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMAX} <= HANDED_ON
    with leased({}, *python(SAYS)) as run:
        run.family()
        for number in sorted(HANDED_ON - {signal.SIGCONT, signal.SIGTERM}):
            run.process.send_signal(number)
            assert run.line() == str(int(number))
        os.kill(run.guard, signal.SIGKILL)
        assert run.end() == 125


def test_a_signal_that_ends_the_command_ends_us_with_its_code() -> None:
    """As a supervisor sees it: SIGTERM is handed on, and the exit comes after that of the command."""
    with leased({}, "sh", "-c", POLITE) as run:
        run.family()
        run.process.terminate()
        assert run.end() == 9


def test_as_pid_1_it_waits_for_orphans_and_hands_signals_on() -> None:
    """As in a container: nobody else does the one, and signals without a handler would do nothing."""
    root = os.geteuid() == 0
    namespace = ("unshare", *(() if root else ("--map-root-user",)), "--pid", "--mount-proc", "--fork")
    command = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    with leased({}, "sh", "-c", command, under=namespace) as run:
        assert run.line() == "up"
        (first,) = children_of(run.process.pid)
        (guard,) = children_of(first)
        # As by docker exec: what it leaves is nobody's but that of PID 1.
        entered = ("nsenter", *(() if root else ("--user",)), "--pid", "--mount", "--target", str(first))
        subprocess.run([*entered, "sh", "-c", "sleep 100 &"], check=True)
        (orphan,) = children_of(first) - {guard}
        os.kill(orphan, signal.SIGKILL)
        eventually(lambda: children_of(first) == {guard}, message="the orphan to be waited for")
        os.kill(first, signal.SIGUSR1)
        assert run.end() == 9


def test_the_guard_has_the_clock_of_leases() -> None:
    """It is a script of its own, and cannot import it."""
    before = clock.now()
    assert before <= guard.now() <= clock.now()
