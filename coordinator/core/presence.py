"""The intent that an ephemeral exists, with this data, owned by this session (rule R12).

Who may own the znode that stands in the place, and what is done about it:

===================================  ==================================================
owner                                what is done
===================================  ==================================================
this session                         adopted; its data is set if it differs
an earlier session of ours, and a    watched; created when the server has removed it
server told us that it expired
an earlier session of ours else      deleted and created, in one transaction
anybody else, also nobody            left alone and told as a conflict; created when it
(a znode that is not ephemeral)      goes (``on_conflict="wait"``), or an error ("fail")
===================================  ==================================================

Deleted by somebody: created again. What the server refuses is told and tried again with
backoff. Parents that are missing are created.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from coordinator.core.draft import Draft, draft
from coordinator.core.intent import Intent, Outcome, create_parents
from coordinator.core.requests import (
    OPEN,
    Create,
    Delete,
    Exists,
    Flow,
    Get,
    Multi,
    Set,
    Standing,
    Unwatch,
    ask,
)
from coordinator.errors import (
    BadVersionError,
    CoordinatorError,
    EphemeralConflictError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    TransactionFailedError,
    ZnodeError,
)
from coordinator.events import (
    EphemeralConflict,
    EphemeralCreated,
    EphemeralFailed,
    EphemeralRecreated,
    EphemeralRemoved,
)
from coordinator.models import ACL, Stat, hex_id

ROUNDS = 8
"""How often one run looks again when others change the znode under its hands."""

OnConflict = Literal["wait", "fail"]


class Presence(Intent):
    """This ephemeral exists."""

    writes = True

    def __init__(
        self,
        token: int,
        path: str,
        data: bytes,
        *,
        acl: tuple[ACL, ...] = OPEN,
        parents_acl: tuple[ACL, ...] = OPEN,
        on_conflict: OnConflict = "wait",
    ) -> None:
        super().__init__(token, path)
        self.data = data
        self.acl = acl
        self.parents_acl = parents_acl
        self.on_conflict = on_conflict
        self.czxid = 0
        """The transaction that created the znode that is ours; 0 while there is none."""
        self.owner = 0
        """The session of ours under which it was last seen; 0 while it is not present."""
        self._ever = False
        self._written: tuple[bytes, int] | None = None  # data, and the mzxid it was found under
        self._told: tuple[int, int] | None = None  # owner and czxid of the conflict told last
        # Kept here and not in the flow: a flow may be dropped between a change and its end.
        self._untold: list[Draft] = []

    @property
    def rival(self) -> int | None:
        """The session that owns the znode in its place, 0 for nobody; None if there is none."""
        return None if self.present or self._told is None else self._told[0]

    @property
    def present(self) -> bool:
        """Whether it was there when ZooKeeper was last asked."""
        return self.owner != 0

    def holds(self, session_id: int) -> bool:
        return self.present and self.owner == session_id

    def expired(self) -> tuple[Draft, ...]:
        untold, self._untold = tuple(self._untold), []
        self._gone()
        return untold

    def reconcile(self, standing: Standing, *, after_gap: bool) -> Flow[Outcome]:
        if self.present and self.owner != standing.session_id:
            self._gone()
        for _ in range(ROUNDS):
            if not self.present:
                try:
                    yield from self._create()
                except NodeExistsError:
                    pass
                except ZnodeError as error:
                    return self._outcome(error=error, retry=True)
            stat = yield from ask(Exists(self.path, watch=self.token))
            if stat is None:
                if not self.present:
                    continue  # it was in the way and went while we looked
                # Somebody deleted it. Created again after a delay, or two of us that
                # delete each other's node would spin.
                self._gone()
                self._untold.append(draft(EphemeralRemoved, path=self.path, by="others"))
                return self._outcome(retry=True)
            if stat.ephemeral_owner == standing.session_id:
                try:
                    yield from self._own(stat)
                except (NoNodeError, BadVersionError):
                    continue  # changed between the look and the write
                except ZnodeError as error:
                    return self._outcome(error=error, retry=True)
                return self._outcome()
            self._gone()
            if stat.ephemeral_owner in standing.unconfirmed:
                try:
                    yield from self._replace(stat)
                except TransactionFailedError as error:
                    if not isinstance(error.error, NoNodeError | BadVersionError | NodeExistsError):
                        return self._outcome(error=error.error or error, retry=True)
                continue
            if stat.ephemeral_owner in standing.former:
                return self._outcome(retry=True)  # the server is about to remove it
            return self._conflict(stat)
        return self._outcome(retry=True)

    def _outcome(
        self, *, error: CoordinatorError | None = None, retry: bool = False, conflict: bool = False
    ) -> Outcome:
        drafts, self._untold = tuple(self._untold), []
        return Outcome(drafts, error=error, retry=retry, conflict=conflict)

    def _create(self) -> Flow[None]:
        request = Create(self.path, self.data, ephemeral=True, acl=self.acl)
        try:
            _, stat = yield from ask(request)
        except NoNodeError:
            try:
                yield from create_parents(self.path, self.parents_acl)
                _, stat = yield from ask(request)
            except NoNodeError:  # somebody who had given up has just deleted them again
                yield from create_parents(self.path, self.parents_acl)
                _, stat = yield from ask(request)
        self._appeared(stat, request.data)

    def _replace(self, stat: Stat) -> Flow[None]:
        data = self.data
        yield from ask(
            Multi(
                self.path,
                (Delete(self.path, stat.version), Create(self.path, data, ephemeral=True, acl=self.acl)),
            )
        )
        mine = yield from ask(Exists(self.path, watch=self.token))
        if mine is not None:
            self._appeared(mine, data)

    def _own(self, stat: Stat) -> Flow[None]:
        """Adopt the znode, which this session owns, and see to its data."""
        if self.czxid != stat.czxid or not self.present:
            self._appeared(stat, None)
        data = self.data
        if self._written == (data, stat.mzxid):
            return
        try:
            found, _ = yield from ask(Get(self.path))
        except NoAuthError:
            found = None  # we may not read what is ours: write it
        if found != data:
            stat = yield from ask(Set(self.path, data, stat.version))
        self._written = (data, stat.mzxid)

    def _appeared(self, stat: Stat, data: bytes | None) -> None:
        """Remember the znode, which is ours; ``data`` is what it holds, if that is known."""
        self.czxid, self.owner, self._told = stat.czxid, stat.ephemeral_owner, None
        self._written = None if data is None else (data, stat.mzxid)
        event = EphemeralRecreated if self._ever else EphemeralCreated
        self._ever = True
        self._untold.append(draft(event, path=self.path, czxid=stat.czxid))

    def _gone(self) -> None:
        self.czxid = self.owner = 0
        self._written = None

    def _conflict(self, stat: Stat) -> Outcome:
        seen = (stat.ephemeral_owner, stat.czxid)
        if self._told != seen:
            self._told = seen
            self._untold.append(
                draft(
                    EphemeralConflict,
                    path=self.path,
                    czxid=stat.czxid,
                    owner_session_id=stat.ephemeral_owner,
                )
            )
        error = None
        if self.on_conflict == "fail":
            who = (
                f"session {hex_id(stat.ephemeral_owner)}" if stat.ephemeral_owner else "nobody: not ephemeral"
            )
            error = EphemeralConflictError(
                f"ephemeral {self.path} not created: the znode is there, owned by {who}",
                path=self.path,
                owner_session_id=stat.ephemeral_owner,
            )
        return self._outcome(error=error, conflict=True)

    def withdraw(self, standing: Standing) -> Flow[None]:
        """Delete it, if this session owns it; whatever stands there else is not ours.

        The owner is looked at first, and the delete bound to the version that was seen:
        ZooKeeper has no condition on the owner. Only a znode that others put in its place
        in that moment, with the very same version, would go with it.
        """
        yield from ask(Unwatch(self.path, self.token))
        for _ in range(ROUNDS):
            stat = yield from ask(Exists(self.path))
            if stat is None or stat.ephemeral_owner != standing.session_id:
                return
            try:
                # The version, because somebody else may recreate it after we looked.
                yield from ask(Delete(self.path, stat.version))
            except NoNodeError:
                return
            except BadVersionError:
                continue  # written after we looked: whose it is now has to be seen again
            return

    def failed(self, error: CoordinatorError, next_try_in: float | None) -> Iterator[Draft]:
        if not isinstance(error, EphemeralConflictError):  # that was told as a conflict
            yield draft(EphemeralFailed, path=self.path, error=str(error), next_try_in=next_try_in)

    def withdrawn(self) -> Iterator[Draft]:
        if self.present:
            yield from self._untold
            self._untold.clear()
            self._gone()
            yield draft(EphemeralRemoved, path=self.path, by="us")
