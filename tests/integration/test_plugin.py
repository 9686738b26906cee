"""The pytest plugin, as a project sees it that has installed the kit."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from coordinator.testing import ZooKeeperServer, ZooKeeperUnavailableError
from coordinator.testing.process import find_installation
from tests.integration.test_sweep import PROCESS, running
from tests.projects import Project


def _process_is_possible() -> bool:
    try:
        find_installation()
    except ZooKeeperUnavailableError:
        return False
    return True


HOME = os.environ.get("ZOOKEEPER_HOME", "")
needs_process = pytest.mark.skipif(not _process_is_possible(), reason="no ZooKeeper and java on this machine")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# Where it is not used


def test_it_is_cheap_where_it_is_not_used(project: Project) -> None:
    """Neither Docker, kazoo, pydantic nor our command line is imported before a test asks for a fixture."""
    project.write(
        "test_unused.py",
        """
import sys

def test_unused(request):
    assert request.config.pluginmanager.has_plugin("coordinator")
    heavy = {"kazoo", "pydantic", "docker", "testcontainers", "typer", "rich"}
    assert heavy & set(sys.modules) == set()
    request.getfixturevalue("zookeeper_chroot")
    assert heavy & set(sys.modules) >= {"kazoo"}
""",
    )
    plugins = ("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:hypothesispytest")
    ran = project.run(*plugins, "--zookeeper", "127.0.0.1:1", "-o", "asyncio_default_fixture_loop_scope=")
    assert "external ZooKeeper at 127.0.0.1:1 does not serve" in ran.text  # all else held
    assert ran.counts()["failed"] == 1


def test_it_does_not_ask_an_error_of_others_what_it_says(project: Project) -> None:
    """It may not be able to say anything: a test fails with it, and those after it are run."""
    project.write(
        "test_mute.py",
        """
class Mute(Exception):
    def __str__(self):
        raise RuntimeError("never")

def test_mute():
    raise Mute

def test_after_that():
    pass
""",
    )
    ran = project.run()
    assert ran.counts() == {"failed": 1, "passed": 1}, ran.text


def test_it_is_in_no_traceback_of_others(project: Project) -> None:
    """A fixture that fails is shown without the plugin's hooks around it."""
    failing = "import pytest\n@pytest.fixture\ndef failing(): raise ValueError('theirs')"
    project.write("conftest.py", failing)
    project.write("test_it.py", "def test_it(failing): pass")
    ran = project.run()
    assert ran.counts() == {"error": 1}, ran.text
    assert "ValueError: theirs" in ran.text
    assert "coordinator" not in ran.text.partition("ERRORS")[2]


# Fixtures

USES = """
import pytest
from coordinator import NoNodeError, SessionExpired

def test_blocking(coordinator, faults, zookeeper_client):
    worker = coordinator.ephemeral("/w-1", b"here")
    events = coordinator.events(SessionExpired)
    was = coordinator.session.session_id
    faults.expire()
    assert events.next(10).session_id == was
    worker.wait_present(10)
    zookeeper_client.sync("/")
    assert zookeeper_client.get("/w-1")[0] == b"here"

MARK
async def test_asyncio(async_coordinator, faults, zookeeper_client):
    events = async_coordinator.events(SessionExpired)
    was = async_coordinator.session.session_id
    zookeeper_client.create("/a", b"one")
    faults.expire()
    assert (await events.next(10)).session_id == was
    assert (await async_coordinator.get("/a")).value == b"one"
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_its_fixtures_are_there(project: Project, zookeeper: ZooKeeperServer, mode: str) -> None:
    """Both faces, behind faults that know them, and a plain client that sees what they do."""
    project.write(
        "test_uses.py", USES.replace("MARK\n", "@pytest.mark.asyncio\n" if mode == "strict" else "")
    )
    ran = project.run("-o", f"asyncio_mode={mode}", "--zookeeper", zookeeper.hosts)
    assert ran.counts() == {"passed": 2}, ran.text


CHROOTS = """
import os, pytest

