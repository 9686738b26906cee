"""The way down to kazoo's client, as listener.py is the way up: untyped things stop here.

Upwards go signals and replies, in the order in which they happened on the wire; downwards
go requests. It must not decide anything: that is the kernel's.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

from kazoo.client import KazooClient
from kazoo.protocol.states import KeeperState
from kazoo.retry import KazooRetry

from coordinator import errors as ours
from coordinator.core.ensemble import Roster, Server
from coordinator.core.messages import HostsChanged, Message, Replied
from coordinator.core.requests import (
    Request,
)
from coordinator.core.session import LinkUp
from coordinator.engine import tls
from coordinator.engine.adoption import Adopted
from coordinator.engine.asking import ask
from coordinator.engine.follow import Follower
from coordinator.engine.handler import KazooHandler
from coordinator.engine.link import Link
from coordinator.engine.listener import Listener
from coordinator.engine.logs import kazoo_logger, logger
from coordinator.engine.rounds import server_name
from coordinator.engine.translation import translated, value_of
from coordinator.security import Sasl
from coordinator.settings import Settings, join_hosts

STOP_GRACE = 1.0
"""Seconds that the server is given to confirm the end of the session."""
STOP_LINKED, STOP_UNLINKED = 1.6, 0.9
"""Seconds after which kazoo's threads are left to themselves, with a link and without
one, which may have been waited for before; close() promises 2."""


class KazooPort:
    """One kazoo client at a time, and the way to its successor; or one that was adopted.

    Args:
        settings: what the client is built from.
        name: prefix of the names of its threads.
        post: takes signals and replies, from any thread.
        client: somebody else's, to be adopted; it has no successor.

    Raises:
        ConfigurationError: that client cannot be adopted.
    """

    def __init__(
        self, settings: Settings, name: str, post: Callable[[Message], None], client: object = None
    ) -> None:
        self._settings = settings
        self._name = name
        self._post = post
        self._client_id: tuple[int, bytes] | None = None
        self._stopping = False
        self._roster = Roster(settings.servers)
        self._roster_lock = threading.Lock()
        """Held while the list of servers, or the client that has it, changes."""
        self._ignored: tuple[Server, ...] = ()
        self._link: tuple[int, Link | None] = (0, None)
        """The link on which a session was accepted last, and its number."""
        self._adopted = None if client is None else Adopted(client)
        if self._adopted is None:
            _check_usable(settings)
            self.client, self.handler = self._build()
        else:
            self.client, self.handler = self._adopted.client, self._adopted.handler

    @property
    def adopted(self) -> bool:
        """Whether the client is somebody else's."""
        return self._adopted is not None

    # -- the client's life

    def _build(self) -> tuple[Any, KazooHandler]:
        settings = self._settings
        secured = settings.tls
        listener = Listener(self)
        handler = KazooHandler(
            name=self._name,
            hosts=self.servers,
            listener=listener,
            connect_timeout=settings.connect_timeout,
            first_delay=settings.retry_first_delay,
            max_delay=settings.retry_max_delay,
            make_context=None if secured is None else lambda: tls.context_of(secured),
        )
        client = KazooClient(
            hosts=self.hosts,
            timeout=settings.session_timeout,
            client_id=self._client_id,
            handler=handler,
            read_only=settings.read_only,
            auth_data=[(one.scheme, one.credential.get_secret_value()) for one in settings.auth],
            sasl_options=_sasl_options(settings.sasl),
            use_ssl=secured is not None,  # how, the handler knows
            # One sleep for each round over all servers; how long it is, the handler decides.
            connection_retry=KazooRetry(
                max_tries=-1,
                delay=0.1,
                backoff=1,
                max_jitter=0.0,
                max_delay=0.1,
                sleep_func=handler.sleep_func,
            ),
            logger=kazoo_logger,
        )
        listener.bind(client, handler)
        client.add_listener(listener.state_changed)
        return client, handler

    def start(self) -> None:
        """Let kazoo begin to connect, or hear of the client that was adopted; return at once."""
        if self._adopted is None:
            self.client.start_async()
            return
        client, handler, listener = self.client, self.handler, Listener(self)
        listener.bind(client, handler)
        self._adopted.join(listener, listener.state_changed, lambda: self.linked(client, handler))

    def rebuild(self) -> None:
        """Replace the client by a new one that asks for the same session.

        It claims to have seen nothing yet (zxid 0), so that a server which has lost its
        data answers it.
        """
        client, handler = self.client, self.handler
        with self._roster_lock:
            self.client, self.handler = self._build()
        ending = threading.Thread(
            target=_end,
            args=(client, handler, self._name),
            kwargs={"linked": False},
            name=f"{self._name}-kazoo-replaced",
            daemon=True,
        )
        ending.start()  # a callback of the user's may hold it up
        self.start()

    def stop(self) -> None:
        """End the session if there is a link, and the client, in bounded time; leave one that was adopted."""
        self._stopping = True
        self.handler.connector.stay()
        if self._adopted is not None:
            link = self.handler.link
            if link is not None and link.cause == "moved":
                link.cut("moved")  # its owner goes on, with the next one
            self._adopted.leave()
            return
        link = self.handler.link
        linked = self.client.connected and link is not None and (not link.dead or link.cause == "moved")
        _end(self.client, self.handler, self._name, linked=linked)

    def contact(self, session_id: int) -> float:
        """Return when the last answered request on a link of that session was sent."""
        link = self.handler.link
        return link.contact if link is not None and link.session_id == session_id else 0.0

    # -- which servers

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers that are tried now; of an adopted client, whoever gave them."""
        return self._roster.servers if self._adopted is None else tuple(self.client.hosts)

    @property
    def hosts(self) -> str:
        """They as text, with the chroot."""
        return join_hosts(self.servers, self._settings.chroot)

    @property
    def fallen_back(self) -> bool:
        """Whether those of the user are tried beside those of the ensemble, which could not be reached."""
        return self._roster.fallen_back

    def give(self, servers: Sequence[Server]) -> None:
        """Try these from now on: the user says so; from any thread."""
        with self._roster_lock:
            known = set(self.servers)
            self._roster.give(servers)
            if set(servers) != known:
                self._ignored = ()
                self._use("set_hosts", leave=True)

    def follow(self, servers: Sequence[Server], ignored: Sequence[Server]) -> None:
        """Try these from now on: the ensemble says so, and they answer; from any thread.

        Args:
            servers: none: what is tried stays as it is.
            ignored: what the ensemble lists besides, and does not answer.
        """
        with self._roster_lock:
            link = self.handler.link
            leave = link is not None and link.server in {server_name(*one) for one in self._roster.listed}
            changed = bool(servers) and self._roster.follow(servers)
            if changed or set(ignored) != set(self._ignored):
                self._ignored = tuple(ignored)
                self._use("reconfiguration", leave=leave)

    def follower(self, token: int) -> Follower:
        """Return what follows the ensemble when it is reconfigured; its intent has that token."""
        return Follower(self._name, self, token)

    def _fall_back(self) -> None:
        with self._roster_lock:
            if self._roster.fall_back():
                self._use("fallback", leave=True)

    def _reached(self, name: str) -> None:
        with self._roster_lock:
            if any(self._roster.reached(one) for one in self._roster.servers if server_name(*one) == name):
                self._use("reconfiguration", leave=True)

    def _use(self, source: Literal["set_hosts", "reconfiguration", "fallback"], *, leave: bool) -> None:
        servers = self._roster.servers
        hosts = join_hosts(servers, self._settings.chroot)
        if tuple(self.handler.connector.hosts) != servers or tuple(self.client.hosts) != servers:
            self.client.set_hosts(hosts)
            self.handler.connector.set_hosts(servers, leave=leave)
        names, ignored = ([server_name(*one) for one in some] for some in (servers, self._ignored))
        self._post(HostsChanged(hosts, tuple(names), tuple(ignored), source))

    # -- signals

    def reported(self, client: object, message: Message) -> None:
        """Pass on what a client says, unless it has been replaced or stopped."""
        if client is self.client and not self._stopping:
            self._post(message)

    def linked(self, client: Any, handler: KazooHandler) -> None:
        """Pass on that a server accepted the session."""
        link = handler.link
        if link is None or link.timeout is None or link.session_id is None or client is not self.client:
            return
        if link is self._link[1]:  # told already: it came up while a client was being adopted
            return
        self._client_id = client.client_id or self._client_id
        self._link = (self._link[0] + 1, link)
        up = LinkUp(
            number=self._link[0],
            session_id=link.session_id,
            timeout=link.timeout,
            server=link.server,
            read_only=client.client_state == KeeperState.CONNECTED_RO,
            contact=link.contact,
        )
        self.reported(client, up)
        self._reached(link.server)
        handler.connector.consider()

    def round_failed(self, client: object) -> None:
        """Try the servers of the user, too, where those of the ensemble could not be reached."""
        if client is self.client and not self._stopping:
            self._fall_back()

    # -- requests

    def send(self, request_id: int, request: Request[Any], number: int) -> bool:
        """Send a request on the link of that number; False: it is gone, nothing was sent.

        Ordering: requests reach the server in the order of the calls.
        """
        client, (present, link) = self.client, self._link
        if link is None or present != number:
            return False
        # Under the gate the link cannot be found dead: kazoo would otherwise queue the
        # request after it has failed its queue, and send it under the next link.
        with link.gate:
            if link.dead or not client.connected:
                return False
            try:
                with self.handler.direct():
                    result = ask(client, request, self._post)
            except Exception as error:  # noqa: BLE001 -- kazoo checks its arguments with whatever comes
                self._post(Replied(request_id, None, translated(error, request), 0, 0.0))
                return True
        if result is None:
            self._post(Replied(request_id, None, None, 0, link.contact))
            return True
        result.rawlink(lambda answer: self._replied(client, link, request_id, request, answer))
        return True

    def _replied(self, client: Any, link: Any, request_id: int, request: Request[Any], answer: Any) -> None:
        value, error = None, None
        try:
            value = value_of(request, answer.get(block=False))
        except ours.CoordinatorError as failed:
            error = failed
        except Exception as failed:  # noqa: BLE001 -- all of kazoo's errors end here
            error = translated(failed, request)
        self._post(Replied(request_id, value, error, client.last_zxid or 0, link.contact))


def _check_usable(settings: Settings) -> None:
    """Refuse what could only fail later, in a thread, again and again.

    Raises:
        ConfigurationError: a certificate or key cannot be used.
        MissingExtraError: SASL is asked for and its package is not installed.
    """
    if settings.sasl is not None and importlib.util.find_spec("puresasl") is None:
        raise ours.MissingExtraError("sasl")
    if settings.tls is not None:
        try:
            tls.context_of(settings.tls)
        except tls.FilesError as error:
            raise ours.ConfigurationError(f"tls: {error.args[0]}") from None


def _sasl_options(sasl: Sasl | None) -> dict[str, str] | None:
    if sasl is None:
        return None
    return {
        "mechanism": sasl.mechanism,
        "username": sasl.username,
        "password": sasl.password.get_secret_value(),
    }


def _end(client: Any, handler: KazooHandler, name: str, *, linked: bool) -> None:
    """Stop and close a client; leave its thread behind rather than wait without limit."""
    limit = STOP_LINKED if linked else STOP_UNLINKED
    if not linked:
        handler.abort()
    abort = threading.Timer(STOP_GRACE, handler.abort)
    abort.name, abort.daemon = f"{name}-kazoo-abort", True
    abort.start()

    def end() -> None:
        try:
            client.stop()
            client.close()
        except Exception:  # noqa: BLE001 -- it is given up in any case
            logger.exception("kazoo's client did not stop as it should")

    thread = threading.Thread(target=end, name=f"{name}-kazoo-stop", daemon=True)
    thread.start()
    thread.join(limit)
    abort.cancel()
    abort.join(0.1)
    if thread.is_alive():
        logger.warning(
            "%s is still alive %.1f s after it was told to stop; it is left behind. Does a kazoo "
            "listener block, or the name resolver?",
            thread.name,
            limit,
        )
