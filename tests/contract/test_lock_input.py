"""What a lock cannot be asked for with, and where it cannot stand: told before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from coordinator import (
    ACL,
    ConfigurationError,
    CoordinatorError,
    DataTooLargeError,
    InvalidPathError,
    NoNodeError,
    NotAQueueError,
)
from coordinator.core.seats import Dialect
from coordinator.models import IDENTITY_LIMIT
from tests.contract.queues import queue, sit
from tests.contract.site import TIMEOUT, Site
from tests.faces import Twin


def tree(site: Site, path: str) -> dict[str, Any]:
    """All that there is below a path."""
    found: dict[str, Any] = {path: site.other.exists(path)}
    with suppress(NoNodeError):
        for name in site.other.children(path):
            found |= tree(site, f"{path}/{name}")
    return found


class Offer(BaseModel):
    rack: int


WRONG_PATHS: list[tuple[object, str]] = [
    ("/", r"^{kind} at the root: it needs a path of its own, such as /{kind}/name$"),
    ("locks", r"^path 'locks' must begin with a slash$"),
    ("/locks/", r"^path '/locks/' must not end with a slash$"),
    ("/locks//a", r"has an empty part$"),
    ("/locks/../a", r"is relative"),
    ("/locks/\0", r"has a character that ZooKeeper does not allow$"),
    (7, r"^a path is a str, got int$"),
]
WRONG: list[tuple[dict[str, Any], type[CoordinatorError], str]] = [
    ({"identity": ""}, ConfigurationError, r"^identity is a printable text that is not empty, got ''$"),
    ({"identity": "  "}, ConfigurationError, r"^identity is a printable text"),
    ({"identity": "a\nb"}, ConfigurationError, r"^identity is a printable text .* got 'a\\nb'$"),
    ({"identity": b"a"}, ConfigurationError, r"^identity is a printable text .* got b'a'$"),
    (
        {"identity": "x" * (IDENTITY_LIMIT + 1)},
        ConfigurationError,
        rf"^identity has {IDENTITY_LIMIT + 1} letters, above {IDENTITY_LIMIT}$",
    ),
    ({"data": "text"}, ConfigurationError, r"^data is bytes or a pydantic model, got str"),
    ({"data": {"rack": "one"}, "model": Offer}, ConfigurationError, r"^the value does not fit Offer: rack"),
    ({"model": Offer}, ConfigurationError, r"^{kind} {path}: model= says how data= is written, and there is"),
    ({"data": b"x" * (1 << 20)}, DataTooLargeError, r"^create {path}/.* nothing was sent$"),
    ({"dialect": "zookeeper"}, ConfigurationError, r'^dialect is "kazoo" or "curator", got \'zookeeper\'$'),
    ({"stop_within": -1}, ConfigurationError, r"^stop_within is in seconds, 0 or more, got -1$"),
    ({"stop_within": float("nan")}, ConfigurationError, r"^stop_within is in seconds"),
    ({"stop_within": "soon"}, ConfigurationError, r"^stop_within is in seconds, 0 or more, got 'soon'$"),
    ({"stop_within": True}, ConfigurationError, r"^stop_within is in seconds"),
    (
        {"stop_within": TIMEOUT},
        ConfigurationError,
        r"^{kind} {path}: a session timeout of 10 s is too short for a lease .* need 13\.33 s; ask for a "
        r"longer session_timeout, a shorter stop_within, or give the servers' tick_time$",
    ),
    ({"on_suspend": "maybe"}, ConfigurationError, r'^on_suspend is "keep" or "revoke", got \'maybe\'$'),
    ({"on_lost": "call me"}, ConfigurationError, r"^on_lost is a callable, got str$"),
    ({"acl": "nobody"}, ConfigurationError, r"acl"),
    ({"timeout": -1}, ConfigurationError, r"^timeout is in seconds, from 0 to 1e\+06, got -1$"),
    ({"timeout": "soon"}, ConfigurationError, r"^timeout is in seconds"),
]


def refused(call: Callable[[], Any], error: type[CoordinatorError], message: str) -> None:
    with pytest.raises(CoordinatorError) as raised:
        call()
    assert type(raised.value) is error
    assert re.search(message, str(raised.value)), str(raised.value)
    assert (raised.value.retryable, raised.value.ambiguous) == (False, False)


@pytest.mark.parametrize("kind", ["lock", "lead", "latch"])
def test_a_wrong_argument(either: Site, kind: str) -> None:
    """What is wrong, what it is, and what it may be."""
    make, path = getattr(either.zk, kind), f"{either.base}/new/lock"
    wrong = list(WRONG)
    if isinstance(either.zk, Twin) and kind != "latch":
        wrong.append(({"cancel_on_loss": 1}, ConfigurationError, r"^cancel_on_loss is True or False, got 1$"))
    before = tree(either, either.base)
    for given, error, message in wrong:
        expected = message.replace("{kind}", kind).replace("{path}", path)
        refused(lambda: make(path, **given), error, expected)  # noqa: B023 -- called at once
    for where, message in WRONG_PATHS:
        expected = message.replace("{kind}", kind)
        refused(lambda: make(where), InvalidPathError, expected)  # noqa: B023 -- called at once
    assert tree(either, either.base) == before
    either.tells()
    assert len(either.zk._engine._refreshed) == 0


def test_a_wrong_wait(either: Site) -> None:
    """What is waited with is looked at before a place is taken."""
    lock, lead = either.zk.lock(queue(either)), either.zk.lead(queue(either))
    for timeout in (-1, "soon", float("inf"), float("nan")):
        for call in (lock.acquire, lead.campaign, lock.release):
            refused(lambda: call(timeout=timeout), ConfigurationError, r"^timeout is in seconds")  # noqa: B023
        refused(
            lambda: lead.hold(print, timeout=timeout),  # noqa: B023 -- called at once
            ConfigurationError,
            r"^timeout is in seconds",
        )
    refused(lambda: lead.hold("work"), ConfigurationError, r"^hold\(\) takes a callable, got str$")
    assert either.names() == ()
    with lock as lease:
        refused(lambda: lease.wait_lost(-1), ConfigurationError, r"^timeout is in seconds")
        refused(lambda: lease.lost.wait(-1), ConfigurationError, r"^timeout is in seconds")
    latch = either.zk.latch(queue(either))
    refused(lambda: latch.wait(-1), ConfigurationError, r"^timeout is in seconds")
    refused(lambda: latch.close(notify="no"), ConfigurationError, r"^notify is True or False, got 'no'$")
    assert latch.wait().held


def test_what_cannot_be_observed(either: Site) -> None:
    """The same paths, dialects and timeouts."""
    for where, message in WRONG_PATHS:
        expected = message.replace("{kind}", "observe")
        refused(lambda: either.zk.observe(where), InvalidPathError, expected)  # noqa: B023 -- called at once
    refused(
        lambda: either.zk.observe(queue(either), dialect="latch"),
        ConfigurationError,
        r"^dialect is .* got 'latch'$",
    )
    refused(
        lambda: either.zk.observe(queue(either), timeout=-1), ConfigurationError, r"^timeout is in seconds"
    )
    assert len(either.zk._engine._refreshed) == 0


def test_a_session_that_is_too_short(site: Site) -> None:
    """A lease would be over before it is proved again: nothing is written."""
    with site.connect(tick_time=TIMEOUT) as zk:
        for kind in ("lock", "lead", "latch"):
            refused(
                lambda: getattr(zk, kind)(queue(site)),  # noqa: B023 -- called at once
                ConfigurationError,
                rf"^{kind} {queue(site)}: a session timeout of 10 s is too short .* \(tick_time 10 s\)",
            )
    assert site.names() == ()


# -- where it cannot stand


def with_data(site: Site) -> None:
    site.other.create(queue(site), b"data")


def with_children(site: Site) -> None:
    site.other.create(f"{queue(site)}/a", parents=True)
    site.other.create(f"{queue(site)}/b-0000000001")


def that_is_ephemeral(site: Site) -> None:
    site.other.create(queue(site), ephemeral=True)


def of(dialect: Dialect) -> Callable[[Site], None]:
    """The queue of another kind of client."""

    def prepare(site: Site) -> None:
        sit(site, dialect=dialect)

    return prepare


def another(dialect: Dialect, way: str) -> str:
    found = f"has the queue of another kind of client ({dialect}); use {way}, or another path"
    return re.escape(found) + ": nothing was written$"


TAKEN: list[tuple[str, str, Callable[[Site], None], str]] = [
    ("lock", "kazoo", with_data, r"has data \(4 bytes\): nothing was written$"),
    ("lead", "curator", with_data, r"has data \(4 bytes\): nothing was written$"),
    ("lock", "kazoo", with_children, r"has 2 children that stand in no queue: nothing was written$"),
    (
        "lead",
        "kazoo",
        that_is_ephemeral,
        r"has an ephemeral, which cannot have children: nothing was written$",
    ),
    ("lock", "kazoo", of("curator-lock"), another("curator-lock", 'lock() with dialect="curator"')),
    ("lead", "curator", of("curator-lock"), another("curator-lock", 'lock() with dialect="curator"')),
    (
        "lock",
        "curator",
        of("curator-latch"),
        another("curator-latch", 'lead() or latch() with dialect="curator"'),
    ),
    ("lead", "curator", of("kazoo"), another("kazoo", 'dialect="kazoo"')),
]


@pytest.mark.parametrize(("kind", "dialect", "prepare", "message"), TAKEN)
def test_a_path_that_holds_something_else(
    site: Site, kind: str, dialect: str, prepare: Callable[[Site], None], message: str
) -> None:
    """It is somebody else's: what is there, and that nothing was written; also in vain a second time."""
    prepare(site)
    before = tree(site, site.base)
    wish = getattr(site.zk, kind)(queue(site), dialect=dialect)
    acquire = wish.acquire if kind == "lock" else wish.campaign
    for _ in range(2):
        with pytest.raises(NotAQueueError) as raised:
            acquire()
        assert re.search(f"^{queue(site)} {message}", str(raised.value))
        assert raised.value.path == queue(site)
        assert (raised.value.retryable, raised.value.ambiguous) == (False, False)
    assert tree(site, site.base) == before


@pytest.mark.parametrize("children", [0, 1])
def test_a_path_that_may_be_a_queue(site: Site, children: int) -> None:
    """An empty znode; and one with seats, whatever else is there."""
    site.other.create(queue(site), b"data" if children else b"")
    seat = sit(site) if children else ""
    if seat:
        site.other.create(f"{queue(site)}/config")
        site.other.delete(seat)
        seat = sit(site)
    latch = site.zk.latch(queue(site))
    assert len(latch.members()) == 1 + children


def test_where_we_may_not_write(site: Site) -> None:
    """The server says no, and nothing is left."""
    site.other.create(queue(site), acl=[ACL("world", "anyone", "r")])
    with pytest.raises(CoordinatorError, match=f"not permitted by the ACL: {queue(site)}") as raised:
        site.zk.lock(queue(site)).acquire()
    assert type(raised.value).__name__ == "NoAuthError"
    assert site.names("q") == ()
    assert site.zk._engine._kernel._slots._slots == {}
