"""TLS on a connected socket: the context, the handshake, and the words for what went wrong.

A context is made anew for each connect, so that certificates replaced on disk are used by the next one.

    context_of(settings), context_from(kazoo's options)
        --> secure(sock, hostname, context, bell) --> SSLSocket, or an error, for which told() has the words

It must not connect, and must not show a password.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from coordinator.engine import fork
from coordinator.engine.wake import wait_unless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordinator.engine.wake import WakeChannel
    from coordinator.security import TLS

    MakeContext = Callable[[], ssl.SSLContext]
    """Makes the context of one connect."""

_ALERT, _HANDSHAKE = 0x15, 0x16
"""The types of the records that a TLS server may begin with. Source: RFC 8446, 5.1."""


class NotSpokenError(ssl.SSLError):
    """The other side does not speak TLS."""


class UnansweredError(ssl.SSLError):
    """The other side ended the connection before it said a word of TLS."""


class FilesError(ssl.SSLError):
    """Our own certificates or key cannot be used."""


# -- contexts


def context_of(tls: TLS) -> ssl.SSLContext:
    """Make a context of our settings; with a CA of one's own, no other is trusted.

    Raises:
        FilesError: a file cannot be read or used; it names the file and never the password.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.verify_hostname
    if tls.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(tls.ca)
        except OSError as error:
            raise FilesError(f"ca {tls.ca}: {_unusable(error, 'no certificates in PEM')}") from None
    if tls.certificate is not None:
        secret = tls.key_password
        password = "" if secret is None else secret.get_secret_value()
        where = f"certificate {tls.certificate}" + ("" if tls.key is None else f" with key {tls.key}")
        try:
            # Without any password OpenSSL would ask the terminal for one.
            context.load_cert_chain(tls.certificate, tls.key, lambda: password)
        except (OSError, ValueError) as error:
            raise FilesError(f"{where}: {_unusable(error, _KEY_HINT)}") from None
    return context


_KEY_HINT = "no certificate and key in PEM, or key_password is missing or wrong"


def _unusable(error: OSError | ValueError, hint: str) -> str:
    if not isinstance(error, ssl.SSLError):
        return getattr(error, "strerror", None) or type(error).__name__
    if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    return hint


def context_from(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Make a context as kazoo does, of its keyword arguments.

    Raises:
        FilesError: a file cannot be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.get("options") is not None:
        context.options = options["options"]
    if options.get("ciphers"):
        context.set_ciphers(options["ciphers"])
    verify = options.get("verify_certs", True)
    context.check_hostname = bool(options.get("check_hostname", False)) and verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    try:
        if options.get("ca"):
            context.load_verify_locations(options["ca"])
        if options.get("certfile") and options.get("keyfile"):
            password = options.get("keyfile_password") or ""
            context.load_cert_chain(options["certfile"], options["keyfile"], lambda: password)
    except (OSError, ValueError) as error:
        raise FilesError(f"certificate or key: {_unusable(error, _KEY_HINT)}") from None
    return context


# -- the handshake


def secure(sock: socket.socket, hostname: str, context: ssl.SSLContext, bell: WakeChannel) -> ssl.SSLSocket:
    """Wrap a connected socket in TLS within its own timeout; a `send` on the bell gives it up.

    Returns:
        A blocking socket, its timeout being what is left. `sock` is not to be used any more.

    Raises:
        ConnectionAbortedError: the bell was rung.
        TimeoutError: the handshake was not done in time.
        ssl.SSLError: it failed; `told` names how.
        OSError: the connection broke in the handshake.
    """
    until = time.monotonic() + (sock.gettimeout() or 0.0)
    sock.settimeout(0)
    name = hostname.rstrip(".").partition("%")[0]  # neither a root dot nor a zone stands in a certificate
    tls = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
    fork.let_go_by(tls, socket.socket.close)  # before the handshake, which may take long
    try:
        _shake_hands(tls, until, bell)
        tls.settimeout(max(0.001, until - time.monotonic()))
    except BaseException:
        tls.close()
        raise
    return tls


def _shake_hands(tls: ssl.SSLSocket, until: float, bell: WakeChannel) -> None:
    heard = False
    while True:
        try:
            return tls.do_handshake()
        except ssl.SSLWantReadError:
            wait_unless(bell, [tls.fileno()], [], until - time.monotonic())
            heard = heard or _hear(tls)
        except ssl.SSLWantWriteError:
            wait_unless(bell, [], [tls.fileno()], until - time.monotonic())
        except (ssl.SSLError, ConnectionError) as error:
            if not heard:  # the answer was there before we looked at it
                _judge(error)
            raise


def _hear(tls: ssl.SSLSocket) -> bool:
    """Look at the first byte of the answer, which tells whether it is TLS at all."""
    try:
        first = socket.socket.recv(tls, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        first = b""
    if not first:
        raise UnansweredError(_UNANSWERED)
    if first[0] not in (_ALERT, _HANDSHAKE):
        raise NotSpokenError(_NOT_SPOKEN)
    return True


def _judge(error: OSError) -> None:
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        raise UnansweredError(_UNANSWERED) from error
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", "") in _NONSENSE:
        raise NotSpokenError(_NOT_SPOKEN) from error


_UNANSWERED = "closed in the TLS handshake, before the server said a word"
_NOT_SPOKEN = "the server answered something else than TLS"
_NONSENSE = {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
"""What OpenSSL says of a record that is none. Source: OpenSSL, sslerr.h."""


def hello() -> bytes:
    """Return the first message of a TLS client, whatever comes of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def is_tls(answer: bytes) -> bool:
    """Whether these are the first bytes of a TLS server."""
    return len(answer) > 1 and answer[0] in (_ALERT, _HANDSHAKE) and answer[1] == 3


# -- words

_VERIFICATION = {
    9: "tls_expired",  # X509_V_ERR_CERT_NOT_YET_VALID
    10: "tls_expired",  # X509_V_ERR_CERT_HAS_EXPIRED
    62: "tls_hostname",  # X509_V_ERR_HOSTNAME_MISMATCH
    64: "tls_hostname",  # X509_V_ERR_IP_ADDRESS_MISMATCH
}
"""Source: OpenSSL, x509_vfy.h. All others: the certificate does not lead to a CA that is trusted."""

_REFUSALS = re.compile("ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)")
"""What OpenSSL calls the alerts by which a server refuses a client's certificate, or misses one."""


def told(error: ssl.SSLError) -> tuple[str, str]:
    """Return the cause and the detail of `connection.failed` for an error of TLS."""
    if isinstance(error, NotSpokenError):
        return "tls_not_spoken", str(error.args[0])
    if isinstance(error, UnansweredError):
        return "reset", str(error.args[0])
    if isinstance(error, FilesError):
        return "tls_files", str(error.args[0])
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _VERIFICATION.get(error.verify_code, "tls_untrusted")
        return cause, f"the server's certificate: {error.verify_message.rstrip('.')}"
    reason = getattr(error, "reason", None) or ""
    words = reason.replace("_", " ").lower() or str(error)
    if _REFUSALS.search(reason):
        return "tls_refused", f"the server refused our certificate, or demands one: {words}"
    if reason.endswith("ALERT_HANDSHAKE_FAILURE"):
        words += ": no protocol or cipher in common, or a certificate is demanded"
    return "tls", words
