"""The protocol operations that kazoo lacks, sent through it all the same.

Here, and only here, private names of kazoo are used; ``seam_fits`` proves at start-up
that they look as they did when this was written. Where they do not, the public way is
taken: slower, or leaving a watch on the server until it fires.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import Exists, GetData, int_struct, write_string

CHILDREN, DATA, ANY = 1, 2, 3
"""Kinds of watches. Source: org.apache.zookeeper.Watcher.WatcherType."""


@dataclass(frozen=True, slots=True)
class RemoveWatches:
    """Free this session's watches of a kind on a path.

    Source: ZooDefs.OpCode.removeWatches, zookeeper.jute RemoveWatchesRequest; 3.5 and later.
    """

    type: ClassVar[int] = 18

    path: str
    kind: int

    def serialize(self) -> bytearray:
        """Return the request as jute."""
        return bytearray(write_string(self.path) + int_struct.pack(self.kind))

    @classmethod
    def deserialize(cls, _bytes: bytes, _offset: int) -> bool:
        """Return what an answer without a body means."""
        return True


@cache
def seam_fits() -> bool:
    """Whether the private names used here are still what they were in kazoo 2.11.0."""
    try:
        source = inspect.getsource(KazooClient)
        return (
            list(inspect.signature(KazooClient._call).parameters) == ["self", "request", "async_object"]
            and "self._child_watchers = defaultdict(set)" in source
            and "self._data_watchers = defaultdict(set)" in source
            and "self._pending = deque()" in source
            and "self._queue = deque()" in source
            and "self._stopped = self.handler.event_object()" in source
            and "self._expand_client_hosts()" in inspect.getsource(ConnectionHandler._connect_loop)
            and GetData._fields == ("path", "watcher")
        )
    except (AttributeError, OSError, TypeError):
        return False


def was_stopped(client: Any) -> bool:
    """Whether the client's thread ended because its owner stopped it, not by itself."""
    if not seam_fits():
        return not client.handler.running
    stopped: bool = client._stopped.is_set()
    return stopped


def announce_passes(client: Any, begins: Callable[[], None] | None) -> bool:
    """Have ``begins`` called before each round over the hosts; None: no more.

    Only that tells a round in which no name resolved from one more slice of a pause.

    Returns:
        Whether they are announced.
    """
    connection = client._connection if seam_fits() else None
    if connection is None:
        return False
    vars(connection).pop("_expand_client_hosts", None)
    if begins is None:
        return False
    expand = connection._expand_client_hosts

    def announced() -> Any:
        begins()
        return expand()

    connection._expand_client_hosts = announced
    return True


def get_unrooted(client: Any, path: str, watch: object) -> Any:
    """Read a znode wherever it stands: ``client.get_async`` prefixes paths with the chroot.

    Where the seam does not fit, what lies outside of a chroot cannot be read.

    Raises:
        NoNodeError: it cannot; for us there is no such znode.
    """
    if not client.chroot:
        return client.get_async(path, watch=watch)
    if not seam_fits():
        raise NoNodeError
    result = client.handler.async_result()
    client._call(GetData(path, watch), result)
    return result


def unwatch(client: Any, path: str, watch: object, *, children: bool) -> Any:
    """Free a watch here, and on the server if nobody else in this client has one there.

    RemoveWatches would also take the watches that the user set through ``zk.kazoo``. Who
    has one is looked at in kazoo's connection thread, which alone adds them, and behind an
    answer: kazoo adds a watch after it has handed on the answer that armed it.

    Args:
        client: the KazooClient.
        path: absolute within the chroot.
        watch: equal to the callable that was given with the reads.
        children: it may watch the children, too.

    Returns:
        The asynchronous result of it all.
    """
    full = client.chroot + path if path != "/" else client.chroot or "/"
    registries = {DATA: client._data_watchers}
    if children:
        registries[CHILDREN] = client._child_watchers
    done = client.handler.async_result()
    looked = client.handler.async_result()

    def look(_: object) -> None:
        for registry in registries.values():
            if full in registry:
                registry[full].discard(watch)
        alone = [kind for kind, registry in registries.items() if not registry.get(full)]
        for kind in alone:
            registries[kind].pop(full, None)
        asked = [entry[0] for entry in (*client._pending, *client._queue)]
        others = any(getattr(one, "watcher", None) and one.path == full for one in asked)
        if not alone or others or not client.connected:
            done.set(None)
            return
        with client.handler.direct():
            removed = client.handler.async_result()
        removed.rawlink(lambda _: done.set(None))  # none to remove: it has fired already
        client._call(RemoveWatches(full, ANY if len(alone) == 2 else alone[0]), removed)

    looked.rawlink(look)
    client._call(Exists(full, None), looked)
    return done
