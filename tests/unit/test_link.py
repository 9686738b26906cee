"""What a link reads off the wire, and the order in which it dies."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import threading
from math import inf
from typing import TYPE_CHECKING

import pytest

from coordinator.engine import clock
from coordinator.engine.link import READ_AHEAD, Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SESSION = -0x7EFF_FFFF_FFFF_FFF0  # ids are signed
PASSWORD = b"never-keep-this!"
CONNECT = struct.pack("!iiqiqi16s?", 45, 0, 0, 4000, 0, 16, PASSWORD, False)
PING = struct.pack("!iii", 8, -2, 11)
CLOSE = struct.pack("!iii", 8, 9, -11)


def connected(timeout: int = 4000, *, read_only: bool | None = False) -> bytes:
    body = struct.pack("!iiqi16s", 0, timeout, SESSION, 16, PASSWORD)
    if read_only is not None:
        body += struct.pack("!?", read_only)
    return struct.pack("!i", len(body)) + body


def request(xid: int, size: int = 20) -> bytes:
    return struct.pack("!iii", 8 + size, xid, 4) + b"r" * size


def reply(xid: int, *, zxid: int = 0, error: int = 0, size: int = 20) -> bytes:
    return struct.pack("!iiqi", 16 + size, xid, zxid, error) + b"d" * size


class Peer:
    """A link and the server's end of it, on a clock that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        near, self.far = socket.socketpair()
        near.settimeout(0)
        self.far.settimeout(5)
        self.beats: list[tuple[float, float]] = []
        self.link = Link(near, "zk1:2181", lambda rtt, at: self.beats.append((rtt, at)))
        self.now = 100.0
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def say(self, data: bytes, at: float) -> None:
        self.now = at
        assert self.link.send(data) == len(data)
        assert len(self.far.recv(len(data), socket.MSG_WAITALL)) == len(data)

    def hear(self, data: bytes, at: float) -> None:
        self.now = at
        self.far.sendall(data)
        read = b""
        while len(read) < len(data):
            read += self.link.recv(len(data) - len(read))
        assert read == data

    def handshake(self, timeout: int = 4000) -> None:
        self.say(CONNECT, 100.0)
        self.hear(connected(timeout), 100.5)

    def close(self) -> None:
        self.link.close()
        self.far.close()


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    peer = Peer(monkeypatch)
    yield peer
    peer.close()


@pytest.fixture
def up(peer: Peer) -> Peer:
    peer.handshake()
    return peer


def test_a_connect_response_establishes_the_link(peer: Peer) -> None:
    """The negotiated timeout and the id are known; contact is when the ConnectRequest was sent."""
    assert not peer.link.established
    assert peer.link.contact == -inf
    peer.handshake()
    assert peer.link.established
    assert (peer.link.timeout, peer.link.session_id, peer.link.read_only) == (4.0, SESSION, False)
    assert peer.link.contact == 100.0


@pytest.mark.parametrize(("flag", "read_only"), [(None, False), (False, False), (True, True)])
def test_the_read_only_flag_may_be_absent(peer: Peer, flag: bool | None, read_only: bool) -> None:
    """Servers before 3.4 do not send it."""
    peer.say(CONNECT, 100.0)
    peer.hear(connected(read_only=flag), 100.1)
    assert peer.link.read_only is read_only
    peer.say(request(1), 101.0)
    peer.hear(reply(1), 102.0)
    assert peer.link.contact == 101.0


def test_a_timeout_of_zero_means_expired(peer: Peer) -> None:
    """An expired session is no contact, and no request may follow."""
    peer.say(CONNECT, 100.0)
    peer.hear(connected(0), 100.1)
    assert (peer.link.established, peer.link.expired, peer.link.dead) == (False, True, True)
    assert peer.link.contact == -inf


