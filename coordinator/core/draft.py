"""What happened, before it has a number, a time and a session."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.events import BaseEvent


@dataclass(frozen=True, slots=True)
class Draft:
    """An event still to be stamped: its class, and what it carries of its own."""

    event: type[BaseEvent]
    fields: dict[str, object] = field(default_factory=dict)


def draft(event: type[BaseEvent], **fields: object) -> Draft:
    """Return the draft of an event of that class."""
    return Draft(event, fields)
