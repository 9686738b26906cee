"""How a mismatch is told: these texts are read by people; change them with care."""

from __future__ import annotations

import textwrap

import pytest
from happenings import Happenings

from coordinator.events import (
    ConnectionFailed,
    ConnectionOpened,
    EphemeralRecreated,
    SessionExpired,
    SessionResumed,
    SessionSuspended,
)
from coordinator.testing import event, match_events, some, unordered


@pytest.fixture
def make() -> Happenings:
    return Happenings()


def told(events, *pattern, **how) -> str:
    with pytest.raises(AssertionError) as caught:
        match_events(events, *pattern, **how)
    return str(caught.value)


def assert_told(text: str, expected: str) -> None:
    assert text.splitlines() == textwrap.dedent(expected).strip("\n").splitlines()


def test_another_event_came(make):
    """Both sides to where they part, what is left of both, and in brackets what was ignored."""
    events = [
        make(SessionSuspended),
        make(ConnectionFailed),
        make(SessionResumed),
        make(EphemeralRecreated),
        make(ConnectionFailed),
    ]
    assert_told(
        told(
            events,
            "session.suspended",
            event("session.*", outage=lambda outage: outage > 1),
            ignoring="connection.failed",
        ),
        """
        event 3 is session.resumed, expected session.* outage=<predicate>

             expected                      actual
          1  session.suspended             session.suspended server=zk1:2181 silent_for=0.500 lapses_in=9.500
          2                                (connection.failed server=zk1:2181 cause=refused)
        > 3  session.* outage=<predicate>  session.resumed server=zk1:2181 outage=0.100
          4                                ephemeral.recreated path=/a czxid=7
          5                                (connection.failed server=zk1:2181 cause=refused)
        event 3, session.resumed: outage: expected <predicate>, was 0.1
        """,
    )


def test_an_event_never_came(make):
    """What came close to it is told, though any event would have been right there."""
    events = [make(SessionSuspended), make(ConnectionOpened), make(SessionExpired, confirmed_by="refused")]
    assert_told(
        told(events, "session.suspended", ..., event(SessionExpired, epoch=2), "session.*", ...),
        """
        no SessionExpired epoch=2 by the end

             expected                actual
          1  session.suspended       session.suspended server=zk1:2181 silent_for=0.500 lapses_in=9.500
          2  ...                     connection.opened server=zk1:2181
          3  ...                     session.expired confirmed_by=refused lost_ephemerals=0 lost_leases=0
        >    SessionExpired epoch=2  nothing more
             session.*
             ...
        event 3, session.expired: epoch: expected 2, was 1
        """,
    )


def test_an_event_too_many(make):
    assert_told(
        told([make(SessionSuspended), make(SessionResumed)], "session.suspended"),
        """
        one event too many: session.resumed (event 2)

             expected           actual
          1  session.suspended  session.suspended server=zk1:2181 silent_for=0.500 lapses_in=9.500
        > 2  nothing more       session.resumed server=zk1:2181 outage=0.100
        """,
    )


def test_what_may_come_next_is_told_in_every_way(make):
    """Of sequences in any order each has its own; of some there may be more."""
    events = [make(EphemeralRecreated, path="/b"), make(SessionResumed)]
    pattern = unordered(event("*", path="/a"), ["ephemeral.*", "znode.*", "children.*"])
    text = told(events, pattern, some("recovery.*"))
    assert text.startswith("event 2 is session.resumed, expected * path='/a' or znode.*\n")
    shown = ["~ * path='/a'", "~ znode.*", "  children.*", "recovery.*", "more of: recovery.*"]
    assert [line[5:25].rstrip() for line in text.splitlines()[4:9]] == shown
    repeated = told(events, some("ephemeral.*"), "recovery.*")
    assert repeated.startswith("event 2 is session.resumed, expected ephemeral.* or recovery.*\n")
    assert "more of: ephemeral.*" in repeated


def test_long_runs_are_cut_short(make):
    """What `...` took, what was ignored and what is left; the ends are shown."""
    events = [make(ConnectionFailed) for _ in range(100)]
    swallowed = told(events, ..., "session.resumed")
    assert [line.split()[0] for line in swallowed.splitlines()[3:]] == [
        "1",
        "2",
        "3",
        "...",
        "98",
        "99",
        "100",
        ">",
    ]
    assert "and 94 more" in swallowed
    assert "and 94 more" in told(events, "session.resumed", ignoring="connection.*")
    assert "and 80 more" in told(events, "session.resumed")


def test_long_events_are_cut_short(make):
    text = told([make(EphemeralRecreated, path="/" + "x" * 500)])
    assert max(len(line) for line in text.splitlines()) < 150
    assert text.splitlines()[-1].endswith("...")


def test_the_way_that_came_furthest_is_shown(make):
    """Not the one in which the dots took everything."""
    events = [make(SessionSuspended), make(SessionResumed), make(SessionSuspended)]
    text = told(events, ..., "session.suspended", "session.resumed", ..., "session.expired")
    assert text.startswith("no session.expired by the end")
    assert [line[5:].split("  ")[0] for line in text.splitlines()[3:6]] == [
        "session.suspended",
        "session.resumed",
        "...",
    ]


def test_what_was_expected_by_name_is_shown_so(make):
    """Where an event may be read in two ways that lead to the same."""
    events = [make(EphemeralRecreated), make(EphemeralRecreated), make(EphemeralRecreated)]
    text = told(events, unordered(..., some("ephemeral.*"), "session.*"))
    assert [line[5:].split("  ")[0] for line in text.splitlines()[3:6]] == ["ephemeral.*"] * 3


def test_session_ids_are_shown_in_hex(make):
    text = told([make(SessionSuspended)], event("session.*", session_id=0x1000013E37D0001))
    assert "session_id: expected 0x1000013e37d0001, was 0x1000013e37d0000" in text
