"""The command line without a server: what it checks, says and refuses."""

from __future__ import annotations

import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

import coordinator
from coordinator import errors, events
from coordinator.cli import checks
from coordinator.cli.app import run
from coordinator.cli.checks import Change, Owned
from coordinator.cli.ending import SIGNALS, conclude, held_back
from coordinator.cli.play import OutOfTimeError, Recorder
from coordinator.cli.screen import Screen
from coordinator.cli.status import Quorum, RoundTrip, Server, Session, Status, read_srvr
from coordinator.cli.watch import kinds_of, sort_out
from coordinator.cli.words import style_of, words_of
from coordinator.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
KINDS: tuple[type[events.BaseEvent], ...] = get_args(get_args(events.Event)[0])
PATHS = ("/w/1", "/w/2")

COMMON: dict[str, Any] = {"at": datetime.now(UTC), "epoch": 1, "session_id": 0xA}
FIELDS: dict[str, Any] = {
    "token": 7,
    "identity": "host-1",
    "remaining": 0.5,
    "leader": "host-1",
    "previous": None,
    "server": "zk1:2181",
    "cause": "refused",
    "timeout": 2.0,
    "silent_for": 0.5,
    "lapses_in": 1.5,
    "outage": 0.2,
    "confirmed_by": "server",
    "reason": "requested",
    "rtt": 0.001,
    "ephemerals": 2,
    "watches": 1,
    "took": 0.01,
    "path": "/w/1",
    "czxid": 7,
    "owner_session_id": 0xB,
    "error": "not permitted",
    "next_try_in": 0.1,
    "by": "us",
    "version": 3,
    "mzxid": 9,
    "servers": ("zk1:2181",),
    "ignored": ("10.0.0.1:2181",),
    "source": "reconfiguration",
    "count": 4,
    "first_seq": 1,
    "last_seq": 4,
}


def make(kind: type[events.BaseEvent], seq: int = 1, **given: Any) -> Any:
    """Return an event of that class, with whatever it needs."""
    needed = {name: FIELDS[name] for name in kind.model_fields if name in FIELDS}
    own = {"reason": "lapsed"} if kind is events.LeaseLost else {}
    return kind.model_validate({**COMMON, **needed, **own, "seq": seq, **given})


def recovery() -> list[events.BaseEvent]:
    """Return what is told of a recovery that goes well."""
    return [
        make(events.ConnectionClosed, 1),
        make(events.SessionSuspended, 2),
        make(events.SessionExpired, 3),
        make(events.ConnectionFailed, 4),
        make(events.ConnectionOpened, 5),
        make(events.SessionEstablished, 6, epoch=2),
        make(events.RecoveryStarted, 7),
        make(events.EphemeralRecreated, 8, path="/w/1"),
        make(events.EphemeralRecreated, 9, path="/w/2"),
        make(events.ZnodeChanged, 10),
        make(events.RecoveryCompleted, 11),
    ]


# -- the checks


def test_a_recovery_that_goes_well_is_in_order() -> None:
    assert checks.recovered_in_order(recovery(), PATHS) == ""


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda told: told.pop(2), "session.expired was not told"),
        (lambda told: told.pop(5), "missing: session.established"),
        (lambda told: told.pop(6), "missing: recovery.started"),
        (lambda told: told.pop(8), "/w/2"),
        (lambda told: told.pop(10), "missing: recovery.completed"),
        (lambda told: told.insert(8, told.pop(9)), "out of order"),
        (lambda told: told.insert(9, told[8]), "'ephemeral.recreated /w/2': 2"),
        (lambda told: told.insert(9, make(events.EphemeralFailed)), "ephemeral.failed /w/1"),
    ],
)
def test_a_sabotaged_recovery_is_noticed(spoil: Any, complaint: str) -> None:
    told = recovery()
    spoil(told)
    assert complaint in checks.recovered_in_order(told, PATHS)


def test_ephemerals_have_to_be_back_under_the_session_that_stands() -> None:
    owned = {"/w/1": Owned(0xA, 1), "/w/2": Owned(0xB, 2)}
    assert checks.back_under(0xA, owned, ["/w/1"]) == ""
    assert checks.back_under(0xA, owned, PATHS) == "/w/2 belongs to 0xb, not 0xa"
    assert checks.back_under(0xA, {}, ["/w/1"]) == "/w/1 does not exist"


