"""An ephemeral that shall exist: whoever owns the znode, and wherever the link breaks."""

from __future__ import annotations

import pytest
from fake import LOST, FakeZooKeeper, kinds, run, standing

from coordinator.core.presence import Presence
from coordinator.core.requests import Create, Delete, Exists, Get, Multi, Set, Unwatch
from coordinator.errors import EphemeralConflictError, NoAuthError

PATH, DATA = "/app/workers/w-1", b"mine"


class Case:
    """A server, our session, sessions of ours before it, and the intent."""

    def __init__(self, *, parents: bool = True, on_conflict="wait") -> None:
        self.zookeeper = FakeZooKeeper()
        self.session = self.zookeeper.open()
        self.former = self.zookeeper.open()
        self.foreign = self.zookeeper.open()
        self.standing = standing(self.session, former=frozenset({self.former}))
        if parents:
            self.zookeeper.execute(Create("/app"))
            self.zookeeper.execute(Create("/app/workers"))
        self.intent = Presence(1, PATH, DATA, on_conflict=on_conflict)
        self.told: list[str] = []

    def node(self, owner: int, data: bytes = DATA, *, ephemeral: bool = True) -> None:
        self.zookeeper.execute(Create(PATH, data, ephemeral=ephemeral), owner)

    def unconfirmed(self) -> None:
        ids = frozenset({self.former})
        self.standing = standing(self.session, former=ids, unconfirmed=ids)

    def reconcile(self, **faults):
        outcome = run(
            self.intent.reconcile(self.standing, after_gap=False), self.zookeeper, self.session, **faults
        )
        if outcome is not LOST:
            self.told += kinds(outcome)
        return outcome

    def withdraw(self, **faults):
        return run(self.intent.withdraw(self.standing), self.zookeeper, self.session, **faults)

    @property
    def stat(self):
        return self.zookeeper.stat(PATH)

    @property
    def fulfilled(self) -> bool:
        stat, node = self.stat, self.zookeeper.nodes.get(PATH)
        return (
            stat is not None
            and node is not None
            and (stat.ephemeral_owner, node.data) == (self.session, self.intent.data)
            and (self.intent.czxid, self.intent.owner) == (stat.czxid, self.session)
        )


def absent() -> Case:
    return Case()


def no_parents() -> Case:
    return Case(parents=False)


def mine() -> Case:
    case = Case()
    case.node(case.session)
    return case


def mine_other_data() -> Case:
    case = Case()
    case.node(case.session, b"old")
    return case


def unconfirmed() -> Case:
    case = Case()
    case.node(case.former, b"old")
    case.unconfirmed()
    return case


FULFILLABLE = [absent, no_parents, mine, mine_other_data, unconfirmed]
FAULTS = [(at, applied) for at in range(7) for applied in (False, True)]


# -- the owner table


@pytest.mark.parametrize("make", FULFILLABLE)
def test_what_is_absent_or_ours_is_brought_about(make):
    """Created, adopted, mended, or taken over from a session of ours, in one run."""
    case = make()
    case.reconcile()
    assert case.fulfilled


@pytest.mark.parametrize("make", FULFILLABLE)
def test_created_is_told_once(make):
    """Also for a znode that was adopted: it may be that of a create whose answer was lost."""
    case = make()
    case.reconcile()
    case.reconcile()
    assert case.told == ["ephemeral.created"]


def test_what_is_ours_is_adopted_and_not_created_again():
    """The znode stays the same one, so that nobody sees it vanish."""
    case = mine()
    before = case.stat
    case.reconcile()
    assert case.stat == before


def test_a_znode_of_a_confirmed_former_session_is_waited_for():
    """The server is about to remove it: it is neither deleted nor told as a conflict."""
    case = Case()
    case.node(case.former, b"old")
    before = case.stat
    outcome = case.reconcile()
    assert (outcome.retry, outcome.conflict, case.told, case.stat) == (True, False, [], before)


def test_a_znode_of_a_confirmed_former_session_is_created_when_it_has_gone():
    """Its removal fires the watch that was set while looking."""
    case = Case()
    case.node(case.former, b"old")
    case.reconcile()
    case.zookeeper.expire(case.former)
    assert (case.session, 1, PATH) in case.zookeeper.fired
    case.reconcile()
    assert case.fulfilled


