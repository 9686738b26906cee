"""Runs flows: hands each request out while a link is proved, and holds it back otherwise.

A request is either *held* (not sent, certainly not done) or *flying* (sent). kazoo would
queue what is asked of it while the link is down, and carry it out long after the caller
has given up, even under another session; that is why it is held here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coordinator.core.messages import NotSent, Replied
from coordinator.core.requests import Flow, Request
from coordinator.errors import ClosedError, ConnectionLossError, CoordinatorError


@dataclass(eq=False, slots=True)
class Task:
    """A flow that is being run, and the request at which it stands."""

    flow: Flow[Any]
    finished: Callable[[object], None]
    failed: Callable[[Exception], None]
    waits_for_link: bool
    """Held while the link is down; otherwise it is dropped, because it starts anew."""
    dropped: Callable[[], None] | None = None
    request: Request[Any] | None = None
    request_id: int | None = None
    """While it is flying."""
    lost: bool = False
    """A write of it was sent, its answer was lost, and nothing has told yet what became of it."""
    over: bool = False
    given_up: bool = False
    """Nobody waits for it; it goes on only until it is known what a sent write came to."""

    @property
    def unresolved(self) -> bool:
        """Whether something may have been written that nobody knows of."""
        flies = self.request_id is not None and self.request is not None and self.request.writes
        return self.lost or flies


class Runner:
    """The flows of one kernel, and which of their requests are held or flying."""

    def __init__(self, send: Callable[[int, Request[Any]], None]) -> None:
        self._send = send
        self._flying: dict[int, Task] = {}
        self._held: dict[Task, None] = {}  # in the order in which they are sent
        self._last_id = 0
        self.ready = False
        """A link is proved, so that requests may be sent."""

    def start(self, task: Task) -> None:
        """Run the flow up to its first request."""
        self._advance(task, lambda: next(task.flow))

    def next_id(self) -> int:
        """Return a number that no other request has."""
        self._last_id += 1
        return self._last_id

    def open(self) -> None:
        """A link is proved: send what was held."""
        self.ready = True
        held, self._held = self._held, {}
        for task in held:
            if not task.over:
                self._ask(task)

    def shut(self) -> None:
        """The link is gone, or about to be: hold everything from here on."""
        self.ready = False

    def lose(self) -> None:
        """The link is gone and answers no more: what is flying is lost with it."""
        self.shut()
        for request_id in list(self._flying):
            self.replied(Replied(request_id, None, ConnectionLossError("the link was lost"), 0, 0.0))

    def replied(self, reply: Replied) -> None:
        """Go on with the flow whose request was answered, if it still wants to know."""
        task = self._flying.pop(reply.request_id, None)
        if task is None or task.over:
            return
        task.request_id = None
        error = reply.error
        if task.request is not None and task.request.writes:
            task.lost = isinstance(error, ConnectionLossError)
        if isinstance(error, ConnectionLossError):
            self.shut()  # kazoo tells of the lost link only after it has failed its futures
            if not task.waits_for_link:
                self._drop(task)
                return
            error = _about(task.request, error)
        if error is not None:
            self._advance(task, lambda: task.flow.throw(error))
        else:
            self._advance(task, lambda: task.flow.send(reply.value))

    def not_sent(self, message: NotSent) -> None:
        """Hold the request again, or drop its flow."""
        self.shut()
        task = self._flying.pop(message.request_id, None)
        if task is not None and not task.over:
            task.request_id = None
            self._ask(task)

    def awaits(self, request_id: int) -> bool:
        """Whether somebody waits for the answer to that request."""
        return request_id in self._flying

    def cancel(self, task: Task) -> bool:
        """End the flow; return whether a write of it is on its way (ambiguous)."""
        task.over = True
        self._held.pop(task, None)  # a long outage would gather what has timed out
        ambiguous = task.unresolved
        if task.request_id is not None:
            self._flying.pop(task.request_id, None)
        task.flow.close()
        return ambiguous

    def give_up(self, task: Task) -> bool:
        """End the flow, but not before it is known what was written; return whether it goes on."""
        if task.unresolved:
            task.given_up = True
        else:
            self.cancel(task)
        return task.given_up

    def _ask(self, task: Task) -> None:
        if task.given_up and (not task.lost or (task.request is not None and task.request.writes)):
            task.over = True
            task.flow.close()
            task.failed(ClosedError("given up"))
        elif self.ready and task.request is not None:
            task.request_id = self.next_id()
            self._flying[task.request_id] = task
            self._send(task.request_id, task.request)
        elif task.waits_for_link:
            self._held[task] = None
        else:
            self._drop(task)

    def _drop(self, task: Task) -> None:
        task.over = True
        task.flow.close()
        if task.dropped is not None:
            task.dropped()

    def _advance(self, task: Task, go: Callable[[], Request[Any]]) -> None:
        try:
            task.request = go()
        except StopIteration as end:
            task.over = True
            task.finished(end.value)
        except Exception as error:  # noqa: BLE001 -- a flow's error is its owner's, never the engine's
            task.over = True
            task.failed(error)
        else:
            self._ask(task)


def _about(request: Request[Any] | None, error: ConnectionLossError) -> ConnectionLossError:
    """Return the loss as one of that request: what it was, and whether it is ambiguous."""
    if request is None:
        return error
    name, path = type(request).__name__.lower(), request.path
    if not request.writes:
        return ConnectionLossError(f"{name} {path}: the link was lost", ambiguous=False)
    return ConnectionLossError(
        f"{name} {path}: the link was lost before the answer came; it may have been done or not",
        ambiguous=True,
    )


def as_coordinator_error(error: Exception) -> CoordinatorError:
    """Return the error itself, or one of ours that tells of a fault of our own."""
    if isinstance(error, CoordinatorError):
        return error
    wrapped = CoordinatorError(f"a fault of coordinator itself: {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped
