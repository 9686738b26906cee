"""Where a promise is tried: a coordinator with faults on its way, and another one beside it.

    MemorySite   an ensemble in memory           RealSite   a server, and a proxy in front of it

What a fault means is the same on both, and so is what the tests say of them.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

from coordinator import Coordinator, CoordinatorError, NoNodeError, Phase
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    ZooKeeperServer,
    eventually,
    expire,
    session_ids,
    watches,
)
from coordinator.testing.memory import MemoryEnsemble
from tests.faces import Face, Twin, made
from tests.support import PATIENCE, new_place

SHORT = 0.2
"""Seconds after which a call that is to time out gives up."""
TIMEOUT = 10.0
"""Seconds of each session: nothing of what is tried lasts as long."""


class Call:
    """A call that was begun."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    @property
    def done(self) -> bool:
        return self._future.done()

    def end(self) -> None:
        """Wait until it is over, whatever it came to."""
        self._future.exception(PATIENCE)

    def value(self) -> Any:
        return self._future.result(PATIENCE)

    def error(self) -> BaseException:
        error = self._future.exception(PATIENCE)
        assert error is not None, f"no error, but {self._future.result()!r}"
        return error


class Site(ABC):
    """One place, and what can be done to the coordinator that works in it."""

    zk: Any
    """Behind the faults: a Coordinator, or the Twin of an AsyncCoordinator."""
    other: Coordinator
    """Beside it: what others do, and see."""

    def __init__(self, stack: ExitStack, face: Face) -> None:
        self._stack = stack
        self._face = face
        self.base = new_place()
        self.kept: Any = None
        """What the test keeps from its preparation."""

    def open(self) -> None:
        """Start both, and make the place."""
        self.other = self.connect()
        self.other.create(self.base)
        self.zk = self._stack.enter_context(self._faulty())
        self.record = EventRecord(self.zk)
        self.record.until("session.established")

    @abstractmethod
    def _faulty(self) -> Any: ...

    @abstractmethod
    def connect(self, **settings: Any) -> Coordinator:
        """Return one more coordinator, started, without faults."""

    @abstractmethod
    def begin(self, call: Callable[[], Any], until: str) -> Call:
        """Begin a call; return when it is "sent", "held", or "asked": one of the two, or over."""

    @abstractmethod
    def hold(self, *, up: bool = False, down: bool = False) -> None:
        """Let nothing pass in a direction; what is held passes when it is mended."""

    @abstractmethod
    def cut(self) -> None:
        """End the link, what is held is lost; no other is made before it is mended."""

    @abstractmethod
    def mend(self) -> None:
        """Take all faults away; what was held passes, and a link is made."""

    @abstractmethod
    def expire(self) -> None:
        """End the session at the server."""

    @abstractmethod
    def wait(self, what: Callable[[], bool], describe: str = "") -> None:
        """Wait until something is seen; it must be."""

    @abstractmethod
    def pass_time(self, seconds: float) -> None:
        """Let at least that much time pass."""

    @abstractmethod
    def watched(self, path: str) -> bool:
        """Whether the server holds a watch of the coordinator on a path."""

    @abstractmethod
    def sessions(self) -> set[int]:
        """Return the sessions that the server knows."""

    # -- what is seen from beside

    def look(self, name: str) -> tuple[bytes, str, int] | None:
        """Return data, whose ephemeral it is ("mine", "theirs" or "") and version; None: it is not there."""
        try:
            znode = self.other.get(f"{self.base}/{name}")
        except NoNodeError:
            return None
        owner = znode.stat.ephemeral_owner
        whose = "" if not owner else "mine" if owner == self.zk.session.session_id else "theirs"
        return znode.value, whose, znode.stat.version

    def names(self, name: str = "") -> tuple[str, ...]:
        """Return the names of the children of a znode of the place."""
        return self.other.children(f"{self.base}/{name}" if name else self.base)

    def told(self, *kinds: str) -> list[Any]:
        """Wait for each of these kinds of events; return what was told, and nothing may be left out."""
        events = [*self.record.until(*kinds), *self.record.quiet(0)]
        return [event for event in events if event.kind != "connection.failed"]

    def tells(self, *kinds: str) -> None:
        """Assert that exactly these kinds were told: of the session in this order, of the rest in any."""
        told = [event.kind for event in self.told(*kinds)]
        assert Counter(told) == Counter(kinds), told
        assert [kind for kind in told if _of_session(kind)] == [kind for kind in kinds if _of_session(kind)]


def _of_session(kind: str) -> bool:
    return kind.startswith(("connection.", "session.", "recovery."))


