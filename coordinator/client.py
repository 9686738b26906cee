"""The blocking face: ``Coordinator``.

Every call that waits has a deadline, also while there is no link: ``timeout`` in seconds,
or ``operation_timeout`` of the settings. All of it may be used from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from coordinator.blocking import (
    ChildrenView,
    Ephemeral,
    EventStream,
    HandlerThread,
    Transaction,
    ZnodeView,
    ask,
)
from coordinator.core.requests import ANY_VERSION
from coordinator.engine import clock
from coordinator.engine.logs import logger
from coordinator.errors import ClosedError, CoordinatorError
from coordinator.events import BaseEvent, Event
from coordinator.face import checked_handler, checked_kinds
from coordinator.locks import Locking
from coordinator.models import ACL, Stat, Znode
from coordinator.questions import CLOSE_WITHIN, Question
from coordinator.security import AccessWord

__all__ = ["Coordinator"]

M = TypeVar("M")
E = TypeVar("E", bound=BaseEvent)
T = TypeVar("T")
H = TypeVar("H", Ephemeral, ZnodeView[Any], ChildrenView)


class Coordinator(Locking):
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
        tick_time: seconds, the servers' tickTime, if it is known: locks last longer by it.
        read_only: accept a session with a server that is cut off from its ensemble.
        follow_reconfig: follow the ensemble when servers are added or removed.
        auth: credentials, as ``Auth(...)`` or ``"digest:user:password"``.
        tls: how servers are believed, and what they are shown; True: as the system believes.
        sasl: who we are by SASL.
        acl: who may touch what is created without an ACL of its own: "open" (everybody),
            "creator" (who made it), "read" (everybody reads), or a list of ``ACL``.

    Raises:
        ConfigurationError: one of them is wrong; it names all that are.
    """

    _handlers: list[HandlerThread]

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
        self._begin()
        if self.settings.start_timeout == 0:
            return self
        now = self._engine.clock.now
        deadline = now() + self.settings.start_timeout
        try:
            ask(self._engine, self._questions.session(self.hosts))
            if self.settings.chroot and self.exists("/", timeout=max(0.1, deadline - now())) is None:
                raise self._missing_chroot()  # noqa: TRY301 -- it is closed below
        except BaseException:
            self._close("gave_up")
            raise
        return self

    def close(self) -> None:
        """End the session, its ephemerals and watches with it; return within 2 s.

        While the link is down it is waited for, up to 1 s, because only over a link can
        the session be ended; without one it times out on the server, later.
        A second call waits for the same end; one in a forked child does nothing. The session
        of a client that was adopted lives on: what was kept in it is withdrawn.
        """
        self._close("requested")

    def _close(self, reason: Literal["requested", "gave_up"]) -> None:
        if not self._end():
            return
        end = clock.now() + CLOSE_WITHIN - 0.1
        try:
            ask(self._engine, self._questions.close(reason))
        except ClosedError:
            pass  # it had come to its end by itself: auth_failed
        except CoordinatorError:
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
        return EventStream(self._engine, checked_kinds(kinds))

    @overload
    def on(self, handler: Callable[[Event], object]) -> HandlerThread: ...
    @overload
    def on(self, handler: Callable[[E], object], *kinds: type[E]) -> HandlerThread: ...
    def on(self, handler: Callable[[Any], object], *kinds: type[BaseEvent]) -> HandlerThread:
        """Call ``handler(event)`` for each event, on a thread of its own.

        What it raises is logged; how long it takes delays nobody else; it may use this
        coordinator. Close what is returned to end it.
        """
        checked_handler(handler)
        thread = HandlerThread(self._engine, handler, self.events(*kinds))
        self._handlers = [one for one in self._handlers if one.alive] + [thread]
        return thread

    # -- what outlives a session

    def ephemeral(
        self,
        path: str,
        value: object = b"",
        *,
        acl: AccessWord | Sequence[ACL] | None = None,
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
            acl: who may do what with it: "open", "creator", "read" or a list; default: as in the
                settings, which its parents have in any case.
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
        handle, question = self._new_ephemeral(
            Ephemeral,
            path,
            value,
            acl=acl,
            on_conflict=on_conflict,
            model=model,
            wait=wait,
            timeout=timeout,
        )
        return self._keep(handle, question, wait=wait)

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
        view, question = self._new_view(ZnodeView[Any], path, model, timeout)
        return self._keep(view, question, wait=wait)

    def watch_children(self, path: str, *, wait: bool = True, timeout: float | None = None) -> ChildrenView:
        """Return a view of the names of a znode's children, as ``watch`` does of its data."""
        view, question = self._new_children_view(ChildrenView, path, timeout)
        return self._keep(view, question, wait=wait)

    def _keep(self, handle: H, question: Question[None], *, wait: bool) -> H:
        if not wait:
            self._engine.post(question.message(None))
            return handle
        try:
            ask(self._engine, question)
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
        return self._ask(self._questions.get(path, model, timeout))

    def exists(self, path: str, *, timeout: float | None = None) -> Stat | None:
        """Return the stat of a znode, or None if there is no such znode."""
        return self._ask(self._questions.exists(path, timeout))

    def children(self, path: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the names of a znode's children, sorted."""
        return self._ask(self._questions.children(path, timeout))

    def create(
        self,
        path: str,
        value: object = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        parents: bool = False,
        acl: AccessWord | Sequence[ACL] | None = None,
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
        question = self._questions.create(
            path,
            value,
            ephemeral=ephemeral,
            sequential=sequential,
            parents=parents,
            acl=acl,
            model=model,
            timeout=timeout,
        )
        return self._ask(question)

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
        return self._ask(self._questions.set(path, value, version, model, timeout))

    def delete(self, path: str, *, version: int = ANY_VERSION, timeout: float | None = None) -> None:
        """Delete a znode that has no children, if it has that version (-1: any).

        Raises:
            NoNodeError, BadVersionError, NotEmptyError: the server refused it.
            ConnectionLossError: the answer was lost; it may have been done or not.
        """
        self._ask(self._questions.delete(path, version, timeout))

    def transaction(self) -> Transaction:
        """Return a transaction: operations that are carried out together, or not at all.

        ::

            with zk.transaction() as both:
                both.check("/lock", version=3).set("/data", b"...")
        """
        return Transaction(self._engine, self._questions, self._check_open)

    def _ask(self, question: Question[T]) -> T:
        self._check_open()
        return ask(self._engine, question)
