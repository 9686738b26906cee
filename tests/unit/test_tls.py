"""TLS without a server: what a context believes, and which words an error gets."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from coordinator.engine import tls
from coordinator.engine.dial import told
from coordinator.engine.wake import WakeChannel
from coordinator.security import TLS
from tests.certificates import Authority


def test_an_authority_of_ones_own_is_the_only_one(tmp_path: Path) -> None:
    """Whoever is certified by an authority of the system is not believed then."""
    ca = Authority("ours").write(tmp_path)
    assert tls.context_of(TLS(ca=ca)).cert_store_stats()["x509"] == 1


def test_what_is_verified_by_default() -> None:
    """Chain, host name, and no version before 1.2; the host name can be given up, the chain cannot."""
    context = tls.context_of(TLS())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    lenient = tls.context_of(TLS(verify_hostname=False))
    assert (lenient.verify_mode, lenient.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_a_clients_own_options_are_kazoos() -> None:
    """Who builds a kazoo client by himself gets what he asks kazoo for."""
    assert not tls.context_from({}).check_hostname
    assert tls.context_from({"check_hostname": True}).check_hostname
    assert tls.context_from({"verify_certs": False, "check_hostname": True}).verify_mode == ssl.CERT_NONE
    with pytest.raises(tls.FilesError):
        tls.context_from({"ca": "/not/there"})


def test_the_first_message_is_one_of_tls() -> None:
    """A probe that is no ClientHello would prove nothing."""
    assert tls.is_tls(tls.hello())
    assert not tls.is_tls(b"")
    assert not tls.is_tls(b"Zookeeper version")


def error_of(kind: type[ssl.SSLError], **attributes: object) -> ssl.SSLError:
    error = kind(1, "what OpenSSL said")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("kind", "attributes", "cause"),
    [
        (ssl.SSLCertVerificationError, {"verify_code": 10, "verify_message": "m"}, "tls_expired"),
        (ssl.SSLCertVerificationError, {"verify_code": 9, "verify_message": "m"}, "tls_expired"),
        (ssl.SSLCertVerificationError, {"verify_code": 62, "verify_message": "m"}, "tls_hostname"),
        (ssl.SSLCertVerificationError, {"verify_code": 64, "verify_message": "m"}, "tls_hostname"),
        (ssl.SSLCertVerificationError, {"verify_code": 20, "verify_message": "m"}, "tls_untrusted"),
        (ssl.SSLCertVerificationError, {"verify_code": 18, "verify_message": "m"}, "tls_untrusted"),
        (ssl.SSLError, {"reason": "TLSV13_ALERT_CERTIFICATE_REQUIRED"}, "tls_refused"),
        (ssl.SSLError, {"reason": "SSLV3_ALERT_BAD_CERTIFICATE"}, "tls_refused"),
        (ssl.SSLError, {"reason": "SSLV3_ALERT_CERTIFICATE_EXPIRED"}, "tls_refused"),
        (ssl.SSLError, {"reason": "TLSV1_ALERT_UNKNOWN_CA"}, "tls_refused"),
        (ssl.SSLError, {"reason": "TLSV1_ALERT_ACCESS_DENIED"}, "tls_refused"),
        (ssl.SSLError, {"reason": "TLSV1_ALERT_PROTOCOL_VERSION"}, "tls"),
        (ssl.SSLError, {"reason": "SSLV3_ALERT_HANDSHAKE_FAILURE"}, "tls"),
        (ssl.SSLError, {}, "tls"),
        (tls.NotSpokenError, {}, "tls_not_spoken"),
        (tls.UnansweredError, {}, "reset"),
        (tls.FilesError, {}, "tls_files"),
    ],
)
def test_each_failure_has_its_cause(
    kind: type[ssl.SSLError], attributes: dict[str, object], cause: str
) -> None:
    """And words."""
    found, detail = told(error_of(kind, **attributes))
    assert found == cause
    assert detail


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"", tls.UnansweredError), (b"HTTP/1.1 400\r\n\r\n", tls.NotSpokenError)],
    ids=["nothing", "HTTP"],
)
@pytest.mark.parametrize("early", [True, False], ids=["before we speak", "after"])
def test_what_is_no_tls_is_found_whenever_it_comes(
    answer: bytes, expected: type[ssl.SSLError], early: bool
) -> None:
    """The answer may be there before it is looked at."""
    near, far = socket.socketpair()
    near.settimeout(5.0)

    def speak() -> None:
        if not early:
            far.recv(1)
        far.sendall(answer)
        far.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=speak)
    bell = WakeChannel()
    thread.start()
    if early:
        thread.join(5.0)
    with far, pytest.raises(expected):
        tls.secure(near, "zk1", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), bell)
    thread.join(5.0)
    bell.close()
