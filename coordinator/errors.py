"""Every error that this package raises, in one tree.

::

    CoordinatorError
    ├── ConfigurationError (ValueError)    wrong before anything was sent
    │   ├── InvalidPathError               a path that ZooKeeper would refuse
    │   ├── DataTooLargeError              a request over ZooKeeper's limit of 1 MiB
    │   ├── DuplicateEphemeralError        this coordinator already holds that path
    │   ├── AlreadyHeldError               that lock object holds a lease, or waits for one
    │   └── MissingExtraError              an optional part that is not installed
    ├── ClosedError                        the coordinator, view or stream was closed
    ├── ForkedError                        it belongs to the process that was forked
    ├── StartError                         no session within ``start_timeout``
    │   ├── TLSError                       because TLS failed; ``cause`` tells how
    │   └── MissingChrootError             a session, but its chroot does not exist
    ├── AuthFailedError                    the server refused the credentials; final
    ├── OperationTimeoutError (TimeoutError)  the deadline of a call passed
    │   └── AcquireTimeoutError            others held the lock for all that time
    ├── LeaseLostError                     the lock or leadership is not ours any more
    ├── ConnectionLossError                the link broke while the answer was awaited
    ├── SessionExpiredError                done, and undone with its session
    ├── PayloadError (ValueError)          the data of a znode does not fit the model
    ├── TransactionFailedError             nothing was applied; names the operation
    ├── EphemeralConflictError             another session owns that ephemeral
    └── ZnodeError                         the server answered: no
        ├── NoNodeError
        ├── NodeExistsError
        ├── BadVersionError
        ├── NotEmptyError
        ├── NoAuthError
        ├── InvalidACLError
        ├── NoChildrenForEphemeralsError
        ├── ReadOnlyError                  a write on a read-only session
        ├── QuotaExceededError
        ├── NotAQueueError                 a lock's path holds something else
        └── ServerError                    any other code of the server

``retryable``: the same call may succeed later without being changed. ``ambiguous``: the
call may or may not have been carried out. All of them can be pickled. Errors of kazoo
never leave this package; they are chained as ``__cause__``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AcquireTimeoutError",
    "AlreadyHeldError",
    "AuthFailedError",
    "BadVersionError",
    "ClosedError",
    "ConfigurationError",
    "ConnectionLossError",
    "CoordinatorError",
    "DataTooLargeError",
    "DuplicateEphemeralError",
    "EphemeralConflictError",
    "ForkedError",
    "InvalidACLError",
    "InvalidPathError",
    "LeaseLostError",
    "MissingChrootError",
    "MissingExtraError",
    "NoAuthError",
    "NoChildrenForEphemeralsError",
    "NoNodeError",
    "NodeExistsError",
    "NotAQueueError",
    "NotEmptyError",
    "OperationTimeoutError",
    "PayloadError",
    "QuotaExceededError",
    "ReadOnlyError",
    "ServerError",
    "SessionExpiredError",
    "StartError",
    "TLSError",
    "TransactionFailedError",
    "ZnodeError",
]


class CoordinatorError(Exception):
    """The base of every error that this package raises."""

    __module__ = "coordinator"
    retryable: bool = False
    ambiguous: bool = False

    def __init_subclass__(cls) -> None:
        cls.__module__ = "coordinator"  # tracebacks show the public name


class ConfigurationError(CoordinatorError, ValueError):
    """Something given by the caller is wrong; nothing was sent."""


class InvalidPathError(ConfigurationError):
    """A znode path that ZooKeeper would refuse."""


class DataTooLargeError(ConfigurationError):
    """A request above the 1 MiB that a server accepts by default (jute.maxbuffer).

    The server would drop the connection without an answer, and so would a retry.
    """


class DuplicateEphemeralError(ConfigurationError):
    """This coordinator already keeps an ephemeral on that path."""


class AlreadyHeldError(ConfigurationError):
    """The lock object holds a lease already, or waits for one; it would wait for itself."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional part of the package is needed and not installed."""

    def __init__(self, extra: str, /) -> None:
        super().__init__(f"this needs the extra {extra!r}: pip install 'coordinator[{extra}]'")
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str]]:
        return type(self), (self.extra,)


