"""The kernel: sessions, intents and callers, against a ZooKeeper in memory."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise
from typing import Any

import pytest
from fake import World

from coordinator.core import operations
from coordinator.core.ending import CLOSE_GRACE, WITHDRAW_WITHIN
from coordinator.core.intent import Made
from coordinator.core.messages import Abandon, ClientEnded, Close, Fired, NotSent, Replied
from coordinator.core.mirror import ChildrenMirror, ZnodeMirror
from coordinator.core.presence import Presence
from coordinator.core.requests import Children, Create, Delete, Exists, Get, Multi, Set, Sync
from coordinator.core.session import AttemptFailed, Beat, Expired, LinkDown, LinkUp, RoundRefused, Tick
from coordinator.errors import (
    AuthFailedError,
    ClosedError,
    ConnectionLossError,
    DuplicateEphemeralError,
    EphemeralConflictError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
    StartError,
)
from coordinator.events import (
    EphemeralConflict,
    EphemeralEvent,
    EphemeralFailed,
    RecoveryCompleted,
    RecoveryStarted,
    SessionExpired,
    SessionResumed,
    ZnodeEvent,
)


@pytest.fixture
def world() -> World:
    """A kernel without a link."""
    return World()


@pytest.fixture
def linked() -> World:
    """A kernel whose first session stands."""
    world = World()
    world.up()
    return world


def presence(world: World, path: str = "/e", data: bytes = b"mine", **given) -> Presence:
    return Presence(world.token(), path, data, **given)


def view(world: World, path: str = "/v") -> ZnodeMirror:
    return ZnodeMirror(world.token(), path, lambda _, data: data)


def children(world: World, path: str = "/v") -> ChildrenMirror:
    return ChildrenMirror(world.token(), path)


READ = operations.read(Exists("/"))


# -- the first session


def test_nothing_is_told_as_established_before_the_proof(world):
    """A server that accepts the session has not answered anything on it yet."""
    world.up(settle=False)
    assert world.kinds("session") == []


def test_the_proof_is_a_sync(world):
    """A server that lags would let us read backwards."""
    world.up(settle=False)
    assert world.sent == [Sync("/")]


def test_the_proof_on_a_read_only_session_is_a_look(world):
    """A server cut off from its ensemble cannot sync."""
    world.up(read_only=True, settle=False)
    assert world.sent == [Exists("/")]


def test_a_lost_proof_proves_nothing(world):
    """The link broke: that is no round trip."""
    world.up(settle=False)
    world.cut(replies=True)
    assert world.kinds("session") == []


def test_an_error_of_the_server_is_a_proof(world):
    """NoNode is an answer: the chroot is missing, the session stands."""
    world.up(settle=False)
    request_id, _ = world.wire.popleft()
    world.say(Replied(request_id, None, NoNodeError(path="/"), 0, world.now))
    assert world.kinds("session") == ["session.established"]


def test_whoever_waits_for_the_session_is_answered_when_it_is_established(world):
    """Not when the server accepted the link."""
    world.await_session("start")
    world.up(settle=False)
    assert "start" not in world.answers
    world.settle()
    assert world.error("start") is None


def test_whoever_waits_in_vain_is_told_the_last_cause(world):
    """StartError carries what the last attempt failed of."""
    world.await_session("start", timeout=5.0)
    world.say(AttemptFailed("zk1:2181", "refused", "nobody listens", 1.0))
    world.advance(5.0)
    error = world.error("start")
    assert (type(error), error.cause) == (StartError, "refused")


def test_whoever_asks_later_for_the_session_is_answered_at_once(linked):
    """It was established before."""
    linked.await_session("start")
    assert linked.error("start") is None


def test_operations_are_held_before_the_proof(world):
    """What is sent before authentication may be refused."""
    world.submit(READ, "read")
    world.up(settle=False)
    assert world.sent == [Sync("/")]
    world.settle()
    assert world.value("read") is not None


def test_recovery_is_not_told_of_the_first_session(world):
    """There was nothing before."""
    world.want(presence(world))
    world.up()
    assert world.kinds("recovery") == []


# -- operations and a lost link


def test_held_operations_are_sent_in_order_after_the_resume(linked):
    """The order in which callers asked is that in which ZooKeeper is asked."""
    linked.cut()
    for name in "abc":
        linked.submit(operations.write(Create(f"/{name}")), name)
    assert linked.answers == {}
    linked.up()
    assert [request.path for request in linked.requests(Create)] == ["/a", "/b", "/c"]


def test_a_deadline_while_held_is_not_ambiguous(linked):
    """It was never sent, so it will certainly not be carried out."""
    linked.cut()
    linked.submit(operations.write(Create("/a")), "write", timeout=3.0)
    linked.advance(3.0)
    error = linked.error("write")
    assert (type(error), error.ambiguous) == (OperationTimeoutError, False)


def test_what_was_held_beyond_its_deadline_is_never_sent(linked):
    """kazoo would send it after the next reconnect."""
    linked.cut()
    linked.submit(operations.write(Create("/a")), "write", timeout=3.0)
    linked.advance(3.0)
    linked.up()
    assert linked.requests(Create) == []


def test_what_was_held_beyond_its_deadline_is_let_go(linked):
    """A long outage does not gather what has timed out."""
    linked.cut()
    operation = operations.write(Create("/a"))
    seen = []

    def watched(standing):
        flow = operation(standing)
        seen.append(weakref.ref(flow))
        return flow

    linked.submit(watched, "write", timeout=3.0)
    linked.advance(3.0)
    gc.collect()
    assert [one() for one in seen] == [None]


def test_a_deadline_is_the_one_given(linked):
    """Not earlier."""
    linked.cut()
    linked.submit(READ, "read", timeout=3.0)
    linked.advance(2.999)
    assert linked.answers == {}


def test_a_write_that_flies_at_its_deadline_is_ambiguous(linked):
    """It was sent and may be carried out yet."""
    linked.submit(operations.write(Create("/a")), "write", timeout=3.0)
    linked.now += 3.0
    linked.tick(linked.now)
    error = linked.error("write")
    assert (type(error), error.ambiguous) == (OperationTimeoutError, True)


def test_a_read_that_flies_at_its_deadline_is_not_ambiguous(linked):
    """A read changes nothing."""
    linked.submit(READ, "read", timeout=3.0)
    linked.now += 3.0
    linked.tick(linked.now)
    assert linked.error("read").ambiguous is False


def test_an_answer_after_the_deadline_is_ignored(linked):
    """A call is answered once; the answer that comes late has no reader."""
    linked.submit(operations.write(Create("/a")), "write", timeout=3.0)
    linked.now += 3.0
    linked.tick(linked.now)
    linked.settle()
    assert isinstance(linked.error("write"), OperationTimeoutError)


def test_the_message_of_a_deadline_says_how_the_session_stands(linked):
    """What, how long, and what stands in the way."""
    linked.cut()
    linked.say(AttemptFailed("zk1:2181", "refused", "nobody listens", 1.0))
    linked.submit(READ, "read", timeout=3.0)
    linked.advance(3.0)
    assert str(linked.error("read")) == (
        f"read not answered in 3 s: session suspended ({linked.session_id:#x}) for 3.0 s, "
        "zk1:2181: refused (nobody listens)"
    )


@pytest.mark.parametrize("replies", [False, True])
def test_a_lost_read_is_asked_again(linked, replies):
    """Reading twice is reading once."""
    linked.submit(READ, "read")
    linked.cut(replies=replies)
    linked.up()
    assert linked.value("read") is not None


@pytest.mark.parametrize("replies", [False, True])
def test_a_lost_write_is_ambiguous(linked, replies):
    """It may have been carried out or not: only the caller can decide."""
    linked.submit(operations.write(Create("/a")), "write")
    linked.cut(replies=replies)
    error = linked.error("write")
    assert (type(error), error.ambiguous) == (ConnectionLossError, True)


def test_a_lost_write_is_not_sent_again(linked):
    """Not on any later link."""
    linked.submit(operations.write(Create("/a")), "write")
    linked.cut()
    linked.up()
    assert len(linked.requests(Create)) == 1


@pytest.mark.parametrize("applied", [0, 1])
def test_a_lost_create_of_an_ephemeral_is_resolved_by_its_owner(linked, applied):
    """Its owner tells whether it was carried out; if not, it is created now."""
    linked.submit(operations.create(Create("/e", ephemeral=True)), "create")
    linked.cut(applied=applied)
    linked.up()
    path, stat = linked.value("create")
    assert (path, stat) == ("/e", linked.stat("/e"))


def test_a_create_held_before_the_first_session_is_resolved_too(world):
    """The session that counts is that under which it was sent, not that when it was asked for."""
    world.submit(operations.create(Create("/e", ephemeral=True)), "create")
    world.up(settle=False)
    world.reply()
    world.cut(applied=1)
    world.up()
    assert world.value("create")[0] == "/e"


def test_a_create_held_over_an_expiry_is_resolved_too(linked):
    """It was asked for under one session and sent under the next."""
    linked.cut()
    linked.submit(operations.create(Create("/e", ephemeral=True)), "create")
    linked.expire()
    linked.up(settle=False)
    linked.reply()
    linked.cut(applied=1)
    linked.up()
    assert linked.value("create")[0] == "/e"


def test_a_lost_create_finds_a_foreign_znode(linked):
    """Somebody else's node at the path is what NodeExists means."""
    linked.foreign = linked.foreign_ephemeral("/e")
    linked.submit(operations.create(Create("/e", ephemeral=True)), "create")
    linked.cut()
    linked.up()
    assert isinstance(linked.error("create"), NodeExistsError)