def test_untouched_ephemerals_keep_their_session_and_their_czxid() -> None:
    before = {"/w/1": Owned(0xA, 1)}
    assert checks.untouched(before, dict(before)) == ""
    assert "belongs to 0xb, belonged to 0xa" in checks.untouched(before, {"/w/1": Owned(0xB, 1)})
    assert "created anew (czxid 1 before, 2 now)" in checks.untouched(before, {"/w/1": Owned(0xA, 2)})
    assert checks.untouched(before, {}) == "/w/1 does not exist"
    assert checks.untouched({}, {})


SET = Change("znode.changed", "/c", version=3, mzxid=9, after_gap=True)
MOVED = Change("children.changed", "/m", added=("b",), removed=("a",), after_gap=True)


def told_of_both() -> list[events.BaseEvent]:
    return [
        make(events.ZnodeChanged, 1, path="/c", after_gap=True),
        make(events.ChildrenChanged, 2, path="/m", added=("b",), removed=("a",), after_gap=True),
    ]


def test_what_was_reported_once_is_reported_once() -> None:
    assert checks.reported_once([*told_of_both(), make(events.SessionSuspended)], [MOVED, SET]) == ""


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        (told_of_both()[:1], "not reported: children.changed /m +b -a after a gap"),
        ([*told_of_both(), told_of_both()[0]], "reported 2 times: znode.changed /c version 3 (mzxid 9)"),
        ([*told_of_both(), make(events.ZnodeDeleted, path="/c")], "never made: znode.deleted /c"),
        ([make(events.ZnodeChanged, path="/c", after_gap=True, mzxid=8), *told_of_both()], "never made"),
        ([make(events.ZnodeChanged, path="/c"), told_of_both()[1]], "not reported"),  # not after a gap
    ],
)
def test_a_change_that_is_missing_doubled_or_invented_is_noticed(told: Any, complaint: str) -> None:
    assert complaint in checks.reported_once(told, [SET, MOVED])


def test_changes_of_one_path_have_to_come_in_their_order() -> None:
    gone, back = Change("znode.deleted", "/c"), Change("znode.created", "/c", 3, 9)
    told = [make(events.ZnodeDeleted, 1, path="/c"), make(events.ZnodeCreated, 2, path="/c")]
    assert checks.reported_once(told, [gone, back]) == ""
    assert "out of order" in checks.reported_once(told[::-1], [gone, back])


def whole() -> list[events.BaseEvent]:
    return [
        make(events.SessionEstablished, 1),
        make(events.SessionSuspended, 2),
        make(events.SessionResumed, 3),
        make(events.SessionSuspended, 4),
        make(events.SessionExpired, 5),
        make(events.SessionEstablished, 6, epoch=2),
        make(events.SessionClosed, 7, epoch=2),
    ]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda told: None, ""),
        (lambda told: told.append(told[0]), "seq does not ascend"),
        (lambda told: told.pop(0), "epochs [2]"),
        (lambda told: told.pop(1), "resumed without having been suspended"),
        (lambda told: told.pop(2), "suspended twice"),
        (lambda told: told.pop(), "session.closed is not the last event"),
        (lambda told: told.insert(0, make(events.EventsDropped, 0)), "events were dropped"),
    ],
)
def test_the_order_of_a_whole_stream_is_checked(spoil: Any, complaint: str) -> None:
    told = whole()
    spoil(told)
    problem = checks.in_order(told)
    assert complaint in problem
    assert bool(problem) == bool(complaint)


# -- what is shown


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_has_words_and_a_style(kind: type[events.BaseEvent]) -> None:
    event = make(kind)
    assert words_of(event)
    assert style_of(event) in ("green", "yellow", "red", "cyan", "default")


def test_a_failed_check_is_shown_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(as_json=False).verdict([checks.Check("all is well", "it is not"), checks.Check("fine", "", 0.5)])
    shown = capsys.readouterr().out
    assert "FAILED  all is well" in shown
    assert "it is not" in shown
    assert "0.500 s" in shown


def test_as_json_stdout_bears_events_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    event = make(events.SessionExpired, lost_ephemerals=3)
    screen.heading("Act 1")
    screen.deed("cut")
    screen.event(event)
    screen.verdict([])
    shown = capsys.readouterr()
    assert events.event_adapter.validate_json(shown.out) == event
    assert "Act 1" in shown.err


@pytest.mark.parametrize("columns", [30, 72, 200])
def test_a_line_fits_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    Screen(as_json=False).event(make(events.SessionSuspended))
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= columns


