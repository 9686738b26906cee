"""Between kazoo's values and errors and ours."""

from __future__ import annotations

from typing import Any

from kazoo import exceptions as theirs
from kazoo.security import ACL as KazooACL
from kazoo.security import Id

from coordinator import errors as ours
from coordinator.core.requests import (
    Check,
    Children,
    Create,
    Delete,
    Exists,
    Get,
    GetConfig,
    Multi,
    Request,
    Set,
)
from coordinator.engine.frames import REFUSALS
from coordinator.models import ACL, Stat

_ERRORS: dict[type[Exception], type[ours.ZnodeError]] = {
    theirs.NoNodeError: ours.NoNodeError,
    theirs.NodeExistsError: ours.NodeExistsError,
    theirs.BadVersionError: ours.BadVersionError,
    theirs.NotEmptyError: ours.NotEmptyError,
    theirs.NoAuthError: ours.NoAuthError,
    theirs.InvalidACLError: ours.InvalidACLError,
    theirs.NoChildrenForEphemeralsError: ours.NoChildrenForEphemeralsError,
    theirs.NotReadOnlyCallError: ours.ReadOnlyError,
    theirs.QuotaExceededError: ours.QuotaExceededError,
}
_THROTTLED = -127
"""Not carried out, try again. Source: KeeperException.Code.THROTTLEDOP, ZooKeeper 3.7."""


def _stat(stat: Any) -> Stat:
    return Stat(
        czxid=stat.czxid,
        mzxid=stat.mzxid,
        pzxid=stat.pzxid,
        version=stat.version,
        cversion=stat.cversion,
        aversion=stat.aversion,
        ctime=stat.ctime,
        mtime=stat.mtime,
        ephemeral_owner=stat.ephemeralOwner,
        data_length=stat.dataLength,
        num_children=stat.numChildren,
    )


def value_of(request: Request[Any], answer: Any) -> object:
    """Return what kazoo answered as the request promises it.

    Raises:
        TransactionFailedError: kazoo returns the errors of a transaction instead of raising.
    """
    match request:
        case Get() | GetConfig():
            data, stat = answer
            return data or b"", _stat(stat)
        case Exists():
            return None if answer is None else _stat(answer)
        case Children():
            names, stat = answer
            return tuple(names), _stat(stat)
        case Create():
            path, stat = answer
            return path, _stat(stat)
        case Set():
            return _stat(answer)
        case Multi(operations=operations):
            return _results(request, operations, answer)
        case _:
            return None


def _results(request: Multi, operations: tuple[Request[Any], ...], answers: list[Any]) -> tuple[object, ...]:
    for index, answer in enumerate(answers):
        # The others carry RolledBack before the guilty one and RuntimeInconsistency after it.
        if isinstance(answer, Exception) and not isinstance(
            answer, theirs.RolledBackError | theirs.RuntimeInconsistency
        ):
            operation = operations[index]
            told = f"{type(operation).__name__.lower()} {operation.path}"
            error = translated(answer, operation)
            raise ours.TransactionFailedError(
                f"transaction not applied: operation {index} ({told}): {error}",
                index=index,
                operation=told,
                error=error,
            ) from answer
    if any(isinstance(answer, Exception) for answer in answers):
        raise ours.ServerError("transaction not applied", path=request.path)
    return tuple(
        answer if isinstance(answer, str) else _stat(answer) if isinstance(operation, Set) else None
        for operation, answer in zip(operations, answers, strict=True)
    )


def translated(error: Exception, request: Request[Any]) -> ours.CoordinatorError:
    """Return the error of ours that tells of the same; kazoo's is its cause."""
    told = f"{type(request).__name__.lower()} {request.path}"
    result: ours.CoordinatorError
    match error:
        case theirs.AuthFailedError():
            result = ours.AuthFailedError(REFUSALS["auth"])
        case theirs.SessionClosedRequireSaslError():
            result = ours.AuthFailedError(REFUSALS["auth_required"], cause="auth_required")
        case theirs.ConnectionLoss() | theirs.SessionExpiredError():
            # ConnectionClosedError is one of the latter: the client was being stopped.
            result = ours.ConnectionLossError(f"{told}: the link was lost", ambiguous=request.writes)
        case theirs.BadVersionError() if isinstance(request, Set | Delete | Check):
            result = ours.BadVersionError(
                f"another version than {request.version}: {request.path}", path=request.path
            )
        case theirs.ZookeeperError() if type(error) in _ERRORS:
            result = _ERRORS[type(error)](path=request.path)
        case theirs.ZookeeperError():
            code = getattr(error, "code", None)
            result = ours.ServerError(
                f"{told}: {type(error).__name__} (code {code})", path=request.path, code=code
            )
            result.retryable = code == _THROTTLED
        case _:
            result = ours.CoordinatorError(f"{told}: {type(error).__name__}: {error}")
    result.__cause__ = error
    return result


def acls_of(acl: tuple[ACL, ...]) -> list[Any]:
    """Return an ACL as kazoo wants it."""
    return [KazooACL(one.mask, Id(one.scheme, one.id)) for one in acl]


def transaction_of(client: Any, operations: tuple[Request[Any], ...]) -> Any:
    """Return a transaction of kazoo's with these operations."""
    transaction = client.transaction()
    for operation in operations:
        match operation:
            case Create(path=path, data=data, ephemeral=ephemeral, sequential=sequential, acl=acl):
                transaction.create(path, data, acl=acls_of(acl), ephemeral=ephemeral, sequence=sequential)
            case Set(path=path, data=data, version=version):
                transaction.set_data(path, data, version)
            case Delete(path=path, version=version):
                transaction.delete(path, version)
            case Check(path=path, version=version):
                transaction.check(path, version)
            case _:
                raise TypeError(f"{type(operation).__name__} cannot be part of a transaction")
    return transaction
