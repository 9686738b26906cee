"""Whose a server is, and what becomes of those whose owner is gone.

A process that is killed cannot clean up. So each container, network and temporary folder
names the process that it belongs to::

    machine (its boot) / pid namespace / pid / start of that process

and whoever starts a server next removes those whose process is gone: `sweep_folders`
on this machine, `sweep_engine` in a Docker engine. Where an owner cannot be judged -
another machine, another pid namespace, another user's folder - nothing is touched.

This module must not import docker: it is cheap to import.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.testing.options import MAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LABEL", "is_orphaned", "own_folder", "owner", "sweep_engine", "sweep_folders", "swept"]

#: The label of containers and networks that bears their owner.
LABEL = "coordinator.testing.owner"
#: What the names of our temporary folders begin with, and the file in them that bears their owner.
PREFIX = "coordinator-zookeeper-"
OWNER_FILE = "owner"
#: Seconds for a server that was killed to be gone; it takes some milliseconds.
GRACE = 5.0
POLL = 0.01
PROC = Path("/proc")
#: In place of a start that we are not shown.
HIDDEN = "hidden"

_lock = threading.Lock()
_done: set[str] = set()
_told: list[str] = []


def owner() -> str:
    """This process, as no other is called."""
    return "/".join([*_namespace(), str(os.getpid()), _start_of(os.getpid())])


def is_orphaned(stamp: str) -> bool:
    """Whether that owner is certainly gone; False where this cannot be known from here."""
    *namespace, pid, start = ["", *stamp.split("/")][-4:]
    if tuple(namespace) != _namespace() or not pid.isdecimal() or not _start_of(os.getpid()):
        return False
    return _start_of(int(pid)) not in (start, HIDDEN)


def own_folder() -> Path:
    """A new temporary folder that bears our name."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / OWNER_FILE).write_text(owner())
    return folder


def swept() -> list[str]:
    """What this process has removed after others, a line for each sweep."""
    return list(_told)


def sweep_folders() -> None:
    """Remove the servers and folders of processes that are gone, once in this process."""
    if not _first("folders"):
        return
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not _is_ours_to_judge(folder):
            continue
        with contextlib.suppress(OSError):
            if is_orphaned((folder / OWNER_FILE).read_text()):
                _end_server_of(folder)
                shutil.rmtree(folder)
                removed += 1
    _tell(removed, "server process", "server processes")


def sweep_engine(docker: Any) -> None:
    """Remove the containers and networks of processes that are gone, once in this process.

    Args:
        docker: the module.
    """
    if not _first("engine"):
        return
    client = docker.from_env()
    try:
        low = client.api  # the high one looks at each container by itself, and stumbles if it is gone
        containers = [
            one["Id"]
            for one in low.containers(all=True, filters={"label": LABEL})
            if is_orphaned(one["Labels"][LABEL])
        ]
        networks = [
            one["Id"] for one in low.networks(filters={"label": LABEL}) if is_orphaned(one["Labels"][LABEL])
        ]
        removed = sum(_remove_container(docker, low, one) for one in containers)
        _tell(removed, "container", "containers")
        removed = 0
        for one in networks:
            with contextlib.suppress(docker.errors.APIError):  # another run was quicker
                low.remove_network(one)
                removed += 1
        _tell(removed, "network", "networks")
    finally:
        client.close()


def _remove_container(docker: Any, low: Any, container: str) -> bool:
    """Remove a container with its data; False if somebody else does."""
    try:
        low.remove_container(container, v=True, force=True)
    except docker.errors.NotFound:
        return False
    except docker.errors.APIError:  # it is being removed; its network can be only after that
        with contextlib.suppress(docker.errors.APIError, OSError):
            low.wait(container, timeout=GRACE, condition="removed")
        return False
    return True


def _first(what: str) -> bool:
    with _lock:
        first = what not in _done
        _done.add(what)
    return first


def _tell(count: int, one: str, more: str) -> None:
    if count:
        text = f"removed {count} {one if count == 1 else more} left by a run that was killed"
        _told.append(text)
        sys.stderr.write(f"coordinator.testing: {text}\n")


def _is_ours_to_judge(folder: Path) -> bool:
    """Whether it is a folder, no link to one, and belongs to this user."""
    with contextlib.suppress(OSError):
        return not folder.is_symlink() and folder.is_dir() and folder.stat().st_uid == os.geteuid()
    return False


def _end_server_of(folder: Path) -> None:
    """Kill the server that was started with the folder's zoo.cfg, if it still runs.

    Raises:
        OSError: if that is not ours to do, or in vain.
    """
    command = [MAIN, str(folder / "zoo.cfg")]  # whoever else reads the folder is left alone
    deadline = time.monotonic() + GRACE
    while running := [pid for pid, words in _commands() if words[-2:] == command]:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{running} still run {GRACE} s after SIGKILL")
        time.sleep(POLL)


def _commands() -> Iterator[tuple[int, list[str]]]:
    """The processes that can be seen, with their arguments."""
    if (PROC / "self/cmdline").exists():
        for entry in PROC.iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    yield int(entry.name), (entry / "cmdline").read_text(errors="replace").split("\0")[:-1]
        return
    for line in _ps("-axo", "pid=,command=").splitlines():
        pid, _, command = line.strip().partition(" ")
        if pid.isdecimal():
            yield int(pid), command.split()


def _namespace() -> tuple[str, ...]:
    """The machine since its start, and the pid namespace: where a pid means one process."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return boot, os.readlink(PROC / "self/ns/pid")  # noqa: PTH115 -- it is no path
    except OSError:
        return platform.node(), f"{uuid.getnode():x}"


def _start_of(pid: int) -> str:
    """When a process began, in the words of its system; empty if there is none."""
    if (PROC / "self/stat").exists():
        try:
            # proc(5): the second field, the name, may hold anything, blanks and brackets as well.
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return HIDDEN if _is_there(pid) else ""
        return "" if fields[0] in "ZX" else fields[19]  # the 3rd is the state, the 22nd the start
    return _ps("-o", "lstart=", "-p", str(pid)).strip().replace("/", "-")


def _is_there(pid: int) -> bool:
    """Whether there is such a process, though /proc, mounted with hidepid, may not tell."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _ps(*arguments: str) -> str:
    """The answer of ps, for systems without /proc; empty if there is none."""
    program = shutil.which("ps")
    if program is None:
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout
