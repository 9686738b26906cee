"""TLS against real servers: what is verified, how each failure is told, and how certificates are replaced."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator import (
    TLS,
    AsyncCoordinator,
    ConfigurationError,
    ConnectionFailed,
    Coordinator,
    MissingChrootError,
    StartError,
    TLSError,
)
from coordinator.testing import EventRecord, FaultProxy, ServerTLS, ZooKeeperServer, eventually, provide
from tests.certificates import Authority
from tests.support import expire_behind, new_place

AUTHORITY = Authority("ours")
STRANGER = Authority("somebody else's")
GOOD = AUTHORITY.issue("zk", "127.0.0.1")


@pytest.fixture(scope="module")
def secure() -> Iterator[ZooKeeperServer]:
    """Two ports: one plain, one for TLS that asks for no certificate."""
    with provide(tick=0.1, tls=ServerTLS(GOOD.both, AUTHORITY.pem)) as server:
        yield server


@pytest.fixture(scope="module")
def demanding() -> Iterator[ZooKeeperServer]:
    """It wants to see a certificate of our authority."""
    with provide(tick=0.1, tls=ServerTLS(GOOD.both, AUTHORITY.pem, client_auth="need")) as server:
        yield server


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return AUTHORITY.write(tmp_path)


def refused(hosts: str, **given: Any) -> tuple[StartError, list[ConnectionFailed]]:
    """Start in vain; the error and what was told of the link meanwhile."""
    zk = Coordinator(hosts, start_timeout=2.0, **given)
    record = EventRecord(zk)
    with pytest.raises(StartError) as caught:
        zk.start()
    told = record.rest()
    assert {event.kind for event in told} == {"connection.failed", "session.closed"}
    return caught.value, [event for event in told if isinstance(event, ConnectionFailed)]


def assert_told(hosts: str, cause: str, words: str, **given: Any) -> None:
    """Every attempt and the error tell this cause, in these words."""
    error, failures = refused(hosts, **given)
    assert isinstance(error, TLSError)
    assert error.cause == cause
    assert words in str(error)
    assert {failure.cause for failure in failures} == {cause}
    assert all(words in failure.detail for failure in failures)


def test_a_session_over_tls(secure: ZooKeeperServer, ca: Path) -> None:
    """It is established, does its work, survives a cut and an expiry: as without TLS."""
    with (
        FaultProxy(*secure.secure_address) as proxy,
        Coordinator(proxy.hosts, tls=TLS(ca=ca), session_timeout=2.0) as zk,
    ):
        record = EventRecord(zk)
        path = new_place()
        worker = zk.ephemeral(path, b"x" * 100_000)
        assert zk.get(path).value == b"x" * 100_000
        proxy.cut()
        record.until("session.resumed")
        expire_behind(proxy, zk, secure)
        record.until("recovery.completed")
        assert worker.present


def test_kazoos_own_commands_go_over_tls(secure: ZooKeeperServer, ca: Path) -> None:
    """zk.kazoo is configured as we are: it has no other way to the server."""
    with Coordinator(secure.secure_hosts, tls=TLS(ca=ca)) as zk:
        assert zk.kazoo.command(b"srvr").startswith("Zookeeper version")


def test_the_link_moves_over_tls(secure: ZooKeeperServer, ca: Path) -> None:
    """A listed server is asked, in TLS, before a link is left for it."""
    with (
        FaultProxy(*secure.secure_address) as one,
        FaultProxy(*secure.secure_address) as other,
        Coordinator(one.hosts, tls=TLS(ca=ca), session_timeout=10.0) as zk,
    ):
        session_id = zk.session.session_id
        record = EventRecord(zk)
        record.until("session.established")
        zk.set_hosts(other.hosts)
        record.until("session.resumed")
        assert (zk.session.server, zk.session.session_id) == (other.hosts, session_id)


@pytest.mark.parametrize("certificate", ["expired", "not yet valid"])
def test_a_certificate_out_of_its_time(certificate: str, ca: Path) -> None:
    """tls_expired, with what OpenSSL says of it."""
    days, starts = (-1.0, -8.0) if certificate == "expired" else (2.0, 1.0)
    bad = AUTHORITY.issue("zk", "127.0.0.1", days=days, starts=starts)
    with provide(tick=0.1, tls=ServerTLS(bad.both, AUTHORITY.pem)) as server:
        assert_told(server.secure_hosts, "tls_expired", certificate.split(" ")[-1], tls=TLS(ca=ca))


async def test_asyncio_is_told_the_same(secure: ZooKeeperServer, ca: Path) -> None:
    """By the same error."""
    hosts = secure.secure_hosts.replace("127.0.0.1", "localhost")
    with pytest.raises(TLSError) as caught:
        await AsyncCoordinator(hosts, tls=TLS(ca=ca), start_timeout=2.0).start()
    assert caught.value.cause == "tls_hostname"
    async with AsyncCoordinator(secure.secure_hosts, tls=TLS(ca=ca)) as zk:
        assert await zk.exists("/") is not None


def test_another_authority(secure: ZooKeeperServer, tmp_path: Path) -> None:
    """tls_untrusted: the server's certificate leads to none that we believe."""
    theirs = STRANGER.write(tmp_path, "theirs.pem")
    assert_told(secure.secure_hosts, "tls_untrusted", "issuer", tls=TLS(ca=theirs))


