"""A web application under gunicorn: each worker process has a coordinator of its own.

    export COORDINATOR_HOSTS=127.0.0.1:2181
    gunicorn --config examples/gunicorn.conf.py --chdir examples --preload gunicorn_app:app

A session belongs to one process. With --preload this module is imported before the workers are forked: so
nothing is connected here, when it is imported, but in join(), which gunicorn.conf.py calls in each worker.
"""

import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from coordinator import Coordinator

zk: Coordinator | None = None


def join() -> None:
    """Connect, and be seen."""
    global zk
    zk = Coordinator().start()
    zk.ephemeral(f"/web/{socket.gethostname()}-{os.getpid()}")


def leave() -> None:
    """Be gone at once, rather than after the session's timeout."""
    if zk is not None:
        zk.close()


def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the workers that are there, one a line."""
    names = zk.children("/web") if zk is not None else ()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{name}\n".encode() for name in names]
