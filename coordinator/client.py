"""The blocking face: ``Coordinator``.

Every call that waits has a deadline, also while there is no link: ``timeout`` in seconds,
or ``operation_timeout`` of the settings. All of it may be used from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from coordinator.blocking import (
    NOT_STARTED,
    ChildrenView,
    Ephemeral,
    EventStream,
    HandlerThread,
    Transaction,
    ZnodeView,
    deadline_of,
    wait_for,
)
from coordinator.core import operations
from coordinator.core.layout import check_path, deletable
from coordinator.core.messages import AwaitSession, Close, Message, Submit, Want
from coordinator.core.requests import ANY_VERSION, Children, Create, Delete, Exists, Get, Set
from coordinator.engine import clock
from coordinator.engine.engine import Engine
from coordinator.engine.logs import logger
from coordinator.errors import ClosedError, ConfigurationError, DuplicateEphemeralError, MissingChrootError
from coordinator.events import BaseEvent, Event
from coordinator.handles import checked_acl, checked_flags, checked_version, sized
from coordinator.models import ACL, SessionInfo, Stat, Stats, Znode
from coordinator.payload import check_model, decode, encode
from coordinator.settings import Auth, Settings

__all__ = ["Coordinator"]

CLOSE_WITHIN = 2.0
"""Seconds in which close() returns, whatever the state of the link."""

M = TypeVar("M")
E = TypeVar("E", bound=BaseEvent)
T = TypeVar("T")
H = TypeVar("H", Ephemeral, ZnodeView[Any], ChildrenView)


class Coordinator:
    """A ZooKeeper session told truly, and what shall outlive it.

    ::

        with Coordinator("zk1:2181,zk2:2181/prod") as zk:
            worker = zk.ephemeral("/workers/w-1", b"...")
            for event in zk.events():
                print(event)

    Args:
        hosts: ``host:port,host:port/chroot``, or whole ``Settings``; what is not given
            comes from the environment (``COORDINATOR_*``) or is the default.
        session_timeout: seconds asked for; ``session.established`` tells what was granted.
        start_timeout: seconds that ``start()`` waits for a session; 0: it does not wait.
        operation_timeout: seconds until a call without a ``timeout`` of its own gives up.
        connect_timeout: seconds for one server; default: session timeout / servers.
        retry_first_delay: seconds, bound of the first delay between two rounds.
        retry_max_delay: seconds, the greatest bound.
        read_only: accept a session with a server that is cut off from its ensemble.
        auth: credentials, as ``Auth(...)`` or ``"digest:user:password"``.

    Raises:
        ConfigurationError: one of them is wrong; it names all that are.
    """

    def __init__(
        self,
        hosts: str | Settings | None = None,
        *,
        session_timeout: float | None = None,
        start_timeout: float | None = None,
        operation_timeout: float | None = None,
        connect_timeout: float | None = None,
        retry_first_delay: float | None = None,
        retry_max_delay: float | None = None,
        read_only: bool | None = None,
        auth: Auth | str | Sequence[Auth | str] | None = None,
    ) -> None:
        given = {
            "session_timeout": session_timeout,
            "start_timeout": start_timeout,
            "operation_timeout": operation_timeout,
            "connect_timeout": connect_timeout,
            "retry_first_delay": retry_first_delay,
            "retry_max_delay": retry_max_delay,
            "read_only": read_only,
            "auth": auth,
        }
        if isinstance(hosts, Settings):
            if any(value is not None for value in given.values()):
                raise ConfigurationError("give either Settings or single arguments, not both")
            self.settings = hosts
        else:
            self.settings = Settings.make(hosts=hosts, **given)
        self._engine = Engine(self.settings)
        self._started = False
        self._closed = False
        self._handlers: list[HandlerThread] = []

    def __repr__(self) -> str:
        return f"<Coordinator {self.settings.hosts} {self.session!r}>"

    # -- life

    def start(self) -> Self:
        """Connect, and wait for the first session for ``start_timeout`` seconds.

        Raises:
            StartError: there was none in time; the message and ``cause`` tell why. The
                coordinator is closed then.
            MissingChrootError: there is one, but the chroot does not exist.
            AuthFailedError: the server refused the credentials.
            ClosedError: it was closed before; a closed coordinator cannot be started.
        """
        if self._closed:
            raise ClosedError("a closed coordinator cannot be started again; make a new one")
        if self._started:
            return self
        self._started = True
        self._engine.start()
        timeout = self.settings.start_timeout
        if timeout == 0:
            return self
        try:
            deadline = clock.now() + timeout
            self._wait(lambda future: AwaitSession(self.settings.hosts, deadline, timeout, future), timeout)
            self._check_chroot(max(0.1, deadline - clock.now()))
        except BaseException:
            self._close("gave_up")
            raise
        return self

    def _check_chroot(self, timeout: float) -> None:
        chroot = self.settings.chroot
        if chroot and self.exists("/", timeout=timeout) is None:
            raise MissingChrootError(
                f"chroot {chroot} does not exist on {self.session.server}; create it first, by a "
                f"coordinator without a chroot: create({chroot!r}, parents=True)"
            )

    def close(self) -> None:
        """End the session, its ephemerals and watches with it; return within 2 s.

        While the link is down it is waited for, up to 1 s, because only over a link can
        the session be ended; without one it times out on the server, later.
        A second call does nothing.
        """
        self._close("requested")

    def _close(self, reason: Literal["requested", "gave_up"]) -> None:
        first, self._closed = not self._closed, True
        if not first:
            return
        if not self._started:
            self._engine.never()
            return
        end = clock.now() + CLOSE_WITHIN - 0.1
        try:
            self._engine.ask(lambda future: Close(reason, future)).result(CLOSE_WITHIN - 0.1)
        except ClosedError:
            pass  # it had come to its end by itself: auth_failed
        except TimeoutError:
            logger.warning("%r did not close in %.1f s", self, CLOSE_WITHIN)
        self._engine.join(max(0.0, end - clock.now()))
        for handler in self._handlers:
            handler.join(max(0.0, end - clock.now()))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what is known

    @property
    def session(self) -> SessionInfo:
        """The session as this moment knows it; never waits."""
        return self._engine.session

    @property
    def stats(self) -> Stats:
        """Counts of what the events told, over the life and over the last hour."""
        return self._engine.stats

    @property
    def kazoo(self) -> Any:
        """Kazoo's client below, for everything that is not here.

        Do not stop it. After its thread has ended by a fault it is replaced by another
        one, on the same session: ask for it anew instead of keeping it.
        """
        return self._engine.client

    # -- events

    @overload
    def events(self) -> EventStream[Event]: ...
    @overload
    def events(self, *kinds: type[E]) -> EventStream[E]: ...
    def events(self, *kinds: type[BaseEvent]) -> EventStream[Any]:
        """Return a stream of events, subscribed from this moment on.

        It begins with the event that made the session's present state, and ends after
        ``session.closed``. A reader that falls 10,000 events behind gets one
        ``events.dropped`` for what it missed; session events are never dropped.

        Args:
            kinds: classes of ``coordinator.events``, also base classes such as
                ``SessionEvent``; none: all but heartbeats, which are told only to those
                who name ``Heartbeat``.
        """
        for kind in kinds:
            checked: object = kind
            if not (isinstance(checked, type) and issubclass(checked, BaseEvent)):
                raise ConfigurationError(f"events() takes event classes, got {kind!r}")
        return EventStream(self._engine, kinds)

    @overload
    def on(self, handler: Callable[[Event], object]) -> HandlerThread: ...
    @overload
    def on(self, handler: Callable[[E], object], *kinds: type[E]) -> HandlerThread: ...
    def on(self, handler: Callable[[Any], object], *kinds: type[BaseEvent]) -> HandlerThread:
        """Call ``handler(event)`` for each event, on a thread of its own.

        What it raises is logged; how long it takes delays nobody else; it may use this
        coordinator. Close what is returned to end it.
        """
        if not callable(handler):
            raise ConfigurationError(f"on() takes a callable first, got {type(handler).__name__}")
        thread = HandlerThread(self._engine, handler, self.events(*kinds))
        self._handlers = [one for one in self._handlers if one.alive] + [thread]
        return thread

    # -- what outlives a session

    def ephemeral(
        self,
        path: str,
        value: object = b"",
        *,
        acl: Sequence[ACL] | None = None,
        on_conflict: Literal["wait", "fail"] = "wait",
        model: Any = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Ephemeral:
        """Keep an ephemeral znode at that path until it is closed, across sessions.

        Missing parents are created. If it is deleted by somebody it is created again.

        Args:
            path: absolute, within the chroot.
            value: its data: bytes, a pydantic model, or what ``model`` describes.
            acl: who may do what with it; default: everybody everything.
            on_conflict: what to do when the znode is there and not ours: "wait" until it
                goes (an ``ephemeral.conflict`` tells whose it is), or "fail".
            model: a type that the value has to fit; it is written as JSON.
            wait: return after the first outcome; False: at once.
            timeout: seconds to wait for it.

        Raises:
            DuplicateEphemeralError: this coordinator keeps one at that path already.
            EphemeralConflictError: with "fail", somebody else's znode is there.
            ZnodeError: the server refused it, e.g. NoAuthError, InvalidACLError.
            OperationTimeoutError: no outcome in time. After any of these nothing is kept.

        *On expiry:* created again under the new session. *On ConnectionLoss:* nothing
        happens to it; the owner tells whether a create whose answer was lost was done.
        """
        deletable(path)
        if on_conflict not in ("wait", "fail"):
            raise ConfigurationError(f'on_conflict is "wait" or "fail", got {on_conflict!r}')
        if on_conflict == "fail" and not wait:
            raise ConfigurationError('on_conflict="fail" raises, so that it needs wait=True')
        data, acls = encode(value, model), checked_acl(acl)
        sized(Create(path, data, ephemeral=True, acl=acls), self.settings.chroot)
        self._check_open()
        limit = self._deadline(timeout)
        if not self._engine.claim(path):
            raise DuplicateEphemeralError(f"this coordinator keeps an ephemeral at {path} already")
        handle = Ephemeral(self._engine, self.settings, path, data, acls, on_conflict, model)
        return self._want(handle, f"ephemeral {path}", limit, wait=wait)

    @overload
    def watch(self, path: str, *, wait: bool = True, timeout: float | None = None) -> ZnodeView[bytes]: ...
    @overload
    def watch(
        self, path: str, *, model: type[M], wait: bool = True, timeout: float | None = None
    ) -> ZnodeView[M]: ...
    def watch(
        self, path: str, *, model: Any = None, wait: bool = True, timeout: float | None = None
    ) -> ZnodeView[Any]:
        """Return a view of a znode that is kept fresh until it is closed, across sessions.

        The znode need not exist; when it is created, the view follows.

        Args:
            path: absolute, within the chroot.
            model: a type that its data is read as (JSON); default: bytes. Data that does
                not fit is told as ``znode.unreadable``; the view keeps the last that did.
                It is read on the engine's thread: validators must be quick, and must not
                use this coordinator.
            wait: return when it was read once; False: at once.
            timeout: seconds to wait for it.

        *On expiry:* read again under the new session; what changed in between is told by
        events with ``after_gap``.
        """
        check_path(path)
        check_model(model)
        self._check_open()
        limit = self._deadline(timeout)
        view: ZnodeView[Any] = ZnodeView(
            self._engine, self.settings, path, lambda at, data: decode(at, data, model)
        )
        return self._want(view, f"watch {path}", limit, wait=wait)

    def watch_children(self, path: str, *, wait: bool = True, timeout: float | None = None) -> ChildrenView:
        """Return a view of the names of a znode's children, as ``watch`` does of its data."""
        check_path(path)
        self._check_open()
        limit = self._deadline(timeout)
        view = ChildrenView(self._engine, self.settings, path)
        return self._want(view, f"watch_children {path}", limit, wait=wait)

    def _want(self, handle: H, label: str, limit: tuple[float, float], *, wait: bool) -> H:
        seconds, deadline = limit
        if not wait:
            self._engine.post(Want(handle._intent, label, deadline, seconds, None))
            return handle
        try:
            self._wait(lambda future: Want(handle._intent, label, deadline, seconds, future), seconds)
        except BaseException:
            handle._abandon()
            raise
        return handle

    # -- plain operations

    @overload
    def get(self, path: str, *, timeout: float | None = None) -> Znode[bytes]: ...
    @overload
    def get(self, path: str, *, model: type[M], timeout: float | None = None) -> Znode[M]: ...
    def get(self, path: str, *, model: Any = None, timeout: float | None = None) -> Znode[Any]:
        """Return the value and the stat of a znode.

        Raises:
            NoNodeError: there is no such znode.
            PayloadError: its data does not fit the model.
            OperationTimeoutError: no answer in time.

        *On ConnectionLoss:* asked again on the next link, until the deadline.
        """
        check_model(model)
        data, stat = self._run(operations.read(Get(check_path(path))), f"get {path}", timeout)
        return Znode(path, decode(path, data, model), stat)

    def exists(self, path: str, *, timeout: float | None = None) -> Stat | None:
        """Return the stat of a znode, or None if there is no such znode."""
        return self._run(operations.read(Exists(check_path(path))), f"exists {path}", timeout)

    def children(self, path: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the names of a znode's children, sorted."""
        names, _ = self._run(operations.read(Children(check_path(path))), f"children {path}", timeout)
        return tuple(sorted(names))

    def create(
        self,
        path: str,
        value: object = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        parents: bool = False,
        acl: Sequence[ACL] | None = None,
        model: Any = None,
        timeout: float | None = None,
    ) -> str:
        """Create a znode and return its path, which is longer if it is sequential.

        An ephemeral made here ends with the session; see ``ephemeral`` for one that is kept.

        Raises:
            NodeExistsError: it is there already.
            NoNodeError: its parent is missing; ``parents=True`` creates it.
            ConnectionLossError: the answer was lost; ``ambiguous``: it may exist.
            OperationTimeoutError: no answer in time; ``ambiguous`` only if it was sent.

        *On ConnectionLoss:* an ephemeral that is not sequential is looked at: its owner
        tells whether it is ours. Anything else is ambiguous.
        """
        checked_flags(ephemeral=ephemeral, sequential=sequential, parents=parents)
        request = Create(check_path(path), encode(value, model), ephemeral, sequential, checked_acl(acl))
        operation = operations.create(sized(request, self.settings.chroot), parents=parents)
        created, _ = self._run(operation, f"create {path}", timeout)
        return created

    def set(
        self,
        path: str,
        value: object,
        *,
        version: int = ANY_VERSION,
        model: Any = None,
        timeout: float | None = None,
    ) -> Stat:
        """Set the data of a znode and return its new stat.

        Args:
            path: absolute, within the chroot.
            value: bytes, a pydantic model, or what ``model`` describes.
            version: write only if it has this one; -1: whatever it has.
            model: a type that the value has to fit; it is written as JSON.
            timeout: seconds.

        Raises:
            NoNodeError: there is no such znode.
            BadVersionError: it has another version.
            ConnectionLossError: the answer was lost; it may have been done or not.
        """
        request = sized(
            Set(check_path(path), encode(value, model), checked_version(version)), self.settings.chroot
        )
        return self._run(operations.write(request), f"set {path}", timeout)

    def delete(self, path: str, *, version: int = ANY_VERSION, timeout: float | None = None) -> None:
        """Delete a znode that has no children, if it has that version (-1: any).

        Raises:
            NoNodeError, BadVersionError, NotEmptyError: the server refused it.
            ConnectionLossError: the answer was lost; it may have been done or not.
        """
        self._run(
            operations.write(Delete(deletable(path), checked_version(version))), f"delete {path}", timeout
        )

    def transaction(self) -> Transaction:
        """Return a transaction: operations that are carried out together, or not at all.

        ::

            with zk.transaction() as both:
                both.check("/lock", version=3).set("/data", b"...")
        """
        return Transaction(self.settings.chroot, self._run)

    # -- waiting

    def _run(self, operation: operations.Operation[T], label: str, timeout: float | None) -> T:
        self._check_open()
        seconds, deadline = self._deadline(timeout)
        result: T = self._wait(lambda future: Submit(operation, label, deadline, seconds, future), seconds)
        return result

    def _wait(self, message: Callable[[Future[Any]], Message], timeout: float) -> Any:
        return wait_for(self._engine, message, timeout)

    def _deadline(self, timeout: float | None) -> tuple[float, float]:
        return deadline_of(timeout, self.settings)

    def _check_open(self) -> None:
        if not self._started:
            raise ClosedError(NOT_STARTED)
        if self._closed:
            raise ClosedError