def test_a_lost_create_finds_our_older_znode(linked):
    """It was there before we asked: the create did not make it."""
    linked.submit(operations.create(Create("/e", ephemeral=True)), "first")
    linked.settle()
    linked.submit(operations.create(Create("/e", ephemeral=True)), "second")
    linked.cut(applied=1)
    linked.up()
    assert isinstance(linked.error("second"), NodeExistsError)


def test_a_lost_create_under_a_session_that_expired_is_no_success(linked):
    """The znode is about to vanish: it is not there, and that is certain."""
    linked.submit(operations.create(Create("/e", ephemeral=True)), "create")
    old = linked.session_id
    linked.cut(applied=1)
    linked.session_id = linked.zookeeper.open()  # the old one is still on the server
    linked.up()
    error = linked.error("create")
    assert isinstance(error, ConnectionLossError | SessionExpiredError)
    assert (error.ambiguous, linked.stat("/e").ephemeral_owner) == (False, old)


def test_a_lost_sequential_create_is_ambiguous(linked):
    """Its name is not known, so that looking does not help."""
    request = Create("/e", ephemeral=True, sequential=True)
    linked.submit(operations.create(request), "create")
    linked.cut(applied=0)
    assert linked.error("create").ambiguous is True


@pytest.mark.parametrize("lost", range(5))
def test_parents_are_created_whatever_is_lost(linked, lost):
    """Each step may be done twice; the last one is an ephemeral, and resolved."""
    linked.submit(operations.create(Create("/a/b/e", ephemeral=True), parents=True), "create")
    for _ in range(lost):
        linked.reply()
    linked.cut(applied=1)
    linked.up()
    assert linked.value("create")[0] == "/a/b/e"


def test_what_was_not_sent_is_held_again(linked):
    """The link was gone before the port could send: it was certainly not done."""
    linked.linked = False
    linked.submit(operations.write(Create("/a")), "write")
    linked.linked = True
    linked.cut()
    assert linked.answers == {}
    linked.up()
    assert linked.value("write")[0] == "/a"


def test_a_lost_answer_stops_what_would_be_sent_next(linked):
    """kazoo fails its futures before it says that the link is lost."""
    linked.submit(operations.write(Create("/a")), "first")
    request_id, _ = linked.wire.popleft()
    linked.say(Replied(request_id, None, ConnectionLossError("lost"), 0, linked.now))
    linked.submit(operations.write(Create("/b")), "second")
    assert [request.path for request in linked.requests(Create)] == ["/a"]


def test_an_expiry_loses_what_is_flying(linked):
    """An answer under the old session will not come."""
    linked.submit(operations.write(Create("/a")), "write")
    linked.say(Expired())
    assert linked.error("write").ambiguous is True


def test_a_read_goes_on_under_the_next_session(linked):
    """Its deadline decides, not the session."""
    linked.submit(READ, "read")
    linked.expire()
    linked.up()
    assert linked.value("read") is not None


def test_an_operation_after_the_lapse_on_an_open_link_is_held_and_sent(linked):
    """A process that was stopped finds its link again, and goes on."""
    linked.now += 20.0
    linked.tick(0.0)
    linked.submit(READ, "read")
    linked.say(Beat(0.1, linked.now))
    linked.settle()
    assert linked.value("read") is not None


def test_operations_are_sent_at_once_after_an_answered_ping_ended_a_lapse(linked):
    """The state that counts is the one after the lapse, not the one before."""
    linked.now += 20.0
    linked.tick(0.0)
    linked.say(Beat(0.1, linked.now))
    linked.submit(READ, "read")
    linked.settle()
    assert linked.value("read") is not None


def test_an_operation_after_a_lapse_that_a_tick_ended_is_sent(linked):
    """The same, when the clock is looked at before a ping is answered."""
    linked.now += 20.0
    linked.tick(0.0)
    linked.submit(READ, "read")
    linked.tick(linked.now)
    linked.settle()
    assert linked.value("read") is not None


def test_a_lapse_on_an_open_link_ends_with_an_answered_ping(linked):
    """Suspended, lapsed, resumed: and nothing expired."""
    linked.now += 20.0
    linked.tick(0.0)
    linked.say(Beat(0.1, linked.now))
    assert linked.kinds("session")[1:] == [
        "session.suspended",
        "session.lapsed",
        "session.heartbeat",
        "session.resumed",
    ]


# -- sessions


def test_another_id_is_an_expiry(linked):
    """Whatever kazoo said: ids are compared on every link."""
    linked.cut()
    old = linked.session_id
    linked.session_id = linked.zookeeper.open()
    linked.up()
    (expired,) = linked.of(SessionExpired)
    assert (expired.session_id, expired.confirmed_by) == (old, "new_session_id")


def test_the_same_id_is_a_resumption(linked):
    """Nothing was lost."""
    linked.cut()
    linked.up()
    assert linked.kinds("session") == ["session.established", "session.suspended", "session.resumed"]


def test_an_expiry_is_told_of_the_session_that_ended(linked):
    """Epoch and id are those of the old one, those of established the new one's."""
    old = linked.session_id
    linked.expire()
    linked.up()
    told = [(one.kind, one.epoch, one.session_id) for one in linked.events if one.kind.startswith("session")]
    assert told[-2:] == [("session.expired", 1, old), ("session.established", 2, linked.session_id)]


def test_expired_counts_the_ephemerals_that_are_gone(linked):
    """Those that existed, not those that were asked for."""
    linked.foreign_ephemeral("/b")
    for path in ("/a", "/b", "/c"):
        linked.want(presence(linked, path))
    linked.settle()
    linked.expire()
    linked.up()
    assert next(linked.of(SessionExpired)).lost_ephemerals == 2


def test_seq_ascends_by_one(linked):
    """Over all events of one coordinator."""
    linked.expire()
    linked.up()
    assert [event.seq for event in linked.events] == list(range(1, len(linked.events) + 1))


def test_the_lapse_is_awaited(linked):
    """The kernel asks to be woken when the session can no longer be proved alive."""
    linked.cut()
    assert linked.kernel.deadline() == linked.now + 10.0


# -- keeping intents


def test_an_intent_without_a_link_is_reconciled_with_the_first(world):
    """Whoever is early is served all the same."""
    intent = presence(world)
    world.want(intent, "want")
    assert world.answers == {}
    world.up()
    assert (world.error("want"), world.stat("/e").ephemeral_owner) == (None, world.session_id)


