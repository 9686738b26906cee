"""The plain operations as flows: what a lost link means for each of them.

- A read is asked again on the next link, as long as its deadline allows.
- A write that was not sent is held, and sent on the next link.
- A write that was sent and not answered is ambiguous, with one exception: an ephemeral
  has an owner, so that looking at it tells.

A create notes what it has made, so that whoever has given up waiting for it can undo it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from coordinator.core.intent import Made, create_parents
from coordinator.core.requests import (
    OPEN,
    Check,
    Children,
    Create,
    Delete,
    Exists,
    Flow,
    Get,
    Multi,
    Request,
    Standing,
    ask,
)
from coordinator.core.seats import Dialect, seats
from coordinator.errors import (
    ConnectionLossError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
)
from coordinator.models import ACL, Contender, Stat, hex_id

T = TypeVar("T")

PARENTS_MISSED = 10
"""How often a create makes the missing parents: somebody may delete them again at once, such as
one who has given up. More often than a few times in a row is no accident."""

Operation: TypeAlias = Callable[[Callable[[], Standing]], Flow[T]]
"""A flow yet to be started; what it is given tells the session of the moment."""


def read(request: Request[T]) -> Operation[T]:
    """Ask until a link lives long enough to answer."""

    def flow(standing: Callable[[], Standing]) -> Flow[T]:
        while True:
            try:
                return (yield from ask(request))
            except ConnectionLossError:
                continue

    return flow


def write(request: Request[T]) -> Operation[T]:
    """Ask once; a lost answer is an ambiguous ConnectionLossError."""

    def flow(standing: Callable[[], Standing]) -> Flow[T]:
        return (yield from ask(request))

    return flow


def create(
    request: Create,
    *,
    parents: bool = False,
    parents_acl: tuple[ACL, ...] = OPEN,
    made: Made | None = None,
) -> Operation[tuple[str, Stat]]:
    """Create a znode, its missing parents too if asked; see the module for lost answers."""
    noted: Made = [] if made is None else made

    def flow(standing: Callable[[], Standing]) -> Flow[tuple[str, Stat]]:
        missing = 0
        while True:
            try:
                return (yield from _create(request, standing, noted))
            except NoNodeError:
                missing += 1
                if not parents or missing > PARENTS_MISSED:
                    raise
            try:
                yield from create_parents(request.path, parents_acl, noted)
            except (ConnectionLossError, NoNodeError):
                continue  # each step may be done twice

    return flow


def commit(request: Multi, made: Made) -> Operation[tuple[object, ...]]:
    """Ask once; what it made is noted if it does nothing but create."""

    def flow(standing: Callable[[], Standing]) -> Flow[tuple[object, ...]]:
        results = yield from ask(request)
        paths = [path for path in results if isinstance(path, str)]
        if paths and all(isinstance(one, Create | Check) for one in request.operations):
            # It happened in the transaction whose answer this is, the newest that we know of.
            made.append(tuple((path, standing().zxid) for path in paths))
        return results

    return flow


def deletion(made: tuple[tuple[str, int], ...]) -> Flow[Request[Any] | None]:
    """Look at what one request has created; return the deletion of it, None if it is not ours alone.

    It is somebody else's as well if he has changed it, built on it, or made it anew. The
    deletion is good for the link on which this was seen; on the next it may be too late.
    """
    children = Counter(path.rpartition("/")[0] for path, _ in made)
    for path, czxid in made:
        stat = yield from ask(Exists(path))
        if stat is None or stat.czxid != czxid or stat.version or stat.num_children != children[path]:
            return None
    deletions = tuple(Delete(path, version=0) for path, _ in reversed(made))
    return deletions[0] if len(deletions) == 1 else Multi(deletions[0].path, deletions)


def _create(request: Create, standing: Callable[[], Standing], made: Made) -> Flow[tuple[str, Stat]]:
    resolvable = request.ephemeral and not request.sequential
    asked_at = standing().zxid
    while True:
        try:
            path, stat = yield from ask(request)
        except ConnectionLossError as loss:
            if not resolvable:
                raise
            # The session under which it was sent, or none if that has just expired. Not
            # that under which it was asked for: it may have been held over a new session.
            lost = standing()
            found = yield from read(Exists(request.path))(standing)
            if found is None:
                continue  # not applied, or gone with its session: create it now
            mine = found.ephemeral_owner == lost.session_id
            if not mine and (lost.session_id or found.ephemeral_owner not in lost.former):
                raise NodeExistsError(path=request.path) from loss
            if found.czxid <= asked_at:  # it was there before we asked
                raise NodeExistsError(path=request.path) from loss
            if mine and standing().session_id == lost.session_id:
                made.append(((request.path, found.czxid),))
                return request.path, found
            raise SessionExpiredError(
                f"create {request.path}: applied under session {hex_id(found.ephemeral_owner)}, "
                "which has expired since; the znode is about to vanish"
            ) from loss
        else:
            made.append(((path, stat.czxid),))
            return path, stat


def contenders(path: str, dialect: Dialect, most: int | None) -> Operation[tuple[Contender, ...]]:
    """Read who stands in a queue, the first of them first; no more than ``most``."""

    def flow(standing: Callable[[], Standing]) -> Flow[tuple[Contender, ...]]:
        while True:
            try:
                return (yield from _queued(path, dialect, most))
            except ConnectionLossError:
                continue

    return flow


def _queued(path: str, dialect: Dialect, most: int | None) -> Flow[tuple[Contender, ...]]:
    try:
        names, _ = yield from ask(Children(path))
    except NoNodeError:
        return ()
    found: list[Contender] = []
    for seat in seats(names, dialect):
        if most is not None and len(found) >= most:
            break
        at = f"{path}/{seat.name}"
        try:
            data, stat = yield from ask(Get(at))
        except NoNodeError:  # he has left since
            continue
        found.append(Contender(at, stat.czxid, stat.ephemeral_owner, data))
    return tuple(found)
