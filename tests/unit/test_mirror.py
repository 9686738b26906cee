"""Copies of a znode and of its children: what is told when they are compared again."""

from __future__ import annotations

import pytest
from fake import LOST, FakeZooKeeper, run, standing

from coordinator.core.mirror import ChildrenMirror, ZnodeMirror
from coordinator.core.requests import Children, Create, Delete, Get, Set
from coordinator.errors import NoAuthError, PayloadError

PATH = "/config"


def decode(path: str, data: bytes) -> str:
    if data.startswith(b"bad"):
        raise PayloadError(f"the data of {path} does not fit", path=path)
    return data.decode()


class Case:
    """A server, and one view of it."""

    def __init__(self, view=None) -> None:
        self.zookeeper = FakeZooKeeper()
        self.session = self.zookeeper.open()
        self.view = view or ZnodeMirror(1, PATH, decode)
        self.told = []

    def do(self, *requests) -> None:
        for request in requests:
            self.zookeeper.execute(request)

    def look(self, *, after_gap: bool = False, **faults):
        flow = self.view.reconcile(standing(self.session), after_gap=after_gap)
        outcome = run(flow, self.zookeeper, self.session, **faults)
        if outcome is not LOST:
            self.told += outcome.drafts
        return outcome

    @property
    def kinds(self) -> list[str]:
        return [one.event.model_fields["kind"].default for one in self.told]

    @property
    def copy(self):
        return self.view.copy


@pytest.fixture
def znode() -> Case:
    return Case()


@pytest.fixture
def present() -> Case:
    case = Case()
    case.do(Create(PATH, b"one"))
    case.look()
    return case


@pytest.fixture
def children() -> Case:
    case = Case(ChildrenMirror(1, PATH))
    case.do(Create(PATH), Create("/config/a"), Create("/config/b"))
    case.look()
    return case


# -- one znode


def test_the_first_look_tells_nothing(present):
    """What was there before is the copy, not a change."""
    assert (present.copy.value, present.kinds) == ("one", [])


def test_an_absent_znode_is_a_copy_too(znode):
    """Watching a path that does not exist is no error."""
    outcome = znode.look()
    assert (znode.copy.stat, outcome.error, znode.kinds) == (None, None, [])


def test_a_path_that_does_not_exist_is_waited_for(znode):
    """The watch that was set while looking fires on creation."""
    znode.look()
    znode.do(Create(PATH))
    assert (znode.session, 1, None) in znode.zookeeper.fired


def test_a_znode_created_between_two_requests_of_a_look_is_seen(znode):
    """Get says no, then it is created, then exists says yes: it is read again."""
    znode.look(before={1: lambda: znode.do(Create(PATH, b"one"))})
    assert znode.copy.value == "one"


def test_created(znode):
    """It carries the version and the mzxid of what was read."""
    znode.look()
    znode.do(Create(PATH, b"one"))
    znode.look()
    assert znode.told[0].fields == {
        "path": PATH,
        "after_gap": False,
        "version": 0,
        "mzxid": znode.zookeeper.zxid,
    }
    assert znode.kinds == ["znode.created"]


def test_changed(present):
    """It carries the new version."""
    present.do(Set(PATH, b"two"))
    present.look()
    assert (present.kinds, present.told[0].fields["version"]) == (["znode.changed"], 1)


def test_set_to_the_same_data_is_a_change(present):
    """Somebody wrote it: mzxid tells, the data does not."""
    present.do(Set(PATH, b"one"))
    present.look()
    assert present.kinds == ["znode.changed"]


def test_several_changes_between_two_looks_are_one(present):
    """A watch is a trigger, not a log."""
    present.do(Set(PATH, b"two"), Set(PATH, b"three"))
    present.look()
    assert (present.kinds, present.copy.value) == (["znode.changed"], "three")


def test_deleted(present):
    """The copy is that of nothing then."""
    present.do(Delete(PATH))
    present.look()
    assert (present.kinds, present.copy.stat, present.copy.value) == (["znode.deleted"], None, None)


def test_recreated_with_the_same_version_is_deleted_and_created(present):
    """Version 0 again and the same data: only czxid tells."""
    present.do(Delete(PATH), Create(PATH, b"one"))
    present.look()
    assert present.kinds == ["znode.deleted", "znode.created"]


def test_created_and_deleted_between_two_looks_is_nothing(znode):
    """What nobody saw is not told."""
    znode.look()
    znode.do(Create(PATH), Delete(PATH))
    znode.look()
    assert znode.kinds == []


