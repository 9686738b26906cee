"""A ZooKeeper server in a container, by testcontainers.

testcontainers and docker are imported when a container is made, not before: importing
this module works without them. Containers and networks bear labels that say whose they
are (`ownership`): those of a run that was killed, the next one removes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Unpack, cast

from coordinator.errors import MissingExtraError
from coordinator.testing.errors import ZooKeeperUnavailableError
from coordinator.testing.options import Member, ServerOptions, configuration, jvm_flags
from coordinator.testing.ownership import LABEL, owner, sweep_engine, sweep_folders
from coordinator.testing.ports import free_port
from coordinator.testing.security import packed, placed, secured
from coordinator.testing.server import ZooKeeperServer

if TYPE_CHECKING:
    import types

    from testcontainers.core.container import DockerContainer

__all__ = ["ZooKeeperContainer", "default_image", "engine_fault", "import_docker", "labels", "settle_image"]

DEFAULT_IMAGE = "zookeeper:3.9"
CLIENT_PORT, SECURE_PORT = 2181, 2281
#: Where `ServerOptions.files` lie in the container, and what writes them there: the images differ in the user
#: that runs it, and testcontainers before 4.14 copies nothing into a container that was not started.
FILES = "/tmp/coordinator"  # noqa: S108 the container's own
UNPACK = f'umask 077; mkdir -p {FILES}; printf %s "$COORDINATOR_FILES" | base64 -d | tar -x -C {FILES} -f -'
#: Seconds that an engine has to answer a ping; a local one takes 2 ms.
PING_TIMEOUT = 1.0
#: Seconds from SIGTERM to SIGKILL; the server takes about 0.2 s.
STOP_TIMEOUT = 5
#: zoo.cfg keys that the images know as variables; all others go to ZOO_CFG_EXTRA.
VARIABLES = {
    "tickTime": "ZOO_TICK_TIME",
    "initLimit": "ZOO_INIT_LIMIT",
    "syncLimit": "ZOO_SYNC_LIMIT",
    "maxClientCnxns": "ZOO_MAX_CLIENT_CNXNS",
    "admin.enableServer": "ZOO_ADMINSERVER_ENABLED",
    "4lw.commands.whitelist": "ZOO_4LW_COMMANDS_WHITELIST",
    "standaloneEnabled": "ZOO_STANDALONE_ENABLED",
    "autopurge.purgeInterval": "ZOO_AUTOPURGE_PURGEINTERVAL",
    "autopurge.snapRetainCount": "ZOO_AUTOPURGE_SNAPRETAINCOUNT",
}

_reaper_lock = threading.Lock()
_reaper_settled = False


def import_docker() -> types.ModuleType:
    """The module ``docker``.

    Raises:
        MissingExtraError: if the extra ``testing`` is not installed.
    """
    try:
        import docker
        import docker.errors
        import testcontainers.core.container  # noqa: F401
    except ImportError as missing:
        raise MissingExtraError("testing") from missing
    return cast("types.ModuleType", docker)


def default_image() -> str:
    """COORDINATOR_ZOOKEEPER_IMAGE, or ``zookeeper:3.9``."""
    return os.environ.get("COORDINATOR_ZOOKEEPER_IMAGE") or DEFAULT_IMAGE


def labels() -> dict[str, str]:
    """What marks our containers and networks: whose they are, and COORDINATOR_TESTING_RUN, if it is set."""
    run = os.environ.get("COORDINATOR_TESTING_RUN")
    return {"coordinator.testing": "true", LABEL: owner()} | ({"coordinator.testing.run": run} if run else {})


def engine_fault() -> str:
    """Why no Docker engine can be used; empty if one answers within a second.

    Raises:
        MissingExtraError: if the extra ``testing`` is not installed.
    """
    at = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        _knock(at)  # before docker is imported, which takes longer than to see that there is none
    except OSError as fault:
        return f"no Docker engine answers at {at} ({type(fault).__name__})"
    docker = import_docker()
    try:
        client = docker.from_env(timeout=PING_TIMEOUT)
        try:
            client.ping()
        finally:
            client.close()
    except (docker.errors.DockerException, OSError) as fault:
        return f"no Docker engine answers at {at} ({type(fault).__name__})"
    return ""


def _knock(at: str) -> None:
    """Connect to a local socket once: docker leaves one behind that it could not connect."""
    if sys.platform != "win32" and at.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(PING_TIMEOUT)
            door.connect(at.removeprefix("unix://"))


def settle_image(image: str) -> None:
    """Pull the image if it is missing, and say so: it takes a while.

    Raises:
        MissingExtraError: if the extra ``testing`` is not installed.
        ZooKeeperUnavailableError: if it cannot be pulled.
    """
    docker = import_docker()
    client = docker.from_env()
    try:
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            sys.stderr.write(f"coordinator.testing: pulling {image}\n")
            client.images.pull(image)
    except docker.errors.APIError as refused:
        raise ZooKeeperUnavailableError(
            f"image {image} is not there and cannot be pulled: {refused.explanation or refused}"
        ) from refused
    finally:
        client.close()


def _settle_reaper(docker: Any) -> None:
    """Do without testcontainers' reaper where its image cannot be had.

    It removes the containers of a process that was killed. Without it, ours are removed
    at exit, and those of a killed run by the next one.
    """
    global _reaper_settled
    from testcontainers.core.config import testcontainers_config as settings

    with _reaper_lock:
        if _reaper_settled or settings.ryuk_disabled:
            return
        client = docker.from_env()
        try:
            client.images.get(settings.ryuk_image)
        except docker.errors.ImageNotFound:
            try:
                client.images.pull(settings.ryuk_image)
            except docker.errors.APIError:
                settings.ryuk_disabled = True
        finally:
            client.close()
        _reaper_settled = True


class ZooKeeperContainer(ZooKeeperServer):
    """A ZooKeeper server in a container; about 0.5 s to serving.

    Args:
        member: its place in an ensemble, if it is in one.
        options: see `ServerOptions`.

    Raises:
        MissingExtraError: if the extra ``testing`` is not installed.
        ConfigurationError: if an option is out of range.
    """

    def __init__(self, *, member: Member | None = None, **options: Unpack[ServerOptions]) -> None:
        self._docker = import_docker()
        self._image = options.get("image") or default_image()
        self._member = member
        self._port = options.get("port") or free_port()
        self._secure_port = options.get("secure_port") or free_port() if "tls" in options else None
        options = secured(options)
        self._files = options.get("files", {})
        self._environment = {name: placed(value, FILES) for name, value in self._render(options).items()}
        self._container: DockerContainer | None = None
        self._address = ("127.0.0.1", self._port)
        self.network_address = ""
        """Its address on the network of its ensemble, another one at each start; empty while it is down."""
        self.origin = f"container {self._image} via testcontainers"

    @property
    def _inner_port(self) -> int:
        return (self._member.client_port if self._member is not None else 0) or CLIENT_PORT

    def _render(self, options: ServerOptions) -> dict[str, str]:
        lines = configuration(options)
        if self._secure_port is not None:
            lines["secureClientPort"] = str(SECURE_PORT)
        if self._member is not None:
            lines["standaloneEnabled"] = "false"
        environment = {VARIABLES[key]: value for key, value in lines.items() if key in VARIABLES}
        environment["ZOO_CFG_EXTRA"] = " ".join(
            f"{key}={value}" for key, value in lines.items() if key not in VARIABLES
        )
        environment["JVMFLAGS"] = " ".join(jvm_flags(options))
        if self._member is not None:
            environment["ZOO_MY_ID"] = str(self._member.my_id)
            environment["ZOO_SERVERS"] = " ".join(self._member.servers)
        return {**environment, **options.get("environment", {})}

    @property
    def address(self) -> tuple[str, int]:
        """Host and published port; 127.0.0.1 unless the engine is elsewhere."""
        return self._address

    @property
    def secure_address(self) -> tuple[str, int]:
        """Host and published port for TLS."""
        if self._secure_port is None:
            return super().secure_address
        host, port = self._address
        return host, SECURE_PORT if port == CLIENT_PORT else self._secure_port

    @property
    def container_id(self) -> str:
        """The container's short id; empty while there is none."""
        return str(self._wrapped().short_id) if self._container is not None else ""

    def stop(self) -> None:
        """End it by SIGTERM; its data is kept."""
        if self._container is not None:
            self.thaw()
            self._wrapped().stop(timeout=STOP_TIMEOUT)
            self.network_address = ""

    def kill(self) -> None:
        """End it by SIGKILL; its data is kept."""
        if self._container is not None:
            container = self._wrapped()
            with contextlib.suppress(self._docker.errors.APIError):  # it does not run
                container.kill("KILL")
            container.wait()
            self.network_address = ""

    def freeze(self) -> None:
        """Freeze all its threads; connections stay open."""
        self._wrapped().pause()

    def thaw(self) -> None:
        """End a freeze, if it is frozen."""
        if self._container is not None:
            with contextlib.suppress(self._docker.errors.APIError):  # it is not paused
                self._wrapped().unpause()

    def close(self) -> None:
        """Remove the container with its data."""
        container, self._container = self._container, None
        self.network_address = ""
        atexit.unregister(self.close)
        if container is not None:
            with contextlib.suppress(self._docker.errors.NotFound):
                container.stop()  # testcontainers' word for removing it

    def _wrapped(self) -> Any:
        if self._container is None:
            raise ZooKeeperUnavailableError(f"{self.origin} at {self.hosts} is not running")
        return self._container.get_wrapped_container()

    def _launch(self) -> None:
        if self._container is not None:
            self._wrapped().start()
            self._settle_in()
            return
        settle_image(self._image)
        _settle_reaper(self._docker)
        sweep_engine(self._docker)
        sweep_folders()
        container = self._create()
        self._container = container
        atexit.register(self.close)
        try:
            container.start()
            self._address = self._published(container)
            self._settle_in()
        except (self._docker.errors.APIError, OSError) as refused:
            self.close()
            raise ZooKeeperUnavailableError(f"{self.origin} cannot be started: {refused}") from refused

    def _settle_in(self) -> None:
        if self._member is not None:
            container = self._wrapped()
            container.reload()
            network = container.attrs["NetworkSettings"]["Networks"][self._member.network]
            self.network_address = str(network["IPAddress"])

    def _create(self) -> DockerContainer:
        from testcontainers.core.config import ConnectionMode
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(self._image, env=dict(self._environment))
        settings: dict[str, Any] = {"labels": labels()}
        if self._member is not None:
            settings |= {"hostname": f"zk{self._member.my_id}", "extra_hosts": dict(self._member.names)}
            container.with_network(cast("Any", _NamedNetwork(self._member.network)))
            container.with_network_aliases(f"zk{self._member.my_id}")
        container.with_kwargs(**settings)
        ports = {self._inner_port: self._port}
        if self._secure_port is not None:
            ports[SECURE_PORT] = self._secure_port
        client = container.get_docker_client()
        if client.get_connection_mode() == ConnectionMode.docker_host and client.host() == "localhost":
            # Not open to the whole network; testcontainers' own types know ports only.
            for inside, port in ports.items():
                container.ports[str(inside)] = cast("int", ("127.0.0.1", port))
        else:
            for inside, port in ports.items():
                container.with_bind_ports(inside, port)
        if self._files:
            container.with_env("COORDINATOR_FILES", packed(self._files))
            container.with_command(["bash", "-c", f"{UNPACK} && exec zkServer.sh start-foreground"])
        return container

    def _published(self, container: DockerContainer) -> tuple[str, int]:
        """Where the client port is to be found; 127.0.0.1 wherever that works.

        testcontainers believes that it runs inside a container wherever /.dockerenv exists, and would
        then take the gateway's address, which changes with the network.
        """
        client = container.get_docker_client()
        mode = client.get_connection_mode()
        if mode == mode.docker_host:
            host = client.host()
            return ("127.0.0.1" if host == "localhost" else host), self._port
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 0.5):
            return "127.0.0.1", self._port
        return container.get_container_host_ip(), self._port if mode.use_mapped_port else self._inner_port

    def _ended(self) -> bool:
        if self._container is None:
            return True
        container = self._wrapped()
        container.reload()
        return container.status in ("exited", "dead")

    def _log_tail(self) -> str:
        if self._container is None:
            return ""
        with contextlib.suppress(self._docker.errors.APIError):
            return str(self._wrapped().logs(tail=20).decode("utf-8", "replace"))
        return ""


class _NamedNetwork:
    """What DockerContainer asks of a testcontainers Network: its name."""

    def __init__(self, name: str) -> None:
        self.name = name
