"""The handler under a real kazoo client and a real ZooKeeper."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionLoss, NodeExistsError, NoNodeError
from kazoo.retry import KazooRetry

from coordinator.engine import clock
from coordinator.engine.handler import KazooHandler
from coordinator.engine.link import READ_AHEAD, Link
from coordinator.engine.results import DirectResult, DirectWatch
from coordinator.testing import FaultProxy, ZooKeeperServer, expire

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 10.0
TIMEOUT = 2.0


class Client:
    """A kazoo client with our handler, and what was heard of it."""

    def __init__(self, hosts: str, timeout: float = TIMEOUT, **options: Any) -> None:
        self.handler = KazooHandler(listener=self, **options)
        self.zk = KazooClient(
            hosts,
            handler=self.handler,
            timeout=timeout,
            randomize_hosts=False,
            connection_retry=KazooRetry(
                max_tries=-1,
                delay=0.1,
                backoff=1,
                max_jitter=0.0,
                max_delay=0.1,
                sleep_func=self.handler.sleep_func,
            ),
        )
        self.handler.connector.hosts = self.zk.hosts
        self.path = f"/handler-{uuid.uuid4().hex}"
        self.states: list[str] = []
        self.failed: list[tuple[str, str, float | None]] = []
        self.beats: list[tuple[float, float]] = []
        self._changed = threading.Condition()
        self.zk.add_listener(self._heard)

    def _heard(self, state: str) -> None:
        with self._changed:
            self.states.append(state)
            self._changed.notify_all()

    def __hash__(self) -> int:
        return id(self)

    def attempt_failed(self, server: str, cause: str, detail: str, next_try_in: float | None) -> None:
        self.failed.append((server, cause, next_try_in))

    def pass_failed(self, *, refused: bool) -> None:
        pass

    def heartbeat(self, rtt: float, sent_at: float) -> None:
        with self._changed:
            self.beats.append((rtt, sent_at))
            self._changed.notify_all()

    def connection_ended(self) -> None:
        pass

    def until(self, *states: str, within: float = LIMIT) -> None:
        """Wait until these are the latest states."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.states[-len(states) :] == [*states], within), (
                self.states
            )

    def beaten(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.beats) >= count, LIMIT)

    @property
    def link(self) -> Link:
        link = self.handler.link
        assert link is not None
        return link


@contextmanager
def client(hosts: str, timeout: float = TIMEOUT, **options: Any) -> Iterator[Client]:
    ours = Client(hosts, timeout, **options)
    ours.zk.start(timeout=LIMIT)
    try:
        yield ours
    finally:
        try:
            if ours.zk.connected:
                ours.zk.delete(ours.path, recursive=True)
            else:
                ours.handler.abort()
        finally:
            ours.zk.stop()
            ours.zk.close()


@pytest.fixture
def ours(proxy: FaultProxy) -> Iterator[Client]:
    with client(proxy.hosts) as ours:
        yield ours


def test_what_the_server_granted_is_known(zookeeper: ZooKeeperServer, ours: Client) -> None:
    """Timeout, session id and server of the link; kazoo keeps the first to itself."""
    assert ours.link.timeout == TIMEOUT
    assert ours.link.session_id == ours.zk.client_id[0]
    assert ours.link.server == ours.zk.hosts[0][0] + f":{ours.zk.hosts[0][1]}"
    with client(zookeeper.hosts, timeout=3600.0) as greedy:
        granted = greedy.link.timeout
        assert granted is not None
        assert granted < 3600.0


def test_an_idle_session_keeps_its_contact_fresh(ours: Client) -> None:
    """Pings are answered, timed and reported; contact never grows older than half the timeout."""
    ours.beaten(4)
    contact = ours.handler.connector.contact
    assert contact is not None
    assert clock.now() - contact < TIMEOUT / 2
    assert all(0 < rtt < 1.0 for rtt, _ in ours.beats)
    assert ours.link.outstanding <= 1
    assert ours.states == [KazooState.CONNECTED]


@pytest.mark.parametrize("portable", [False, True], ids=["eventfd", "pipe"])
def test_requests_queued_while_suspended_block_nobody(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, portable: bool
) -> None:
    """kazoo blocks the 279th caller, and then stop() as well; all are served after the outage."""
    with client(proxy.hosts, portable=portable) as ours:
        proxy.refuse = True
        proxy.cut()
        ours.until(KazooState.SUSPENDED)
        begun = time.monotonic()
        results = [ours.zk.exists_async("/") for _ in range(5000)]
        assert time.monotonic() - begun < 2.0
        proxy.refuse = False
        ours.until(KazooState.CONNECTED)
        assert all(result.get(timeout=LIMIT) is not None for result in results)


