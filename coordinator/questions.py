"""What the faces ask of the engine, and what they make of the answers: written once for both.

A question is checked completely before anything is sent. It must not wait: that is what
the faces differ in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Generic, Literal, TypeVar

from coordinator.core import operations
from coordinator.core.intent import Intent, Made
from coordinator.core.layout import REQUEST_LIMIT, check_path, deletable
from coordinator.core.messages import (
    AwaitSession,
    Close,
    Message,
    Renew,
    StepDown,
    Submit,
    Unwant,
    Waiter,
    Want,
)
from coordinator.core.requests import (
    ANY_VERSION,
    Children,
    Create,
    Delete,
    Exists,
    Get,
    Multi,
    Request,
    Set,
    size_of,
)
from coordinator.core.seats import Dialect
from coordinator.engine.wiring import Clock, SystemClock
from coordinator.errors import ConfigurationError, CoordinatorError, DataTooLargeError
from coordinator.models import ACL, Contender, Stat, Znode
from coordinator.payload import check_model, decode, encode
from coordinator.security import AccessWord, entries_of
from coordinator.settings import Settings

T = TypeVar("T")
R = TypeVar("R", bound=Request[Any])

MAX_TIMEOUT = 1e6
"""Seconds; eleven days. More is a mistake, and overflows the locks of the system."""

CLOSE_WITHIN = 2.0
"""Seconds in which close() returns, whatever the state of the link."""


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A message to the engine that is yet to be given a waiter."""

    message: Callable[[Waiter | None], Message]
    patience: float
    """Seconds after which the engine is not believed to answer any more."""
    read: Callable[[Any], T] = _as_it_is
    """Makes of the engine's answer what the caller gets."""
    made: Made = field(default_factory=list)
    """What was created for it, to be undone when the caller gives up."""
    unanswered: str = SystemClock.unanswered
    """Why there might be no answer."""

    def overdue(self) -> CoordinatorError:
        """Return the error for an engine that does not answer."""
        return CoordinatorError(f"the engine did not answer within {self.patience:g} s: {self.unanswered}")


