"""gunicorn's settings for gunicorn_app: when a worker joins, and when it leaves."""

from typing import Any

bind = "127.0.0.1:8000"
workers = 2
# With --preload or without it: join() comes after the fork.


def post_worker_init(_worker: Any) -> None:
    """In the worker, after the fork, when its application is loaded."""
    import gunicorn_app

    gunicorn_app.join()


def worker_exit(_server: Any, _worker: Any) -> None:
    """In the worker, before it ends."""
    import gunicorn_app

    gunicorn_app.leave()
