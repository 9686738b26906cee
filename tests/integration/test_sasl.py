"""SASL and digest against real servers: who is let in, and how each refusal is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator import (
    ACL,
    AsyncCoordinator,
    AuthFailedError,
    ConfigurationError,
    Coordinator,
    MissingExtraError,
    NoAuthError,
    Sasl,
    SessionClosed,
)
from coordinator.testing import EventRecord, FaultProxy, ZooKeeperServer, eventually, provide, session_ids
from tests.support import expire_behind, new_place, story

PASSWORD = "planted-secret"
BOB = Sasl(username="bob", password=PASSWORD)


@pytest.fixture(scope="module")
def knowing() -> Iterator[ZooKeeperServer]:
    """It knows bob; who does not say who he is, is let in, too."""
    with provide(tick=0.1, sasl_users={"bob": PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def strict() -> Iterator[ZooKeeperServer]:
    """It ends the sessions of all but bob."""
    with provide(tick=0.1, sasl_users={"bob": PASSWORD}, sasl_required=True) as server:
        yield server


def refused(hosts: str, cause: str, words: str, **given: Any) -> None:
    """The start fails at once, for good; no session was ever told of."""
    zk = Coordinator(hosts, start_timeout=10.0, **given)
    record = EventRecord(zk)
    with pytest.raises(AuthFailedError) as caught:
        zk.start()
    assert caught.value.cause == cause
    assert str(caught.value) == f"{hosts}: {words}"
    assert not caught.value.retryable
    assert PASSWORD not in str(caught.value)
    told = record.rest()
    assert story(told) == ["connection.opened", "connection.closed", "session.closed"]
    closed = told[-1]
    assert isinstance(closed, SessionClosed)
    assert (closed.reason, closed.cause, closed.detail) == ("auth_failed", cause, words)


def test_bob_is_known(knowing: ZooKeeperServer) -> None:
    """What he creates is his, also after a cut and an expiry: he says who he is on each link."""
    with (
        FaultProxy(*knowing.address) as proxy,
        Coordinator(proxy.hosts, sasl=BOB, acl="creator", session_timeout=2.0) as zk,
    ):
        record = EventRecord(zk)
        base = new_place()
        worker = zk.ephemeral(base)
        proxy.cut()
        record.until("session.resumed")
        worker.set(b"again")
        expire_behind(proxy, zk, knowing)
        record.until("recovery.completed")
        (entry,) = zk.kazoo.get_acls(base)[0]
        assert (entry.id.scheme, entry.id.id) == ("sasl", "bob")
        assert worker.present


def test_bob_is_let_in_where_nobody_else_is(strict: ZooKeeperServer) -> None:
    """He is known before anything is asked; after a cut, too."""
    with FaultProxy(*strict.address) as proxy, Coordinator(proxy.hosts, sasl=BOB) as zk:
        record = EventRecord(zk)
        proxy.cut()
        record.until("session.resumed")
        assert zk.exists("/") is not None


@pytest.mark.parametrize(
    "wrong",
    [Sasl(username="bob", password="another"), Sasl(username="eve", password=PASSWORD)],
    ids=["password", "user"],
)
@pytest.mark.parametrize("server", ["knowing", "strict"])
def test_wrong_user_or_password(server: str, wrong: Sasl, request: pytest.FixtureRequest) -> None:
    """The server says no: cause sasl."""
    hosts = request.getfixturevalue(server).hosts
    refused(hosts, "sasl", "the server refused the SASL user name or password", sasl=wrong)


async def test_asyncio_is_told_the_same(knowing: ZooKeeperServer) -> None:
    """By the same error; bob is let in."""
    with pytest.raises(AuthFailedError) as caught:
        await AsyncCoordinator(knowing.hosts, sasl=Sasl(username="bob", password="another")).start()
    assert caught.value.cause == "sasl"
    async with AsyncCoordinator(knowing.hosts, sasl=BOB, acl="creator") as zk:
        await zk.create(new_place())


def test_a_server_that_lets_in_whom_it_refused() -> None:
    """Told as refused all the same: we would not be who we say."""
    lenient = ["-Dzookeeper.allowSaslFailedClients=true"]
    with provide(tick=0.1, sasl_users={"bob": PASSWORD}, jvm_flags=lenient) as server:
        wrong = Sasl(username="bob", password="another")
        refused(server.hosts, "sasl", "the server refused the SASL user name or password", sasl=wrong)


def test_a_server_without_sasl(zookeeper: ZooKeeperServer) -> None:
    """It answers nothing, for ever: cause sasl_unsupported, and it is not asked again."""
    words = "the server is not configured for SASL, or not for DIGEST-MD5"
    refused(zookeeper.hosts, "sasl_unsupported", words, sasl=BOB)


def test_a_server_that_demands_sasl(strict: ZooKeeperServer) -> None:
    """Who does not say who he is has no session: cause auth_required."""
    refused(strict.hosts, "auth_required", "the server demands an authentication that was not given")


def test_digest_does_not_do_where_sasl_is_demanded(strict: ZooKeeperServer) -> None:
    """The same."""
    words = "the server demands an authentication that was not given"
    refused(strict.hosts, "auth_required", words, auth=f"digest:alice:{PASSWORD}")


def test_a_scheme_that_the_server_does_not_know(zookeeper: ZooKeeperServer) -> None:
    """cause auth; the credential is not shown."""
    words = "the server refused a credential of `auth`, or does not know its scheme"
    refused(zookeeper.hosts, "auth", words, auth=f"unheard-of:{PASSWORD}")


def test_a_password_that_is_changed_meanwhile(zookeeper: ZooKeeperServer) -> None:
    """The next link is refused, for good: the session ends as auth_failed, calls raise AuthFailedError."""
    with provide(tick=0.1, sasl_users={"bob": PASSWORD}) as server:
        port = server.address[1]
        zk = Coordinator(server.hosts, sasl=BOB, session_timeout=1.0).start()
        record = EventRecord(zk)
    with zk, provide(tick=0.1, sasl_users={"bob": "another"}, port=port):
        told = record.rest()
        assert (told[-1].kind, told[-1].cause) == ("session.closed", "sasl")
        assert "session.established" not in story(told)[1:]


def test_a_link_that_breaks_in_the_midst_of_sasl(knowing: ZooKeeperServer) -> None:
    """That is no refusal, though kazoo takes it for one: told, tried again, and the session goes on."""
    with FaultProxy(*knowing.address) as proxy, Coordinator(proxy.hosts, sasl=BOB) as zk:
        record = EventRecord(zk)
        session_id = zk.session.session_id
        proxy.cut_after_up = 60  # the handshake has 49 bytes, the first request of SASL 16
        proxy.cut()
        failure = record.until("connection.failed")[-1]
        assert (failure.cause, failure.detail) == ("sasl", "the link broke in the midst of SASL")
        proxy.cut_after_up = None
        record.until("session.resumed")
        assert zk.session.session_id == session_id
        assert session_id in session_ids(knowing)


def test_an_unknown_mechanism_is_refused_when_it_is_given() -> None:
    """By a message that names it, and the one that there is."""
    with pytest.raises(ConfigurationError, match=r"^sasl\.mechanism: unknown mechanism GSSAPI: DIGEST-MD5"):
        Coordinator(sasl={"mechanism": "GSSAPI", "username": "bob", "password": PASSWORD})  # type: ignore[arg-type]


def test_a_missing_package_is_told_when_it_is_needed() -> None:
    """MissingExtraError with the command that installs it; without `sasl` nobody needs it."""
    code = """
import sys
sys.modules["puresasl"] = None
from coordinator import Coordinator, MissingExtraError, Sasl
Coordinator()
try:
    Coordinator(sasl=Sasl(username="bob", password="planted-secret"))
except MissingExtraError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert said.stdout.strip() == str(MissingExtraError("sasl"))
    assert "pip install 'coordinator[sasl]'" in said.stdout


def test_sasl_keeps_others_out(knowing: ZooKeeperServer) -> None:
    """What is bob's by SASL nobody else reads, whatever he calls himself."""
    path = new_place()
    with Coordinator(knowing.hosts, sasl=BOB) as bob, Coordinator(knowing.hosts) as nobody:
        bob.create(path, b"x", acl="creator")
        with pytest.raises(NoAuthError, match=path):
            nobody.get(path)
        bob.create(f"{path}-list", b"x", acl=[ACL("sasl", "bob", "cdrwa"), ACL("world", "anyone", "r")])
        assert nobody.get(f"{path}-list").value == b"x"
        bob.delete(path)
        eventually(lambda: bob.exists(path) is None)
