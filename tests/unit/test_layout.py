"""Paths as ZooKeeper takes them, and sizes as kazoo writes them."""

from __future__ import annotations

import pytest
from kazoo.protocol import serialization as jute
from kazoo.security import ACL as KazooACL
from kazoo.security import Id

from coordinator.core.layout import ancestors_of, check_path
from coordinator.core.requests import Check, Create, Delete, Multi, Set, size_of
from coordinator.errors import InvalidPathError
from coordinator.models import ACL

# After org.apache.zookeeper.common.PathUtilsTest.
VALID = [
    "/",
    "/this is / a valid/path",
    "/name/with/" + chr(0x20) + "space",
    "/name/with.period",
    "/name/.../with",
    "/.hidden",
    "/a..",
    "/..a",
    "/größe",
    "/emoji-\N{GRINNING FACE}",
    "/" + chr(0xA0),
    "/" + chr(0xD7FF),
    "/" + chr(0xF900),
    "/" + chr(0xFFEF),
    "/zookeeper",
]
INVALID = [
    None,
    b"/a",
    5,
    "",
    "not/valid",
    "a",
    "/ends/with/slash/",
    "//",
    "/double//slash",
    "/single/./period",
    "/single/.",
    "/.",
    "/double/../period",
    "/double/..",
    "/..",
    "/null\0character",
    "/test" + chr(0x01),
    "/test" + chr(0x1F),
    "/test" + chr(0x7F),
    "/test" + chr(0x9F),
    "/test" + chr(0xD800),
    "/test" + chr(0xE000),
    "/test" + chr(0xF8FF),
    "/test" + chr(0xFFF0),
    "/test" + chr(0xFFFF),
]


@pytest.mark.parametrize("path", VALID, ids=ascii)
def test_a_valid_path_is_returned_as_it_is(path):
    """Not normalised: the znode is the one that was named."""
    assert check_path(path) == path


@pytest.mark.parametrize("path", INVALID, ids=ascii)
def test_an_invalid_path_is_refused(path):
    """Before anything is sent."""
    with pytest.raises(InvalidPathError):
        check_path(path)


@pytest.mark.parametrize(
    ("path", "ancestors"),
    [("/", []), ("/a", []), ("/a/b", ["/a"]), ("/a/b/c", ["/a", "/a/b"])],
)
def test_ancestors(path, ancestors):
    """The topmost ancestor first, without the root."""
    assert ancestors_of(path) == ancestors


# -- sizes

PATHS = ["/a", "/größe/\N{GRINNING FACE}"]
DATA = [b"", b"x" * 1000]
ACLS = [
    (ACL("world", "anyone"),),
    (ACL("digest", "alice:hash", "rw"), ACL("ip", "10.0.0.0/8", "r")),
    (),
]


def kazoo_acl(acl):
    return [KazooACL(one.mask, Id(one.scheme, one.id)) for one in acl]


def written(operation, chroot=""):
    """Return the same request as kazoo would write it."""
    path = chroot + operation.path
    match operation:
        case Create():
            flags = operation.ephemeral + 2 * operation.sequential
            return jute.Create(path, operation.data, kazoo_acl(operation.acl), flags)
        case Set():
            return jute.SetData(path, operation.data, operation.version)
        case Delete():
            return jute.Delete(path, operation.version)
        case Check():
            return jute.CheckVersion(path, operation.version)
        case Multi():
            return jute.Transaction([written(one, chroot) for one in operation.operations])


def size(operation, chroot=""):
    """Return kazoo's size: xid and type before the body."""
    return 8 + len(written(operation, chroot).serialize())


@pytest.mark.parametrize("chroot", ["", "/prod/größe"])
@pytest.mark.parametrize("acl", ACLS, ids=len)
@pytest.mark.parametrize("data", DATA, ids=len)
@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_the_size_of_a_create(path, data, acl, chroot):
    """The bytes that kazoo writes."""
    request = Create(path, data, ephemeral=True, acl=acl)
    assert size_of(request, chroot) == size(request, chroot)


def test_a_create_that_returns_its_stat_has_the_same_size():
    """kazoo sends Create2 where the stat is asked for."""
    acl = kazoo_acl(ACLS[1])
    first, second = jute.Create("/a", b"x", acl, 0), jute.Create2("/a", b"x", acl, 0)
    assert first.serialize() == second.serialize()


@pytest.mark.parametrize("chroot", ["", "/prod/größe"])
@pytest.mark.parametrize("data", DATA, ids=len)
@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_the_size_of_a_set(path, data, chroot):
    """The bytes that kazoo writes."""
    request = Set(path, data, 3)
    assert size_of(request, chroot) == size(request, chroot)


@pytest.mark.parametrize("chroot", ["", "/prod/größe"])
@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_the_size_of_a_delete(path, chroot):
    """The bytes that kazoo writes."""
    request = Delete(path, 3)
    assert size_of(request, chroot) == size(request, chroot)


@pytest.mark.parametrize("chroot", ["", "/prod/größe"])
@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_the_size_of_a_transaction(path, chroot):
    """Each operation with its header, and one at the end."""
    operations = (
        Create(path, b"data", acl=ACLS[1]),
        Set(path, b"more", 1),
        Check(path, 2),
        Delete(path, 2),
    )
    request = Multi(path, operations)
    assert size_of(request, chroot) == size(request, chroot)