def test_contact_is_the_send_time_of_what_was_answered(up: Peer) -> None:
    """Sending proves nothing, nor does the time of receipt."""
    up.say(request(1), 101.0)
    up.say(request(2), 102.0)
    assert up.link.contact == 100.0
    up.hear(reply(1), 103.0)
    assert up.link.contact == 101.0
    assert up.link.outstanding == 1
    up.hear(reply(2), 104.0)
    assert up.link.contact == 102.0
    assert up.link.outstanding == 0


def test_a_watch_event_proves_nothing(up: Peer) -> None:
    """Events arrive on a connection whose requests no longer do (facts, E18)."""
    up.say(request(1), 101.0)
    up.hear(reply(-1, zxid=-1) * 50, 103.0)
    assert up.link.contact == 100.0
    assert up.link.outstanding == 1
    assert up.link.last_zxid == 0


def test_pings_and_replies_are_matched_apart(up: Peer) -> None:
    """A ping that overtakes a reply takes nobody else's send time."""
    up.say(request(1), 101.0)
    up.say(PING, 102.0)
    up.hear(reply(-2, size=0), 102.25)
    assert up.link.contact == 102.0
    assert up.beats == [(0.25, 102.0)]
    assert up.link.rtt == 0.25
    up.hear(reply(1), 103.0)
    assert up.link.contact == 102.0
    assert up.link.outstanding == 0


def test_an_auth_answer_out_of_order_takes_no_reply(up: Peer) -> None:
    """The server answers AUTH before requests that were sent earlier."""
    up.say(request(1), 101.0)
    up.say(struct.pack("!iii", 12, -4, 100) + b"auth", 102.0)
    up.hear(reply(-4), 103.0)
    assert up.link.contact == 102.0
    assert up.link.outstanding == 1


@pytest.mark.parametrize("error", [-112, -118])
def test_an_answer_that_disowns_the_session_is_no_contact(up: Peer, error: int) -> None:
    """SessionExpired and SessionMoved prove a server alive, and the session not."""
    up.say(request(1), 101.0)
    up.hear(reply(1, error=error), 102.0)
    assert up.link.contact == 100.0


def test_any_other_error_is_contact(up: Peer) -> None:
    """NoNode is an answer."""
    up.say(request(1), 101.0)
    up.hear(reply(1, error=-101, zxid=77), 102.0)
    assert up.link.contact == 101.0
    assert up.link.last_zxid == 77


def test_the_highest_zxid_is_kept(up: Peer) -> None:
    """Errors carry no zxid of their own; nothing goes backwards."""
    for xid, zxid in ((1, 5), (2, 9), (3, 7), (4, -1)):
        up.say(request(xid), 101.0)
        up.hear(reply(xid, zxid=zxid), 101.0)
    assert up.link.last_zxid == 9


CONVERSATION_IN = (
    connected()
    + reply(1, zxid=11, size=0)
    + reply(-1, zxid=-1, size=61)
    + reply(-2, size=0)
    + reply(2, size=50)
)
CONVERSATION_OUT = CONNECT + request(1, 0) + PING + request(2, 50)


@pytest.mark.parametrize("step", range(1, len(CONVERSATION_IN) + 1))
def test_incoming_frames_are_found_wherever_the_stream_is_torn(peer: Peer, step: int) -> None:
    """Every size of piece, in one conversation: nothing is lost, invented or left over."""
    for frame in (CONNECT, request(1, 0), PING, request(2, 50)):
        peer.say(frame, 100.0)
    for start in range(0, len(CONVERSATION_IN), step):
        peer.hear(CONVERSATION_IN[start : start + step], 101.0)
    assert peer.link.frames_in == 5
    assert peer.link.outstanding == 0
    assert peer.link.last_zxid == 11
    assert (peer.link.timeout, peer.link.session_id) == (4.0, SESSION)
    assert len(peer.beats) == 1


@pytest.mark.parametrize("step", range(1, len(CONVERSATION_OUT) + 1))
def test_outgoing_frames_are_found_wherever_they_are_torn(peer: Peer, step: int) -> None:
    """A frame counts as sent by the call that completes it, and in its own queue."""
    for number, start in enumerate(range(0, len(CONVERSATION_OUT), step)):
        peer.say(CONVERSATION_OUT[start : start + step], 100.0 + number)
    assert peer.link.frames_out == 4
    assert peer.link.outstanding == 4
    peer.hear(CONVERSATION_IN, 5000.0)
    assert peer.link.outstanding == 0
    assert peer.link.contact == 100.0 + (len(CONVERSATION_OUT) - 1) // step


