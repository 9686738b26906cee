"""The protocol operations that kazoo lacks, sent through it all the same.

Here, and only here, private names of kazoo are used; ``seam_fits`` proves at start-up
that they look as they did when this was written. Where they do not, the public way is
taken: slower, or leaving a watch on the server until it fires.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from kazoo.client import KazooClient
from kazoo.protocol.serialization import int_struct, write_string

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
        )
    except (AttributeError, OSError, TypeError):
        return False


def unwatch(client: Any, path: str, watch: object) -> Any | None:
    """Free a watch here, and on the server if nobody else in this client has one there.

    RemoveWatches would also take the watches that the user set through ``zk.kazoo``.

    Args:
        client: the KazooClient.
        path: absolute within the chroot.
        watch: equal to the callable that was given with the reads.

    Returns:
        The asynchronous result of the request, or None if none was needed.
    """
    full = client.chroot + path if path != "/" else client.chroot or "/"
    kinds = []
    for kind, registry in ((DATA, client._data_watchers), (CHILDREN, client._child_watchers)):
        watchers = registry.get(full)
        if watchers is not None and watch in watchers:
            if len(watchers) == 1:
                kinds.append(kind)
            else:
                watchers.discard(watch)
    if not kinds:
        return None
    result = client.handler.async_result()

    def freed(_: object) -> None:
        # In the connection thread, which alone adds and removes entries.
        for kind, registry in ((DATA, client._data_watchers), (CHILDREN, client._child_watchers)):
            watchers = registry.get(full)
            if kind in kinds and watchers is not None:
                watchers.discard(watch)
                if not watchers:
                    del registry[full]

    result.rawlink(freed)
    client._call(RemoveWatches(full, ANY if len(kinds) == 2 else kinds[0]), result)
    return result
