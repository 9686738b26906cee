"""Any order of cuts, expiries, lagging servers, rivals and intents: several kernels on one ensemble.

hypothesis is the network, the reaper and the scheduler. What must hold after every message
stands in ``member.py``; here is what may happen, what must hold among the members, and what
must be true when all is quiet. ``COORDINATOR_SIMULATION`` says how many histories are tried
(default 100): some thousands for a soak.
"""

from __future__ import annotations

import os
import sys
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from member import CALLS, TIMEOUT, Member
from network import Books, Server
from places import QUEUE, standing

from coordinator.core import operations
from coordinator.core.lease import BEATS
from coordinator.core.mirror import ChildrenMirror, ZnodeMirror
from coordinator.core.requests import Children, Create, Delete, Get, Set
from coordinator.core.session import Beat, RoundRefused
from coordinator.events import EphemeralConflict, EphemeralEvent
from coordinator.testing.memory import FakeZooKeeper

HISTORIES = int(os.environ.get("COORDINATOR_SIMULATION", "100"))
pytestmark = pytest.mark.timeout(60 + HISTORIES)

PATHS = ("/p/a", "/p/b")
PARENT = "/p"
BACKOFF = 11.0
"""Seconds after which every delay of an intent has passed."""
REBUILT = 5.0
"""Seconds after which a client that has ended is replaced at the latest."""
LEAD = 12
"""Beats after which somebody leads, if nobody hinders him: two timeouts."""
CALM = 2000
"""Requests and answers after which the members must have come to rest: far more than they need."""

ACTS = (
    *("lock", "latch", "latch with revoke", "leave", "step down"),
    *("keep", "keep at once", "keep or fail", "give up", "give up", "write", "write", "watch", "list"),
    *("unwatch", "create", "create ephemeral", "link"),
)
MEDDLING = (
    *("delete the first seat", "delete the last seat", "set the first seat", "rival", "rival leaves"),
    *("create", "create ephemeral", "delete", "delete", "set", "take over", "take over and set"),
    *("forbid", "permit", "permit", "end", "end", "expire", "reap", "move on", "begin anew", "begin beside"),
)
RACING = (
    *("lose the answer", "lose the answer", "delete the first seat", "delete the last seat", "rival leaves"),
    *("create ephemeral", "delete", "set", "take over", "take over and set", "forbid"),
    *("expire", "move on", "move on", "begin anew", "begin beside"),
)
NETWORK = (
    *("move", "move", "settle", "settle behind", "follow", "cut", "tell of the cut", "straggle"),
    *("client ends", "all servers refuse"),
)
SCHEDULER = (
    "wait",
    "wait in silence",
    "stand still",
    "stand still amid a call",
    "stand still with a beat",
    "rest",
)

MEMBER = st.integers(0, 2)
PATH = st.sampled_from(PATHS)