def test_random_tears_in_both_directions(peer: Peer) -> None:
    """A long conversation, torn at random: every reply moves contact to its own request."""
    draw = random.Random(20)
    peer.handshake()
    sent, said = 0, b""
    for xid in range(1, 400):
        said += request(xid, draw.randrange(40))
        heard = reply(xid, zxid=xid, size=draw.randrange(90)) + reply(-1, size=3) * draw.randrange(3)
        while said:
            cut = draw.randrange(1, 30)
            sent += 1
            peer.say(said[:cut], 100.0 + sent)
            said = said[cut:]
        last = peer.now
        while heard:
            cut = draw.randrange(1, 50)
            peer.hear(heard[:cut], peer.now)
            heard = heard[cut:]
        assert peer.link.contact == last
        assert peer.link.outstanding == 0
    assert peer.link.last_zxid == 399


def test_partial_sends_of_one_call(up: Peer) -> None:
    """The kernel takes what it can; the rest is sent from where it stopped, as kazoo does."""
    big = memoryview(request(1, 4_000_000))
    reader = threading.Thread(target=lambda: _drain(up.far, len(big)))
    offset = calls = 0
    started = False
    while offset < len(big):
        try:
            offset += up.link.send(big[offset:])
            calls += 1
        except ssl.SSLWantWriteError:
            assert not up.link.writable
            assert up.link.frames_out == 1
            if not started:
                started = True
                reader.start()
    reader.join(5)
    assert started
    assert calls > 1
    assert up.link.outstanding == 1


def _drain(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(size))


def test_kazoo_selects_again_where_there_is_nothing_to_read(up: Peer) -> None:
    """A spurious wake-up looks like TLS's WANT_READ, which kazoo survives, not like a broken socket."""
    with pytest.raises(ssl.SSLWantReadError):
        up.link.recv(4)
    assert not up.link.dead


def test_reading_ahead_serves_what_is_asked(up: Peer) -> None:
    """Many small replies come with one system call; `pending` says so."""
    frames = b"".join(reply(-1, size=30) for _ in range(100))
    up.far.sendall(frames)
    read = up.link.recv(4)
    assert up.link.pending() == len(frames) - 4
    while up.link.pending():
        read += up.link.recv(17)
    assert read == frames


def test_no_password_is_kept(up: Peer) -> None:
    """Once kazoo has read the handshake, nothing of it remains here."""
    held = [getattr(up.link, name) for name in vars(up.link)]
    assert not any(PASSWORD[:6] in bytes(value) for value in held if isinstance(value, bytes | bytearray))
    assert PASSWORD.decode() not in repr(vars(up.link))


# -- the gate: dead is True before kazoo can know -----------------------------------------------------------


def hang_up(peer: Peer) -> None:
    peer.far.close()


def reset(peer: Peer) -> None:
    peer.link.cut("cut")


@pytest.mark.parametrize("end", [hang_up, reset])
def test_dead_is_true_when_recv_returns_nothing(up: Peer, end: Callable[[Peer], None]) -> None:
    """kazoo fails its queue after b""; whoever held the gate before that still had a live link."""
    end(up)
    assert up.link.recv(4) == b""
    assert up.link.dead


def test_the_end_waits_for_the_gate(up: Peer) -> None:
    """While a sender holds the gate, kazoo cannot learn of the end."""
    up.far.close()
    read: list[bytes] = []
    with up.link.gate:
        thread = threading.Thread(target=lambda: read.append(up.link.recv(4)))
        thread.start()
        thread.join(0.1)
        assert not read
        assert not up.link.dead
    thread.join(5)
    assert read == [b""]
    assert up.link.dead


