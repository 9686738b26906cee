"""A part of a ZooKeeper for one test: made before it, removed after it, whatever the test did."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

from coordinator.errors import ConfigurationError
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.server import POLL, ExternalZooKeeper, ZooKeeperServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordinator.testing.ensemble import ZooKeeperEnsemble

__all__ = ["base_of", "fresh_chroot", "plain_client", "revive"]

#: Seconds for a plain client to get a session; a busy machine takes one or two.
START_TIMEOUT = 10.0
#: Seconds in which a chroot is removed while somebody still creates in it, or the link breaks.
GRACE = 5.0


@contextmanager
def fresh_chroot(target: ZooKeeperServer | ZooKeeperEnsemble, **options: Any) -> Iterator[str]:
    """Make a path that nobody else uses, and remove it with all that is below it.

    A server that the test left frozen or down is brought back before that. Where it cannot be
    removed, from a server of our own it goes with the server; of another it is told as a warning.

    Args:
        target: where.
        options: what the KazooClient takes that does it, such as credentials.

    Raises:
        ConfigurationError: the chroot in the target's hosts does not exist.
        ZooKeeperUnavailableError: nobody gives a session.
    """
    path = f"/coordinator-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{secrets.token_hex(6)}"
    try:
        with plain_client(target.hosts, **options) as client:
            client.create(path)
    except NoNodeError:
        raise ConfigurationError(
            f"hosts {target.hosts}: the chroot {base_of(target)} does not exist; create it, or leave it out"
        ) from None
    except (KazooException, KazooTimeoutError) as fault:
        raise ZooKeeperUnavailableError(f"no chroot for the test at {target.hosts}: {fault!r}") from fault
    try:
        yield path
    finally:
        revive(target)
        _remove(target, path, options)


def base_of(target: ZooKeeperServer | ZooKeeperEnsemble) -> str:
    """The chroot in a target's hosts, below which ours are; empty for none."""
    _, slash, chroot = target.hosts.partition("/")
    return slash + chroot


@contextmanager
def plain_client(hosts: str, **options: Any) -> Iterator[KazooClient]:
    """A kazoo client that has a session, and tries without end to keep the link.

    Args:
        hosts: where the servers are.
        options: what KazooClient takes.
    """
    # kazoo's own retries give up after one attempt, and wait twice as long each time.
    patience = {"connection_retry": KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5)}
    client = KazooClient(hosts, **{**patience, **options})
    try:
        client.start(START_TIMEOUT)
        yield client
    finally:
        client.stop()
        client.close()


def revive(target: ZooKeeperServer | ZooKeeperEnsemble) -> None:
    """Bring back what does not serve: frozen, stopped, killed, cut off. Of somebody else's nothing."""
    if isinstance(target, ZooKeeperServer):
        nodes: tuple[ZooKeeperServer, ...] = (target,)
    else:
        target.mend_links()
        nodes = target.nodes
    if all(isinstance(node, ExternalZooKeeper) or node.mode for node in nodes):
        return
    for node in nodes:
        if not node.mode:
            with contextlib.suppress(Exception):  # it is not frozen: each kind says so in its own words
                node.thaw()
    target.start()


def _remove(target: ZooKeeperServer | ZooKeeperEnsemble, path: str, options: dict[str, Any]) -> None:
    deadline = time.monotonic() + GRACE
    while True:
        try:
            with plain_client(target.hosts, **options) as client:
                client.delete(path, recursive=True)
        except NoNodeError:
            return  # the test removed it, or wiped the server
        except (KazooException, KazooTimeoutError) as fault:  # somebody creates in it, or the link broke
            if time.monotonic() >= deadline:
                if isinstance(target, ExternalZooKeeper):
                    warnings.warn(f"{path} is left at {target.hosts}: {fault!r}", stacklevel=2)
                return
            time.sleep(POLL)
        else:
            return
