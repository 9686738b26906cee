"""Leadership in the background, and who looks at it: in memory as on a server, in either face."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from coordinator import ClosedError, LeaseLostError, NotAQueueError, OperationTimeoutError
from coordinator.testing import eventually
from tests.contract.queues import contender, own, queue, queued, same, sit
from tests.contract.site import SHORT, Site
from tests.contract.test_matrix import LOST, RENEWED
from tests.support import in_thread


def leading(site: Site, latch: Any) -> Any:
    """Its lease: it may take time, and traffic, until that is proved."""
    site.wait(lambda: bool(latch.held), "it leads")
    return latch.lease


def end_session(site: Site) -> None:
    """Let the session end, and the next one begin."""
    before = site.zk.session.session_id
    site.cut()
    site.expire()
    site.wait(lambda: before not in site.sessions(), "the session has ended")
    site.mend()


# -- a latch


def test_it_leads_until_it_is_closed(either: Site) -> None:
    """Nobody waits for it; what it holds is a lease like any other."""
    latch = either.zk.latch(queue(either), identity="worker-1")
    lease = latch.wait()
    assert (latch.path, latch.held, latch.lease) == (queue(either), True, lease)
    assert (lease.identity, lease.held, queued(either)) == ("worker-1", True, ["worker-1"])
    assert "held, token" in repr(latch)
    latch.close()
    assert (latch.held, latch.lease, lease.held, lease.reason) == (False, None, False, "released")
    assert queued(either) == []
    assert latch.closed
    latch.close()
    with pytest.raises(ClosedError, match=f"^latch {queue(either)} was closed$"):
        latch.wait()
    with pytest.raises(ClosedError):
        latch.leader()
    either.tells("lease.acquired", "lease.released")


def test_as_a_block(either: Site) -> None:
    """It is closed at its end; it need not lead within."""
    sit(either, "holder")
    with either.zk.latch(queue(either), identity="us") as latch:
        assert queued(either) == ["holder", "us"]
        assert not latch.held
    assert queued(either) == ["holder"]


def test_who_stands_in_the_queue(either: Site) -> None:
    """As ZooKeeper has it at this moment, the leader first; what they hold is not shown."""
    latch = either.zk.latch(queue(either), identity="us", wait=False)
    either.wait(lambda: queued(either) == ["us"], "it queues")
    seats = [f"{queue(either)}/{name}" for name in either.names("q")]
    seats += [sit(either, "second"), sit(either, "third")]
    either.other.create(f"{queue(either)}/-stray")
    assert latch.members() == tuple(contender(either, seat) for seat in seats)
    assert [member.identity for member in latch.members()] == ["us", "second", "third"]
    assert latch.leader() == latch.members()[0]
    assert "second" not in repr(latch.members())
    latch.close()
    other = either.zk.latch(queue(either))
    assert other.leader().identity == "second"
    with pytest.raises(OperationTimeoutError, match=r"not begun"):
        other.leader(timeout=0)


def test_it_waits_for_its_turn(either: Site) -> None:
    """In vain it says where it stands; then it leads."""
    holder = sit(either, "holder")
    latch = either.zk.latch(queue(either))
    with pytest.raises(OperationTimeoutError) as late:
        latch.wait(0.01)
    assert str(late.value).startswith(f"latch {queue(either)} did not lead within 0.01 s: <")
    assert "second in queue, held by holder" in str(late.value)
    either.other.delete(holder)
    assert leading(either, latch).held
    assert latch.wait(0).held


def test_what_changes(either: Site) -> None:
    """The lease of the moment, None for none; it ends with the latch."""
    holder = sit(either, "holder")
    latch = either.zk.latch(queue(either))
    changes = latch.changes()
    assert next(changes) is None
    either.other.delete(holder)
    first = leading(either, latch)
    assert next(changes) == first
    either.other.delete(first.path)
    either.wait(lambda: latch.held and latch.lease != first, "it leads again")
    shown = next(changes)
    if shown is None:  # a slow reader skips what was overtaken
        shown = next(changes)
    assert shown == latch.lease
    assert shown.token > first.token
    latch.close()
    assert next(changes) is None
    assert list(changes) == []


def test_it_queues_again_after_an_expiry(either: Site) -> None:
    """Another seat, another token; its recovery is told."""
    latch = either.zk.latch(queue(either), identity="us")
    lease = latch.wait()
    either.tells("lease.acquired")
    end_session(either)
    again = leading(either, latch)
    either.tells(*LOST, "lease.lost", *RENEWED, "lease.acquired")
    assert (lease.held, lease.reason) == (False, "expired")
    assert again.token > lease.token
    assert queued(either) == ["us"]


def test_after_a_loss_the_seat_goes_before_it_queues_again(site: Site) -> None:
    """Also where its session lives on: nobody is blocked by the old one, and no token comes twice."""
    latch = site.zk.latch(queue(site), identity="us", on_suspend="revoke")
    lease = latch.wait()
    site.cut()
    site.wait(lambda: bool(lease.lost), "it is lost")
    assert (latch.held, latch.lease, lease.held) == (False, None, True)
    late = sit(site, "late")
    site.mend()
    assert lease.release()
    site.wait(lambda: queued(site) == ["late", "us"], "it stands behind who came meanwhile")
    site.other.delete(late)
    assert leading(site, latch).token > lease.token


def test_it_steps_down(either: Site) -> None:
    """Giving back its lease lets the next one lead; it queues again behind."""
    latch = either.zk.latch(queue(either), identity="us")
    lease = latch.wait()
    sit(either, "next")
    assert lease.release()
    assert (lease.held, lease.reason, latch.closed) == (False, "released", False)
    either.wait(lambda: queued(either) == ["next", "us"], "it queues again")
    assert not latch.held


@pytest.mark.parametrize("notify", [True, False])
def test_closed_with_or_without_a_word(either: Site, notify: bool) -> None:
    """`on_lost` is called for a latch that led, if it shall be."""
    told: list[Any] = []
    latch = either.zk.latch(queue(either), on_lost=own(either, told.append))
    lease = latch.wait()
    latch.close(notify=notify)
    assert lease.lost
    if notify:
        eventually(lambda: told, message="it is told")
        assert same(told[0], lease)
    either.zk.close()
    eventually(lambda: not any("on-lost" in one.name for one in threading.enumerate()))
    assert len(told) == notify


def test_told_of_each_loss(either: Site) -> None:
    """With the lease that was lost; stepping down is none."""
    told: list[Any] = []
    latch = either.zk.latch(queue(either), on_lost=own(either, lambda lease: told.append(lease.token)))
    latch.wait().release()
    tokens = []
    for _ in range(2):
        lease = leading(either, latch)
        either.other.delete(lease.path)
        tokens.append(lease.token)
        eventually(lambda: told == tokens, message="it is told")


def test_a_path_that_is_no_queue(site: Site) -> None:
    """Nothing is kept after the error; who does not wait is told by an event, and queues once it may."""
    site.other.create(queue(site), b"data")
    with pytest.raises(NotAQueueError):
        site.zk.latch(queue(site))
    site.tells("lease.failed")
    latch = site.zk.latch(queue(site), wait=False)
    (failed,) = site.told("lease.failed")
    assert (failed.path, "has data (4 bytes)" in failed.error) == (queue(site), True)
    assert failed.next_try_in > 0
    site.other.delete(queue(site))
    assert leading(site, latch).held
    assert len(queued(site)) == 1


def test_its_path_may_go(site: Site) -> None:
    """A queue that was deleted as a whole is made again."""
    latch = site.zk.latch(queue(site))
    lease = latch.wait()
    with site.other.transaction() as both:
        both.delete(lease.path).delete(queue(site))
    site.wait(lambda: latch.held and latch.lease.token > lease.token, "it leads again")
    assert len(queued(site)) == 1
    with pytest.raises(LeaseLostError):
        lease.check()


# -- who looks


def test_who_leads(either: Site) -> None:
    """Nobody, then one after the other, nobody again: of a path that is yet to come, too."""
    view = either.zk.observe(queue(either))
    changes = view.changes()
    assert (view.path, view.leader, next(changes)) == (queue(either), None, None)
    assert "no leader" in repr(view)
    seats = [sit(either, identity) for identity in ("one", "two", "two")]
    either.wait(lambda: view.leader is not None and view.leader.path == seats[0], "the first leads")
    assert view.leader == contender(either, seats[0])
    assert view.wait(0) == view.leader == next(changes)
    assert "led by one" in repr(view)
    tokens = []
    for seat in seats:
        leader = contender(either, seat)
        tokens.append(leader.token)
        either.wait(lambda: view.leader == leader, "the next one leads")  # noqa: B023 -- waited for here
        either.other.delete(seat)
    either.wait(lambda: view.leader is None, "nobody leads")
    told = [(one.leader, one.token, one.previous) for one in either.told(*["leader.changed"] * 4)]
    one, two, three = tokens
    assert told == [
        ("one", one, None),
        ("two", two, "one"),
        ("two", three, "two"),
        (None, 0, "two"),
    ]
    view.close()
    assert list(changes)[-1:] in ([None], [])
    either.tells()


def test_waiting_for_a_leader(either: Site) -> None:
    """In vain; then not."""
    with either.zk.observe(queue(either)) as view:
        with pytest.raises(OperationTimeoutError, match=f"^observe {queue(either)}: nobody leads within"):
            view.wait(0.01)
        sit(either, "one")
        either.wait(lambda: view.leader is not None, "one leads")
        assert view.wait().identity == "one"
    empty = either.zk.observe(f"{either.base}/empty", wait=False)
    empty.close()
    with pytest.raises(ClosedError, match=f"^observe {either.base}/empty was closed$"):
        empty.wait(SHORT)


def test_nobody_is_shown_before_it_was_looked(either: Site) -> None:
    """That nobody leads is a finding; what is not known yet is not shown."""
    sit(either, "one")
    either.hold(down=True)
    view = either.zk.observe(queue(either), wait=False)
    shown = in_thread(lambda: next(view.changes()))
    either.mend()
    assert shown().identity == "one"
    view.close()


def test_our_own_leadership_is_seen(either: Site) -> None:
    """As anybody else's, with the token of the lease."""
    view = either.zk.observe(queue(either))
    with either.zk.lead(queue(either), identity="us") as lease:
        either.wait(lambda: view.leader is not None, "we lead")
        assert (view.leader.identity, view.leader.token) == ("us", lease.token)
    either.wait(lambda: view.leader is None, "nobody leads")


