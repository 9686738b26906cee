"""Coordinators on an ensemble in memory: its clock, its faults, and that each run is the same."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from coordinator import (
    AuthFailedError,
    ConfigurationError,
    ConnectionLossError,
    Coordinator,
    CoordinatorError,
    Heartbeat,
    MissingChrootError,
    NoAuthError,
    OperationTimeoutError,
    Phase,
    ReadOnlyError,
    StartError,
)
from coordinator.events import BaseEvent
from coordinator.testing.memory import MemoryEnsemble, turns

SUSPENDED = ["connection.closed", "session.suspended"]
RESUMED = ["connection.opened", "session.resumed"]
RECOVERED = [
    "session.expired",
    "connection.opened",
    "session.established",
    "recovery.started",
    "recovery.completed",
]


@pytest.fixture
def memory() -> Iterator[MemoryEnsemble]:
    with MemoryEnsemble() as ensemble:
        yield ensemble


@pytest.fixture
def zk(memory: MemoryEnsemble) -> Iterator[Coordinator]:
    with memory.coordinator(session_timeout=10.0) as started:
        yield started


class Told:
    """What a coordinator has told since it was looked at last."""

    def __init__(self, zk: Coordinator, *kinds: type[BaseEvent]) -> None:
        self._stream = zk.events(*kinds)
        self()

    def all(self) -> list[Any]:
        events = []
        while True:
            try:
                events.append(self._stream.next(0))
            except CoordinatorError:
                return events

    def __call__(self) -> list[str]:
        return [event.kind for event in self.all()]


# -- time


def test_time_stands_still(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Whatever is done takes none; a session that nobody advances does not age."""
    before = memory.now
    for number in range(50):
        zk.create(f"/n-{number}")
    memory.settle()
    assert memory.now == before
    assert zk.session.remaining == 10.0


