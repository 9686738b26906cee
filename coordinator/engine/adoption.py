"""A kazoo client that somebody else owns, while a coordinator works on it.

::

    Adopted(client)    reserved: one coordinator for each client
    join               heard from now on; its present link is told like a new one
    leave              as if we had never been there; it may be adopted again

It is never started, stopped or replaced here, nor are its settings touched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from coordinator.engine import wire
from coordinator.engine.handler import KazooHandler
from coordinator.engine.link import Link
from coordinator.engine.rounds import LinkListener, server_name
from coordinator.errors import ConfigurationError
from coordinator.settings import Settings

HOW = "KazooClient(handler=coordinator.KazooHandler())"
"""How such a client is built."""

_lock = threading.Lock()


class Adopted:
    """The hold that one coordinator has on somebody else's client.

    Raises:
        ConfigurationError: it has not our handler, or another coordinator holds it.
    """

    def __init__(self, client: Any) -> None:
        handler = checked(client).handler
        with _lock:
            if handler.heard:
                raise ConfigurationError(
                    "this client belongs to a coordinator already; close that one first, or build another "
                    f"client: {HOW}"
                )
            handler.heard = True
        self.client = client
        self.handler: KazooHandler = handler
        self._hosts = handler.connector.hosts
        self._state_changed: Callable[[Any], None] | None = None

    def join(
        self, listener: LinkListener, state_changed: Callable[[Any], None], present: Callable[[], None]
    ) -> None:
        """Hear the client, and have its present link told, if it has one.

        ``present`` is called in kazoo's connection thread, where alone states change: seen
        from here, a link might end between the look at it and the telling of it.
        """
        client, handler = self.client, self.handler
        self._state_changed = state_changed
        handler.connector.listen(
            listener, list(client.hosts), announced=wire.announce_passes(client, self._begin_pass)
        )
        client.add_listener(state_changed)
        link = handler.link
        if link is None:
            return
        with link.gate:  # as for any request: it must not wait in kazoo's queue for another link
            if link.dead or not client.connected:
                return  # the next one is told by the listener
            with handler.direct():
                looked = client.exists_async("/")
        looked.rawlink(lambda _: self._looked(link, present))

    def _begin_pass(self) -> None:
        self.handler.connector.hosts = list(self.client.hosts)  # the owner may have set others
        self.handler.connector.begin_pass()

    def _looked(self, link: Link, present: Callable[[], None]) -> None:
        if not link.dead and self.client.connected:
            present()

    def leave(self) -> None:
        """Hear it no more; a second call does nothing."""
        if self._state_changed is not None:
            self.client.remove_listener(self._state_changed)
            wire.announce_passes(self.client, None)
        self.handler.connector.listen(None, self._hosts)
        with _lock:
            self.handler.heard = False


def checked(client: Any) -> Any:
    """Return the client if it has our handler.

    Raises:
        ConfigurationError: it has not; the message says how to build one.
    """
    if not isinstance(getattr(client, "handler", None), KazooHandler):
        raise ConfigurationError(
            f"only a kazoo client with the handler of coordinator can be adopted; build it like this: {HOW}"
        )
    return client


def settings_of(client: Any, **given: Any) -> Settings:
    """Return settings with what is given and the hosts of the client; the rest is its own business.

    Raises:
        ConfigurationError: the client cannot be adopted, or something given is wrong.
    """
    servers = dict.fromkeys(server_name(host, port) for host, port in checked(client).hosts)
    rest = {name: field.default for name, field in Settings.model_fields.items() if name not in given}
    rest["tls"] = False  # None would leave it to the environment, whose files need not be there
    return Settings.make(**{**rest, **given, "hosts": ",".join(servers) + client.chroot})
