"""The znodes of one ensemble: what a write does to them, and why it is refused.

Znodes are replaced, never changed: whoever holds an older tree can go back to it, which is
how a Multi is all or nothing. Source of the order of the checks: ``PrepRequestProcessor``,
ZooKeeper 3.9.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from coordinator.core.requests import ANY_VERSION, OPEN, Check, Create, Delete, Set
from coordinator.errors import (
    BadVersionError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ServerError,
)
from coordinator.models import ACL, Stat
from coordinator.testing.memory.access import Identity, granted, permits
from coordinator.testing.memory.watches import Change, parent_of

SYSTEM = ("/zookeeper", "/zookeeper/config", "/zookeeper/quota")
"""What every ensemble has of its own, and nobody can delete. Source: ``DataTree.isSpecialPath``."""
BAD_ARGUMENTS = -8
"""Source: KeeperException.Code.BADARGUMENTS."""


def signed(number: int) -> int:
    """Return the number as the 32 bits that Java has for it."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


@dataclass(frozen=True, slots=True)
class Node:
    """A znode, as the server keeps it."""

    czxid: int
    mzxid: int
    pzxid: int
    owner: int = 0
    data: bytes = field(default=b"", repr=False)
    version: int = 0
    creates: int = 0
    """How many children it has ever had: what sequential names are counted by."""
    children: int = 0
    acl: tuple[ACL, ...] = field(default=OPEN, repr=False)
    ctime: int = 0
    mtime: int = 0

    @property
    def stat(self) -> Stat:
        """What a client is told; ``cversion`` counts creations and deletions.

        Source: ``DataNode.copyStat``.
        """
        return Stat(
            czxid=self.czxid,
            mzxid=self.mzxid,
            pzxid=self.pzxid,
            version=self.version,
            cversion=signed(2 * self.creates - self.children),
            aversion=0,
            ctime=self.ctime,
            mtime=self.mtime,
            ephemeral_owner=self.owner,
            data_length=len(self.data),
            num_children=self.children,
        )


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, in which transaction, and when."""

    session: int
    zxid: int
    at: int = 0
    """Milliseconds since 1970."""
    identities: tuple[Identity, ...] | None = None
    """None: nobody is asked who he is."""


class Znodes:
    """All znodes, by path."""

    def __init__(self, nodes: dict[str, Node] | None = None) -> None:
        self.nodes = {"/": Node(0, 0, 0)} if nodes is None else nodes

    @classmethod
    def furnished(cls) -> Znodes:
        """Return those that a new ensemble has: the system's do not count as children ever created."""
        return cls(
            {
                "/": Node(0, 0, 0, children=1),
                "/zookeeper": Node(0, 0, 0, children=2),
                "/zookeeper/config": Node(0, 0, 0, acl=(ACL("world", "anyone", "r"),)),
                "/zookeeper/quota": Node(0, 0, 0),
            }
        )

    def copy(self) -> Znodes:
        """Return what can be written to without this one being changed."""
        return Znodes(dict(self.nodes))

    def node(self, path: str) -> Node:
        """Return the znode.

        Raises:
            NoNodeError: there is none.
        """
        node = self.nodes.get(path)
        if node is None:
            raise NoNodeError(path=path)
        return node

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names of the children, sorted."""
        stem = path.rstrip("/") + "/"
        return tuple(sorted(one[len(stem) :] for one in self.nodes if one != "/" and parent_of(one) == path))

    def owned(self, session: int) -> list[str]:
        """Return the ephemerals of a session, in the order of their creation."""
        return [path for path, node in self.nodes.items() if session and node.owner == session]

    # -- writing

    def create(self, request: Create, writer: Writer) -> tuple[str, list[Change]]:
        """Create a znode; return its path, which is longer if it is sequential.

        Every error names the path that was asked for: a server's answer has none.
        """
        asked = path = request.path
        parent_path = parent_of(asked)
        acl = granted(asked, request.acl, writer.identities or ())
        parent = self.nodes.get(parent_path)
        if parent is None:
            raise NoNodeError(path=asked)
        demand(parent, "c", writer.identities, asked)
        if request.sequential:
            path += f"{signed(parent.creates):010d}"
        if path in self.nodes:
            raise NodeExistsError(path=asked)
        if parent.owner:
            raise NoChildrenForEphemeralsError(path=asked)
        self.nodes[path] = Node(
            writer.zxid,
            writer.zxid,
            writer.zxid,
            owner=writer.session if request.ephemeral else 0,
            data=request.data,
            acl=acl,
            ctime=writer.at,
            mtime=writer.at,
        )
        self.nodes[parent_path] = replace(
            parent, pzxid=writer.zxid, creates=parent.creates + 1, children=parent.children + 1
        )
        return path, [("created", path)]

    def set(self, request: Set, writer: Writer) -> tuple[Stat, list[Change]]:
        """Write data; return the new stat."""
        node = self.node(request.path)
        demand(node, "w", writer.identities, request.path)
        check_version(node, request)
        written = self.nodes[request.path] = replace(
            node,
            data=request.data,
            version=signed(node.version + 1),
            mzxid=writer.zxid,
            mtime=writer.at,
        )
        return written.stat, [("changed", request.path)]

    def delete(self, request: Delete, writer: Writer) -> tuple[None, list[Change]]:
        """Delete a znode that has no children."""
        path = request.path
        if path in SYSTEM or path == "/":
            raise ServerError(
                f"delete {path}: BadArgumentsError (code {BAD_ARGUMENTS})", path=path, code=BAD_ARGUMENTS
            )
        parent = self.nodes.get(parent_of(path))
        if parent is None:
            raise NoNodeError(path=path)
        demand(parent, "d", writer.identities, path)
        node = self.node(path)
        check_version(node, request)
        if node.children:
            raise NotEmptyError(path=path)
        return None, self.remove([path], writer.zxid)

    def check(self, request: Check, writer: Writer) -> tuple[None, list[Change]]:
        """Look whether a znode has that version."""
        node = self.node(request.path)
        demand(node, "r", writer.identities, request.path)
        check_version(node, request)
        return None, []

    def remove(self, paths: Iterable[str], zxid: int) -> list[Change]:
        """Delete znodes without asking anybody, in one transaction."""
        changes: list[Change] = []
        for path in paths:
            del self.nodes[path]
            parent = self.nodes[parent_of(path)]
            self.nodes[parent_of(path)] = replace(parent, pzxid=zxid, children=parent.children - 1)
            changes.append(("deleted", path))
        return changes


def demand(node: Node, permission: str, identities: tuple[Identity, ...] | None, path: str) -> None:
    """Refuse what the ACL of a znode does not permit.

    Raises:
        NoAuthError: it does not.
    """
    if identities is not None and not permits(node.acl, permission, identities):
        raise NoAuthError(path=path)


def check_version(node: Node, request: Set | Delete | Check) -> None:
    """Refuse what was meant for another version.

    Raises:
        BadVersionError: it names the version that was given.
    """
    if request.version not in (ANY_VERSION, node.version):
        raise BadVersionError(f"another version than {request.version}: {request.path}", path=request.path)
