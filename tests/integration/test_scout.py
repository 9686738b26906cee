"""Asking servers how they do, and following those that answer: against sockets that say what a test wants."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.core.ensemble import Configuration
from coordinator.engine import follow
from coordinator.engine.dial import Dialler, addresses
from coordinator.engine.follow import Follower
from coordinator.engine.scout import Scout, Verdict, survey
from coordinator.testing import eventually

SERVING = {b"srvr": b"Zookeeper version: 3.9.3\nMode: follower\n"}
REFUSED = b"%s is not executed because it is not in the whitelist.\n"
Server = tuple[str, int]


def reach(dialler: Dialler, server: Server, limit: float) -> socket.socket:
    return dialler.dial(addresses(*server), server[0], limit)


class Talker:
    """Answers each four-letter word as it is told; a word without an answer is met with silence."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self.answers = answers
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: Server = self._listener.getsockname()
        self._silent: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="test-talker")
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                guest, _ = self._listener.accept()
            except OSError:
                return
            word = guest.recv(4)
            if not word:
                guest.close()
                return
            self.asked.append(word)
            if word in self.answers:
                guest.sendall(self.answers[word])
                guest.close()
            else:
                self._silent.append(guest)

    def close(self) -> None:
        socket.create_connection(self.address).close()
        self._thread.join()
        for guest in (*self._silent, self._listener):
            guest.close()


