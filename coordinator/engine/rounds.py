"""What is tried when: the book of a pass over the hosts, and the pause that follows it.

kazoo tries one host after the other (a *pass*) and sleeps before it begins again. `Passes` keeps what each
attempt came to, tells the listener, and says how long to pause. It must not open sockets or sleep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Jitter(Protocol):
    """The one method of `random.Random` that a backoff draws from."""

    def uniform(self, a: float, b: float, /) -> float:
        """Draw a float between `a` and `b`."""
        ...


class Backoff:
    """Full-jitter exponential pauses: uniform(0, min(ceiling, first * 2**n)), n counted since `reset`.

    Full jitter, because all clients of an ensemble lose it in the same instant; with a pause that has a
    fixed part they return in step. Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).

    Args:
        first: upper bound of the first pause, in seconds.
        ceiling: upper bound of any pause, in seconds.
        random: where the numbers are drawn from.
    """

    def __init__(self, first: float, ceiling: float, random: Jitter) -> None:
        self._first = first
        self._ceiling = ceiling
        self._random = random
        self._drawn = 0

    def draw(self) -> float:
        """The next pause, in seconds."""
        bound = min(self._ceiling, self._first * 2.0 ** min(self._drawn, 64))
        self._drawn += 1
        return self._random.uniform(0.0, bound)

    def reset(self) -> None:
        """Begin again at the first pause."""
        self._drawn = 0


class LinkListener(Protocol):
    """What hears of attempts and heartbeats; called in the connection thread, and must never block it."""

    def attempt_failed(self, server: str, cause: str, detail: str, next_try_in: float | None) -> None:
        """An attempt to reach `server` failed.

        Args:
            server: "host:port" as configured.
            cause: "refused", "dns", "timeout", "unreachable", "tls", "handshake" (the server closed before it
                answered), "reset" or "other".
            detail: what the operating system said.
            next_try_in: seconds until the next pass when this was the last attempt of one; None when another
                host is tried at once.
        """
        ...

    def pass_failed(self, *, refused: bool) -> None:
        """A pass over the hosts ended without a link.

        Args:
            refused: every host was reached, and closed without answering the handshake. That is how an
                ensemble answers a client which has seen a higher zxid than it has (ZooKeeperServer.
                processConnectRequest: "Refusing session request ... as it has seen zxid").
        """
        ...

    def heartbeat(self, rtt: float, sent_at: float) -> None:
        """A ping was answered, `rtt` seconds after it was sent at `sent_at` (by `clock.now`)."""
        ...

    def connection_ended(self) -> None:
        """The connection thread is at its end, whoever ended it."""
        ...


class Unheard:
    """A listener that does nothing."""

    def attempt_failed(self, server: str, cause: str, detail: str, next_try_in: float | None) -> None:
        """Ignore it."""

    def pass_failed(self, *, refused: bool) -> None:
        """Ignore it."""

    def heartbeat(self, rtt: float, sent_at: float) -> None:
        """Ignore it."""

    def connection_ended(self) -> None:
        """Ignore it."""


class Passes:
    """What the attempts of the present pass came to; used by the connection thread alone.

    A failure is held back until the next thing happens, because only then is it known whether another host
    is tried at once or a pause follows.

    Args:
        listener: told of each failure and each failed pass.
        backoff: draws the pause after each pass.
    """

    def __init__(self, listener: LinkListener, backoff: Backoff) -> None:
        self.listener = listener
        self._backoff = backoff
        self._held: tuple[str, str, str] | None = None
        self._tried: set[tuple[str, int]] = set()
        self._causes: list[str] = []
        self._reached = False

    def attempted(self, host: str, port: int) -> None:
        """An attempt to reach this host begins."""
        self._tell(None)
        self._tried.add((host, port))

    def failed(self, server: str, cause: str, detail: str) -> None:
        """The attempt failed."""
        self._tell(None)
        self._held = server, cause, detail
        self._causes.append(cause)

    def reached(self) -> None:
        """A server answered the handshake: the next pause is a first one again."""
        self._backoff.reset()
        self._causes.clear()
        self._reached = True

    def ended(self, hosts: Iterable[tuple[str, int]], why_unresolved: Callable[[str, int], str]) -> float:
        """End the pass and tell what it came to; the seconds to pause.

        Args:
            hosts: as configured. One that was never tried has a name that kazoo could not resolve, unless a
                link ended in the middle of the pass: kazoo then goes on with the rest of the old list.
            why_unresolved: asks the resolver again, for the detail.
        """
        if not self._reached:
            for host, port in hosts:
                if (host, port) not in self._tried:
                    self.failed(server_name(host, port), "dns", why_unresolved(host, port))
        pause = self._backoff.draw()
        self._tell(pause)
        if self._causes:
            refused = not self._reached and all(cause == "handshake" for cause in self._causes)
            self.listener.pass_failed(refused=refused)
        self._tried.clear()
        self._causes.clear()
        self._reached = False
        return pause

    def abandoned(self) -> None:
        """Other hosts are to be tried: this pass tells nothing about them."""
        self._tell(None)
        self._backoff.reset()
        self._tried.clear()
        self._causes.clear()
        self._reached = False

    def _tell(self, next_try_in: float | None) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self.listener.attempt_failed(*held, next_try_in)


def server_name(host: str, port: int) -> str:
    """Name a server as people write it: host:port, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
