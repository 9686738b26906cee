"""Which servers are tried: what ZooKeeper's configuration says, and whose word counts when."""

from __future__ import annotations

import pytest
from fake import AT, World
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.ensemble import CONFIG, Census, Configuration, Roster, parse
from coordinator.core.messages import AwaitSession, HostsChanged, Want
from coordinator.core.requests import Create, GetConfig, Set
from coordinator.engine.scout import Verdict, judge
from coordinator.errors import StartError
from coordinator.events import RecoveryCompleted, RecoveryStarted
from coordinator.settings import Settings, join_hosts, split_hosts

A, B, C, D = (("zk1", 2181), ("zk2", 2181), ("zk3", 2181), ("zk4", 2181))


@pytest.mark.parametrize(
    ("line", "servers"),
    [
        ("server.1=zk1:2888:3888:participant;zk1.example.org:2181", [("zk1.example.org", 2181)]),
        ("server.1=zk1:2888:3888:participant;0.0.0.0:2181", [("zk1", 2181)]),
        ("server.1=zk1:2888:3888:participant;2181", [("zk1", 2181)]),
        ("server.1=zk1:2888:3888;2181", [("zk1", 2181)]),
        ("server.1=zk1:2888:3888:observer;10.0.0.1:2182", [("10.0.0.1", 2182)]),
        ("server.1=10.0.0.1:2888:3888:participant;[::]:2181", [("10.0.0.1", 2181)]),
        ("server.1=[2001:db8::1]:2888:3888:participant;[::]:2181", [("2001:db8::1", 2181)]),
        ("server.1=[::1]:2888:3888:participant;[::1]:2182", [("::1", 2182)]),
        ("server.1=ZK1:2888:3888:participant;0.0.0.0:2181", [("zk1", 2181)]),
        ("server.1=a:2888:3888|b:2889:3889:participant;2181", [("a", 2181), ("b", 2181)]),
        ("server.1=a:2888:3888|b:2889:3889:participant;c:2181", [("c", 2181)]),
        ("server.12=zk1:2888:3888:participant;2181\r", [("zk1", 2181)]),
        ("server.1=zk1:2888:3888:participant", []),  # it tells no client port
        ("server.1=zk1:2888:3888:participant;", []),
        ("server.1=zk1:2888:3888:participant;0.0.0.0:0", []),
        ("server.1=zk1:2888:3888:participant;0.0.0.0:99999", []),
        ("server.1=user@zk1:2888:3888:participant;2181", []),
        ("server.x=zk1:2888:3888:participant;2181", []),
        ("group.1=1:2:3", []),
        ("", []),
    ],
)
def test_a_line_of_the_configuration(line, servers):
    """Where clients are to go; a server that listens everywhere is found where its peers find it."""
    assert list(parse(line.encode()).servers) == servers


def test_a_whole_configuration():
    """In order, each once, with the version, which is hexadecimal."""
    text = (
        "server.1=zk1:2888:3888:participant;0.0.0.0:2181\n"
        "server.2=zk2:2888:3888:participant;0.0.0.0:2181\n"
        "server.3=zk1:2889:3889:observer;0.0.0.0:2181\n"
        "version=10000000a"
    )
    assert parse(text.encode()) == Configuration(0x10000000A, (A, B))


@pytest.mark.parametrize("data", [b"", b"version=", b"version=xyz", b"\xff\xfe", b"version=" + b"f" * 40])
def test_what_is_no_configuration(data):
    """A standalone server has none."""
    assert parse(data) == Configuration(0, ())


@given(st.binary() | st.text(alphabet="server.123=:;|[]\nversion0.abc").map(str.encode))
def test_whatever_stands_there_is_read(data):
    """Never an error; what comes out can be connected to, and be written as hosts."""
    servers = parse(data).servers
    if servers:
        assert split_hosts(join_hosts(servers)) == (list(servers), "")


def test_the_users_word_comes_first():
    """What was followed is forgotten when other servers are given."""
    roster = Roster([A, B])
    assert roster.servers == (A, B)
    assert roster.follow([B, C])
    assert roster.servers == (B, C)
    assert roster.give([D])
    assert roster.servers == (D,)


def test_who_was_removed_was_listed_once():
    """A link to one that the user gave is left when the ensemble had it, and has it no longer."""
    roster = Roster([A, B])
    assert roster.listed == set()
    roster.follow([B, C])
    roster.follow([C, D])
    roster.fall_back()
    assert roster.listed == {B, C, D}


def test_the_same_servers_are_no_change():
    """In whatever order."""
    roster = Roster([A, B])
    assert not roster.give([B, A])
    assert not roster.follow([B, A])


def test_falling_back_adds_the_given_to_the_followed():
    """Until one of the followed is reached, or something is followed anew."""
    roster = Roster([A, B])
    assert not roster.fall_back()  # there is nothing to fall back from
    roster.follow([B, C])
    assert roster.fall_back()
    assert not roster.fall_back()
    assert roster.servers == (B, C, A)
    assert not roster.reached(A)
    assert roster.fallen_back
    assert roster.reached(C)
    assert roster.servers == (B, C)
    roster.fall_back()
    assert roster.follow([C])
    assert roster.servers == (C,)