def test_the_systems_authorities_do_not_help(secure: ZooKeeperServer) -> None:
    """tls=True believes whom the system believes: not us."""
    assert_told(secure.secure_hosts, "tls_untrusted", "issuer", tls=True)


def test_another_host_name(secure: ZooKeeperServer, ca: Path) -> None:
    """tls_hostname, by default: the certificate is for 127.0.0.1 and not for localhost."""
    hosts = secure.secure_hosts.replace("127.0.0.1", "localhost")
    assert_told(hosts, "tls_hostname", "localhost", tls=TLS(ca=ca))


def test_another_host_name_that_is_allowed(secure: ZooKeeperServer, ca: Path) -> None:
    """verify_hostname=False accepts it; the authority is verified all the same."""
    hosts = secure.secure_hosts.replace("127.0.0.1", "localhost")
    with Coordinator(hosts, tls=TLS(ca=ca, verify_hostname=False)) as zk:
        assert zk.exists("/") is not None


def test_a_plain_port_spoken_to_with_tls(secure: ZooKeeperServer, ca: Path) -> None:
    """tls_not_spoken: it closes without a word, and is found to answer without TLS."""
    assert_told(secure.hosts, "tls_not_spoken", "without TLS", tls=TLS(ca=ca))


def test_a_plain_port_of_the_other_kind_spoken_to_with_tls(zookeeper: ZooKeeperServer, ca: Path) -> None:
    """The same without netty."""
    assert_told(zookeeper.hosts, "tls_not_spoken", "without TLS", tls=TLS(ca=ca))


def test_a_port_for_tls_spoken_to_without(secure: ZooKeeperServer) -> None:
    """tls_required: it closes without a word, and is found to speak TLS."""
    assert_told(secure.secure_hosts, "tls_required", "speaks TLS")


def test_a_client_without_a_certificate(demanding: ZooKeeperServer, ca: Path) -> None:
    """tls_refused: the server demands one."""
    assert_told(demanding.secure_hosts, "tls_refused", "certificate required", tls=TLS(ca=ca))


def test_a_client_with_a_certificate_of_another_authority(
    demanding: ZooKeeperServer, ca: Path, tmp_path: Path
) -> None:
    """tls_refused: the server does not believe it."""
    certificate, key = STRANGER.issue("eve").write(tmp_path, "eve")
    given = TLS(ca=ca, certificate=certificate, key=key)
    assert_told(demanding.secure_hosts, "tls_refused", "refused our certificate", tls=given)


