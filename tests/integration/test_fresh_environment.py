"""The extra alone is enough: a new virtual environment, ten lines, every way to a ZooKeeper."""

from __future__ import annotations

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

from coordinator.testing import ZooKeeperServer, ZooKeeperUnavailableError
from coordinator.testing.process import find_installation
from tests.projects import ROOT, Project

pytestmark = pytest.mark.timeout(300)  # pip has to fetch some 25 packages

TEN_LINES = """\
import pytest
from coordinator import SessionExpired

@pytest.mark.parametrize("turn", range(8))
def test_a_worker_is_back(coordinator, faults, turn):
    worker, expired = coordinator.ephemeral("/w-1"), coordinator.events(SessionExpired)
    faults.expire()
    assert expired.next(10).confirmed_by == "server"
    worker.wait_present(10)
    print(coordinator)
"""


def _process_is_possible() -> bool:
    try:
        find_installation()
    except ZooKeeperUnavailableError:
        return False
    return True


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with `coordinator[testing]`, from this tree, and pytest-xdist beside it."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin/python")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, f"{ROOT}[testing]", "pytest-xdist"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(
    params=[
        pytest.param("container", marks=pytest.mark.docker),
        "hosts",
        pytest.param(
            "process",
            marks=pytest.mark.skipif(
                not _process_is_possible(), reason="no ZooKeeper and java on this machine"
            ),
        ),
    ]
)
def way(request: pytest.FixtureRequest, zookeeper: ZooKeeperServer) -> tuple[list[str], str]:
    """The options of each way to a ZooKeeper, and what the report says of it."""
    ways = {
        "container": (["--zookeeper-kind=container"], "container "),
        "hosts": (["--zookeeper", zookeeper.hosts], f"external ZooKeeper at {zookeeper.hosts}"),
        "process": (
            [f"--zookeeper-home={os.environ.get('ZOOKEEPER_HOME', '')}", "--zookeeper-kind=process"],
            "child process",
        ),
    }
    return ways[request.param]


@pytest.mark.parametrize("workers", [0, 4])
def test_the_extra_is_enough(python: str, way: tuple[list[str], str], workers: int, tmp_path: Path) -> None:
    """The ten lines pass; with four workers in four namespaces that no two tests share."""
    options, used = way
    project = Project(tmp_path, python, path="")
    project.write("test_ten.py", TEN_LINES)
    ran = project.run("-rP", *options, *(["-n", str(workers)] if workers else []))
    assert (ran.counts()["passed"], ran.code) == (8, 0), ran.text
    assert ran.said()[-1].startswith(f"zookeeper: {used}")
    chroots = re.findall(r"^<Coordinator \S+/coordinator-(\w+)-([0-9a-f]+) ", ran.text, re.MULTILINE)
    assert len(set(chroots)) == 8
    assert {worker for worker, _ in chroots} == ({f"gw{n}" for n in range(workers)} or {"main"})


def test_it_is_not_ours_that_is_tested(python: str, tmp_path: Path) -> None:
    """The package comes out of the new environment, with no more than it asks for."""
    code = (
        "import coordinator; from importlib.util import find_spec; "
        "print(coordinator.__file__, find_spec('typer'), find_spec('rich'))"
    )
    done = subprocess.run(
        [python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    where, *absent = done.stdout.split()
    assert Path(where).is_relative_to(Path(python).parents[1])
    assert where != str(ROOT / "coordinator/__init__.py")
    assert absent == ["None", "None"]
