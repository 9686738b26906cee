"""What a server itself says about sessions, ephemerals and watches.

Parsed from four-letter words (ZooKeeper Administrator's Guide, "The Four Letter Words"),
so that a test need not believe any client. ``dump`` on a follower or a standalone server
lists the sessions; a follower's ``wchp`` lists only watches of its own clients.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordinator.errors import ConfigurationError

if TYPE_CHECKING:
    from coordinator.testing.server import ZooKeeperServer

__all__ = ["ephemerals", "session_ids", "watches"]

SESSION = re.compile(r"^\s*(0x[0-9a-fA-F]+):?\s*$")


def session_ids(server: ZooKeeperServer) -> set[int]:
    """The ids of all sessions that the server has not expired or closed."""
    return parse_sessions(ask(server, "dump"))


def ephemerals(server: ZooKeeperServer) -> dict[int, set[str]]:
    """The paths of all ephemerals by the id of the session that owns them."""
    return parse_ephemerals(ask(server, "dump"))


def watches(server: ZooKeeperServer) -> dict[str, set[int]]:
    """The ids of the sessions that watch a path, by path; of this server's own clients.

    Watches on data and existence, and those that persist: on children the server tells only
    the number, which is `child_watches`.
    """
    return parse_watches(ask(server, "wchp"))


def ask(server: ZooKeeperServer, word: str) -> str:
    """Return what the server says to a four-letter word.

    Raises:
        ConfigurationError: it refuses that word.
    """
    answer = server.four_letters(word, timeout=5.0)
    if "not in the whitelist" in answer:
        raise ConfigurationError(
            f"server {server.hosts} refuses {word!r}: add it to its 4lw.commands.whitelist"
        )
    return answer


def parse_sessions(dump: str) -> set[int]:
    """The session ids in an answer to ``dump``, with and without ephemerals."""
    return {int(found[1], 16) for line in dump.splitlines() if (found := SESSION.match(line))}


def parse_ephemerals(dump: str) -> dict[int, set[str]]:
    """Paths by session id in an answer to ``dump``."""
    _, _, section = dump.partition("Sessions with Ephemerals")
    owned: dict[int, set[str]] = {}
    owner = 0
    for line in section.splitlines():
        if found := SESSION.match(line):
            owner = int(found[1], 16)
        elif owner and line.strip().startswith("/"):
            owned.setdefault(owner, set()).add(line.strip())
        elif line.startswith("Connections"):
            break
    return owned


def parse_watches(wchp: str) -> dict[str, set[int]]:
    """Session ids by path in an answer to ``wchp``."""
    watched: dict[str, set[int]] = {}
    path = ""
    for line in wchp.splitlines():
        if found := SESSION.match(line):
            watched.setdefault(path, set()).add(int(found[1], 16))
        elif line.startswith("/"):
            path = line
    return watched