def test_older_tls_tells_nearly_the_same(ca: Path, tmp_path: Path) -> None:
    """In TLS 1.2 the server refuses within the handshake, and says less where it misses a certificate."""
    old = {"ssl.protocol": "TLSv1.2", "ssl.enabledProtocols": "TLSv1.2"}
    wants = ServerTLS(GOOD.both, AUTHORITY.pem, client_auth="need")
    good, good_key = AUTHORITY.issue("bob").write(tmp_path, "bob")
    bad, bad_key = STRANGER.issue("eve").write(tmp_path, "eve")
    with provide(tick=0.1, tls=wants, config=old) as server:
        hosts = server.secure_hosts
        assert_told(hosts, "tls_refused", "refused", tls=TLS(ca=ca, certificate=bad, key=bad_key))
        assert_told(hosts, "tls", "a certificate is demanded", tls=TLS(ca=ca))
        with Coordinator(hosts, tls=TLS(ca=ca, certificate=good, key=good_key)) as zk:
            assert zk.exists("/") is not None


def test_a_certificate_lets_its_bearer_in(demanding: ZooKeeperServer, ca: Path, tmp_path: Path) -> None:
    """The key may be encrypted, and the certificate is who we are: scheme x509."""
    certificate, key = AUTHORITY.issue("worker-1").write(tmp_path, "worker", password="open sesame")
    shown = TLS(ca=ca, certificate=certificate, key=key, key_password="open sesame")
    with Coordinator(demanding.secure_hosts, tls=shown, acl="creator") as zk:
        path = zk.create(new_place())
        assert name_of(zk, path) == "CN=worker-1"
        zk.delete(path)


# -- our own files