def test_the_first_outcome_answers_whoever_waits(linked):
    """A view that waits for its znode has an outcome, too."""
    linked.want(view(linked, "/nowhere"), "want")
    linked.settle()
    assert linked.error("want") is None


def test_a_failing_first_outcome_keeps_nothing(linked):
    """The caller got the error; nothing goes on behind his back."""
    linked.zookeeper.forbid(Create, "/e")
    linked.want(presence(linked), "want")
    linked.settle()
    sent = len(linked.sent)
    linked.zookeeper.permit()
    linked.advance(60.0)
    assert isinstance(linked.error("want"), NoAuthError)
    assert (linked.requests(Create)[1:], len(linked.sent)) == ([], sent)


def test_a_failing_outcome_without_a_waiter_goes_on(linked):
    """Nobody was told: it is tried until it comes true."""
    linked.zookeeper.forbid(Create, "/e")
    linked.want(presence(linked))
    linked.settle()
    linked.zookeeper.permit()
    linked.advance(60.0)
    assert linked.stat("/e").ephemeral_owner == linked.session_id


def test_a_conflict_with_fail_leaves_the_foreign_znode(linked):
    """The error is raised, and the znode of the other is untouched."""
    foreign = linked.foreign_ephemeral("/e")
    linked.want(presence(linked, on_conflict="fail"), "want")
    linked.settle()
    assert isinstance(linked.error("want"), EphemeralConflictError)
    assert linked.stat("/e").ephemeral_owner == foreign


def test_what_failed_may_be_tried_again_at_once(linked):
    """The error is raised when nothing is left of it, so that the path is free."""
    linked.zookeeper.forbid(Create, "/e")
    linked.want(presence(linked), "first")
    linked.settle()
    linked.zookeeper.permit()
    linked.want(presence(linked), "second")
    linked.settle()
    assert linked.error("second") is None


def test_a_path_has_one_ephemeral(linked):
    """The second one raises, and the first one stays."""
    linked.want(presence(linked), "first")
    linked.settle()
    linked.want(presence(linked), "second")
    assert isinstance(linked.error("second"), DuplicateEphemeralError)
    linked.settle()
    assert linked.stat("/e").ephemeral_owner == linked.session_id


def test_a_deadline_of_the_first_outcome_keeps_nothing(linked):
    """Whoever was told that it did not come in time does not get it later."""
    linked.cut()
    linked.want(presence(linked), "want", timeout=3.0)
    linked.advance(3.0)
    linked.up()
    assert isinstance(linked.error("want"), OperationTimeoutError)
    assert linked.zookeeper.stat("/e") is None


def test_a_create_that_flew_at_the_deadline_is_taken_back(linked):
    """It may be carried out after the caller gave up; then it is deleted."""
    linked.want(presence(linked), "want", timeout=3.0)
    linked.now += 3.0
    linked.tick(linked.now)
    linked.settle()
    assert linked.error("want").ambiguous is True
    assert linked.zookeeper.stat("/e") is None


def test_a_deleted_ephemeral_is_created_again(linked):
    """Its watch fires, and after a delay it stands again."""
    linked.want(presence(linked))
    linked.settle()
    linked.others(Delete("/e"))
    linked.settle()
    assert linked.zookeeper.stat("/e") is None
    linked.advance(1.0)
    assert linked.kinds("ephemeral") == ["ephemeral.created", "ephemeral.removed", "ephemeral.recreated"]


def test_a_trigger_during_a_run_is_remembered(linked):
    """A watch that fires while the answer of the same read is on its way."""
    linked.others(Create("/v", b"one"))
    mirror = view(linked)
    linked.want(mirror)
    linked.say(Fired(mirror.token, None))
    linked.reply()
    assert len(linked.requests(Get)) == 2


def test_several_triggers_during_a_run_are_one(linked):
    """Whatever happened in between, the next look sees it."""
    mirror = view(linked)
    linked.others(Create("/v"))
    linked.want(mirror)
    for _ in range(5):
        linked.say(Fired(mirror.token, None))
    linked.settle()
    assert len(linked.requests(Get)) == 2


def test_new_data_is_written_and_confirmed(linked):
    """The caller is answered when it stands."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.renew(intent, b"new", "set")
    linked.settle()
    assert (linked.error("set"), linked.zookeeper.nodes["/e"].data) == (None, b"new")


def test_new_data_that_is_refused_is_retried(linked):
    """The caller is told, the intent has the new data from then on."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.zookeeper.forbid(Set, "/e")
    linked.renew(intent, b"new", "set")
    linked.settle()
    assert isinstance(linked.error("set"), NoAuthError)
    linked.zookeeper.permit()
    linked.advance(10.0)
    assert linked.zookeeper.nodes["/e"].data == b"new"


def test_new_data_of_what_was_closed_is_refused(linked):
    """There is nothing to write to."""
    intent = presence(linked)
    linked.renew(intent, b"new", "set")
    assert isinstance(linked.error("set"), ClosedError)


def test_new_data_during_a_run_is_written_by_the_next(linked):
    """The answer is that of a run that began after it was asked for."""
    intent = presence(linked)
    linked.want(intent)
    linked.renew(intent, b"new", "set")
    linked.settle()
    assert (linked.error("set"), linked.zookeeper.nodes["/e"].data) == (None, b"new")


def test_a_watch_that_fires_while_lapsed_is_not_lost(linked):
    """A stopped process goes on: the clock is looked at before what came in meanwhile."""
    linked.others(Create("/v", b"one"))
    mirror = view(linked)
    linked.want(mirror)
    linked.settle()
    linked.others(Set("/v", b"two"))
    linked.now += 20.0
    linked.tick(0.0)
    linked.fire()
    linked.say(Beat(0.1, linked.now))
    linked.settle()
    assert mirror.copy.value == b"two"


def test_an_intent_that_was_under_way_at_a_lapse_goes_on(linked):
    """Its flow was dropped between two requests; the link stayed, and no watch fires."""
    intent = presence(linked, "/a/e")
    linked.want(intent)
    linked.now += 20.0
    linked.tick(0.0)
    linked.settle()
    linked.say(Beat(0.1, linked.now))
    linked.settle()
    assert linked.stat("/a/e").ephemeral_owner == linked.session_id


def test_an_intent_that_was_added_while_lapsed_is_reconciled(linked):
    """On the link that never closed."""
    linked.now += 20.0
    linked.tick(0.0)
    linked.want(presence(linked), "want")
    linked.say(Beat(0.1, linked.now))
    linked.settle()
    assert linked.error("want") is None


