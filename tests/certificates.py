"""Authorities and certificates, made when a test asks for them: nothing secret lies in the repository."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _names(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key."""

    pem: bytes
    private: ec.EllipticCurvePrivateKey

    def key(self, password: str | None = None) -> bytes:
        """The key in PKCS #8, encrypted if there is a password."""
        how: KeySerializationEncryption = (
            NoEncryption() if password is None else BestAvailableEncryption(password.encode())
        )
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)

    @property
    def both(self) -> bytes:
        """Certificate and key in one."""
        return self.pem + self.key()

    def write(self, folder: Path, name: str, password: str | None = None) -> tuple[Path, Path]:
        """Write certificate and key to files of their own."""
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key(password))
        return certificate, key


class Authority:
    """Somebody who issues certificates for a day."""

    def __init__(self, common: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(common)
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(
                self._name, self._name, self._key.public_key(), x509.random_serial_number()
            )
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, name: str = "ca.pem") -> Path:
        """Write the authority's own certificate to a file."""
        path = folder / name
        path.write_bytes(self.pem)
        return path

    def issue(self, common: str, *names: str, days: float = 1.0, starts: float = -8.0) -> Certificate:
        """Issue a certificate for these host names and addresses; days from now."""
        private = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self._name, _name(common), private.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(now + timedelta(days=starts))
        builder = builder.not_valid_after(now + timedelta(days=days))
        if names:
            builder = builder.add_extension(_names(names), critical=False)
        return Certificate(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM), private)
