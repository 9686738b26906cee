"""What can be set, where it comes from, and what is refused.

An argument of ``Coordinator`` wins over a ``Settings`` object's default, that over the
environment (``COORDINATOR_*``), that over the default. Everything is checked when it is
constructed; secrets are ``SecretStr`` and are shown nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from coordinator.errors import ConfigurationError
from coordinator.models import ACL
from coordinator.security import TLS, AccessWord, Auth, Sasl, acl_from, entries_of

__all__ = ["Settings"]

DEFAULT_PORT = 2181
"""ZooKeeper's own default for clients (zoo.cfg: clientPort)."""

_BOOL = TypeAdapter(bool)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.%\w]+)\](?::(\d+))?\Z")


class Settings(BaseSettings):
    """Settings of a coordinator; durations are seconds.

    Environment: ``COORDINATOR_`` and the name in capitals. ``COORDINATOR_AUTH`` takes
    entries separated by blanks: ``digest:alice:secret digest:bob:secret``; what is inside of
    ``tls`` and ``sasl`` has two underscores before it: ``COORDINATOR_TLS__CA``.
    """

    model_config = SettingsConfigDict(
        env_prefix="COORDINATOR_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    hosts: str = f"127.0.0.1:{DEFAULT_PORT}"
    """``host:port,host:port/chroot``; IPv6 addresses in brackets; port 2181 if not given."""
    session_timeout: float = Field(default=10.0, gt=0, le=3600, allow_inf_nan=False)
    """What is asked for. The server grants something between its bounds (2 and 20 ticks)
    and ``session.established`` tells what. Smaller: a crash is noticed sooner; larger:
    longer outages are survived. 10 s is kazoo's default."""
    start_timeout: float = Field(default=15.0, ge=0, le=3600, allow_inf_nan=False)
    """How long ``start()`` waits for the first session; 0: not at all, it goes on in the
    background. 15 s is kazoo's default: one session timeout and a half."""
    operation_timeout: float = Field(default=10.0, gt=0, le=3600, allow_inf_nan=False)
    """The deadline of a call that is given none, also while there is no link."""
    retry_first_delay: float = Field(default=0.02, gt=0, le=60, allow_inf_nan=False)
    """Upper bound of the first delay between two rounds over all servers. Drawn anew
    between 0 and the bound, which doubles each time (full jitter). Two delays lie between
    an expiry and the next session: with 0.02 s it stands after about 45 ms."""
    retry_max_delay: float = Field(default=1.0, gt=0, le=600, allow_inf_nan=False)
    """The greatest bound of that delay: the longest an ended outage goes unnoticed."""
    connect_timeout: float | None = Field(default=None, gt=0, le=600, allow_inf_nan=False)
    """For one server; default: the session timeout divided by the number of servers, so
    that all are tried before the session is lost."""
    tick_time: float | None = Field(default=None, gt=0, le=600, allow_inf_nan=False)
    """The servers' tickTime (2 s by default), by which it is known how long a lock may be believed
    after a beat. Default: unknown, and then half of the session timeout is assumed, which is the most
    that it can be where servers grant no less than their default of two ticks; where theirs is set
    lower (``minSessionTimeout``), give it."""
    read_only: bool = False
    """Accept a session with a server that is cut off from its ensemble (read-only)."""
    follow_reconfig: bool = False
    """Follow the ensemble when servers are added or removed, as ZooKeeper tells it; only to
    servers that answer. Off, because the addresses that servers know of themselves often
    lead nowhere from where a client is."""
    auth: Annotated[tuple[Auth, ...], NoDecode] = ()
    """Credentials; the scheme "digest" takes ``user:password``."""
    tls: TLS | None = None
    """How servers are believed, and what they are shown; True: by the system's authorities."""
    sasl: Sasl | None = None
    """Who we are by SASL; needs the extra ``sasl``."""
    acl: Annotated[AccessWord | tuple[ACL, ...], NoDecode] = "open"
    """Who may touch what is created without an ACL of its own, parents included."""

    @field_validator("auth", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(value.split())
        return (value,) if isinstance(value, Auth) else value

    @field_validator("tls", mode="before")
    @classmethod
    def _on_or_off(cls, value: object) -> object:
        if isinstance(value, bool | int | str):  # text and numbers come from the environment
            if not _BOOL.validate_python(value):
                return None
            overruled = sorted(name for name in os.environ if name.upper().startswith("COORDINATOR_TLS__"))
            if overruled:  # it would be silently without effect
                raise ValueError(f"True stands for the defaults, without {', '.join(overruled)}: unset one")
            return {}
        return value

    @field_validator("acl", mode="before")
    @classmethod
    def _word_or_entries(cls, value: object) -> object:
        if isinstance(value, str):
            return acl_from(value)
        entries_of(value, identified=True)
        return value

    @field_validator("hosts")
    @classmethod
    def _hosts_are_well_formed(cls, value: str) -> str:
        return join_hosts(*split_hosts(value))

    @model_validator(mode="after")
    def _delays_ascend(self) -> Self:
        if self.retry_first_delay > self.retry_max_delay:
            raise ValueError(
                f"retry_first_delay ({self.retry_first_delay:g} s) is above "
                f"retry_max_delay ({self.retry_max_delay:g} s)"
            )
        return self

    @model_validator(mode="after")
    def _acl_has_somebody(self) -> Self:
        if not entries_of(self.acl, identified=self.identified):
            raise ValueError("acl has no entries: nobody could do anything")
        return self

    @property
    def identified(self) -> bool:
        """Whether something is configured by which a server can know us."""
        certified = self.tls is not None and self.tls.certificate is not None
        return bool(self.auth) or self.sasl is not None or certified

    @property
    def servers(self) -> list[tuple[str, int]]:
        """The servers, as pairs of host and port."""
        return split_hosts(self.hosts)[0]

    @property
    def chroot(self) -> str:
        """The path that all paths are below; empty for none."""
        return split_hosts(self.hosts)[1]

    def changed_hosts(self, text: object) -> list[tuple[str, int]]:
        """Return the servers of other hosts that shall replace these, in the same chroot.

        Raises:
            ConfigurationError: they are malformed, or name another chroot.
        """
        if not isinstance(text, str):
            raise ConfigurationError(f'hosts: a text as in "zk1:2181,zk2:2181", got {type(text).__name__}')
        try:
            servers, chroot = split_hosts(text)
        except ValueError as error:
            raise ConfigurationError(f"hosts: {error}") from None
        if chroot not in ("", self.chroot):
            raise ConfigurationError(
                f"hosts: the chroot cannot be changed from {self.chroot or 'none'} to {chroot}: "
                "every path would mean another znode; make another coordinator"
            )
        return servers

    @classmethod
    def make(cls, **given: Any) -> Settings:
        """Return settings of what is given and not None, the environment and the defaults.

        Raises:
            ConfigurationError: one of them is wrong; it names all that are.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise ConfigurationError(_readable(error)) from None


def _readable(error: ValidationError) -> str:
    told = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in one["loc"]) or "settings"
        told.append(f"{where}: {one['msg'].removeprefix('Value error, ')}")
    return "; ".join(told)


def join_hosts(servers: Iterable[tuple[str, int]], chroot: str = "") -> str:
    """Return servers and chroot as text: what ``split_hosts`` reads."""
    return (
        ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in servers) + chroot
    )


def split_hosts(text: str) -> tuple[list[tuple[str, int]], str]:
    """Return the servers and the chroot of ``host:port,host:port/chroot``.

    Raises:
        ValueError: it names the part that is malformed.
    """
    if "@" in text or "://" in text:  # before any part of it is shown
        raise ValueError('a server is given as "host:port", without a scheme, user or password')
    hosts, slash, chroot = text.strip().partition("/")
    chroot = slash + chroot
    if chroot == "/":
        chroot = ""
    if chroot:
        _check_chroot(chroot)
    servers = [_server(part.strip()) for part in hosts.split(",")]
    if len(set(servers)) < len(servers):
        raise ValueError(f"a server is named twice in {hosts!r}")
    return servers, chroot


def _check_chroot(chroot: str) -> None:
    if chroot.endswith("/") or "//" in chroot or any(part in (".", "..") for part in chroot.split("/")):
        raise ValueError(f'chroot {chroot!r} is malformed: give it as in "zk1:2181,zk2:2181/prod/app"')
    if "," in chroot or "\0" in chroot:
        raise ValueError(f'the chroot stands once, at the end: "zk1:2181,zk2:2181/prod", got {chroot!r}')


def _server(part: str) -> tuple[str, int]:
    if part.startswith("["):
        bracketed = _IPV6.match(part)
        if bracketed is None:
            raise ValueError(f'server {part!r} is malformed: an IPv6 address is given as "[::1]:2181"')
        host, port = bracketed.group(1), bracketed.group(2) or str(DEFAULT_PORT)
    else:
        host, colon, port = part.partition(":")
        port = port if colon else str(DEFAULT_PORT)
        if ":" in port:
            raise ValueError(f'server {part!r} is malformed: an IPv6 address is given as "[::1]:2181"')
        if not host or not all(_LABEL.match(label) for label in host.rstrip(".").split(".")):
            raise ValueError(f'server {part!r} has no valid host name: give it as "host:port"')
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"server {part!r}: the port is a number from 1 to 65535")
    return host.lower(), int(port)  # names have no case, and kazoo knows them like this
