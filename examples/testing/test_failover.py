"""What becomes of callers and instances when sessions end, links break and servers die.

pip install 'coordinator[testing]'; pytest examples/testing
"""

import pytest
from directory import Directory
from kazoo.client import KazooClient

from coordinator import ChildrenChanged, Coordinator, EphemeralRecreated, SessionResumed, SessionSuspended
from coordinator.testing import Faults

LONG = 20.0
"""Seconds that nothing here takes, even on a busy machine."""


def test_nobody_serves(payments: Directory) -> None:
    """It says so."""
    with pytest.raises(LookupError, match="nobody serves /services/payments"):
        payments.pick()


def test_callers_leave_an_instance_that_is_cut_off(
    payments: Directory, caller: Coordinator, faults: Faults
) -> None:
    """It goes with its session, and is back with the next one; nobody has to do anything."""
    others = Directory(caller, "payments")
    changes = caller.events(ChildrenChanged)
    payments.announce("10.0.0.1:8443")
    assert changes.next(LONG).added == ("10.0.0.1:8443",)
    others.announce("10.0.0.2:8443")
    assert changes.next(LONG).added == ("10.0.0.2:8443",)
    assert {others.pick(), others.pick()} == {"10.0.0.1:8443", "10.0.0.2:8443"}
    with faults.blackhole():
        assert changes.next(LONG).removed == ("10.0.0.1:8443",)
        assert {others.pick(), others.pick()} == {"10.0.0.2:8443"}
    assert changes.next(LONG).added == ("10.0.0.1:8443",)


def test_an_expiry_is_mended(
    payments: Directory, coordinator: Coordinator, faults: Faults, zookeeper_client: KazooClient
) -> None:
    """The session ends for certain; the instance is there again, as a plain client sees it."""
    payments.announce("10.0.0.1:8443")
    back = coordinator.events(EphemeralRecreated)
    faults.expire()
    assert back.next(LONG).path == "/services/payments/10.0.0.1:8443"
    zookeeper_client.sync("/services/payments")
    assert zookeeper_client.get_children("/services/payments") == ["10.0.0.1:8443"]


def test_the_last_known_instances_outlive_an_outage(
    payments: Directory, coordinator: Coordinator, faults: Faults
) -> None:
    """While ZooKeeper is away, callers use what they knew; the session survives."""
    changes = coordinator.events(ChildrenChanged)
    payments.announce("10.0.0.1:8443")
    changes.next(LONG)
    news = coordinator.events(SessionSuspended, SessionResumed)
    before = coordinator.session.session_id
    with faults.refuse():
        faults.cut()
        assert isinstance(news.next(LONG), SessionSuspended)
        assert payments.pick() == "10.0.0.1:8443"
    assert isinstance(news.next(LONG), SessionResumed)
    assert coordinator.session.session_id == before