def test_a_half_open_link_is_noticed_under_constant_traffic(ours: Client, proxy: FaultProxy) -> None:
    """Within one timeout of the last contact, and never before two thirds of it."""
    cut = threading.Event()

    def chatter() -> None:
        while not cut.wait(0.02):
            ours.zk.exists_async("/")

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        link = ours.link
        proxy.blackhole = True
        ours.until(KazooState.SUSPENDED, within=TIMEOUT)
        age = clock.now() - link.contact
    finally:
        cut.set()
        thread.join()
    assert link.dead
    assert link.cause == "silence"
    assert TIMEOUT * 0.6 < age < TIMEOUT
    proxy.blackhole = False
    ours.until(KazooState.CONNECTED)


def test_requests_that_no_longer_arrive_are_noticed(ours: Client, proxy: FaultProxy) -> None:
    """One direction is enough: answers do not come, although nothing is broken on the way back."""
    proxy.blackhole_up = True
    ours.until(KazooState.SUSPENDED, within=TIMEOUT)
    proxy.blackhole_up = False
    ours.until(KazooState.CONNECTED)


def test_a_session_moves_to_the_next_server_before_it_ends(
    zookeeper: ZooKeeperServer, proxy: FaultProxy
) -> None:
    """With a second way to the ensemble a half-open link does not cost the session."""
    with client(f"{proxy.hosts},{zookeeper.hosts}") as ours:
        session = ours.link.session_id
        proxy.blackhole = True
        ours.until(KazooState.SUSPENDED, KazooState.CONNECTED)
        assert ours.link.session_id == session
        assert ours.link.server == zookeeper.hosts
        assert KazooState.LOST not in ours.states


def test_every_chain_of_direct_results_stays_in_the_connection_thread(ours: Client) -> None:
    """Each operation's last link is called where its reply was read."""
    zk, path = ours.zk, ours.path
    threads: dict[str, str] = {}
    done = threading.Semaphore(0)

    def watch_out(name: str, result: Any) -> None:
        assert isinstance(result, DirectResult)

        def called(_: object) -> None:
            threads[name] = threading.current_thread().name
            done.release()

        result.rawlink(called)

    with ours.handler.direct():
        watch_out("create", zk.create_async(path, b"v", include_data=True))
        watch_out("create deep", zk.create_async(f"{path}/a/b/c", makepath=True))
        watch_out("ensure", zk.ensure_path_async(f"{path}/x/y"))
        watch_out("get", zk.get_async(path))
        watch_out("exists", zk.exists_async(path))
        watch_out("set", zk.set_async(path, b"w"))
        watch_out("children", zk.get_children_async(path))
        watch_out("sync", zk.sync_async(path))
        transaction = zk.transaction()
        transaction.create(f"{path}/t")
        transaction.delete(f"{path}/t")
        watch_out("multi", transaction.commit_async())
        watch_out("delete", zk.delete_async(f"{path}/nothing"))
        watch_out("create again", zk.create_async(path, include_data=True))
    for _ in range(11):
        assert done.acquire(timeout=LIMIT)
    assert set(threads.values()) == {"coordinator-kazoo-connection"}
    assert len(threads) == 11


def test_direct_results_are_those_of_kazoo(ours: Client) -> None:
    """Values and errors, with and without data."""
    zk, path = ours.zk, ours.path
    with ours.handler.direct():
        created = zk.create_async(path, b"v", include_data=True)
        again = zk.create_async(path)
        missing = zk.get_async(f"{path}/missing")
        synced = zk.sync_async(path)
    assert created.get(timeout=LIMIT)[0] == path
    with pytest.raises(NodeExistsError):
        again.get(timeout=LIMIT)
    with pytest.raises(NoNodeError):
        missing.get(timeout=LIMIT)
    assert synced.get(timeout=LIMIT) == path


def test_direct_watches_and_replies_come_in_the_order_of_the_wire(ours: Client) -> None:
    """An event is heard before every reply that the server sent after it, a hundred times."""
    zk, path = ours.zk, ours.path
    zk.create(path)
    order: list[str] = []
    done = threading.Event()
    with ours.handler.direct():
        for number in range(100):
            watch = DirectWatch(lambda _, number=number: order.append(f"event {number}"))  # type: ignore[misc]
            zk.get_async(path, watch=watch)
            zk.set_async(path, b"").rawlink(lambda _, number=number: order.append(f"reply {number}"))
        zk.sync_async(path).rawlink(lambda _: done.set())
    assert done.wait(LIMIT)
    assert order == [f"{what} {number}" for number in range(100) for what in ("event", "reply")]


