"""The plain operations as flows: what a lost link means for each of them.

- A read is asked again on the next link, as long as its deadline allows.
- A write that was not sent is held, and sent on the next link.
- A write that was sent and not answered is ambiguous, with one exception: an ephemeral
  has an owner, so that looking at it tells.

A create notes what it has made, so that whoever has given up waiting for it can undo it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from coordinator.core.intent import Made, create_parents
from coordinator.core.requests import OPEN, Check, Create, Delete, Exists, Flow, Multi, Request, Standing, ask
from coordinator.errors import (
    ConnectionLossError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    ZnodeError,
)
from coordinator.models import ACL, Stat, hex_id

T = TypeVar("T")

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
        try:
            return (yield from _create(request, standing, noted))
        except NoNodeError:
            if not parents:
                raise
        while True:
            try:
                yield from create_parents(request.path, parents_acl, noted)
                break
            except ConnectionLossError:
                continue  # each step may be done twice
        return (yield from _create(request, standing, noted))

    return flow


def commit(request: Multi, made: Made) -> Operation[tuple[object, ...]]:
    """Ask once; what it made is noted if it does nothing but create."""

    def flow(standing: Callable[[], Standing]) -> Flow[tuple[object, ...]]:
        results = yield from ask(request)
        if all(isinstance(one, Create | Check) for one in request.operations):
            made.extend((path, None) for path in results if isinstance(path, str))
        return results

    return flow


def undo(made: Made) -> Operation[None]:
    """Delete what was made, the last first, but not what somebody has changed or built on."""

    def flow(standing: Callable[[], Standing]) -> Flow[None]:
        for path, czxid in reversed(made):
            try:
                yield from _undo(path, czxid, standing)
            except ZnodeError:
                continue  # it is not ours alone any more

    return flow


def _undo(path: str, czxid: int | None, standing: Callable[[], Standing]) -> Flow[None]:
    while True:
        stat = yield from read(Exists(path))(standing)
        if stat is None or stat.version != 0 or czxid not in (None, stat.czxid):
            return
        czxid = stat.czxid
        try:
            yield from ask(Delete(path, version=0))
        except ConnectionLossError:
            continue
        return


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
                made.append((request.path, found.czxid))
                return request.path, found
            raise SessionExpiredError(
                f"create {request.path}: applied under session {hex_id(found.ephemeral_owner)}, "
                "which has expired since; the znode is about to vanish"
            ) from loss
        else:
            made.append((path, stat.czxid))
            return path, stat