@pytest.mark.parametrize("expired", [False, True])
def test_what_changed_in_a_gap_is_seen(site: Site, expired: bool) -> None:
    """The one who leads now, after the next link or the next session."""
    first, second = sit(site, "one"), sit(site, "two")
    view = site.zk.observe(queue(site))
    assert view.leader.identity == "one"
    if expired:
        site.other.delete(first)
        end_session(site)
    else:
        site.cut()
        site.other.delete(first)
        site.mend()
    site.wait(lambda: view.leader is not None and view.leader.path == second, "the next one leads")
    site.other.delete(second)
    site.wait(lambda: view.leader is None, "it is watched again")


def test_curators_leader(site: Site) -> None:
    """The queue of a LeaderLatch; that of kazoo's Lock is another."""
    seat = sit(site, "java", "curator-latch")
    view = site.zk.observe(queue(site), dialect="curator")
    assert view.leader == contender(site, seat)
    assert site.zk.observe(queue(site)).leader is None
    latch = site.zk.latch(queue(site), dialect="curator", identity="python")
    assert latch.leader().identity == "java"
    site.other.delete(seat)
    assert leading(site, latch).identity == "python"


def test_its_watch_goes_with_it(site: Site) -> None:
    """The server watches nothing for a view that was closed."""
    seat = sit(site, "one")
    view = site.zk.observe(queue(site))
    assert site.watched(seat)
    view.close()
    site.zk.exists("/")
    assert not site.watched(seat)