@pytest.mark.parametrize("n", range(6))
def test_alone(zookeeper, zookeeper_chroot, zookeeper_client, coordinator, n):
    assert zookeeper_client.get_children("/") == list(coordinator.children("/")) == []
    zookeeper_client.create("/a/b", b"", makepath=True)
    coordinator.ephemeral("/a/c")
    assert zookeeper_client.chroot.endswith(zookeeper_chroot)
    with open(os.environ["CHROOTS"], "a") as file:
        file.write(f"{zookeeper_chroot}\\n")
"""


@pytest.mark.parametrize(
    ("workers", "base"), [((), ""), ((), "/base"), (("-n", "2"), "")], ids=["alone", "below", "xdist"]
)
def test_each_test_has_a_chroot_of_its_own(
    project: Project, zookeeper: ZooKeeperServer, observer: KazooClient, workers: tuple[str, ...], base: str
) -> None:
    """Fresh, below that of the hosts, named after the worker, and gone after the test."""
    project.write("test_chroots.py", CHROOTS)
    if base:
        base += f"-{project.folder.name}"
        observer.create(base)
    file = project.folder / "chroots"
    ran = project.run(*workers, "--zookeeper", zookeeper.hosts + base, CHROOTS=str(file))
    assert ran.counts() == {"passed": 6}, ran.text
    chroots = file.read_text().split()
    assert len(set(chroots)) == 6
    names = {re.fullmatch(r"/coordinator-(\w+)-[0-9a-f]{12}", one)[1] for one in chroots}  # type: ignore[index]
    assert names <= {"gw0", "gw1"} if workers else names == {"main"}
    assert set(chroots) & {f"/{one}" for one in observer.get_children(base or "/")} == set()
    if base:
        observer.delete(base)


def test_a_chroot_that_is_not_there_is_told(project: Project, zookeeper: ZooKeeperServer) -> None:
    """That of the hosts is not created."""
    project.write("test_chroots.py", "def test_one(zookeeper_chroot): pass")
    ran = project.run("--zookeeper", f"{zookeeper.hosts}/no/such")
    assert "the chroot /no/such does not exist; create it, or leave it out" in ran.text
    assert "Traceback" not in ran.text


def test_what_cannot_be_removed_is_told(project: Project, zookeeper: ZooKeeperServer) -> None:
    """As a warning, where the server is somebody else's."""
    project.write(
        "test_locked.py",
        """
from kazoo.security import make_digest_acl

def test_locked(zookeeper_client, zookeeper_chroot):
    zookeeper_client.create("/locked", acl=[make_digest_acl("bob", "secret", all=True)])
    zookeeper_client.add_auth("digest", "bob:secret")
    zookeeper_client.create("/locked/in")
""",
    )
    ran = project.run("--zookeeper", zookeeper.hosts)
    assert ran.counts() == {"passed": 1, "warning": 1}, ran.text
    assert re.search(r"UserWarning: /coordinator-main-\w+ is left at .*NoAuthError", ran.text)


BREAKS = """
import pytest

@pytest.fixture(autouse=True)
def served(zookeeper):
    assert zookeeper.mode == "standalone"

@pytest.mark.parametrize("deed", ["freeze", "kill", "stop", "close", "wipe", "none"])
def test_broken(coordinator, zookeeper, zookeeper_client, deed):
    coordinator.ephemeral("/w")
    getattr(zookeeper, deed, lambda: None)()

def test_without_clients(zookeeper, zookeeper_chroot):
    zookeeper.kill()

def test_after_that():
    pass
"""


