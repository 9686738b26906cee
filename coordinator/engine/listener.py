"""What kazoo's client and its handler say, turned into signals, in kazoo's connection thread.

::

    kazoo's states, with the reason that stands at that moment --+
    attempts, rounds, pings, the end of kazoo's thread ----------+--> signals --> the port --> inbox

It must not decide anything, nor block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kazoo.protocol.states import KazooState, KeeperState

from coordinator.core.messages import ClientEnded, Message
from coordinator.core.session import AttemptFailed, AuthFailed, Beat, Expired, LinkDown, RoundRefused
from coordinator.engine import wire
from coordinator.engine.frames import REFUSALS
from coordinator.engine.handler import KazooHandler
from coordinator.engine.link import Link

if TYPE_CHECKING:
    from coordinator.engine.port import KazooPort


class Listener:
    """Hears one client and its handler, in kazoo's connection thread."""

    def __init__(self, port: KazooPort) -> None:
        self._port = port
        self._client: Any = None
        self._handler: KazooHandler | None = None

    def bind(self, client: object, handler: KazooHandler) -> None:
        """Name the client and the handler that are heard."""
        self._client, self._handler = client, handler

    def _report(self, message: Message) -> None:
        self._port.reported(self._client, message)

    def _contact(self) -> float:
        contact = None if self._handler is None else self._handler.connector.contact
        return 0.0 if contact is None else contact

    def state_changed(self, state: KazooState) -> None:
        """Turn a state of kazoo into a signal; the reason is read while it still stands."""
        reason = self._client.client_state
        link = None if self._handler is None else self._handler.connector.last_link
        if link is not None and link.refusal and state != KazooState.CONNECTED:
            self._refused(link.refusal)
        elif state == KazooState.CONNECTED and self._handler is not None:
            self._port.linked(self._client, self._handler)
        elif state == KazooState.SUSPENDED:
            present = None if self._handler is None else self._handler.link
            lost = present is not None and present.ping_outstanding
            self._report(LinkDown(self._contact(), ping_lost=lost))
        elif reason == KeeperState.EXPIRED_SESSION:
            self._report(LinkDown(self._contact()))
            self._report(Expired())
        elif reason == KeeperState.AUTH_FAILED:
            self._sasl_failed(link)

    def _refused(self, cause: str) -> None:
        self._report(AuthFailed(cause, REFUSALS[cause]))

    def _sasl_failed(self, link: Link | None) -> None:
        """Tell a link that broke in the midst of SASL, which kazoo takes for a refusal, from one."""
        if link is None or not link.dead:
            self._report(AuthFailed("sasl_unsupported", "the server's SASL is not understood"))
            return
        # Servers before 3.6 refuse like that, too; what is tried again then is told each time.
        self._report(LinkDown(self._contact()))
        self._report(AttemptFailed(link.server, "sasl", "the link broke in the midst of SASL", None))

    def connection_ended(self) -> None:
        """Kazoo's thread is at its end, whoever ended it."""
        link = None if self._handler is None else self._handler.connector.last_link
        if link is not None and link.refusal:
            self._refused(link.refusal)  # also where kazoo's thread died of it
        else:
            self._report(ClientEnded(self._contact(), stopped=wire.was_stopped(self._client)))

    def attempt_failed(self, server: str, cause: str, detail: str, next_try_in: float | None) -> None:
        """Report a server that could not be reached."""
        self._report(AttemptFailed(server, cause, detail, next_try_in))

    def pass_failed(self, *, refused: bool) -> None:
        """Report a round over all servers that failed."""
        self._port.round_failed(self._client)
        if refused:
            self._report(RoundRefused())

    def heartbeat(self, rtt: float, sent_at: float) -> None:
        """Report an answered ping."""
        self._report(Beat(rtt, sent_at))