class ClosedError(CoordinatorError):
    """The coordinator, view or stream was closed, before or during the call.

    ``ambiguous`` when the call was a write that had been sent.
    """

    def __init__(self, message: str = "the coordinator is closed", /, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class ForkedError(CoordinatorError):
    """A forked child used what belongs to its parent; make one in each process.

    ``pid`` is the process that it belongs to. Nothing was sent.
    """

    def __init__(self, message: str, /, *, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class StartError(CoordinatorError):
    """No session was established within ``start_timeout``.

    ``cause`` is that of the last failed attempt: "refused", "dns", "timeout",
    "handshake", ... as in the event ``connection.failed``.
    """

    retryable = True

    def __init__(self, message: str, /, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class TLSError(StartError):
    """No session was established within ``start_timeout``, because TLS failed.

    ``cause`` tells how, as in the event ``connection.failed``: "tls_untrusted",
    "tls_hostname", "tls_expired", "tls_not_spoken", "tls_required", "tls_refused",
    "tls_files", or "tls" for anything else.
    """


class MissingChrootError(StartError):
    """The session stands, but the chroot it shall work in does not exist."""

    retryable = False


class AuthFailedError(CoordinatorError):
    """The server refused who we are, or whom we did not say that we are. Final.

    ``cause``: "auth" (a scheme or credential of ``auth``), "sasl" (user name or password),
    "sasl_unsupported" (the server knows no SASL) or "auth_required" (it demands a scheme
    that was not used).
    """

    def __init__(self, message: str, /, *, cause: str = "auth") -> None:
        super().__init__(message)
        self.cause = cause


class OperationTimeoutError(CoordinatorError, TimeoutError):
    """The deadline of a call passed before its answer came.

    ``ambiguous`` only if the operation was a write that had been sent: one that was
    still held back is dropped and will certainly not be carried out.
    """

    retryable = True

    def __init__(self, message: str, /, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class AcquireTimeoutError(OperationTimeoutError):
    """A lock or leadership was not had in time; what stood in the queue for it is removed.

    ``position`` is the place in the queue, from 1; 0 if it did not stand there. ``holder`` is
    the identity of who was first when the queue was last looked at, if it is known.
    """

    def __init__(self, message: str, /, *, path: str = "", position: int = 0, holder: str | None = None):
        super().__init__(message)
        self.path = path
        self.position = position
        self.holder = holder


class LeaseLostError(CoordinatorError):
    """The lock or leadership is lost, for good: what was done under it has to stop.

    ``reason``: "lapsed" (by our own clock it cannot be proved any longer), "expired" (its session
    has), "deleted" (somebody deleted its znode), "suspended" (the link is down, with
    ``on_suspend="revoke"``), "closed" (the coordinator was), "released" (it was given back).
    """

    def __init__(self, message: str, /, *, path: str = "", token: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.token = token
        self.reason = reason


class ConnectionLossError(CoordinatorError):
    """The link broke after a write was sent and before its answer came."""

    retryable = True

    def __init__(self, message: str, /, *, ambiguous: bool = True) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class SessionExpiredError(CoordinatorError):
    """It was done, by a session that has expired since, and is undone with it.

    That is what became of an ephemeral whose creation was answered into a lost link.
    """

    retryable = True


class PayloadError(CoordinatorError, ValueError):
    """The data of a znode does not fit the model that was asked for.

    The message names the path and what did not fit, never the data.
    """

    def __init__(self, message: str, /, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class TransactionFailedError(CoordinatorError):
    """A transaction was refused; none of its operations was applied.

    ``index`` (from 0) and ``operation`` name the guilty one, ``error`` is its error.
    """

    def __init__(
        self, message: str, /, *, index: int = -1, operation: str = "", error: CoordinatorError | None = None
    ) -> None:
        super().__init__(message)
        self.index = index
        self.operation = operation
        self.error = error


class EphemeralConflictError(CoordinatorError):
    """Another session owns the ephemeral, or the znode there is not an ephemeral.

    ``owner_session_id`` is 0 for a znode that is not ephemeral.
    """

    retryable = True

    def __init__(self, message: str, /, *, path: str = "", owner_session_id: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.owner_session_id = owner_session_id


class ZnodeError(CoordinatorError):
    """The server answered an operation with an error. ``code`` is ZooKeeper's."""

    code: int = 0
    _says: ClassVar[str] = "refused by the server"

    def __init__(self, message: str = "", /, *, path: str = "", code: int | None = None) -> None:
        super().__init__(message or f"{self._says}: {path}")
        self.path = path
        if code is not None:
            self.code = code


class NoNodeError(ZnodeError):
    """There is no such znode."""

    code = -101
    _says = "no such znode"


class NodeExistsError(ZnodeError):
    """The znode exists already."""

    code = -110
    _says = "znode exists already"


class BadVersionError(ZnodeError):
    """The znode has another version than the one given."""

    code = -103
    _says = "another version than the one given"


class NotEmptyError(ZnodeError):
    """The znode has children."""

    code = -111
    _says = "znode has children"


class NoAuthError(ZnodeError):
    """The ACL of the znode does not permit this session to do that."""

    code = -102
    _says = "not permitted by the ACL"


class InvalidACLError(ZnodeError):
    """The ACL given is empty, malformed, or names a scheme that is not authenticated."""

    code = -114
    _says = "invalid ACL"


class NoChildrenForEphemeralsError(ZnodeError):
    """The parent is an ephemeral, which cannot have children."""

    code = -108
    _says = "an ephemeral cannot have children"


class ReadOnlyError(ZnodeError):
    """A write on a session with a server that is read-only."""

    code = -119
    _says = "the session is read-only"
    retryable = True


class QuotaExceededError(ZnodeError):
    """The write would exceed a quota that is enforced."""

    code = -125
    _says = "quota exceeded"


class NotAQueueError(ZnodeError):
    """The path of a lock holds something else: data, other children, another client's queue.

    Nothing was written there.
    """

    _says = "not the queue of a lock"


class ServerError(ZnodeError):
    """Any other error code of the server."""
