"""What all events have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.functional_validators import BeforeValidator

from coordinator.models import hex_id


def _signed(value: object) -> object:
    if isinstance(value, str) and value.startswith("0x"):
        number = int(value, 16)
        return number - (1 << 64) if number >= 1 << 63 else number
    return value


ShownId = Annotated[
    int,
    BeforeValidator(_signed),
    PlainSerializer(hex_id, return_type=str, when_used="json"),
    Field(description="session id; 0x... in JSON"),
]


class BaseEvent(BaseModel):
    """What all events have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    essential: ClassVar[bool] = False
    """Never dropped, however slow the reader is."""

    kind: str
    seq: int
    """Ascending over all events of this coordinator, from 1."""
    at: AwareDatetime
    """When it was noticed, UTC."""
    epoch: int
    """Our count of sessions, from 1; 0 before the first."""
    session_id: ShownId
    """The session of that epoch; 0 while there is none: before the first, and between an
    expiry and the next ``session.established``."""

    def __str__(self) -> str:
        told = {
            name: hex_id(value) if name in _ID_FIELDS and isinstance(value, int) else value
            for name, value in self
            if name not in ("kind", "seq", "at", "epoch") and value not in (None, (), "")
        }
        return f"{self.kind} " + " ".join(f"{name}={_text(value)}" for name, value in told.items())


_ID_FIELDS = ("session_id", "previous_session_id", "owner_session_id")


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


class EventsDropped(BaseEvent):
    """This subscriber was too slow; ``seq`` is that of the first event dropped.

    It stands where the first dropped event would have stood, and takes no number of
    its own. Session events are never dropped.
    """

    kind: Literal["events.dropped"] = "events.dropped"
    essential = True
    count: int
    first_seq: int
    last_seq: int