def test_waiting_ends_at_the_deadline_and_says_for_what() -> None:
    record = Recorder(Screen(as_json=True), time.monotonic())
    with pytest.raises(OutOfTimeError, match=r"waiting for session\.expired"):
        record.first(events.SessionExpired, 0)


def test_a_reader_who_has_gone_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(as_json=True)
    monkeypatch.setattr(screen, "event", lambda event: (_ for _ in ()).throw(BrokenPipeError()))
    record = Recorder(screen, time.monotonic() + 10)
    record(make(events.SessionExpired))
    with pytest.raises(BrokenPipeError):
        record.first(events.SessionExpired, 0)


# -- how it is called


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"coordinator {coordinator.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["demo", "--nope"],
        ["demo", "--zookeeper"],
        ["demo", "x"],
        ["watch", "--nope"],
        ["watch", "zk://zk1"],
        ["watch", "zk1:port"],
        ["watch", "zk1", "zk2"],
        ["watch", "/a", "zk1"],
        ["watch", "/a/"],
        ["watch", "--kind", "nope"],
        ["status", "zk1", "zk2"],
        ["status", "zk1", "--timeout", "0"],
        ["status", "zk1", "--timeout", "soon"],
        ["dev", "--ensemble", "0"],
        ["dev", "--port", "65536"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    capsys.readouterr()


@pytest.mark.parametrize("command", ["demo", "watch", "dev", "status"])
def test_help_names_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Exit code" in shown
    assert "130: interrupted" in shown


@pytest.mark.parametrize("command", ["demo", "watch", "dev", "status"])
def test_docs_name_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([command, "--help"])
    options = set(re.findall(r"(?<= )--[a-z]+", capsys.readouterr().out)) - {"--help"}
    section = (DOCS / "cli.md").read_text("utf-8").split(f"## coordinator {command}\n")[1].split("\n## ")[0]
    assert options
    assert {option for option in options if option not in section} == set()


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_how_to_install_it(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coordinator import __main__ as program

    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(program, "_settle", lambda: None)  # this process has much to tidy up
    assert program.main() == 2
    assert "pip install 'coordinator[cli]'" in capsys.readouterr().err


# -- which arguments are what


@pytest.mark.parametrize(
    ("arguments", "hosts", "paths"),
    [
        ([], None, ()),
        (["zk1"], "zk1", ()),
        (["/a"], None, ("/a",)),
        (["zk1:2181,zk2/prod", "/", "/a"], "zk1:2181,zk2/prod", ("/", "/a")),
        (["/a", "/b", "/a"], None, ("/a", "/b")),
    ],
)
def test_what_begins_with_a_slash_is_a_path(arguments: list[str], hosts: str, paths: Any) -> None:
    assert sort_out(arguments) == (hosts, paths)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["zk1", "zk2"], "more than one HOSTS: zk1 zk2; servers are separated by commas"),
        (["zk1", "config"], "a path begins with a slash"),
        (["/a", "zk1:2181"], "HOSTS come before the paths: coordinator watch zk1:2181 /a"),
        (["zk1", "/a//b"], "empty part"),
        (["zk1", "zk://alice:planted@zk2"], "without a scheme, user or password"),
        (["/a", "alice:planted@zk2"], "without a scheme, user or password"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said(arguments: list[str], complaint: str) -> None:
    with pytest.raises(errors.ConfigurationError) as error:
        sort_out(arguments)
    assert complaint in str(error.value)
    assert "planted" not in str(error.value)


def test_kinds_are_named_whole_or_by_their_first_part() -> None:
    """Heartbeats only by their own name."""
    assert kinds_of(["znode.changed"], heartbeats=False) == (events.ZnodeChanged,)
    session = kinds_of(["session"], heartbeats=False)
    assert set(session) == set(events.SessionEvent.__subclasses__())
    assert set(kinds_of(["session", "session.expired"], heartbeats=True)) == {*session, events.Heartbeat}
    assert kinds_of(["session.heartbeat"], heartbeats=True) == (events.Heartbeat,)
    assert set(kinds_of([], heartbeats=False)) == {*KINDS} - {events.Heartbeat}
    assert set(kinds_of([], heartbeats=True)) == {*KINDS}
    with pytest.raises(errors.ConfigurationError, match="no kind of event 'sess'"):
        kinds_of(["sess"], heartbeats=False)


# -- what a server says of itself


SRVR = """Zookeeper version: 3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC
Latency min/avg/max: 0/0.0/0
Received: 1
Zxid: 0x0
Mode: {mode}
Node count: 5
"""


@pytest.mark.parametrize("mode", ["leader", "follower", "observer", "standalone", "read-only"])
def test_srvr_tells_mode_and_version(mode: str) -> None:
    assert read_srvr("zk1:2181", SRVR.format(mode=mode)) == Server(
        server="zk1:2181", serves=True, mode=mode, version="3.9.3"
    )


@pytest.mark.parametrize(
    ("answer", "serves", "problem"),
    [
        ("srvr is not executed because it is not in the whitelist.\n", None, "srvr not allowed"),
        (
            "This ZooKeeper instance is not currently serving requests\n",
            False,
            "not currently serving requests",
        ),
        ("", False, "no ZooKeeper, or one that wants TLS"),
        ("HTTP/1.1 400 Bad Request", False, "no ZooKeeper, or one that wants TLS"),
    ],
)
def test_srvr_that_tells_nothing_says_why(answer: str, serves: bool | None, problem: str) -> None:
    assert read_srvr("zk1:2181", answer) == Server(server="zk1:2181", serves=serves, problem=problem)


# -- how a command ends


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.ConfigurationError("so"), 2, "coordinator x: so\n"),
        (errors.MissingExtraError("testing"), 2, "pip install 'coordinator[testing]'"),
        (errors.StartError("so"), 1, "coordinator x: StartError: so\n"),
        (OSError("so"), 1, "coordinator x: OSError: so\n"),
    ],
)
def test_an_error_is_an_exit_code_and_a_line(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert conclude("x", fail) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_passes_through_the_command(number: signal.Signals) -> None:
    """It can tidy up; the handlers of before are back afterwards."""
    before = [signal.getsignal(one) for one in SIGNALS]
    tidied = []

    def wait() -> int:
        try:
            signal.raise_signal(number)
        finally:
            tidied.append(number)
        return 0

    assert conclude("x", wait) == 128 + number
    assert tidied == [number]
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_signal_is_held_back_and_comes_afterwards() -> None:
    """The first of them; what must not be interrupted is not."""
    done = []

    def work() -> int:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("created")
        done.append("never")
        return 0

    assert conclude("x", work) == 143
    assert done == ["created"]


def test_a_signal_that_is_ignored_stays_so() -> None:
    """nohup, and & in a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        def work() -> int:
            signal.raise_signal(signal.SIGHUP)
            return 0

        assert conclude("x", work) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# -- the documentation names everything


def test_docs_name_every_field_of_the_status() -> None:
    section = (
        (DOCS / "cli.md").read_text("utf-8").split("### The fields of status --json\n")[1].split("\n#")[0]
    )
    for part in (Status, Session, RoundTrip, Server, Quorum):
        for field in part.model_fields:
            assert f"`{field}`" in section, f"docs/cli.md does not tell {part.__name__}.{field}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_docs_name_every_kind_and_every_field(kind: type[events.BaseEvent]) -> None:
    text = (DOCS / "events.md").read_text("utf-8")
    name = kind.model_fields["kind"].default
    heading = f"### {name}\n"
    assert heading in text
    section = text.split(heading)[1].split("\n#")[0]
    assert f"`{kind.__name__}`" in section
    common = text.split("## Common fields")[1].split("\n#")[0]
    for field in kind.model_fields:
        where = common if field in events.BaseEvent.model_fields else section
        assert f"`{field}`" in where, f"docs/events.md does not tell {name} {field}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_docs_name_every_setting(name: str) -> None:
    section = (DOCS / "settings.md").read_text("utf-8").split(f"### {name}\n")
    assert len(section) == 2, f"docs/settings.md has no section {name}"
    told = section[1].split("\n#")[0]
    assert f"COORDINATOR_{name.upper()}" in told
    default = Settings.model_fields[name].default
    assert f"Default: `{default!r}`" in told or f"Default: `{default}`" in told


@pytest.mark.parametrize("name", errors.__all__)
def test_docs_name_every_error(name: str) -> None:
    assert f"`{name}`" in (DOCS / "errors.md").read_text("utf-8")


def test_docs_show_events_as_they_are() -> None:
    sample = (DOCS / "events.md").read_text("utf-8").split("```json\n")[1].split("```")[0]
    told = [events.event_adapter.validate_json(line) for line in sample.splitlines()]
    assert [event.model_dump_json() for event in told] == sample.splitlines()
