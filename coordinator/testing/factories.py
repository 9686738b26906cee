"""Makers of pytest fixtures: one for each fixture of the plugin, to have more with other settings.

::

    from coordinator.testing import factories

    secured = factories.zookeeper(sasl_users={"bob": "secret"})
    secured_chroot = factories.zookeeper_chroot("secured")

A factory takes the names of the fixtures that its own builds on, as text, and settings; the name
that its result is given is the fixture's name. What is not given is found in the command line,
the ini file and the environment (`selection`).

This module must import neither Docker, kazoo nor pydantic: pytest loads it in every project.
What a fixture needs is imported when a test asks for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Unpack, cast

import pytest

from coordinator.errors import CoordinatorError, MissingExtraError
from coordinator.testing.selection import select

if TYPE_CHECKING:
    from kazoo.client import KazooClient

    from coordinator import AsyncCoordinator, Coordinator
    from coordinator.testing.ensemble import ZooKeeperEnsemble
    from coordinator.testing.faults import Faults
    from coordinator.testing.options import ServerOptions
    from coordinator.testing.provision import Kind
    from coordinator.testing.server import ZooKeeperServer

__all__ = [
    "REFUSED",
    "SERVED",
    "async_coordinator",
    "coordinator",
    "faults",
    "zookeeper",
    "zookeeper_chroot",
    "zookeeper_client",
    "zookeeper_ensemble",
    "zookeeper_no_leaks",
]

Scope = Literal["session", "package", "module", "class", "function"]
P = ParamSpec("P")

#: What the servers of this run are, by the names of their fixtures.
SERVED = pytest.StashKey[dict[str, str]]()
#: Whether a test minds what is left in its chroot.
MINDED = pytest.StashKey[bool]()
#: What the reason begins with for which a test cannot have its fixture.
REFUSED = "fixture refused: "
#: Seconds; short enough to wait for an expiry, long enough for a machine that runs other tests, too.
SESSION_TIMEOUT = 4.0
#: What a server that is there already may lack without a test noticing.
INDIFFERENT = frozenset({"tick", "image", "home", "jvm_flags"})


def zookeeper(
    *,
    hosts: str | None = None,
    kind: Kind | None = None,
    scope: Scope = "session",
    **options: Unpack[ServerOptions],
) -> Any:
    """Make a fixture: a server.

    Args:
        hosts: one that runs already.
        kind: ``container`` or ``process``.
        scope: how long it lives.
        options: see `ServerOptions`. Where they cannot be had, because a server that runs is to
            be used, the tests fail and say so; only tick, image, home and jvm_flags do not matter.
    """

    @pytest.fixture(scope=scope)
    def zookeeper(request: pytest.FixtureRequest) -> Iterator[ZooKeeperServer]:
        """A ZooKeeper server, the same for all tests of this process: a container, a process, or yours."""
        from coordinator.testing.provision import provide

        with ExitStack() as life:
            with _in_one_line():
                chosen = select(request.config, {"hosts": hosts, "kind": kind, **options})
                if chosen.hosts:
                    _check_indifferent(request.fixturename or "", chosen.said_by["hosts"], options)
                    server = provide(chosen.hosts)
                else:
                    server = provide(kind=chosen.kind, **_joined(options, chosen.options))
                life.enter_context(server)
            _note(request, server.origin, server.version)
            yield server

    return zookeeper


def zookeeper_ensemble(
    size: int = 3,
    *,
    kind: Kind | None = None,
    scope: Scope = "session",
    quorum_links: bool = True,
    dynamic: bool = False,
    **options: Unpack[ServerOptions],
) -> Any:
    """Make a fixture: an ensemble. It is always our own: ``--zookeeper HOSTS`` does not matter.

    Args:
        size: how many servers.
        kind: ``container`` or ``process``.
        scope: how long it lives.
        quorum_links: the links between its servers can be broken; not with ``dynamic``.
        dynamic: servers can be added and removed.
        options: see `ServerOptions`.
    """

    @pytest.fixture(scope=scope)
    def zookeeper_ensemble(request: pytest.FixtureRequest) -> Iterator[ZooKeeperEnsemble]:
        """Three ZooKeeper servers that elect a leader, the same for all tests of this process."""
        from coordinator.testing.ensemble import ZooKeeperEnsemble
        from coordinator.testing.provision import choose

        with ExitStack() as life:
            with _in_one_line():
                chosen = select(request.config, {"kind": kind, **options})
                told = _joined(options, chosen.options)
                way = choose(chosen.kind, image=told.get("image"), home=told.get("home"))
                links = quorum_links and not dynamic
                ensemble = ZooKeeperEnsemble(size, kind=way, dynamic=dynamic, quorum_links=links, **told)
                life.enter_context(ensemble)
            _note(request, ensemble.origin, ensemble.nodes[0].version)
            yield ensemble

    return zookeeper_ensemble


def zookeeper_chroot(zookeeper: str = "zookeeper", **options: Any) -> Any:
    """Make a fixture: a path of the test's own.

    Args:
        zookeeper: the fixture that is the server, or the ensemble.
        options: what the KazooClient takes that makes and removes it, where a server demands more
            than a connection, such as ``sasl_options``.
    """

    @pytest.fixture
    @_asking("request", zookeeper)
    def zookeeper_chroot(
        request: pytest.FixtureRequest, server: ZooKeeperServer | ZooKeeperEnsemble
    ) -> Iterator[str]:
        """A path such as ``/coordinator-gw0-1f3c...``, fresh for each test, removed afterwards."""
        from coordinator.testing.chroot import fresh_chroot

        with ExitStack() as life:
            with _in_one_line():
                path = life.enter_context(fresh_chroot(server, **options))
            yield path
            if request.node.stash.get(MINDED, False):  # here all clients of the fixtures have ended
                _check_no_leaks(server, path)

    return zookeeper_chroot


def zookeeper_no_leaks(zookeeper_chroot: str = "zookeeper_chroot") -> Any:
    """Make a fixture: a look at what is left in a test's path.

    Args:
        zookeeper_chroot: the fixture that is the test's path.
    """

    @pytest.fixture
    @_asking("request", zookeeper_chroot)
    def zookeeper_no_leaks(request: pytest.FixtureRequest, _chroot: str) -> Iterator[None]:
        """Fail the test if ephemerals or watches are left in its chroot when its clients have ended."""
        # Whoever made clients before this fixture closes them after it: the chroot, on which they
        # all build, outlives them.
        request.node.stash[MINDED] = True
        yield  # noqa: PT022 -- what _asking makes is a generator

    return zookeeper_no_leaks


def faults(zookeeper: str = "zookeeper", zookeeper_chroot: str = "zookeeper_chroot") -> Any:
    """Make a fixture: faults for a server or an ensemble.

    Args:
        zookeeper: the fixture that is the server, or the ensemble.
        zookeeper_chroot: the fixture that is the test's path; it is removed after all is mended.
    """

    @pytest.fixture
    @_asking(zookeeper, zookeeper_chroot)
    def faults(server: ZooKeeperServer | ZooKeeperEnsemble, _chroot: str) -> Iterator[Faults]:
        """Faults for server and clients: expire, cut, blackhole, freeze, kill, ...; mended afterwards."""
        from coordinator.testing.faults import Faults

        with Faults(server) as made:
            yield made

    return faults


def coordinator(faults: str = "faults", zookeeper_chroot: str = "zookeeper_chroot", **settings: Any) -> Any:
    """Make a fixture: a coordinator.

    Args:
        faults: the fixture that it connects through; ``faults.expire()`` ends its session.
        zookeeper_chroot: the fixture that is its chroot.
        settings: what Coordinator takes; ``session_timeout`` is 4 s unless given.
    """

    @pytest.fixture
    @_asking(faults, zookeeper_chroot)
    def coordinator(through: Faults, chroot: str) -> Iterator[Coordinator]:
        """A started Coordinator in a chroot of its own, behind ``faults``."""
        from coordinator import Coordinator

        with ExitStack() as life:
            with _in_one_line():
                place = through.hosts + chroot
                zk = life.enter_context(
                    Coordinator(place, **{"session_timeout": SESSION_TIMEOUT, **settings})
                )
            life.callback(_mend, through)
            through.know(zk)
            yield zk

    return coordinator


def async_coordinator(
    faults: str = "faults",
    zookeeper_chroot: str = "zookeeper_chroot",
    *,
    loop_scope: Scope | None = None,
    **settings: Any,
) -> Any:
    """Make a fixture of pytest-asyncio: a coordinator in the event loop of the test.

    Args:
        faults: the fixture that it connects through; ``faults.expire()`` ends its session.
        zookeeper_chroot: the fixture that is its chroot.
        loop_scope: in which loop it lives, as pytest-asyncio has it; that of the test.
        settings: what AsyncCoordinator takes; ``session_timeout`` is 4 s unless given.
    """
    if find_spec("pytest_asyncio") is None:

        @pytest.fixture
        def without_asyncio() -> None:
            """A started AsyncCoordinator; needs pytest-asyncio, which is not installed."""
            pytest.fail(str(MissingExtraError("testing")), pytrace=False)

        return without_asyncio

    import pytest_asyncio

    @pytest_asyncio.fixture(loop_scope=loop_scope)
    @_asking(faults, zookeeper_chroot)
    async def async_coordinator(through: Faults, chroot: str) -> AsyncIterator[AsyncCoordinator]:
        """A started AsyncCoordinator in a chroot of its own, behind ``faults``; needs pytest-asyncio."""
        from coordinator import AsyncCoordinator

        with _in_one_line():
            place = through.hosts + chroot
            zk = AsyncCoordinator(place, **{"session_timeout": SESSION_TIMEOUT, **settings})
            await zk.start()
        through.know(zk)
        try:
            yield zk
        finally:
            try:
                _mend(through)
            finally:
                await zk.close()

    return async_coordinator


def zookeeper_client(
    zookeeper: str = "zookeeper",
    zookeeper_chroot: str = "zookeeper_chroot",
    *,
    faults: str | None = None,
    **options: Any,
) -> Any:
    """Make a fixture: a plain kazoo client.

    Args:
        zookeeper: the fixture that is the server, or the ensemble.
        zookeeper_chroot: the fixture that is its chroot.
        faults: the fixture that it connects through; unless given, it is at the server, where no
            fault of the wire reaches it.
        options: what KazooClient takes; unless given, it tries without end to connect again.
    """

    @pytest.fixture
    @_asking(zookeeper, zookeeper_chroot, *([faults] if faults else []))
    def zookeeper_client(
        server: ZooKeeperServer | ZooKeeperEnsemble, chroot: str, through: Faults | None = None
    ) -> Iterator[KazooClient]:
        """A plain kazoo client in the test's chroot, directly at the server: what others see."""
        from coordinator.testing.chroot import plain_client, revive

        place = through.hosts + chroot if through is not None else server.hosts + chroot
        with plain_client(place, **options) as client:
            if through is not None:
                through.know(client)
            try:
                yield client
            finally:
                if through is not None:
                    through.mend()
                revive(server)

    return zookeeper_client