def test_a_withdrawal_that_was_asked_for_while_lapsed_is_done(linked):
    """On the link that never closed."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.now += 20.0
    linked.tick(0.0)
    linked.unwant(intent, "close")
    linked.say(Beat(0.1, linked.now))
    linked.settle()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


def test_a_backoff_that_is_due_while_lapsed_is_not_lost(linked):
    """What was refused once is tried again after the lapse."""
    linked.zookeeper.forbid(Create, "/e")
    linked.want(presence(linked))
    linked.settle()
    linked.zookeeper.permit()
    linked.now += 20.0
    linked.tick(0.0)
    linked.say(Beat(0.1, linked.now))
    linked.settle()
    assert linked.zookeeper.stat("/e") is not None


# -- backoff


def failures(world: World, seconds: float) -> list[float]:
    """Return when a forbidden ephemeral was tried, over so many seconds."""
    world.zookeeper.forbid(Create, "/e")
    world.want(presence(world))
    world.settle()
    world.advance(seconds)
    return [at for at, request in zip(world.sent_at, world.sent, strict=True) if isinstance(request, Create)]


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_what_is_refused_is_not_tried_in_a_loop(linked, jitter):
    """After the first few, at most one attempt a second."""
    linked.jitter = jitter
    tried = failures(linked, 120.0)
    gaps = [after - before for before, after in pairwise(tried[6:])]
    assert min(gaps) >= 1.0


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_what_is_refused_is_tried_without_end(linked, jitter):
    """The longest delay is 10 s: that late a mended permission is noticed."""
    linked.jitter = jitter
    tried = failures(linked, 120.0)
    gaps = [after - before for before, after in pairwise(tried)]
    assert max(gaps) <= 10.0 + 1e-6
    assert tried[-1] >= linked.now - 10.0


def test_failed_tells_the_delay_that_is_kept(linked):
    """next_try_in is when the next attempt comes."""
    tried = failures(linked, 30.0)
    told = [one.next_try_in for one in linked.of(EphemeralFailed)]
    gaps = [after - before for before, after in pairwise(tried)]
    assert gaps == pytest.approx(told[: len(gaps)])


def test_a_success_of_some_time_makes_the_delay_small_again(linked):
    """A failure after half a minute of none is the first again."""
    failures(linked, 60.0)
    linked.zookeeper.permit()
    linked.advance(60.0)
    linked.others(Delete("/e"))
    linked.settle()
    linked.advance(0.2)
    assert linked.zookeeper.stat("/e") is not None


def test_a_forbidden_view_is_polled_with_backoff_and_told_once(linked):
    """No watch stands where nothing may be read."""
    linked.others(Create("/v"))
    linked.zookeeper.forbid(Get, "/v")
    linked.want(view(linked))
    linked.settle()
    linked.advance(60.0)
    assert linked.kinds("znode") == ["znode.unreadable"]
    assert 5 <= len(linked.requests(Get)) <= 20


# -- recovery


def recovering(world: World) -> tuple[list[Presence], ZnodeMirror, ChildrenMirror]:
    """Keep two ephemerals and two views, and let the session expire."""
    world.others(Create("/v", b"one"))
    kept = [presence(world, path) for path in ("/e1", "/e2")]
    views = view(world), children(world)
    for intent in (views[0], *kept, views[1]):
        world.want(intent)
    world.settle()
    world.expire()
    world.events.clear()
    world.sent.clear()
    return kept, *views


def test_ephemerals_come_back_before_any_view_is_read(linked):
    """No view is read as long as an ephemeral has no outcome: what is read was read after it."""
    recovering(linked)
    linked.up(settle=False)
    unanswered = []
    while linked.wire:
        creates = [request for _, request in linked.wire if isinstance(request, Create)]
        reads = [request for _, request in linked.wire if isinstance(request, Get | Children)]
        unanswered.append(bool(creates and reads))
        linked.reply()
    assert len(unanswered) > 4
    assert not any(unanswered)


def test_the_order_of_events_after_an_expiry(linked):
    """expired, opened, established, started, ephemerals, changes, completed."""
    recovering(linked)
    linked.others(Set("/v", b"two"))
    linked.others(Create("/v/child"))
    linked.up()
    assert linked.kinds() == [
        "session.expired",
        "connection.opened",
        "session.established",
        "recovery.started",
        "ephemeral.recreated",
        "ephemeral.recreated",
        "znode.changed",
        "children.changed",
        "recovery.completed",
    ]


def test_started_counts_and_names_what_is_to_come_back(linked):
    """Before anything is sent."""
    recovering(linked)
    linked.up()
    (started,) = linked.of(RecoveryStarted)
    assert (started.ephemerals, started.watches) == (2, 2)
    assert (started.ephemeral_paths, started.watch_paths) == (("/e1", "/e2"), ("/v", "/v"))


def test_completed_counts_what_came_of_it(linked):
    """Conflicts, failures and changes, with their paths."""
    recovering(linked)
    linked.foreign_ephemeral("/e1")
    linked.zookeeper.forbid(Create, "/e2")
    linked.others(Set("/v", b"two"))
    linked.up()
    (completed,) = linked.of(RecoveryCompleted)
    assert (completed.conflict_paths, completed.failed_paths) == (("/e1",), ("/e2",))
    assert (completed.conflicts, completed.failed, completed.changed) == (1, 1, 1)
    assert completed.changed_paths == ("/v",)


def test_changes_in_the_gap_are_marked(linked):
    """after_gap: no watch stood when it was changed."""
    recovering(linked)
    linked.others(Set("/v", b"two"))
    linked.up()
    assert [one.after_gap for one in linked.of(ZnodeEvent)] == [True]


def test_changes_after_a_resumption_are_marked(linked):
    """A cut is a gap, too."""
    linked.others(Create("/v", b"one"))
    linked.want(view(linked))
    linked.settle()
    linked.cut()
    linked.others(Set("/v", b"two"))
    linked.up()
    assert [(one.kind, one.after_gap) for one in linked.of(ZnodeEvent)] == [("znode.changed", True)]


def test_changes_while_watched_are_not_marked(linked):
    """Also after an earlier gap."""
    linked.others(Create("/v", b"one"))
    linked.want(view(linked))
    linked.settle()
    linked.cut()
    linked.up()
    linked.others(Set("/v", b"two"))
    linked.settle()
    assert [(one.kind, one.after_gap) for one in linked.of(ZnodeEvent)] == [("znode.changed", False)]


def test_a_forbidden_ephemeral_holds_up_nobody(linked):
    """The stage ends with its first outcome, which is an error."""
    recovering(linked)
    linked.zookeeper.forbid(Create, "/e1")
    linked.up()
    assert linked.kinds("recovery") == ["recovery.started", "recovery.completed"]


def test_a_forbidden_view_holds_up_nobody(linked):
    """The same for what may no longer be read."""
    recovering(linked)
    linked.zookeeper.forbid(Get, "/v")
    linked.up()
    assert linked.kinds("recovery") == ["recovery.started", "recovery.completed"]


def test_completed_is_told_exactly_once(linked):
    """Later retries, triggers and resumptions complete nothing again."""
    recovering(linked)
    linked.zookeeper.forbid(Create, "/e1")
    linked.up()
    linked.advance(30.0)
    linked.cut()
    linked.up()
    assert len(list(linked.of(RecoveryCompleted))) == 1


@pytest.mark.parametrize("answered", range(1, 12))
def test_a_cut_in_the_middle_of_a_recovery_completes_it_once(linked, answered):
    """The same session goes on where it was, whichever request was lost."""
    recovering(linked)
    linked.up(settle=False)
    for _ in range(answered):
        if linked.wire:
            linked.reply()
    linked.cut(applied=1)
    linked.up()
    assert linked.kinds("recovery") == ["recovery.started", "recovery.completed"]


@pytest.mark.parametrize("answered", range(1, 5))
def test_an_expiry_in_the_middle_of_a_recovery_starts_another(linked, answered):
    """What was begun under a session that is gone is never told as completed."""
    recovering(linked)
    linked.up(settle=False)
    for _ in range(answered):
        linked.reply()
    linked.expire()
    linked.up()
    told = [(one.kind, one.epoch) for one in linked.of(RecoveryStarted, RecoveryCompleted)]
    assert told == [("recovery.started", 2), ("recovery.started", 3), ("recovery.completed", 3)]


def test_withdrawals_between_two_sessions_complete_no_recovery(linked):
    """It ended with its session, although nobody is left to wait for."""
    kept, *views = recovering(linked)
    linked.up(settle=False)
    linked.reply()
    linked.say(Expired())
    for intent in (*kept, *views):
        linked.unwant(intent)
    assert linked.kinds("recovery") == ["recovery.started"]


def test_a_withdrawal_in_the_middle_of_a_recovery_holds_up_nobody(linked):
    """Nobody waits for what is no longer wanted."""
    kept, *_ = recovering(linked)
    linked.up(settle=False)
    for intent in kept:
        linked.unwant(intent)
    linked.settle()
    assert linked.kinds("recovery") == ["recovery.started", "recovery.completed"]


def test_an_empty_recovery_is_told_too(linked):
    """Whoever waits for completed after an expiry waits in no case for ever."""
    linked.expire()
    linked.up()
    assert linked.kinds("recovery") == ["recovery.started", "recovery.completed"]


def test_a_recovery_on_a_read_only_session_does_not_wait_for_writes(linked):
    """Ephemerals wait for a server that may write; views come back."""
    recovering(linked)
    linked.up(read_only=True)
    assert linked.kinds("recovery", "ephemeral") == ["recovery.started", "recovery.completed"]


def test_ephemerals_come_when_the_session_may_write_again(linked):
    """The next link decides."""
    recovering(linked)
    linked.up(read_only=True)
    linked.cut()
    linked.up()
    assert linked.kinds("ephemeral") == ["ephemeral.recreated"] * 2


def test_an_unconfirmed_old_session_does_not_keep_us_from_our_path(linked):
    """The server knows it yet: its znode is ours, and replaced."""
    linked.want(presence(linked))
    linked.settle()
    linked.cut()
    linked.session_id = linked.zookeeper.open()
    linked.up()
    assert linked.stat("/e").ephemeral_owner == linked.session_id


def test_a_conflict_ends_when_the_other_goes(linked):
    """The watch on the foreign znode fires."""
    foreign = linked.foreign_ephemeral("/e")
    linked.want(presence(linked), "want")
    linked.settle()
    assert len(list(linked.of(EphemeralConflict))) == 1
    linked.zookeeper.expire(foreign)
    linked.settle()
    assert linked.kinds("ephemeral") == ["ephemeral.conflict", "ephemeral.created"]


# -- withdrawing, in every phase


def test_unwant_while_connected(linked):
    """Answered when nothing is left on the server."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.unwant(intent, "close")
    assert "close" not in linked.answers
    linked.settle()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