def test_an_unconfirmed_former_session_is_replaced_in_one_transaction():
    """Between a delete and a create somebody else could take the place."""
    case, requests = unconfirmed(), []
    original = case.zookeeper.execute
    case.zookeeper.execute = lambda request, *rest, **more: (
        requests.append(request) or original(request, *rest, **more)
    )
    case.reconcile()
    multi = next(one for one in requests if isinstance(one, Multi))
    assert [type(one) for one in multi.operations] == [Delete, Create]
    assert Delete not in [type(one) for one in requests]


@pytest.mark.parametrize("ephemeral", [True, False])
def test_a_foreign_znode_is_left_alone(ephemeral):
    """Never stolen, whether its owner is another session or nobody."""
    case = Case()
    case.node(case.foreign, b"theirs", ephemeral=ephemeral)
    before = dict(case.zookeeper.nodes)
    case.reconcile()
    assert dict(case.zookeeper.nodes) == before


def test_a_conflict_names_the_owner():
    """ephemeral.conflict says whose znode it is."""
    case = Case()
    case.node(case.foreign, b"theirs")
    outcome = case.reconcile()
    assert (outcome.conflict, outcome.error) == (True, None)
    assert outcome.drafts[0].fields == {
        "path": PATH,
        "czxid": case.stat.czxid,
        "owner_session_id": case.foreign,
    }


def test_the_same_conflict_is_told_once():
    """A foreign owner that writes its data fires our watch, and is no news."""
    case = Case()
    case.node(case.foreign)
    case.reconcile()
    case.zookeeper.execute(Set(PATH, b"new"), case.foreign)
    case.reconcile()
    assert case.told == ["ephemeral.conflict"]


def test_another_foreign_znode_is_another_conflict():
    """The next one that takes the place is told as well."""
    case = Case()
    case.node(case.foreign)
    case.reconcile()
    case.zookeeper.execute(Delete(PATH))
    case.node(case.foreign)
    case.reconcile()
    assert case.told == ["ephemeral.conflict"] * 2


def test_a_foreign_znode_that_goes_is_followed_by_ours():
    """With "wait" its removal fires our watch, and then it is created."""
    case = Case()
    case.node(case.foreign)
    case.reconcile()
    case.zookeeper.expire(case.foreign)
    assert (case.session, 1, PATH) in case.zookeeper.fired
    case.reconcile()
    assert case.fulfilled


def test_fail_makes_a_conflict_an_error():
    """It names the owner in hex, as a server's log does."""
    case = Case(on_conflict="fail")
    case.node(case.foreign)
    error = case.reconcile().error
    assert isinstance(error, EphemeralConflictError)
    assert (error.owner_session_id, f"{case.foreign:#x}" in str(error)) == (case.foreign, True)


def test_fail_says_that_a_znode_is_not_ephemeral():
    """Then nobody owns it."""
    case = Case(on_conflict="fail")
    case.node(0, ephemeral=False)
    error = case.reconcile().error
    assert error.owner_session_id == 0
    assert "not ephemeral" in str(error)


def test_a_foreign_znode_that_goes_while_we_look_is_no_conflict():
    """Between the create that was refused and the look, it may have gone."""
    case = Case()
    case.node(case.foreign)
    case.reconcile(before={1: lambda: case.zookeeper.expire(case.foreign)})
    assert case.fulfilled


def test_a_place_that_changes_hands_without_end_does_not_hold_up_the_run():
    """After so many looks the run ends, and is tried again with backoff."""
    case = Case()
    case.node(case.foreign)

    def flip():
        if case.stat is None:
            case.node(case.foreign)
        else:
            case.zookeeper.execute(Delete(PATH))

    outcome = case.reconcile(before=dict.fromkeys(range(1, 100), flip))
    assert (outcome.retry, outcome.error) == (True, None)


# -- data


def test_new_data_is_written_to_the_same_znode():
    """set() keeps the znode: its czxid is what others know it by."""
    case = absent()
    case.reconcile()
    czxid = case.stat.czxid
    case.intent.data = b"new"
    case.reconcile()
    assert (case.fulfilled, case.stat.czxid) == (True, czxid)


def test_data_that_somebody_else_wrote_is_put_right():
    """This data is part of what was asked for."""
    case = absent()
    case.reconcile()
    case.zookeeper.execute(Set(PATH, b"theirs"))
    case.reconcile()
    assert case.fulfilled


def test_a_write_that_comes_between_look_and_set_is_seen():
    """The version of the Set is that of the look, so that nothing is overwritten unseen."""
    case = mine_other_data()
    case.reconcile(before={3: lambda: case.zookeeper.execute(Set(PATH, b"theirs"))})
    assert case.fulfilled


