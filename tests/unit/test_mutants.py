"""The simulation and the property tests are tested themselves: each seeded fault must be found.

A mutant is one change to a copy of the package. Only what shall find it runs on that copy: one of the
simulations (``test_simulation.py``, ``test_never_two.py``), or the property tests of the session machine,
with the same histories each time; a test of an example only where no simulation can know. It has to fail
by an assertion. A mutant that lives is a hole of the simulation: strengthen what ``member.py``,
``copies.py`` and ``places.py`` assert, or what the rules of the simulations do.
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
SIMULATION = ("test_simulation.py",)
NEVER_TWO = ("test_never_two.py",)
CHECKS = ("test_simulation.py", "test_session.py")
BESIDE = (
    *("copies.py", "member.py", "network.py", "places.py"),
    *("contender.py", "lines.py", "majority.py"),
    *("candidates.py", "fake.py"),
)
HISTORIES = 400
"""How many a mutant may survive. Most last for less than 20, the hardest for one or two hundred."""
FEW = 20
"""How many the package itself is tried with: that it passes more of them is tested beside this."""
PATIENCE = 100.0
"""Seconds for one run on a busy machine; a mutant is found within about 2."""

CONFTEST = """
from pathlib import Path
import coordinator
from hypothesis import Phase, settings
assert Path(coordinator.__file__).is_relative_to(Path(__file__).parent), coordinator.__file__
# The same histories in each run; a failure is not made smaller, since nobody reads it.
settings.register_profile("mutants", phases=[Phase.generate], database=None)
settings.load_profile("mutants")
"""


@dataclass(frozen=True)
class Mutant:
    """One fault: in this module, ``old`` is replaced by ``new``; ``by`` is what has to find it.

    ``start``: where chance begins, such that it is found soon; with any other it is, too, but later.
    """

    name: str
    module: str
    old: str
    new: str
    by: tuple[str, ...] = CHECKS
    start: int = 0

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
        "self._kernel.beats.seen(slot.intent)\n        self._trigger(slot)",
        "self._kernel.beats.seen(slot.intent)\n        slot.intent.writes and self._trigger(slot)",
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
    # -- leases
    Mutant(
        "a lease is not ended by an expiry",
        "core/beats.py",
        'lost = self.end_all("expired", session)',
        "lost = 0",
        SIMULATION,
    ),
    Mutant(
        "a lease that is to be revoked is kept over a lost link",
        "core/terms.py",
        "            if contention.revoked:\n",
        "            if not contention.token:\n",
        SIMULATION,
    ),
    Mutant(
        "that the predecessor has gone wakes nobody",
        "core/slots.py",
        "self._kernel.beats.seen(slot.intent)\n        self._trigger(slot)",
        "self._kernel.beats.seen(slot.intent)\n        slot.intent.queues or self._trigger(slot)",
        SIMULATION,
    ),
    Mutant(
        "the predecessor is not watched",
        "core/contention.py",
        "read_contender(path, self.token)",
        "read_contender(path)",
        SIMULATION,
    ),
    Mutant(
        "the first is watched instead of the predecessor",
        "core/contention.py",
        'path = f"{self.path}/{ahead.name}"',
        'path = f"{self.path}/{queue[0].name}"',
        ("test_contention.py::test_one_departure_wakes_one",),
    ),
    Mutant(
        "one's own seat is not watched while it is held",
        "core/contention.py",
        "if self.first and (yield from self._mine()):",
        "if self.first:",
        SIMULATION,
    ),
    Mutant(
        "the seat of a lapsed lease is used again",
        "core/slots.py",
        "            contention.retire()\n            self._trigger(slot)\n",
        "            contention.term = None\n            self._trigger(slot)\n",
        NEVER_TWO,
    ),
    Mutant(
        "a seat that was left is not deleted before there is another",
        "core/contention.py",
        "            yield from self._clear(names)\n            mine",
        "            mine",
        NEVER_TWO,
    ),
    Mutant(
        "the seat of the last session is taken for that of the next",
        "core/contention.py",
        '        self.retire()\n        self._watched = ""\n',
        "        self.seat = self.place = self.term = None\n        self.first = False\n",
        SIMULATION,
    ),
    Mutant(
        "a sync is enough for a beat",
        "core/beats.py",
        "                ask(request),\n",
        '                ask(Sync("/")),\n',
        ("test_never_two.py::test_a_deposed_leader_proves_nothing",),
    ),
    Mutant(
        "the leader is believed to ping all the time",
        "core/lease.py",
        "return half_tick(self._timeout, self._tick)",
        "return 0.0",
        ("test_never_two.py::test_what_the_leader_has_not_asked_for_is_not_believed",),
    ),
    Mutant(
        "a beat counts from when it was answered",
        "core/beats.py",
        "self.clock.beaten(sent_at, self._kernel.moment.now)",
        "self.clock.beaten(self._kernel.moment.now, self._kernel.moment.now)",
        ("test_never_two.py::test_a_beat_counts_from_when_it_was_sent",),
    ),
    Mutant(
        "a frame counts from when it was answered",
        "core/beats.py",
        "self.clock.answered(contact, self._kernel.moment.now)",
        "self.clock.answered(self._kernel.moment.now, self._kernel.moment.now)",
        ("test_never_two.py::test_a_frame_counts_from_when_it_was_sent",),
    ),
    Mutant(
        "a beat proves itself",
        "core/lease.py",
        "        self.synced(sent_at)\n        self._beats.append((now, sent_at))\n",
        "        self._beats.append((now, sent_at))\n        self.synced(now)\n",
        ("test_never_two.py::test_a_ping_that_is_late_proves_nothing_of_what_came_before_it",),
    ),
    Mutant(
        "what one list lacks is believed to be gone",
        "core/contention.py",
        '                    yield from _delete(f"{self.path}/{name}")\n                    self._spent',
        '                    yield from _delete(f"{self.path}/{name}")\n            self._spent',
        ("test_never_two.py::test_a_seat_that_a_deposed_leader_does_not_show_is_deleted",),
    ),
    Mutant(
        "a seat is made again with its old name",
        "core/contention.py",
        "seat_prefix(self.dialect, self._attempt())",
        'vars(self).setdefault("named", seat_prefix(self.dialect, self._attempt()))',
        SIMULATION,
    ),
    Mutant(
        "a link is believed as if it had made the session",
        "core/lease.py",
        "self._believed() if created else min(",
        "self._believed() if sent_at else min(",
        ("test_never_two.py::test_a_link_to_a_deposed_leader_proves_nothing",),
    ),
    Mutant(
        "clocks are believed to run alike",
        "core/lease.py",
        "return self._timeout - self._timeout * DRIFT - GRAIN",
        "return self._timeout",
        ("test_never_two.py::test_a_clock_may_be_slow",),
    ),
    Mutant(
        "how long it was silent before a beat does not matter",
        "core/lease.py",
        "min(pinged, heard) + self._believed()",
        "pinged + self._believed()",
        ("test_never_two.py::test_a_frame_counts_from_when_it_was_sent",),
    ),
    Mutant(
        "a lease is held for a second beyond its end",
        "core/term.py",
        "return now < self.end\n",
        "return now < self.end + 1.0\n",
        NEVER_TWO,
    ),
    Mutant(
        "there is no time to stop",
        "core/term.py",
        "return self.end - self.stop_within",
        "return self.end",
        NEVER_TWO,
    ),
    Mutant(
        "an alarm of one lease ends the next",
        "core/terms.py",
        "if contention.term is not term or token not in self._holders:",
        "if token not in self._holders:",
        SIMULATION,
    ),
    Mutant(
        "who is third holds when the second has gone",
        "core/contention.py",
        "self.place is not None and self.place.position == NEXT",
        "self.place is not None",
        SIMULATION,
    ),
    Mutant(
        "who is next holds when the first only changes",
        "core/slots.py",
        "and message.deleted is not None:\n",
        "and (message := Fired(message.token, message.deleted or slot.intent._watched)):\n",
        SIMULATION,
    ),
    Mutant(
        "who is next holds by a proof that is too old",
        "core/terms.py",
        "return self._clock.end - contention.stop_within > self._kernel.moment.now",
        "return True",
        SIMULATION,
    ),
    Mutant(
        "who is next holds by a seat that was not checked",
        "core/beats.py",
        "if one.proved and one.contention.first and one.stands:",
        "if one.contention.first and one.stands:",
        ("test_beats.py::test_the_next_holds_nothing_before_its_seat_is_proved",),
    ),
    Mutant(
        "the token of a seat that was found is not read",
        "core/contention.py",
        "        self.czxid = stat.czxid\n        return True\n",
        "        return True\n",
        ("test_beats.py::test_the_next_whose_seat_was_found_has_its_token",),
    ),
]


def checked(folder: Path, mutant: Mutant | None) -> subprocess.CompletedProcess[str]:
    """Run the checks on a copy of the package in that folder."""
    shutil.copytree(PACKAGE, folder / "coordinator")
    if mutant is not None:
        mutant.seed(folder / "coordinator")
    checks = (*CHECKS, *NEVER_TWO) if mutant is None else mutant.by
    for name in (*BESIDE, *(check.partition("::")[0] for check in checks)):
        shutil.copy(TESTS / name, folder)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = timeout\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    environment |= {"COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # half of the time to start
    environment["COORDINATOR_SIMULATION"] = str(FEW if mutant is None else HISTORIES)
    command = [sys.executable, "-m", "pytest", *checks, "-p", "hypothesispytest"]
    command += [f"--hypothesis-seed={0 if mutant is None else mutant.start}"]
    command += [] if any("::" in check for check in checks) else ["-m", "hypothesis"]
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
