"""What a watch tells, and when: in memory as on a server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.site import Site
from tests.contract.test_matrix import LOST, RENEWED, RESUMED


def seen(site: Site, *kinds: str) -> list[Any]:
    """Wait for these kinds, and return what was told."""
    return [event for event in site.told(*kinds) if event.kind in kinds]


def test_each_change_is_told(site: Site) -> None:
    """Created, changed, deleted and created again, with versions and numbers that only grow."""
    path = f"{site.base}/a"
    view = site.zk.watch(path)
    assert (view.exists, view.value) == (False, None)
    site.other.create(path, b"one")
    (created,) = seen(site, "znode.created")
    site.other.set(path, b"two")
    (changed,) = seen(site, "znode.changed")
    assert (view.value, changed.version) == (b"two", 1)
    site.other.delete(path)
    site.tells("znode.deleted")
    assert not view.exists
    site.other.create(path, b"three")
    (again,) = seen(site, "znode.created")
    assert created.mzxid < changed.mzxid < again.mzxid
    assert (view.value, again.version, again.after_gap) == (b"three", 0, False)


def test_a_znode_is_not_told_of_its_children(site: Site) -> None:
    """Nor the children of their data."""
    path = f"{site.base}/a"
    site.other.create(path, b"one")
    view, kids = site.zk.watch(path), site.zk.watch_children(path)
    site.other.create(f"{path}/k")
    site.tells("children.changed")
    site.other.set(f"{path}/k", b"x")
    site.other.set(path, b"two")
    site.tells("znode.changed")
    assert (view.value, kids.children) == (b"two", ("k",))


def test_what_children_come_and_go(site: Site) -> None:
    """By their names; also of a parent that comes later, goes, and comes again."""
    path = f"{site.base}/a"
    kids = site.zk.watch_children(path)
    assert (kids.exists, kids.children) == (False, ())
    with site.other.transaction() as both:
        both.create(path).create(f"{path}/k").create(f"{path}/l")
    (event,) = seen(site, "children.changed")
    assert (event.added, event.removed) == (("k", "l"), ())
    site.other.delete(f"{path}/k")
    (event,) = seen(site, "children.changed")
    assert (event.added, event.removed) == ((), ("k",))
    with site.other.transaction() as both:
        both.delete(f"{path}/l").delete(path)
    (event,) = seen(site, "children.changed")
    assert (event.added, event.removed) == ((), ("l",))
    assert not kids.exists
    site.other.create(path)
    site.other.create(f"{path}/m")
    site.wait(lambda: kids.children == ("m",), "the child of the new parent")


def test_what_one_does_itself_is_told_too(site: Site) -> None:
    """A watch fires for whoever changed it."""
    view = site.zk.watch(f"{site.base}/a")
    site.zk.create(f"{site.base}/a", b"mine")
    site.tells("znode.created")
    assert view.value == b"mine"


@pytest.mark.parametrize("expired", [False, True])
def test_what_changed_in_a_gap_is_told_once(site: Site, expired: bool) -> None:
    """After the next link, or the next session: the difference, of a gap; then watches stand again."""
    for name in ("same", "set", "gone", "anew"):
        site.other.create(f"{site.base}/{name}", b"one")
    views = {name: site.zk.watch(f"{site.base}/{name}") for name in ("same", "set", "gone", "anew", "new")}
    kids, before = site.zk.watch_children(site.base), site.zk.session.session_id
    site.cut()
    site.other.set(f"{site.base}/set", b"two")
    site.other.delete(f"{site.base}/gone")
    site.other.delete(f"{site.base}/anew")
    site.other.create(f"{site.base}/anew", b"one")
    site.other.create(f"{site.base}/new", b"one")
    if expired:
        site.expire()
        site.wait(lambda: before not in site.sessions(), "the session has ended")
    site.mend()
    told = site.told(
        *(LOST + RENEWED if expired else LOST + RESUMED),
        *("znode.changed", "znode.deleted", "znode.deleted", "znode.created", "znode.created"),
        "children.changed",
    )
    changes = [event for event in told if event.kind.startswith(("znode.", "children."))]
    assert all(event.after_gap for event in changes)
    by_name = sorted((event.path.removeprefix(site.base), event.kind) for event in changes)
    assert by_name == [
        ("", "children.changed"),
        ("/anew", "znode.created"),
        ("/anew", "znode.deleted"),
        ("/gone", "znode.deleted"),
        ("/new", "znode.created"),
        ("/set", "znode.changed"),
    ]
    assert kids.children == ("anew", "new", "same", "set")
    assert {name for name, view in views.items() if view.exists} == {"same", "set", "anew", "new"}
    site.other.set(f"{site.base}/same", b"two")
    (event,) = seen(site, "znode.changed")
    assert not event.after_gap


def test_nothing_is_told_of_what_did_not_change(site: Site) -> None:
    """A gap alone is no change."""
    site.other.create(f"{site.base}/a", b"one")
    site.zk.watch(f"{site.base}/a")
    site.zk.watch_children(f"{site.base}/a")
    site.cut()
    site.mend()
    site.tells(*LOST, *RESUMED)
    site.zk.exists("/")
    site.tells()


def test_a_watch_stands_on_the_server_until_its_view_is_closed(site: Site) -> None:
    """The last view of a path frees it; a closed view is told nothing."""
    path = f"{site.base}/a"
    site.other.create(path)
    view, kids, other = site.zk.watch(path), site.zk.watch_children(path), site.zk.watch(path)
    assert site.watched(path)
    for one in (view, kids):
        one.close()
        assert one.closed
    site.zk.exists("/")
    assert site.watched(path)
    other.close()
    site.zk.exists("/")
    assert not site.watched(path)
    site.other.set(path, b"x")
    site.zk.exists("/")
    site.tells()


def test_a_watch_goes_with_its_link(site: Site) -> None:
    """The server keeps it for nobody who may not come back; whoever does sets it again."""
    path = f"{site.base}/a"
    site.zk.watch(path)
    assert site.watched(path)
    site.cut()
    site.wait(lambda: not site.watched(path), "the server has forgotten it")
    site.mend()
    site.wait(lambda: site.watched(path), "it stands again")


def test_a_closed_view_leaves_the_others_theirs(site: Site) -> None:
    """Two views of one path: what happens after one was closed the other is told."""
    path = f"{site.base}/a"
    site.other.create(path, b"one")
    first, second = site.zk.watch(path), site.zk.watch(path)
    first.close()
    site.other.set(path, b"two")
    site.tells("znode.changed")
    assert (first.closed, second.value) == (True, b"two")
