"""What a test holds in its hands: an ensemble in memory, its clock, and its faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar

from coordinator.aio import AsyncCoordinator
from coordinator.client import Coordinator
from coordinator.core.messages import Close
from coordinator.errors import ConfigurationError
from coordinator.settings import Settings
from coordinator.testing.memory.port import MemoryPort
from coordinator.testing.memory.server import MemoryServer
from coordinator.testing.memory.turns import PATIENCE, TurnClock, TurnInbox, Turns

P = ParamSpec("P")
T = TypeVar("T")
Client: TypeAlias = Coordinator | AsyncCoordinator

HOSTS = "memory:2181"
"""Where it is, unless a coordinator is told another name: any name leads to it."""
WITHOUT = ("tls", "sasl", "follow_reconfig")
"""Settings that mean nothing without a server."""


class MemoryWiring:
    """What one engine stands on here."""

    def __init__(self, server: MemoryServer, seed: str) -> None:
        self._server = server
        self.clock = TurnClock(server.turns, seed)
        self.inbox = TurnInbox(server.turns, self.clock)

    def port(self, settings: Settings, name: str) -> MemoryPort:
        """Return the way into the ensemble."""
        return MemoryPort(settings, self._server, self.clock, self.inbox)


class MemoryEnsemble:
    """A ZooKeeper without a server, for real coordinators: ours is all but the network and the server.

    ::

        with MemoryEnsemble() as zookeeper, zookeeper.coordinator(session_timeout=10.0) as zk:
            zk.ephemeral("/workers/w-1")
            zookeeper.expire(zk)
            zookeeper.advance(1.0)
            assert zk.get("/workers/w-1").stat.ephemeral_owner == zk.session.session_id

    Time stands still until ``advance``: deadlines, lapses, backoff, heartbeats and the sessions of
    the ensemble go by its clock alone. When a method returns, all that follows from it at this
    moment has been done: requests, answers, watches, events, in an order that is the same in each
    run. What a *coordinator* was asked for has been done when the call returns; what that makes
    other coordinators do, whatever is asked or broken next waits for, and ``settle`` does. Not
    covered are threads and tasks of the test's own, handlers of ``on`` among them: wait for those
    as ever.

    Args:
        tick: seconds; a session ends up to a tick after its timeout, as on a server.
        seed: what all jitter is drawn from.
    """

    def __init__(self, *, tick: float = 0.1, seed: int = 0) -> None:
        if not 0 < tick <= 60:
            raise ConfigurationError(f"tick is in seconds, above 0 and up to 60, got {tick!r}")
        self._turns = Turns()
        self._server = MemoryServer(self._turns, tick)
        self._seed = seed
        self._numbers = count(1)

    # -- coordinators

    def coordinator(self, hosts: str = HOSTS, **settings: Any) -> Coordinator:
        """Return a new coordinator on this ensemble, yet to be started.

        Args:
            hosts: any names, and a chroot: ``"memory:2181/prod"``.
            settings: as of ``Coordinator``; the environment is not looked at.

        Raises:
            ConfigurationError: one of them is wrong, or needs a server: TLS, SASL, reconfiguration.
        """
        return Coordinator._wired(self._settings(hosts, settings), self._wiring())

    def async_coordinator(self, hosts: str = HOSTS, **settings: Any) -> AsyncCoordinator:
        """Return a new coordinator for an event loop; arguments as of ``coordinator``."""
        return AsyncCoordinator._wired(self._settings(hosts, settings), self._wiring())

    def _settings(self, hosts: str, given: dict[str, Any]) -> Settings:
        for name in WITHOUT:
            if given.get(name):
                raise ConfigurationError(f"{name} needs a server: a MemoryEnsemble has none")
        rest = {name: field.default for name, field in Settings.model_fields.items() if name not in given}
        rest["tls"] = False  # None would leave it to the environment
        return Settings.make(**{**rest, **given, "hosts": hosts})

    def _wiring(self) -> MemoryWiring:
        return MemoryWiring(self._server, f"{self._seed}-{next(self._numbers)}")

    # -- time

    @property
    def now(self) -> float:
        """What its clock reads, in seconds."""
        return self._turns.now

    def settle(self) -> None:
        """Wait until everything has been done that is to be done at this moment.

        Raises:
            CoordinatorError: that takes more than 10 s of the system's clock.
        """
        self._turns.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass: stop wherever something falls due, and have it done.

        Raises:
            ConfigurationError: time does not go back.
        """
        if not 0 <= seconds <= 1e9:
            raise ConfigurationError(f"time passes by seconds, from 0 to 1e9, got {seconds!r}")
        turns = self._turns
        with turns.changed:
            end = turns.now + seconds
            turns.settle()
            while (due := self._next_due()) is not None and due <= end:
                turns.now = max(turns.now, due)
                self._server.expire_due()
                turns.settle()
            turns.now = max(turns.now, end)  # another thread may have gone on
            turns.settle()

    def _next_due(self) -> float | None:
        times = [one.wakes_at for one in self._turns.inboxes]
        return min((when for when in (*times, self._server.next_expiry()) if when is not None), default=None)

    def begin(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a call that waits, in a thread of its own, for time to be advanced beside it.

        ::

            zookeeper.blackhole(zk)
            getting = zookeeper.begin(zk.get, "/config", timeout=1.0)
            zookeeper.advance(1.0)
            with pytest.raises(OperationTimeoutError):
                getting.result()

        Returns when what it asked for has been done or is waited for, or the call is over.
        """
        turns, future = self._turns, Future[T]()

        def run() -> None:
            with turns.changed:
                turns.asked[threading.get_ident()] = 0  # it may have been another thread's number
                begun.set()
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 -- it is raised where the result is asked for
                future.set_exception(error)
            finally:
                with turns.changed:
                    turns.changed.notify_all()

        begun = threading.Event()
        thread = threading.Thread(target=run, name="coordinator-memory-call", daemon=True)
        thread.start()
        begun.wait(PATIENCE)
        with turns.changed:
            turns.changed.wait_for(lambda: future.done() or turns.asked[thread.ident or 0], PATIENCE)
            turns.settle()
        return future

    # -- faults; None: all clients

    def cut(self, zk: Client | None = None) -> None:
        """End the link, and lose what is on its way; it is made anew after a pause."""
        self._do(zk, lambda port: port.cut())

    def refuse(self, zk: Client | None = None) -> None:
        """Refuse new links from now on; one that stands is left alone."""
        self._do(zk, lambda port: setattr(port.faults, "refuse", True))

    def blackhole(self, zk: Client | None = None, *, up: bool = True, down: bool = True) -> None:
        """Let nothing pass, while the link stays open; what is sent arrives when it is mended.

        Args:
            zk: whose.
            up: from client to server.
            down: from server to client: requests arrive, answers do not.
        """

        def hold(port: MemoryPort) -> None:
            port.faults.up |= up
            port.faults.down |= down

        self._do(zk, hold)

    def lose_request(self, zk: Client | None = None) -> None:
        """Lose the next request before it arrives, and the link with it."""
        self._do(zk, lambda port: setattr(port.faults, "lose", "request"))

    def lose_answer(self, zk: Client | None = None) -> None:
        """Lose the answer to the next request after that was carried out, and the link with it."""
        self._do(zk, lambda port: setattr(port.faults, "lose", "answer"))

    def mend(self, zk: Client | None = None) -> None:
        """Take these faults away; what was held by a black hole arrives."""

        def pass_on(port: MemoryPort) -> None:
            port.faults.refuse = port.faults.up = port.faults.down = False
            port.faults.lose = ""
            port.flow()

        self._do(zk, pass_on)

    def expire(self, zk: Client | None = None) -> None:
        """End the session at the server, and its ephemerals; the client hears of it on its next link."""

        def end(port: MemoryPort) -> None:
            if port.session_id in self._server.zookeeper.sessions:
                self._server.end(port.session_id)

        self._do(zk, end)

    def freeze(self, zk: Client | None = None) -> None:
        """Stop a client's process, which then notices nothing; without one: the server."""
        with self._at_rest():
            if zk is None:
                self._server.frozen = True
            else:
                self._port(zk).inbox.frozen = True

    def thaw(self, zk: Client | None = None) -> None:
        """Let it go on: what has timed out meanwhile has."""
        with self._at_rest():
            if zk is None:
                self._server.frozen = False
                self._server.expire_due()
                for port in self._server.ports:
                    port.flow()
            else:
                port = self._port(zk)
                port.inbox.frozen = False
                port.thawed()

    def lose_quorum(self) -> None:
        """Leave a server without a quorum: it only reads, for those with ``read_only=True``."""
        with self._at_rest():
            self._server.lose_quorum()

    def regain_quorum(self) -> None:
        """End that: sessions of before are still there, and have their whole timeout again."""
        with self._at_rest():
            self._server.regain_quorum()

    def _do(self, zk: Client | None, fault: Callable[[MemoryPort], object]) -> None:
        with self._at_rest():
            for port in [self._port(zk)] if zk is not None else list(self._server.ports):
                fault(port)

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Change something when all that came before has been done, and have done what follows."""
        with self._turns.changed:
            self._turns.settle()
            yield
            self._turns.settle()

    def _port(self, zk: Client) -> MemoryPort:
        port = zk._engine._port
        if not isinstance(port, MemoryPort) or port not in self._server.ports:
            raise ConfigurationError(f"{zk!r} is not a started coordinator of this ensemble")
        return port

    # -- what the server knows

    def session_ids(self) -> set[int]:
        """Return the sessions that there are."""
        with self._turns.changed:
            return set(self._server.zookeeper.sessions)

    def ephemerals(self) -> dict[int, set[str]]:
        """Return the paths of the ephemerals, by session."""
        with self._turns.changed:
            zookeeper = self._server.zookeeper
            owned = {session: set(zookeeper.owned(session)) for session in zookeeper.sessions}
            return {session: paths for session, paths in owned.items() if paths}

    def watches(self) -> dict[str, set[int]]:
        """Return the sessions that watch something, by path."""
        with self._turns.changed:
            return self._server.zookeeper.watchers()

    # -- the end

    def close(self) -> None:
        """Close the coordinators that are still open."""
        with self._turns.changed:
            self._turns.rest()
            for inbox in list(self._turns.inboxes):
                inbox.tell(Close("requested", None))
            self._turns.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MemoryEnsemble at {self.now:.3f} s, {len(self.session_ids())} sessions>"


__all__ = ["MemoryEnsemble"]