@pytest.mark.parametrize(
    "kind",
    [pytest.param("process", marks=needs_process), pytest.param("container", marks=pytest.mark.docker)],
)
def test_a_server_that_a_test_has_broken_is_brought_back(project: Project, kind: str) -> None:
    """Frozen, killed, stopped, closed or wiped by hand: the next test has one that serves."""
    project.write("test_breaks.py", BREAKS)
    ran = project.run("--zookeeper-kind", kind, "--durations=3", ZOOKEEPER_HOME=HOME)
    assert ran.counts() == {"passed": 8}, ran.text


BREAKS_ENSEMBLE = """
import pytest
from coordinator.testing import factories

chroot = factories.zookeeper_chroot("zookeeper_ensemble")
faults = factories.faults("zookeeper_ensemble", "chroot")
member = factories.coordinator("faults", "chroot")

def break_link(ensemble):
    ensemble.cut_quorum_link(ensemble.followers()[0])

@pytest.mark.parametrize("deed", [
    lambda ensemble: ensemble.close(), lambda ensemble: ensemble.nodes[0].kill(), break_link
])
def test_broken(zookeeper_ensemble, chroot, deed):
    deed(zookeeper_ensemble)

def test_after_that(zookeeper_ensemble, faults, member):
    assert all(node.mode for node in zookeeper_ensemble.nodes)
    assert member.create("/a", b"") == "/a"
    assert not any(link.blackhole for _, _, link in zookeeper_ensemble._links._links)
    assert len(zookeeper_ensemble._links._links) == 12
    with faults.cut_quorum_link() as cut_off:
        assert cut_off.mode == "follower"
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "kind",
    [pytest.param("process", marks=needs_process), pytest.param("container", marks=pytest.mark.docker)],
)
def test_an_ensemble_that_a_test_has_broken_is_brought_back(project: Project, kind: str) -> None:
    """A server of it, a link, or all of it by hand: the next test has one whose links can be broken."""
    project.write("test_breaks.py", BREAKS_ENSEMBLE)
    ran = project.run("--zookeeper-kind", kind, ZOOKEEPER_HOME=HOME)
    assert ran.counts() == {"passed": 4}, ran.text


# Factories


def test_factories_make_more_of_them(project: Project, zookeeper: ZooKeeperServer) -> None:
    """Under other names, on top of each other, with other settings."""
    project.write(
        "conftest.py",
        """
from coordinator.testing import factories

mine = factories.zookeeper()
my_chroot = factories.zookeeper_chroot("mine")
my_faults = factories.faults("mine", "my_chroot")
patient = factories.coordinator("my_faults", "my_chroot", session_timeout=9.0)
quick = factories.async_coordinator("my_faults", "my_chroot", session_timeout=3.0)
cut_off = factories.zookeeper_client("mine", "my_chroot", faults="my_faults", timeout=7.0)
secured = factories.zookeeper(sasl_users={"bob": "secret"}, tick=0.5)
""",
    )
    project.write(
        "test_made.py",
        """
import pytest
from coordinator import SessionExpired
from coordinator.testing import session_ids

def test_settings(patient, cut_off, my_chroot, my_faults, request):
    assert patient.session.timeout == 9.0
    assert cut_off.chroot == my_chroot
    assert my_faults.proxies[0].connections == 2
    expired = patient.events(SessionExpired)
    was = {patient.session.session_id, cut_off.client_id[0]}
    my_faults.expire()
    assert expired.next(10).session_id in was
    assert not was & session_ids(my_faults.target)
    assert "zookeeper" not in request.fixturenames

@pytest.mark.asyncio
async def test_asyncio(quick):
    assert quick.session.timeout == 3.0

def test_secured(secured): pass
""",
    )
    ran = project.run("--zookeeper", zookeeper.hosts)
    assert ran.counts() == {"passed": 2, "error": 1}, ran.text
    says = "fixture secured needs a server of its own, with sasl_users, but --zookeeper names one that runs"
    assert says in ran.text


@pytest.mark.docker
def test_a_server_that_demands_more_than_a_connection(project: Project) -> None:
    """The fixtures of a server with SASL alone are made with credentials, that of the chroot as well."""
    project.write(
        "conftest.py",
        """