def test_what_came_before_the_end_is_read_first(up: Peer) -> None:
    """The reply to a CloseSession comes together with the end of the stream."""
    up.far.sendall(reply(-1))
    up.far.close()
    assert len(up.link.recv(1000)) == len(reply(-1))
    assert not up.link.dead
    assert up.link.recv(4) == b""


def test_dead_is_true_when_send_raises(up: Peer) -> None:
    """A broken pipe is an end, too."""
    up.far.close()
    with pytest.raises(OSError, match=r"[Bb]roken|reset"):
        up.link.sendall(PING * 3)
    assert up.link.dead


def test_dead_is_true_before_the_socket_is_closed(up: Peer) -> None:
    """kazoo closes the socket of a thread that dies, and only then fails its queue."""
    up.link.close()
    up.link.close()
    assert up.link.dead
    assert up.link.fileno() == -1


def test_nothing_is_sent_behind_a_close(up: Peer) -> None:
    """What would be queued behind a CloseSession is never answered; its reply can still be read."""
    up.say(CLOSE, 101.0)
    assert up.link.dead
    up.hear(reply(9), 102.0)


@pytest.mark.parametrize("frame", [reply(-4, error=-115), reply(7, error=-115)])
def test_failed_authentication_shuts_the_gate_and_is_still_read(up: Peer, frame: bytes) -> None:
    """kazoo fails its queue at AUTH_FAILED before it closes the socket."""
    up.say(request(7), 101.0)
    up.hear(frame, 102.0)
    assert up.link.dead


def sasl(xid: int, size: int = 20) -> bytes:
    return struct.pack("!iii", 8 + size, xid, 102) + b"s" * size


def answered(peer: Peer, data: bytes) -> str:
    """Hear it, and read what the link lets through of it; why it died."""
    peer.far.sendall(data)
    with contextlib.suppress(ssl.SSLWantReadError):
        while peer.link.recv(4):
            pass
    return peer.link.refusal


def test_sasl_that_succeeds_leaves_the_link_alone(up: Peer) -> None:
    """Two steps, each answered with a token; what is asked afterwards is answered as ever."""
    for xid in (1, 2):
        up.say(sasl(xid), 101.0)
        assert answered(up, reply(xid, size=60)) == ""
    up.say(request(1), 102.0)
    up.hear(reply(1, size=4), 102.1)  # as short as an answer without a token
    assert not up.link.dead
    assert up.link.contact == 102.0
    assert up.link.outstanding == 0


@pytest.mark.parametrize("error", [-115, -124, -5])
def test_sasl_that_is_refused_ends_the_link(up: Peer, error: int) -> None:
    """With any error, at any step; nothing more is read: kazoo would not know all of them."""
    up.say(sasl(1), 101.0)
    assert answered(up, reply(1, size=60)) == ""
    up.say(sasl(2), 101.0)
    assert answered(up, reply(2, error=error, size=4)) == "sasl"
    assert up.link.recv(4) == b""


def test_sasl_that_is_not_answered_ends_the_link(up: Peer) -> None:
    """No token in the first answer: there is no SASL there. kazoo would ask without end."""
    up.say(sasl(1), 101.0)
    assert answered(up, reply(1, size=4)) == "sasl_unsupported"
    assert up.link.recv(4) == b""


def test_sasl_that_is_ignored_ends_the_link(up: Peer) -> None:
    """No token in a later answer: the server would let us in as nobody."""
    up.say(sasl(1), 101.0)
    assert answered(up, reply(1, size=60)) == ""
    up.say(sasl(2), 101.0)
    assert answered(up, reply(2, size=4)) == "sasl"


def test_sasl_is_found_wherever_it_is_torn(up: Peer) -> None:
    """A frame that was sent byte by byte is SASL, too."""
    for byte in sasl(1):
        up.say(bytes([byte]), 101.0)
    assert answered(up, reply(1, size=4)) == "sasl_unsupported"