@pytest.fixture
def talkers() -> Iterator[Any]:
    made: list[Talker] = []

    def make(answers: dict[bytes, bytes]) -> Talker:
        made.append(Talker(answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("answers", "verdict", "words"),
    [
        (SERVING, Verdict.SERVES, [b"srvr"]),
        ({b"srvr": REFUSED % b"srvr", b"isro": b"rw"}, Verdict.SERVES, [b"srvr", b"isro"]),
        ({b"srvr": REFUSED % b"srvr", b"isro": b"ro"}, Verdict.READ_ONLY, [b"srvr", b"isro"]),
        ({b"srvr": REFUSED % b"srvr", b"isro": REFUSED % b"isro"}, Verdict.MUTE, [b"srvr", b"isro"]),
        ({b"srvr": b""}, Verdict.ABSENT, [b"srvr"]),
        ({b"srvr": b"x" * 100_000}, Verdict.ABSENT, [b"srvr"]),
    ],
)
def test_a_server_is_asked(
    talkers: Any, answers: dict[bytes, bytes], verdict: Verdict, words: list[bytes]
) -> None:
    """By `srvr`; only where that is refused by `isro`."""
    talker = talkers(answers)
    assert survey(reach, Dialler(), talker.address) is verdict
    assert talker.asked == words


def test_nobody_is_absent() -> None:
    """A port that refuses, and a name that does not resolve, are no errors."""
    assert survey(reach, Dialler(), ("127.0.0.1", 1)) is Verdict.ABSENT
    assert survey(reach, Dialler(), ("nowhere.invalid", 2181)) is Verdict.ABSENT


def test_a_silent_server_does_not_hold_up_the_end(talkers: Any) -> None:
    """An errand that is called off ends at once, whatever it waits for."""
    talker = talkers({})
    verdicts: list[Verdict] = []
    scout = Scout("test-scout", reach, lambda scout: verdicts.append(scout.survey(talker.address)))
    eventually(lambda: talker.asked)
    scout.call_off()
    scout.join(1.0)
    assert not scout.alive
    assert verdicts == [Verdict.ABSENT]


def test_an_errand_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its thread ends, and nothing else."""

    def errand(_: Scout) -> None:
        raise RuntimeError("broken")

    Scout("test-scout", reach, errand).join(1.0)
    assert "an errand failed in test-scout" in caplog.text


class Port:
    """What a follower asks of a port, written down."""

    def __init__(self, *servers: Server) -> None:
        self.servers = servers
        self.fallen_back = False
        self.handler = SimpleNamespace(connector=SimpleNamespace(reach=reach))
        self.told: list[tuple[list[Server], list[Server]]] = []

    def follow(self, servers: list[Server], ignored: list[Server]) -> None:
        self.told.append((list(servers), list(ignored)))
        self.servers = tuple(servers) or self.servers


@pytest.fixture
def following(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(follow, "FIRST_PAUSE", 0.02)
    made: list[Follower] = []

    def make(port: Port) -> Follower:
        made.append(Follower("test", port, 1))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.stop()


def read(follower: Follower, version: int, *servers: Server) -> None:
    follower.census.configuration = Configuration(version, servers)
    follower.configured()


DEAD = [("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)]


def test_a_list_of_which_nobody_answers_changes_nothing(following: Any) -> None:
    """Not even where some of it was tried so far: perhaps it is the network that is down."""
    port = Port(DEAD[0], DEAD[1])
    follower = following(port)
    read(follower, 1, DEAD[1], DEAD[2])
    eventually(lambda: port.told)
    assert port.told[0] == ([], [DEAD[2]])
    assert port.servers == (DEAD[0], DEAD[1])


def test_one_that_was_tried_so_far_is_kept_while_it_is_listed(talkers: Any, following: Any) -> None:
    """It is being restarted; one that nobody ever reached is not taken."""
    alive = talkers(SERVING).address
    port = Port(DEAD[0], DEAD[1])
    follower = following(port)
    read(follower, 1, alive, DEAD[1], DEAD[2])
    eventually(lambda: port.told)
    assert port.told[0] == ([alive, DEAD[1]], [DEAD[2]])


def test_one_that_did_not_answer_is_asked_again(talkers: Any, following: Any) -> None:
    """Until it does."""
    alive, late = talkers(SERVING), talkers({b"srvr": b""})
    port = Port(alive.address)
    follower = following(port)
    read(follower, 1, alive.address, late.address)
    eventually(lambda: port.told)
    assert port.told[0] == ([alive.address], [late.address])
    late.answers = SERVING
    eventually(lambda: port.told[-1] == ([alive.address, late.address], []))
    eventually(lambda: follower._scout is None, message="nothing is left to ask")


def test_the_next_configuration_takes_over_at_once(
    talkers: Any, following: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though one that does not answer is being waited for, or asked again in a minute."""
    monkeypatch.setattr(follow, "FIRST_PAUSE", 60.0)
    alive, silent = talkers(SERVING).address, talkers({})
    port = Port(alive)
    follower = following(port)
    read(follower, 1, silent.address)
    eventually(lambda: silent.asked)
    begun = time.monotonic()
    read(follower, 2, alive, DEAD[0])
    eventually(lambda: port.told[-1:] == [([alive], [DEAD[0]])])
    read(follower, 3, alive)
    eventually(lambda: port.told[-1] == ([alive], []))
    assert time.monotonic() - begun < 30.0


def test_the_same_configuration_is_followed_once(talkers: Any, following: Any) -> None:
    """Each new link reads it again; only who has fallen back takes it anew."""
    alive = talkers(SERVING)
    port = Port(alive.address)
    follower = following(port)
    read(follower, 1, alive.address)
    eventually(lambda: follower._scout is None)
    read(follower, 1, alive.address)
    assert follower._scout is None
    port.fallen_back = True
    read(follower, 1, alive.address)
    eventually(lambda: len(port.told) == 2)


def test_who_was_given_other_servers_keeps_them(talkers: Any, following: Any) -> None:
    """Until the ensemble changes the next time."""
    alive, late = talkers(SERVING), talkers({b"srvr": b""})
    port = Port(alive.address)
    follower = following(port)
    read(follower, 1, alive.address, late.address)
    eventually(lambda: port.told)
    follower.forget()
    told = len(port.told)
    late.answers = SERVING
    eventually(lambda: follower._scout is None)
    read(follower, 1, alive.address, late.address)
    assert len(port.told) == told
    read(follower, 2, alive.address, late.address)
    eventually(lambda: len(port.told) > told)


def test_a_server_that_tells_no_address_is_not_followed(following: Any) -> None:
    """A standalone server, or one with its client port elsewhere in its configuration."""
    port = Port(DEAD[0])
    follower = following(port)
    read(follower, 1)
    assert follower._scout is None
