"""Events for tests that need no coordinator."""

from __future__ import annotations

import itertools
from typing import Any

from fake import AT

from coordinator.engine.fanout import Fanout
from coordinator.events import (
    BaseEvent,
    ConnectionFailed,
    ConnectionOpened,
    EphemeralRecreated,
    SessionEstablished,
    SessionExpired,
    SessionLapsed,
    SessionResumed,
    SessionSuspended,
    ZnodeDeleted,
)

SERVER = "zk1:2181"
DEFAULTS: dict[type[BaseEvent], dict[str, Any]] = {
    ConnectionFailed: {"server": SERVER, "cause": "refused"},
    ConnectionOpened: {"server": SERVER},
    EphemeralRecreated: {"path": "/a", "czxid": 7},
    SessionEstablished: {"server": SERVER, "timeout": 10.0},
    SessionExpired: {"confirmed_by": "server"},
    SessionLapsed: {"silent_for": 10.0},
    SessionResumed: {"server": SERVER, "outage": 0.1},
    SessionSuspended: {"server": SERVER, "silent_for": 0.5, "lapses_in": 9.5},
    ZnodeDeleted: {"path": "/z"},
}


class Happenings:
    """Makes events with ascending numbers."""

    def __init__(self) -> None:
        self._seq = itertools.count(1)

    def __call__(self, kind: type[BaseEvent], **fields: Any) -> BaseEvent:
        fields = {**DEFAULTS.get(kind, {}), **fields}
        return kind(seq=next(self._seq), at=AT, epoch=1, session_id=0x1000013E37D0000, **fields)


class Teller(Happenings):
    """What a record needs of a coordinator; publishes the events that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.fanout = Fanout()
        self._engine = self

    def __call__(self, kind: type[BaseEvent], **fields: Any) -> BaseEvent:
        event = super().__call__(kind, **fields)
        self.fanout.publish(event)
        return event

    def check_process(self) -> None:
        """It is always the right one."""

    def end_stream(self, subscription: Any) -> None:
        self.fanout.unsubscribe(subscription)
