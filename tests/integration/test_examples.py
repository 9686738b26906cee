"""The examples that serve: each is run as its users would run it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from coordinator.testing import ZooKeeperServer
from tests.support import eventually, new_place

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(zookeeper: ZooKeeperServer, observer: KazooClient) -> str:
    """Hosts with a chroot of one test's own."""
    path = new_place()
    observer.create(path)
    return zookeeper.hosts + path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(*command: str, hosts: str) -> Iterator[subprocess.Popen[str]]:
    """A server that is told to end at the end, if it was not before."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COORDINATOR_HOSTS": hosts},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=20)


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no preload"])
def test_gunicorn(place: str, observer: KazooClient, preload: bool) -> None:
    """Each worker is there under its own name, one that is replaced as well; after the end none is."""
    chroot = "/" + place.partition("/")[2]
    bind = f"127.0.0.1:{free_port()}"
    config = str(ROOT / "examples" / "gunicorn.conf.py")
    options = ["--preload"] if preload else []
    command = [
        "gunicorn",
        "--config",
        config,
        "--chdir",
        "examples",
        "--bind",
        bind,
        *options,
        "gunicorn_app:app",
    ]

    def present() -> set[str]:
        return set(observer.get_children(f"{chroot}/web")) if observer.exists(f"{chroot}/web") else set()

    with running(*command, hosts=place) as process:
        eventually(lambda: len(present()) == 2, "two workers")
        with urllib.request.urlopen(f"http://{bind}/", timeout=10) as answer:
            assert set(answer.read().decode().split()) == present()
        first = sorted(present())[0]
        os.kill(int(first.rpartition("-")[2]), signal.SIGTERM)
        eventually(lambda: first not in present() and len(present()) == 2, "the worker is replaced")
        process.terminate()
        output, _ = process.communicate(timeout=20)
        assert present() == set()  # at once: each of them closed its session
        assert process.returncode == 0
        assert "Traceback" not in output
