"""What tests of locks and leadership share: a queue as others see it, and calls in either face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from coordinator import Contender, NoNodeError
from coordinator.core.seats import Dialect, seat_prefix, seats
from tests.contract.site import Call, Site
from tests.faces import Twin


def queue(site: Site) -> str:
    """The path of the queue."""
    return f"{site.base}/q"


def sit(site: Site, identity: str = "worker-2", dialect: Dialect = "kazoo", name: str = "q") -> str:
    """Have another client queue there; return its seat."""
    attempt = uuid4().hex if dialect == "kazoo" else str(uuid4())
    at = f"{site.base}/{name}/{seat_prefix(dialect, attempt)}"
    return site.other.create(at, identity.encode(), ephemeral=True, sequential=True, parents=True)


def queued(site: Site, dialect: Dialect = "kazoo") -> list[str]:
    """Who stands in the queue: what the seats hold, the first of them first."""
    try:
        names = site.names("q")
    except NoNodeError:
        return []
    found = []
    for seat in seats(names, dialect):
        data, _, _ = site.look(f"q/{seat.name}") or (b"", "", 0)
        found.append(data.decode())
    return found


def waiting(site: Site, call: Callable[[], Any], identity: str, place: int) -> Call:
    """Begin to acquire; return when it stands at that place, from 1."""
    begun = site.begin(call, "asked")
    site.wait(lambda: queued(site)[place - 1 :] == [identity], f"{identity} is at {place}")
    return begun


def granted(site: Site, call: Call) -> Any:
    """What was acquired: it may take time, and traffic, until it is proved."""
    site.pass_time(2.0)
    return call.value()


def own(site: Site, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or a coroutine function that does the same, as the face would have it."""
    if not isinstance(site.zk, Twin):
        return function

    async def awaited(*args: Any) -> Any:
        return function(*args)

    return awaited


def same(shown: Any, lease: Any) -> bool:
    """Whether a lease that was handed to a callback is that one."""
    return shown is (lease._target if isinstance(lease, Twin) else lease)


def contender(site: Site, seat: str) -> Contender:
    """Who sits there, as another client reads it."""
    znode = site.other.get(seat)
    return Contender(seat, znode.stat.czxid, znode.stat.ephemeral_owner, znode.value)
