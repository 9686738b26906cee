"""The intent to know who leads: who is first in a queue in which we do not stand.

Only the first seat is watched; while there is none, the children of the queue; while there is no
queue, its path. So those who join at the end wake nobody here.
"""

from __future__ import annotations

from coordinator.core.contention import ROUNDS, read_contender
from coordinator.core.draft import draft
from coordinator.core.intent import Intent, Outcome
from coordinator.core.requests import Children, Exists, Flow, Standing, Unwatch, ask
from coordinator.core.seats import Dialect, seats
from coordinator.errors import NoNodeError, ZnodeError
from coordinator.events import LeaderChanged
from coordinator.models import Contender

UNKNOWN = object()


class Leadership(Intent):
    """A copy of who is first."""

    def __init__(self, token: int, path: str, dialect: Dialect) -> None:
        super().__init__(token, path)
        self.dialect: Dialect = dialect
        self.leader: Contender | None = None
        self.known = False
        """It was looked at."""
        self._watched: dict[str, bool] = {}
        """Where a watch of ours may stand; True: on the children, too."""

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        try:
            for _ in range(ROUNDS):
                found = yield from self._look()
                if found is not UNKNOWN:
                    return self._seen(found if isinstance(found, Contender) else None)
        except ZnodeError as error:
            return Outcome(error=error, retry=True)
        return Outcome(retry=True)

    def _look(self) -> Flow[object]:
        """Return who is first, None for nobody; UNKNOWN if that changed while we looked."""
        try:
            names, _ = yield from ask(Children(self.path))
            if not seats(names, self.dialect):
                self._watched = {self.path: True}
                names, _ = yield from ask(Children(self.path, self.token))
        except NoNodeError:
            self._watched = {self.path: True}
            stat = yield from ask(Exists(self.path, self.token))
            return None if stat is None else UNKNOWN
        queue = seats(names, self.dialect)
        if not queue:
            return None
        path = f"{self.path}/{queue[0].name}"
        try:
            found = yield from read_contender(path, self.token)
        except NoNodeError:
            return UNKNOWN
        if path not in self._watched:  # that of who was first before has fired
            self._watched = {one: kids for one, kids in self._watched.items() if kids} | {path: False}
        return found

    def _seen(self, leader: Contender | None) -> Outcome:
        previous, self.leader = self.leader, leader
        first, self.known = not self.known, True
        if _shown(previous) == _shown(leader) and not (first and leader):
            return Outcome()
        told = draft(
            LeaderChanged,
            path=self.path,
            leader=None if leader is None else leader.identity,
            token=0 if leader is None else leader.token,
            previous=None if previous is None else previous.identity,
        )
        return Outcome((told,), changed=not first)

    def withdraw(self, standing: Standing) -> Flow[None]:
        for path, children in self._watched.items():
            yield from ask(Unwatch(path, self.token, children=children))


def _shown(leader: Contender | None) -> tuple[int, str] | None:
    return None if leader is None else (leader.token, leader.identity)
