"""The pytest plugin: fixtures, options, and what a report says about ZooKeeper.

pytest loads it in every project where coordinator is installed, used or not: at its top it
imports only what the standard library and pytest have. Docker, kazoo and pydantic are imported
when a test asks for a fixture. ``-p no:coordinator`` does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator.errors import ConfigurationError
from coordinator.testing import factories
from coordinator.testing.factories import REFUSED, SERVED
from coordinator.testing.ownership import swept
from coordinator.testing.selection import KNOBS, check, select
from coordinator.testing.sighting import sighted

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = [
    "async_coordinator",
    "coordinator",
    "faults",
    "zookeeper",
    "zookeeper_chroot",
    "zookeeper_client",
    "zookeeper_ensemble",
    "zookeeper_no_leaks",
]

zookeeper = factories.zookeeper()
zookeeper_ensemble = factories.zookeeper_ensemble()
zookeeper_chroot = factories.zookeeper_chroot()
zookeeper_no_leaks = factories.zookeeper_no_leaks()
zookeeper_client = factories.zookeeper_client()
faults = factories.faults()
coordinator = factories.coordinator()
async_coordinator = factories.async_coordinator()

#: By what name a test's report, and the junit file, tell which ZooKeeper it used.
PROPERTY = "zookeeper"
_SWEPT = pytest.StashKey[list[str]]()
#: Why tests could not have their fixtures, and the first of them.
_FIRST_REFUSED = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and their twins for the ini file."""
    group = parser.getgroup("zookeeper", "ZooKeeper for tests (coordinator.testing)")
    for knob in KNOBS:
        known_as = f"{knob.help} (ini: {knob.ini}, environment: {knob.variable})"
        group.addoption(knob.option, dest=knob.ini, metavar=knob.metavar, default=None, help=known_as)
        parser.addini(knob.ini, knob.help, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse wrong settings before anything is started."""
    config.stash[SERVED] = {}
    config.stash[_SWEPT] = []
    config.stash[_FIRST_REFUSED] = {}
    try:
        check(config)
    except ConfigurationError as wrong:
        raise pytest.UsageError(str(wrong)) from None
    if config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(_Workers(config), "coordinator-workers")


def pytest_report_header(config: pytest.Config) -> str:
    """Say what will be used if a test asks for it, as far as that is known for nothing."""
    try:
        return f"zookeeper: {sighted(select(config, {}))}"
    except ConfigurationError as wrong:
        return f"zookeeper: {wrong}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Note in each test's report which server it used."""
    __tracebackhide__ = True  # of fixtures that fail
    yield
    served = item.config.stash[SERVED]
    for name in getattr(item, "fixturenames", ()):
        if name in served:
            item.user_properties.append((PROPERTY, served[name]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say why there is no ZooKeeper for the first test that needs one; the others refer to it."""
    report = yield
    failed = call.excinfo.value if call.excinfo is not None else None
    if isinstance(failed, pytest.fail.Exception) and str(failed.msg).startswith(REFUSED):
        first = item.config.stash[_FIRST_REFUSED].setdefault(str(failed.msg), item.nodeid)
        if first != item.nodeid:
            report.longrepr = f"{REFUSED}as told for {first}"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this process has removed after others: to the report, or to xdist's controller."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is None:
        session.config.stash[_SWEPT] += swept()
    else:
        output["coordinator_swept"] = swept()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which servers were used, and what was removed after runs that were killed."""
    reports = [report for group in ("passed", "failed") for report in terminalreporter.getreports(group)]
    used = {value for report in reports for name, value in report.user_properties if name == PROPERTY}
    for line in [*sorted(used), *config.stash[_SWEPT]]:
        terminalreporter.write_line(f"zookeeper: {line}")


class _Workers:
    """What xdist's workers hand over at their end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker has removed."""
        self._config.stash[_SWEPT] += getattr(node, "workeroutput", {}).get("coordinator_swept", [])
