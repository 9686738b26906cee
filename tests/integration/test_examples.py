"""The examples that serve: each is run as its users would run it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from coordinator.testing import FaultProxy, ZooKeeperServer, eventually
from tests.support import new_place

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
def running(*command: str, hosts: str, module: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A server that is told to end at the end, if it was not before."""
    process = subprocess.Popen(
        [sys.executable, "-u", *(["-m"] if module else []), *command],
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
        eventually(lambda: len(present()) == 2, message="two workers")
        with urllib.request.urlopen(f"http://{bind}/", timeout=10) as answer:
            assert set(answer.read().decode().split()) == present()
        first = sorted(present())[0]
        os.kill(int(first.rpartition("-")[2]), signal.SIGTERM)
        eventually(lambda: first not in present() and len(present()) == 2, message="the worker is replaced")
        process.terminate()
        output, _ = process.communicate(timeout=20)
        assert present() == set()  # at once: each of them closed its session
        assert process.returncode == 0
        assert "Traceback" not in output


def test_fastapi(place: str, observer: KazooClient, zookeeper: ZooKeeperServer) -> None:
    """It serves, is seen, follows its configuration, tells its health, and goes in good order."""
    chroot = "/" + place.partition("/")[2]
    port = free_port()
    with (
        FaultProxy(*zookeeper.address) as proxy,
        running(
            "uvicorn", "--app-dir", "examples", "--port", str(port), "fastapi_app:app",
            hosts=proxy.hosts + chroot,
        ) as process,
    ):  # fmt: skip
        eventually(lambda: observer.exists(f"{chroot}/services/greeter"), message="it has started")
        eventually(lambda: _answer(port, "/greeting/ada") == (200, "hello, ada"), message="it serves")
        assert len(observer.get_children(f"{chroot}/services/greeter")) == 1
        assert _answer(port, "/config", {"greeting": "moin"}) == (200, 1)
        eventually(lambda: _answer(port, "/greeting/ada") == (200, "moin, ada"), message="it follows")
        assert _answer(port, "/health") == (200, {"session": "connected"})
        proxy.refuse = True
        proxy.cut()
        eventually(lambda: _answer(port, "/health") == (503, {"session": "suspended"}), message="it says so")
        assert _answer(port, "/greeting/ada") == (200, "moin, ada")  # the last known configuration
        proxy.refuse = False
        eventually(lambda: _answer(port, "/health")[0] == 200, message="it is back")
        process.terminate()
        output, _ = process.communicate(timeout=20)
        assert observer.get_children(f"{chroot}/services/greeter") == []
        assert "Traceback" not in output


def _answer(port: int, path: str, body: object = None) -> tuple[int, object]:
    """Ask the service; 0 while it does not answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if body is not None:
        request.method, request.data = "PUT", json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


def test_threaded_worker(place: str, observer: KazooClient) -> None:
    """Two processes share the tasks; what one had claimed when it was killed, the other does."""
    chroot = "/" + place.partition("/")[2]
    observer.ensure_path(f"{chroot}/tasks")
    observer.ensure_path(f"{chroot}/claims")
    observer.create(f"{chroot}/claims/t-held", ephemeral=True)  # as a worker that is busy
    for name in ("t-held", *(f"t-{number}" for number in range(20))):
        observer.create(f"{chroot}/tasks/{name}", name.encode())

    def results() -> dict[str, bytes]:
        names = observer.get_children(f"{chroot}/results") if observer.exists(f"{chroot}/results") else []
        return {name: observer.get(f"{chroot}/results/{name}")[0] for name in names}

    worker = partial(running, str(ROOT / "examples" / "threaded_worker.py"), place, hosts=place, module=False)
    with worker() as one, worker() as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "4 threads wait for tasks\n"
        eventually(lambda: len(results()) == 20, message="all but what is claimed are done")
        assert "t-held" not in results()
        observer.delete(f"{chroot}/claims/t-held")  # that worker has died
        eventually(lambda: results().get("t-held") == b"T-HELD", message="somebody else does it")
        observer.create(f"{chroot}/tasks/t-late", b"late")
        eventually(lambda: "t-late" in results(), message="new ones are done")
        outputs = []
        for process in (one, two):
            process.terminate()
            assert process.stdout is not None
            outputs.append(process.stdout.read())  # not communicate(): it passes by what readline() has read
            assert process.wait(timeout=20) == 0
    assert observer.get_children(f"{chroot}/tasks") == observer.get_children(f"{chroot}/claims") == []
    done = re.findall(r"(t-\w+) done by w-", "".join(outputs))  # threads that print share lines
    assert sorted(done) == sorted(results())
    assert all("Traceback" not in output for output in outputs)


def test_a_store_that_checks_tokens(place: str) -> None:
    """Who was stopped while he led writes no more, whatever he believes."""
    ran = subprocess.run(
        [sys.executable, "examples/fenced_store.py", place],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.splitlines() == [
        "A leads, and writes: True",
        "B leads, with a greater token: True",
        "B writes: True",
        "A goes on and writes: False",
        "A looks at its lease: expired",
    ]