def test_a_run_with_nothing_to_do_is_one_request():
    """Thousands of ephemerals are looked at after each reconnect."""
    case, requests = absent(), []
    case.reconcile()
    original = case.zookeeper.execute
    case.zookeeper.execute = lambda request, *rest, **more: (
        requests.append(request) or original(request, *rest, **more)
    )
    case.reconcile()
    assert requests == [Exists(PATH, watch=1)]


def test_data_that_may_not_be_read_is_written():
    """An ACL that lets us write and not read must not end in a loop."""
    case = mine_other_data()
    case.zookeeper.forbid(Get, PATH)
    case.reconcile()
    assert case.fulfilled


# -- deleted by others, refused by the server


def test_deleted_by_somebody_is_told_and_created_again_with_backoff():
    """At once would make two of us, each deleting the other's, spin."""
    case = absent()
    case.reconcile()
    case.zookeeper.execute(Delete(PATH))
    outcome = case.reconcile()
    assert (outcome.retry, case.stat) == (True, None)
    case.reconcile()
    assert case.told == ["ephemeral.created", "ephemeral.removed", "ephemeral.recreated"]


def test_recreated_within_a_gap_by_a_foreign_session_is_a_conflict():
    """The znode at the path is no longer ours, although there is one."""
    case = absent()
    case.reconcile()
    case.zookeeper.execute(Delete(PATH))
    case.node(case.foreign)
    case.reconcile()
    assert (case.told[-1], case.intent.present) == ("ephemeral.conflict", False)


@pytest.mark.parametrize("kind", [Create, Set])
def test_what_the_server_refuses_is_an_error_to_be_retried(kind):
    """NoAuth is reported and never ends the intent."""
    case = mine_other_data() if kind is Set else absent()
    case.zookeeper.forbid(kind, PATH)
    outcome = case.reconcile()
    assert (type(outcome.error), outcome.retry) == (NoAuthError, True)


@pytest.mark.parametrize("kind", [Create, Set])
def test_what_is_permitted_later_is_brought_about(kind):
    """The next run needs nobody's help."""
    case = mine_other_data() if kind is Set else absent()
    case.zookeeper.forbid(kind, PATH)
    case.reconcile()
    case.zookeeper.permit()
    case.reconcile()
    assert (case.fulfilled, case.told) == (True, ["ephemeral.created"])


def test_a_replacement_that_is_refused_is_an_error():
    """NoAuth inside of the transaction is that of the znode, not a hot loop."""
    case = unconfirmed()
    case.zookeeper.forbid(Delete, PATH)
    outcome = case.reconcile()
    assert (type(outcome.error), outcome.retry) == (NoAuthError, True)


def test_a_parent_that_exists_under_a_closed_root_is_no_error():
    """A server looks at the ACL of the parent before it says that the znode exists."""
    case = Case(parents=False)
    case.zookeeper.execute(Create("/app"))
    case.zookeeper.forbid(Create, "/app")
    case.reconcile()
    assert case.fulfilled


def test_a_parent_that_is_missing_and_forbidden_is_an_error():
    """It names the parent that could not be created."""
    case = Case(parents=False)
    case.zookeeper.forbid(Create, "/app")
    outcome = case.reconcile()
    assert (type(outcome.error), outcome.error.path) == (NoAuthError, "/app")


# -- the link breaks


@pytest.mark.parametrize(("at", "applied"), FAULTS)
@pytest.mark.parametrize("make", FULFILLABLE)
def test_a_lost_request_is_made_good_by_the_next_run(make, at, applied):
    """Whichever request is lost, before it was applied or after."""
    case = make()
    case.reconcile(lose_at=at, applied=applied)
    case.reconcile()
    assert case.fulfilled


@pytest.mark.parametrize(("at", "applied"), FAULTS)
@pytest.mark.parametrize("make", FULFILLABLE)
def test_a_lost_request_loses_and_doubles_no_event(make, at, applied):
    """ephemeral.created is told once, also if the link broke after the create was applied."""
    case = make()
    case.reconcile(lose_at=at, applied=applied)
    case.reconcile()
    case.reconcile()
    assert case.told == ["ephemeral.created"]


@pytest.mark.parametrize(("at", "applied"), FAULTS)
def test_a_lost_request_touches_no_foreign_znode(at, applied):
    """Whatever is lost, the znode of another session is neither written nor deleted."""
    case = Case()
    case.node(case.foreign, b"theirs")
    before = dict(case.zookeeper.nodes)
    case.reconcile(lose_at=at, applied=applied)
    case.reconcile()
    assert dict(case.zookeeper.nodes) == before


