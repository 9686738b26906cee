"""How it ends: for one caller who has given up, and for all of them.

Nothing that was created for somebody who has given up is left behind. close() waits for
that, a little; then the client is stopped, and whoever still waits is answered.

::

    Abandon --> held: dropped    on the wire: goes on until its outcome is known
                                      +--> what it made is undone, by deleting it
    Close ----> the others answered --> [undone, or nothing can be] --> client stopped --> CLOSED
"""

from __future__ import annotations

from collections.abc import Container
from copy import copy
from typing import TYPE_CHECKING, Any

from coordinator.core import operations
from coordinator.core import session as machine
from coordinator.core.intent import Made
from coordinator.core.messages import Abandon, Close, Settle, StopClient, Waiter
from coordinator.core.requests import Request, ask
from coordinator.core.runner import Runner, Task
from coordinator.core.slots import Slots
from coordinator.errors import AuthFailedError, ClosedError, CoordinatorError
from coordinator.models import Phase

if TYPE_CHECKING:
    from coordinator.core.calls import Call
    from coordinator.core.kernel import Kernel

CLOSE_GRACE = 0.8
"""Seconds for which closing waits for a lost link, because only over a link can the
session, and with it its ephemerals, be ended at once, and what was made for those who gave
up be deleted. Less than half of what close() promises."""

WITHDRAW_WITHIN = 1.4
"""Seconds that closing takes at most to withdraw what was kept, where the session lives on."""


class Ending:
    """Who has given up, what is being undone, and whether all of it is to end.

    Args:
        kernel: whose end it is.
        runner: runs what is undone.
        slots: what is kept.
        shared: the client is somebody else's; its session lives on, so that what is kept
            has to be withdrawn.
    """

    def __init__(self, kernel: Kernel, runner: Runner, slots: Slots, *, shared: bool) -> None:
        self._kernel = kernel
        self._runner = runner
        self._slots = slots
        self._shared = shared
        self._undoing: set[Task] = set()
        self._reason: machine.Reason = "requested"
        self._waiters: list[Waiter] = []
        self.begun = False
        """It was asked for: nothing new is taken on."""
        self.stopping = False
        """The client was told to stop."""
        self.why: CoordinatorError = ClosedError()
        """What a start that came too late is told."""

    # -- one who has given up

    def give_up(self, message: Abandon) -> None:
        """Let nothing more be done for him, and undo what was made."""
        call = self._kernel.calls.find(message.waiter)
        if call is not None and call.task is not None and self._runner.give_up(call.task):
            call.made = message.made  # to be undone when it is known what there is
            return
        if call is not None:
            self._kernel.calls.answer(call, error=ClosedError(f"{call.label}: given up"))
        self._undo(message.made)

    def answer(self, call: Call, value: object, error: BaseException | None) -> None:
        """Answer a call whose task is over; undo what was made for somebody who has given up."""
        made = call.made
        self._kernel.calls.answer(call, value, error)
        if made is not None:
            self._undo(made)
            self.tidied()

    def _undo(self, made: Made) -> None:
        """Undo one request after the other, the last first; each is looked at before."""
        if not made or self._kernel.session.phase is Phase.CLOSED:
            return
        self._look(made, made.pop())

    def _look(self, rest: Made, made: tuple[tuple[str, int], ...]) -> None:
        def seen(deletion: object) -> None:
            self._undoing.discard(task)
            if isinstance(deletion, Request):
                self._delete(rest, made, deletion)
            else:  # it is not ours alone, or we may not look
                self._next(rest)

        task = Task(operations.deletion(made), finished=seen, failed=seen, waits_for_link=True)
        self._run(task)

    def _delete(self, rest: Made, made: tuple[tuple[str, int], ...], deletion: Request[Any]) -> None:
        def over(_: object) -> None:
            self._undoing.discard(task)
            self._next(rest)

        def again() -> None:  # under another session it might be somebody else's
            self._undoing.discard(task)
            self._look(rest, made)

        task = Task(ask(deletion), finished=over, failed=over, waits_for_link=False, dropped=again)
        self._run(task)

    def _run(self, task: Task) -> None:
        self._undoing.add(task)
        self._runner.start(task)

    def _next(self, rest: Made) -> None:
        self._undo(rest)
        self.tidied()

    @property
    def untidy(self) -> set[Task]:
        """What still has to end so that nothing is left of those who gave up."""
        tasks = (call.task for call in self._kernel.calls.all())
        return self._undoing.union(task for task in tasks if task is not None and task.given_up)

    # -- all of them

    def close(self, message: Close) -> None:
        """Begin the end; the waiter is answered when it is over."""
        kernel = self._kernel
        if kernel.session.phase is Phase.CLOSED:
            kernel.effect(Settle(message.waiter))
            return
        self._waiters.append(message.waiter)
        if self.begun:
            return
        self.begun, self._reason = True, message.reason
        untidy = self.untidy
        self._answer_all(ClosedError(), leaving=untidy)
        kernel.beats.end_all("closed")
        if self._shared:
            self._slots.withdraw_all()
            kernel.alarms.set(kernel.moment.now + WITHDRAW_WITHIN, self._stop)
            return
        self._slots.abandon()
        if untidy or (kernel.session.session_id and kernel.session.link is None):
            kernel.alarms.set(kernel.moment.now + CLOSE_GRACE, self._stop)
        else:
            self._stop()

    def tidied(self) -> None:
        """Stop the client if only that is left to be done."""
        if not self.begun or self.untidy:
            return
        if not self._slots.any if self._shared else self._kernel.session.link is not None:
            self._stop()

    def _stop(self) -> None:
        if not self.stopping and self._kernel.session.phase is not Phase.CLOSED:
            self.stopping = True
            self._kernel.tell(self._slots.left_behind())
            self._kernel.effect(StopClient(self._reason))

    def closed(self, signal: machine.Signal) -> None:
        """Answer everybody: the session is closed, by that signal."""
        kernel = self._kernel
        error: CoordinatorError = ClosedError()
        if isinstance(signal, machine.AuthFailed):
            kernel.effect(StopClient("auth_failed"))
            server = f"{kernel.session.server}: " if kernel.session.server else ""
            error = self.why = AuthFailedError(server + signal.detail, cause=signal.cause)
        elif isinstance(signal, machine.Ended):
            kernel.effect(StopClient(signal.reason))
            told = "was stopped by its owner" if signal.reason == "stopped" else "ended by itself"
            error = ClosedError(f"the kazoo client that was adopted {told}")
        self._answer_all(error)
        self._slots.abandon()
        for waiter in self._waiters:
            kernel.effect(Settle(waiter))
        kernel.alarms.clear()

    def _answer_all(self, error: CoordinatorError, leaving: Container[Task | None] = ()) -> None:
        for call in self._kernel.calls.all():
            if call.task in leaving:
                continue
            sent = call.task is not None and self._runner.cancel(call.task)
            # A copy each, because each is raised in another thread.
            self._kernel.calls.answer(call, error=ClosedError(ambiguous=True) if sent else copy(error))
