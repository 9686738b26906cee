"""The logger that is given to kazoo: what it says, without what must stay secret.

kazoo logs whole requests and answers at DEBUG (credentials, session passwords, the data
of znodes) and session passwords in hex below that. Whatever the level, nothing but
numbers, short texts, paths and types gets through.

Source: kazoo 2.11.0, protocol/connection.py lines 323, 434, 689, 739.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Final

logger: Final = logging.getLogger("coordinator")
kazoo_logger: Final = logging.getLogger("coordinator.kazoo")


def _shown(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str | Enum):
        return value
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    path = getattr(value, "path", None)
    return f"{type(value).__name__}({path if isinstance(path, str) else '...'})"


class _Discreet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_shown(one) for one in record.args)
        elif record.args:
            record.args = {name: _shown(one) for name, one in record.args.items()}
        return True


kazoo_logger.addFilter(_Discreet())
# Who has not configured logging hears of his own failing handlers, but not of each attempt
# of kazoo's to connect: the events tell those.
kazoo_logger.addHandler(logging.NullHandler())
