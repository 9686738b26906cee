"""The intents of a kernel: when each is run, and how a new session brings them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from coordinator.core.calls import Call
from coordinator.core.contention import Contention
from coordinator.core.intent import Intent, Outcome
from coordinator.core.messages import Fired, Refresh, Renew, Settle, StepDown, Unwant, Want
from coordinator.core.presence import Presence
from coordinator.core.recovery import Recovery
from coordinator.core.runner import Runner, Task, as_coordinator_error
from coordinator.errors import (
    ClosedError,
    CoordinatorError,
    DuplicateEphemeralError,
    EphemeralConflictError,
    OperationTimeoutError,
)

if TYPE_CHECKING:
    from coordinator.core.draft import Draft
    from coordinator.core.kernel import Kernel
    from coordinator.core.session import Session

BACKOFF_FIRST = 0.1
"""Seconds before an intent that failed is tried again; doubled each time."""
BACKOFF_MAX = 10.0
"""The longest such delay: how late a mended permission is noticed."""
BACKOFF_FORGET = 30.0
"""Seconds without a failure after which the delay starts small again."""


@dataclass(eq=False, slots=True)
class Slot:
    """An intent, and where it stands."""

    intent: Intent
    task: Task | None = None
    unresolved: bool = False
    """A write of a run that was dropped may have been carried out."""
    again: bool = False
    """A trigger came while it ran, or while it could not run."""
    gap: bool = False
    """Since the last outcome there was a time in which no watch stood."""
    tries: int = 0
    tried_at: float = 0.0
    alarm: int = 0
    """Number of the backoff that is awaited; another one has been overtaken."""
    waiting: list[tuple[Call, bool]] = field(default_factory=list)
    """Calls to answer with the outcome of the next run; True: it is the first outcome,
    and an error means that nothing is kept."""
    served: list[tuple[Call, bool]] = field(default_factory=list)
    """Those whose run has begun."""
    withdrawing: list[tuple[Call, CoordinatorError | None]] | None = None
    """Calls to answer when it is withdrawn, and with what; None: it is wanted."""


class Slots:
    """All intents of one kernel."""

    def __init__(self, kernel: Kernel, runner: Runner) -> None:
        self._kernel = kernel
        self._runner = runner
        self._slots: dict[int, Slot] = {}
        self._at: dict[str, set[int]] = {}
        """The tokens of the intents on a path."""
        self._common: dict[tuple[type, str], Any] = {}
        """What the intents of one kind on one path share, as long as there are any."""
        self._sharing: Counter[tuple[type, str]] = Counter()
        self._leaving: Counter[str] = Counter()
        """Paths from which something is being withdrawn."""
        self._recovery: Recovery | None = None
        self.epoch = 0
        """The epoch in which they were last reconciled."""

    # -- messages

    def take(self, message: Want | Renew | Unwant | StepDown) -> None:
        """Add an intent, change its data, withdraw it, or give back what it holds."""
        match message:
            case Want():
                self._want(message)
            case Renew():
                self._renew(message)
            case Unwant():
                self._unwant(message)
            case StepDown():
                self._step_down(message)
            case _:
                assert_never(message)

    def fired(self, message: Fired) -> None:
        """Run the intent whose watch fired."""
        slot = self._slots.get(message.token)
        if slot is None or slot.withdrawing is not None:
            return
        if isinstance(slot.intent, Contention) and message.deleted is not None:
            self._kernel.beats.gone(message.deleted)  # that one may be ours, too: it loses before we hold
            if slot.intent.gone(message.deleted):
                self._kernel.beats.seen(slot.intent)
        self._trigger(slot)

    def _want(self, message: Want) -> None:
        intent = message.intent
        others = [self._slots[token] for token in self._at.get(intent.path, ())]
        taken = isinstance(intent, Presence) and any(
            isinstance(slot.intent, Presence) and slot.withdrawing is None for slot in others
        )
        if taken:  # the faces see to it that this does not happen
            error = DuplicateEphemeralError(f"this coordinator keeps an ephemeral at {intent.path} already")
            self._kernel.effect(Settle(message.waiter, error=error))
            return
        slot = self._slots[intent.token] = Slot(intent)
        self._at.setdefault(intent.path, set()).add(intent.token)
        intent.share(self._common)
        self._sharing[type(intent), intent.path] += 1
        if message.waiter is not None:
            call = self._kernel.calls.add(
                message.waiter,
                message.label,
                message.timeout,
                message.deadline,
                lambda call: self._first_too_late(slot, call),
            )
            slot.waiting.append((call, True))
        self._trigger(slot)

    def _first_too_late(self, slot: Slot, call: Call) -> None:
        self._too_late(slot, call)
        self._withdraw(slot, [])

    def _too_late(self, slot: Slot, call: Call) -> None:
        ambiguous = slot.unresolved or (slot.task is not None and slot.task.unresolved)
        error = slot.intent.late(call.label, call.timeout)
        self._kernel.too_late(call, ambiguous=ambiguous, error=error)

    def _renew(self, message: Renew) -> None:
        slot = self._slots.get(message.token)
        if slot is None or slot.withdrawing is not None or not isinstance(slot.intent, Presence):
            self._kernel.effect(Settle(message.waiter, error=ClosedError(f"{message.label}: it was closed")))
            return
        slot.intent.data = message.data
        call = self._kernel.calls.add(
            message.waiter,
            message.label,
            message.timeout,
            message.deadline,
            lambda call: self._too_late(slot, call),
        )
        slot.waiting.append((call, False))
        self._trigger(slot)

    def _unwant(self, message: Unwant) -> None:
        slot = self._slots.get(message.token)
        if slot is None:
            if message.waiter is not None:
                self._kernel.effect(Settle(message.waiter))
            return
        calls: list[tuple[Call, CoordinatorError | None]] = []
        if message.waiter is not None:
            call = self._kernel.calls.add(
                message.waiter, message.label, message.timeout, message.deadline, self._kernel.too_late
            )
            calls.append((call, None))
        self._withdraw(slot, calls)

    # -- places in queues

    def granted(self, contention: Contention) -> None:
        """Answer those who wait for it: it is held."""
        slot = self._slots.get(contention.token)
        self._kernel.effect(Refresh(contention.token))
        for call, _ in () if slot is None else slot.waiting + slot.served:
            self._kernel.calls.answer(call)

    def term_ended(self, contention: Contention) -> None:
        """Give up the seat of a term that was lost: now somebody else may have it."""
        slot = self._slots.get(contention.token)
        if slot is None or slot.withdrawing is not None or self._kernel.closing:
            return
        if contention.once:
            self._withdraw(slot, [])
        else:
            contention.retire()
            self._trigger(slot)

    def vanished(self, contention: Contention) -> None:
        """Look after the seat that was not found."""
        slot = self._slots.get(contention.token)
        if slot is not None:
            self._trigger(slot)

    def refused(self, contention: Contention, error: CoordinatorError) -> None:
        """Give up a seat that cannot be proved to be ours: a lock for good, a latch for a while."""
        slot = self._slots.get(contention.token)
        if slot is None or slot.withdrawing is not None:
            return
        if contention.once:
            waiting, slot.served, slot.waiting = slot.served + slot.waiting, [], []
            self._withdraw(slot, [(call, error) for call, _ in waiting])
        else:
            self._kernel.tell(contention.failed(error, self._back_off(slot)))

    def _step_down(self, message: StepDown) -> None:
        slot, kernel = self._slots.get(message.token), self._kernel
        intent = None if slot is None else slot.intent
        if slot is None or not isinstance(intent, Contention) or slot.withdrawing is not None:
            if message.waiter is not None:
                error = ClosedError(f"{message.label}: it was closed")
                kernel.effect(Settle(message.waiter, error=error))
            return
        calls: list[Call] = []
        if message.waiter is not None:
            late = kernel.too_late
            calls += [
                kernel.calls.add(message.waiter, message.label, message.timeout, message.deadline, late)
            ]
        if intent.term is not None and message.lease in (None, intent.term.token):
            if intent.once:
                self._withdraw(slot, [(call, None) for call in calls])
                return
            kernel.beats.leave(intent)
            intent.retire()
            self._trigger(slot)
        if intent.tidy:  # that was another time, or was given back before
            for call in calls:
                kernel.calls.answer(call)
        else:
            slot.waiting += [(call, False) for call in calls]  # each run first deletes what was left
            self._trigger(slot)

    # -- running

    def _trigger(self, slot: Slot) -> None:
        if slot.task is None and self._may_run(slot):
            self._run(slot)
        else:
            slot.again = True

    def _may_run(self, slot: Slot) -> bool:
        if not self._runner.ready or slot.withdrawing is not None:
            return False
        if slot.intent.writes and self._kernel.session.read_only:
            return False
        # What is being withdrawn from the same path would delete what we create.
        if isinstance(slot.intent, Presence) and slot.intent.path in self._leaving:
            return False
        return self._recovery is None or not self._recovery.holds_back(slot.intent.token)

    def _run(self, slot: Slot) -> None:
        slot.again = False
        slot.alarm += 1
        slot.served += slot.waiting
        slot.waiting.clear()
        slot.task = Task(
            slot.intent.reconcile(self._kernel.standing(), after_gap=slot.gap),
            finished=lambda outcome: self._finished(slot, outcome),
            failed=lambda error: self._finished(slot, Outcome(error=as_coordinator_error(error), retry=True)),
            dropped=lambda: self._dropped(slot),
            waits_for_link=False,
        )
        self._runner.start(slot.task)

    def _dropped(self, slot: Slot) -> None:
        slot.unresolved |= slot.task is not None and slot.task.lost
        slot.task = None
        slot.again = True
        slot.waiting = slot.served + slot.waiting
        slot.served = []

    def _finished(self, slot: Slot, outcome: object) -> None:
        slot.task = None
        slot.gap = slot.unresolved = False
        if not isinstance(outcome, Outcome):
            raise TypeError(f"{slot.intent} came to {outcome!r}, which is no Outcome")
        self._kernel.tell(outcome.drafts)
        delay = self._back_off(slot) if outcome.retry else None
        if outcome.error is not None and slot.withdrawing is None:
            self._kernel.tell(slot.intent.failed(outcome.error, delay))
        self._kernel.effect(Refresh(slot.intent.token))
        slot.again |= outcome.again
        failed = self._serve(slot, outcome)
        self._recovered(slot, outcome)
        if slot.withdrawing is not None:
            self._begin_withdrawal(slot)
        elif failed:
            self._withdraw(slot, failed)
        else:
            if isinstance(slot.intent, Contention):
                self._kernel.beats.seen(slot.intent)
            if slot.again:
                self._trigger(slot)

    def _serve(self, slot: Slot, outcome: Outcome) -> list[tuple[Call, CoordinatorError | None]]:
        """Answer those who waited for this outcome.

        Return whose first outcome was an error: it is raised when nothing is left of the
        intent, so that the caller may try again at once.
        """
        failed: list[tuple[Call, CoordinatorError | None]] = []
        settles = slot.intent.settles(outcome)
        for call, first in slot.served:
            if outcome.error is not None and first and not call.over:
                failed.append((call, outcome.error))
            elif (first and settles) or outcome.error is not None:
                self._kernel.calls.answer(call, error=outcome.error)
            elif outcome.conflict:
                error = EphemeralConflictError(
                    f"{call.label}: the znode there is not ours; it will be written when it is",
                    path=slot.intent.path,
                )
                self._kernel.calls.answer(call, error=error)
            elif first or outcome.retry:
                slot.waiting.append((call, first))  # not there yet
            else:
                self._kernel.calls.answer(call)
        slot.served.clear()
        return failed

    def _back_off(self, slot: Slot) -> float:
        moment = self._kernel.moment
        if moment.now - slot.tried_at > BACKOFF_FORGET:
            slot.tries = 0
        slot.tried_at = moment.now
        bound = min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(slot.tries, 16))
        slot.tries += 1
        delay = bound * (1 + moment.jitter) / 2  # never near 0: it bounds the rate of attempts
        slot.alarm += 1
        number = slot.alarm
        self._kernel.alarms.set(moment.now + delay, lambda: self._due(slot, number))
        return delay

    def _due(self, slot: Slot, number: int) -> None:
        if slot.alarm == number and self._slots.get(slot.intent.token) is slot:
            self._trigger(slot)

    # -- withdrawing

    def _withdraw(self, slot: Slot, calls: list[tuple[Call, CoordinatorError | None]]) -> None:
        if slot.withdrawing is not None:
            slot.withdrawing += calls
            return
        slot.withdrawing = calls
        if isinstance(slot.intent, Contention):
            self._kernel.beats.leave(slot.intent)
        if isinstance(slot.intent, Presence):
            self._leaving[slot.intent.path] += 1
        for call, _ in slot.served + slot.waiting:
            self._kernel.calls.answer(call, error=ClosedError(f"{call.label}: it was closed"))
        slot.served.clear()
        slot.waiting.clear()
        self._recovered(slot, Outcome())
        if slot.task is None:  # otherwise when its flow has ended
            self._begin_withdrawal(slot)

    def _begin_withdrawal(self, slot: Slot) -> None:
        if not self._kernel.session.session_id or (not slot.intent.writes and not self._runner.ready):
            self._withdrawn(slot)  # it ended with the session, or its watch with the link
        elif self._runner.ready and not (slot.intent.writes and self._kernel.session.read_only):
            slot.task = Task(
                slot.intent.withdraw(self._kernel.standing()),
                finished=lambda _: self._withdrawn(slot),
                failed=lambda error: self._withdrawn(slot, error),
                dropped=lambda: self._withdrawal_dropped(slot),
                waits_for_link=False,
            )
            self._runner.start(slot.task)

    def _withdrawal_dropped(self, slot: Slot) -> None:
        slot.task = None
        if not slot.intent.writes:
            self._withdrawn(slot)

    def _withdrawn(self, slot: Slot, error: Exception | None = None) -> None:
        slot.task = None
        if self._slots.pop(slot.intent.token, None) is None:
            return
        self._at[slot.intent.path].discard(slot.intent.token)
        if not self._at[slot.intent.path]:
            del self._at[slot.intent.path]
        shared = (type(slot.intent), slot.intent.path)
        self._sharing[shared] -= 1
        if not self._sharing[shared]:
            del self._sharing[shared]
            self._common.pop(shared, None)
        # Refused: it stands until the session ends, and that is what is told.
        if error is not None:
            self._kernel.tell(slot.intent.failed(as_coordinator_error(error), None))
        else:
            self._kernel.tell(slot.intent.withdrawn())
        self._kernel.effect(Refresh(slot.intent.token))
        for call, reason in slot.withdrawing or ():
            self._kernel.calls.answer(call, error=reason or error)
        path = slot.intent.path
        if isinstance(slot.intent, Presence):
            self._leaving -= Counter([path])  # drops what is at 0
        # Freeing a watch on the server may take one with it that another intent has just
        # armed; and what waited for the path to be left may be created now. Each place in a
        # queue watches another znode.
        for token in list(self._at.get(path, ())):
            if not isinstance(self._slots[token].intent, Contention):
                self._trigger(self._slots[token])

    # -- sessions

    def expired(self, session: Session) -> int:
        """Forget what ended with the session; return how many ephemerals that were."""
        self._recovery = None
        lost = 0
        for slot in list(self._slots.values()):
            lost += slot.intent.holds(session.session_id)
            self._kernel.tell(slot.intent.expired(), session)
            self._kernel.effect(Refresh(slot.intent.token))
        return lost

    def relinked(self, *, recover: bool) -> None:
        """A link is proved: reconcile everything; after an expiry, in stages."""
        wanted = [slot for slot in self._slots.values() if slot.withdrawing is None]
        for slot in wanted:
            slot.gap = True
        if recover:
            self._recover(wanted)
        if self._recovery is not None:
            self._only_who_can(self._recovery)
        for slot in list(self._slots.values()):
            if slot.withdrawing is not None and slot.task is None:
                self._begin_withdrawal(slot)
        for slot in sorted(wanted, key=lambda slot: not slot.intent.writes):
            self._trigger(slot)
        self._next_stage()

    def resumed(self) -> None:
        """The link answers again and was never closed: do what could not be done meanwhile."""
        for slot in list(self._slots.values()):
            if slot.task is None and slot.withdrawing is not None:
                self._begin_withdrawal(slot)
            elif slot.task is None and slot.again:
                self._trigger(slot)

    def _recover(self, wanted: list[Slot]) -> None:
        recovered = [slot.intent for slot in wanted if slot.intent.recovered]
        self._recovery = Recovery(
            self._kernel.moment.now,
            ephemerals=_paths(one for one in recovered if one.writes and not one.queues),
            views=_paths(one for one in recovered if not one.writes),
            queues=_paths(one for one in recovered if one.queues),
        )
        self._kernel.tell([self._recovery.started()])

    def _recovered(self, slot: Slot, outcome: Outcome) -> None:
        recovery = self._recovery
        if recovery is not None and recovery.note(slot.intent.token, slot.intent.path, outcome):
            self._next_stage()

    def _next_stage(self) -> None:
        recovery = self._recovery
        while recovery is not None and recovery is self._recovery and not recovery.waiting:
            turn = recovery.next_stage()
            if turn is None:
                self._recovery = None
                self._kernel.tell([recovery.completed(self._kernel.moment.now)])
                return
            slots = [slot for token in turn if (slot := self._slots.get(token)) is not None]
            recovery.waiting = {slot.intent.token for slot in slots if slot.withdrawing is None}
            self._only_who_can(recovery)
            for slot in slots:
                self._trigger(slot)

    def _only_who_can(self, recovery: Recovery) -> None:
        """Writing intents wait while the session is read-only, and nobody can wait for them."""
        if self._kernel.session.read_only:
            recovery.waiting -= {*recovery.ephemerals, *recovery.queues}

    @property
    def any(self) -> bool:
        """Whether there is an intent that was not withdrawn yet."""
        return bool(self._slots)

    def withdraw_all(self) -> None:
        """Withdraw whatever is kept: the coordinator is closing, but its session lives on."""
        for slot in list(self._slots.values()):
            self._withdraw(slot, [])

    def left_behind(self) -> Iterator[Draft]:
        """Return what there is to tell of those that could not be withdrawn in time."""
        for slot in self._slots.values():
            error = OperationTimeoutError("closed before it was removed: it stands until the session ends")
            yield from slot.intent.failed(error, None)

    def abandon(self) -> None:
        """Drop every flow and intent: the coordinator is closing, and its session with it."""
        for slot in self._slots.values():
            if slot.task is not None:
                self._runner.cancel(slot.task)
            slot.intent.expired()
            self._kernel.effect(Refresh(slot.intent.token))
        self._slots.clear()
        self._leaving.clear()
        self._at.clear()
        self._common.clear()
        self._sharing.clear()
        self._recovery = None


def _paths(intents: Iterable[Intent]) -> dict[int, str]:
    return {intent.token: intent.path for intent in intents}
