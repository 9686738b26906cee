"""Each promise is tried twice: in memory, and on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.site import Site, opened


@pytest.fixture(params=["memory", "real"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A coordinator with faults on its way, in a place of its own."""
    with opened(request.param, lambda: request.getfixturevalue("zookeeper")) as place:
        yield place


@pytest.fixture(params=["memory-blocking", "memory-asyncio", "real-blocking", "real-asyncio"])
def either(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The same, for both faces."""
    kind, face = request.param.split("-")
    with opened(kind, lambda: request.getfixturevalue("zookeeper"), face) as place:
        yield place
