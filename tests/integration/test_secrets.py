"""No credential, session password or data of a znode in any log line, whatever the level."""

from __future__ import annotations

import binascii
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from coordinator import (
    ACL,
    TLS,
    AuthFailedError,
    ConfigurationError,
    Coordinator,
    CoordinatorError,
    Sasl,
    Settings,
)
from coordinator.testing import (
    EventRecord,
    FaultProxy,
    ServerTLS,
    ZooKeeperServer,
    eventually,
    expire,
    provide,
)
from tests.certificates import Authority
from tests.support import expire_behind, new_place

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
        record = EventRecord(zk)
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
    assert_discreet(shown, caplog, password)


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


def test_nothing_secret_is_logged_or_shown_with_tls_and_sasl(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At level 1, of every logger: key, SASL and digest passwords, data; through a cut and an expiry."""
    caplog.set_level(1)
    authority = Authority("ours")
    certificate, key = authority.issue("worker").write(tmp_path, "worker", password=f"{PLANTED}-key")
    asks = ServerTLS(authority.issue("zk", "127.0.0.1").both, authority.pem, client_auth="want")
    settings = Settings(
        tls=TLS(
            ca=authority.write(tmp_path), certificate=certificate, key=key, key_password=f"{PLANTED}-key"
        ),
        sasl=Sasl(username="bob", password=f"{PLANTED}-sasl"),
        auth=f"digest:alice:{PLANTED}-digest",
        acl="creator",
        session_timeout=5.0,
    )
    with (
        provide(tick=0.1, tls=asks, sasl_users={"bob": f"{PLANTED}-sasl"}) as server,
        FaultProxy(*server.secure_address) as proxy,
    ):
        zk = Coordinator(settings.model_copy(update={"hosts": proxy.hosts}))
        record = EventRecord(zk)
        with zk:
            passwords = [zk.kazoo.client_id[1]]
            path = new_place()
            worker = zk.ephemeral(path, PLANTED.encode())
            assert {one.id.scheme for one in zk.kazoo.get_acls(path)[0]} == {"digest", "sasl", "x509"}
            proxy.cut()
            record.until("session.resumed")
            expire_behind(proxy, zk, server)
            record.until("recovery.completed")
            passwords.append(zk.kazoo.client_id[1])
            shown = [repr(one) for one in (settings, zk, worker, zk.session, server, asks)]
        record.rest()
    shown += [str(event) + event.model_dump_json() + repr(event) for event in record.events]
    assert_discreet(shown, caplog, *passwords)


def test_nothing_secret_is_shown_by_what_fails(
    zookeeper: ZooKeeperServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither by errors, their causes and tracebacks, nor by them pickled, nor by what is logged of them."""
    caplog.set_level(1)
    authority = Authority("ours")
    certificate, key = authority.issue("worker").write(tmp_path, "worker", password="another")
    wrong_key = TLS(certificate=certificate, key=key, key_password=f"{PLANTED}-key")
    secret = Sasl(username="bob", password=f"{PLANTED}-sasl")
    shown: list[str] = []
    with provide(tick=0.1, sasl_users={"bob": "another"}) as server:
        for kind, hosts, given in [
            (ConfigurationError, server.hosts, {"tls": wrong_key}),
            (ConfigurationError, server.hosts, {"tls": {"key_password": f"{PLANTED}-key"}}),
            (ConfigurationError, server.hosts, {"sasl": {"username": "", "password": PLANTED}}),
            (AuthFailedError, server.hosts, {"sasl": secret}),
            (AuthFailedError, zookeeper.hosts, {"sasl": secret}),
            (AuthFailedError, server.hosts, {"auth": f"unheard-of:{PLANTED}"}),
        ]:
            with pytest.raises(kind) as caught:
                begin(hosts, given, shown)
            error: CoordinatorError = caught.value
            shown += [*traceback.format_exception(error), repr(error), repr(pickle.dumps(error))]
    assert_discreet(shown, caplog)


def begin(hosts: str, given: dict[str, Any], shown: list[str]) -> None:
    zk = Coordinator(hosts, start_timeout=5.0, **given)
    record = EventRecord(zk)
    try:
        zk.start()
    finally:
        shown += [event.model_dump_json() for event in record.rest()] + [repr(zk.settings)]


def assert_discreet(shown: list[str], caplog: pytest.LogCaptureFixture, *passwords: bytes) -> None:
    """Nothing planted, and no session's password, is in what was shown or logged."""
    ours = [line for line in caplog.records if line.name.startswith(("coordinator", "kazoo", "puresasl"))]
    assert any(line.levelno < logging.INFO for line in ours)  # kazoo did speak at that level
    lines = [f"{line.getMessage()} {line.args!r} {line.exc_text} {line.exc_info}" for line in ours]
    for text in [*shown, *lines]:
        assert PLANTED not in text
        for password in passwords:
            assert binascii.hexlify(password).decode() not in text
            assert repr(password)[2:-1] not in text
