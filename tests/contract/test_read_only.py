"""Without a quorum: every operation that reads is answered, every one that writes is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator import Coordinator, OperationTimeoutError, ReadOnlyError
from coordinator.testing import ZooKeeperEnsemble, eventually
from coordinator.testing.memory import MemoryEnsemble
from tests.contract.matrix import NEW

READS = {
    "get": lambda zk: zk.get("/a").value,
    "exists": lambda zk: zk.exists("/a").data_length,
    "children": lambda zk: zk.children("/a"),
    "watch": lambda zk: zk.watch("/a").value,
    "watch_children": lambda zk: zk.watch_children("/a").children,
    "observe": lambda zk: zk.observe("/a").leader,
    "latch leader": lambda zk: zk.latch("/a", wait=False).leader(),
    "latch members": lambda zk: zk.latch("/a", wait=False).members(),
}
WRITES = {
    "create": lambda zk: zk.create("/b"),
    "create ephemeral": lambda zk: zk.create("/b", ephemeral=True),
    "create sequential": lambda zk: zk.create("/b", sequential=True),
    "create ephemeral sequential": lambda zk: zk.create("/b", ephemeral=True, sequential=True),
    "create parents": lambda zk: zk.create("/b/c", parents=True),
    "create acl": lambda zk: zk.create("/b", acl="open"),
    "set": lambda zk: zk.set("/a", NEW),
    "delete": lambda zk: zk.delete("/none"),
    "transaction create": lambda zk: zk.transaction().create("/b").commit(),
    "transaction set": lambda zk: zk.transaction().set("/a", NEW).commit(),
    "transaction delete": lambda zk: zk.transaction().delete("/a").commit(),
    "transaction check": lambda zk: zk.transaction().check("/a").commit(),
}
WAITING = (
    *("ephemeral", "ephemeral set", "ephemeral close"),
    *("lock acquire", "lock release", "lease release", "campaign", "hold", "resign", "latch", "latch close"),
)
"""What waits for a session that may write; it is never refused for want of one."""


@pytest.fixture(scope="module")
def lonely() -> Iterator[ZooKeeperEnsemble]:
    """Two servers, of which one has gone: the other reads, for those who would have that."""
    config = {"localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"}
    with ZooKeeperEnsemble(2, tick=0.1, config=config, properties={"readonlymode.enabled": "true"}) as two:
        with Coordinator(two.hosts) as zk:
            zk.create("/a", b"old")
            zk.create("/a/k")
        two.nodes[1].kill()
        yield two


@pytest.fixture(params=["memory", "real"])
def zk(request: pytest.FixtureRequest) -> Iterator[Coordinator]:
    """A coordinator with a read-only session."""
    if request.param == "real":
        two = request.getfixturevalue("lonely")
        with Coordinator(two.nodes[0].hosts, read_only=True, start_timeout=30.0) as reader:
            eventually(lambda: reader.session.read_only, message="it only reads")
            yield reader
        return
    with MemoryEnsemble() as memory:
        with memory.coordinator() as writer:
            writer.create("/a", b"old")
            writer.create("/a/k")
        memory.lose_quorum()
        with memory.coordinator(read_only=True) as reader:
            yield reader


def test_reads_are_answered(zk: Coordinator) -> None:
    """From what the server knows."""
    assert {name: read(zk) for name, read in READS.items()} == {
        "get": b"old",
        "exists": 3,
        "children": ("k",),
        "watch": b"old",
        "watch_children": ("k",),
        "observe": None,
        "latch leader": None,
        "latch members": (),
    }


@pytest.mark.parametrize("name", WRITES)
def test_writes_are_refused(zk: Coordinator, name: str) -> None:
    """Certainly, whatever they would have come to; another server may do it later."""
    with pytest.raises(ReadOnlyError) as refused:
        WRITES[name](zk)
    assert (refused.value.ambiguous, refused.value.retryable) == (False, True)


def test_what_is_kept_waits(zk: Coordinator) -> None:
    """It is not refused: it comes with the next session that may write."""
    handle, latch = zk.ephemeral("/e", wait=False), zk.latch("/q", wait=False)
    with pytest.raises(OperationTimeoutError):
        handle.wait_present(0.05)
    with pytest.raises(OperationTimeoutError):
        latch.wait(0.05)
    assert not handle.present
    assert zk.exists("/q") is None