class MemorySite(Site):
    """An ensemble in memory."""

    def __init__(self, stack: ExitStack, face: Face) -> None:
        super().__init__(stack, face)
        self._memory = stack.enter_context(MemoryEnsemble())

    def _faulty(self) -> Any:
        return self._face(self._memory, session_timeout=TIMEOUT)

    def connect(self, **settings: Any) -> Coordinator:
        return self._stack.enter_context(self._memory.coordinator(session_timeout=TIMEOUT, **settings))

    def begin(self, call: Callable[[], Any], until: str) -> Call:
        kernel = self.zk._engine._kernel
        if isinstance(self.zk, Twin):  # another thread asks
            future = _in_thread(call)
            eventually(lambda: future.done() or len(kernel.calls) > 0, message="asked")
            self._memory.settle()
        else:
            future = self._memory.begin(call)
        if until == "sent":
            assert kernel._runner._flying
        elif until == "held":
            assert kernel.calls
            assert not kernel._runner._flying
        return Call(future)

    def hold(self, *, up: bool = False, down: bool = False) -> None:
        self._memory.blackhole(self.zk, up=up, down=down)

    def cut(self) -> None:
        self._memory.refuse(self.zk)
        self._memory.cut(self.zk)

    def mend(self) -> None:
        self._memory.mend(self.zk)
        self._memory.advance(2.0)

    def expire(self) -> None:
        self._memory.expire(self.zk)

    def wait(self, what: Callable[[], bool], describe: str = "") -> None:
        self._memory.settle()
        if not what():
            self._memory.advance(2.0)  # the backoff of what is tried again
        assert what(), describe

    def pass_time(self, seconds: float) -> None:
        self._memory.advance(seconds)

    def watched(self, path: str) -> bool:
        return self.zk.session.session_id in self._memory.watches().get(path, set())

    def sessions(self) -> set[int]:
        return self._memory.session_ids()


class RealSite(Site):
    """A server, and a proxy in front of it."""

    def __init__(self, stack: ExitStack, face: Face, server: ZooKeeperServer) -> None:
        super().__init__(stack, face)
        self._server = server
        self._proxy = stack.enter_context(FaultProxy(*server.address))

    def open(self) -> None:
        super().open()
        self._client_id = self.zk.kazoo.client_id  # kazoo forgets it while there is no link

    def _faulty(self) -> Any:
        return self._face(self._proxy.hosts, session_timeout=TIMEOUT)

    def connect(self, **settings: Any) -> Coordinator:
        return self._stack.enter_context(Coordinator(self._server.hosts, session_timeout=TIMEOUT, **settings))

    def begin(self, call: Callable[[], Any], until: str) -> Call:
        kernel, future = self.zk._engine._kernel, _in_thread(call)
        ways: dict[str, Callable[[], bool]] = {
            "sent": lambda: bool(kernel._runner._flying),
            "held": lambda: len(kernel.calls) > 0,
            "asked": lambda: future.done() or len(kernel.calls) > 0,
        }
        eventually(ways[until], message=until)
        return Call(future)

    def hold(self, *, up: bool = False, down: bool = False) -> None:
        if up:
            self._proxy.blackhole_up = True
        if down:
            self._proxy.blackhole_down = True

    def cut(self) -> None:
        self._proxy.refuse = True
        self._proxy.cut()
        eventually(lambda: self.zk.session.phase is Phase.SUSPENDED, message="suspended")

    def mend(self) -> None:
        self._proxy.blackhole = False
        self._proxy.refuse = False
        eventually(lambda: self.zk.session.phase is Phase.CONNECTED, message="connected")

    def expire(self) -> None:
        expire(self._client_id, self._server.hosts)

    def wait(self, what: Callable[[], bool], describe: str = "") -> None:
        eventually(what, message=describe)

    def pass_time(self, seconds: float) -> None:
        """It passes by itself: whoever waits for it waits."""

    def watched(self, path: str) -> bool:
        return self.zk.session.session_id in watches(self._server).get(path, set())

    def sessions(self) -> set[int]:
        return session_ids(self._server)


def _in_thread(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except CoordinatorError as error:
            future.set_exception(error)

    threading.Thread(target=run, name="test-call").start()
    return future


@contextmanager
def opened(kind: str, server: Callable[[], ZooKeeperServer], face: str = "blocking") -> Iterator[Site]:
    """A site of that kind; ``server`` is asked for only where it is needed."""
    with ExitStack() as stack:
        make = stack.enter_context(made(face))
        site: Site = MemorySite(stack, make) if kind == "memory" else RealSite(stack, make, server())
        site.open()
        yield site
