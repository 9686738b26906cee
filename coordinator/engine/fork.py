"""What a forked child does with what its parent left in it: it lets go, and says nothing.

::

    os.fork --> in the child, before anything else runs there:
                engine     its thread does not exist here
                handler    its locks and queues are made anew, its atexit hook is gone
                sockets, bells: the copies of the descriptors are closed

A thread that held a lock at the moment of the fork does not exist in the child, and never
releases it: so no lock of the parent's may be taken here. A child's copy of a connection
keeps it open after the parent's death, so that the server would hear of that only by
silence: it is closed, which sends nothing as long as the parent has its own. It must never
be shut down, and no TLS session ended on it: that would end the parent's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_inherited: WeakKeyDictionary[Any, Callable[[Any], object]] = WeakKeyDictionary()


def let_go_by(thing: T, let_go: Callable[[T], object]) -> T:
    """Have a forked child call ``let_go(thing)`` if the thing is alive then; return it."""
    _inherited[thing] = let_go
    return thing


def _let_go() -> None:
    for thing, let_go in list(_inherited.items()):
        with contextlib.suppress(Exception):  # one that is half made or half closed
            let_go(thing)
    _inherited.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