from coordinator import Sasl
from coordinator.testing import factories

bob = {"mechanism": "DIGEST-MD5", "username": "bob", "password": "secret"}
strict = factories.zookeeper(kind="container", sasl_users={"bob": "secret"}, sasl_required=True)
strict_chroot = factories.zookeeper_chroot("strict", sasl_options=bob)
strict_faults = factories.faults("strict", "strict_chroot")
zk = factories.coordinator("strict_faults", "strict_chroot", sasl=Sasl(username="bob", password="secret"))
""",
    )
    project.write("test_strict.py", "def test_it(zk): zk.create('/a')")
    ran = project.run()
    assert ran.counts() == {"passed": 1}, ran.text


def test_a_project_may_replace_a_fixture(project: Project, zookeeper: ZooKeeperServer) -> None:
    """Whatever builds on it then uses that one."""
    mine = f"zookeeper = factories.zookeeper(hosts={zookeeper.hosts!r})"
    project.write("conftest.py", f"from coordinator.testing import factories\n{mine}")
    project.write("test_it.py", "def test_it(coordinator): assert coordinator.exists('/')")
    ran = project.run("--zookeeper", "127.0.0.1:1")
    assert ran.counts() == {"passed": 1}, ran.text


# Settings, and what the report says

IT = "def test_it(zookeeper): assert 'tickTime=200' in zookeeper.four_letters('conf')"


@needs_process
def test_settings_reach_the_server(project: Project, zookeeper: ZooKeeperServer) -> None:
    """The strongest decides: option, ini file, environment; the report's head says which it was."""
    project.write("test_it.py", IT)
    other = {"COORDINATOR_TEST_HOSTS": zookeeper.hosts, "COORDINATOR_ZOOKEEPER_TICK": "0.3"}
    project.write("pytest.ini", "[pytest]\nzookeeper_kind = process\nzookeeper_tick = 0.4\n")
    ran = project.run("--zookeeper-tick=0.2", f"--zookeeper-home={HOME}", **other)
    assert ran.counts() == {"passed": 1}, ran.text
    head, used = ran.said()
    version = re.escape(zookeeper.version)
    assert re.fullmatch(
        rf"zookeeper: child process, ZooKeeper {version} of \S+ \(zookeeper_kind in .*\)", head
    )
    assert used == f"zookeeper: child process, ZooKeeper of {HOME}, ZooKeeper {zookeeper.version}"


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_report_says_which_was_used(
    project: Project, zookeeper: ZooKeeperServer, workers: tuple[str, ...]
) -> None:
    """The head what is configured, the end and the junit file what it was; each test its own."""
    project.write("test_it.py", "def test_it(zookeeper): pass\ndef test_other(): pass")
    ran = project.run(*workers, "--junitxml=report.xml", COORDINATOR_TEST_HOSTS=zookeeper.hosts)
    what = f"external ZooKeeper at {zookeeper.hosts}, ZooKeeper {zookeeper.version}"
    assert ran.said() == [f"zookeeper: {what} (COORDINATOR_TEST_HOSTS)", f"zookeeper: {what}"]
    cases = ElementTree.parse(project.folder / "report.xml").iter("testcase")
    notes = {case.get("name"): [note.get("value") for note in case.iter("property")] for case in cases}
    assert notes == {"test_it": [what], "test_other": []}


