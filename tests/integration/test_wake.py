"""The wake channel, and connects that can be called off."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordinator.engine.dial import Dialler, cause_of, connect, resolve
from coordinator.engine.wake import WakeChannel, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 5.0


@pytest.fixture(params=[False, True], ids=["eventfd", "pipe"])
def channel(request: pytest.FixtureRequest) -> Iterator[WakeChannel]:
    channel = WakeChannel(portable=request.param)
    yield channel
    channel.close()


@pytest.fixture
def deaf() -> Iterator[tuple[str, int]]:
    """An address where connects hang: it listens, and its queue of connections is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    fillers = []
    while True:
        filler = socket.socket()
        fillers.append(filler)
        filler.settimeout(0.2)
        try:
            filler.connect(address)
        except TimeoutError:
            break
    yield address
    for each in (*fillers, listener):
        each.close()


def rung(channel: WakeChannel) -> bool:
    return any(wait_for([channel.fileno()], [], 0))


def test_requests_are_counted_without_limit(channel: WakeChannel) -> None:
    """More requests than any pipe holds never block the sender, and each is received once."""
    for _ in range(300_000):
        channel.send(b"\0")
    for _ in range(300_000):
        assert channel.recv(1) == b"\0"
    with pytest.raises(BlockingIOError):
        channel.recv(1)


def test_nothing_is_written_while_the_loop_is_awake(channel: WakeChannel) -> None:
    """A busy loop costs its callers no system call."""
    channel.send(b"\0")
    assert not channel.fall_asleep()
    channel.send(b"\0")
    assert not rung(channel)


def test_a_sleeper_is_rung_once(channel: WakeChannel) -> None:
    """However many requests arrive during a sleep, one read silences the descriptor."""
    assert channel.fall_asleep()
    for _ in range(1000):
        channel.send(b"\0")
    assert rung(channel)
    assert channel.wake_up()
    assert not rung(channel)
    assert channel.count == 1000


def test_a_sleep_that_nothing_ended_leaves_no_bell(channel: WakeChannel) -> None:
    """Waking up without work says so, and the next request rings again only in the next sleep."""
    assert channel.fall_asleep()
    assert not channel.wake_up()
    channel.send(b"\0")
    assert not rung(channel)


def test_a_request_from_another_thread_ends_the_sleep(channel: WakeChannel) -> None:
    """No request is overlooked between the last look and the sleep: 20,000 hand-overs, none waits."""
    total = 20_000
    taken = 0

    def produce() -> None:
        for _ in range(total):
            channel.send(b"\0")

    producer = threading.Thread(target=produce)
    producer.start()
    while taken < total:
        if channel.fall_asleep():
            assert any(wait_for([channel.fileno()], [], LIMIT)), "slept through a request"
            assert channel.wake_up()
        channel.recv(1)
        taken += 1
    producer.join()


def test_a_closed_channel_refuses(channel: WakeChannel) -> None:
    """kazoo turns the OSError of a closed channel into ConnectionClosedError."""
    channel.close()
    channel.close()
    assert channel.fileno() == -1
    with pytest.raises(OSError, match="closed"):
        channel.send(b"\0")
    with pytest.raises(OSError, match="closed"):
        channel.recv(1)


def test_the_descriptors_are_freed() -> None:
    """A client that comes and goes leaks no descriptor."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc")
    before = len(list(descriptors.iterdir()))
    for portable in (False, True):
        WakeChannel(portable=portable).close()
    assert len(list(descriptors.iterdir())) == before


def test_without_poll_kazoos_select_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no poll() the same answers come from selectors."""
    monkeypatch.delattr(select, "poll")
    left, right = socket.socketpair()
    with left, right:
        fd = left.fileno()
        assert wait_for([fd], [], 0) == (set(), set())
        assert wait_for([], [fd], 0) == (set(), {fd})
        right.send(b"x")
        assert wait_for([fd], [], LIMIT) == ({fd}, set())


def test_a_hang_up_is_readable_and_writable() -> None:
    """A dead socket is reported, whatever is waited for: the next call tells why."""
    left, right = socket.socketpair()
    with left:
        right.close()
        fd = left.fileno()
        assert wait_for([fd], [], LIMIT) == ({fd}, set())
        assert wait_for([], [fd], LIMIT) == (set(), {fd})
        assert wait_for([fd], [fd], LIMIT) == ({fd}, {fd})


def test_a_hanging_connect_is_called_off_at_once(deaf: tuple[str, int]) -> None:
    """Stopping never waits for a host that does not answer: less than 0.2 s."""
    dialler = Dialler()
    failures: list[OSError] = []
    begun = threading.Event()

    def dial() -> None:
        begun.set()
        try:
            dialler.dial([deaf], "deaf", 30.0)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=dial)
    thread.start()
    begun.wait(LIMIT)
    thread.join(0.1)
    assert thread.is_alive()
    called_off = time.monotonic()
    dialler.call_off()
    thread.join(LIMIT)
    assert time.monotonic() - called_off < 0.2
    assert isinstance(failures[0], ConnectionAbortedError)


