"""``coordinator watch``: what happens to a session and to znodes, as it happens.

It never gives up by itself: an ensemble that cannot be reached is waited for. It shows no
data of a znode.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import cast, get_args

from coordinator.blocking import EventStream
from coordinator.cli.ending import FAILED, FINE, SignalledError, complain, conclude, held_back
from coordinator.cli.screen import Lines
from coordinator.client import Coordinator
from coordinator.core.layout import check_path
from coordinator.errors import ClosedError, ConfigurationError, OperationTimeoutError
from coordinator.events import BaseEvent, Event, Heartbeat, SessionClosed
from coordinator.settings import Settings

__all__ = ["kinds_of", "run_watch", "sort_out"]

LOOK = 1.0
"""Seconds between two looks at whether anybody reads the output."""
KINDS: dict[str, type[BaseEvent]] = {
    kind.model_fields["kind"].default: kind for kind in get_args(get_args(Event)[0])
}
"""Every class of event by its kind."""


def run_watch(
    arguments: Sequence[str], *, as_json: bool = False, kinds: Sequence[str] = (), heartbeats: bool = False
) -> int:
    """Show events until a signal, or until nobody reads them; return the exit code."""
    return conclude("watch", lambda: _watch(arguments, kinds, as_json=as_json, heartbeats=heartbeats))


def sort_out(arguments: Sequence[str], command: str = "watch") -> tuple[str | None, tuple[str, ...]]:
    """Return the hosts, if they are given, and the paths, each once.

    Raises:
        ConfigurationError: they are not ``[HOSTS] [PATH]...``; a path begins with a slash.
    """
    hosts = [one for one in arguments if not one.startswith("/")]
    paths = tuple(dict.fromkeys(check_path(one) for one in arguments if one.startswith("/")))
    if len(hosts) > 1:
        if any("@" in one or "://" in one for one in hosts):  # before any part of it is shown
            raise ConfigurationError('a server is given as "host:port", without a scheme, user or password')
        raise ConfigurationError(
            f"more than one HOSTS: {' '.join(hosts)}; servers are separated by commas, and a path begins "
            "with a slash"
        )
    if hosts and arguments[0] != hosts[0]:
        Settings.make(hosts=hosts[0])  # what is wrong with them matters more than where they stand
        raise ConfigurationError(
            f"HOSTS come before the paths: coordinator {command} {hosts[0]} {' '.join(paths)}"
        )
    return (hosts[0] if hosts else None), paths


def kinds_of(names: Sequence[str], *, heartbeats: bool) -> tuple[type[BaseEvent], ...]:
    """Return the classes of ``session.expired`` or, for all of them, ``session``.

    Raises:
        ConfigurationError: there is no such kind; it names those that there are.
    """
    chosen: list[type[BaseEvent]] = [] if names else [one for one in KINDS.values() if one is not Heartbeat]
    for name in names:
        found = [
            kind
            for full, kind in KINDS.items()
            if full == name or (full.startswith(f"{name}.") and kind is not Heartbeat)
        ]
        if not found:
            known = dict.fromkeys(full.partition(".")[0] for full in KINDS)
            raise ConfigurationError(
                f"no kind of event {name!r}: {', '.join(known)}, or a whole kind as in docs/events.md"
            )
        chosen += found
    return (*dict.fromkeys(chosen), *((Heartbeat,) if heartbeats and Heartbeat not in chosen else ()))


def _watch(arguments: Sequence[str], kinds: Sequence[str], *, as_json: bool, heartbeats: bool) -> int:
    hosts, paths = sort_out(arguments)
    wanted = kinds_of(kinds, heartbeats=heartbeats)
    zk = Coordinator(Settings.make(hosts=hosts, start_timeout=0.0))
    lines = Lines(as_json=as_json)
    stream = cast("EventStream[Event]", zk.events(*wanted, SessionClosed))  # that one tells how it ended
    lines.note(f"watching the session{''.join(f', {path}' for path in paths)} at {zk.settings.hosts}")
    shown = {kind.model_fields["kind"].default for kind in wanted}
    ended = FINE

    def show(event: Event) -> None:
        nonlocal ended
        if event.kind in shown:
            lines.event(event)
        if isinstance(event, SessionClosed) and event.reason != "requested":
            complain("watch", _last_words(event))
            ended = FAILED

    try:
        zk.start()
        for path in paths:
            _follow(zk, path, lines)
        for event in _while_somebody_reads(stream):
            show(event)
    except SignalledError:
        with held_back():
            zk.close()
        for event in stream:  # to its end: session.closed
            show(event)
        raise
    finally:
        with held_back():
            zk.close()
    return ended


def _while_somebody_reads(stream: EventStream[Event]) -> Iterator[Event]:
    """Yield the events; between them, look whether the other end of a pipe has gone.

    A write would tell, but the next event may be hours away.

    Raises:
        BrokenPipeError: it has gone.
    """
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)  # no event asked for: POLLERR and POLLHUP are told always
    while True:
        try:
            yield stream.next(LOOK)
        except OperationTimeoutError:
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in reader.poll(0)):
                raise BrokenPipeError from None
        except ClosedError:
            return


def _follow(zk: Coordinator, path: str, lines: Lines) -> None:
    """Watch a znode and its children, and say once what is there, when it is known."""
    view, names = zk.watch(path, wait=False), zk.watch_children(path, wait=False)

    def tell() -> None:
        for znode in view.changes():
            if znode is None:
                lines.note(f"{path} does not exist yet")
            else:
                children = next(names.changes(), ())
                lines.note(f"{path} exists, version {znode.stat.version}, children: {len(children)}")
            return

    threading.Thread(target=tell, name=f"watch-{path}", daemon=True).start()


def _last_words(event: SessionClosed) -> str:
    if event.reason == "auth_failed":
        return "the server refused the credentials: see COORDINATOR_AUTH"
    return f"the session has ended: {event.reason}"