def test_unwant_while_its_first_run_is_under_way(linked):
    """The create that flies is followed by its deletion."""
    intent = presence(linked)
    linked.want(intent)
    linked.unwant(intent, "close")
    linked.settle()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


def test_unwant_while_suspended_is_done_on_the_next_link(linked):
    """Only then can it be deleted."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.cut()
    linked.unwant(intent, "close")
    assert "close" not in linked.answers
    linked.up()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


def test_unwant_that_is_too_late_is_done_later(linked):
    """The caller is told; what was asked for is seen to all the same."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.cut()
    linked.unwant(intent, "close", timeout=2.0)
    linked.advance(2.0)
    assert isinstance(linked.error("close"), OperationTimeoutError)
    linked.up()
    assert linked.zookeeper.stat("/e") is None


def test_unwant_before_any_session_is_done_at_once(world):
    """There is nothing to delete."""
    intent = presence(world)
    world.want(intent)
    world.unwant(intent, "close")
    world.up()
    assert (world.error("close"), world.zookeeper.stat("/e")) == (None, None)


def test_unwant_of_a_view_while_suspended_is_done_at_once(linked):
    """Its watch ended with the link."""
    mirror = view(linked)
    linked.want(mirror)
    linked.settle()
    linked.cut()
    linked.unwant(mirror, "close")
    assert linked.error("close") is None


def test_unwant_on_a_read_only_session_waits_for_one_that_may_write(linked):
    """Refused and forgotten, the znode would stand as long as the session."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.cut()
    linked.up(read_only=True)
    linked.unwant(intent, "close")
    linked.settle()
    assert "close" not in linked.answers
    linked.cut()
    linked.up()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


def test_unwant_over_an_expiry_is_answered(linked):
    """The ephemeral ended with the session, and is not created again."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.cut()
    linked.unwant(intent, "close")
    linked.expire()
    linked.up()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


def test_unwant_while_lapsed(linked):
    """Held until the session is known to live or to be gone."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.cut()
    linked.advance(15.0)
    linked.unwant(intent, "close", timeout=30.0)
    linked.up()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


@pytest.mark.parametrize("answered", range(3))
@pytest.mark.parametrize("applied", [0, 1])
def test_a_withdrawal_survives_a_cut(linked, answered, applied):
    """Whichever of its requests is lost."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.unwant(intent, "close")
    for _ in range(answered):
        linked.reply()
    linked.cut(applied=applied)
    linked.up()
    assert (linked.error("close"), linked.zookeeper.stat("/e")) == (None, None)


def test_what_is_withdrawn_is_told_once(linked):
    """ephemeral.removed by us."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.unwant(intent)
    linked.settle()
    linked.advance(30.0)
    assert [(one.kind, getattr(one, "by", "")) for one in linked.of(EphemeralEvent)] == [
        ("ephemeral.created", ""),
        ("ephemeral.removed", "us"),
    ]


def test_a_second_unwant_is_nothing(linked):
    """It is gone already."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.unwant(intent, "one")
    linked.settle()
    linked.unwant(intent, "two")
    assert linked.error("two") is None


def test_a_path_may_be_kept_again_while_it_is_withdrawn(linked):
    """close() and a new ephemeral: the withdrawal does not delete the new one."""
    first, second = presence(linked), presence(linked, data=b"second")
    linked.want(first)
    linked.settle()
    linked.unwant(first)
    linked.want(second, "second")
    linked.settle()
    assert linked.error("second") is None
    assert linked.zookeeper.nodes["/e"].data == b"second"


# -- the end


def test_close_while_connected_stops_at_once(linked):
    """Over an open link the session is ended, its ephemerals with it."""
    linked.close()
    assert (linked.stops, linked.error("close")) == (["requested"], None)


@pytest.fixture
def lent() -> World:
    """Linked by a client that somebody else owns, with an ephemeral and a view."""
    world = World(shared=True)
    world.up()
    world.want(Presence(world.token(), "/e", b""))
    world.want(ZnodeMirror(world.token(), "/e", lambda _, data: data))
    world.settle()
    return world


def test_close_on_a_shared_session_withdraws_what_was_kept(lent):
    """It lives on: what is left in it would never be removed."""
    intent = ZnodeMirror(lent.token(), "/other", lambda _, data: data)
    lent.want(intent)
    lent.settle()
    lent.close()
    assert lent.stops == []
    lent.settle()
    assert (lent.stops, lent.error("close")) == (["requested"], None)
    assert "/e" not in lent.zookeeper.nodes
    assert lent.zookeeper.watched(lent.session_id, intent.token) == 0
    assert lent.kinds()[-2:] == ["ephemeral.removed", "session.closed"]


def test_close_on_a_shared_session_with_nothing_kept_stops_at_once():
    """Also before the first session."""
    for link in (True, False):
        world = World(shared=True)
        if link:
            world.up()
        world.close()
        assert (world.stops, world.error("close")) == (["requested"], None)


def test_close_on_a_shared_session_takes_no_longer_than_it_may(lent):
    """Without a link what stays behind is told."""
    lent.cut()
    lent.close()
    lent.advance(WITHDRAW_WITHIN - 0.01)
    assert lent.stops == []
    lent.advance(0.02)
    assert lent.stops == ["requested"]
    assert lent.kinds()[-2:] == ["ephemeral.failed", "session.closed"]


def test_close_on_a_shared_session_uses_the_next_link(lent):
    """It is proved first, as any."""
    lent.cut()
    lent.close()
    lent.up()
    assert lent.stops == ["requested"]
    assert "/e" not in lent.zookeeper.nodes


@pytest.mark.parametrize(("stopped", "reason"), [(True, "stopped"), (False, "gave_up")])
def test_a_shared_client_that_ended_is_the_end(lent, stopped, reason):
    """It is not ours to replace."""
    lent.submit(operations.read(Get("/e")), "get")
    lent.say(ClientEnded(lent.now, stopped=stopped))
    assert (lent.stops, lent.rebuilt_at) == ([reason], [])
    assert isinstance(lent.error("get"), ClosedError)
    assert lent.events[-1].reason == reason
    lent.close()
    assert lent.error("close") is None


def test_a_shared_client_that_ends_while_it_is_left_is_the_end(lent):
    """Whoever waits for close() is answered."""
    lent.close()
    lent.say(ClientEnded(lent.now, stopped=True))
    assert (lent.stops, lent.error("close")) == (["stopped"], None)