def test_heartbeats_keep_a_session(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """A third of the timeout apart, for as long as it takes."""
    told = Told(zk, Heartbeat)
    memory.advance(100.0)
    assert len(told.all()) == 30
    assert zk.session.phase is Phase.CONNECTED
    assert memory.session_ids() == {zk.session.session_id}


def test_time_stops_wherever_something_is_due(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Lapse and expiry are told of their own moments, however far time is advanced."""
    told = Told(zk)
    began = zk.events()
    first = began.next(0)
    memory.refuse(zk)
    memory.cut(zk)
    memory.advance(60.0)
    memory.mend(zk)
    memory.advance(2.0)
    events = {event.kind: event for event in told.all()}
    assert (events["session.lapsed"].at - first.at).total_seconds() == 10.0
    assert events["session.expired"].session_id == first.session_id
    assert (events["session.established"].at - first.at).total_seconds() < 62.0


def test_time_does_not_go_back(memory: MemoryEnsemble) -> None:
    """It is said at once."""
    with pytest.raises(ConfigurationError, match="from 0 to"):
        memory.advance(-1.0)


def test_a_call_gives_up_by_the_clock_of_the_ensemble(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Not a moment before, and whether it was sent is told as ever."""
    memory.blackhole(zk)
    reading = memory.begin(zk.get, "/", timeout=1.0)
    writing = memory.begin(zk.set, "/", b"x", timeout=1.0)
    memory.advance(0.999)
    assert not reading.done()
    memory.advance(0.001)
    for call, ambiguous in ((reading, False), (writing, True)):
        error = call.exception(turns.PATIENCE)
        assert isinstance(error, OperationTimeoutError)
        assert error.ambiguous is ambiguous


def test_a_call_that_nobody_advances_time_for(
    memory: MemoryEnsemble, zk: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not hang for ever, and says what to do."""
    memory.blackhole(zk)
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    with pytest.raises(CoordinatorError, match=r"within 0.05 s: .* stands still.*advance\(\)"):
        zk.get("/")


def test_the_same_calls_tell_the_same(memory: MemoryEnsemble) -> None:
    """Every event, with its time and number, and every number of the server; another seed is another run."""

    def history(seed: int) -> list[str]:
        with (
            MemoryEnsemble(seed=seed) as ensemble,
            ensemble.coordinator(session_timeout=4.0) as one,
            ensemble.coordinator(session_timeout=4.0) as other,
        ):
            streams = [one.events(), other.events()]
            worker, kids = one.ephemeral("/w/1"), other.watch_children("/w")
            other.ephemeral("/w/1", wait=False)
            ensemble.expire(one)
            ensemble.refuse(other)
            ensemble.cut(other)
            ensemble.advance(20.0)
            ensemble.mend()
            ensemble.advance(20.0)
            told = [repr(worker), repr(kids), repr(ensemble.ephemerals())]
        return told + [event.model_dump_json() for stream in streams for event in stream]

    first = history(1)
    assert len(first) > 40
    assert history(1) == first
    assert history(2) != first


@pytest.fixture
def busy(memory: MemoryEnsemble) -> Iterator[Callable[[str], None]]:
    """Makes an engine, the first whose turn it is, busy with each change of a znode for a while."""

    def look(value: object) -> object:  # on the engine's own thread
        threading.Event().wait(0.1)
        return value

    with memory.coordinator() as first:
        yield lambda path: first.watch(path, model=Annotated[int, AfterValidator(look)]) and None


def test_what_is_asked_waits_for_its_turn(
    memory: MemoryEnsemble, busy: Callable[[str], None], zk: Coordinator
) -> None:
    """Others have seen what was done before, however long that takes them."""
    zk.create("/a", b"0")
    busy("/a")
    with memory.coordinator() as other:
        other.watch("/a")
        told = Told(other)
        for number in range(1, 4):
            zk.set("/a", b"%d" % number)
        memory.settle()
        assert [event.version for event in told.all()] == [1, 2, 3]


@pytest.mark.parametrize("fault", ["cut", "freeze", "set_hosts", "lose_quorum", "close"])
def test_what_is_broken_waits_for_its_turn(
    memory: MemoryEnsemble, busy: Callable[[str], None], zk: Coordinator, fault: str
) -> None:
    """What came before has been told before."""
    zk.create("/a", b"0")
    busy("/a")
    with memory.coordinator() as other:
        other.watch("/a")
        told = Told(other)
        zk.set("/a", b"1")
        match fault:
            case "set_hosts":
                other.set_hosts("zk1:2181")
            case "lose_quorum" | "close":
                getattr(memory, fault)()
            case _:
                getattr(memory, fault)(other)
        assert told()[0] == "znode.changed"


def test_who_is_started_first_has_the_first_session(memory: MemoryEnsemble) -> None:
    """Also if neither start() waits, and the system runs the first thread late."""
    one, other = (memory.coordinator(start_timeout=0) for _ in range(2))
    take = one._engine._inbox.take

    def late(until: float | None) -> Any:
        threading.Event().wait(0.02)
        return take(until)

    one._engine._inbox.take = late  # type: ignore[method-assign]
    with one, other:
        memory.settle()
        assert one.session.session_id < other.session.session_id


def test_time_does_not_go_back_for_another_thread(
    memory: MemoryEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who advances it by little while another one advances it by much."""
    began = memory.now
    with monkeypatch.context() as patch:

        def meanwhile() -> None:  # whoever waits for engines lets others in
            patch.undo()
            memory.advance(10.0)

        patch.setattr(memory._turns, "settle", meanwhile)
        memory.advance(1.0)
    assert memory.now == began + 10.0


# -- several clients


def test_what_one_does_another_is_told(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """By watches; after settle() it has been told."""
    view, kids = zk.watch("/a"), zk.watch_children("/")
    with memory.coordinator() as other:
        other.create("/a", b"one")
        memory.settle()
        assert (view.value, kids.children) == (b"one", ("a", "zookeeper"))
        other.set("/a", b"two")
        other.delete("/a")
        memory.settle()
        assert (view.exists, kids.children) == (False, ("zookeeper",))


def test_one_engine_runs_at_a_time(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """What two are told at once they see to one after the other, in the order in which they were started."""
    together, met, served = threading.Barrier(2), [], []

    def serve(name: str) -> Callable[[object], object]:
        def look(value: object) -> object:  # on the engine's own thread
            served.append(name)
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.05)
                met.append(name)
            together.reset()
            return value

        return look

    zk.create("/a", b"1")
    with memory.coordinator() as other:
        other.watch("/a", model=Annotated[int, AfterValidator(serve("second"))])
        zk.watch("/a", model=Annotated[int, AfterValidator(serve("first"))])
        served.clear()
        with memory.coordinator() as writer:
            writer.set("/a", b"2")
            memory.settle()
        assert (served, met) == (["first", "second"], [])


def test_a_rival_takes_over(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """An ephemeral that waits for another's comes when that one's session has ended."""
    zk.ephemeral("/leader")
    with memory.coordinator() as other:
        second = other.ephemeral("/leader")
        assert second.rival == zk.session.session_id
        memory.freeze(zk)
        memory.advance(9.9)
        assert not second.present
        memory.advance(0.3)
        assert second.present
        memory.thaw(zk)
        memory.advance(1.0)
        assert memory.ephemerals() == {other.session.session_id: {"/leader"}}


def test_only_its_own(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """A coordinator of another ensemble, or one that was not started, has no link here to break."""
    with (
        MemoryEnsemble() as another,
        another.coordinator() as stranger,
        pytest.raises(ConfigurationError, match="not a started coordinator of this ensemble"),
    ):
        memory.cut(stranger)
    with pytest.raises(ConfigurationError):
        memory.cut(memory.coordinator())


# -- faults


def test_expire(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """The session and its ephemerals are gone at once; the client is told on its next link."""
    worker, told = zk.ephemeral("/w"), Told(zk)
    before = zk.session.session_id
    memory.expire(zk)
    assert (memory.session_ids(), memory.ephemerals()) == (set(), {})
    assert told() == SUSPENDED
    memory.advance(1.0)
    assert told() == [*RECOVERED[:-1], "ephemeral.recreated", RECOVERED[-1]]
    assert worker.present
    assert memory.ephemerals() == {zk.session.session_id: {"/w"}}
    assert zk.session.session_id != before


def test_cut(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """The link comes back after a pause, with its session and its watches."""
    view, told = zk.watch("/a"), Told(zk)
    memory.cut(zk)
    assert told() == SUSPENDED
    assert memory.watches() == {}
    memory.advance(0.5)
    assert told() == RESUMED
    assert memory.watches() == {"/a": {zk.session.session_id}}
    assert not view.exists


def test_refuse(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """New links only; attempts are told, with the pause that follows."""
    told = Told(zk)
    memory.refuse(zk)
    memory.advance(20.0)
    assert (told(), zk.session.phase) == ([], Phase.CONNECTED)
    memory.cut(zk)
    memory.advance(2.0)
    failed = [event for event in told.all() if event.kind == "connection.failed"]
    assert {(event.cause, event.server) for event in failed} == {("refused", "memory:2181")}
    assert all(event.next_try_in is not None for event in failed)
    memory.mend(zk)
    memory.advance(1.0)
    assert told() == RESUMED


def test_black_hole_is_noticed_by_its_silence(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """At two thirds of the timeout; attempts to make another link get no answer."""
    told = Told(zk)
    memory.blackhole(zk)
    memory.advance(6.6)
    assert told() == []
    memory.advance(0.1)
    assert told() == SUSPENDED
    memory.advance(11.0)
    events = told.all()
    assert [event.kind for event in events] == ["session.lapsed", "connection.failed"]
    assert events[1].cause == "timeout"
    assert memory.session_ids() == set()


def test_a_black_hole_that_is_mended_in_time(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """What was held arrives, on the same link."""
    told = Told(zk)
    memory.blackhole(zk)
    creating = memory.begin(zk.create, "/a")
    memory.advance(3.0)
    assert memory.session_ids() == {zk.session.session_id}
    memory.mend(zk)
    assert creating.result(turns.PATIENCE) == "/a"
    assert told() == []


@pytest.mark.parametrize("up", [True, False])
def test_one_way(memory: MemoryEnsemble, zk: Coordinator, up: bool) -> None:
    """Up: nothing arrives, and the session ends. Down: it is done, and the session is kept by requests."""
    memory.blackhole(zk, up=up, down=not up)
    memory.begin(zk.create, "/a", timeout=1.0)
    with memory.coordinator() as other:
        assert (other.exists("/a") is None) is up


@pytest.mark.parametrize("answer", [True, False])
def test_what_is_lost(memory: MemoryEnsemble, zk: Coordinator, answer: bool) -> None:
    """The answer: it was done. The request: it was not. The caller cannot tell, and is told so."""
    told = Told(zk)
    (memory.lose_answer if answer else memory.lose_request)(zk)
    with pytest.raises(ConnectionLossError) as lost:
        zk.create("/a")
    assert lost.value.ambiguous
    memory.advance(0.5)
    assert told() == SUSPENDED + RESUMED
    assert (zk.exists("/a") is not None) is answer
    zk.create("/b")  # only the next one was to be lost


def test_what_arrives_late_is_done_if_the_session_has_not_moved(
    memory: MemoryEnsemble, zk: Coordinator
) -> None:
    """The client has given up its link; the server reads it to its end all the same."""
    memory.blackhole(zk, down=False)
    setting = memory.begin(zk.set, "/", b"late", timeout=60.0)
    memory.refuse(zk)
    memory.advance(7.0)
    assert isinstance(setting.exception(turns.PATIENCE), ConnectionLossError)
    memory.mend(zk)
    memory.advance(1.0)
    assert zk.get("/").value == b"late"


def test_what_arrives_late_over_a_former_link_is_dropped(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """The session has moved: the server does not hear its former link any more."""
    memory.blackhole(zk, down=False)
    port = memory._port(zk)
    setting = memory.begin(zk.set, "/", b"late", timeout=60.0)
    memory.advance(7.0)
    assert isinstance(setting.exception(turns.PATIENCE), ConnectionLossError)
    (late,) = port._late
    port._late = []
    memory.mend(zk)
    memory.advance(1.0)
    assert zk.session.phase is Phase.CONNECTED
    port._late = [late]  # it comes after the new link was made
    memory.mend(zk)
    assert zk.get("/").value == b""


def test_a_stopped_process_notices_nothing(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Until it goes on: then by its clock the session has lapsed, and the server says that it is over."""
    told = Told(zk)
    memory.freeze(zk)
    memory.advance(15.0)
    assert told() == []
    assert memory.session_ids() == set()
    memory.thaw(zk)
    assert zk.session.phase is Phase.LAPSED
    memory.advance(1.0)
    assert told() == [*SUSPENDED, "session.lapsed", *RECOVERED]


def test_a_frozen_server(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Nothing is answered, and no session ends; what has timed out does when it goes on."""
    memory.freeze()
    reading = memory.begin(zk.get, "/", timeout=60.0)
    memory.advance(5.0)
    assert not reading.done()
    memory.thaw()
    assert reading.result(turns.PATIENCE).path == "/"
    memory.freeze()
    memory.advance(15.0)
    assert memory.session_ids() == {zk.session.session_id}
    memory.thaw()
    assert memory.session_ids() == set()


def test_a_read_only_session_leaves_no_watches(memory: MemoryEnsemble) -> None:
    """It ends with the want of a quorum, and so does what it watched."""
    memory.lose_quorum()
    with memory.coordinator(read_only=True) as reader:
        reader.watch("/a")
        memory.regain_quorum()
        memory.advance(2.0)
        assert memory.watches() == {"/a": {reader.session.session_id}}


def test_without_a_quorum(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Who accepts that reads, on a session of its own; the others find nobody; theirs is still there then."""
    with memory.coordinator(read_only=True) as reader:
        worker = zk.ephemeral("/w")
        before = reader.session.session_id
        memory.lose_quorum()
        memory.advance(1.0)
        assert reader.session.read_only
        assert reader.session.session_id != before
        assert reader.get("/").value == b""
        with pytest.raises(ReadOnlyError):
            reader.create("/a")
        assert zk.session.phase is Phase.SUSPENDED
        memory.advance(60.0)
        memory.regain_quorum()
        memory.advance(2.0)
        assert not reader.session.read_only
        assert (zk.session.epoch, worker.present) == (1, True)
        reader.create("/a")


# -- what a client is


def test_a_chroot(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """All paths are below it, also in what is answered and refused."""
    with pytest.raises(MissingChrootError):
        memory.coordinator("memory:2181/prod").start()
    zk.create("/prod")
    with memory.coordinator("memory:2181/prod") as below:
        assert below.create("/a") == "/a"
        assert below.create("/a/s-", sequential=True) == "/a/s-0000000000"
        assert below.children("/") == ("a",)
        with pytest.raises(CoordinatorError, match=r"no such znode: /none$"):
            below.get("/none")
        with pytest.raises(CoordinatorError, match=r"operation 1 \(set /a\): another version than 7: /a$"):
            below.transaction().create("/b").set("/a", b"", version=7).commit()
        with pytest.raises(CoordinatorError, match=r"operation 0 \(check /\): another version than 7: /$"):
            below.transaction().check("/", version=7).commit()
        assert below.transaction().create("/b").commit() == ("/b",)
    assert zk.children("/prod") == ("a", "b")


def test_who_is_known(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Credentials and ACLs are those of a server; a scheme that it does not know ends the client."""
    with memory.coordinator(auth="digest:bob:secret", acl="creator") as bob:
        bob.create("/b", b"x")
        assert bob.get("/b").value == b"x"
        with pytest.raises(NoAuthError):
            zk.get("/b")
    with pytest.raises(AuthFailedError):
        memory.coordinator(auth="kerberos:bob").start()


def test_other_hosts_lead_to_the_same(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """The link moves to one that is listed."""
    told = Told(zk)
    zk.set_hosts("zk1:2181,zk2:2181")
    memory.settle()
    assert told() == ["ensemble.changed", *SUSPENDED, *RESUMED]
    assert (zk.session.server, zk.session.epoch) == ("zk1:2181", 1)
    memory.refuse(zk)
    memory.cut(zk)
    memory.advance(1.0)
    failed = [event for event in told.all() if event.kind == "connection.failed"]
    assert {event.server for event in failed} == {"zk1:2181", "zk2:2181"}
    assert {event.cause for event in failed} == {"refused"}


def test_what_needs_a_server(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """It is said, not left out."""
    with pytest.raises(ConfigurationError, match="no kazoo client"):
        _ = zk.kazoo
    for name, value in (("tls", True), ("sasl", object()), ("follow_reconfig", True)):
        with pytest.raises(ConfigurationError, match=f"{name} needs a server"):
            memory.coordinator(**{name: value})
    with pytest.raises(ConfigurationError, match="session_timeout"):
        memory.coordinator(session_timeout=-1)
    with pytest.raises(ConfigurationError, match="tick"):
        MemoryEnsemble(tick=0)


def test_the_environment_is_not_looked_at(memory: MemoryEnsemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test is the same wherever it runs."""
    monkeypatch.setenv("COORDINATOR_HOSTS", "elsewhere:2181/prod")
    monkeypatch.setenv("COORDINATOR_FOLLOW_RECONFIG", "1")
    with memory.coordinator() as zk:
        assert zk.hosts == "memory:2181"


def test_no_session_in_time(memory: MemoryEnsemble) -> None:
    """start() gives up by the ensemble's clock."""
    zk = memory.coordinator(start_timeout=3.0)
    memory.lose_quorum()
    starting = memory.begin(zk.start)
    memory.advance(3.0)
    error = starting.exception(turns.PATIENCE)
    assert isinstance(error, StartError)
    assert error.cause == "handshake"


# -- the end


@pytest.mark.parametrize("fault", ["cut", "refuse", "blackhole", "freeze"])
def test_closing_does_not_wait(memory: MemoryEnsemble, fault: str) -> None:
    """Whatever the link is: time does not have to be advanced for it."""
    before = memory.now
    with memory.coordinator() as zk:
        zk.ephemeral("/w")
        told = Told(zk)
        getattr(memory, fault)(*([] if fault == "freeze" else [zk]))
        if fault == "refuse":
            memory.cut(zk)
    assert told()[-1] == "session.closed"
    assert memory.now == before
    assert bool(memory.session_ids()) is (fault != "cut")  # it can come back before it ends
    memory.thaw()
    memory.advance(11.0)
    assert memory.session_ids() == set()


def test_a_stopped_process_goes_on_to_close(memory: MemoryEnsemble) -> None:
    """close() does not wait for a thaw() that nobody calls."""
    with memory.coordinator() as zk:
        told = Told(zk)
        memory.freeze(zk)
        memory.advance(15.0)
    assert told()[-1] == "session.closed"


def test_the_end_of_the_ensemble_ends_its_coordinators() -> None:
    """Also those that were forgotten, or whose process is stopped."""
    with MemoryEnsemble() as memory:
        one, other = memory.coordinator().start(), memory.coordinator().start()
        streams = [one.events(), other.events()]
        memory.freeze(other)
    assert [list(stream)[-1].kind for stream in streams] == ["session.closed"] * 2


async def test_for_an_event_loop(memory: MemoryEnsemble) -> None:
    """The other face, on the same ensemble."""
    async with memory.async_coordinator() as zk:
        events = zk.events()
        await events.next(1)
        worker = await zk.ephemeral("/w")
        assert (await events.next(1)).kind == "ephemeral.created"
        memory.expire(zk)
        memory.advance(1.0)
        await worker.wait_present(1)
        assert [(await events.next(1)).kind for _ in range(7)][-2:] == [
            "recovery.started",
            "ephemeral.recreated",
        ]
        assert memory.ephemerals() == {zk.session.session_id: {"/w"}}


def test_no_data_is_shown(memory: MemoryEnsemble, zk: Coordinator) -> None:
    """Not in a repr of what a test holds."""
    zk.create("/a", b"top-secret")
    shown = repr((memory, zk, memory._server, memory._port(zk).faults, memory._port(zk).link))
    assert "top-secret" not in shown
    assert "1 sessions" in repr(memory)


# -- the documentation


TESTING = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
SECTION = TESTING.partition("\n## Without a server\n")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    """Otherwise the test below would see nothing."""
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example(code: str) -> None:
    """What is shown runs."""
    exec(compile(code, "testing.md", "exec"), {})


def test_every_method_is_told_of() -> None:
    """In the section, under its name."""
    public = {name for name in vars(MemoryEnsemble) if not name.startswith("_")}
    assert {name for name in public if not re.search(rf"\b{name}\b", SECTION)} == set()
