"""Who we are, whom we believe, and who may touch what we create: the models behind the settings.

Secrets are ``SecretStr`` and are shown nowhere. Nothing here is sent or opened; paths are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from coordinator.errors import ConfigurationError
from coordinator.models import ACL

__all__ = ["TLS", "AccessWord", "Auth", "Sasl"]

_CONFIG = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Auth(BaseModel):
    """One pair of scheme and credential, sent whenever a link is made.

    From text: ``"scheme:credential"``, so ``"digest:alice:secret"``.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    scheme: str = Field(default="digest", min_length=1)
    credential: SecretStr

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            scheme, colon, credential = value.partition(":")
            if not colon or not scheme or not credential:
                raise ValueError('expected "scheme:credential", as in "digest:user:password"')
            return {"scheme": scheme, "credential": credential}
        return value

    @model_validator(mode="after")
    def _digest_has_two_parts(self) -> Self:
        if self.scheme == "digest":
            user, colon, password = self.credential.get_secret_value().partition(":")
            if not (user and colon and password):
                raise ValueError('the digest scheme needs "user:password"')
        return self


class TLS(BaseModel):
    """How servers are believed, and what they are shown. All files are PEM.

    They are read anew for each connect: what is replaced on disk is used by the next one.
    """

    model_config = _CONFIG

    ca: Path | None = None
    """The certificates of the authorities that are trusted, and no others; None: the system's."""
    certificate: Path | None = None
    """Our own certificate, with its chain, for servers that ask for one."""
    key: Path | None = None
    """Its private key; None: it stands in the file of the certificate."""
    key_password: SecretStr | None = None
    """What the key is encrypted with."""
    verify_hostname: bool = True
    """The server's certificate has to bear the name (or address) of ``hosts``. Without it,
    every holder of a certificate of the same authority can pose as a server."""

    @field_validator("ca", "certificate", "key")
    @classmethod
    def _is_a_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"{path} is {'no file' if path.exists() else 'not there'}")
        return path

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        if self.certificate is None and self.key is not None:
            raise ValueError("a key needs its certificate: give `certificate`, too")
        if self.certificate is None and self.key_password is not None:
            raise ValueError("key_password is for the key of a certificate, and there is none")
        return self


_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}\Z")
"""Source: RFC 4422, 3.1."""


class Sasl(BaseModel):
    """Authentication by SASL whenever a link is made; needs the extra ``sasl``.

    ZooKeeper's servers do not offer mechanisms to choose from; for a name with a password
    they know DIGEST-MD5 alone.
    """

    model_config = _CONFIG

    mechanism: Literal["DIGEST-MD5"] = "DIGEST-MD5"
    username: str = Field(min_length=1)
    password: SecretStr = Field(min_length=1)

    @field_validator("mechanism", mode="before")
    @classmethod
    def _is_known(cls, value: object) -> object:
        if value != "DIGEST-MD5":
            named = f" {value}" if isinstance(value, str) and _MECHANISM.match(value) else ""
            raise ValueError(f"unknown mechanism{named}: DIGEST-MD5 is the one that there is")
        return value


# -- access

AccessWord: TypeAlias = Literal["open", "creator", "read"]
"""Who may touch what we create: everybody; who made it; or everybody reads, and who made it
does the rest."""

_CREATOR = ACL("auth", "")
"""Whoever the session that creates is known as; the server writes the names in its place."""

ACCESS: Final[dict[str, tuple[ACL, ...]]] = {
    "open": (ACL("world", "anyone"),),
    "creator": (_CREATOR,),
    "read": (ACL("world", "anyone", "r"), _CREATOR),
}


def acl_from(text: str) -> AccessWord | tuple[ACL, ...]:
    """Return a word, or entries ``scheme:id:permissions`` that are separated by blanks.

    Raises:
        ValueError: it is neither; the message does not show it.
    """
    match text.strip():
        case "open" | "creator" | "read" as word:
            return word
        case entries:
            return tuple(_entry(one) for one in entries.split())


def _entry(text: str) -> ACL:
    scheme, _, rest = text.partition(":")
    name, colon, permissions = rest.rpartition(":")
    if not scheme or not colon:
        raise ValueError(f'expected {_WORDS}, or entries "scheme:id:permissions"')
    return ACL(scheme, name, permissions)


_WORDS = ", ".join(f'"{word}"' for word in ACCESS)


def entries_of(acl: object, *, identified: bool) -> tuple[ACL, ...]:
    """Return the entries that a word or a list stands for.

    Args:
        acl: a word, or a list of ACL.
        identified: something is configured by which a server can know us.

    Raises:
        ConfigurationError: it is neither, is empty, or only the creator may do something and nobody
            is told who that is.
    """
    if isinstance(acl, str):
        if acl not in ACCESS:
            raise ConfigurationError(f"acl is {_WORDS}, or a list of coordinator.ACL")
        if acl != "open" and not identified:
            raise ConfigurationError(
                f'acl="{acl}" needs somebody to be: configure `auth`, `sasl`, or `tls` with a certificate'
            )
        return ACCESS[acl]
    if not isinstance(acl, Sequence) or not all(isinstance(entry, ACL) for entry in acl):
        raise ConfigurationError(f"acl takes {_WORDS}, or a list of coordinator.ACL(scheme, id, permissions)")
    return tuple(acl)
