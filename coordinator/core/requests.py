"""What one may ask of ZooKeeper, and how a conversation with it is written.

A *flow* is a generator that yields requests and is sent their results::

    def read(path: str) -> Flow[bytes]:
        data, stat = yield from ask(Get(path))
        return data

It never waits by itself; the kernel runs it. Errors of ``coordinator.errors`` are thrown
into it at the request that met them.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

from coordinator.models import ACL, Stat

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ANY_VERSION = -1
"""Whatever version the znode has. Source: ZooKeeper's API."""

OPEN = (ACL("world", "anyone", "cdrwa"),)
"""Everybody may do everything: the default of ZooKeeper's clients."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """One question to ZooKeeper whose answer is a ``T_co``.

    ``watch`` of the reading ones: the token of the intent that shall be told, once, when
    what was read changes; None for no watch.
    """

    writes: ClassVar[bool] = False

    path: str


@dataclass(frozen=True, slots=True)
class Get(Request[tuple[bytes, Stat]]):
    """The data and the stat of a znode."""

    watch: int | None = None


@dataclass(frozen=True, slots=True)
class GetConfig(Request[tuple[bytes, Stat]]):
    """The data and the stat of a znode outside of the chroot: the ensemble's configuration."""

    watch: int | None = None


@dataclass(frozen=True, slots=True)
class Exists(Request[Stat | None]):
    """The stat of a znode, or None if there is no such znode."""

    watch: int | None = None


@dataclass(frozen=True, slots=True)
class Children(Request[tuple[tuple[str, ...], Stat]]):
    """The names of the children, unsorted, and the stat of their parent."""

    watch: int | None = None


@dataclass(frozen=True, slots=True)
class Sync(Request[None]):
    """The server has caught up with the leader."""


@dataclass(frozen=True, slots=True)
class Unwatch(Request[None]):
    """Free the watches that this token has on the path, here and on the server.

    ``children``: it may have one on the children, too. Other intents that read the same
    path at that time may lose theirs with it, and have to read again.
    """

    token: int
    children: bool = False


@dataclass(frozen=True, slots=True)
class Create(Request[tuple[str, Stat]]):
    """Create a znode; the answer is its path, which is longer if sequential."""

    writes = True

    data: bytes = field(default=b"", repr=False)
    ephemeral: bool = False
    sequential: bool = False
    acl: tuple[ACL, ...] = OPEN


@dataclass(frozen=True, slots=True)
class Set(Request[Stat]):
    """Set the data of a znode that has that version."""

    writes = True

    data: bytes = field(repr=False)
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Delete(Request[None]):
    """Delete a znode that has that version and no children."""

    writes = True

    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Check(Request[None]):
    """Only in a Multi: fail unless the znode has that version."""

    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Multi(Request[tuple[object, ...]]):
    """All of the operations, or none. ``path`` is that of the first.

    The answer has a path for each Create, a Stat for each Set, else None.
    """

    writes = True

    operations: tuple[Create | Set | Delete | Check, ...]


Flow: TypeAlias = Generator[Request[Any], Any, T]


def ask(request: Request[T]) -> Flow[T]:
    """Yield the request and return its answer: the only place where a flow yields."""
    return cast(T, (yield request))


def size_of(request: Request[object], chroot: str = "") -> int:
    """Return the bytes of the request on the wire.

    Source: the jute encoding of zookeeper.jute: 8 bytes of header; strings and buffers
    have a length of 4 bytes before them; a Multi has 9 bytes before each operation.
    """
    return 8 + _body(request, len(chroot.encode()))


def _body(request: Request[object], chroot: int) -> int:
    path = 4 + len(request.path.encode()) + chroot
    match request:
        case Create(data=data, acl=acl):
            acls = sum(12 + len(one.scheme.encode()) + len(one.id.encode()) for one in acl)
            return path + 4 + len(data) + 4 + acls + 4
        case Set(data=data):
            return path + 4 + len(data) + 4
        case Multi(operations=operations):
            return 9 + sum(9 + _body(one, chroot) for one in operations)
        case _:
            return path + 4


@dataclass(frozen=True, slots=True)
class Standing:
    """The session that a flow works for, as it stood when the flow was started."""

    session_id: int
    epoch: int
    read_only: bool = False
    former: frozenset[int] = frozenset()
    """Ids of earlier sessions of ours."""
    unconfirmed: frozenset[int] = frozenset()
    """Those of them whose expiry no server has told us in so many words."""
    zxid: int = 0
    """The last transaction that an answer has told us of."""
