"""The handler without a ZooKeeper: direct results, waiting, attempts, threads."""

from __future__ import annotations

import logging
import random
import socket
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kazoo.client import KazooClient
from kazoo.handlers.threading import AsyncResult, KazooTimeoutError
from kazoo.protocol.states import Callback
from kazoo.retry import ForceRetryError, KazooRetry

from coordinator.engine import clock
from coordinator.engine.handler import KazooHandler
from coordinator.engine.link import Link
from coordinator.engine.results import DirectResult, DirectWatch
from coordinator.engine.rounds import Backoff, Passes, server_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 5.0
CONNECTED = struct.pack("!iiiqi16s?", 37, 0, 900, 77, 16, b"p" * 16, False)


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str, float | None]] = []
        self.details: list[str] = []
        self.passes: list[bool] = []
        self.beats: list[float] = []
        self.enough = threading.Event()
        self.wanted = 1

    def attempt_failed(self, server: str, cause: str, detail: str, next_try_in: float | None) -> None:
        self.failed.append((server, cause, next_try_in))
        self.details.append(detail)

    def pass_failed(self, *, refused: bool) -> None:
        self.passes.append(refused)
        if len(self.passes) >= self.wanted:
            self.enough.set()

    def heartbeat(self, rtt: float, sent_at: float) -> None:
        self.beats.append(rtt)

    def connection_ended(self) -> None:
        """Ignore it."""


@pytest.fixture
def handler() -> Iterator[KazooHandler]:
    handler = KazooHandler()
    yield handler
    handler.stop()


def in_connection_thread(handler: KazooHandler, function: Callable[[], object]) -> threading.Thread:
    """Run a function where kazoo runs its loop."""

    def zk_loop() -> None:
        function()

    return handler.spawn(zk_loop)


def retry(handler: KazooHandler) -> KazooRetry:
    return KazooRetry(
        max_tries=-1, delay=0.1, backoff=1, max_jitter=0.0, max_delay=0.1, sleep_func=handler.sleep_func
    )


@contextmanager
def connecting(hosts: str, heard: Heard, *, timeout: float = 2.0, **options: Any) -> Iterator[KazooHandler]:
    """A kazoo client that tries to connect, with our handler."""
    handler = KazooHandler(listener=heard, max_delay=0.05, **options)
    client = KazooClient(
        hosts, handler=handler, timeout=timeout, connection_retry=retry(handler), randomize_hosts=False
    )
    handler.connector.hosts = client.hosts
    client.start_async()
    try:
        yield handler
    finally:
        handler.abort()
        client.stop()
        client.close()


# -- direct results -----------------------------------------------------------------------------------------


def test_only_under_direct_results_are_direct(handler: KazooHandler) -> None:
    """Users' own kazoo results stay what they were, also in other threads at the same time."""
    elsewhere: list[object] = []
    with handler.direct():
        with handler.direct():
            assert isinstance(handler.async_result(), DirectResult)
        assert isinstance(handler.async_result(), DirectResult)
        thread = threading.Thread(target=lambda: elsewhere.append(handler.async_result()))
        thread.start()
        thread.join()
    assert isinstance(elsewhere[0], AsyncResult)
    assert isinstance(handler.async_result(), AsyncResult)


def test_links_are_called_in_order_by_who_sets(handler: KazooHandler) -> None:
    """Registration order, the setting thread, and a late link at once."""
    result = DirectResult(handler)
    called: list[tuple[object, int]] = []
    for number in range(5):
        result.rawlink(lambda _, number=number: called.append((number, threading.get_ident())))  # type: ignore[misc]
    thread = threading.Thread(target=result.set, args=("value",))
    thread.start()
    thread.join()
    assert called == [(number, thread.ident) for number in range(5)]
    result.rawlink(lambda each: called.append((each.value, threading.get_ident())))
    assert called[5] == ("value", threading.get_ident())


def test_the_first_set_counts(handler: KazooHandler) -> None:
    """kazoo sets some results twice; nobody is called twice."""
    result = DirectResult(handler)
    called: list[object] = []
    result.rawlink(lambda each: called.append(each.value))
    result.set(1)
    result.set(2)
    result.set_exception(ValueError())
    assert called == [1]
    assert result.get() == 1
    assert result.successful()
    assert result.exception is None


