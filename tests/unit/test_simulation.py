"""Any order of cuts, expiries, foreign writes and intents: what holds when all is quiet."""

from __future__ import annotations

from fake import World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coordinator.core.mirror import ChildrenMirror, ZnodeMirror
from coordinator.core.presence import Presence
from coordinator.core.requests import Create, Delete, Set
from coordinator.core.session import Beat
from coordinator.events import (
    ChildrenChanged,
    EphemeralConflict,
    EphemeralRemoved,
    ZnodeChanged,
    ZnodeCreated,
    ZnodeDeleted,
)

PATHS = ("/p/a", "/p/b")
PARENT = "/p"
BACKOFF = 21.0
"""Seconds after which every delay of an intent has passed, drawn out twice."""


class Simulation(RuleBasedStateMachine):
    """One coordinator, and others who write at the same paths."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.others(Create(PARENT))
        self.kept: dict[str, Presence] = {}
        self.views: dict[ZnodeMirror | ChildrenMirror, object] = {}
        self.foreign: list[int] = []
        self.writes = 0
        self.world.up()

    # -- what may happen

    @rule(path=st.sampled_from(PATHS))
    def keep(self, path):
        if path not in self.kept:
            self.kept[path] = Presence(self.world.token(), path, b"mine")
            self.world.want(self.kept[path])

    @rule(path=st.sampled_from(PATHS))
    def give_up(self, path):
        if path in self.kept:
            self.world.unwant(self.kept.pop(path))

    @rule(path=st.sampled_from(PATHS))
    def write_data(self, path):
        if path in self.kept:
            self.writes += 1
            self.world.renew(self.kept[path], b"mine %d" % self.writes, f"renew {self.writes}")

    @rule(path=st.sampled_from((*PATHS, None)))
    def watch(self, path):
        if len(self.views) < 3:
            token = self.world.token()
            one = ZnodeMirror(token, path, lambda _, data: data) if path else ChildrenMirror(token, PARENT)
            self.views[one] = None
            self.world.want(one)

    @rule()
    def unwatch(self):
        if self.views:
            view = next(iter(self.views))
            del self.views[view]
            self.world.unwant(view)

    @rule(path=st.sampled_from(PATHS), ephemeral=st.booleans())
    def foreign_create(self, path, ephemeral):
        if path not in self.world.zookeeper.nodes:
            if ephemeral:
                self.foreign.append(self.world.foreign_ephemeral(path, b"theirs"))
            else:
                self.world.others(Create(path, b"theirs"))

    @rule(path=st.sampled_from(PATHS))
    def foreign_delete(self, path):
        self.world.others(Delete(path))

    @rule(path=st.sampled_from(PATHS))
    def foreign_set(self, path):
        self.world.others(Set(path, b"theirs"))

    @rule()
    def foreign_end(self):
        if self.foreign:
            self.world.zookeeper.expire(self.foreign.pop())

    @precondition(lambda self: self.world.linked)
    @rule(answers=st.integers(1, 3))
    def deliver(self, answers):
        self.world.fire()
        for _ in range(answers):
            if self.world.wire:
                self.world.reply()

    @precondition(lambda self: self.world.linked)
    @rule(applied=st.integers(0, 2), replies=st.booleans())
    def cut(self, applied, replies):
        self.world.cut(applied=applied, replies=replies)

    @rule()
    def expire(self):
        self.world.expire()

    @precondition(lambda self: not self.world.linked)
    @rule()
    def link(self):
        self.world.up(settle=False)

    @precondition(
        lambda self: not self.world.linked and self.world.session_id in self.world.zookeeper.sessions
    )
    @rule()
    def another_session(self):
        """The next session begins while the server still knows the old one."""
        old, self.world.session_id = self.world.session_id, self.world.zookeeper.open()
        self.foreign.append(old)
        self.world.up(settle=False)

    @precondition(lambda self: self.world.linked)
    @rule(answered=st.booleans())
    def stand_still(self, answered):
        """The process was stopped for longer than the session timeout; the link stayed."""
        self.world.now += 11.0
        self.world.tick(0.0)
        if answered:
            self.world.say(Beat(0.1, self.world.now))

    @rule()
    def wait(self):
        self.world.advance(0.3)

    # -- what holds

    @invariant()
    def an_ephemeral_that_is_shown_as_present_is_of_the_present_session(self):
        session = self.world.kernel.session.session_id
        assert all(one.owner in (0, session) for one in self.kept.values())

    @rule()
    def all_comes_to_rest(self):
        world = self.world
        if not world.linked:
            world.up()
        world.say(Beat(0.1, world.now))
        world.settle()
        world.advance(BACKOFF)
        world.settle()
        self._ephemerals_stand()
        self._nothing_withdrawn_remains()
        self._views_are_fresh()

    def _ephemerals_stand(self):
        world = self.world
        for path, intent in self.kept.items():
            stat = world.zookeeper.stat(path)
            if stat is not None and stat.ephemeral_owner == world.session_id:
                node = world.zookeeper.nodes[path]
                assert (node.data, intent.czxid) == (intent.data, node.czxid)
            elif stat is not None and stat.ephemeral_owner in self.world.kernel.standing().former:
                assert not intent.present  # confirmed to be over; the server is about to remove it
            else:
                assert stat is not None, f"{path} is wanted and does not exist"
                last = [one for one in world.of(EphemeralConflict, EphemeralRemoved) if one.path == path][-1]
                assert (last.kind, last.czxid) == ("ephemeral.conflict", stat.czxid)

    def _nothing_withdrawn_remains(self):
        for path in set(PATHS) - set(self.kept):
            stat = self.world.zookeeper.stat(path)
            assert stat is None or stat.ephemeral_owner != self.world.session_id

    def _views_are_fresh(self):
        for view in self.views:
            stat = self.world.zookeeper.stat(view.path)
            assert view.copy is not None
            if isinstance(view, ChildrenMirror):
                assert view.copy.names == set(self.world.zookeeper.names(view.path))
            else:
                data = None if stat is None else self.world.zookeeper.nodes[view.path].data
                seen = None if view.copy.stat is None else view.copy.stat.mzxid
                assert (view.copy.value, seen) == (data, None if stat is None else stat.mzxid)

    def teardown(self):
        self.all_comes_to_rest()


class Replay(Simulation):
    """The same, with one view of each kind from the beginning: its events give its state."""

    def __init__(self) -> None:
        super().__init__()
        self.world.others(Create(PATHS[0], b"first"))
        self.znode = ZnodeMirror(self.world.token(), PATHS[0], lambda _, data: data)
        self.children = ChildrenMirror(self.world.token(), PARENT)
        for view in (self.znode, self.children):
            self.world.want(view)
        self.world.settle()
        self.first = (self.znode.copy.stat.mzxid, set(self.children.copy.names))
        self.since = len(self.world.events)

    # Other views of the same paths would tell the same changes again.
    @rule()
    def watch(self):
        pass

    @invariant()
    def events_give_the_state(self):
        mzxid, names = self.first[0], set(self.first[1])
        for event in self.world.events[self.since :]:
            match event:
                case ZnodeCreated():
                    assert mzxid is None, "created, and was there"
                    mzxid = event.mzxid
                case ZnodeChanged():
                    assert mzxid is not None, "changed, and was not there"
                    assert event.mzxid > mzxid, "a change goes backwards"
                    mzxid = event.mzxid
                case ZnodeDeleted():
                    assert mzxid is not None, "deleted, and was not there"
                    mzxid = None
                case ChildrenChanged():
                    assert set(event.removed) <= names, "removed, and was not there"
                    names -= set(event.removed)
                    assert not names & set(event.added), "added, and was there"
                    names |= set(event.added)
        copy = self.znode.copy
        assert mzxid == (None if copy.stat is None else copy.stat.mzxid)
        assert names == self.children.copy.names


MODEST = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSimulation = Simulation.TestCase
TestSimulation.settings = MODEST
TestReplay = Replay.TestCase
TestReplay.settings = MODEST
