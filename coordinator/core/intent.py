"""What every intent has: how it comes true, how it is withdrawn, what came of it.

An intent outlives sessions. ``reconcile`` brings it about from any state, as often as it
is asked; it may be dropped at any request, after which the next run starts from what
ZooKeeper says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from coordinator.core.draft import Draft
from coordinator.core.layout import ancestors_of
from coordinator.core.requests import Create, Exists, Flow, Standing, ask
from coordinator.errors import CoordinatorError, NoAuthError, NodeExistsError
from coordinator.models import ACL


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run of ``reconcile``."""

    drafts: tuple[Draft, ...] = ()
    error: CoordinatorError | None = None
    """Why it could not come true; None: it did, or waits for somebody else."""
    retry: bool = False
    """To be run again, with backoff, though nothing else triggers it."""
    changed: bool = False
    """A view's copy differs from the one before."""
    conflict: bool = False
    """Somebody else stands in the way."""
    again: bool = False
    """To be run again at once."""


class Intent(ABC):
    """Something that shall be true as long as its owner wants it."""

    writes = False
    """It needs a session that may write."""
    recovered = True
    """A recovery waits for it and counts it."""
    queues = False
    """In a recovery it comes last: who is elected shall find everything else restored."""

    def __init__(self, token: int, path: str) -> None:
        self.token = token
        """Its number, unique in one coordinator; it also names its watches."""
        self.path = path

    def share(self, common: dict[tuple[type, str], Any]) -> None:  # noqa: B027 -- most share nothing
        """Share what belongs to the path rather than to one intent of it."""

    @abstractmethod
    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        """Bring it about; ``after_gap``: there was a time in which no watch stood."""

    @abstractmethod
    def withdraw(self, standing: Standing) -> Flow[None]:
        """Take it back, watches included."""

    def failed(self, error: CoordinatorError, next_try_in: float | None) -> Iterator[Draft]:
        """Return what there is to tell of an error that it came to."""
        yield from ()

    def withdrawn(self) -> Iterator[Draft]:
        """Return what there is to tell of its withdrawal."""
        yield from ()

    def settles(self, outcome: Outcome) -> bool:
        """Whether that is what those wait for who wait for the first outcome, if it is no error."""
        return True

    def late(self, label: str, timeout: float) -> CoordinatorError | None:
        """Return the error for who waited in vain for the first outcome; None: there is nothing to add."""
        return None

    def holds(self, session_id: int) -> bool:
        """Whether the session, if it ends, takes something of it away."""
        return False

    def expired(self) -> tuple[Draft, ...]:
        """Forget what ended with the session; return what of it was not told yet."""
        return ()


Made: TypeAlias = list[tuple[tuple[str, int], ...]]
"""What a flow has created so far: the paths and czxids of each request, as they came together."""


def create_parents(path: str, acl: tuple[ACL, ...], made: Made | None = None) -> Flow[None]:
    """Create the missing ancestors, persistent and with that ACL, the topmost first."""
    for parent in ancestors_of(path):
        try:
            created, stat = yield from ask(Create(parent, acl=acl))
            if made is not None:
                made.append(((created, stat.czxid),))
        except NodeExistsError:
            continue
        except NoAuthError:
            # A server looks at the ACL of the parent before it says that a znode exists.
            if (yield from ask(Exists(parent))) is None:
                raise
