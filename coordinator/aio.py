"""The asyncio face: ``AsyncCoordinator``.

The same names, parameters and defaults as ``Coordinator``, where they are explained in
full; whatever waits is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from coordinator.aio_locks import AsyncLocking
from coordinator.awaiting import (
    AsyncChildrenView,
    AsyncEphemeral,
    AsyncEventStream,
    AsyncTransaction,
    AsyncZnodeView,
    HandlerTask,
    ask,
)
from coordinator.core.requests import ANY_VERSION
from coordinator.engine import clock
from coordinator.engine.logs import logger
from coordinator.errors import ClosedError, CoordinatorError
from coordinator.events import BaseEvent, Event
from coordinator.face import checked_handler, checked_kinds
from coordinator.models import ACL, Stat, Znode
from coordinator.questions import CLOSE_WITHIN, Question
from coordinator.security import AccessWord

__all__ = ["AsyncCoordinator"]

M = TypeVar("M")
E = TypeVar("E", bound=BaseEvent)
T = TypeVar("T")
H = TypeVar("H", AsyncEphemeral, AsyncZnodeView[Any], AsyncChildrenView)


class AsyncCoordinator(AsyncLocking):
    """A ZooKeeper session told truly, and what shall outlive it, for asyncio.

    ::

        async with AsyncCoordinator("zk1:2181,zk2:2181/prod") as zk:
            worker = await zk.ephemeral("/workers/w-1", b"...")
            async for event in zk.events():
                print(event)

    It may be made anywhere, and belongs to the event loop in which it is used first; no
    call blocks that loop. Arguments and errors: as of ``Coordinator``.

    *Cancellation:* a wait that is cancelled leaves nothing behind: what was not sent is
    not done; what was created is deleted again, unless somebody has changed it since, or
    the link broke before the answer came; what else was sent may have been done or not.
    """

    _handlers: list[HandlerTask]

    # -- life

    async def start(self) -> Self:
        """Connect, and wait for the first session for ``start_timeout`` seconds.

        *Cancellation:* it is closed then.
        """
        self._here()
        self._begin()
        if self.settings.start_timeout == 0:
            return self
        now = self._engine.clock.now
        deadline = now() + self.settings.start_timeout
        try:
            await self._put(self._questions.session(self.hosts))
            if self.settings.chroot:
                remaining = max(0.1, deadline - now())
                if await self.exists("/", timeout=remaining) is None:
                    raise self._missing_chroot()  # noqa: TRY301 -- it is closed below
        except GeneratorExit:  # nothing can be awaited any more
            if self._end():
                self._engine.post(self._questions.close("gave_up").message(None))
            raise
        except BaseException:
            await self._close("gave_up")
            raise
        return self

    async def close(self) -> None:
        """End the session, its ephemerals and watches with it; return within 2 s.

        *Cancellation:* it is closed all the same.
        """
        await self._close("requested")

    async def _close(self, reason: Literal["requested", "gave_up"]) -> None:
        if self._engine.forked:
            return
        bridge = self._here()
        end = clock.now() + CLOSE_WITHIN - 0.1
        # Tasks that were cancelled a moment ago have yet to say what they give up.
        await asyncio.sleep(0)
        if not self._end():
            return
        try:
            await ask(self._engine, bridge, self._questions.close(reason))
        except ClosedError:
            pass  # it had come to its end by itself, or was closed before
        except CoordinatorError:
            logger.warning("%r did not close in %.1f s", self, CLOSE_WITHIN)
        self._engine.join(0.05)  # its last act was to answer: it ends now
        busy = [handler for handler in self._handlers if handler.alive]
        try:
            for handler in busy:
                await handler.join(max(0.0, end - clock.now()))
        finally:
            for handler in busy:  # if this was cancelled before they had ended
                handler._abandon()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- events

    @overload
    def events(self) -> AsyncEventStream[Event]: ...
    @overload
    def events(self, *kinds: type[E]) -> AsyncEventStream[E]: ...
    def events(self, *kinds: type[BaseEvent]) -> AsyncEventStream[Any]:
        """Return a stream of events, subscribed from this moment on."""
        return AsyncEventStream(self._engine, self._here(), checked_kinds(kinds))

    @overload
    def on(self, handler: Callable[[Event], object]) -> HandlerTask: ...
    @overload
    def on(self, handler: Callable[[E], object], *kinds: type[E]) -> HandlerTask: ...
    def on(self, handler: Callable[[Any], object], *kinds: type[BaseEvent]) -> HandlerTask:
        """Call ``handler(event)`` for each event, in a task of its own.

        What it returns is awaited if it can be. What it raises is logged.
        """
        checked_handler(handler)
        task = HandlerTask(self._engine, handler, self.events(*kinds))
        self._handlers = [one for one in self._handlers if one.alive] + [task]
        return task

    # -- what outlives a session

    async def ephemeral(
        self,
        path: str,
        value: object = b"",
        *,
        acl: AccessWord | Sequence[ACL] | None = None,
        on_conflict: Literal["wait", "fail"] = "wait",
        model: Any = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> AsyncEphemeral:
        """Keep an ephemeral znode at that path until it is closed, across sessions.

        *Cancellation:* it is withdrawn; missing parents that were created stay.
        """
        handle, question = self._new_ephemeral(
            partial(AsyncEphemeral, bridge=self._here()),
            path,
            value,
            acl=acl,
            on_conflict=on_conflict,
            model=model,
            wait=wait,
            timeout=timeout,
        )
        return await self._keep(handle, question, wait=wait)

    @overload
    async def watch(
        self, path: str, *, wait: bool = True, timeout: float | None = None
    ) -> AsyncZnodeView[bytes]: ...
    @overload
    async def watch(
        self, path: str, *, model: type[M], wait: bool = True, timeout: float | None = None
    ) -> AsyncZnodeView[M]: ...
    async def watch(
        self, path: str, *, model: Any = None, wait: bool = True, timeout: float | None = None
    ) -> AsyncZnodeView[Any]:
        """Return a view of a znode that is kept fresh until it is closed, across sessions."""
        make = partial(AsyncZnodeView[Any], bridge=self._here())
        view, question = self._new_view(make, path, model, timeout)
        return await self._keep(view, question, wait=wait)

    async def watch_children(
        self, path: str, *, wait: bool = True, timeout: float | None = None
    ) -> AsyncChildrenView:
        """Return a view of the names of a znode's children, as ``watch`` does of its data."""
        make = partial(AsyncChildrenView, bridge=self._here())
        view, question = self._new_children_view(make, path, timeout)
        return await self._keep(view, question, wait=wait)

    async def _keep(self, handle: H, question: Question[None], *, wait: bool) -> H:
        if not wait:
            self._engine.post(question.message(None))
            return handle
        try:
            await self._put(question)
        except BaseException:
            handle._abandon()
            raise
        return handle

    # -- plain operations

    @overload
    async def get(self, path: str, *, timeout: float | None = None) -> Znode[bytes]: ...
    @overload
    async def get(self, path: str, *, model: type[M], timeout: float | None = None) -> Znode[M]: ...
    async def get(self, path: str, *, model: Any = None, timeout: float | None = None) -> Znode[Any]:
        """Return the value and the stat of a znode."""
        return await self._ask(self._questions.get(path, model, timeout))

    async def exists(self, path: str, *, timeout: float | None = None) -> Stat | None:
        """Return the stat of a znode, or None if there is no such znode."""
        return await self._ask(self._questions.exists(path, timeout))

    async def children(self, path: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the names of a znode's children, sorted."""
        return await self._ask(self._questions.children(path, timeout))

    async def create(
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

        *Cancellation:* what was created, parents too, is deleted again, unless somebody
        has changed it or built on it since; if the link breaks before that is known, a
        znode that is not ephemeral may stay.
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
        return await self._ask(question)

    async def set(
        self,
        path: str,
        value: object,
        *,
        version: int = ANY_VERSION,
        model: Any = None,
        timeout: float | None = None,
    ) -> Stat:
        """Set the data of a znode and return its new stat.

        *Cancellation:* once it was sent it may have been done or not.
        """
        return await self._ask(self._questions.set(path, value, version, model, timeout))

    async def delete(self, path: str, *, version: int = ANY_VERSION, timeout: float | None = None) -> None:
        """Delete a znode that has no children, if it has that version (-1: any).

        *Cancellation:* once it was sent it may have been done or not.
        """
        await self._ask(self._questions.delete(path, version, timeout))

    def transaction(self) -> AsyncTransaction:
        """Return a transaction: operations that are carried out together, or not at all.

        ::

            async with zk.transaction() as both:
                both.check("/lock", version=3).set("/data", b"...")
        """
        return AsyncTransaction(self._engine, self._questions, self._check_open, bridge=self._here())

    # -- the loop

    async def _ask(self, question: Question[T]) -> T:
        self._check_open()
        return await self._put(question)

    async def _put(self, question: Question[T]) -> T:
        return await ask(self._engine, self._here(), question)
