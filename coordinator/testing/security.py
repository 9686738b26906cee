"""How a test's server is secured: TLS, SASL users, and the files that this takes.

What is asked for in `ServerOptions` becomes lines of zoo.cfg, flags of the JVM and files; where the files
lie, the kind of server knows: ``{files}`` stands for their folder.
"""

from __future__ import annotations

import base64
import io
import re
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from coordinator.errors import ConfigurationError
from coordinator.testing.options import DEFAULT_JVM_FLAGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.testing.options import ServerOptions

__all__ = ["FOLDER", "ServerTLS", "packed", "placed", "secured"]

FOLDER = "{files}"
"""Stands for the folder of the files in config, environment and jvm_flags."""

LARGEST = 128 * 1024 - 100
"""Characters that an environment variable may have. Source: Linux, MAX_ARG_STRLEN."""

_JAAS = "jaas.conf"
_USER = re.compile(r"[A-Za-z0-9_.@-]+\Z")
_FILE = re.compile(r"[A-Za-z0-9_.-]+\Z")


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """A second port, for TLS alone: ``secure_address``, ``secure_hosts``. All in PEM."""

    certificate: bytes = field(repr=False)
    """The server's certificate with its chain, and its key (PKCS #8, not encrypted)."""
    ca: bytes = field(repr=False)
    """The authorities whose client certificates are accepted."""
    client_auth: Literal["none", "want", "need"] = "none"
    """Whether clients are asked for a certificate; by it they are known (scheme x509)."""


def secured(options: ServerOptions) -> ServerOptions:
    """The same options, with what `tls`, `sasl_users` and `sasl_required` stand for written out.

    Raises:
        ConfigurationError: if a user, a password or the name of a file cannot be written down.
    """
    config: dict[str, str] = {}
    files: dict[str, bytes] = dict(options.get("files", {}))
    flags: list[str] = []
    tls = options.get("tls")
    if tls is not None:
        files |= {"server.pem": tls.certificate, "ca.pem": tls.ca}
        config |= _tls_lines(tls)
    users = options.get("sasl_users")
    if users is not None:
        files[_JAAS] = _jaas(users)
        flags.append(f"-Djava.security.auth.login.config={FOLDER}/{_JAAS}")
        config["authProvider.sasl"] = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
    if options.get("sasl_required"):
        config["sessionRequireClientSASLAuth"] = "true"
    for name in files:
        if not _FILE.match(name):
            raise ConfigurationError(f"file {name!r}: a name of letters, digits, dots, dashes")
    expanded = options.copy()
    expanded["config"] = {**config, **options.get("config", {})}
    expanded["files"] = files
    expanded["jvm_flags"] = [*options.get("jvm_flags", DEFAULT_JVM_FLAGS), *flags]
    return expanded


def _tls_lines(tls: ServerTLS) -> dict[str, str]:
    lines = {
        # The other connection factory knows no TLS.
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "ssl.keyStore.location": f"{FOLDER}/server.pem",
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": f"{FOLDER}/ca.pem",
        "ssl.trustStore.type": "PEM",
        "ssl.clientAuth": tls.client_auth,
    }
    if tls.client_auth != "none":
        lines["authProvider.x509"] = "org.apache.zookeeper.server.auth.X509AuthenticationProvider"
    return lines


def _jaas(users: Mapping[str, str]) -> bytes:
    entries = []
    for user, password in users.items():
        if not _USER.match(user) or not password.isprintable() or set(password) & set('"\\'):
            raise ConfigurationError(
                f"SASL user {user!r}: letters, digits, _ . @ - ; the password without quotes and backslashes"
            )
        entries.append(f'    user_{user}="{password}"')
    login = "org.apache.zookeeper.server.auth.DigestLoginModule required"
    return "\n".join(["Server {", f"  {login}", *entries, "  ;", "};", ""]).encode()


def placed(text: str, folder: str) -> str:
    """The text with the folder of the files in its place."""
    return text.replace(FOLDER, folder)


def packed(files: Mapping[str, bytes]) -> str:
    """The files as a tar, in base64: what an environment variable can carry, up to some 90 kB.

    Raises:
        ConfigurationError: if they are more than that.
    """
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, io.BytesIO(content))
    text = base64.b64encode(whole.getvalue()).decode()
    if len(text) > LARGEST:
        raise ConfigurationError(f"files of {sum(map(len, files.values()))} bytes: too many for a container")
    return text
