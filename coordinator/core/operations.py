"""The plain operations as flows: what a lost link means for each of them.

- A read is asked again on the next link, as long as its deadline allows.
- A write that was not sent is held, and sent on the next link.
- A write that was sent and not answered is ambiguous, with one exception: an ephemeral
  has an owner, so that looking at it tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from coordinator.core.intent import create_parents
from coordinator.core.requests import Create, Exists, Flow, Request, Standing, ask
from coordinator.errors import ConnectionLossError, NodeExistsError, NoNodeError, SessionExpiredError
from coordinator.models import Stat, hex_id

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


def create(request: Create, *, parents: bool = False) -> Operation[tuple[str, Stat]]:
    """Create a znode, its missing parents too if asked; see the module for lost answers."""

    def flow(standing: Callable[[], Standing]) -> Flow[tuple[str, Stat]]:
        try:
            return (yield from _create(request, standing))
        except NoNodeError:
            if not parents:
                raise
        while True:
            try:
                yield from create_parents(request.path)
                break
            except ConnectionLossError:
                continue  # each step may be done twice
        return (yield from _create(request, standing))

    return flow


def _create(request: Create, standing: Callable[[], Standing]) -> Flow[tuple[str, Stat]]:
    resolvable = request.ephemeral and not request.sequential
    asked_at = standing().zxid
    while True:
        try:
            return (yield from ask(request))
        except ConnectionLossError as loss:
            if not resolvable:
                raise
            # The session under which it was sent, or none if that has just expired. Not
            # that under which it was asked for: it may have been held over a new session.
            lost = standing()
            stat = yield from read(Exists(request.path))(standing)
            if stat is None:
                continue  # not applied, or gone with its session: create it now
            mine = stat.ephemeral_owner == lost.session_id
            if not mine and (lost.session_id or stat.ephemeral_owner not in lost.former):
                raise NodeExistsError(path=request.path) from loss
            if stat.czxid <= asked_at:  # it was there before we asked
                raise NodeExistsError(path=request.path) from loss
            if mine and standing().session_id == lost.session_id:
                return request.path, stat
            raise SessionExpiredError(
                f"create {request.path}: applied under session {hex_id(stat.ephemeral_owner)}, "
                "which has expired since; the znode is about to vanish"
            ) from loss