def test_a_demand_for_authentication_ends_the_link(up: Peer) -> None:
    """The answer is still read: kazoo fails the request with it."""
    up.say(request(1), 101.0)
    up.hear(reply(1, error=-124), 101.1)
    assert (up.link.dead, up.link.refusal) == (True, "auth_required")


def test_a_cut_from_another_thread_ends_a_send(up: Peer) -> None:
    """After a cut nothing is written, and the error says who did it."""
    thread = threading.Thread(target=up.link.cut, args=("silence",))
    thread.start()
    thread.join(5)
    with pytest.raises(ConnectionAbortedError, match="zk1:2181 was cut: silence"):
        up.link.send(PING)
    assert up.link.recv(4) == b""
    assert up.link.cause == "silence"
    assert up.far.recv(10) == b""


def test_after_a_cut_nothing_is_read_from_the_buffer(up: Peer) -> None:
    """What was read ahead of a link that is given up is stale by the time kazoo would hand it on."""
    up.far.sendall(reply(-1) * 10)
    up.link.recv(4)
    up.link.cut("silence")
    assert up.link.pending() == 0
    assert up.link.readable
    assert up.link.recv(4) == b""


# -- silence ------------------------------------------------------------------------------------------------


def test_a_link_that_owes_nothing_is_never_silent(up: Peer) -> None:
    """An idle link is asked by kazoo's ping; before that its age says nothing."""
    assert up.link.silent_at() == inf


def test_silence_counts_from_the_last_answer(up: Peer) -> None:
    """Two thirds of the timeout after one was heard: a link that is slow, but answers, is kept."""
    up.say(request(1), 100.5)
    assert up.link.silent_at() == pytest.approx(100.0 + 4.0 * 2 / 3)
    up.say(request(2), 101.0)
    up.hear(reply(1), 101.5)
    assert up.link.silent_at() == pytest.approx(101.5 + 4.0 * 2 / 3)
    assert up.link.contact == 100.5  # how long the session lives is counted from when it was sent


def test_after_a_stall_the_first_ping_has_a_chance(up: Peer) -> None:
    """A process that stood still for longer than the timeout does not blame the server."""
    up.say(PING, 160.0)
    assert up.link.silent_at() == pytest.approx(160.0 + 4.0 / 3)


def test_a_frame_that_cannot_be_finished_is_owed_an_answer(up: Peer) -> None:
    """A full socket buffer towards a dead host is silence as well."""
    up.say(request(1)[:9], 100.0)
    assert up.link.silent_at() == pytest.approx(100.0 + 4.0 * 2 / 3)
    up.say(request(1)[9:], 101.0)
    up.hear(reply(1), 102.0)
    assert up.link.silent_at() == inf


def test_read_ahead_finds_the_answer_behind_many_events(up: Peer) -> None:
    """A slow reader is not a silent server: all that the kernel holds is looked at."""
    up.say(request(1), 101.0)
    events = b"".join(reply(-1, size=1000) for _ in range(2 * READ_AHEAD // 1020))
    data = events + reply(1, zxid=3)
    sender = threading.Thread(target=up.far.sendall, args=(data,))
    sender.start()
    while sender.is_alive() or up.link.outstanding:
        up.link.read_ahead()
    sender.join()
    assert up.link.contact == 101.0
    read = b""
    while up.link.pending():
        read += up.link.recv(5000)
    assert read == data


def test_read_ahead_meets_the_end(up: Peer) -> None:
    """What was read ahead is served, then the end."""
    up.far.sendall(reply(-1))
    up.far.close()
    up.link.read_ahead()
    assert up.link.readable
    assert up.link.recv(1000) == reply(-1)
    assert up.link.readable
    assert up.link.recv(1000) == b""
    assert up.link.dead


def test_something_else_than_zookeeper_is_left_to_kazoo(peer: Peer) -> None:
    """A peer that talks nonsense establishes nothing and breaks nothing here."""
    peer.say(CONNECT, 100.0)
    peer.hear(b"HTTP/1.1 400 Bad Request\r\n" * 100, 101.0)
    assert not peer.link.established
    peer.hear(connected(), 102.0)
    assert not peer.link.established