def test_a_shared_client_that_is_refused_is_not_replaced(lent):
    """Where the data was wiped its owner has to see to it."""
    lent.cut()
    lent.advance(15.0)
    lent.say(RoundRefused())
    lent.advance(5.0)
    assert lent.rebuilt_at == []


def test_close_before_the_first_session_stops_at_once(world):
    """There is nothing to end."""
    world.close()
    assert (world.stops, world.error("close")) == (["requested"], None)


def test_close_while_suspended_waits_for_a_link(linked):
    """Only over a link can the session be ended at once; for CLOSE_GRACE."""
    linked.cut()
    linked.close()
    assert linked.stops == []
    linked.advance(CLOSE_GRACE - 0.001)
    assert linked.stops == []
    linked.advance(0.002)
    assert linked.stops == ["requested"]


def test_close_while_suspended_stops_with_the_next_link(linked):
    """As soon as there is one."""
    linked.cut()
    linked.close()
    linked.advance(0.2)
    linked.up()
    assert linked.stops == ["requested"]


def test_close_while_lapsed_waits_as_while_suspended(linked):
    """The session may be alive."""
    linked.cut()
    linked.advance(15.0)
    linked.close()
    linked.advance(1.0)
    assert linked.stops == ["requested"]


def test_close_while_verifying_stops_at_once(linked):
    """There is a link."""
    linked.cut()
    linked.up(settle=False)
    linked.close()
    assert linked.stops == ["requested"]


def test_close_answers_everything_that_is_pending(linked):
    """Each with ClosedError, whether held, flying or kept."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.submit(READ, "flying")
    linked.renew(intent, b"new", "renewed")
    linked.want(view(linked), "wanted")
    linked.unwant(intent, "unwanted")
    linked.cut()
    linked.submit(READ, "held")
    linked.close()
    pending = ["flying", "renewed", "wanted", "unwanted", "held"]
    assert [type(linked.error(one)) for one in pending] == [ClosedError] * 5


def test_close_calls_a_write_that_flies_ambiguous(linked):
    """It was sent, and may be carried out."""
    linked.submit(operations.write(Create("/a")), "write")
    linked.close()
    assert linked.error("write").ambiguous is True


def test_close_calls_what_was_held_certain(linked):
    """It was not sent."""
    linked.cut()
    linked.submit(operations.write(Create("/a")), "write")
    linked.close()
    assert linked.error("write").ambiguous is False


def test_close_answers_whoever_waits_for_the_first_session(world):
    """Start and close at the same time."""
    world.await_session("start")
    world.close()
    assert isinstance(world.error("start"), ClosedError)


def test_close_twice_answers_both(linked):
    """A second close is no error."""
    linked.cut()
    linked.close("one")
    linked.close("two")
    linked.advance(1.0)
    linked.close("three")
    assert [linked.error(one) for one in ("one", "two", "three")] == [None] * 3


@pytest.mark.parametrize("closed", [False, True], ids=["closing", "closed"])
def test_nothing_is_taken_after_close(linked, closed):
    """Operations, intents and waiters are refused, also while it closes."""
    if not closed:
        linked.cut()
    linked.close()
    intent = presence(linked)
    linked.submit(READ, "submit")
    linked.want(intent, "want")
    linked.renew(intent, b"", "renew")
    linked.unwant(intent, "unwant")
    linked.await_session("await")
    asked = ("submit", "want", "renew", "unwant", "await")
    assert [type(linked.error(one)) for one in asked] == [ClosedError] * 5


def test_session_closed_is_the_last_event(linked):
    """Whatever comes in afterwards."""
    linked.want(presence(linked))
    linked.settle()
    linked.close()
    linked.say(LinkUp(7, 10.0, "zk1:2181", False, linked.now))
    linked.say(LinkDown(linked.now))
    linked.say(ClientEnded(linked.now))
    linked.say(Tick(linked.now))
    assert linked.kinds()[-1] == "session.closed"
    assert linked.kernel.deadline() is None


def test_close_tells_the_reason(world):
    """gave_up, when no session came in the time given for it."""
    world.close(reason="gave_up")
    assert [getattr(one, "reason", None) for one in world.events] == ["gave_up"]


def test_an_authentication_that_fails_is_the_end(world):
    """Everything pending is answered with it, and kazoo is stopped."""
    world.await_session("start")
    world.submit(READ, "read")
    world.want(presence(world), "want")
    world.auth_failed()
    assert [type(world.error(one)) for one in ("start", "read", "want")] == [AuthFailedError] * 3
    assert (world.stops, world.kinds()) == (["auth_failed"], ["session.closed"])


def test_a_start_that_comes_after_an_authentication_failed(world):
    """A server may refuse before the caller has got to wait: it is told why, and only it."""
    world.auth_failed()
    world.await_session("start")
    world.submit(READ, "read")
    assert [type(world.error(one)) for one in ("start", "read")] == [AuthFailedError, ClosedError]


def test_errors_are_not_shared_between_waiters(world):
    """Each is raised in a thread of its own, which writes a traceback into it."""
    world.submit(READ, "one")
    world.submit(READ, "two")
    world.auth_failed()
    assert world.error("one") is not world.error("two")


# -- a client that has to be replaced


def test_refused_handshakes_before_the_lapse_rebuild_nothing(linked):
    """A server that restarts may refuse for a moment."""
    linked.cut()
    linked.say(RoundRefused())
    linked.advance(5.0)
    assert linked.rebuilt_at == []


def test_refused_handshakes_after_the_lapse_rebuild_once(linked):
    """Servers whose data was wiped refuse a client that has seen more, for ever."""
    linked.cut()
    linked.advance(15.0)
    for _ in range(3):
        linked.say(RoundRefused())
        linked.advance(1.0)
    assert len(linked.rebuilt_at) == 1


def test_refused_before_and_after_the_lapse_rebuilds(linked):
    """The refusals usually begin before the lapse."""
    linked.cut()
    linked.say(RoundRefused())
    linked.advance(15.0)
    linked.say(RoundRefused())
    assert len(linked.rebuilt_at) == 1


def test_a_client_that_ended_is_rebuilt_at_once(linked):
    """The same session is back in milliseconds."""
    linked.linked = False
    linked.say(ClientEnded(linked.now))
    assert linked.rebuilt_at == [linked.now]
    assert linked.kinds("session")[-1] == "session.suspended"


def test_clients_that_end_in_a_row_are_rebuilt_with_growing_delays(linked):
    """Each ends at once; that must not be a loop, and not take for ever."""
    for _ in range(12):
        built = len(linked.rebuilt_at)
        linked.linked = False
        linked.say(ClientEnded(linked.now))
        while len(linked.rebuilt_at) == built:
            linked.advance(0.05, alive=False)
    gaps = [after - before for before, after in pairwise(linked.rebuilt_at)]
    assert all(after >= before - 1e-6 for before, after in pairwise(gaps))
    assert 4.9 <= gaps[-1] <= 5.1


def test_a_client_that_lived_long_is_rebuilt_at_once_again(linked):
    """After half a minute a rebuild is the first again."""
    for _ in range(3):
        linked.say(ClientEnded(linked.now))
        linked.advance(1.0)
    linked.advance(60.0)
    linked.say(ClientEnded(linked.now))
    assert linked.rebuilt_at[-1] == linked.now


def test_a_client_that_was_told_to_stop_is_not_rebuilt(linked):
    """Its end is the one that was asked for."""
    linked.auto_close = False
    linked.close()
    linked.say(ClientEnded(linked.now))
    linked.advance(10.0)
    assert linked.rebuilt_at == []


# -- one message of each kind


@pytest.mark.parametrize(
    "message",
    [
        Replied(999, None, None, 5, 0.0),
        NotSent(999),
        Fired(999, None),
        Tick(0.0),
        Beat(0.1, 0.0),
        LinkDown(0.0),
        RoundRefused(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_message_about_nothing_known_is_nothing(world, message):
    """Answers of what was given up, watches of what was closed."""
    world.say(message)
    assert (world.events, world.answers, world.sent) == ([], {}, [])


def test_resumed_is_told_before_anything_is_answered(linked):
    """Whoever reads events and calls sees the same order."""
    linked.submit(READ, "read")
    linked.cut()
    linked.up(settle=False)
    linked.reply()
    assert len(list(linked.of(SessionResumed))) == 1
    assert linked.answers == {}


def test_a_withdrawal_that_is_refused_is_told_as_a_failure(linked):
    """The znode stands until the session ends: nobody hears that it was removed."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.zookeeper.forbid(Delete, "/e")
    linked.unwant(intent, "close")
    linked.settle()
    assert isinstance(linked.error("close"), NoAuthError)
    assert linked.kinds("ephemeral.") == ["ephemeral.created", "ephemeral.failed"]


