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
from kazoo.protocol.serialization import Exists, int_struct, write_string

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


def unwatch(client: Any, path: str, watch: object, *, children: bool) -> Any:
    """Free a watch here, and on the server if nobody else in this client has one there.

    RemoveWatches would also take the watches that the user set through ``zk.kazoo``.

    Args:
        client: the KazooClient.
        path: absolute within the chroot.
        watch: equal to the callable that was given with the reads.
        children: it may watch the children, too.

    Returns:
        The asynchronous result of a request: the registries are seen to when that is
        answered, in kazoo's connection thread, which alone adds to them. Before that the
        entry may still be missing: kazoo adds it after it has handed on the answer.
    """
    full = client.chroot + path if path != "/" else client.chroot or "/"
    registries = {DATA: client._data_watchers}
    if children:
        registries[CHILDREN] = client._child_watchers
    alone = [kind for kind, registry in registries.items() if not set(registry.get(full, ())) - {watch}]
    result = client.handler.async_result()

    def freed(_: object) -> None:
        for registry in registries.values():
            watchers = registry.get(full)
            if watchers is not None:
                watchers.discard(watch)
                if not watchers:
                    del registry[full]

    result.rawlink(freed)
    request = RemoveWatches(full, ANY if len(alone) == 2 else alone[0]) if alone else Exists(full, None)
    client._call(request, result)
    return result