@pytest.mark.parametrize(
    "change",
    [[Set(PATH, b"two")], [Delete(PATH)], [Delete(PATH), Create(PATH, b"one")]],
    ids=["changed", "deleted", "recreated"],
)
def test_what_changed_in_a_gap_is_marked(present, change):
    """after_gap stands on every event of that comparison."""
    present.do(*change)
    present.look(after_gap=True)
    assert [one.fields["after_gap"] for one in present.told] == [True] * len(present.told)
    assert present.told


def test_children_of_it_are_no_change_of_it(present):
    """Only pzxid moves: nothing is told, and the stat is kept fresh."""
    present.do(Create("/config/a"))
    outcome = present.look()
    assert (present.kinds, outcome.changed, present.copy.stat.num_children) == ([], False, 1)


@pytest.mark.parametrize("after_gap", [False, True])
def test_nothing_is_told_twice(present, after_gap):
    """A watch that fires late, or a gap without a change, tells nothing."""
    present.do(Set(PATH, b"two"))
    present.look()
    present.look(after_gap=after_gap)
    assert present.kinds == ["znode.changed"]


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("at", [0, 1])
def test_a_look_that_is_lost_loses_no_change(present, at, applied):
    """The link breaks during the look after a deletion; the next look tells it."""
    present.do(Delete(PATH))
    present.look(lose_at=at, applied=applied)
    present.look()
    assert present.kinds == ["znode.deleted"]


def test_a_change_is_an_outcome_that_changed(present):
    """recovery.completed counts the views that found one."""
    present.do(Set(PATH, b"two"))
    assert present.look(after_gap=True).changed is True


# -- unreadable


def test_an_unreadable_payload_keeps_the_last_value(present):
    """A bad write by others must not take the configuration away."""
    present.do(Set(PATH, b"bad"))
    present.look()
    assert (present.kinds, present.copy.value) == (["znode.unreadable"], "one")


def test_an_unreadable_payload_has_the_stat_that_was_read(present):
    """So that it can be seen that the value is older."""
    present.do(Set(PATH, b"bad"))
    present.look()
    assert (present.copy.stat.version, type(present.copy.error)) == (1, PayloadError)


def test_an_unreadable_payload_is_told_once(present):
    """Looking again at the same data is no news."""
    present.do(Set(PATH, b"bad"))
    present.look()
    present.look(after_gap=True)
    assert present.kinds == ["znode.unreadable"]


def test_an_unreadable_payload_is_not_retried(present):
    """Its next change fires the watch; reading the same bytes again would not help."""
    present.do(Set(PATH, b"bad"))
    outcome = present.look()
    assert (outcome.retry, outcome.error) == (False, None)


def test_another_unreadable_payload_is_told_again(present):
    """It was written anew, and is still wrong."""
    present.do(Set(PATH, b"bad"))
    present.look()
    present.do(Set(PATH, b"bad, again"))
    present.look()
    assert present.kinds == ["znode.unreadable"] * 2


def test_a_view_goes_on_after_an_unreadable_payload(present):
    """The next good write is told and taken."""
    present.do(Set(PATH, b"bad"))
    present.look()
    present.do(Set(PATH, b"two"))
    present.look()
    assert (present.kinds[-1], present.copy.value, present.copy.error) == ("znode.changed", "two", None)


def test_unreadable_from_the_beginning_has_no_value(znode):
    """There is no last value then."""
    znode.do(Create(PATH, b"bad"))
    znode.look()
    assert (znode.kinds, znode.copy.value) == (["znode.unreadable"], None)


def test_no_auth_keeps_the_last_value(present):
    """What may no longer be read is told, with the value that could."""
    present.zookeeper.forbid(Get, PATH)
    outcome = present.look()
    assert (present.kinds, present.copy.value) == (["znode.unreadable"], "one")
    assert (type(outcome.error), outcome.retry) == (NoAuthError, True)


def test_no_auth_is_told_once(present):
    """It is polled with backoff, silently."""
    present.zookeeper.forbid(Get, PATH)
    present.look()
    present.look()
    assert present.kinds == ["znode.unreadable"]


def test_what_may_be_read_again_is_no_change(present):
    """The same mzxid: only the permission came back."""
    present.zookeeper.forbid(Get, PATH)
    present.look()
    present.zookeeper.permit()
    present.look()
    assert (present.kinds, present.copy.error) == (["znode.unreadable"], None)