class Simulation(RuleBasedStateMachine):
    """Coordinators that want the same paths, and others who write there."""

    @initialize(
        number=st.integers(2, 3),
        begun=st.lists(st.tuples(MEMBER, st.sampled_from(["keep", "watch", "list"]), PATH), max_size=5),
    )
    def begin(self, number, begun):
        self.books = Books()
        for path in (PARENT, CALLS):
            self.books.others(Create(path))
        self.servers = [Server(self.books) for _ in range(2)]
        self.members = [Member(name, self.books) for name in ("one", "two", "three")[:number]]
        self.foreign: list[int] = []
        self.rivals: list[int] = []
        """Sessions that have a seat in the queue."""
        for member in self.members:
            member.relink(self.servers[0])
        for who, what, path in begun:
            self.act(self.member(who), what, path)
        self.settle()

    def member(self, number) -> Member:
        return self.members[number % len(self.members)]

    # -- what users, others, the network and the reaper do

    def act(self, member: Member, what: str, path: str) -> str:
        """Have a user of that member do something, if he can; return at which path."""
        if what.startswith("keep") or what in ("give up", "write"):
            fit = [one for one in PATHS if (one in member.kept) != what.startswith("keep")]
            path = path if path in fit or not fit else fit[0]
        if what.startswith("keep") and path not in member.kept:
            member.want(path, on_conflict="fail" if "fail" in what else "wait", waits="at once" not in what)
        elif what == "give up" and path in member.kept:
            member.unwant(path)
        elif what == "write" and path in member.kept:
            member.renew(path)
        elif what == "watch" and len(member.copies.all) < 3:
            member.copies.want(ZnodeMirror, path, TIMEOUT)
        elif what == "list" and len(member.copies.all) < 3:
            member.copies.want(ChildrenMirror, PARENT, TIMEOUT)
        elif what == "unwatch" and member.copies.wanted:
            member.copies.leave(member.copies.wanted[0], TIMEOUT)
        elif what == "create":
            member.call(lambda path: operations.write(Create(path)))
        elif what == "create ephemeral":
            member.call(lambda path: operations.create(Create(path, ephemeral=True)))
        elif what == "link" and member.linkable:
            member.relink(self.servers[0])
        else:
            self.queue(member, what)
        return path

    def queue(self, member: Member, what: str) -> None:
        """Have a user of that member do something about his places in the queue, if he can."""
        wanted = member.places.wanted
        latches = [place for place in wanted if not place.intent.once]
        if what == "lock" and len(wanted) < 2:
            member.places.want(once=True, timeout=TIMEOUT, stop_within=1.0)
        elif what.startswith("latch") and not latches:
            revoked = what.endswith("revoke")
            member.places.want(once=False, timeout=TIMEOUT, stop_within=1.0, revoked=revoked)
        elif what == "leave" and wanted:
            member.places.leave(wanted[0], TIMEOUT)
        elif what == "step down" and latches:
            member.places.step_down(latches[0], TIMEOUT)

    def meddle(self, member: Member, what: str, path: str) -> None:
        """Have others do something at a path, or the link or the session of the member suffer."""
        if what in ("move on", "begin anew", "begin beside"):
            member.lose()
            if what == "begin anew":
                self.books.expire(member.session_id)
            if member.linkable:
                member.relink(self.servers[1], keep=what != "begin beside")
        elif what == "lose the answer":
            member.lose_the_answer(self.servers[0])
        elif what == "end" and self.foreign:
            self.books.expire(self.foreign.pop())
        elif what.startswith("delete the"):
            for seat in standing(self.books)[:: -1 if "last" in what else 1][:1]:
                self.books.others(Delete(seat))
        elif what == "set the first seat":
            for seat in standing(self.books)[:1]:
                self.books.others(Set(seat, b"theirs"))
        elif what == "rival":
            self.rivals.append(self.books.open())
            self.books.others(Create(QUEUE))
            seat = f"{QUEUE}/rival-{self.rivals[-1]}-__lock__"
            self.books.others(Create(seat, ephemeral=True, sequential=True), self.rivals[-1])
        elif what == "rival leaves" and self.rivals:
            self.books.expire(self.rivals.pop(0))
        elif what == "expire":
            self.books.expire(member.session_id)
        elif what == "reap":
            for session in sorted((member.sessions - {member.session_id}) & self.books.sessions)[:1]:
                self.books.expire(session)
        else:
            self.write(what, path)

    def write(self, what: str, path: str) -> None:
        """Have a client that is none of the members write at a path, or change who may."""
        if "take over" in what or what == "delete":
            self.books.others(Delete(path))
        if "take over" in what or what == "create ephemeral":
            self.foreign.append(self.books.open())
            self.books.others(Create(path, b"theirs", ephemeral=True), self.foreign[-1])
        if what == "create":
            self.books.others(Create(path, b"theirs"))
        if "set" in what:
            self.books.others(Set(path, b"theirs, too"))
        if what == "forbid":
            for kind, where in ((Create, path), (Set, path), (Get, path), (Children, PARENT)):
                self.books.enter(partial(FakeZooKeeper.forbid, kind=kind, path=where))
        if what == "permit":
            self.books.enter(FakeZooKeeper.permit)

    @rule(number=MEMBER, path=PATH, what=st.sampled_from(ACTS), quiet=st.booleans())
    def user(self, number, path, what, quiet):
        self.act(self.member(number), what, path)
        if quiet:
            self.settle()

    @rule(number=MEMBER, path=PATH, what=st.sampled_from(MEDDLING), quiet=st.booleans())
    def others(self, number, path, what, quiet):
        self.meddle(self.member(number), what, path)
        if quiet:
            self.settle()

    @rule(
        number=MEMBER,
        path=PATH,
        act=st.sampled_from(ACTS),
        steps=st.integers(0, 3),
        what=st.sampled_from(RACING),
        quiet=st.booleans(),
    )
    def race(self, number, path, act, steps, what, quiet):
        """Between two requests of what a user has begun, others do something."""
        member = self.member(number)
        path = self.act(member, act, path)
        for _ in range(steps):
            member.serve()
            member.deliver()
        self.meddle(member, what, path)
        if quiet:
            self.settle()

    # -- the network

    @rule(
        number=MEMBER,
        what=st.sampled_from(NETWORK),
        some=st.integers(0, 3),
        seconds=st.sampled_from([0.0, 0.3]),
        replies=st.booleans(),
        told=st.booleans(),
    )
    def network(self, number, what, some, seconds, replies, told):
        member = self.member(number)
        match what:
            case "move":  # some requests are done, and later some of what comes down is taken
                for _ in range(some):
                    member.serve()
                member.advance(seconds, alive=False)
                for _ in range(some + 1):
                    member.deliver()
            case "settle" | "settle behind":
                self.settle(lag=what == "settle behind")
            case "follow":
                for _ in range(some):
                    if self.servers[0].lags:
                        self.servers[0].apply()
            case "cut":
                member.lose(served=some, replies=replies, told=told)
            case "tell of the cut":
                member.down()
            case "straggle":
                member.straggle()
            case "client ends":
                member.end_client()
            case "all servers refuse":
                if member.linkable:
                    member.down()
                    member.say(RoundRefused())

    def settle(self, *, lag: bool = False) -> None:
        """Have everything arrive; servers may go on lagging where nobody makes them catch up."""
        for _ in range(CALM):
            for server in () if lag else self.servers:
                server.catch_up()
            moved = [member.serve() or member.deliver() for member in self.members]
            if not any(moved):
                for member in self.members if not lag else ():
                    if member.link is not None and member.link.open:
                        member.places.check_quiet()
                return
        raise AssertionError("they never come to rest")

    @rule(
        number=MEMBER,
        server=st.integers(0, 1),
        confirm=st.booleans(),
        keep=st.sampled_from([True, True, False]),
        held=st.booleans(),
        then=st.sampled_from(["nothing", "settle", "stand still"]),
    )
    def link(self, number, server, confirm, keep, held, then):
        """The next link; it may be that nobody told of the end of the last one.

        ``held``: somebody has asked for something meanwhile.
        ``keep``: otherwise the next session begins while the server still knows the old one.
        """
        member = self.member(number)
        if member.linkable:
            if held:
                self.act(member, "create", PATHS[0])
            member.relink(self.servers[server], confirm=confirm, keep=keep)
            if then == "stand still":
                self.scheduler(number=number, what="stand still", seconds=0.0, jitter=0.5)
            elif then == "settle":
                self.settle()

    # -- the scheduler

    @rule(
        number=MEMBER,
        what=st.sampled_from(SCHEDULER),
        seconds=st.sampled_from([0.04, 0.3, 2.0, 7.0]),
        jitter=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def scheduler(self, number, what, seconds, jitter):
        member = self.member(number)
        member.jitter = jitter
        match what:
            case "wait" | "wait in silence":
                member.advance(seconds, alive=what == "wait")
            case (
                "stand still" | "stand still amid a call"
            ):  # for longer than its session; what is there already is taken before time
                if "call" in what:
                    self.act(member, "create", PATHS[0])
                member.now += 11.0
                member.serve()
                member.deliver()
                member.tick(alive=False)
            case "stand still with a beat":
                member.now += 11.0
                member.tick(alive=False)
                if member.link is not None and member.link.open:
                    member.contact = member.now
                    member.say(Beat(0.1, member.now))
            case "rest":
                self.all_comes_to_rest()

    # -- what holds

    @invariant()
    def nobody_shares_an_ephemeral(self):
        for path, node in self.books.now.nodes.items():
            owners = [
                one.name
                for one in getattr(self, "members", ())
                if path in one.kept and one.kept[path].present and one.kept[path].czxid == node.czxid
            ]
            assert len(owners) < 2, f"{path} is shown as theirs by {owners}"

    def all_comes_to_rest(self) -> None:
        self.books.enter(FakeZooKeeper.permit)
        for member in self.members:
            member.stragglers.clear()
            for session in member.sessions & self.books.sessions - {member.session_id}:
                self.books.expire(session)
            if member.ended:
                member.advance(REBUILT)
                assert not member.ended, "its client is not replaced"
        for _ in range(2):
            self._calm()
            for member in self.members:
                member.tick()
                member.advance(BACKOFF)
        self._calm()
        self._somebody_leads()
        for member in self.members:
            member.places.check_rest()
            self._ephemerals_stand(member)
            self._nothing_withdrawn_remains(member)
            self._views_are_fresh(member)
            self._callers_were_told_the_truth(member)

    def _calm(self):
        """Everybody gets a link, every server all of the log, and everything arrives."""
        for _ in range(10):
            for member in self.members:
                if member.linkable:
                    member.relink(self.servers[0])
            for server in self.servers:
                server.catch_up()
            self.settle()
            if not any(one.linkable for one in self.members) and not any(one.lags for one in self.servers):
                return
        raise AssertionError("links break though nobody breaks them")

    def _somebody_leads(self):
        """Whoever is first holds it, as soon as a lease can be proved."""
        for rival in self.rivals:
            self.books.expire(rival)
        self.rivals.clear()
        for _ in range(LEAD):
            self._calm()
            queue = standing(self.books)
            if not any(member.places.wanted for member in self.members):
                assert queue == []
                return
            if queue and any(member.places.holds(queue[0]) for member in self.members):
                return
            for member in self.members:
                member.advance(TIMEOUT / BEATS)
        raise AssertionError(f"nobody leads: {queue}")

    def _ephemerals_stand(self, member):
        for path, intent in member.kept.items():
            node = self.books.now.nodes.get(path)
            assert node is not None, f"{path} is wanted and does not exist"
            if node.owner == member.session_id:
                assert (node.data, intent.czxid) == (intent.data, node.czxid)
            else:
                assert not intent.present
                told = [one for one in member.events if isinstance(one, EphemeralEvent) and one.path == path]
                told = [one for one in told if one.kind != "ephemeral.failed"]
                assert told, f"{path}: it is not ours, and nobody was told"
                last = told[-1]
                assert (last.kind, last.czxid) == (EphemeralConflict.model_fields["kind"].default, node.czxid)

    def _nothing_withdrawn_remains(self, member):
        for path in set(PATHS) - set(member.kept):
            node = self.books.now.nodes.get(path)
            assert node is None or node.owner not in member.sessions, f"{path} is kept no more, and stands"

    def _views_are_fresh(self, member):
        for view in member.copies.all:
            node = self.books.now.nodes.get(view.path)
            assert view.copy is not None
            assert view.copy.error is None
            if isinstance(view, ChildrenMirror):
                assert view.copy.names == set(self.books.now.names(view.path))
            else:
                seen = None if view.copy.stat is None else (view.copy.value, view.copy.stat.mzxid)
                assert seen == (None if node is None else (node.data, node.mzxid))

    def _callers_were_told_the_truth(self, member):
        assert not member.waiting
        created = {path for path, _ in self.books.owners}
        assert member.done <= created
        assert not member.never & created

    def teardown(self):
        if sys.exc_info()[0] is not None or not hasattr(self, "members"):
            return  # it has failed already, and says of what
        self.all_comes_to_rest()
        for what in ("set", "delete"):  # whoever has no watch now does not see it
            for path in PATHS:
                self.write(what, path)
            self.meddle(self.members[0], "delete the first seat", PATHS[0])
            self.all_comes_to_rest()
        for member in self.members[1:]:
            member.close()
        self.members[0].refuse()
        for member in self.members:
            assert member.stopped
            assert not member.waiting
            assert member.events[-1].kind == "session.closed"


MODEST = settings(
    max_examples=HISTORIES,
    stateful_step_count=50,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSimulation = Simulation.TestCase
TestSimulation.settings = MODEST
