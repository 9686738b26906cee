"""The session machine: every pair of phase and signal, and what holds in any history."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.session import (
    AttemptFailed,
    AuthFailed,
    Beat,
    Closing,
    Ended,
    Expired,
    GaveUp,
    LinkDown,
    LinkUp,
    Proved,
    RoundRefused,
    Session,
    Signal,
    Tick,
    step,
)

A, B = 0xA, 0xB
TIMEOUT = 10.0


def up(session_id: int, contact: float, timeout: float = TIMEOUT) -> LinkUp:
    return LinkUp(session_id, timeout, "zk1:2181", False, contact)


def kinds(drafts) -> list[str]:
    return [one.event.model_fields["kind"].default for one in drafts]


def after(history) -> Session:
    session = Session(timeout=TIMEOUT)
    for signal, now in history:
        session, _ = step(session, signal, now)
    return session


LINKED = [(up(A, 0.0), 0.0)]
PROVED = [*LINKED, (Proved(1.0), 1.0)]
DOWN = [*PROVED, (LinkDown(2.0), 3.0)]
LAPSED = [*DOWN, (Tick(0.0), 20.0)]

HISTORIES = {
    "connecting": [],
    "verifying": LINKED,
    "connected": PROVED,
    "suspended": DOWN,
    "verifying again": [*DOWN, (up(A, 4.0), 4.0)],
    "lapsed": LAPSED,
    "lapsed, linked": [*LAPSED, (up(A, 20.0), 20.0)],
    "lapsed, stalled": [*PROVED, (Tick(1.0), 20.0)],
    "expired": [*PROVED, (Expired(), 4.0)],
    "closed": [*PROVED, (Closing(), 4.0)],
}
PHASES = {
    "connecting": "connecting",
    "verifying": "verifying",
    "connected": "connected",
    "suspended": "suspended",
    "verifying again": "verifying",
    "lapsed": "lapsed",
    "lapsed, linked": "lapsed",
    "lapsed, stalled": "lapsed",
    "expired": "connecting",
    "closed": "closed",
}

# Each signal comes 0.5 s after the history; "late" is a Tick long after, with no news.
SIGNALS = {
    "up same": lambda now: (up(A, now), now),
    "up other": lambda now: (up(B, now), now),
    "proved": lambda now: (Proved(now), now),
    "down": lambda now: (LinkDown(now), now),
    "failed": lambda now: (AttemptFailed("zk1:2181", "refused", "", None), now),
    "refused": lambda now: (RoundRefused(), now),
    "beat": lambda now: (Beat(0.1, now), now),
    "tick": lambda now: (Tick(now), now),
    "late": lambda now: (Tick(0.0), now + 100),
    "expired": lambda now: (Expired(), now),
    "auth": lambda now: (AuthFailed(), now),
    "closing": lambda now: (Closing(), now),
    "gave up": lambda now: (GaveUp(), now),
    "ended": lambda now: (Ended("stopped"), now),
    "left": lambda now: (Closing(left=True), now),
}

OPENED, CLOSED, FAILED = "connection.opened", "connection.closed", "connection.failed"
ESTABLISHED, SUSPENDED, RESUMED = "session.established", "session.suspended", "session.resumed"
LAPSE, EXPIRY, BEAT, END = "session.lapsed", "session.expired", "session.heartbeat", "session.closed"

# The specification (design, section 3): next phase, then what is told, in that order.
NO_SESSION = {
    "up same": ("verifying", OPENED),
    "up other": ("verifying", OPENED),
    "proved": ("connecting",),
    "down": ("connecting",),
    "failed": ("connecting", FAILED),
    "refused": ("connecting",),
    "beat": ("connecting",),
    "tick": ("connecting",),
    "late": ("connecting",),
    "expired": ("connecting",),
    "auth": ("closed", END),
    "closing": ("closed", END),
    "gave up": ("closed", END),
    "ended": ("closed", END),
    "left": ("closed", END),
}
TABLE = {
    "connecting": NO_SESSION,
    "expired": NO_SESSION,
    "verifying": {
        "up same": ("verifying", CLOSED, OPENED),
        "up other": ("verifying", CLOSED, OPENED),
        "proved": ("connected", ESTABLISHED),
        "down": ("connecting", CLOSED),
        "failed": ("verifying", FAILED),
        "refused": ("verifying",),
        "beat": ("verifying", BEAT),
        "tick": ("verifying",),
        "late": ("verifying",),
        "expired": ("connecting", CLOSED),
        "auth": ("closed", CLOSED, END),
        "closing": ("closed", CLOSED, END),
        "gave up": ("closed", CLOSED, END),
        "ended": ("closed", CLOSED, END),
        "left": ("closed", END),
    },
    "connected": {
        "up same": ("verifying", CLOSED, OPENED),
        "up other": ("verifying", CLOSED, EXPIRY, OPENED),
        "proved": ("connected",),
        "down": ("suspended", CLOSED, SUSPENDED),
        "failed": ("connected", FAILED),
        "refused": ("connected",),
        "beat": ("connected", BEAT),
        "tick": ("connected",),
        "late": ("lapsed", SUSPENDED, LAPSE),
        "expired": ("connecting", CLOSED, EXPIRY),
        "auth": ("closed", CLOSED, END),
        "closing": ("closed", CLOSED, END),
        "gave up": ("closed", CLOSED, END),
        "ended": ("closed", CLOSED, END),
        "left": ("closed", END),
    },
    "suspended": {
        "up same": ("verifying", OPENED),
        "up other": ("verifying", EXPIRY, OPENED),
        "proved": ("suspended",),
        "down": ("suspended",),
        "failed": ("suspended", FAILED),
        "refused": ("suspended",),
        "beat": ("suspended",),
        "tick": ("suspended",),
        "late": ("lapsed", LAPSE),
        "expired": ("connecting", EXPIRY),
        "auth": ("closed", END),
        "closing": ("closed", END),
        "gave up": ("closed", END),
        "ended": ("closed", END),
        "left": ("closed", END),
    },
    "verifying again": {
        "up same": ("verifying", CLOSED, OPENED),
        "up other": ("verifying", CLOSED, EXPIRY, OPENED),
        "proved": ("connected", RESUMED),
        "down": ("suspended", CLOSED),
        "failed": ("verifying", FAILED),
        "refused": ("verifying",),
        "beat": ("verifying", BEAT),
        "tick": ("verifying",),
        "late": ("lapsed", LAPSE),
        "expired": ("connecting", CLOSED, EXPIRY),
        "auth": ("closed", CLOSED, END),
        "closing": ("closed", CLOSED, END),
        "gave up": ("closed", CLOSED, END),
        "ended": ("closed", CLOSED, END),
        "left": ("closed", END),
    },
    "lapsed": {
        "up same": ("lapsed", OPENED),
        "up other": ("verifying", EXPIRY, OPENED),
        "proved": ("lapsed",),
        "down": ("lapsed",),
        "failed": ("lapsed", FAILED),
        "refused": ("lapsed",),
        "beat": ("lapsed",),
        "tick": ("lapsed",),
        "late": ("lapsed",),
        "expired": ("connecting", EXPIRY),
        "auth": ("closed", END),
        "closing": ("closed", END),
        "gave up": ("closed", END),
        "ended": ("closed", END),
        "left": ("closed", END),
    },
    "lapsed, linked": {
        "up same": ("lapsed", CLOSED, OPENED),
        "up other": ("verifying", CLOSED, EXPIRY, OPENED),
        "proved": ("connected", RESUMED),
        "down": ("lapsed", CLOSED),
        "failed": ("lapsed", FAILED),
        "refused": ("lapsed",),
        "beat": ("lapsed", BEAT),
        "tick": ("lapsed",),
        "late": ("lapsed",),
        "expired": ("connecting", CLOSED, EXPIRY),
        "auth": ("closed", CLOSED, END),
        "closing": ("closed", CLOSED, END),
        "gave up": ("closed", CLOSED, END),
        "ended": ("closed", CLOSED, END),
        "left": ("closed", END),
    },
    "lapsed, stalled": {
        "up same": ("lapsed", CLOSED, OPENED),
        "up other": ("verifying", CLOSED, EXPIRY, OPENED),
        "proved": ("connected", RESUMED),
        "down": ("lapsed", CLOSED),
        "failed": ("lapsed", FAILED),
        "refused": ("lapsed",),
        "beat": ("lapsed", BEAT),
        "tick": ("connected", RESUMED),
        "late": ("lapsed",),
        "expired": ("connecting", CLOSED, EXPIRY),
        "auth": ("closed", CLOSED, END),
        "closing": ("closed", CLOSED, END),
        "gave up": ("closed", CLOSED, END),
        "ended": ("closed", CLOSED, END),
        "left": ("closed", END),
    },
    "closed": dict.fromkeys(NO_SESSION, ("closed",)),
}


@pytest.mark.parametrize("state", HISTORIES)
def test_a_legal_history_leads_to_its_phase(state):
    """The states of the table are those that legal histories lead to."""
    assert after(HISTORIES[state]).phase == PHASES[state]


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("state", HISTORIES)
def test_every_signal_is_decided_in_every_state(state, name):
    """The next phase and what is told are those of the table, for every pair."""
    history = HISTORIES[state]
    signal, now = SIGNALS[name]((history[-1][1] if history else 0.0) + 0.5)
    session, drafts = step(after(history), signal, now)
    assert (session.phase.value, *kinds(drafts)) == TABLE[state][name]


def test_the_table_names_every_signal():
    """A signal that is added has to be decided here, too."""
    named = {type(SIGNALS[name](0.0)[0]) for name in SIGNALS}
    assert named == set(Signal.__args__)


# -- what is told


def fields(history, signal, now, kind) -> dict:
    _, drafts = step(after(history), signal, now)
    return next(one.fields for one in drafts if one.event.model_fields["kind"].default == kind)


def test_an_epoch_is_established_only_when_proved():
    """kazoo says CONNECTED before authentication is done: until proved there is no epoch."""
    assert (after(LINKED).epoch, after(LINKED).session_id, after(PROVED).epoch) == (0, 0, 1)


@pytest.mark.parametrize(
    ("history", "signal", "expected"),
    [
        (PROVED, Expired(), "server"),
        (PROVED, up(B, 4.0), "new_session_id"),
        (DOWN, up(B, 4.0), "new_session_id"),
        ([*LAPSED, (RoundRefused(), 21.0)], up(B, 22.0), "refused"),
        ([*LAPSED, (RoundRefused(), 21.0)], Expired(), "server"),
        ([*LAPSED, (RoundRefused(), 21.0), (up(A, 22.0), 22.0)], up(B, 23.0), "new_session_id"),
        ([*DOWN, (RoundRefused(), 4.0)], up(B, 5.0), "new_session_id"),
    ],
)
def test_an_expiry_says_who_confirmed_it(history, signal, expected):
    """A refusal counts only after the lapse, and not beyond the next link."""
    assert fields(history, signal, 24.0, EXPIRY)["confirmed_by"] == expected


def test_suspended_says_how_long_the_session_surely_lives():
    """silent_for counts from the last answer, lapses_in up to one timeout after it."""
    told = fields(PROVED, LinkDown(2.0), 3.0, SUSPENDED)
    assert (told["silent_for"], told["lapses_in"]) == (1.0, 9.0)


def test_resumed_says_how_long_it_was_suspended():
    """The outage begins with session.suspended, not with the next link."""
    assert fields([*DOWN, (up(A, 5.0), 5.0)], Proved(6.0), 6.5, RESUMED)["outage"] == 3.5


def test_lapsed_says_how_long_nothing_was_answered():
    """silent_for counts from the send time of what was answered last."""
    assert fields(DOWN, Tick(0.0), 13.0, LAPSE)["silent_for"] == 11.0


def test_established_names_the_session_before():
    """previous_session_id ties a new session to the one that it follows."""
    history = [*HISTORIES["expired"], (up(B, 5.0), 5.0)]
    assert fields(history, Proved(6.0), 6.0, ESTABLISHED)["previous_session_id"] == A


def test_a_session_lapses_exactly_one_timeout_after_the_last_answer():
    """Not before: until then no server can have expired it."""
    assert after(DOWN).lapses_at == 12.0
    assert step(after(DOWN), Tick(0.0), 11.999)[1] == []
    assert kinds(step(after(DOWN), Tick(0.0), 12.0)[1]) == [LAPSE]


def test_a_running_deadline_takes_the_smaller_timeout():
    """A timeout that grows on a reconnect counts only from the proof of that link."""
    session = after([*DOWN, (up(A, 4.0, timeout=40.0), 4.0)])
    assert (session.timeout, step(session, Proved(5.0), 5.0)[0].timeout) == (TIMEOUT, 40.0)


def test_a_smaller_timeout_counts_at_once():
    """A server that grants less may expire the session sooner from now on."""
    assert after([*DOWN, (up(A, 4.0, timeout=3.0), 4.0)]).lapses_at == 7.0


def test_an_older_contact_never_shortens_the_session():
    """Signals may bring older send times than those known."""
    assert after([*PROVED, (Beat(0.1, 5.0), 5.1), (Tick(2.0), 6.0)]).contact == 5.0


# -- any history

IDS = {"up a": A, "up b": B, "up negative": -3}
NAMES = (
    *("up a", "up a", "up b", "up negative", "proved", "proved", "proved", "down", "down", "tick", "tick"),
    *("failed", "refused", "beat", "expired", "auth", "closing", "gave up"),
)


def history_of(steps) -> list[tuple[Signal, float]]:
    """Return signals at ascending times, with contacts that lie before them."""
    now, history = 0.0, []
    for name, seconds, lag, timeout in steps:
        now += seconds
        if name in IDS:
            signal = up(IDS[name], now - lag, timeout)
        elif name in ("proved", "down", "tick"):
            signal = {"proved": Proved, "down": LinkDown, "tick": Tick}[name](now - lag)
        elif name == "beat":
            signal = Beat(0.1, now - lag)
        else:
            signal = SIGNALS[name](now)[0]
        history.append((signal, now))
    return history


def histories():
    """Signals in any order; the end comes seldom, or there would be little before it."""
    seconds = st.sampled_from([0.0, 0.5, 3.0, 7.0, 12.0])
    one = st.tuples(st.sampled_from(NAMES), seconds, seconds, st.sampled_from([4.0, 10.0]))
    return st.lists(one, max_size=20).map(history_of)


def told(history) -> list[tuple[str, Session]]:
    """Return what is told, each with the session after its signal."""
    session, events = Session(timeout=TIMEOUT), []
    for signal, now in history:
        session, drafts = step(session, signal, now)
        events += [(kind, session) for kind in kinds(drafts)]
    return events


FEW = settings(max_examples=50, deadline=None, database=None)


@FEW
@given(histories())
def test_nothing_is_told_after_closed(history):
    """session.closed is the last event, in any history."""
    events = [kind for kind, _ in told(history)]
    assert END not in events[:-1]


@FEW
@given(histories())
def test_an_epoch_begins_once_and_ends_at_most_once(history):
    """Established and expired alternate, beginning with established."""
    events = [kind for kind, _ in told(history) if kind in (ESTABLISHED, EXPIRY)]
    assert events == [ESTABLISHED, EXPIRY] * (len(events) // 2) + [ESTABLISHED] * (len(events) % 2)


@FEW
@given(histories())
def test_suspended_and_resumed_alternate_within_an_epoch(history):
    """Resumed comes only after suspended of the same epoch, lapsed only between them."""
    suspended = alive = False
    for kind, _ in told(history):
        match kind:
            case "session.established":
                alive, suspended = True, False
            case "session.expired":
                alive = suspended = False
            case "session.suspended":
                assert alive
                assert not suspended
                suspended = True
            case "session.resumed":
                assert suspended
                suspended = False
            case "session.lapsed":
                assert suspended


@FEW
@given(histories())
def test_a_suspension_lapses_at_most_once(history):
    """A lapse is told once, however often the clock is looked at."""
    lapsed = False
    for kind, _ in told(history):
        if kind == LAPSE:
            assert not lapsed
            lapsed = True
        elif kind in (SUSPENDED, RESUMED, EXPIRY):
            lapsed = False


@FEW
@given(histories())
def test_epochs_ascend_by_one(history):
    """Each session.established is the next epoch."""
    epochs = [session.epoch for kind, session in told(history) if kind == ESTABLISHED]
    assert epochs == list(range(1, len(epochs) + 1))


@FEW
@given(histories())
def test_a_session_id_never_changes_within_an_epoch(history):
    """An epoch has one session, and none after its expiry."""
    session, known = Session(timeout=TIMEOUT), {}
    for signal, now in history:
        session, _ = step(session, signal, now)
        if session.session_id:
            assert known.setdefault(session.epoch, session.session_id) == session.session_id


@FEW
@given(histories(), st.floats(-50, 500))
def test_remaining_is_never_negative(history, now):
    """However late it is asked."""
    assert after(history).remaining(now) >= 0


@FEW
@given(histories())
def test_no_duration_told_is_negative(history):
    """Silence, outage and time left are durations, whatever the contacts were."""
    session = Session(timeout=TIMEOUT)
    for signal, now in history:
        session, drafts = step(session, signal, now)
        for one in drafts:
            for name in ("silent_for", "lapses_in", "outage"):
                assert one.fields.get(name, 0.0) >= 0.0


@FEW
@given(histories())
def test_opened_and_closed_alternate(history):
    """A link that was opened is closed before the next, and only such a link is."""
    links = [kind for kind, _ in told(history) if kind in (OPENED, CLOSED)]
    assert links == [OPENED, CLOSED] * (len(links) // 2) + [OPENED] * (len(links) % 2)


@FEW
@given(histories())
def test_the_same_signals_give_the_same_events(history):
    """The machine is pure: a replay is equal, fields included."""

    def replay():
        session, drafts = Session(timeout=TIMEOUT), []
        for signal, now in history:
            session, more = step(session, signal, now)
            drafts += more
        return session, drafts

    assert replay() == replay()


@FEW
@given(histories())
def test_connected_means_proved_on_an_open_link(history):
    """Nobody is told that the session stands before a round trip has succeeded."""
    session = Session(timeout=TIMEOUT)
    for signal, now in history:
        session, _ = step(session, signal, now)
        if session.phase == "connected":
            assert session.link is not None
            assert session.proved