def _asking(*fixtures: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have the parameters of a fixture filled, in their order, by the fixtures of these names."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        named: Callable[..., Any]
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def named(**given: Any) -> AsyncIterator[Any]:
                async for value in function(*(given[name] for name in fixtures)):
                    yield value

        else:

            @functools.wraps(function)
            def named(**given: Any) -> Iterator[Any]:
                yield from function(*(given[name] for name in fixtures))

        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in fixtures]
        cast("Any", named).__signature__ = inspect.Signature(parameters)  # where pytest looks for names
        return named

    return decorate


def _mend(through: Faults) -> None:
    """Before a client ends: over a link that works, to a server that serves, that is quick and certain."""
    from coordinator.testing.chroot import revive

    through.mend()
    revive(through.target)


def _joined(given: ServerOptions, found: ServerOptions) -> ServerOptions:
    return cast("ServerOptions", {**given, **found})


def _check_indifferent(fixture: str, said_by: str, options: ServerOptions) -> None:
    from coordinator.errors import ConfigurationError

    if wanted := sorted(set(options) - INDIFFERENT):
        raise ConfigurationError(
            f"fixture {fixture} needs a server of its own, with {', '.join(wanted)}, but {said_by} names one "
            "that runs; make it with kind='container' or 'process'"
        )


def _note(request: pytest.FixtureRequest, origin: str, version: str) -> None:
    name = request.fixturename or ""
    request.config.stash.setdefault(SERVED, {})[name] = f"{origin}, ZooKeeper {version}"


def _check_no_leaks(server: ZooKeeperServer | ZooKeeperEnsemble, chroot: str) -> None:
    from coordinator.testing.chroot import base_of, revive
    from coordinator.testing.residue import assert_no_leaks

    revive(server)
    try:
        assert_no_leaks(server, below=base_of(server) + chroot)
    except (AssertionError, CoordinatorError) as left:
        raise pytest.fail.Exception(str(left), pytrace=False) from None


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Fail with what an error of ours says, without the way to it through the kit."""
    try:
        yield
    except CoordinatorError as error:
        raise pytest.fail.Exception(f"{REFUSED}{error}", pytrace=False) from None
