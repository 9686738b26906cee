"""Who may do what: ACLs as a server evaluates them, for the schemes that it knows by default.

Source: ``PrepRequestProcessor.fixupACL`` and ``ZooKeeperServer.checkACL``, ZooKeeper 3.9.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from coordinator.errors import InvalidACLError
from coordinator.models import ACL

Identity: TypeAlias = tuple[str, str]
"""A scheme, and who it is there."""

ADDRESS: Identity = ("ip", "127.0.0.1")
"""Where every client of an ensemble in memory comes from."""

AUTHENTICATING = frozenset({"digest"})
"""The schemes of which ``auth`` in an ACL stands for whoever is known."""


def identity(scheme: str, credential: str) -> Identity | None:
    """Return who shows that credential; None for a scheme that the server does not know.

    Source: ``DigestAuthenticationProvider.generateDigest``.
    """
    if scheme == "ip":
        return ADDRESS
    if scheme != "digest":
        return None
    user = credential.partition(":")[0]
    digest = hashlib.sha1(credential.encode()).digest()  # noqa: S324 -- ZooKeeper's choice
    return "digest", f"{user}:{base64.b64encode(digest).decode()}"


def granted(path: str, acl: Iterable[ACL], identities: Iterable[Identity]) -> tuple[ACL, ...]:
    """Return the entries that a new znode gets: ``auth`` is replaced by who asks for it.

    Raises:
        InvalidACLError: there are none, one is malformed, or nobody is authenticated.
    """
    known = tuple(identities)
    entries = tuple(dict.fromkeys(each for one in acl for each in _resolved(path, one, known)))
    if not entries:
        raise InvalidACLError(path=path)
    return entries


def _resolved(path: str, entry: ACL, identities: tuple[Identity, ...]) -> Iterator[ACL]:
    if entry.scheme == "auth":
        found = [one for one in identities if one[0] in AUTHENTICATING]
        if not found:
            raise InvalidACLError(path=path)
        for scheme, name in found:
            yield ACL(scheme, name, entry.permissions)
    elif _is_valid(entry):
        yield entry
    else:
        raise InvalidACLError(path=path)


def _is_valid(entry: ACL) -> bool:
    match entry.scheme:
        case "world":
            return entry.id == "anyone"
        case "digest":
            return len(entry.id.split(":")) == 2
        case "ip":
            return _network(entry.id) is not None
        case _:
            return False


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def permits(acl: Iterable[ACL], permission: str, identities: Iterable[Identity]) -> bool:
    """Whether one of these identities may do that: a letter of ``cdrwa``."""
    known = tuple(identities)
    return any(permission in one.permissions and _is_met(one, known) for one in acl)


def _is_met(entry: ACL, identities: tuple[Identity, ...]) -> bool:
    if entry.scheme == "world":
        return True
    if entry.scheme == "ip":
        network = _network(entry.id)
        return network is not None and any(
            scheme == "ip" and ipaddress.ip_address(name) in network for scheme, name in identities
        )
    return (entry.scheme, entry.id) in identities
