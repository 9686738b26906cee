"""Every znode path and node name that we write, and what a path may be.

This is the contract with other clients: what stands here is public API.
"""

from __future__ import annotations

from coordinator.errors import InvalidPathError

REQUEST_LIMIT = 1_048_575
"""Bytes that a request may have. Source: ``jute.maxbuffer``, 0xfffff by default; a server
drops the connection on a longer one, without an answer."""


def check_path(path: object) -> str:
    """Return the path if ZooKeeper would accept it.

    Source: ``org.apache.zookeeper.common.PathUtils.validatePath``. kazoo would silently
    normalise some of these, and so write another znode than the one named.

    Raises:
        InvalidPathError: it names what is wrong.
    """
    if not isinstance(path, str):
        raise InvalidPathError(f"a path is a str, got {type(path).__name__}")
    if not path.startswith("/"):
        raise InvalidPathError(f"path {path!r} must begin with a slash")
    if path != "/" and path.endswith("/"):
        raise InvalidPathError(f"path {path!r} must not end with a slash")
    if "//" in path:
        raise InvalidPathError(f"path {path!r} has an empty part")
    if any(part in (".", "..") for part in path.split("/")):
        raise InvalidPathError(f"path {path!r} is relative: '.' and '..' mean nothing to ZooKeeper")
    if any(_forbidden(ord(letter)) for letter in path):
        raise InvalidPathError(f"path {path!r} has a character that ZooKeeper does not allow")
    return path


def deletable(path: object) -> str:
    """Return the path if what is there can be made and deleted by us.

    Raises:
        InvalidPathError: it is malformed, or the root.
    """
    checked = check_path(path)
    if checked == "/":
        raise InvalidPathError("the root is always there: it can be neither deleted nor an ephemeral")
    return checked


def _forbidden(code: int) -> bool:
    return code <= 0x1F or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xF8FF or 0xFFF0 <= code <= 0xFFFF


def ancestors_of(path: str) -> list[str]:
    """Return the ancestors below the root, the topmost first."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: depth + 1]) for depth in range(len(parts))]
