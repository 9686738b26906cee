"""Between the paths of a client with a chroot and those of its ensemble."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

from coordinator.core.requests import Create, GetConfig, Multi, Request
from coordinator.errors import CoordinatorError, TransactionFailedError, ZnodeError

R = TypeVar("R", bound=Request[Any])


def rooted(request: R, chroot: str) -> R:
    """Return the request as the ensemble sees it."""
    if not chroot or isinstance(request, GetConfig):
        return request
    path = chroot if request.path == "/" else chroot + request.path
    if isinstance(request, Multi):
        operations = tuple(rooted(one, chroot) for one in request.operations)
        return replace(request, path=path, operations=operations)
    return replace(request, path=path)


def unrooted_path(path: str, chroot: str) -> str:
    """Return the path as its client sees it."""
    return path.removeprefix(chroot) or "/"


def unrooted(request: Request[Any], answer: Any, chroot: str) -> Any:
    """Return the answer as its client sees it: the paths of what was created."""
    if not chroot:
        return answer
    if isinstance(request, Create):
        path, stat = answer
        return path.removeprefix(chroot), stat
    if isinstance(request, Multi):
        return tuple(one.removeprefix(chroot) if isinstance(one, str) else one for one in answer)
    return answer


def unrooted_error(error: CoordinatorError, chroot: str) -> CoordinatorError:
    """Return the error as its client sees it."""
    if not chroot:
        return error
    if isinstance(error, TransactionFailedError) and isinstance(error.error, ZnodeError):
        guilty = unrooted_error(error.error, chroot)
        kind, _, path = error.operation.partition(" ")
        operation = f"{kind} {unrooted_path(path, chroot)}"
        message = f"transaction not applied: operation {error.index} ({operation}): {guilty}"
        return TransactionFailedError(message, index=error.index, operation=operation, error=guilty)
    if not isinstance(error, ZnodeError):
        return error
    seen = copy(error)
    seen.path = unrooted_path(error.path, chroot)
    seen.args = (str(error).replace(error.path, seen.path),)
    return seen
