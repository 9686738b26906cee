"""``coordinator watch`` as a user runs it: its lines, its ends, its mistakes."""

from __future__ import annotations

import os
import pty
import re
import signal
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import events
from coordinator.testing import FaultProxy, ZooKeeperServer, eventually, session_ids, watches
from coordinator.testing.ports import free_port
from tests.command import Command, run, start
from tests.support import PATIENCE, new_place


def told(lines: list[str]) -> list[Any]:
    """The events that these lines are: nothing else may be on stdout."""
    return [events.event_adapter.validate_json(line) for line in lines]


def watched(server: ZooKeeperServer, *paths: str) -> None:
    """Wait until the server keeps watches on these paths."""
    eventually(lambda: set(paths) <= set(watches(server)), message=f"watches on {paths}")


def test_as_json_every_line_is_an_event(zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """What happens to the znodes is told as it happens, up to session.closed; notes are on stderr."""
    place = new_place()
    with Command("watch", zookeeper.hosts, place, "--json") as command:
        command.until("session.established")
        command.until("does not exist yet", stream="err")
        watched(zookeeper, place)
        observer.create(place, b"planted")
        assert f'"path":"{place}"' in command.until("znode.created")
        observer.create(f"{place}/ada")
        command.until("children.changed", '"added":["ada"]')
        stat = observer.set(place, b"planted-2")
        changed = told([command.until("znode.changed")])[0]
        assert (changed.version, changed.mzxid, changed.after_gap) == (stat.version, stat.mzxid, False)
        assert command.end() == 130
    seen = told(command.out)
    assert [event.seq for event in seen] == sorted({event.seq for event in seen})
    assert seen[-1].kind == "session.closed"
    assert "planted" not in "".join(command.out + command.err)
    observer.delete(place, recursive=True)


def test_for_people_a_line_says_when_what_and_whose(
    zookeeper: ZooKeeperServer, observer: KazooClient
) -> None:
    """Piped, it is plain: date, time, kind, what changed, path, and the session in hex."""
    place = new_place()
    observer.create(place, b"planted")
    with Command("watch", zookeeper.hosts, place) as command:
        line = command.until("session.established")
        session = re.search(r"0x[0-9a-f]+", line)
        assert session
        command.until(f"{place} exists, version 0, children: 0", stream="err")
        watched(zookeeper, place)
        observer.set(place, b"planted-2")
        line = command.until("znode.changed")
        when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
        assert re.fullmatch(rf"{when}  znode\.changed +{place} was set, version 1  {session[0]}", line)
        assert command.end(signal.SIGTERM) == 143
    assert "\x1b[" not in "".join(command.out)
    assert "planted" not in "".join(command.out + command.err)
    observer.delete(place)


def test_it_goes_on_over_a_cut_and_an_expiry(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, observer: KazooClient
) -> None:
    """What was missed is told with after_gap; afterwards the watches stand again."""
    place = new_place()
    session = {"COORDINATOR_SESSION_TIMEOUT": "3"}
    with Command("watch", proxy.hosts, place, "--json", environment=session) as command:
        first = told([command.until("session.established")])[0]
        command.until("does not exist yet", stream="err")
        proxy.refuse = True
        proxy.reset_all()
        command.until("session.suspended")
        observer.create(place)
        command.until("connection.failed")
        proxy.refuse = False
        command.until("session.resumed")
        assert told([command.until("znode.created")])[0].after_gap
        proxy.refuse = True
        proxy.reset_all()
        command.until("session.suspended")
        observer.set(place, b"2")
        eventually(lambda: first.session_id not in session_ids(zookeeper), message="the session has expired")
        proxy.refuse = False
        command.until("session.expired")
        assert told([command.until("session.established")])[0].previous_session_id == first.session_id
        assert told([command.until("znode.changed")])[0].after_gap
        command.until("recovery.completed")
        watched(zookeeper, place)
        observer.set(place, b"3")
        assert not told([command.until("znode.changed")])[0].after_gap
        assert command.end() == 130
    told(command.out)
    observer.delete(place)


def test_an_ensemble_that_cannot_be_reached_is_waited_for() -> None:
    """Each attempt is told, and it does not give up by itself."""
    hosts = f"127.0.0.1:{free_port()}"
    with Command("watch", hosts, "/a", environment={"COORDINATOR_RETRY_MAX_DELAY": "0.05"}) as command:
        command.until(f"watching the session, /a at {hosts}", stream="err")
        for _ in range(5):
            command.until("connection.failed", hosts, "refused")
        assert command.process.poll() is None
        assert command.end() == 130
    assert "Traceback" not in "".join(command.err)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_has_gone_ends_it(zookeeper: ZooKeeperServer, form: tuple[str, ...]) -> None:
    """``| head -1``: 141, without a word, also when no event comes that could not be written."""
    process = start("watch", zookeeper.hosts, "--kind", "session", *form)
    assert process.stdout is not None
    assert "session.established" in process.stdout.readline()  # the last one for a while
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 141
    assert len(err.splitlines()) == 1  # what is watched


def test_only_the_kinds_that_are_asked_for(zookeeper: ZooKeeperServer) -> None:
    """--kind filters, --heartbeats adds."""
    session = {"COORDINATOR_SESSION_TIMEOUT": "0.5"}
    arguments = ("--json", "--kind", "session.established", "--heartbeats")
    with Command("watch", zookeeper.hosts, *arguments, environment=session) as command:
        command.until("session.heartbeat")
        command.end()
    assert {event.kind for event in told(command.out)} == {"session.established", "session.heartbeat"}


def test_hosts_come_from_the_environment(zookeeper: ZooKeeperServer) -> None:
    """Without HOSTS, COORDINATOR_HOSTS."""
    with Command("watch", "/", environment={"COORDINATOR_HOSTS": zookeeper.hosts}) as command:
        command.until("session.established")
        command.until("/ exists", stream="err")


@pytest.mark.parametrize("no_color", [False, True])
def test_on_a_terminal_it_has_colours(zookeeper: ZooKeeperServer, no_color: bool) -> None:
    """Unless NO_COLOR says otherwise."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", "NO_COLOR": "1" if no_color else "", "COLUMNS": "200"}
    process = start("watch", zookeeper.hosts, stdout=theirs, environment=environment)
    os.close(theirs)
    shown = b""
    while b"stands" not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    os.close(ours)
    assert process.returncode == 130, err
    assert (b"\x1b[32m" in shown) is not no_color


def test_refused_credentials_end_it(zookeeper: ZooKeeperServer) -> None:
    """Exit 1, with the reason, and not with the secret."""
    code, out, err = run("watch", zookeeper.hosts, environment={"COORDINATOR_AUTH": "nonsense:planted"})
    assert code == 1
    assert "session.closed" in out
    assert "the server refused the credentials: see COORDINATOR_AUTH" in err
    assert "planted" not in out + err


def test_a_secret_on_the_command_line_is_not_repeated() -> None:
    """What looks like user:password@host is refused unseen."""
    for arguments in (["alice:planted@zk1"], ["zk1", "zk://alice:planted@zk2"], ["/a", "alice:planted@zk1"]):
        code, out, err = run("watch", *arguments)
        assert code == 2
        assert "planted" not in out + err
