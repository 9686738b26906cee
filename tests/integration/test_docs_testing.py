"""docs/testing.md and examples/testing run as they stand there.

In the page, a block that begins with ``# name.py`` is that file; one with a test in it is a file of tests;
any other is a program. The blocks between two headings are one project.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.testing import ZooKeeperServer
from tests.projects import ROOT, Project

PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
SECTIONS = {
    title: blocks
    for title, text in re.findall(
        r"^#+ ([^\n]+)\n(.*?)(?=^#+ |\Z)", re.sub(r"(?m)^(# \w+\.py)$", r" \1", PAGE), re.M | re.S
    )
    if (blocks := re.findall(r"```python\n(.*?)```", text, re.S))
}
HOME = os.environ.get("ZOOKEEPER_HOME", "")


def test_the_page_has_what_it_promises() -> None:
    """Three lines to begin with, and the examples that people come for."""
    assert {
        "Testing with a real ZooKeeper",
        "Factories",
        "Service discovery fails over",
        "A leader fails over",
        "With kazoo alone",
    } <= set(SECTIONS)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("title", SECTIONS)
def test_the_code_of_the_page_runs(title: str, tmp_path: Path) -> None:
    """With a server of its own: what is told works for whoever copies it."""
    project = Project(tmp_path)
    tests = 0
    for number, block in enumerate(SECTIONS[title]):
        code = block.lstrip(" ")
        named = re.match(r"# (\w+\.py)\n", code)
        if not named and "def test_" not in code:
            ran = subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
            continue
        project.write(named[1] if named else f"test_block_{number}.py", code)
        tests += code.count("def test_")
    if tests:
        ran_tests = project.run("-W", "error", ZOOKEEPER_HOME=HOME)
        assert ran_tests.counts() == {"passed": tests}, ran_tests.text


@pytest.mark.timeout(120)
def test_the_example_runs(zookeeper: ZooKeeperServer, tmp_path: Path) -> None:
    """examples/testing, as a project of its own."""
    shutil.copytree(ROOT / "examples/testing", tmp_path, dirs_exist_ok=True)
    ran = Project(tmp_path).run("--zookeeper", zookeeper.hosts)
    assert ran.counts() == {"passed": 4}, ran.text
