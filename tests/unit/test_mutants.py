"""The simulation and the property tests are tested themselves: each seeded fault must be found.

A mutant is one change to a copy of the package. Only ``test_simulation.py`` and the
property tests of the session machine run on that copy, with the same histories each time;
one of them has to fail by an assertion. A mutant that lives is a hole of the simulation:
strengthen what ``member.py`` asserts or what the rules of ``test_simulation.py`` do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import coordinator

pytestmark = pytest.mark.timeout(240)  # of two runs, as far as the first may wait for others

PACKAGE = Path(coordinator.__file__).parent
TESTS = Path(__file__).parent
CHECKS = ("test_simulation.py", "test_session.py")
BESIDE = ("member.py", "network.py")
HISTORIES = 400
"""How many a mutant may survive. Most last for less than 20, the hardest for one or two hundred."""
PATIENCE = 100.0
"""Seconds for one run on a busy machine; a mutant is found within about 2."""

CONFTEST = """
from pathlib import Path
import coordinator
from hypothesis import Phase, settings
assert Path(coordinator.__file__).is_relative_to(Path(__file__).parent), coordinator.__file__
# The same histories in each run; a failure is not made smaller, since nobody reads it.
settings.register_profile("mutants", phases=[Phase.generate], derandomize=True, database=None)
settings.load_profile("mutants")
"""


@dataclass(frozen=True)
class Mutant:
    """One fault: in this module, ``old`` is replaced by ``new``."""

    name: str
    module: str
    old: str
    new: str

    def seed(self, package: Path) -> None:
        """Put the fault into a copy of the package."""
        path = package / self.module
        text = path.read_text()
        found = text.count(self.old)
        assert found == 1, (
            f"mutant {self.name!r}: its text occurs {found} times in {self.module}, not once; "
            f"the code was changed: give the mutant the new text, or replace the mutant by one "
            f"that makes the same mistake where the code is now:\n{self.old}"
        )
        path.write_text(text.replace(self.old, self.new))


MUTANTS = [
    Mutant(
        "a wake-up is lost that comes while the intent cannot run",
        "core/slots.py",
        "            self._run(slot)\n        else:\n            slot.again = True\n",
        "            self._run(slot)\n",
    ),
    Mutant(
        "a trigger during a flow is forgotten",
        "core/slots.py",
        "            if slot.again:\n                self._trigger(slot)\n\n    def _serve",
        "\n    def _serve",
    ),
    Mutant(
        "a foreign owner is adopted",
        "core/presence.py",
        "            if stat.ephemeral_owner == standing.session_id:\n                try:",
        "            if stat.ephemeral_owner:\n                try:",
    ),
    Mutant(
        "a foreign owner is deleted and replaced",
        "core/presence.py",
        "if stat.ephemeral_owner in standing.unconfirmed:",
        "if stat.ephemeral_owner != standing.session_id:",
    ),
    Mutant(
        "a foreign owner is deleted by a withdrawal",
        "core/presence.py",
        "if stat is None or stat.ephemeral_owner != standing.session_id:",
        "if stat is None:",
    ),
    Mutant(
        "a withdrawal deletes whatever has come since it looked",
        "core/presence.py",
        "yield from ask(Delete(self.path, stat.version))",
        "yield from ask(Delete(self.path))",
    ),
    Mutant(
        "a conflict is not watched",
        "core/presence.py",
        "stat = yield from ask(Exists(self.path, watch=self.token))\n            if",
        "stat = yield from ask(Exists(self.path))\n            if",
    ),
    Mutant(
        "what others have written is not seen",
        "core/presence.py",
        "if self._written == (data, stat.mzxid):",
        "if self._written is not None and self._written[0] == data:",
    ),
    Mutant(
        "a withdrawal ends with its link",
        "core/slots.py",
        "        slot.task = None\n        if not slot.intent.writes:\n            self._withdrawn(slot)",
        "        self._withdrawn(slot)",
    ),
    Mutant(
        "intents are run again after an expiry only, not after a gap",
        "core/slots.py",
        "for slot in sorted(wanted, key",
        "for slot in sorted(wanted if recover else [], key",
    ),
    Mutant(
        "a view whose watch has fired is not read again",
        "core/slots.py",
        "self._trigger(slot)\n            if isinstance(slot.intent, Contention):",
        "slot.intent.writes and self._trigger(slot)\n            if isinstance(slot.intent, Contention):",
    ),
    Mutant(
        "a znode that was made anew is taken for the old one",
        "core/mirror.py",
        "before.mzxid == after.mzxid\n\n\ndef _moved",
        "before.version == after.version\n\n\ndef _moved",
    ),
    Mutant(
        "views are brought back before ephemerals",
        "core/recovery.py",
        "return any(token in stage for stage in (self.views, self.queues)[self.stage :])",
        "return False",
    ),
    Mutant(
        "a recovery is completed before it is",
        "core/slots.py",
        "recovery is self._recovery and not recovery.waiting:",
        "recovery is self._recovery:",
    ),
    Mutant(
        "ids are not compared",
        "core/session.py",
        "if session.session_id and signal.session_id != session.session_id:",
        "if session.session_id and signal.session_id == 0:",
    ),
    Mutant(
        "a session is established before anything was answered",
        "core/kernel.py",
        "                self._prove()\n",
        "                self._signal(machine.Proved(session.link.contact))\n",
    ),
    Mutant(
        "the proof may be read from a server that lags",
        "core/kernel.py",
        'else Sync("/")',
        'else Exists("/")',
    ),
    Mutant(
        "the lapse is counted from when an answer came",
        "core/session.py",
        "contact = max(session.contact, signal.contact)\n    session = replace(session, contact=contact, p",
        "contact = now\n    session = replace(session, contact=contact, p",
    ),
    Mutant(
        "what is due is overtaken by what came late",
        "core/kernel.py",
        "        self._moment = moment\n        self.alarms.ring(moment.now)",
        "        self._moment = moment",
    ),
    Mutant(
        "an operation goes on after its deadline",
        "core/kernel.py",
        "ambiguous = call.task is not None and self._runner.cancel(call.task)",
        "ambiguous = call.task is not None and call.task.unresolved",
    ),
    Mutant(
        "a write on its way is said to be certainly not done",
        "core/runner.py",
        "        ambiguous = task.unresolved\n",
        "        ambiguous = False\n",
    ),
    Mutant(
        "backoff is ignored",
        "core/slots.py",
        "delay = bound * (1 + moment.jitter) / 2",
        "delay = 0.0",
    ),
    Mutant(
        "flows of a lost link are kept",
        "core/kernel.py",
        "            self._proof = None\n            self._runner.lose()\n",
        "            self._proof = None\n",
    ),
]


def checked(folder: Path, mutant: Mutant | None) -> subprocess.CompletedProcess[str]:
    """Run the checks on a copy of the package in that folder."""
    shutil.copytree(PACKAGE, folder / "coordinator")
    if mutant is not None:
        mutant.seed(folder / "coordinator")
    for name in (*CHECKS, *BESIDE):
        shutil.copy(TESTS / name, folder)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    environment |= {"COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # half of the time to start
    if mutant is not None:
        environment["COORDINATOR_SIMULATION"] = str(HISTORIES)
    command = [sys.executable, "-m", "pytest", *CHECKS, "-p", "hypothesispytest", "-m", "hypothesis"]
    options = ["-x", "-q", "-rf", "-p", "no:cacheprovider", "--tb=short", "--color=no"]
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


Run = Callable[[Mutant | None], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(request, tmp_path_factory) -> Iterator[Run]:
    """Gives the run of a mutant; as many as there are processors go on at the same time."""

    copies = tmp_path_factory.mktemp("copies")

    def start(mutant: Mutant | None) -> subprocess.CompletedProcess[str]:
        return checked(Path(tempfile.mkdtemp(dir=copies)), mutant)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # A worker of xdist sees all tests and is given a few: it begins none before its turn.
        here = [] if hasattr(request.config, "workerinput") else request.session.items
        wanted = [
            one.callspec.params["mutant"] for one in here if "mutant" in getattr(one, "fixturenames", ())
        ]
        runs = {mutant: pool.submit(start, mutant) for mutant in [None] * bool(here) + wanted}
        yield lambda mutant: runs[mutant].result() if mutant in runs else start(mutant)
        pool.shutdown(cancel_futures=True)


def test_the_package_itself_passes(run):
    """Otherwise the death of a mutant says nothing."""
    result = run(None)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mutant_is_found(mutant, run):
    """By an assertion that fails; not because the copy cannot be imported, nor by a stall."""
    result = run(mutant)
    found = re.search(r"^FAILED test_\w+\.py::\S+ - (AssertionError|assert )", result.stdout, re.MULTILINE)
    assert (result.returncode, bool(found)) == (1, True), (
        f"mutant {mutant.name!r} lives; see the head of this module\n{result.stdout}{result.stderr}"
    )


def test_a_mutant_whose_text_is_gone_says_what_to_do(tmp_path):
    """Code moves on; a fault that is seeded nowhere would be found never."""
    (tmp_path / "errors.py").write_text("")
    with pytest.raises(AssertionError, match=r"occurs 0 times in errors\.py, not once; .* give the mutant"):
        Mutant("gone", "errors.py", "what was there", "").seed(tmp_path)