def test_large_and_many_frames_arrive_whole(ours: Client) -> None:
    """Replies larger than the read-ahead buffer, mixed with thousands of small ones."""
    zk, path = ours.zk, ours.path
    big = bytes(range(256)) * (12 * READ_AHEAD // 256)
    zk.create(path, big)
    zk.create(f"{path}/small", b"s")
    results = [zk.get_async(path if number % 100 == 0 else f"{path}/small") for number in range(2000)]
    for number, result in enumerate(results):
        assert result.get(timeout=LIMIT)[0] == (big if number % 100 == 0 else b"s")
    assert ours.link.outstanding <= 1
    assert ours.link.last_zxid == zk.last_zxid


def test_no_request_outlives_the_link_it_was_sent_on(ours: Client, proxy: FaultProxy) -> None:
    """Sent under the gate while the link lives, a request is answered on that link or fails."""
    ended = threading.Event()
    strayed: list[str] = []
    counts = {"answered": 0, "lost": 0}

    def judge(result: Any, link: Link) -> None:
        if isinstance(result.exception, ConnectionLoss):
            counts["lost"] += 1
        elif ours.handler.link is link:
            counts["answered"] += 1
        else:
            strayed.append(repr(result.exception))

    def send() -> None:
        while not ended.is_set():
            link = ours.handler.link
            if link is None:
                continue
            with link.gate:
                if link.dead or not link.established:
                    continue
                with ours.handler.direct():
                    result = ours.zk.exists_async("/")
            result.rawlink(lambda each, link=link: judge(each, link))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            threading.Event().wait(0.05)
            ours.states.clear()  # or those of the cut before would be waited for
            proxy.cut()
            ours.until(KazooState.SUSPENDED, KazooState.CONNECTED)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert strayed == []
    assert counts["answered"] > 0
    assert counts["lost"] > 0


def test_after_an_expiry_the_first_pause_is_a_short_one(zookeeper: ZooKeeperServer, ours: Client) -> None:
    """The server answered, if only to say no: the next session is asked for at once."""
    session = ours.link.session_id
    begun = time.monotonic()
    expire(ours.zk.client_id, zookeeper.hosts)
    ours.until(KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED)
    assert time.monotonic() - begun < 1.0
    assert ours.link.session_id != session
    assert ours.failed == []


def test_an_outage_is_told_attempt_by_attempt(ours: Client, proxy: FaultProxy) -> None:
    """Each with the pause that follows; the first pause after a cut is at most 20 ms."""
    proxy.refuse = True
    proxy.cut()
    ours.until(KazooState.SUSPENDED)
    deadline = time.monotonic() + LIMIT
    while len(ours.failed) < 5 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    proxy.refuse = False
    ours.until(KazooState.CONNECTED)
    assert {each[:2] for each in ours.failed} == {(proxy.hosts, "refused")}
    bounds = [0.04, 0.08, 0.16, 0.32, 0.64]  # the pause after the cut itself was the first
    for (_, _, pause), bound in zip(ours.failed[:5], bounds, strict=True):
        assert pause is not None
        assert 0 <= pause <= bound


def test_stop_is_prompt_while_nothing_answers(proxy: FaultProxy) -> None:
    """With an abort first, a client that cannot reach anybody is gone within half a second."""
    with client(proxy.hosts, timeout=20.0) as ours:
        proxy.blackhole = True
        proxy.cut()
        ours.until(KazooState.SUSPENDED)
        threading.Event().wait(0.2)
        begun = time.monotonic()
        ours.handler.abort()
        ours.zk.stop()
        assert time.monotonic() - begun < 0.5
        assert not ours.handler.running


def test_a_client_starts_again(ours: Client) -> None:
    """The same handler serves the next session."""
    first = ours.link.session_id
    ours.zk.restart()
    assert ours.zk.exists("/") is not None
    assert ours.link.session_id != first


def test_a_command_leaves_the_link_alone(ours: Client) -> None:
    """Four-letter words use a connection of their own."""
    link = ours.link
    assert "Zookeeper version" in ours.zk.command(b"srvr")
    assert ours.link is link
    assert not link.dead
