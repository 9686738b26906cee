"""leaks(): what is made of a server's answers, and of servers that do not give any."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coordinator import ConfigurationError
from coordinator.testing import ZooKeeperUnavailableError, assert_no_leaks, child_watches, leaks

DUMP = """SessionTracker dump:
Session Sets (1)/(2):
1 expire at Sat Nov 21 11:03:02 GMT 2026:
\t0x10000d7fb1b0000
\t0xff00d7fb1b0001
ephemeral nodes dump:
Sessions with Ephemerals (2):
0x10000d7fb1b0000:
\t/app/workers/w-1
\t/other
0xff00d7fb1b0001:
\t/app
Connections dump:
Connections Sets (1)/(1):
"""
WCHP = "/app/config\n\t0x10000d7fb1b0000\n\t0xff00d7fb1b0001\n/application\n\t0x10000d7fb1b0000\n\n\n"
WCHS = "1 connections watching 2 paths\nTotal watches:3\n"
MNTR = "zk_version\t3.9.3\nzk_watch_count\t{}\nzk_avg_node_changed_watch_count\t9.0\n"
DOWN = "This ZooKeeper instance is not currently serving requests\n"


class Server:
    """Answers four-letter words as it was told, or as a server with a few leaks."""

    hosts = "zk1:2181"

    def __init__(self, **answers: str | Exception) -> None:
        self.answers = {"dump": DUMP, "wchp": WCHP, "wchs": WCHS, "mntr": MNTR.format(3), **answers}

    def four_letters(self, word: str, timeout: float = 1.0) -> str:
        answer = self.answers[word]
        if isinstance(answer, Exception):
            raise answer
        return answer


def ensemble(*nodes: Server) -> SimpleNamespace:
    return SimpleNamespace(nodes=nodes)


REFUSED = dict.fromkeys(("dump", "wchp", "wchs", "mntr"), ConnectionRefusedError("nobody there"))
EMPTY = Server(dump="", wchp="\n")


def test_each_is_named_with_its_session():
    """Of the znode itself and of all below it, not of one whose name begins alike."""
    expected = [
        "ephemeral /app of session 0xff00d7fb1b0001",
        "watch on /app/config of session 0x10000d7fb1b0000",
        "watch on /app/config of session 0xff00d7fb1b0001",
        "ephemeral /app/workers/w-1 of session 0x10000d7fb1b0000",
    ]
    assert leaks(Server(), below="/app") == expected
    assert leaks(Server(), below="/app/") == expected
    assert leaks(Server(), below="/app/work") == []
    assert len(leaks(Server())) == 6


def test_only_those_of_some_sessions():
    assert leaks(Server(), below="/app", sessions=[0xFF00D7FB1B0001]) == [
        "ephemeral /app of session 0xff00d7fb1b0001",
        "watch on /app/config of session 0xff00d7fb1b0001",
    ]
    assert leaks(Server(), sessions=[]) == []


def test_a_session_id_may_be_negative_as_clients_have_it():
    server = Server(dump="", wchp="/app\n\t0xff000d7fb1b00001\n")
    assert leaks(server, sessions=[0xFF000D7FB1B00001 - (1 << 64)]) == [
        "watch on /app of session 0xff000d7fb1b00001"
    ]


def test_watches_on_children_are_counted_where_all_is_asked_for():
    server = Server(mntr=MNTR.format(5))
    assert child_watches(server) == 2
    assert leaks(server)[-1] == "2 watches on children, of which the server tells no more"
    assert leaks(Server(mntr=MNTR.format(4)))[-1].startswith("1 watch on children")
    assert len(leaks(server, below="/app")) == 4
    assert len(leaks(server, sessions=[0x10000D7FB1B0000])) == 4
    assert child_watches(Server(mntr=MNTR.format(2))) == 0, "one was freed in between"
    assert child_watches(ensemble(server, server)) == 4


def test_each_server_of_an_ensemble_is_asked():
    assert len(leaks(ensemble(EMPTY, Server(dump="")), below="/app")) == 2
    assert len(leaks(ensemble(Server(), Server()), below="/app")) == 4, "each is told once"


def test_a_server_that_is_down_has_nothing():
    assert len(leaks(ensemble(Server(**REFUSED), Server()), below="/app")) == 4


def test_nothing_is_not_taken_for_no_leaks():
    """No answer, a refused word, a server without a quorum: all of it looks empty."""
    with pytest.raises(ConnectionRefusedError):
        leaks(ensemble(Server(**REFUSED), Server(**REFUSED)))
    with pytest.raises(TimeoutError):
        leaks(ensemble(Server(), Server(dump=TimeoutError("frozen"))))
    with pytest.raises(ZooKeeperUnavailableError, match="server zk1:2181 does not serve"):
        leaks(ensemble(Server(), Server(wchp=DOWN)))
    with pytest.raises(ConfigurationError, match="refuses 'wchp': add it to its 4lw"):
        leaks(Server(wchp="wchp is not executed because it is not in the whitelist.\n"))
    with pytest.raises(ZooKeeperUnavailableError, match=r"no number of watches in .*: 'oh'"):
        child_watches(Server(mntr="oh"))


def test_a_relative_path_is_refused():
    with pytest.raises(ConfigurationError, match="below='app': expected an absolute path"):
        leaks(Server(), below="app")


def test_the_failure_names_them():
    with pytest.raises(AssertionError) as caught:
        assert_no_leaks(Server(), below="/app/config", timeout=0.01)
    assert str(caught.value).splitlines() == [
        "2 leaks below /app/config after 0.01 s:",
        "  watch on /app/config of session 0x10000d7fb1b0000",
        "  watch on /app/config of session 0xff00d7fb1b0001",
    ]
    many = "".join(f"/app/{number}\n\t0x1\n" for number in range(50))
    with pytest.raises(AssertionError, match=r"^50 leaks below /app after 0 s:\n(.*\n){20}  and 30 more$"):
        assert_no_leaks(Server(dump="", wchp=many), below="/app", timeout=0)


def test_an_assertion_waits_for_what_is_on_its_way():
    server = Server()
    asked = []

    def four_letters(word: str, timeout: float = 1.0) -> str:
        asked.append(word)
        return Server.four_letters(server if len(asked) < 6 else EMPTY, word)

    assert_no_leaks(SimpleNamespace(four_letters=four_letters, hosts="zk1:2181"), below="/app", timeout=30.0)
    assert len(asked) == 8
