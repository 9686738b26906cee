"""Message in, effects out: the one place where sessions, intents and callers meet.

The rules, all of them (design: docs/design.md):

- An intent is reconciled when it is added, when a link or a new session is proved, when
  its watch fires, and when its backoff is due. It has one flow at a time; a trigger that
  comes while it runs is remembered.
- When the link is lost all flows of intents are dropped: what was asked has an unknown
  outcome, and the next run finds out.
- After an expiry: ephemerals first, then views. A stage ends with the first outcome of
  each intent in it, so that one forbidden znode holds up nobody.
- An operation of a caller is held while the link is down, and has a deadline.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

from coordinator.core import session as machine
from coordinator.core.beats import Beats
from coordinator.core.calls import Alarms, Call, Calls
from coordinator.core.draft import Draft, draft
from coordinator.core.ending import Ending
from coordinator.core.messages import (
    Abandon,
    AwaitSession,
    ClientEnded,
    Close,
    Effect,
    Emit,
    Fired,
    HostsChanged,
    Message,
    Moment,
    NotSent,
    Rebuild,
    Renew,
    Replied,
    Send,
    Settle,
    StepDown,
    Submit,
    Unwant,
    Want,
)
from coordinator.core.rebuilds import Rebuilds
from coordinator.core.requests import Exists, Request, Standing, Sync
from coordinator.core.runner import Runner, Task
from coordinator.core.session import Session, Signal, step
from coordinator.core.slots import Slots
from coordinator.errors import (
    AuthFailedError,
    ClosedError,
    ConnectionLossError,
    CoordinatorError,
    OperationTimeoutError,
    StartError,
    TLSError,
)
from coordinator.events import (
    ConnectionClosed,
    EnsembleChanged,
    SessionClosed,
    SessionEstablished,
    SessionExpired,
)
from coordinator.models import ConnectionFailure, Phase, hex_id


class Kernel:
    """The state of one coordinator; single-threaded, and pure but for its own fields.

    Args:
        session_timeout: seconds, until a server has told what it grants.
        tick: the servers' tickTime, seconds; None: unknown.
        shared: the client is somebody else's: it is not replaced, and its session lives on
            when we close, so that what we kept has to be withdrawn.
    """

    def __init__(self, *, session_timeout: float, tick: float | None = None, shared: bool = False) -> None:
        self.session = Session(timeout=session_timeout)
        self.last_failure: ConnectionFailure | None = None
        self._effects: list[Effect] = []
        self._moment: Moment
        self._seq = 0
        self._zxid = 0
        self._former: frozenset[int] = frozenset()
        self._unconfirmed: frozenset[int] = frozenset()
        self._proof: int | None = None
        self._linked_id = 0
        """The session that the last link was for."""
        self._runner = Runner(self._send)
        self.alarms = Alarms()
        self.calls = Calls(self.alarms, self.effect)
        self._starting: list[Call] = []
        self._shared = shared
        self._rebuilds = Rebuilds(self.alarms, self._rebuild_now)
        self._slots = Slots(self, self._runner)
        self.beats = Beats(
            self,
            self._runner,
            tick,
            granted=self._slots.granted,
            ended=self._slots.term_ended,
            vanished=self._slots.vanished,
            refused=self._slots.refused,
        )
        self._ending = Ending(self, self._runner, self._slots, shared=shared)

    # -- from outside

    def handle(self, message: Message, moment: Moment) -> list[Effect]:
        """Take a message, and return what is to be done outside, in that order."""
        self._moment = moment
        self.alarms.ring(moment.now)  # first: what is due is not to be overtaken by what came late
        self._dispatch(message)
        self.alarms.ring(moment.now)
        if self._shared:
            self._ending.tidied()
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def deadline(self) -> float | None:
        """Return when the next Tick is due, or None."""
        times = (self.session.lapses_at, self.alarms.next())
        return min((when for when in times if when is not None), default=None)

    # -- for slots

    @property
    def moment(self) -> Moment:
        """The moment of the message at hand."""
        return self._moment

    @property
    def closing(self) -> bool:
        """Whether it has come to an end, or is about to."""
        return self._ending.begun or self.session.phase is Phase.CLOSED

    def standing(self) -> Standing:
        """Return the session of the moment, as flows need to know it."""
        return Standing(
            session_id=self.session.session_id,
            epoch=self.session.epoch,
            read_only=self.session.read_only,
            former=self._former,
            unconfirmed=self._unconfirmed,
            zxid=self._zxid,
        )

    def effect(self, effect: Effect) -> None:
        """Have something done outside."""
        self._effects.append(effect)

    def tell(self, drafts: Iterable[Draft], told_of: Session | None = None) -> None:
        """Stamp drafts and emit them; by default they are told of the present session."""
        session = told_of or self.session
        for one in drafts:
            self._seq += 1
            event = one.event.model_validate(
                {
                    "seq": self._seq,
                    "at": self._moment.at,
                    "epoch": session.epoch,
                    "session_id": session.session_id,
                    **one.fields,
                }
            )
            self._effects.append(Emit(event))

    def too_late(self, call: Call, *, ambiguous: bool = False, error: CoordinatorError | None = None) -> None:
        """Settle a call whose deadline has passed."""
        if error is not None and self.session.phase is Phase.CONNECTED:
            self.calls.answer(call, error=error)
            return
        message = f"{call.label} not answered in {call.timeout:g} s: {self.describe()}"
        self.calls.answer(call, error=OperationTimeoutError(message, ambiguous=ambiguous))

    def refusal(self, message: Message) -> CoordinatorError:
        """Return what is told who comes after the end: a start, why it came to that; from any thread."""
        return copy(self._ending.why) if isinstance(message, AwaitSession) else ClosedError()

    def describe(self) -> str:
        """Return in words how the session stands: for messages."""
        session, now = self.session, self._moment.now
        words = f"session {session.phase.value}"
        if session.session_id:
            words += f" ({hex_id(session.session_id)})"
        if session.suspended_at is not None:
            words += f" for {now - session.suspended_at:.1f} s"
        if session.phase is not Phase.CONNECTED and self.last_failure is not None:
            failure = self.last_failure
            words += f", {failure.server}: {failure.cause}"
            words += f" ({failure.detail})" if failure.detail else ""
        return words

    # -- messages

    def _dispatch(self, message: Message) -> None:
        match message:
            case Replied():
                self._replied(message)
            case NotSent():
                if message.request_id == self._proof:
                    self._proof = None
                self._runner.not_sent(message)
            case Fired():
                self._slots.fired(message)
            case ClientEnded():
                self._client_ended(message)
            case Submit():
                self._submit(message)
            case AwaitSession():
                self._await_session(message)
            case Want() | Renew() | Unwant() | StepDown():
                if not self._refused(message):
                    self._slots.take(message)
            case Abandon():
                self._ending.give_up(message)
            case HostsChanged():
                self._hosts_changed(message)
            case Close():
                self._ending.close(message)
            case _:
                self._signal(message)

    def _refused(self, message: Submit | AwaitSession | Want | Renew | Unwant | StepDown) -> bool:
        """Whether it comes too late: after the end, or after its own deadline."""
        error: CoordinatorError
        if self.closing:
            error = self.refusal(message)
        elif isinstance(message, Submit | Want | Renew) and message.deadline <= self._moment.now:
            if message.waiter is None:
                return False  # there is no deadline where nobody waits
            error = OperationTimeoutError(f"{message.label} not begun: its {message.timeout:g} s were over")
        else:
            return False
        if message.waiter is not None:
            self._effects.append(Settle(message.waiter, error=error))
        return True

    def _replied(self, message: Replied) -> None:
        if message.request_id == self._proof or self._runner.awaits(message.request_id):
            self._zxid = max(self._zxid, message.zxid)
            self.beats.heard(message.contact)
        if message.request_id != self._proof:
            self._runner.replied(message)
            return
        self._proof = None
        # An error of the server is a round trip, too; a lost link is none.
        if not isinstance(message.error, ConnectionLossError | AuthFailedError):
            self._signal(machine.Proved(message.contact))

    def _submit(self, message: Submit) -> None:
        if self._refused(message):
            return
        call = self.calls.add(message.waiter, message.label, message.timeout, message.deadline, self._cancel)
        call.task = Task(
            message.operation(self.standing),
            finished=lambda value: self._ending.answer(call, value, None),
            failed=lambda error: self._ending.answer(call, None, error),
            waits_for_link=True,
        )
        self._runner.start(call.task)

    def _cancel(self, call: Call) -> None:
        if call.task is not None and call.task.given_up:
            return  # nobody waits any more; its link tells, at the latest when it breaks
        ambiguous = call.task is not None and self._runner.cancel(call.task)
        self.too_late(call, ambiguous=ambiguous)

    def _await_session(self, message: AwaitSession) -> None:
        if self._refused(message):
            return
        call = self.calls.add(
            message.waiter, message.hosts, message.timeout, message.deadline, self._not_started
        )
        if self.session.epoch:
            self.calls.answer(call)
        else:
            self._starting.append(call)

    def _hosts_changed(self, message: HostsChanged) -> None:
        if self.closing:
            return
        for call in self._starting:
            call.label = message.hosts
        told = {"servers": message.servers, "ignored": message.ignored, "source": message.source}
        self.tell([draft(EnsembleChanged, **told)])

    def _not_started(self, call: Call) -> None:
        cause = self.last_failure.cause if self.last_failure else "timeout"
        message = f"no session at {call.label} in {call.timeout:g} s: {self.describe()}"
        if self._shared and self.last_failure is None:
            message += "; a client that was adopted is started by its owner"
        kind = TLSError if cause.startswith("tls") else StartError
        self.calls.answer(call, error=kind(message, cause=cause))

    # -- the session

    def _signal(self, signal: Signal) -> None:
        before = self.session
        self.session, drafts = step(before, signal, self._moment.now)
        if isinstance(signal, machine.AttemptFailed):
            self.last_failure = ConnectionFailure(signal.server, signal.cause, signal.detail)
        for one in drafts:
            if one.event is SessionExpired:
                self._expired(before, one)
            if one.event is SessionClosed:
                self.beats.end_all("closed")
            # What ended is told of the session that it belonged to.
            ended = one.event in (SessionExpired, ConnectionClosed)
            self.tell([one], before if ended else None)
            if one.event is SessionEstablished:
                self._established()
        self._follow(before, signal)

    def _follow(self, before: Session, signal: Signal) -> None:
        """Do what the new state of the session asks for."""
        if isinstance(signal, machine.Beat):
            if before.link is not None:
                self.beats.heard(signal.contact)
            self._signal(machine.Tick(signal.contact))  # it may end a lapse
            return
        session = self.session
        if session.link is not before.link:
            self._proof = None
            self._runner.lose()
            if session.link is not None:
                self._linked(session.link)
                self._prove()
        if session.phase is Phase.CLOSED:
            if before.phase is not Phase.CLOSED:
                self._runner.shut()
                self._ending.closed(signal)
        elif session.phase is Phase.CONNECTED:
            if before.phase is not Phase.CONNECTED:
                self._connected(relinked=not before.proved)
        else:
            self._runner.shut()
            if before.phase is Phase.CONNECTED:
                self.beats.terms.suspended()
        if session.refused and not before.refused and not self._shared:
            # Servers whose data was wiped refuse a client that has seen more than they
            # have, for ever. A new client claims to have seen nothing, and learns from
            # them what became of the session.
            self._rebuilds.ask(self._moment.now)

    def _linked(self, link: machine.LinkUp) -> None:
        # Whatever the owner of a shared client has done with his session before is not known.
        created = link.session_id != self._linked_id and not self._shared
        self._linked_id = link.session_id
        self.beats.linked(self.session.timeout, link.contact, created=created)

    def _prove(self) -> None:
        link = self.session.link
        self._proof = self._runner.next_id()
        # sync, because a server that lags would let us read backwards.
        request = Exists("/") if link is not None and link.read_only else Sync("/")
        self._send(self._proof, request)
        self._ending.tidied()

    def _expired(self, before: Session, told: Draft) -> None:
        self._former |= {before.session_id}
        self._zxid = 0  # that of the next may be lower: its data may have been wiped
        if told.fields["confirmed_by"] != "server":
            self._unconfirmed |= {before.session_id}
        self._runner.shut()
        told.fields["lost_leases"] = self.beats.expired(before)
        told.fields["lost_ephemerals"] = self._slots.expired(before)
        self._runner.lose()

    def _established(self) -> None:
        for call in self._starting:
            self.calls.answer(call)
        self._starting.clear()

    def _connected(self, *, relinked: bool) -> None:
        self._runner.ready = True
        if relinked:
            self._slots.relinked(recover=self.session.epoch > self._slots.epoch > 0)
            self._slots.epoch = self.session.epoch
        else:  # a lapse on an open link has ended: the watches never ceased to stand
            self._slots.resumed()
        self._runner.open()
        self.beats.beat()

    def _client_ended(self, message: ClientEnded) -> None:
        if self.session.phase is Phase.CLOSED or self._ending.stopping:
            return
        if self._shared:
            self._signal(machine.Ended("stopped" if message.stopped else "gave_up"))
            return
        self._signal(machine.LinkDown(message.contact))
        self._rebuilds.ask(self._moment.now)

    def _rebuild_now(self) -> None:
        # Meanwhile the client may have found a link after all, or been stopped.
        if self.session.link is None and self.session.phase is not Phase.CLOSED and not self._ending.stopping:
            self._effects.append(Rebuild())

    # -- small things

    def _send(self, request_id: int, request: Request[Any]) -> None:
        link = self.session.link
        self._effects.append(Send(request_id, request, 0 if link is None else link.number))
