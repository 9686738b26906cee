"""What clients left behind, by the server's own books: ephemerals and watches that still stand.

What a server does not tell: ``wchp`` lists watches on data and existence, and those that
persist, by path; of watches on children ``mntr`` has only the number, of all together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from coordinator.errors import ConfigurationError
from coordinator.models import hex_id
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.inspection import ask, parse_ephemerals, parse_watches
from coordinator.testing.polling import eventually

if TYPE_CHECKING:
    from coordinator.testing.ensemble import ZooKeeperEnsemble
    from coordinator.testing.server import ZooKeeperServer

__all__ = ["assert_no_leaks", "child_watches", "leaks"]

TIMEOUT = 2.0
"""Seconds within which a server learns of sessions that were closed: it does in milliseconds, on a
busy machine, and through the leader of an ensemble, in tenths of a second."""

SHOWN = 20
"""Leaks that a failure lists; of more, the first."""


def leaks(
    server: ZooKeeperServer | ZooKeeperEnsemble,
    *,
    below: str = "/",
    sessions: Collection[int] | None = None,
) -> list[str]:
    """Return what stands on a server that sessions own: ephemerals, and watches, a line each.

    ::

        ephemeral /app/workers/w-1 of session 0x1000013e37d0000
        watch on /app/config of session 0x1000013e37d0000

    Watches on children cannot be told by path or session: ``below="/"``, with all sessions, says
    how many there are. Else they are not looked for.

    Args:
        server: or an ensemble, of which each server is asked that is up.
        below: a znode, as an absolute path without any chroot; it and all below it.
        sessions: their ids; unless given, all.

    Raises:
        ConfigurationError: ``below`` is no path, or the server refuses a four-letter word.
        ZooKeeperUnavailableError: it does not serve.
        OSError: it does not answer.
    """
    if not below.startswith("/"):
        raise ConfigurationError(f"below={below!r}: expected an absolute path")
    inside = below.rstrip("/")
    wanted = None if sessions is None else {hex_id(one) for one in sessions}
    found = {
        (path, kind, owner)
        for path, kind, owner in _standing(server)
        if (path == inside or path.startswith(f"{inside}/")) and (wanted is None or owner in wanted)
    }
    lines = [f"{kind} {path} of session {owner}" for path, kind, owner in sorted(found)]
    if not inside and wanted is None and (count := child_watches(server)):
        lines.append(f"{count} watch{'es' * (count > 1)} on children, of which the server tells no more")
    return lines


def child_watches(server: ZooKeeperServer | ZooKeeperEnsemble) -> int:
    """Return how many watches on children stand, those that persist included, of all clients.

    Raises:
        ConfigurationError: the server refuses a four-letter word.
        ZooKeeperUnavailableError: it does not serve.
        OSError: it does not answer.
    """
    counts = [(_number(all_, _ALL), _number(told, _TOLD)) for all_, told in _answers(server, "mntr", "wchs")]
    return sum(max(0, both - told) for both, told in counts)  # not asked in the same moment


_ALL = re.compile(r"^zk_watch_count\s+(\d+)", re.MULTILINE)
_TOLD = re.compile(r"^Total watches:(\d+)", re.MULTILINE)


def _number(answer: str, where: re.Pattern[str]) -> int:
    found = where.search(answer)
    if found is None:
        raise ZooKeeperUnavailableError(f"no number of watches in what the server answered: {answer[:80]!r}")
    return int(found[1])


def _standing(server: ZooKeeperServer | ZooKeeperEnsemble) -> Iterator[tuple[str, str, str]]:
    """Yield path, kind and session of all that stands."""
    for dump, wchp in _answers(server, "dump", "wchp"):
        for session_id, paths in parse_ephemerals(dump).items():
            yield from ((path, "ephemeral", hex_id(session_id)) for path in paths)
        for path, owners in parse_watches(wchp).items():
            yield from ((path, "watch on", hex_id(owner)) for owner in owners)


def _answers(server: ZooKeeperServer | ZooKeeperEnsemble, *words: str) -> list[list[str]]:
    """Ask each server that is up; one that is down has no clients, and no watches."""
    nodes: Sequence[ZooKeeperServer] = server.nodes if hasattr(server, "nodes") else (server,)
    answers = []
    refused: ConnectionRefusedError | None = None
    for node in nodes:
        try:
            answers.append([_asked(node, word) for word in words])
        except ConnectionRefusedError as error:
            refused = error
    if not answers and refused is not None:
        raise refused
    return answers


def _asked(node: ZooKeeperServer, word: str) -> str:
    answer = ask(node, word)
    if "not currently serving" in answer:
        raise ZooKeeperUnavailableError(f"server {node.hosts} does not serve, and cannot say what is left")
    return answer


def assert_no_leaks(
    server: ZooKeeperServer | ZooKeeperEnsemble,
    *,
    below: str = "/",
    sessions: Collection[int] | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Assert that nothing is left on a server that a session owns; see `leaks`.

    Args:
        server: or an ensemble.
        below: a znode, as an absolute path without any chroot; it and all below it.
        sessions: their ids; unless given, all.
        timeout: seconds in which the server may learn of a close that is on its way.

    Raises:
        AssertionError: something is; names path, session and kind of each.
        ConfigurationError, ZooKeeperUnavailableError, OSError: as `leaks`.
    """
    left: list[str] = []

    def clean() -> bool:
        left[:] = leaks(server, below=below, sessions=sessions)
        return not left

    try:
        eventually(clean, timeout=timeout)
    except AssertionError:
        lines = left[:SHOWN] + [f"and {len(left) - SHOWN} more"] * (len(left) > SHOWN)
        what = f"{len(left)} leak{'s' * (len(left) > 1)} below {below} after {timeout:g} s"
        raise AssertionError("\n  ".join([f"{what}:", *lines])) from None
