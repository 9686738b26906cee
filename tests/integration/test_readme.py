"""The README's code runs, and prints what the README says; so do the examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient

if TYPE_CHECKING:
    from coordinator.testing import ZooKeeperServer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


@contextmanager
def place(zookeeper: ZooKeeperServer, name: str) -> Iterator[KazooClient]:
    """A chroot of one test's own, as a plain client in it sees it."""
    client = KazooClient(zookeeper.hosts)
    client.start()
    client.create(name)
    inside = KazooClient(zookeeper.hosts + name)
    inside.start()
    try:
        yield inside
    finally:
        inside.stop()
        inside.close()
        client.delete(name, recursive=True)
        client.stop()
        client.close()


def shape(output: str) -> str:
    """Return the output without what differs from run to run."""
    return re.sub(r"0x[0-9a-f]+|\b\d+(\.\d+)?\b", "#", output.strip())


def test_the_first_lines_print_what_the_readme_says(zookeeper: ZooKeeperServer) -> None:
    """The code on the first screen runs as it stands there."""
    code, said = re.findall(r"```(?:python|text)\n(.*?)```", README, re.DOTALL)[:2]
    assert len(code.split("\n\n", 1)[1].splitlines()) == 10
    with place(zookeeper, "/readme"):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "COORDINATOR_TEST_HOSTS": zookeeper.hosts + "/readme"},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert ran.returncode == 0, ran.stderr
    assert shape(ran.stdout) == shape(said)
    assert "session.expired" in said
    assert "ephemeral.recreated" in said


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_code_compiles(page: Path) -> None:
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)):
        compile(block, f"{page.name}, block {number + 1}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@contextmanager
def example(name: str, hosts: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "examples" / name), hosts],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=10)


def line(process: subprocess.Popen[str], text: str) -> str:
    """Return the next line of the output that has the text."""
    assert process.stdout is not None
    seen = []
    for one in process.stdout:
        if text in one:
            return one
        seen.append(one)
    pytest.fail(f"no line with {text!r} in {seen}; {process.stderr.read() if process.stderr else ''}")


def test_example_worker(zookeeper: ZooKeeperServer) -> None:
    """It is there under a name of its own, says so, and goes when it is told to."""
    with place(zookeeper, "/example-worker") as client:
        with example("worker.py", zookeeper.hosts + "/example-worker") as process:
            assert "ephemeral.created" in line(process, "/workers/")
            (name,) = client.get_children("/workers")
            client.delete(f"/workers/{name}")
            assert name in line(process, "ephemeral.recreated")
        assert process.returncode == 0
        assert client.get_children("/workers") == []


def test_example_config_watch(zookeeper: ZooKeeperServer) -> None:
    """It shows the configuration as it comes, changes, does not fit, and goes."""
    with (
        place(zookeeper, "/example-config") as client,
        example("config_watch.py", zookeeper.hosts + "/example-config") as process,
    ):
        line(process, "no configuration")
        client.create("/config", b'{"workers": 2}')
        assert "workers=2" in line(process, "Config")
        client.set("/config", b'{"workers": "many"}')
        assert "/config" in line(process, "znode.unreadable")
        client.set("/config", b'{"workers": 8, "greeting": "hallo"}')
        assert "workers=8, greeting='hallo'" in line(process, "Config")
        client.delete("/config")
        line(process, "no configuration")
