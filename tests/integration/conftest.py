"""What tests of queues have besides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from tests.support import new_place


@pytest.fixture
def place(observer: KazooClient) -> Iterator[str]:
    """A path for a queue; nobody may be left there."""
    path = new_place()
    yield path
    assert observer.get_children(path) == []
    observer.delete(path)
