"""What a znode's stat says, and how sequential names are counted: in memory as on a server."""

from __future__ import annotations

import pytest

from coordinator import NotEmptyError, Stat
from tests.contract.site import Site


def stat(site: Site) -> Stat:
    found = site.zk.exists(f"{site.base}/a")
    assert found is not None
    return found


def counted(site: Site) -> tuple[int, int, int, int, int]:
    """What is counted: data, children, their changes, the ACL's; and the length of the data."""
    now = stat(site)
    return now.version, now.num_children, now.cversion, now.aversion, now.data_length


def test_what_is_counted(site: Site) -> None:
    """Each write, each child that came or went; what was refused counts for nothing."""
    path = f"{site.base}/a"
    site.zk.create(path, b"one")
    assert counted(site) == (0, 0, 0, 0, 3)
    site.zk.set(path, b"three")
    site.zk.create(f"{path}/k")
    site.zk.create(f"{path}/l", ephemeral=True)
    assert counted(site) == (1, 2, 2, 0, 5)
    with pytest.raises(NotEmptyError):
        site.zk.delete(path)
    assert counted(site) == (1, 2, 2, 0, 5)
    site.zk.set(f"{path}/k", b"x")
    site.zk.delete(f"{path}/k")
    assert counted(site) == (1, 1, 3, 0, 5)
    with site.zk.transaction() as both:
        both.set(path, b"").create(f"{path}/m").delete(f"{path}/l")
    assert counted(site) == (2, 1, 5, 0, 0)


def test_which_transaction_did_it(site: Site) -> None:
    """Numbers of creation, data and children; all that one transaction does has the same."""
    path = f"{site.base}/a"
    site.zk.create(path)
    made = stat(site)
    assert made.czxid == made.mzxid == made.pzxid
    site.zk.set(path, b"x")
    changed = stat(site)
    assert (changed.czxid, changed.pzxid) == (made.czxid, made.pzxid)
    assert changed.mzxid > made.mzxid
    site.zk.create(f"{path}/k")
    parent, child = stat(site), site.zk.get(f"{path}/k").stat
    assert parent.pzxid == child.czxid > changed.mzxid == parent.mzxid
    with site.zk.transaction() as both:
        both.delete(f"{path}/k").set(path, b"y")
    after = stat(site)
    assert after.mzxid == after.pzxid > parent.pzxid
    assert after.czxid == made.czxid


def test_when_it_was_done(site: Site) -> None:
    """By the clock of the server: what is created has both times, a write changes the one."""
    path = f"{site.base}/a"
    site.zk.create(path)
    made = stat(site)
    assert made.ctime == made.mtime > 1.7e12  # milliseconds: since 1970, not since a start
    site.pass_time(0.01)

    def changed() -> bool:
        site.zk.set(path, b"x")
        return stat(site).mtime > made.mtime

    site.wait(changed, "a later time")
    assert stat(site).ctime == made.ctime


def test_numbers_of_sequential_names(site: Site) -> None:
    """A number is never given twice; children without a number count, too, and what has gone."""
    path = f"{site.base}/a"
    site.zk.create(path)

    def name(*, ephemeral: bool = False) -> str:
        return site.zk.create(f"{path}/s-", sequential=True, ephemeral=ephemeral).removeprefix(f"{path}/s-")

    assert (name(), name(ephemeral=True)) == ("0000000000", "0000000001")
    site.zk.delete(f"{path}/s-0000000001")
    site.zk.delete(f"{path}/s-0000000000")
    site.zk.create(f"{path}/plain")
    assert name() == "0000000003"
    with site.zk.transaction() as both:
        both.create(f"{path}/t-", sequential=True).create(f"{path}/s-", sequential=True)
    assert site.zk.children(path) == ("plain", "s-0000000003", "s-0000000005", "t-0000000004")
