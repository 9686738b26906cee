"""What both coordinators have in common: how they are made, what they show, what they prepare.

None of it waits; ``Coordinator`` (client.py) and ``AsyncCoordinator`` (aio.py) add that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, TypeVar

from coordinator.contending import Candidature, candidature, dialect_of, queue_path
from coordinator.core.layout import check_path, deletable
from coordinator.core.requests import Create
from coordinator.core.seats import Dialect
from coordinator.engine.adoption import settings_of
from coordinator.engine.engine import Engine
from coordinator.engine.wiring import KazooWiring, Wiring
from coordinator.errors import ClosedError, ConfigurationError, DuplicateEphemeralError, MissingChrootError
from coordinator.events import BaseEvent
from coordinator.handles import ChildrenViewHandle, EphemeralHandle, Handle, ZnodeViewHandle
from coordinator.models import ACL, SessionInfo, Stats
from coordinator.payload import check_model, encode
from coordinator.questions import Question, Questions
from coordinator.security import TLS, AccessWord, Auth, Sasl
from coordinator.settings import Settings

EphemeralT = TypeVar("EphemeralT", bound=EphemeralHandle)
ZnodeViewT = TypeVar("ZnodeViewT", bound=ZnodeViewHandle[Any])
ChildrenViewT = TypeVar("ChildrenViewT", bound=ChildrenViewHandle)

NOT_STARTED = "the coordinator is not started: use it in a with statement, or call start()"


class Face:
    """A coordinator, but for whatever waits."""

    def __init__(
        self,
        hosts: str | Settings | None = None,
        *,
        session_timeout: float | None = None,
        start_timeout: float | None = None,
        operation_timeout: float | None = None,
        connect_timeout: float | None = None,
        retry_first_delay: float | None = None,
        retry_max_delay: float | None = None,
        tick_time: float | None = None,
        read_only: bool | None = None,
        follow_reconfig: bool | None = None,
        auth: Auth | str | Sequence[Auth | str] | None = None,
        tls: TLS | bool | None = None,
        sasl: Sasl | None = None,
        acl: AccessWord | Sequence[ACL] | None = None,
    ) -> None:
        given = {
            "session_timeout": session_timeout,
            "start_timeout": start_timeout,
            "operation_timeout": operation_timeout,
            "connect_timeout": connect_timeout,
            "retry_first_delay": retry_first_delay,
            "retry_max_delay": retry_max_delay,
            "tick_time": tick_time,
            "read_only": read_only,
            "follow_reconfig": follow_reconfig,
            "auth": auth,
            "tls": tls,
            "sasl": sasl,
            "acl": acl,
        }
        if isinstance(hosts, Settings):
            if any(value is not None for value in given.values()):
                raise ConfigurationError("give either Settings or single arguments, not both")
            self._set_up(hosts)
        else:
            self._set_up(Settings.make(hosts=hosts, **given))

    def _set_up(self, settings: Settings, *, client: object = None, wiring: Wiring | None = None) -> None:
        self.settings = settings
        self._engine = Engine(settings, wiring or KazooWiring(client))
        # Who the owner of an adopted client says to be is his own business; the server knows.
        self._questions = Questions(
            settings, identified=settings.identified or client is not None, clock=self._engine.clock
        )
        self._started = False
        self._closed = False
        self._handlers: list[Any] = []

    @classmethod
    def adopt(
        cls, client: Any, *, start_timeout: float | None = None, operation_timeout: float | None = None
    ) -> Self:
        """Work on the session of a kazoo client that somebody else owns.

        ::

            client = KazooClient("zk1:2181", handler=coordinator.KazooHandler())
            client.start()
            with Coordinator.adopt(client) as zk:
                zk.ephemeral("/workers/w-1")

        Its owner starts and stops it, before or after; hosts, chroot, session timeout,
        credentials and TLS are its own. If he stops it, or it ends by itself, that is told
        as ``session.closed``, and this coordinator is at its end. Closing it leaves the
        client and its session running: what was kept is withdrawn, ephemerals and watches.

        Args:
            client: built with ``handler=coordinator.KazooHandler()``.
            start_timeout: seconds that ``start()`` waits for a session; 0: it does not.
            operation_timeout: seconds until a call without a ``timeout`` of its own gives up.

        Raises:
            ConfigurationError: it has another handler; or a coordinator works on it
                already: one for each client.
        """
        settings = settings_of(client, start_timeout=start_timeout, operation_timeout=operation_timeout)
        adopted = cls.__new__(cls)
        adopted._set_up(settings, client=client)
        return adopted

    @classmethod
    def _wired(cls, settings: Settings, wiring: Wiring) -> Self:
        """Return one that stands on another clock, inbox and port: for ``coordinator.testing.memory``."""
        wired = cls.__new__(cls)
        wired._set_up(settings, wiring=wiring)
        return wired

    def __repr__(self) -> str:
        told = f"of process {self._engine.pid}" if self._engine.forked else repr(self.session)
        hosts = self.settings.hosts if self._engine.forked else self.hosts
        return f"<{type(self).__name__} {hosts} {told}>"

    # -- which servers

    @property
    def hosts(self) -> str:
        """The servers that are tried now, with the chroot; ``settings.hosts`` is how it began."""
        return self._engine.hosts

    def set_hosts(self, hosts: str) -> None:
        """Use other servers of the same ensemble from now on; never waits.

        An attempt or a pause that is under way ends, and the new ones are tried at once. A
        link to a server that is not among them is left for one of them as soon as one was
        seen to serve: the session goes on, after ``session.suspended`` and
        ``session.resumed``. With ``follow_reconfig`` they stay until the next change of the
        ensemble. Told as ``ensemble.changed``; the same servers again are no change.

        Args:
            hosts: ``host:port,host:port``; a chroot only if it is the present one.

        Raises:
            ConfigurationError: they are malformed, or name another chroot.
            ClosedError: it was closed before.
        """
        self._engine.check_process()
        servers = self.settings.changed_hosts(hosts)
        if self._closed or self._engine.over:
            raise ClosedError
        self._engine.set_hosts(servers)

    # -- what is known

    @property
    def session(self) -> SessionInfo:
        """The session as this moment knows it; never waits."""
        return self._engine.session

    @property
    def stats(self) -> Stats:
        """Counts of what the events told, over the life and over the last hour."""
        return self._engine.stats

    @property
    def kazoo(self) -> Any:
        """Kazoo's client below, for everything that is not here.

        Do not stop it. After its thread has ended by a fault it is replaced by another
        one, on the same session: ask for it anew instead of keeping it.
        """
        return self._engine.client

    # -- what is prepared

    def _new_ephemeral(
        self,
        kind: Callable[..., EphemeralT],
        path: str,
        value: object,
        *,
        acl: AccessWord | Sequence[ACL] | None,
        on_conflict: Literal["wait", "fail"],
        model: Any,
        wait: bool,
        timeout: float | None,
    ) -> tuple[EphemeralT, Question[None]]:
        deletable(path)
        if on_conflict not in ("wait", "fail"):
            raise ConfigurationError(f'on_conflict is "wait" or "fail", got {on_conflict!r}')
        if on_conflict == "fail" and not wait:
            raise ConfigurationError('on_conflict="fail" raises, so that it needs wait=True')
        data, acls = encode(value, model), self._questions.acl(acl)
        self._questions.sized(Create(path, data, ephemeral=True, acl=acls))
        self._check_open()
        self._questions.limit(timeout)
        if not self._engine.claim(path):
            raise DuplicateEphemeralError(f"this coordinator keeps an ephemeral at {path} already")
        handle = kind(
            self._engine,
            self._questions,
            path,
            data,
            acl=acls,
            parents_acl=self._questions.acl(),
            on_conflict=on_conflict,
            model=model,
        )
        return handle, self._want(handle, timeout)

    def _new_view(
        self, kind: Callable[..., ZnodeViewT], path: str, model: Any, timeout: float | None
    ) -> tuple[ZnodeViewT, Question[None]]:
        check_path(path)
        check_model(model)
        self._check_open()
        self._questions.limit(timeout)
        view = kind(self._engine, self._questions, path, model)
        return view, self._want(view, timeout)

    def _new_children_view(
        self, kind: Callable[..., ChildrenViewT], path: str, timeout: float | None
    ) -> tuple[ChildrenViewT, Question[None]]:
        check_path(path)
        self._check_open()
        self._questions.limit(timeout)
        view = kind(self._engine, self._questions, path)
        return view, self._want(view, timeout)

    def _wish(self, kind: str, path: str, **given: Any) -> Candidature:
        self._check_open()
        return candidature(
            self._engine, self._questions, kind, path, tick_time=self.settings.tick_time, **given
        )

    def _observed(self, path: str, dialect: str, timeout: float | None) -> tuple[str, Dialect]:
        self._check_open()
        self._questions.limit(timeout)
        return queue_path(path, "observe"), dialect_of(dialect, "lead")

    def _want(self, handle: Handle, timeout: float | None) -> Question[None]:
        return self._questions.want(handle._intent, handle._label, timeout)

    def _begin(self) -> None:
        """Start the engine, once."""
        self._engine.check_process()
        if self._closed:
            raise ClosedError("a closed coordinator cannot be started again; make a new one")
        first, self._started = not self._started, True
        if first:
            self._engine.start()

    def _end(self) -> bool:
        """Mark it closed; return whether there is an engine to wait for; in a forked child there is none."""
        if self._engine.forked:
            return False
        first, self._closed = not self._closed, True
        if first and not self._started:
            self._engine.never()
        return self._started

    def _missing_chroot(self) -> MissingChrootError:
        chroot = self.settings.chroot
        return MissingChrootError(
            f"chroot {chroot} does not exist on {self.session.server}; create it first, by a "
            f"coordinator without a chroot: create({chroot!r}, parents=True)"
        )

    def _check_open(self) -> None:
        self._engine.check_process()
        if not self._started:
            raise ClosedError(NOT_STARTED)
        if self._closed:
            raise ClosedError


def checked_kinds(kinds: tuple[type[BaseEvent], ...]) -> tuple[type[BaseEvent], ...]:
    """Return the kinds if they are event classes.

    Raises:
        ConfigurationError: one of them is not.
    """
    for kind in kinds:
        checked: object = kind
        if not (isinstance(checked, type) and issubclass(checked, BaseEvent)):
            raise ConfigurationError(f"events() takes event classes, got {kind!r}")
    return kinds


def checked_handler(handler: object) -> None:
    """Refuse what cannot be called.

    Raises:
        ConfigurationError: it names its type.
    """
    if not callable(handler):
        raise ConfigurationError(f"on() takes a callable first, got {type(handler).__name__}")