@pytest.mark.parametrize(("at", "applied"), FAULTS)
def test_a_lost_request_loses_no_conflict(at, applied):
    """A conflict is told once, whichever request was lost."""
    case = Case()
    case.node(case.foreign, b"theirs")
    case.reconcile(lose_at=at, applied=applied)
    case.reconcile()
    case.reconcile()
    assert case.told == ["ephemeral.conflict"]


def test_what_expired_is_recreated():
    """The second time that it appears is ephemeral.recreated."""
    case = absent()
    case.reconcile()
    case.zookeeper.expire(case.session)
    case.intent.expired()
    case.session = case.zookeeper.open()
    case.standing = standing(case.session)
    case.reconcile()
    assert (case.fulfilled, case.told) == (True, ["ephemeral.created", "ephemeral.recreated"])


# -- withdrawing


@pytest.mark.parametrize(("at", "applied"), [(-1, False), *FAULTS[:8]])
@pytest.mark.parametrize("data", [DATA, b"written by others"])
def test_withdrawing_deletes_what_is_ours(data, at, applied):
    """Whichever request is lost, the next run finishes it."""
    case = mine()
    case.reconcile()
    case.zookeeper.execute(Set(PATH, data))
    case.withdraw(lose_at=at, applied=applied)
    case.withdraw()
    assert case.stat is None


@pytest.mark.parametrize(("at", "applied"), [(-1, False), *FAULTS[:8]])
@pytest.mark.parametrize("owner", ["foreign", "former", "nobody"])
def test_withdrawing_leaves_what_is_not_ours(owner, at, applied):
    """Only this session's znode is deleted."""
    case = Case()
    owners = {"foreign": case.foreign, "former": case.former, "nobody": 0}
    case.node(owners[owner], ephemeral=owner != "nobody")
    before = case.stat
    case.withdraw(lose_at=at, applied=applied)
    case.withdraw()
    assert case.stat == before


def test_withdrawing_nothing_is_nothing():
    """It may never have been created."""
    case = absent()
    case.withdraw()
    assert case.stat is None


def test_withdrawing_frees_the_watch():
    """A server keeps watches until they fire."""
    case = absent()
    case.reconcile()
    case.withdraw()
    assert case.zookeeper.watched(case.session, 1) == 0


def test_withdrawing_frees_the_watch_before_it_deletes():
    """Or its own deletion would fire it."""
    case = absent()
    case.reconcile()
    case.zookeeper.fired.clear()
    case.withdraw()
    assert not case.zookeeper.fired


def test_a_write_between_look_and_delete_does_not_save_the_znode():
    """What is withdrawn does not stay until the session ends."""
    case = absent()
    case.reconcile()
    case.withdraw(before={2: lambda: case.zookeeper.execute(Set(PATH, b"theirs"))})
    assert case.stat is None


def test_a_znode_that_changed_hands_between_look_and_delete_is_left_alone():
    """The version tells, as long as it was written since."""
    case = absent()
    case.reconcile()

    def change_hands():
        case.zookeeper.execute(Delete(PATH))
        case.node(case.foreign)
        case.zookeeper.execute(Set(PATH, b"theirs"), case.foreign)

    case.withdraw(before={2: change_hands})
    assert case.stat.ephemeral_owner == case.foreign


def test_the_first_request_of_a_withdrawal_is_unwatch():
    """So that nothing triggers what is going."""
    case = absent()
    assert isinstance(next(case.intent.withdraw(case.standing)), Unwatch)


# -- what is told of it


def test_a_withdrawn_ephemeral_is_told_as_removed_by_us():
    """Once, and only if it was there."""
    case = absent()
    case.reconcile()
    told = list(case.intent.withdrawn()) + list(case.intent.withdrawn())
    assert [one.fields["by"] for one in told] == ["us"]


def test_a_conflict_is_not_told_as_failed_too():
    """One event for one fact."""
    case = absent()
    assert list(case.intent.failed(EphemeralConflictError("it is there"), None)) == []


def test_failed_carries_the_error_and_the_next_try():
    """What was refused, and when it is tried again."""
    case = absent()
    (told,) = case.intent.failed(NoAuthError(path=PATH), 2.5)
    assert told.fields == {
        "path": PATH,
        "error": f"not permitted by the ACL: {PATH}",
        "next_try_in": 2.5,
    }


def test_it_holds_what_its_session_owns():
    """session.expired counts the ephemerals that ended with the session."""
    case = absent()
    case.reconcile()
    assert (case.intent.holds(case.session), case.intent.holds(case.former)) == (True, False)
