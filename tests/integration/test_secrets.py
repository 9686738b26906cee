"""No credential, session password or data of a znode in any log line, whatever the level."""

from __future__ import annotations

import binascii
import logging

import pytest
from kazoo.client import KazooClient

from coordinator import ACL, Coordinator, Settings
from coordinator.testing import FaultProxy, ZooKeeperServer, expire
from tests.support import Record, eventually, new_place

PLANTED = "planted-secret"


def test_nothing_secret_is_logged_or_shown(
    zookeeper: ZooKeeperServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """At level 1, through a cut and an expiry, with digest authentication and data both ways."""
    caplog.set_level(1)
    path = new_place()
    settings = Settings(hosts=proxy.hosts, auth=f"digest:alice:{PLANTED}", session_timeout=5.0)
    shown = [repr(settings), str(settings), settings.model_dump_json()]
    with Coordinator(settings) as zk:
        password = zk.kazoo.client_id[1]
        record = Record(zk)
        worker = zk.ephemeral(path, PLANTED.encode(), acl=[ACL("auth", "")])
        view = zk.watch(path)
        znode = zk.get(path)
        with zk.transaction() as both:
            both.set(path, f"{PLANTED}-2".encode()).check(path)
        proxy.cut()
        record.until("session.resumed")
        expire(zk.kazoo.client_id, zookeeper.hosts)
        record.until("recovery.completed")
        eventually(lambda: view.exists)
        shown += [repr(one) for one in (zk, zk.session, zk.stats, worker, view, znode, view.znode, both)]
        shown += [str(event) + event.model_dump_json() + repr(event) for event in record.events]
        acl = zk.kazoo.get_acls(path)[0]
    assert acl[0].id.id.startswith("alice:")
    ours = [line for line in caplog.records if line.name.startswith("coordinator")]
    assert any(line.levelno < logging.INFO for line in ours)  # kazoo did speak at that level
    shown += [f"{line.getMessage()} {line.args!r} {line.exc_text}" for line in ours]
    for text in shown:
        assert PLANTED not in text
        assert binascii.hexlify(password).decode() not in text
        assert repr(password)[2:-1] not in text


def test_digest_credentials_are_used(zookeeper: ZooKeeperServer, observer: KazooClient) -> None:
    """What alice protects, nobody else reads."""
    path = new_place()
    with Coordinator(zookeeper.hosts, auth="digest:alice:wonderland") as alice:
        alice.create(path, b"x", acl=[ACL("auth", "", "cdrwa")])
        assert alice.get(path).value == b"x"
        from coordinator import NoAuthError

        with Coordinator(zookeeper.hosts) as nobody, pytest.raises(NoAuthError, match=path):
            nobody.get(path)
        alice.delete(path)