def test_what_changed_while_it_could_not_be_read_is_told(present):
    """The comparison is with the last that could be read."""
    present.zookeeper.forbid(Get, PATH)
    present.look()
    present.do(Set(PATH, b"two"))
    present.zookeeper.permit()
    present.look()
    assert (present.kinds, present.copy.value) == (["znode.unreadable", "znode.changed"], "two")


def test_what_was_deleted_while_it_could_not_be_read_is_told(present):
    """NoAuth does not end the view of a znode that goes."""
    present.zookeeper.forbid(Get, PATH)
    present.look()
    present.do(Delete(PATH))
    present.zookeeper.permit()
    present.look()
    assert present.kinds == ["znode.unreadable", "znode.deleted"]


def test_withdrawing_a_view_frees_its_watch(present):
    """A server keeps watches until they fire."""
    run(present.view.withdraw(standing(present.session)), present.zookeeper, present.session)
    assert present.zookeeper.watched(present.session, 1) == 0


# -- children


def test_the_first_look_at_children_tells_nothing(children):
    """What was there before is the copy."""
    assert (children.copy.names, children.kinds) == ({"a", "b"}, [])


def test_children_added_and_removed_are_told_together(children):
    """One event for one comparison, names sorted."""
    children.do(Create("/config/d"), Create("/config/c"), Delete("/config/a"))
    children.look(after_gap=True)
    assert children.told[0].fields == {
        "path": PATH,
        "added": ("c", "d"),
        "removed": ("a",),
        "after_gap": True,
    }


def test_a_child_that_went_and_came_back_is_told_without_names(children):
    """pzxid moved with the same names: whoever counts on the child has to look."""
    children.do(Delete("/config/a"), Create("/config/a"))
    outcome = children.look()
    assert (children.told[0].fields["added"], children.told[0].fields["removed"]) == ((), ())
    assert outcome.changed


def test_data_of_the_parent_is_no_change_of_its_children(children):
    """Only mzxid moves."""
    children.do(Set(PATH, b"new"))
    children.look()
    assert children.kinds == []


def test_a_recreated_parent_lost_all_and_got_new_ones(children):
    """The same name under another parent is another znode."""
    children.do(Delete("/config/a"), Delete("/config/b"), Delete(PATH), Create(PATH), Create("/config/a"))
    children.look()
    told = children.told[0].fields
    assert (told["added"], told["removed"]) == (("a",), ("a", "b"))


def test_a_deleted_parent_has_no_children(children):
    """All of them are told as removed."""
    children.do(Delete("/config/a"), Delete("/config/b"), Delete(PATH))
    children.look()
    assert (children.copy.stat, children.told[0].fields["removed"]) == (None, ("a", "b"))


def test_a_parent_that_does_not_exist_is_waited_for():
    """Its creation fires the watch that was set while looking."""
    case = Case(ChildrenMirror(1, PATH))
    case.look()
    case.do(Create(PATH))
    assert (case.session, 1, None) in case.zookeeper.fired


def test_a_parent_that_was_created_brings_its_children():
    """They are told as added."""
    case = Case(ChildrenMirror(1, PATH))
    case.look()
    case.do(Create(PATH), Create("/config/a"))
    case.look()
    assert case.told[0].fields["added"] == ("a",)


def test_no_change_of_children_is_told_twice(children):
    """Neither by a late watch nor after a gap."""
    children.do(Create("/config/c"))
    children.look()
    children.look(after_gap=True)
    assert children.kinds == ["children.changed"]


def test_children_that_may_not_be_read_keep_the_last_names(children):
    """Told once, retried with backoff, and it goes on."""
    children.zookeeper.forbid(Children, PATH)
    outcomes = [children.look(), children.look()]
    assert (children.kinds, children.copy.names) == (["znode.unreadable"], {"a", "b"})
    assert [one.retry for one in outcomes] == [True, True]


def test_children_that_changed_unread_are_told_when_they_can_be_read(children):
    """The comparison is with the last names that could be read."""
    children.zookeeper.forbid(Children, PATH)
    children.look()
    children.do(Create("/config/c"))
    children.zookeeper.permit()
    children.look()
    assert children.told[-1].fields["added"] == ("c",)


def test_children_created_between_two_requests_of_a_look_are_seen():
    """Children says no such parent, then it is created: it is read again."""
    case = Case(ChildrenMirror(1, PATH))
    case.look(before={1: lambda: case.do(Create(PATH), Create("/config/a"))})
    assert case.copy.names == {"a"}
