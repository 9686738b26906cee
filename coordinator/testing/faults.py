"""Faults for a server, or an ensemble, and for its clients.

::

    clients ==== a proxy for each server ====> servers <==== links between them

    on the wire     cut, reset, refuse, blackhole, lose_requests, lose_answers, latency
    in the server   expire, freeze, kill, outage, restart
    in an ensemble  kill_leader, lose_quorum, cut_quorum_link, depose_leader, rolling_restart

What lasts is a context manager, and over at its end; what happens is a call. None needs privileges.
docs/testing.md tells of each what clients and servers see.
"""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from coordinator.errors import ConfigurationError
from coordinator.settings import split_hosts
from coordinator.testing.ensemble import ZooKeeperEnsemble
from coordinator.testing.expiry import expire
from coordinator.testing.lasting import lasting
from coordinator.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coordinator.testing.server import ZooKeeperServer

__all__ = ["Faults"]


class Faults:
    """Faults for one server or ensemble, and for the clients that come by ``hosts``.

    ::

        with provide() as server, Faults(server) as faults:
            with Coordinator(faults.hosts) as zk:
                faults.expire(zk)
                with faults.blackhole():
                    ...

    As a context manager it ends with everything mended: servers run, links are whole. All of
    it may be called from any thread; a call returns when the fault is there, or over.

    Args:
        target: a server or an ensemble. One that somebody else runs can have its clients' links
            broken and their sessions ended; it cannot be frozen or killed.
    """

    def __init__(self, target: ZooKeeperServer | ZooKeeperEnsemble) -> None:
        self.target = target
        self.nodes: tuple[ZooKeeperServer, ...] = (
            target.nodes if isinstance(target, ZooKeeperEnsemble) else (target,)
        )
        addresses, self._chroot = split_hosts(target.hosts)
        self.proxies = tuple(FaultProxy(*address) for address in addresses)
        """One before each server, in the order of the target's hosts."""
        self._known: list[Any] = []
        self._repairs: list[Callable[[], object]] = []

    @property
    def hosts(self) -> str:
        """The connection string that leads through the proxies; with the chroot that the target's has."""
        return ",".join(proxy.hosts for proxy in self.proxies) + self._chroot

    # -- sessions

    def know(self, client: Any) -> None:
        """Have `expire` without arguments end the session of that client as well."""
        self._known.append(client)

    def expire(self, *clients: Any, timeout: float = 10.0) -> None:
        """End sessions on the server, at once and for certain; see `coordinator.testing.expire`.

        The client is told when it comes back: its link is closed, the next handshake is answered
        with "expired". Until the session has ended, no client gets through.

        Args:
            clients: coordinators, kazoo clients or client ids; none: all that it knows of and that
                have a session.
            timeout: seconds for each of the servers.

        Raises:
            ConfigurationError: there is no client to think of, or one has no session.
            TimeoutError: no server could be asked.
        """
        ids = [client_id for one in clients or self._known if (client_id := _client_id(one))]
        if len(ids) < len(clients):
            kinds = ", ".join(type(one).__name__ for one in clients if not _client_id(one))
            raise ConfigurationError(
                f"expire: a {kinds} without a session; give a coordinator, a kazoo client or a client id, "
                "while it has one"
            )
        if not ids:
            raise ConfigurationError("expire: no client with a session is known; name one, expire(zk)")
        with self.refuse():  # a quick client would be back, for a moment, in the session that is ending
            for one in ids:
                expire(one, self.target.hosts, timeout=timeout)

    # -- on the wire

    def cut(self) -> None:
        """End every client's connection by FIN; it may connect again at once.

        The client: suspended, resumed in milliseconds on the same session. The server: session and
        ephemerals stand, the watches of the link are gone.
        """
        for proxy in self.proxies:
            proxy.cut()

    def reset(self) -> None:
        """Break every client's connection by RST; otherwise as `cut`."""
        for proxy in self.proxies:
            proxy.reset_all()

    @lasting
    def refuse(self) -> Iterator[None]:
        """Refuse new connections meanwhile; those that stand are left alone.

        The client: nothing, until it has to connect; then failed attempts, "refused".
        """
        with self._each(refuse=True):
            yield

    @lasting
    def blackhole(self) -> Iterator[None]:
        """Let nothing pass meanwhile, connections stay open: a pulled cable.

        The client: silence, so that it is suspended after 2/3 of the session timeout, and lapsed
        after all of it. The server: expires the session at its timeout, and the ephemerals with it.
        What was kept passes at the end.
        """
        with self._each(blackhole=True):
            yield

    @lasting
    def lose_requests(self) -> Iterator[None]:
        """Let nothing pass to the server meanwhile: what is asked is never carried out.

        At the end all connections are reset, so that it is lost for good. Both sides as in `blackhole`.
        """
        with self._each(blackhole_up=True):
            try:
                yield
            finally:
                self.reset()

    @lasting
    def lose_answers(self) -> Iterator[None]:
        """Let nothing pass to the client meanwhile: what it asks is carried out, and it never hears of it.

        At the end all connections are reset, so that the answers are lost for good. The client: as in
        `blackhole`. The server: hears its heartbeats, and keeps the session as long as they come.
        """
        with self._each(blackhole_down=True):
            try:
                yield
            finally:
                self.reset()

    @lasting
    def latency(self, seconds: float) -> Iterator[None]:
        """Have everything late by that many seconds meanwhile, in each direction.

        The client: nothing but slow answers, as long as a round trip stays below 2/3 of the
        session timeout.
        """
        with self._each(latency=seconds):
            yield

    @contextmanager
    def _each(self, **knobs: object) -> Iterator[None]:
        before = [(proxy, knob, getattr(proxy, knob)) for proxy in self.proxies for knob in knobs]
        try:
            for proxy, knob, _ in before:
                setattr(proxy, knob, knobs[knob])
            yield
        finally:
            for proxy, knob, was in before:
                setattr(proxy, knob, was)

    # -- in a server

    @lasting
    def freeze(self, node: ZooKeeperServer | None = None) -> Iterator[ZooKeeperServer]:
        """Stop a server's process meanwhile (SIGSTOP, or the cgroup's freezer); connections stay open.

        The client: as in `blackhole`. The server: nothing happens in it; thawed after longer than a
        session timeout, it may expire the session or read the client's request first: both occur.

        Args:
            node: of an ensemble, which of its servers.
        """
        one = self._one(node, "freeze")
        one.freeze()
        with self._until(one.thaw):
            yield one

    def kill(self, node: ZooKeeperServer | None = None) -> ZooKeeperServer:
        """End a server by SIGKILL; it is started again by `mend`, or by its own ``start``.

        The client: suspended, its attempts are reset by the proxy, which listens on. The server: no time
        passes for sessions while it is down; started again it gives each its whole timeout anew.
        """
        one = self._one(node, "kill")
        one.kill()
        self._repairs.append(one.start)
        return one

    @lasting
    def outage(self, node: ZooKeeperServer | None = None) -> Iterator[ZooKeeperServer]:
        """Have a server killed meanwhile, and started again at the end; both sides as in `kill`."""
        one = self._one(node, "kill")
        one.kill()
        with self._until(one.start):
            yield one

    def restart(self, node: ZooKeeperServer | None = None) -> None:
        """Stop a server in good order and start it again; both sides as in `kill`."""
        self._one(node, "restart").restart()

    def _one(self, node: ZooKeeperServer | None, deed: str) -> ZooKeeperServer:
        if node is None:
            if len(self.nodes) > 1:
                raise ConfigurationError(
                    f"{deed}: which server? name one of {len(self.nodes)}, or its leader()"
                )
            return self.nodes[0]
        if node not in self.nodes:
            raise ConfigurationError(
                f"cannot {deed} server {node.hosts}: it is none of the {self.target.origin}"
            )
        return node

    # -- in an ensemble

    def kill_leader(self) -> ZooKeeperServer:
        """End the leader by SIGKILL, and return it; it is started again by `mend`.

        The client: suspended, wherever it was connected, since followers close all links while they
        elect; resumed on the same session. The servers: a new leader gives each session its whole
        timeout anew.
        """
        return self.kill(self._ensemble("kill the leader of").leader())

    @lasting
    def lose_quorum(self) -> Iterator[list[ZooKeeperServer]]:
        """Have so many servers killed meanwhile that the rest is no majority; yields those killed.

        The client: suspended; servers that live refuse it. The servers: no time passes for sessions
        while nobody leads; the next leader gives each its whole timeout anew.
        """
        ensemble = self._ensemble("lose the quorum of")
        leader = ensemble.leader()
        down = [leader, *(node for node in self.nodes if node is not leader)][: (len(self.nodes) + 1) // 2]
        _all(node.kill for node in down)  # one after the other, there may be a new leader in between
        with self._until(*(node.start for node in down)):
            yield down

    @lasting
    def cut_quorum_link(self, follower: ZooKeeperServer | None = None) -> Iterator[ZooKeeperServer]:
        """Cut a follower off from the other servers meanwhile, its clients stay connected.

        The client of that server: connected, its reads and heartbeats are answered, until syncLimit
        ticks have passed; then suspended, and expired if it took longer than the session timeout. The
        other servers: expire the session, and delete its ephemerals, at its timeout, while it still
        believes in both.

        Args:
            follower: unless given, one that follows now.

        Raises:
            ConfigurationError: the ensemble was made without ``quorum_links``.
        """
        ensemble = self._ensemble("cut a quorum link of")
        one = self._one(follower or ensemble.followers()[0], "cut a quorum link of")
        ensemble.cut_quorum_link(one)
        with self._until(functools.partial(ensemble.mend_links, one)):
            yield one

    @lasting
    def depose_leader(self) -> Iterator[ZooKeeperServer]:
        """Have the followers leave their leader meanwhile, who does not notice; yields that leader.

        The client of that server: connected, reads, heartbeats and ``sync`` are answered, a write never
        is, until syncLimit ticks have passed; then as in `cut_quorum_link`. The other servers: elect a
        leader, which gives each session its whole timeout anew and then expires it.

        Raises:
            ConfigurationError: the ensemble was made without ``quorum_links``.
        """
        ensemble = self._ensemble("depose the leader of")
        leader = ensemble.depose_leader()
        with self._until(functools.partial(ensemble.mend_links, leader)):
            yield leader

    def rolling_restart(self) -> None:
        """Restart one server after the other, the leader last; each serves before the next goes down.

        The client: suspended and resumed with each server it was on, and once more with the leader;
        always the same session. The servers: sessions and ephemerals stand.
        """
        leader = self._ensemble("restart the servers of").leader()
        for node in [*(one for one in self.nodes if one is not leader), leader]:
            node.restart()
            for one in self.nodes:  # while a leader is elected, none does
                one.wait_serving()

    def _ensemble(self, deed: str) -> ZooKeeperEnsemble:
        if not isinstance(self.target, ZooKeeperEnsemble):
            raise ConfigurationError(f"cannot {deed} a single server: it takes a ZooKeeperEnsemble")
        return self.target

    # -- the end of it

    @contextmanager
    def _until(self, *repairs: Callable[[], object]) -> Iterator[None]:
        self._repairs.extend(repairs)
        try:
            yield
        finally:
            _all([one for one in repairs if self._due(one)])

    def _due(self, repair: Callable[[], object]) -> bool:
        """Take a repair off the list; False if mend() was quicker."""
        try:
            self._repairs.remove(repair)
        except ValueError:
            return False
        return True

    def mend(self) -> None:
        """End every fault: servers thaw and start, links are whole, clients may connect."""
        for proxy in self.proxies:
            proxy.mend()
        repairs, self._repairs[:] = list(self._repairs), []
        _all(repairs)

    def close(self) -> None:
        """Mend everything and stop the proxies; connections through them are reset."""
        with contextlib.ExitStack() as last:
            for proxy in self.proxies:
                last.callback(proxy.close)
            self.mend()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Faults {self.hosts} -> {self.target.hosts}>"


def _all(deeds: Iterable[Callable[[], object]]) -> None:
    """Do them side by side, each once: a server of an ensemble serves only when others do."""
    todo = list(dict.fromkeys(deeds))
    with ThreadPoolExecutor(max(1, len(todo)), thread_name_prefix="coordinator-faults") as pool:
        for done in [pool.submit(one) for one in todo]:
            done.result()


def _client_id(client: Any) -> tuple[int, bytes] | None:
    """The id and the password of a client's session; None if it has none."""
    kazoo = getattr(client, "kazoo", client)
    client_id = getattr(kazoo, "client_id", kazoo)
    if client_id is None:  # without a link it does not tell
        client_id = (getattr(kazoo, "_session_id", None), getattr(kazoo, "_session_passwd", b""))
    return client_id if isinstance(client_id, tuple) and client_id[0] else None