@pytest.mark.parametrize(
    ("arguments", "environment", "head"),
    [
        ([], {}, "container zookeeper:3.9, else child process"),
        (["--zookeeper-image=a:1"], {}, "container a:1, else child process"),
        (
            ["--zookeeper-kind=container"],
            {"COORDINATOR_ZOOKEEPER_IMAGE": "b:2"},
            "container b:2 (--zookeeper-kind)",
        ),
        (
            [],
            {"COORDINATOR_ZOOKEEPER": "podman"},
            "COORDINATOR_ZOOKEEPER='podman', must be 'container' or 'process'",
        ),
        (
            ["--zookeeper=127.0.0.1:1"],
            {},
            "external ZooKeeper at 127.0.0.1:1, which does not answer (--zookeeper)",
        ),
        (
            ["--zookeeper-kind=process"],
            {"ZOOKEEPER_HOME": "/no"},
            "child process, but ZOOKEEPER_HOME=/no has no lib/zookeeper*.jar (--zookeeper-kind)",
        ),
    ],
)
def test_the_head_of_the_report(
    project: Project, arguments: list[str], environment: dict[str, str], head: str
) -> None:
    """It says what is configured, and nothing is started for it; a test that needs none passes."""
    project.write("test_it.py", "def test_it(): pass")
    ran = project.run(*arguments, **environment)
    assert ran.said() == [f"zookeeper: {head}"]
    assert ran.counts() == {"passed": 1}


@pytest.mark.parametrize(
    ("ini", "arguments", "says"),
    [
        ("", ["--zookeeper-kind=podman"], "--zookeeper-kind='podman', must be 'container' or 'process'"),
        ("zookeeper_tick = 0", [], "zookeeper_tick in the ini file='0', must be seconds, from 0.001 to 60"),
        ("", ["--zookeeper=a:b"], "--zookeeper: hosts 'a:b': expected HOST:PORT"),
    ],
)
def test_wrong_settings_are_usage_errors(project: Project, ini: str, arguments: list[str], says: str) -> None:
    """One line, pytest's exit code for them, and no test is run."""
    project.write("pytest.ini", f"[pytest]\n{ini}\n")
    project.write("test_it.py", "def test_it(): pass")
    ran = project.run(*arguments)
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    (line,) = ran.text.strip().splitlines()
    assert line.startswith(f"ERROR: {says}")


def test_without_any_of_the_three(project: Project) -> None:
    """One error that names them, within 2 s, and a line for each further test."""
    project.write(
        "test_it.py",
        "import pytest\n@pytest.mark.parametrize('n', range(50))\ndef test_it(coordinator, n): pass\n"
        "def test_other(): pass",
    )
    empty = str(project.folder)
    ran = project.run(
        "--durations=0", "--durations-min=0.0", "-vv", "-rN",
        DOCKER_HOST=f"unix://{empty}/none.sock", ZOOKEEPER_HOME=empty, PATH=empty, JAVA_HOME="",
    )  # fmt: skip
    assert ran.counts() == {"passed": 1, "error": 50}
    error = next(line for line in ran.text.splitlines() if "no ZooKeeper: " in line)
    for way in ("--zookeeper HOST:PORT", "COORDINATOR_TEST_HOSTS", "Docker engine", "ZOOKEEPER_HOME"):
        assert way in error
    assert ran.text.count(error) == 1
    assert ran.text.count("as told for test_it.py::test_it[0]") == 49
    assert "Traceback" not in ran.text
    durations = re.findall(r"^([\d.]+)s setup ", ran.text, re.MULTILINE)
    assert len(durations) == 51
    assert sum(map(float, durations)) < 2.0


# After a crash


@needs_process
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_the_report_says_what_was_swept(project: Project, workers: tuple[str, ...]) -> None:
    """What a killed run has left and this one has removed, in a line at the end."""
    with running(PROCESS, "killed", project.folder) as killed:
        killed.kill()
    project.write("test_it.py", "def test_it(zookeeper): pass")
    ran = project.run(*workers, "--zookeeper-kind=process", ZOOKEEPER_HOME=HOME, TMPDIR=str(project.folder))
    assert ran.counts() == {"passed": 1}, ran.text
    assert ran.said()[-1] == "zookeeper: removed 2 server processes left by a run that was killed"
    assert not [*project.folder.glob("coordinator-zookeeper-*")]