def test_files_are_tried_when_they_are_given(ca: Path, tmp_path: Path) -> None:
    """What could only fail later is refused at once; the message names the file and no password."""
    certificate, key = GOOD.write(tmp_path, "mine", password="planted-secret")
    _, other = AUTHORITY.issue("other").write(tmp_path, "other")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    for given, words in [
        (TLS(ca=nonsense), f"tls: ca {nonsense}: no certificates in PEM"),
        (TLS(ca=ca, certificate=certificate, key=key), "key_password is missing or wrong"),
        (
            TLS(ca=ca, certificate=certificate, key=key, key_password="planted-secret-2"),
            "key_password is missing or wrong",
        ),
        (TLS(ca=ca, certificate=certificate, key=other), "the key does not belong to the certificate"),
        (TLS(ca=ca, certificate=nonsense), f"certificate {nonsense}: no certificate"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            Coordinator(tls=given)
        assert words in str(caught.value)
        assert "planted" not in str(caught.value)


def test_files_that_vanish_are_told(secure: ZooKeeperServer, ca: Path) -> None:
    """tls_files: which one, and why; when it is there again, so is the session."""
    zk = Coordinator(secure.secure_hosts, tls=TLS(ca=ca), start_timeout=0)
    record = EventRecord(zk)
    kept = ca.read_bytes()
    ca.unlink()
    with zk:
        (failure,) = record.until("connection.failed")
        assert (failure.cause, failure.detail) == ("tls_files", f"ca {ca}: No such file or directory")
        ca.write_bytes(kept)
        record.until("session.established")


def test_an_authority_replaced_on_disk_is_believed_at_the_next_reconnect(tmp_path: Path) -> None:
    """The server changes its authority, then our file does, then our certificate: nothing is restarted."""
    ca = STRANGER.write(tmp_path)
    certificate, key = STRANGER.issue("worker").write(tmp_path, "worker")
    shown = TLS(ca=ca, certificate=certificate, key=key)
    theirs = STRANGER.issue("zk", "127.0.0.1")
    with provide(tick=0.1, tls=ServerTLS(theirs.both, STRANGER.pem, client_auth="need")) as server:
        port, secure_port = server.address[1], server.secure_address[1]
        zk = Coordinator(server.secure_hosts, tls=shown, session_timeout=1.0).start()
        record = EventRecord(zk)
    ours = ServerTLS(GOOD.both, AUTHORITY.pem, client_auth="need")
    with zk, provide(tick=0.1, tls=ours, port=port, secure_port=secure_port):
        until_cause(record, "tls_untrusted")
        AUTHORITY.write(tmp_path)
        until_cause(record, "tls_refused")
        AUTHORITY.issue("worker").write(tmp_path, "worker")
        record.until("connection.opened")


def until_cause(record: EventRecord, cause: str) -> None:
    while record.until("connection.failed")[-1].cause != cause:
        pass


def test_a_certificate_replaced_on_disk_is_shown_at_the_next_reconnect(
    demanding: ZooKeeperServer, ca: Path, tmp_path: Path
) -> None:
    """The same session goes on, under the new name."""
    certificate, key = AUTHORITY.issue("before").write(tmp_path, "mine")
    shown = TLS(ca=ca, certificate=certificate, key=key)
    with (
        FaultProxy(*demanding.secure_address) as proxy,
        Coordinator(proxy.hosts, tls=shown, acl="creator") as zk,
    ):
        record = EventRecord(zk)
        path = new_place()
        AUTHORITY.issue("after").write(tmp_path, "mine")
        assert name_of(zk, zk.create(f"{path}-1")) == "CN=before"
        proxy.cut()
        record.until("session.resumed")
        assert name_of(zk, zk.create(f"{path}-2")) == "CN=after"


def name_of(zk: Coordinator, path: str) -> str:
    """Whom the server knows as the creator of a znode."""
    (entry,) = zk.kazoo.get_acls(path)[0]
    return str(entry.id.id)


# -- the handshake in time


@contextmanager
def silent() -> Iterator[str]:
    """A server that accepts and says nothing, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_close_does_not_wait_for_a_handshake(ca: Path, caplog: pytest.LogCaptureFixture) -> None:
    """close() returns within 2 s, and the thread that shook hands has ended: nothing is left behind."""
    caplog.set_level(1)
    with silent() as hosts:
        zk = Coordinator(hosts, tls=TLS(ca=ca), start_timeout=0, session_timeout=60.0).start()
        eventually(lambda: "Connecting to" in caplog.text)
        begun = time.monotonic()
        zk.close()
        assert time.monotonic() - begun < 2.0
        assert not [thread for thread in threading.enumerate() if "-kazoo-" in thread.name]
        assert "left behind" not in caplog.text


def test_a_handshake_that_is_not_answered_times_out(ca: Path) -> None:
    """cause timeout, as of a connection without TLS."""
    with silent() as hosts:
        error, failures = refused(hosts, tls=TLS(ca=ca), connect_timeout=0.2)
        assert error.cause == "timeout"
        assert {failure.cause for failure in failures} == {"timeout"}


@pytest.mark.parametrize(
    ("answer", "cause"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls_not_spoken"), (b"", "reset")],
    ids=["HTTP", "nothing"],
)
def test_what_is_no_server_at_all(answer: bytes, cause: str, ca: Path) -> None:
    """Something else than TLS is told as that; a closed connection is no more than that."""
    with answering(lambda _: answer) as hosts:
        error, failures = refused(hosts, tls=TLS(ca=ca))
        assert error.cause == cause
        assert {failure.cause for failure in failures} == {cause}


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A server that answers the first bytes, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(2.0)
                    connection.sendall(answer(connection.recv(4096)))

        thread = threading.Thread(target=serve, name="test-answering")
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5.0)


def test_a_server_that_is_ill_is_not_taken_for_one_with_tls() -> None:
    """A plain server that closes on us is told as `handshake`, as before."""
    with answering(lambda _: b"") as hosts:
        error, failures = refused(hosts)
        assert error.cause == "handshake"
        assert {failure.cause for failure in failures} == {"handshake"}


def test_a_missing_chroot_is_no_failure_of_tls(secure: ZooKeeperServer, ca: Path) -> None:
    """There is a session then."""
    with pytest.raises(MissingChrootError):
        Coordinator(f"{secure.secure_hosts}{new_place()}", tls=TLS(ca=ca)).start()
