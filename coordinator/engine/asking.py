"""Each request as a call of kazoo's client, and the watch that may go with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.core.messages import Fired, Message
from coordinator.core.requests import (
    Children,
    Create,
    Delete,
    Exists,
    Get,
    GetConfig,
    Multi,
    Request,
    Set,
    Sync,
    Unwatch,
)
from coordinator.engine import wire
from coordinator.engine.results import DirectWatch
from coordinator.engine.translation import acls_of, transaction_of


class Trigger(DirectWatch):
    """The watch of one intent; equal to any other watch of the same intent.

    kazoo keeps watches in sets: an intent that reads a path again has still one entry.
    """

    __slots__ = ("token",)

    def __init__(self, token: int, post: Callable[[Message], None]) -> None:
        def fired(event: Any) -> None:
            if event.type != "NONE":  # that is kazoo forgetting its watches at a lost link
                post(Fired(token, event.path if event.type == "DELETED" else None))

        super().__init__(fired)
        self.token = token

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trigger) and other.token == self.token

    def __hash__(self) -> int:
        return hash((Trigger, self.token))


def ask(client: Any, request: Request[Any], post: Callable[[Message], None]) -> Any:
    """Have kazoo send the request; return its result to come, None if there is nothing to send.

    Args:
        client: kazoo's.
        request: what is asked.
        post: takes the message of a watch that fires, in the order of the wire.
    """

    def trigger(token: int | None) -> Trigger | None:
        return None if token is None else Trigger(token, post)

    path = request.path
    match request:
        case Get(watch=token):
            return client.get_async(path, watch=trigger(token))
        case GetConfig(watch=token):
            return wire.get_unrooted(client, path, trigger(token))
        case Exists(watch=token):
            return client.exists_async(path, watch=trigger(token))
        case Children(watch=token):
            return client.get_children_async(path, watch=trigger(token), include_data=True)
        case Create(data=data, ephemeral=ephemeral, sequential=sequential, acl=acl):
            return client.create_async(
                path, data, acl=acls_of(acl), ephemeral=ephemeral, sequence=sequential, include_data=True
            )
        case Set(data=data, version=version):
            return client.set_async(path, data, version)
        case Delete(version=version):
            return client.delete_async(path, version)
        case Sync():
            return client.sync_async(path)
        case Multi(operations=operations):
            return transaction_of(client, operations).commit_async()
        case Unwatch(token=token, children=children):
            if not wire.seam_fits():
                return None  # it stays until it fires, and then finds nobody
            return wire.unwatch(client, path, trigger(token), children=children)
        case _:
            raise TypeError(f"{type(request).__name__} is no request of its own")