@given(st.lists(st.tuples(st.sampled_from("gfbr"), st.sets(st.sampled_from([A, B, C, D]), min_size=1))))
def test_there_is_always_somewhere_to_go(steps):
    """Whatever was said in which order, and a change is told if and only if there is one."""
    roster = Roster([A])
    for what, servers in steps:
        before = set(roster.servers)
        deed = {"g": roster.give, "f": roster.follow}.get(what)
        if deed is not None:
            changed = deed(sorted(servers))
        else:
            changed = roster.fall_back() if what == "b" else roster.reached(min(servers))
        assert roster.servers
        assert len(set(roster.servers)) == len(roster.servers)
        assert changed == (set(roster.servers) != before)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"Zookeeper version: 3.9.3\nLatency...\nMode: follower\nNode count: 5\n", Verdict.SERVES),
        (b"Zookeeper version: 3.9.3\nMode: standalone\n", Verdict.SERVES),
        (b"Zookeeper version: 3.9.3\nMode: read-only\n", Verdict.READ_ONLY),
        (b"rw", Verdict.SERVES),
        (b"ro", Verdict.READ_ONLY),
        (b"null", Verdict.ABSENT),
        (b"srvr is not executed because it is not in the whitelist.\n", Verdict.MUTE),
        (b"This ZooKeeper instance is not currently serving requests\n", Verdict.ABSENT),
        (b"HTTP/1.1 400 Bad Request\r\n", Verdict.ABSENT),
        (b"", Verdict.ABSENT),
    ],
)
def test_an_answer_is_judged(answer, verdict):
    """A server counts only for what it says of itself."""
    assert judge(answer) is verdict


@pytest.mark.parametrize(("hosts", "chroot"), [("zk1/app", "/app"), ("zk1", "")])
def test_changed_hosts_keep_the_chroot(hosts, chroot):
    """Named or not, it stays."""
    settings = Settings(hosts=hosts)
    assert settings.changed_hosts("ZK4, zk5:2182") == [("zk4", 2181), ("zk5", 2182)]
    assert settings.changed_hosts("zk4" + chroot) == [("zk4", 2181)]


@pytest.mark.parametrize(
    "given", ["zk4/other", "zk4/app/deeper", "", "zk4,zk4", "http://zk4", None, 5, ["zk4"]]
)
def test_changed_hosts_are_checked(given):
    """As those in the beginning; another chroot would make every path another znode."""
    with pytest.raises(ValueError, match="hosts: "):
        Settings(hosts="zk1/app").changed_hosts(given)


def test_a_change_is_told_and_named_in_the_start_error():
    """Whoever waits for the first session reads where it is looked for now."""
    world = World()
    world.say(AwaitSession("zk1:2181/app", world.now + 5.0, 5.0, "start"))
    world.say(HostsChanged("zk4:2181/app", ("zk4:2181",), (), "set_hosts"))
    (event,) = [event for event in world.events if event.kind == "ensemble.changed"]
    assert (event.servers, event.ignored, event.source, event.at) == (("zk4:2181",), (), "set_hosts", AT)
    world.advance(6.0)
    error = world.error("start")
    assert isinstance(error, StartError)
    assert "no session at zk4:2181/app in 5 s" in str(error)


def configure(world: World, text: str) -> None:
    """The ensemble writes its configuration."""
    if world.zookeeper.stat(CONFIG) is None:
        for path in ("/zookeeper", CONFIG):
            world.others(Create(path))
    world.others(Set(CONFIG, text.encode()))


@pytest.fixture
def world() -> World:
    """A session, an ensemble of one, and the wish to know it."""
    world = World()
    configure(world, "server.1=zk1:2888:3888:participant;2181\nversion=1")
    world.up()
    return world


def census(world: World) -> Census:
    intent = Census(world.token())
    world.say(Want(intent, "follow", 0.0, 0.0, None))
    world.settle()
    return intent


def test_the_configuration_is_read_and_watched(world):
    """Each change of it refreshes who follows."""
    intent = census(world)
    assert intent.configuration == Configuration(1, (A,))
    configure(world, "server.2=zk2:2888:3888:participant;2181\nversion=2")
    world.settle()
    assert intent.configuration == Configuration(2, (B,))
    assert world.refreshed == [intent.token] * 2
    assert world.kinds("znode") == []


def test_the_configuration_is_read_again_after_a_gap_and_under_the_next_session(world):
    """No watch stood; a recovery neither waits for it nor counts it."""
    intent = census(world)
    world.cut()
    configure(world, "server.2=zk2:2888:3888:participant;2181\nversion=2")
    world.up()
    assert intent.configuration == Configuration(2, (B,))
    world.expire()
    configure(world, "server.3=zk3:2888:3888:participant;2181\nversion=3")
    world.up()
    assert intent.configuration == Configuration(3, (C,))
    assert [event.watches for event in world.of(RecoveryStarted, RecoveryCompleted)] == [0, 0]


def test_a_server_that_is_cut_off_is_not_believed(world):
    """It may have missed any number of changes."""
    intent = census(world)
    world.expire()
    configure(world, "server.2=zk2:2888:3888:participant;2181\nversion=2")
    world.up(read_only=True)
    assert intent.configuration == Configuration(1, (A,))


def test_a_forbidden_configuration_is_asked_for_again(world):
    """An administrator may have taken the right to read it, and give it back."""
    world.zookeeper.forbid(GetConfig, CONFIG)
    intent = census(world)
    assert intent.configuration is None
    world.zookeeper.permit()
    world.advance(60.0)
    assert intent.configuration == Configuration(1, (A,))


def test_an_old_server_has_no_configuration():
    """Before 3.5 there is nothing to follow."""
    world = World()
    world.up()
    intent = census(world)
    world.advance(60.0)
    assert intent.configuration is None
    assert len(world.requests(GetConfig)) == 1


def test_nothing_is_told_after_the_end(world):
    """Nothing follows session.closed."""
    world.close()
    world.say(HostsChanged("zk4:2181", ("zk4:2181",), (), "set_hosts"))
    assert world.kinds()[-1] == "session.closed"
