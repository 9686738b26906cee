"""Whose an ephemeral is, and what becomes of it: in memory as on a server."""

from __future__ import annotations

import pytest

from tests.contract.site import Site
from tests.contract.test_matrix import LOST, RENEWED, RESUMED

RECREATED = (*RENEWED, "ephemeral.recreated")


def end_session(site: Site) -> None:
    before = site.zk.session.session_id
    site.expire()
    site.wait(lambda: before not in site.sessions(), "the session has ended")


def test_it_goes_with_its_session_and_comes_with_the_next(site: Site) -> None:
    """Gone at the moment of the expiry, back under the new session, with its data."""
    worker = site.zk.ephemeral(f"{site.base}/w", b"here")
    site.tells("ephemeral.created")
    first, before = worker.czxid, site.zk.session.session_id
    site.cut()
    assert site.look("w") == (b"here", "mine", 0)
    end_session(site)
    assert site.look("w") is None
    site.mend()
    site.tells(*LOST, *RECREATED)
    assert site.look("w") == (b"here", "mine", 0)
    assert worker.czxid > first
    assert site.zk.session.session_id != before


def test_a_resumed_session_keeps_it(site: Site) -> None:
    """The very znode: nobody was told that it went."""
    worker = site.zk.ephemeral(f"{site.base}/w", b"here")
    site.tells("ephemeral.created")
    first = worker.czxid
    site.cut()
    site.mend()
    site.tells(*LOST, *RESUMED)
    site.zk.exists("/")
    assert (worker.present, worker.czxid) == (True, first)


def test_a_foreign_one_is_waited_for(site: Site) -> None:
    """It is left alone; when its session has ended, ours comes."""
    with site.connect() as rival:
        rival.create(f"{site.base}/w", b"theirs", ephemeral=True)
        worker = site.zk.ephemeral(f"{site.base}/w", b"mine")
        site.tells("ephemeral.conflict")
        assert worker.rival == rival.session.session_id
        assert site.look("w") == (b"theirs", "theirs", 0)
    site.tells("ephemeral.created")
    assert site.look("w") == (b"mine", "mine", 0)
    assert worker.rival is None


def test_a_znode_that_is_not_ephemeral_is_nobodys(site: Site) -> None:
    """It is left alone as well, until somebody deletes it."""
    site.other.create(f"{site.base}/w", b"theirs")
    worker = site.zk.ephemeral(f"{site.base}/w", b"mine")
    site.tells("ephemeral.conflict")
    assert (worker.present, worker.rival) == (False, 0)
    site.other.delete(f"{site.base}/w")
    site.tells("ephemeral.created")


def test_somebody_takes_the_place_in_a_gap(site: Site) -> None:
    """After an expiry another was faster: a conflict, and what is there is not touched."""
    worker = site.zk.ephemeral(f"{site.base}/w", b"mine")
    site.tells("ephemeral.created")
    site.cut()
    end_session(site)
    site.other.create(f"{site.base}/w", b"theirs", ephemeral=True)
    site.mend()
    site.tells(*LOST, *RENEWED, "ephemeral.conflict")
    assert site.look("w") == (b"theirs", "theirs", 0)
    assert worker.rival == site.other.session.session_id


def test_deleted_by_somebody_it_comes_again(site: Site) -> None:
    """After a pause, and both are told."""
    site.zk.ephemeral(f"{site.base}/w", b"mine")
    site.tells("ephemeral.created")
    site.other.delete(f"{site.base}/w")
    site.wait(lambda: site.look("w") is not None, "it is back")
    site.tells("ephemeral.removed", "ephemeral.recreated")


def test_withdrawn_it_is_free(site: Site) -> None:
    """For anybody, at once; what comes there then is not ours to delete."""
    worker = site.zk.ephemeral(f"{site.base}/w", b"mine")
    worker.close()
    site.other.create(f"{site.base}/w", b"theirs")
    worker.close()
    site.tells("ephemeral.created", "ephemeral.removed")
    assert site.look("w") == (b"theirs", "", 0)


def test_changed_by_somebody_it_is_written_again(site: Site) -> None:
    """Its data is what its owner says."""
    site.zk.ephemeral(f"{site.base}/w", b"mine")
    site.other.set(f"{site.base}/w", b"theirs")
    site.wait(lambda: site.look("w") == (b"mine", "mine", 2), "it is ours again")


def test_it_ends_with_the_coordinator(site: Site) -> None:
    """close() ends the session, and it at once."""
    site.zk.ephemeral(f"{site.base}/w")
    before = site.zk.session.session_id
    site.zk.close()
    assert site.look("w") is None
    assert before not in site.sessions()


@pytest.mark.parametrize("sequential", [False, True])
def test_a_plain_ephemeral_is_not_kept(site: Site, sequential: bool) -> None:
    """create(ephemeral=True) ends with the session, for good."""
    path = site.zk.create(f"{site.base}/w", ephemeral=True, sequential=sequential)
    site.cut()
    end_session(site)
    site.mend()
    site.tells(*LOST, *RENEWED)
    assert site.other.exists(path) is None


def test_applied_and_undone_with_its_session(site: Site) -> None:
    """The create was carried out, its answer lost, and the session has ended since: it is done once more.

    What the owner tells comes too late: nothing is there any more, so that it is created now.
    """
    site.hold(down=True)
    call = site.begin(lambda: site.zk.create(f"{site.base}/w", b"v", ephemeral=True), "sent")
    site.wait(lambda: site.look("w") is not None, "it was carried out")
    site.cut()
    end_session(site)
    site.mend()
    assert call.value() == f"{site.base}/w"
    site.tells(*LOST, *RENEWED)
    assert site.look("w") == (b"v", "mine", 0)