class Questions:
    """Makes the questions of one coordinator; all of it may be used from any thread."""

    def __init__(self, settings: Settings, *, identified: bool, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._identified = identified

    def limit(self, timeout: float | None) -> tuple[float, float]:
        """Return a timeout in seconds, and when it ends by the engine's clock."""
        seconds = checked_timeout(self._settings.operation_timeout if timeout is None else timeout)
        return seconds, self._clock.now() + seconds

    # -- plain operations

    def get(self, path: str, model: Any, timeout: float | None) -> Question[Znode[Any]]:
        """Ask for value and stat of a znode."""
        check_model(model)
        return self._run(
            operations.read(Get(check_path(path))),
            f"get {path}",
            timeout,
            lambda answer: Znode(path, decode(path, answer[0], model), answer[1]),
        )

    def exists(self, path: str, timeout: float | None) -> Question[Stat | None]:
        """Ask for the stat of a znode."""
        return self._run(operations.read(Exists(check_path(path))), f"exists {path}", timeout)

    def children(self, path: str, timeout: float | None) -> Question[tuple[str, ...]]:
        """Ask for the names of the children of a znode."""
        return self._run(
            operations.read(Children(check_path(path))),
            f"children {path}",
            timeout,
            lambda answer: tuple(sorted(answer[0])),
        )

    def create(
        self,
        path: str,
        value: object,
        *,
        ephemeral: bool,
        sequential: bool,
        parents: bool,
        acl: AccessWord | Sequence[ACL] | None,
        model: Any,
        timeout: float | None,
    ) -> Question[str]:
        """Ask for a new znode."""
        checked_flags(ephemeral=ephemeral, sequential=sequential, parents=parents)
        request = Create(check_path(path), encode(value, model), ephemeral, sequential, self.acl(acl))
        made: Made = []
        operation = operations.create(self.sized(request), parents=parents, parents_acl=self.acl(), made=made)
        return self._run(operation, f"create {path}", timeout, lambda answer: answer[0], made)

    def set(
        self, path: str, value: object, version: int, model: Any, timeout: float | None
    ) -> Question[Stat]:
        """Ask for other data in a znode."""
        request = self.sized(Set(check_path(path), encode(value, model), checked_version(version)))
        return self._run(operations.write(request), f"set {path}", timeout)

    def delete(self, path: str, version: int, timeout: float | None) -> Question[None]:
        """Ask for a znode to be deleted."""
        request = Delete(deletable(path), checked_version(version))
        return self._run(operations.write(request), f"delete {path}", timeout)

    def commit(self, request: Multi, timeout: float | None) -> Question[tuple[object, ...]]:
        """Ask for all of the operations together."""
        made: Made = []
        operation = operations.commit(request, made)
        return self._run(operation, f"transaction on {request.path}", timeout, made=made)

    def _run(
        self,
        operation: operations.Operation[Any],
        label: str,
        timeout: float | None,
        read: Callable[[Any], T] = _as_it_is,
        made: Made | None = None,
    ) -> Question[T]:
        seconds, deadline = self.limit(timeout)
        return self._question(
            lambda waiter: Submit(operation, label, deadline, seconds, waiter), seconds, read, made
        )

    def _question(
        self,
        message: Callable[[Waiter | None], Message],
        seconds: float,
        read: Callable[[Any], T] = _as_it_is,
        made: Made | None = None,
    ) -> Question[T]:
        patience, why = self._clock.patience(seconds), self._clock.unanswered
        return Question(message, patience, read, [] if made is None else made, why)

    # -- what outlives a session

    def want(self, intent: Intent, label: str, timeout: float | None) -> Question[None]:
        """Ask for an intent to be kept."""
        seconds, deadline = self.limit(timeout)
        return self._question(
            lambda waiter: Want(intent, label, deadline, seconds, waiter), seconds, _nothing
        )

    def renew(self, token: int, data: bytes, label: str, timeout: float | None) -> Question[None]:
        """Ask for other data in an ephemeral that is kept."""
        seconds, deadline = self.limit(timeout)
        return self._question(
            lambda waiter: Renew(token, data, label, deadline, seconds, waiter), seconds, _nothing
        )

    def unwant(self, token: int, label: str, timeout: float | None) -> Question[None]:
        """Ask for an intent to be withdrawn."""
        seconds, deadline = self.limit(timeout)
        return self._question(
            lambda waiter: Unwant(token, label, deadline, seconds, waiter), seconds, _nothing
        )

    # -- queues

    def acquire(self, intent: Intent, label: str, timeout: float | None) -> Question[None]:
        """Ask for a place in a queue, to be answered when it is first; None: wait without limit."""
        seconds = inf if timeout is None else checked_timeout(timeout)
        deadline = self._clock.now() + seconds
        return self._question(
            lambda waiter: Want(intent, label, deadline, seconds, waiter), seconds, _nothing
        )

    def step_down(self, token: int, lease: int, label: str, timeout: float) -> Question[None]:
        """Ask for a lease to be given back, and to queue for another one; answered when its znode is gone."""
        seconds, deadline = self.limit(timeout)
        return self._question(
            lambda waiter: StepDown(token, label, waiter, lease, deadline, seconds), seconds, _nothing
        )

    def contenders(
        self, path: str, dialect: Dialect, timeout: float | None, most: int | None
    ) -> Question[tuple[Contender, ...]]:
        """Ask who stands in a queue; no more than ``most``, the first of them."""
        operation = operations.contenders(path, dialect, most)
        return self._run(operation, f"contenders of {path}", timeout)

    # -- the session

    def session(self, hosts: str) -> Question[None]:
        """Ask for the first session at these hosts."""
        seconds = self._settings.start_timeout
        deadline = self._clock.now() + seconds
        return self._question(lambda waiter: AwaitSession(hosts, deadline, seconds, waiter), seconds)

    def close(self, reason: Literal["requested", "gave_up"]) -> Question[None]:
        """Ask for the end."""
        return Question(
            lambda waiter: Close(reason, waiter), CLOSE_WITHIN - 0.1, unanswered=self._clock.unanswered
        )

    # -- what is refused before anything is sent

    def acl(self, acl: AccessWord | Sequence[ACL] | None = None) -> tuple[ACL, ...]:
        """Return the entries that are meant; None: those of the settings.

        Raises:
            ConfigurationError: it is neither a word nor a list of ACL, or needs somebody to be.
        """
        return entries_of(self._settings.acl if acl is None else acl, identified=self._identified)

    def sized(self, request: R) -> R:
        """Return the request if a server would read it.

        Raises:
            DataTooLargeError: it names the size and the limit.
        """
        size = size_of(request, self._settings.chroot)
        if size > REQUEST_LIMIT:
            name = type(request).__name__.lower()
            raise DataTooLargeError(
                f"{name} {request.path}: the request has {size} bytes, above the limit of {REQUEST_LIMIT} "
                "bytes (jute.maxbuffer) at which a server drops the connection; nothing was sent"
            )
        return request


def _nothing(_: object) -> None:
    return None


def checked_timeout(timeout: object) -> float:
    """Return the seconds if they are some.

    Raises:
        ConfigurationError: they are no number, negative, or too many.
    """
    if not isinstance(timeout, int | float) or not 0 <= timeout <= MAX_TIMEOUT:
        raise ConfigurationError(f"timeout is in seconds, from 0 to {MAX_TIMEOUT:g}, got {timeout!r}")
    return timeout


def checked_version(version: object) -> int:
    """Return the version if it can be one: a 32-bit number, -1 for any.

    Raises:
        ConfigurationError: it cannot.
    """
    if not isinstance(version, int) or isinstance(version, bool) or not ANY_VERSION <= version < 1 << 31:
        raise ConfigurationError(f"version is a number from 0 to 2147483647, or -1 for any, got {version!r}")
    return version


def checked_flags(**flags: object) -> None:
    """Refuse what is not True or False.

    Raises:
        ConfigurationError: it names the flag.
    """
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigurationError(f"{name} is True or False, got {flag!r}")
