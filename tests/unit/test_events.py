"""Events: frozen facts that survive the way through NDJSON."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from fake import AT
from pydantic import ValidationError

from coordinator import events
from coordinator.events import Event, SessionEstablished, SessionExpired, event_adapter

UNION = get_args(get_args(Event)[0])
SAMPLES = {
    "server": "zk1:2181",
    "cause": "refused",
    "detail": "nobody listens",
    "next_try_in": 0.5,
    "timeout": 10.0,
    "read_only": False,
    "previous_session_id": -(1 << 63),
    "silent_for": 1.5,
    "lapses_in": 8.5,
    "outage": 0.25,
    "confirmed_by": "server",
    "reason": "requested",
    "rtt": 0.001,
    "took": 0.007,
    "servers": ("zk1:2181",),
    "ignored": ("10.0.0.1:2181",),
    "source": "reconfiguration",
    "path": "/größe",
    "czxid": 7,
    "owner_session_id": (1 << 63) - 1,
    "error": "not permitted",
    "by": "others",
    "after_gap": True,
    "version": 3,
    "mzxid": 9,
    "added": ("a", "b"),
    "removed": (),
    "identity": "host-1",
    "leader": "host-1",
    "previous": None,
    "ephemeral_paths": ("/e",),
    "watch_paths": ("/v",),
    "conflict_paths": (),
    "failed_paths": ("/f",),
    "changed_paths": ("/v",),
}
COMMON = {"seq": 4, "at": AT, "epoch": 2, "session_id": -3}


OWN = {"lease.lost": {"reason": "lapsed"}}


def sample(kind):
    fields = {name: SAMPLES.get(name, 1) for name in kind.model_fields if name not in (*COMMON, "kind")}
    return kind(**COMMON, **fields | OWN.get(kind.model_fields["kind"].default, {}))


@pytest.mark.parametrize("kind", UNION, ids=lambda kind: kind.__name__)
def test_every_kind_survives_ndjson(kind):
    """A line of JSON reads back as an equal event of the same class."""
    event = sample(kind)
    line = event.model_dump_json()
    assert "\n" not in line
    assert event_adapter.validate_json(line) == event


@pytest.mark.parametrize("kind", UNION, ids=lambda kind: kind.__name__)
def test_every_kind_is_frozen(kind):
    """An event is handed to many threads."""
    with pytest.raises(ValidationError, match="frozen"):
        sample(kind).seq = 5


@pytest.mark.parametrize("kind", UNION, ids=lambda kind: kind.__name__)
def test_every_kind_refuses_what_it_does_not_know(kind):
    """A misspelt field is an error, not a silence."""
    with pytest.raises(ValidationError, match="extra"):
        kind(**{**sample(kind).model_dump(), "colour": "red"})


@pytest.mark.parametrize("kind", UNION, ids=lambda kind: kind.__name__)
def test_every_kind_shows_itself_in_one_line(kind):
    """For logs: the kind first, ids in hex."""
    text = str(sample(kind))
    assert text.startswith(kind.model_fields["kind"].default + " ")
    assert "session_id=0xfffffffffffffffd" in text
    assert "\n" not in text


def test_every_public_class_is_in_the_union():
    """A kind that is told can be read back."""
    classes = [getattr(events, name) for name in events.__all__]
    kinds = [one for one in classes if isinstance(one, type) and one.model_fields["kind"].default]
    concrete = {one for one in kinds if isinstance(one.model_fields["kind"].default, str)}
    assert {one.__name__ for one in concrete} == {one.__name__ for one in UNION}


def test_kinds_are_unique():
    """They discriminate."""
    kinds = [kind.model_fields["kind"].default for kind in UNION]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize(
    ("session_id", "shown"),
    [
        (0, "0x0"),
        (0x1000013E37D0000, "0x1000013e37d0000"),
        ((1 << 63) - 1, "0x7fffffffffffffff"),
        (-(1 << 63), "0x8000000000000000"),
        (-1, "0xffffffffffffffff"),
    ],
)
def test_a_session_id_is_hex_in_json_and_signed_in_python(session_id, shown):
    """As ZooKeeper's own log shows it, and as kazoo counts it."""
    event = SessionExpired(**{**COMMON, "session_id": session_id}, confirmed_by="server")
    line = event.model_dump_json()
    assert json.loads(line)["session_id"] == shown
    assert event_adapter.validate_json(line).session_id == session_id


def test_a_session_id_is_read_as_a_number_too():
    """Whoever writes JSON by hand may use either."""
    line = json.loads(SessionExpired(**COMMON, confirmed_by="server").model_dump_json())
    assert event_adapter.validate_python({**line, "session_id": 5}).session_id == 5


def test_no_previous_session_is_null():
    """The first session follows none."""
    event = SessionEstablished(**COMMON, timeout=10.0, server="zk1:2181")
    assert json.loads(event.model_dump_json())["previous_session_id"] is None


def test_a_time_without_a_zone_is_refused():
    """A wall time that means something else on the next machine is none."""
    with pytest.raises(ValidationError, match="timezone"):
        SessionExpired(**{**COMMON, "at": AT.replace(tzinfo=None)}, confirmed_by="server")


def test_an_unknown_kind_is_refused():
    """Not read as something else."""
    with pytest.raises(ValidationError, match="kind"):
        event_adapter.validate_python({**COMMON, "kind": "session.dreamt"})


def test_dropped_counts_what_was_missed():
    """events.dropped names the range, and takes no number of its own."""
    event = events.EventsDropped(**COMMON, count=3, first_seq=4, last_seq=9)
    assert (event.seq, event.count, event.first_seq, event.last_seq) == (4, 3, 4, 9)


def test_what_sessions_and_leases_come_to_is_essential_and_the_rest_is_not():
    """What a slow reader may miss."""
    essential = {kind.__name__ for kind in UNION if kind.essential}
    told = {kind.__name__ for kind in UNION if issubclass(kind, events.SessionEvent | events.LeaseEvent)}
    assert essential == told | {"EventsDropped", "LeaderChanged"}
