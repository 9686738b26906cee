"""``coordinator run`` as PID 1 of a container: nobody else waits for orphans, or has a signal do anything.

Real containers, a real ZooKeeper, and what the engine does to both: stop, kill, pause, network disconnect.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from kazoo.client import KazooClient

from coordinator.engine.clock import now
from coordinator.testing import ZooKeeperContainer, eventually
from tests.boxed import Box, Site, site
from tests.command import Watched
from tests.support import PATIENCE, held, queued

pytestmark = pytest.mark.docker

T = 2.0
#: With a lease that ends T after the last word at the latest, and 0.6 s to stop in.
BRIEF = {"COORDINATOR_SESSION_TIMEOUT": f"{T}", "COORDINATOR_TICK_TIME": "0.1"}
STOP = ("--stop-within", "0.6", "--grace", "60")
#: A child and a grandchild that ignore SIGTERM, and one that has left the process group and its parents.
FAMILY = """
trap "" TERM
sleep 100 & grandchild=$!
daemon=$(setsid sh -c 'sleep 100 >/dev/null & echo $!')
echo $$ $grandchild $daemon
while :; do wait; done
"""
#: Says its token and znode, and ends when it is asked to.
SAYS = """
trap 'exit 7' USR1
echo $COORDINATOR_LEASE_TOKEN $COORDINATOR_LEASE_PATH
while :; do sleep 0.05; done
"""


@pytest.fixture(scope="module")
def zookeeper() -> Iterator[ZooKeeperContainer]:
    """A container in any case: others have to find it."""
    with ZooKeeperContainer() as server:
        yield server


@pytest.fixture(scope="module")
def boxes(zookeeper: ZooKeeperContainer) -> Iterator[Site]:
    with site(zookeeper) as made:
        yield made


def shell(script: str) -> tuple[str, str, str]:
    return "sh", "-c", script


def family(box: Box) -> list[int]:
    """The processes whose numbers it says, as this machine numbers them."""
    return box.numbered([int(pid) for pid in box.line().split()])


def test_the_command_begins_when_the_lease_is_held(boxes: Site, observer: KazooClient, place: str) -> None:
    """Before that there are PID 1 and the guard. Then signals reach it; its exit code is the container's."""
    with ExitStack() as others:
        others.enter_context(held(observer, place))
        with boxes.run("run", "--lead", place, boxes.hosts, "--", *shell(SAYS)) as box:
            mine = queued(observer, place, 2)[1]
            assert len(box.processes()) == 2
            assert box.out() == ""
            others.close()
            token, path = box.line().split()
            assert path == f"{place}/{mine}"
            assert observer.exists(path).czxid == int(token)
            box.container.kill("USR1")
            assert box.wait() == 7
            assert observer.get_children(place) == []
            assert box.err() == ""


@pytest.fixture
def two(boxes: Site, observer: KazooClient, place: str) -> Iterator[tuple[Box, Box]]:
    """One whose command runs, and ends with 9 by SIGTERM; and one that waits for the same lock."""
    run = ("run", "--lock", place, boxes.hosts, "--", *shell("trap 'exit 9' TERM;" + SAYS))
    with boxes.run(*run) as one, boxes.run(*run) as other:
        eventually(lambda: one.out() or other.out(), timeout=PATIENCE, message="one of them to run")
        queued(observer, place, 2)
        runs, waits = (one, other) if one.out() else (other, one)
        yield runs, waits
        waits.stop()
        runs.stop()


def test_orphans_are_waited_for(two: tuple[Box, Box]) -> None:
    """As those of a health check, by docker exec: they are PID 1's, which nobody else waits for."""
    for box in two:
        inside = box.execute("sleep 100 >/dev/null 2>&1 & echo $!")
        (orphan,) = [one for one in box.processes() if one.inside == int(inside)]
        assert orphan.parent == box.first
        box.execute(f"kill -9 {inside}")
        eventually(
            lambda: orphan.pid not in {one.pid for one in box.processes()},  # noqa: B023 -- called at once
            timeout=PATIENCE,
            message="PID 1 to wait for the orphan",
        )


def test_what_the_command_leaves_is_dead_before_the_next_one_begins(
    boxes: Site, observer: KazooClient, place: str
) -> None:
    """A grandchild in a session of its own, deaf to SIGTERM; the exit code is the command's all the same."""
    leaves = """
    daemon=$(setsid sh -c 'trap "" TERM; sleep 100 >/dev/null & echo $!')
    trap 'exit 3' USR1
    echo $daemon
    while :; do sleep 0.05; done"""
    options = ("--lock", place, "--grace", "0.3", boxes.hosts)
    with boxes.run("run", *options, "--", *shell(leaves)) as box, Watched(family(box)) as watched:
        box.container.kill("USR1")
        with held(observer, place):
            assert not watched.alive
        assert box.wait() == 3


def test_docker_stop_ends_it_long_before_it_would_kill(
    two: tuple[Box, Box], observer: KazooClient, place: str
) -> None:
    """SIGTERM: the exit code is that of the command; when it is told, nobody is left in the queue."""
    runs, waits = two
    for box, code, left in ((waits, 143, 1), (runs, 9, 0)):
        ended, took = box.stop()
        assert (ended, took < 5) == (code, True)
        assert len(observer.get_children(place)) == left
        assert box.err() == ""


def test_interrupted_while_it_waits_it_leaves_nobody(boxes: Site, observer: KazooClient, place: str) -> None:
    """``docker kill -s INT``."""
    with (
        held(observer, place),
        boxes.run("run", "--lock", place, boxes.hosts, "--", "echo", "never") as box,
    ):
        mine = queued(observer, place, 2)[1]
        box.container.kill("INT")
        assert box.wait() == 128 + signal.SIGINT
        assert mine not in observer.get_children(place)
        assert (box.out(), box.err()) == ("", "")


def test_cut_off_from_its_network_nobody_is_left_when_the_lease_ends(
    boxes: Site, observer: KazooClient, place: str
) -> None:
    """``docker network disconnect``: no end of a connection is seen. The command is deaf to SIGTERM."""
    run = ("run", "--lock", place, *STOP, boxes.hosts, "--", *shell(FAMILY))
    with boxes.run(*run, environment=BRIEF) as box, Watched(family(box)) as watched:
        (mine,) = queued(observer, place, 1)
        box.cut()
        at = now()
        died = max(watched.deaths().values())
        assert observer.get_children(place) == [mine], "somebody else may hold it already"
        assert died < at + T * 0.99
        assert box.wait() == 121
        assert "is lost (lapsed): it is ended" in box.err()
        queued(observer, place, 0)


def test_paused_for_longer_than_its_session_it_is_dead_at_once(
    boxes: Site, observer: KazooClient, place: str
) -> None:
    """``docker pause``: the machine stands still. Somebody else leads meanwhile, and still does after it."""
    run = ("run", "--lead", place, *STOP, boxes.hosts, "--", *shell(FAMILY))
    with boxes.run(*run, environment=BRIEF) as box, Watched(family(box)) as watched:
        box.container.pause()
        with held(observer, place):
            at = now()
            box.container.unpause()
            died = watched.deaths()
            assert at < min(died.values())
            assert max(died.values()) < at + 1
            assert box.wait() == 121
            assert len(observer.get_children(place)) == 1
        assert "is lost" in box.err()