def test_a_hanging_connect_times_out(deaf: tuple[str, int]) -> None:
    """A connect ends within its time, and says `timeout`."""
    begun = time.monotonic()
    with pytest.raises(TimeoutError) as raised:
        Dialler().dial([deaf], "deaf", 0.2)
    assert 0.15 < time.monotonic() - begun < 1.0
    assert cause_of(raised.value) == "timeout"


def test_a_silent_address_does_not_eat_the_time_of_the_next(deaf: tuple[str, int]) -> None:
    """Of two addresses of one name, the second is tried within the time of both."""
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = Dialler().dial([deaf, server.getsockname()], "two", 1.0)
        with sock:
            assert sock.getpeername() == server.getsockname()
    assert time.monotonic() - begun < 0.9


def test_after_calling_off_nothing_is_dialled_until_allowed() -> None:
    """Connects fail at once, pauses end at once; `allow` mends it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialler = Dialler()
        dialler.call_off()
        begun = time.monotonic()
        dialler.pause(30.0)
        with pytest.raises(ConnectionAbortedError):
            dialler.dial([server.getsockname()], "one", 30.0)
        assert time.monotonic() - begun < 0.2
        dialler.allow()
        dialler.dial([server.getsockname()], "one", LIMIT).close()


def test_a_pause_is_called_off_at_once() -> None:
    """A pause between passes does not hold up a stop."""
    dialler = Dialler()
    timer = threading.Timer(0.05, dialler.call_off)
    timer.start()
    begun = time.monotonic()
    dialler.pause(30.0)
    assert time.monotonic() - begun < 0.25
    timer.join()


def test_a_refused_connect_says_so() -> None:
    """A port where nobody listens is `refused`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    channel = WakeChannel()
    with pytest.raises(ConnectionRefusedError) as raised:
        connect(address, LIMIT, channel)
    channel.close()
    assert cause_of(raised.value) == "refused"


def test_a_connection_to_ourselves_is_refused() -> None:
    """TCP lets a socket connect to its own port when nobody listens there: that is no server."""
    for _ in range(200):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            own = probe.getsockname()
        channel = WakeChannel()
        monkey = _BoundTo(own)
        try:
            with pytest.raises(ConnectionRefusedError):
                monkey.connect(channel)
        finally:
            channel.close()
        if monkey.met_itself:
            return
    pytest.fail("no socket met itself")


class _BoundTo:
    """Connects to `address` from a socket bound to it, by way of a patched socket class."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.met_itself = False

    def connect(self, channel: WakeChannel) -> None:
        owner = self

        class Bound(socket.socket):
            def connect_ex(self, address: object, /) -> int:
                self.bind(owner.address)
                result = super().connect_ex(owner.address)
                owner.met_itself = self.getsockname() == owner.address
                return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("coordinator.engine.dial.socket.socket", Bound)
            connect(self.address, LIMIT, channel)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionResetError(errno.ECONNRESET, ""), "reset"),
        (OSError(errno.EHOSTUNREACH, ""), "unreachable"),
        (OSError(errno.ENETUNREACH, ""), "unreachable"),
        (socket.gaierror(socket.EAI_NONAME, ""), "dns"),
        (OSError(errno.EMFILE, ""), "other"),
    ],
)
def test_causes(error: OSError, cause: str) -> None:
    """Each kind of failure has its word."""
    assert cause_of(error) == cause


def test_the_error_that_tells_most_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one address refuses and the other has no route, `refused` is the news."""
    answers = iter([ConnectionRefusedError(errno.ECONNREFUSED, ""), OSError(errno.ENETUNREACH, "")])

    def fail(*_: object) -> socket.socket:
        raise next(answers)

    monkeypatch.setattr("coordinator.engine.dial.connect", fail)
    with pytest.raises(ConnectionRefusedError):
        Dialler().dial([("127.0.0.1", 1), ("127.0.0.1", 2)], "two", 1.0)


def test_kazoos_choice_comes_first_and_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up anew; where it has no address now, kazoo's old one is tried."""
    found = [(0, 0, 0, "", ("10.0.0.1", 1)), (0, 0, 0, "", ("10.0.0.2", 1))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert resolve("name", ("10.0.0.2", 1)) == [("10.0.0.2", 1), ("10.0.0.1", 1)]
    assert resolve("name", ("10.9.9.9", 1)) == [("10.0.0.1", 1), ("10.0.0.2", 1)]

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert resolve("name", ("10.0.0.2", 1)) == [("10.0.0.2", 1)]