def test_an_exception_is_kept_and_raised(handler: KazooHandler) -> None:
    """As with kazoo's own."""
    result = DirectResult(handler)
    assert result.exception is None
    result.set_exception(ValueError("why"))
    result.set(1)
    assert (result.ready(), result.successful()) == (True, False)
    assert isinstance(result.exception, ValueError)
    with pytest.raises(ValueError, match="why"):
        result.get_nowait()


def test_a_link_that_raises_is_logged_and_the_next_called(
    handler: KazooHandler, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of ours never reaches kazoo's loop, which it would end for good."""
    result = DirectResult(handler)
    called: list[object] = []
    result.rawlink(lambda _: 1 / 0)
    result.rawlink(called.append)
    result.set(None)
    assert called == [result]
    assert "link of a direct result failed" in caplog.text


def test_what_a_link_asks_of_kazoo_is_direct_again(handler: KazooHandler) -> None:
    """kazoo's chains (create with makepath) make further results in the connection thread."""
    made: list[object] = []
    result = DirectResult(handler)
    result.rawlink(lambda _: made.append(handler.async_result()))
    result.set(None)
    assert isinstance(made[0], DirectResult)
    assert isinstance(handler.async_result(), AsyncResult)


def test_an_unlinked_callback_is_not_called(handler: KazooHandler) -> None:
    """As with kazoo's own, before and after."""
    result = DirectResult(handler)
    called: list[object] = []
    result.rawlink(called.append)
    result.unlink(called.append)
    result.set(1)
    result.unlink(called.append)
    assert called == []


def test_waiting_ends_with_the_set_or_the_time(handler: KazooHandler) -> None:
    """get and wait block without a condition of their own until somebody waits."""
    result = DirectResult(handler)
    assert not result.wait(0.01)
    with pytest.raises(KazooTimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(KazooTimeoutError):
        result.get_nowait()
    timer = threading.Timer(0.02, result.set, args=(7,))
    timer.start()
    assert result.get(timeout=LIMIT) == 7
    timer.join()
    assert result.wait()


def test_no_link_is_lost_between_threads(handler: KazooHandler) -> None:
    """A link registered while the result is set is called exactly once."""
    for _ in range(300):
        result = DirectResult(handler)
        called: list[object] = []
        setter = threading.Thread(target=result.set)
        setter.start()
        result.rawlink(called.append)
        setter.join()
        assert called == [result]


def test_a_direct_watch_is_called_at_once(handler: KazooHandler, caplog: pytest.LogCaptureFixture) -> None:
    """In the thread that dispatches; what it raises is logged."""
    called: list[tuple[object, int]] = []
    watch = DirectWatch(lambda event: called.append((event, threading.get_ident())))
    handler.dispatch_callback(Callback("watch", watch, ("event",)))
    assert called == [("event", threading.get_ident())]
    handler.dispatch_callback(Callback("watch", DirectWatch(lambda _: 1 / 0), ("event",)))
    assert "direct watch failed" in caplog.text


def test_other_watches_go_to_kazoos_thread(handler: KazooHandler) -> None:
    """Users' callbacks may block there without harm."""
    handler.start()
    names: list[str] = []
    done = threading.Event()

    def watch(_: object) -> None:
        names.append(threading.current_thread().name)
        done.set()

    handler.dispatch_callback(Callback("watch", watch, ("event",)))
    assert done.wait(LIMIT)
    assert names == ["coordinator-kazoo-watches"]


# -- threads ------------------------------------------------------------------------------------------------


def test_threads_bear_the_name_and_survive_callbacks_that_raise(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks at a stuck process sees whose threads these are."""
    handler = KazooHandler(name="orders")
    handler.start()
    handler.start()
    names: list[str] = []
    done = threading.Event()
    handler.completion_queue.put(lambda: 1 / 0)
    handler.completion_queue.put(lambda: names.append(threading.current_thread().name))
    handler.completion_queue.put(done.set)
    assert done.wait(LIMIT)
    thread = in_connection_thread(handler, lambda: names.append(threading.current_thread().name))
    thread.join()
    handler.stop()
    assert names == ["orders-kazoo-completions", "orders-kazoo-connection"]
    assert "a callback failed in orders-kazoo-completions" in caplog.text


def test_a_callback_that_blocks_does_not_hang_stop(caplog: pytest.LogCaptureFixture) -> None:
    """After a second the thread is left behind, and named in the log."""
    handler = KazooHandler()
    handler.start()
    release = threading.Event()
    handler.callback_queue.put(release.wait)
    begun = time.monotonic()
    handler.stop()
    took = time.monotonic() - begun
    release.set()
    assert 0.9 < took < 2.0
    assert "coordinator-kazoo-watches did not stop in 1.0 s" in caplog.text


def test_stop_may_be_called_in_a_callback() -> None:
    """It does not wait for itself, and a second stop has nothing to do."""
    handler = KazooHandler()
    handler.start()
    stopped = threading.Event()

    def stop() -> None:
        handler.stop()
        stopped.set()

    handler.completion_queue.put(stop)
    assert stopped.wait(LIMIT)
    handler.stop()
    assert not handler.running


def test_it_starts_again_after_a_stop() -> None:
    """kazoo restarts the same handler."""
    handler = KazooHandler()
    for _ in range(2):
        handler.start()
        done = threading.Event()
        handler.callback_queue.put(done.set)
        assert done.wait(LIMIT)
        handler.stop()


# -- waiting ------------------------------------------------------------------------------------------------


class Wire:
    """An established link of a handler, its far end, and the wake channel; timeout 0.9 s."""

    def __init__(self, handler: KazooHandler) -> None:
        near, self.far = socket.socketpair()
        near.settimeout(0)
        self.far.settimeout(LIMIT)
        self.handler = handler
        self.link = Link(near, "zk1:2181")
        handler.connector._link = self.link
        self.wake = handler.create_socket_pair()[0]
        self.link.send(struct.pack("!iiqiqi16s?", 45, 0, 0, 900, 0, 16, b"p" * 16, False))
        self.far.recv(100)
        self.far.sendall(CONNECTED)
        assert self.link.recv(41) == CONNECTED

    def select(self, timeout: float | None) -> list[Any]:
        ready: list[Any] = self.handler.select([self.link, self.wake], [], [], timeout)[0]
        return ready

    def ping(self) -> None:
        self.link.send(struct.pack("!iii", 8, -2, 11))

    def event(self) -> None:
        self.far.sendall(struct.pack("!iiqi", 16, -1, -1, 0))


@pytest.fixture
def wire(handler: KazooHandler) -> Iterator[Wire]:
    wire = Wire(handler)
    yield wire
    wire.link.close()
    wire.far.close()
    wire.wake.close()


def test_select_reports_descriptors_and_objects(handler: KazooHandler) -> None:
    """As select.select: ints, sockets, reading and writing."""
    left, right = socket.socketpair()
    with left, right:
        assert handler.select([left], [], [], 0) == ([], [], [])
        assert handler.select([left.fileno()], [left], [], 0) == ([], [left], [])
        right.send(b"x")
        assert handler.select([left.fileno()], [left], [], None) == ([left.fileno()], [left], [])
    with pytest.raises(ValueError, match="negative"):
        handler.select([left], [], [], 0)


def test_what_was_read_ahead_is_ready_without_the_kernel(wire: Wire) -> None:
    """A buffered reply must not wait for the next one."""
    wire.event()
    wire.link.recv(1)
    assert wire.select(LIMIT) == [wire.link]


def test_a_request_is_seen_beside_buffered_replies(wire: Wire) -> None:
    """Replies do not starve requests, nor requests replies."""
    wire.event()
    wire.link.recv(1)
    wire.wake.send(b"\0")
    assert wire.select(LIMIT) == [wire.link, wire.wake]
    wire.link.recv(100)
    wire.event()
    assert set(wire.select(LIMIT)) == {wire.link, wire.wake}


def test_a_request_wakes_the_loop(wire: Wire) -> None:
    """From another thread, while it sleeps in poll."""
    timer = threading.Timer(0.05, wire.wake.send, args=(b"\0",))
    timer.start()
    assert wire.select(LIMIT) == [wire.wake]
    timer.join()


def test_an_idle_link_is_not_dropped(wire: Wire) -> None:
    """Nothing is owed: the time-out is kazoo's cue to send a ping, no fault."""
    assert wire.select(0.01) == []
    assert not wire.link.dead


def test_an_unanswered_ping_dies_before_kazoo_is_told(wire: Wire) -> None:
    """kazoo drops a link after an idle select with a ping outstanding: the gate is shut by then."""
    wire.ping()
    assert wire.select(0.01) == [wire.link]
    assert wire.link.dead
    assert wire.link.recv(4) == b""


@pytest.mark.parametrize("reading", [True, False])
def test_a_wait_for_one_socket_that_times_out_is_death(wire: Wire, reading: bool) -> None:
    """kazoo raises after an empty select in _read and _write."""
    wire.link.writable = False
    filler = b"x" * 100_000
    while not reading:
        try:
            wire.link._sock.send(filler)
        except BlockingIOError:
            break
    sockets = [wire.link]
    answer = wire.handler.select(sockets if reading else [], [] if reading else sockets, [], 0.01)
    assert answer == ([], [], [])
    assert wire.link.dead


def test_silence_is_noticed_in_an_endless_wait(wire: Wire) -> None:
    """poll never sleeps past the deadline: 0.6 s of a timeout of 0.9 s."""
    begun = clock.now()
    wire.ping()
    assert wire.select(None) == [wire.link]
    assert 0.55 < clock.now() - begun < 0.8
    assert wire.link.dead
    assert wire.link.cause == "silence"


def test_silence_is_noticed_under_traffic_in_both_directions(wire: Wire) -> None:
    """Requests that leave and events that arrive hide nothing (kazoo's own detection needs an idle link)."""
    begun = clock.now()
    while not wire.link.dead and clock.now() < begun + LIMIT:
        wire.link.send(struct.pack("!iii", 8, 5, 3))
        wire.event()
        wire.wake.send(b"\0")
        assert wire.select(0.01)
        wire.link.recv(20)
        wire.far.recv(1000)
    assert 0.55 < clock.now() - begun < 0.9
    assert wire.link.cause == "silence"


def test_answers_that_we_were_too_slow_to_read_are_no_silence(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a listener has blocked the loop for long, the kernel's buffer is read before judging."""
    wire.link.send(struct.pack("!iii", 8, 5, 3))
    wire.link.contact = clock.now()
    event = struct.pack("!iiqi", 16, -1, -1, 0)
    wire.far.sendall(event * 5000 + struct.pack("!iiqi", 16, 5, 1, 0))
    begun = clock.now()
    monkeypatch.setattr(clock, "now", lambda: begun + 60)
    assert wire.select(None) == [wire.link]
    assert not wire.link.dead
    assert wire.link.outstanding == 0


# -- passes and attempts ------------------------------------------------------------------------------------


def test_kazoo_sleeps_once_per_failed_pass() -> None:
    """With this retry, a pass is one call of sleep_func: 0.1 * 1.0 leaves no rest for a second slice."""
    slept: list[float] = []
    policy = KazooRetry(
        max_tries=-1, delay=0.1, backoff=1, max_jitter=0.0, max_delay=0.1, sleep_func=slept.append
    )
    policy.interrupt = lambda: False
    passes = 0

    def one_pass() -> str:
        nonlocal passes
        passes += 1
        if passes == 10_000:
            return "connected"
        if passes % 7 == 0:
            policy.reset()
        raise ForceRetryError("Reconnecting")

    assert policy(one_pass) == "connected"
    assert slept == [0.1] * 9_999


@pytest.mark.parametrize(
    ("announced", "slept"), [(True, [0.02, 0.04]), (False, [0.02, 0.1, 0.1, 0.04, 0.1, 0.1])]
)
def test_a_pause_that_kazoo_cuts_into_slices_is_one(
    monkeypatch: pytest.MonkeyPatch, announced: bool, slept: list[float]
) -> None:
    """The first slice is our pause; the others are nothing where rounds are announced, else as kazoo says."""
    heard, pauses = Heard(), []
    handler = KazooHandler(random=Highest())
    handler.connector.listen(heard, [("zk.invalid", 1)] if announced else (), announced=announced)
    monkeypatch.setattr(handler.connector._dialler, "pause", lambda seconds, *_: pauses.append(seconds))
    monkeypatch.setattr(handler.connector, "_why_unresolved", lambda *_: "unknown")

    def two_rounds() -> None:
        for _ in range(2):
            handler.connector.begin_pass()
            for _ in range(3):
                handler.sleep_func(0.1)

    in_connection_thread(handler, two_rounds).join(LIMIT)
    assert [pause for pause in pauses if pause] == slept
    if announced:
        assert [cause for _, cause, _ in heard.failed] == ["dns", "dns"]


def test_the_pauses_are_drawn_with_full_jitter() -> None:
    """uniform(0, min(ceiling, first * 2**n)), from a seeded source, and again from the first after a link."""
    backoff = Backoff(0.02, 1.0, random.Random(7))
    expected = random.Random(7)
    for bound in (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0):
        assert backoff.draw() == expected.uniform(0.0, bound)
    backoff.reset()
    assert backoff.draw() == expected.uniform(0.0, 0.02)
    for _ in range(2000):
        assert backoff.draw() <= 1.0


class Highest:
    """Draws the bound itself."""

    def uniform(self, _: float, high: float, /) -> float:
        return high


def test_the_last_failure_of_a_pass_tells_when_the_next_begins() -> None:
    """The others are followed by another host at once."""
    heard = Heard()
    passes = Passes(heard, Backoff(0.02, 1.0, Highest()))
    hosts = [("a", 1), ("b", 1), ("c", 1)]
    for expected in (0.02, 0.04):
        for host, port in hosts[:2]:
            passes.attempted(host, port)
            passes.failed(server_name(host, port), "refused", "no")
        assert passes.ended(hosts, lambda *_: "unknown") == expected
        assert heard.failed == [("a:1", "refused", None), ("b:1", "refused", None), ("c:1", "dns", expected)]
        heard.failed.clear()
    assert heard.passes == [False, False]


def test_a_pass_is_refused_when_every_handshake_was() -> None:
    """Not when one host could not be reached, nor when a link stood in the middle of it."""
    heard = Heard()
    passes = Passes(heard, Backoff(0.02, 1.0, Highest()))
    for causes in (("handshake", "handshake"), ("handshake", "refused")):
        for host, cause in zip("ab", causes, strict=True):
            passes.attempted(host, 1)
            passes.failed(host, cause, "")
        passes.ended([("a", 1), ("b", 1)], lambda *_: "")
    passes.attempted("a", 1)
    passes.reached()
    passes.attempted("b", 1)
    passes.failed("b", "handshake", "")
    passes.ended([("a", 1), ("b", 1)], lambda *_: "")
    assert heard.passes == [True, False, False]


def test_the_end_of_a_link_is_no_failed_pass() -> None:
    """The pause after a cut is a first one, and nothing is told: the session machine knows already."""
    heard = Heard()
    passes = Passes(heard, Backoff(0.02, 1.0, Highest()))
    for _ in range(4):
        passes.attempted("a", 1)
        passes.failed("a", "refused", "")
        passes.ended([("a", 1)], lambda *_: "")
    passes.attempted("a", 1)
    passes.reached()
    assert passes.ended([("a", 1), ("b", 1)], lambda *_: "") == 0.02
    assert len(heard.passes) == 4


def test_a_server_is_named_as_people_write_it() -> None:
    """IPv6 in brackets."""
    assert (server_name("zk1", 2181), server_name("::1", 2181)) == ("zk1:2181", "[::1]:2181")


def test_a_refusing_host_is_told_once_per_pass() -> None:
    """Cause, server and the pause that was really drawn."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    heard = Heard()
    heard.wanted = 3
    with connecting(f"127.0.0.1:{port}", heard, random=Highest()):
        assert heard.enough.wait(LIMIT)
    name = f"127.0.0.1:{port}"
    assert heard.failed[:3] == [(name, "refused", 0.02), (name, "refused", 0.04), (name, "refused", 0.05)]
    assert heard.details[0] == "Connection refused"
    assert heard.passes[:3] == [False] * 3


def test_a_name_with_two_addresses_is_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """kazoo tries each address of a name; people configured one host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = [(socket.AF_INET, 1, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    heard = Heard()
    heard.wanted = 2
    with connecting(f"zk.example:{port}", heard):
        assert heard.enough.wait(LIMIT)
    assert [server for server, _, _ in heard.failed[:2]] == [f"zk.example:{port}"] * 2
    assert all(pause is not None for _, _, pause in heard.failed[:2])


def test_a_name_that_does_not_resolve_is_told_as_such() -> None:
    """kazoo leaves such a host out in silence; the others are tried all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    heard = Heard()
    with connecting(f"no-such-host.invalid:2181,127.0.0.1:{port}", heard):
        assert heard.enough.wait(30)
    assert [each[:2] for each in heard.failed[:2]] == [
        (f"127.0.0.1:{port}", "refused"),
        ("no-such-host.invalid:2181", "dns"),
    ]
    assert heard.failed[0][2] is None
    assert heard.failed[1][2] is not None
    assert heard.details[1]


class Doorman(threading.Thread):
    """A server that takes connections and answers as told: nothing and closes, or nothing at all."""

    def __init__(self, *, closes: bool) -> None:
        super().__init__(name="doorman")
        self.closes = closes
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.guests: list[socket.socket] = []

    def run(self) -> None:
        while True:
            try:
                guest, _ = self.server.accept()
            except OSError:
                return
            self.guests.append(guest)
            if self.closes:
                guest.settimeout(LIMIT)
                guest.recv(1000)
                guest.close()

    def __enter__(self) -> Doorman:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.join()
        for guest in self.guests:
            guest.close()


def test_a_pass_of_refused_handshakes() -> None:
    """An ensemble that was wiped closes every connection without an answer."""
    heard = Heard()
    with (
        Doorman(closes=True) as one,
        Doorman(closes=True) as two,
        connecting(f"127.0.0.1:{one.port},127.0.0.1:{two.port}", heard),
    ):
        assert heard.enough.wait(LIMIT)
    assert [cause for _, cause, _ in heard.failed[:2]] == ["handshake", "handshake"]
    assert heard.failed[0][2] is None
    assert heard.failed[1][2] is not None
    assert heard.passes[0] is True


def test_a_silent_server_times_out() -> None:
    """It took the connection and never answered: `timeout`, and no refusal."""
    heard = Heard()
    with Doorman(closes=False) as mute, connecting(f"127.0.0.1:{mute.port}", heard, timeout=0.4):
        assert heard.enough.wait(LIMIT)
    assert heard.failed[0][1] == "timeout"
    assert heard.passes[0] is False


def test_abort_ends_a_handshake_that_nobody_answers() -> None:
    """Stopping does not wait for the time-out of 30 s; nothing is reported of what we did ourselves."""
    heard = Heard()
    with Doorman(closes=False) as mute:
        with connecting(f"127.0.0.1:{mute.port}", heard, timeout=30.0) as handler:
            deadline = time.monotonic() + LIMIT
            while handler.link is None and time.monotonic() < deadline:
                threading.Event().wait(0.01)
            begun = time.monotonic()
        assert time.monotonic() - begun < 0.5
    assert heard.failed == []


def test_sleep_elsewhere_is_sleep(handler: KazooHandler) -> None:
    """Users' retries and kazoo's recipes use the same sleep_func."""
    begun = time.monotonic()
    handler.sleep_func(0.05)
    assert time.monotonic() - begun >= 0.05


def test_a_failed_pass_pauses_for_our_own_time() -> None:
    """Not for the seconds that kazoo asks for; and at most until the abort."""
    handler = KazooHandler(first_delay=30.0, max_delay=30.0, random=Highest())
    begun = time.monotonic()
    thread = in_connection_thread(handler, lambda: handler.sleep_func(0.0))
    thread.join(0.1)
    assert thread.is_alive()
    handler.abort()
    thread.join(LIMIT)
    assert time.monotonic() - begun < 1.0


def test_only_the_sessions_own_connects_make_a_link(handler: KazooHandler) -> None:
    """From the connection thread and with a name; kazoo's search for a read-write server opens nothing."""
    made: dict[str, object] = {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        made["command"] = handler.create_connection(address, hostname=address[1], timeout=1.0)

        def loop() -> None:
            made["probe"] = probe = handler.create_connection(address)
            probe.sendall(b"isro")
            assert probe.recv(8192) == b"ro"
            made["command in the loop"] = handler.create_connection(address, hostname=address[1], timeout=1.0)
            assert handler.link is None
            made["session"] = handler.create_connection(address=address, hostname="localhost", timeout=1.0)

        in_connection_thread(handler, loop).join(LIMIT)
        assert {name: isinstance(each, Link) for name, each in made.items()} == {
            "command": False,
            "probe": False,
            "command in the loop": False,
            "session": True,
        }
        assert handler.link is made["session"]
        for each in made.values():
            each.close()  # type: ignore[attr-defined]
    assert handler.link is None


def test_a_heartbeat_listener_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It must not end kazoo's loop."""

    class Broken(Heard):
        def heartbeat(self, rtt: float, sent_at: float) -> None:
            raise RuntimeError("broken")

    handler = KazooHandler(listener=Broken())
    with caplog.at_level(logging.ERROR):
        handler.connector._heartbeat(0.1, 1.0)
    assert "listener failed" in caplog.text


def test_time_goes_on_while_the_machine_sleeps() -> None:
    """The clock is CLOCK_BOOTTIME where there is one."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("no CLOCK_BOOTTIME")
    assert abs(clock.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1.0