def test_what_was_created_is_told_of_the_session_that_created_it(linked):
    """Also when its run was dropped by the loss before it came to an end."""
    intent = presence(linked)
    linked.want(intent)
    linked.reply()  # created; the look that follows is lost
    linked.expire()
    linked.up()
    told = [(event.kind, event.epoch) for event in linked.of(EphemeralEvent, SessionExpired)]
    assert told == [("ephemeral.created", 1), ("session.expired", 1), ("ephemeral.recreated", 2)]


def test_two_views_of_a_znode_tell_a_change_once(linked):
    """One that came later takes over from where the first one left off."""
    linked.others(Create("/v", b"one"))
    first, second = view(linked), view(linked)
    for mirror in (first, second):
        linked.want(mirror)
        linked.settle()
    linked.others(Set("/v", b"two"))
    linked.fire()
    linked.settle()
    linked.unwant(first)
    linked.others(Set("/v", b"three"))
    linked.fire()
    linked.settle()
    assert [(event.kind, event.version) for event in linked.of(ZnodeEvent)] == [
        ("znode.changed", 1),
        ("znode.changed", 2),
    ]
    assert second.copy.value == b"three"


def test_what_nobody_viewed_is_not_told(linked):
    """The last view was closed; a new one begins with what it finds."""
    linked.others(Create("/v", b"one"))
    first = view(linked)
    linked.want(first)
    linked.settle()
    linked.unwant(first)
    linked.settle()
    linked.others(Set("/v", b"two"))
    linked.want(view(linked))
    linked.settle()
    assert list(linked.of(ZnodeEvent)) == []


def test_what_is_overdue_is_not_sent_on_a_late_resume(linked):
    """The engine was late: the deadline had passed when the link was proved."""
    linked.cut()
    linked.submit(operations.write(Set("/", b"x")), "set", timeout=1.0)
    linked.up(settle=False)
    linked.now += 1.001
    linked.settle()
    error = linked.error("set")
    assert (type(error), error.ambiguous) == (OperationTimeoutError, False)
    assert linked.requests(Set) == []


def test_without_time_nothing_is_begun(linked):
    """A timeout of 0 is over before it begins."""
    linked.submit(operations.write(Set("/", b"x")), "set", timeout=0.0)
    error = linked.error("set")
    assert (type(error), error.ambiguous, linked.requests(Set)) == (OperationTimeoutError, False, [])


def test_who_gives_up_while_held_has_nothing_done(linked):
    """An interrupted caller is not surprised by his write later."""
    linked.cut()
    linked.submit(operations.write(Set("/", b"x")), "set")
    linked.say(Abandon("set"))
    linked.up()
    assert linked.requests(Set) == []


def test_a_rebuild_that_is_overtaken_by_a_link_is_left_out(linked):
    """The old client got in after all while the next one was waited for."""
    for _ in range(2):
        linked.cut()
        linked.say(ClientEnded(linked.now))
    linked.up()
    linked.advance(5.0)
    assert len(linked.rebuilt_at) == 1


def test_no_client_is_rebuilt_at_the_end(linked):
    """close() has stopped the client: nobody would stop another one."""
    linked.auto_close = False
    linked.cut()
    for _ in range(7):  # so that the next is due after close() has lost its patience
        linked.say(ClientEnded(linked.now))
        linked.now += 5.0
        linked.tick()
    linked.say(ClientEnded(linked.now))
    rebuilt = len(linked.rebuilt_at)
    linked.close()
    linked.now += 10.0
    linked.tick()
    assert (linked.stops, len(linked.rebuilt_at)) == (["requested"], rebuilt)


def test_a_lost_create_is_ours_also_after_the_data_was_wiped(linked):
    """The transactions of the new ensemble have lower numbers than those of the old one."""
    linked.submit(operations.write(Set("/", b"x")), "before")
    linked.settle()
    linked.zookeeper.zxid += 1000
    linked.submit(operations.write(Set("/", b"y")), "high")
    linked.settle()
    linked.expire()
    linked.zookeeper.zxid = 5
    linked.up()
    linked.submit(operations.create(Create("/e", ephemeral=True)), "create")
    linked.cut(applied=1)
    linked.up()
    assert linked.error("create") is None


def test_a_recovery_on_a_read_only_session_refreshes_the_views(linked):
    """Ephemerals wait for a session that may write; views do not wait for them."""
    linked.others(Create("/v", b"one"))
    mirror = view(linked)
    linked.want(mirror)
    linked.want(presence(linked))
    linked.settle()
    linked.expire()
    linked.others(Set("/v", b"two"))
    linked.up(settle=False)
    linked.reply()  # the proof; the ephemeral's create flies
    linked.cut()
    linked.up(read_only=True)
    assert mirror.copy.value == b"two"
    assert linked.kinds("recovery.")[-1] == "recovery.completed"


def test_new_data_under_a_foreign_owner_is_refused(linked):
    """It was not written, and nobody says that it was."""
    linked.foreign_ephemeral("/e", b"theirs")
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.renew(intent, b"new", "set")
    linked.settle()
    assert isinstance(linked.error("set"), EphemeralConflictError)


def test_a_deadline_while_a_lost_create_is_looked_into_is_ambiguous(linked):
    """It was applied; that the look is held back does not make it undone."""
    linked.submit(operations.create(Create("/e", ephemeral=True)), "create", timeout=1.0)
    linked.cut(applied=1)
    linked.advance(2.0, alive=False)
    assert linked.error("create").ambiguous


def test_a_deadline_while_held_again_is_not_ambiguous(linked):
    """The first try was answered by a link that was gone: nothing was sent."""
    linked.linked = False
    linked.submit(operations.write(Set("/", b"x")), "set", timeout=1.0)
    linked.advance(2.0, alive=False)
    assert not linked.error("set").ambiguous


def test_a_first_outcome_that_is_late_may_have_been_written(linked):
    """The create of an ephemeral was applied, its answer lost."""
    linked.want(presence(linked), "want", timeout=1.0)
    linked.cut(applied=1)
    linked.advance(2.0, alive=False)
    assert linked.error("want").ambiguous


def test_new_data_that_is_late_may_have_been_written(linked):
    """Its write was applied, its answer lost."""
    intent = presence(linked)
    linked.want(intent)
    linked.settle()
    linked.renew(intent, b"new", "set", timeout=1.0)
    while not linked.requests(Set):
        linked.reply()
    linked.cut(applied=1)
    linked.advance(2.0, alive=False)
    assert linked.error("set").ambiguous


def creating(linked: World, *, parents: bool = False, ephemeral: bool = False) -> Made:
    """Begin to create /a/b, or /new; what it makes is noted in what is returned."""
    made: Made = []
    path = "/a/b" if parents else "/new"
    operation = operations.create(Create(path, ephemeral=ephemeral), parents=parents, made=made)
    linked.submit(operation, f"create {len(linked.answers)}", timeout=1.0)
    return made


