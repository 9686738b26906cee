"""Who stands in a queue: contenders of a ``World``, and rivals that are no clients of ours."""

from __future__ import annotations

from itertools import count
from typing import Any

from fake import World

from coordinator.core.contention import Contention
from coordinator.core.messages import StepDown
from coordinator.core.requests import Create, Delete
from coordinator.core.seats import seat_prefix, seats
from coordinator.core.session import Beat

QUEUE = "/q"
ATTEMPTS = count(1)


def candidate(world: World, path: str = QUEUE, data: bytes = b"us", **given: Any) -> Contention:
    """Return what stands in the queue once it is wanted; a lock unless ``once=False``."""
    given = {"stop_within": world.timeout / 10, **given}
    return Contention(world.token(), path, data, lambda: f"{next(ATTEMPTS):032x}", **given)


def acquire(world: World, waiter: str | None = "lock", *, timeout: float = 1e6, **given: Any) -> Contention:
    """Want a place in a queue, and let everything arrive."""
    one = candidate(world, **given)
    world.want(one, waiter, timeout=timeout)
    world.settle()
    return one


def step_down(world: World, one: Contention, waiter: str | None = None, **given: Any) -> None:
    """Give back what it holds."""
    world.say(StepDown(one.token, f"latch {one.path}", waiter, **given))


def live(world: World, seconds: float) -> None:
    """Let time pass, with pings as a client of kazoo's sends them."""
    while seconds > 0:
        step = min(seconds, world.timeout / 3)
        world.advance(step)
        if world.linked:
            world.say(Beat(0.0, world.now))
            world.settle()
        seconds -= step


def queue(world: World, path: str = QUEUE, dialect: Any = "kazoo") -> list[str]:
    """Return the paths of those who stand there, the first of them first."""
    return [f"{path}/{seat.name}" for seat in seats(world.zookeeper.names(path), dialect)]


def left(world: World) -> list[str]:
    """Return the seats that our session has on the server."""
    return [path for path in world.zookeeper.owned(world.session_id) if path.startswith(QUEUE)]


class Rival:
    """Another client in the queue, with a session of its own."""

    def __init__(self, world: World, data: bytes = b"rival", *, path: str = QUEUE, dialect: Any = "kazoo"):
        self._world = world
        self.session = world.zookeeper.open()
        if path not in world.zookeeper.nodes:
            world.zookeeper.execute(Create(path))
        at = f"{path}/{seat_prefix(dialect, f'{next(ATTEMPTS):032x}')}"
        request = Create(at, data, ephemeral=True, sequential=True)
        self.seat, stat = world.zookeeper.execute(request, self.session)
        self.token = stat.czxid

    def leave(self) -> None:
        """Give it up."""
        self._world.zookeeper.execute(Delete(self.seat), self.session)
        self._world.settle()

    def die(self) -> None:
        """End its session."""
        self._world.zookeeper.expire(self.session)
        self._world.settle()


def believed(world: World, one: Contention) -> bool:
    """Whether it is held, by the clock of this moment."""
    return one.term is not None and one.term.held(world.now)