def test_who_gives_up_a_create_on_the_wire_has_it_undone(linked):
    """It may be carried out all the same: then it is deleted again."""
    made = creating(linked)
    linked.say(Abandon("create 0", made))
    linked.settle()
    assert linked.zookeeper.stat("/new") is None
    assert len(linked.requests(Create)) == 1
    assert linked.error("create 0") is None


def test_who_gives_up_what_was_answered_has_it_undone(linked):
    """The answer had come, and nobody took it."""
    made = creating(linked)
    linked.settle()
    assert linked.zookeeper.stat("/new") is not None
    linked.say(Abandon("create 0", made))
    linked.settle()
    assert linked.zookeeper.stat("/new") is None


def test_who_gives_up_half_way_has_the_half_undone(linked):
    """Parents were created; the rest is not begun any more."""
    made = creating(linked, parents=True)
    while not made:
        linked.reply()
    assert [request.path for request in linked.requests(Create)] == ["/a/b", "/a", "/a/b"]
    linked.cut()
    linked.say(Abandon("create 0", made))
    linked.up()
    assert linked.zookeeper.stat("/a") is None
    assert len(linked.requests(Create)) == 3


def test_what_was_given_up_is_not_undone_where_others_have_changed_it(linked):
    """It has another version, or children, or is another znode by now."""
    for change in (Set("/new", b"theirs"), Create("/new/child"), Delete("/new")):
        made = creating(linked)
        linked.settle()
        linked.others(change)
        if isinstance(change, Delete):
            linked.others(Create("/new"))
        linked.say(Abandon("answered already", made))
        linked.settle()
        assert linked.zookeeper.stat("/new") is not None
        if isinstance(change, Create):
            linked.others(Delete("/new/child"))
        linked.others(Delete("/new"))


def test_what_was_given_up_outlives_its_deadline(linked):
    """The answer comes after the time was over: what it tells of is undone all the same."""
    made = creating(linked)
    linked.say(Abandon("create 0", made))
    linked.advance(2.0, alive=False)
    assert linked.wire
    linked.settle()
    assert linked.zookeeper.stat("/new") is None


def test_an_ephemeral_that_was_given_up_is_undone_after_a_lost_answer(linked):
    """Its owner tells that it was created."""
    made = creating(linked, ephemeral=True)
    linked.say(Abandon("create 0", made))
    linked.cut(applied=1)
    assert linked.zookeeper.stat("/new") is not None
    linked.up()
    assert linked.zookeeper.stat("/new") is None


def test_closing_waits_for_what_is_undone(linked):
    """Only over a link can it be deleted; at the latest after a grace it is left."""
    made = creating(linked)
    linked.say(Abandon("create 0", made))
    linked.say(Close("requested", "close"))
    assert not linked.stops
    linked.settle()
    assert linked.zookeeper.stat("/new") is None
    assert linked.stops


def test_closing_does_not_wait_for_ever(linked):
    """The server does not answer."""
    made = creating(linked)
    linked.say(Abandon("create 0", made))
    linked.say(Close("requested", "close"))
    linked.advance(CLOSE_GRACE + 0.01, alive=False)
    assert linked.stops


def given_up(linked: World, operation: Any, made: Made) -> None:
    """Run an operation to its end, and then give it up; what it made is being looked at."""
    linked.submit(operation, "given up")
    linked.settle()
    linked.say(Abandon("given up", made))
    assert isinstance(linked.wire[0][1], Exists)


def test_what_was_made_is_not_deleted_under_another_session(linked):
    """It was looked at, then the session lapsed; by the next one somebody else has taken the path."""
    made: Made = []
    given_up(linked, operations.create(Create("/lock", ephemeral=True), made=made), made)
    linked.now += 11
    linked.tick()
    linked.reply()  # ours, untouched: but the deletion may not be sent any more
    linked.expire()
    other = linked.foreign_ephemeral("/lock")
    linked.up()
    assert linked.stat("/lock").ephemeral_owner == other


def test_what_was_made_is_looked_at_again_after_a_deletion_that_was_not_sent(linked):
    """The link had died when it was to be sent."""
    made: Made = []
    given_up(linked, operations.create(Create("/lock", ephemeral=True), made=made), made)
    linked.linked = False
    linked.reply()
    linked.expire()
    linked.cut()
    other = linked.foreign_ephemeral("/lock")
    linked.up()
    assert linked.stat("/lock").ephemeral_owner == other


@pytest.mark.parametrize("applied", [0, 1])
def test_a_deletion_whose_answer_was_lost_is_done_once(linked, applied):
    """It is looked at again, and deleted if it is still there, and still ours."""
    made: Made = []
    given_up(linked, operations.create(Create("/new"), made=made), made)
    linked.reply()
    linked.cut(applied=applied)
    linked.up()
    assert linked.zookeeper.stat("/new") is None
    assert len(linked.requests(Delete)) == 2 - applied


@pytest.mark.parametrize("ephemeral", [True, False])
def test_what_a_transaction_made_is_known_again(linked, ephemeral):
    """Somebody else's znode, made anew at the same path, has the same version and another transaction."""
    made: Made = []
    commit = operations.commit(Multi("/a", (Create("/a", ephemeral=ephemeral),)), made)
    given_up(linked, commit, made)
    linked.expire() if ephemeral else linked.cut()
    linked.others(Delete("/a"))
    linked.others(Create("/a", b"theirs"))
    linked.up()
    assert linked.zookeeper.stat("/a") is not None


@pytest.mark.parametrize("touched", ["/index", "/index/deep", "/data", ""])
def test_a_transaction_is_undone_as_a_whole_or_not_at_all(linked, touched):
    """All or nothing holds for what is taken back, too."""
    paths = ("/index", "/index/deep", "/data")
    made: Made = []
    linked.submit(operations.commit(Multi("/index", tuple(Create(path) for path in paths)), made), "commit")
    linked.settle()
    if touched:
        linked.others(Set(touched, b"theirs"))
    linked.say(Abandon("commit", made))
    linked.settle()
    assert [linked.zookeeper.stat(path) is None for path in paths] == [not touched] * 3


@pytest.mark.parametrize("change", [Set("/given", b"x"), Delete("/given")])
def test_a_transaction_that_does_more_than_create_is_not_undone(linked, change):
    """What it changed cannot be taken back."""
    linked.others(Create("/given"))
    made: Made = []
    linked.submit(operations.commit(Multi("/new", (Create("/new"), change)), made), "commit")
    linked.settle()
    linked.say(Abandon("commit", made))
    linked.settle()
    assert linked.zookeeper.stat("/new") is not None
    assert made == []


@pytest.mark.parametrize("expired", [True, False])
@pytest.mark.parametrize("before_the_loss", [True, False])
@pytest.mark.parametrize("parents", [True, False])
def test_what_was_given_up_is_not_sent_again(linked, expired, before_the_loss, parents):
    """Its answer was lost and it had not been done: it never will be."""
    made = creating(linked, ephemeral=not parents, parents=parents)
    if parents:
        linked.reply()
    if before_the_loss:
        linked.say(Abandon("create 0", made))
    linked.expire() if expired else linked.cut()
    if not before_the_loss:
        linked.say(Abandon("create 0", made))
    linked.up()
    assert len(linked.requests(Create)) == 1 + parents


def test_given_up_twice_is_undone_once(linked):
    """What somebody makes in between is his."""
    made = creating(linked)
    linked.settle()
    linked.say(Abandon("create 0", made))
    linked.say(Abandon("create 0", made))
    linked.reply()
    linked.reply()
    linked.others(Create("/new", b"theirs"))
    linked.settle()
    assert linked.zookeeper.stat("/new") is not None


def test_parents_that_somebody_took_back_are_made_again(linked):
    """Another client had made them, and gave up just then."""
    linked.others(Create("/a"))
    linked.submit(operations.create(Create("/a/b/c"), parents=True), "create")
    linked.reply()  # no parent
    linked.reply()  # /a exists
    linked.others(Delete("/a"))
    linked.settle()
    assert linked.value("create")[0] == "/a/b/c"
    assert linked.zookeeper.stat("/a/b/c") is not None
