"""The commands and their options; what they do stands in modules of their own.

Those are imported when their command runs: asking for help needs neither pydantic nor kazoo.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import coordinator
from coordinator.cli.ending import WRONG_USAGE

__all__ = ["app", "run"]

app = typer.Typer(
    name="coordinator",
    help="ZooKeeper sessions told truly and brought back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 -- typer calls it by position
    if wanted:
        typer.echo(f"coordinator {coordinator.__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
]
EventsAsJson = Annotated[bool, typer.Option("--json", help="Events as NDJSON on stdout, the rest on stderr.")]
Zookeeper = Annotated[
    str | None,
    typer.Option(metavar="HOSTS", help="Use the first server of host:port[,host:port][/chroot]."),
]
Hosts = Annotated[
    str | None,
    typer.Argument(
        metavar="HOSTS", show_default=False, help="host:port[,host:port][/chroot]; else COORDINATOR_HOSTS."
    ),
]
Watched = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="HOSTS] [PATH",
        show_default=False,
        help="host:port[,host:port][/chroot], else COORDINATOR_HOSTS; then paths, each with its slash.",
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="Only these: session, znode.changed, ...; may be repeated."),
]
Heartbeats = Annotated[bool, typer.Option("--heartbeats", help="Heartbeats, too.")]
Ensemble = Annotated[
    int, typer.Option(metavar="N", min=1, max=9, show_default=False, help="So many servers, not one.")
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="The port; 0: any. Default: 2181, any with a COMMAND."),
]
Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="COMMAND", show_default=False, help="With its arguments; -- may stand before it."),
]
StatusAsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=600, help="For all of it.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 3 if a server of HOSTS does not serve.")]

Lead = Annotated[
    str | None, typer.Option("--lead", metavar="PATH", show_default=False, help="Run while leading there.")
]
Lock = Annotated[
    str | None,
    typer.Option("--lock", metavar="PATH", show_default=False, help="Run while holding the lock there."),
]
WaitAtMost = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", min=0.1, show_default=False, help="Wait no longer, for a session included."
    ),
]
Identity = Annotated[
    str | None,
    typer.Option(metavar="NAME", show_default=False, help="For others to read. Default: host:pid."),
]
StopWithin = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.1,
        show_default=False,
        help="So long before its end the lease is lost. Default: a tenth of the session timeout.",
    ),
]
Grace = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0, help="Between SIGTERM and SIGKILL, if the lease lasts so long."),
]


class Family(StrEnum):
    """Whose queues they are."""

    kazoo = "kazoo"
    curator = "curator"


InQueuesOf = Annotated[
    Family, typer.Option("--dialect", help="With whom it queues: kazoo's recipes, or Curator's.")
]


class UponLoss(StrEnum):
    """What becomes of a command when the lease is lost."""

    kill = "kill"
    term = "term"
    ignore = "ignore"


OnLoss = Annotated[
    UponLoss,
    typer.Option(
        "--on-lost",
        help="When the lease is lost: SIGTERM, then SIGKILL before it ends; SIGTERM only; neither.",
    ),
]
Led = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[HOSTS] PATH",
        show_default=False,
        help="host:port[,host:port][/chroot], else COORDINATOR_HOSTS.",
    ),
]
Changes = Annotated[bool, typer.Option("--watch", help="Go on, and tell of each change.")]
LeaderAsJson = Annotated[bool, typer.Option("--json", help="NDJSON on stdout.")]


class _Leader(TyperCommand):
    """A command whose usage says that PATH is needed."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", "[HOSTS]", "PATH"]


_UsageError: Any = typer.BadParameter.__base__
"""click's, or that of the click which newer versions of typer bring along."""


class _Run(TyperCommand):
    """A command whose usage has an exit code of its own; what stands after ``--`` is not looked at."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, self._before_command(ctx, args))
        except _UsageError as error:
            error.exit_code = WRONG_USAGE
            raise

    def _before_command(self, ctx: Any, args: list[str]) -> list[str]:
        """Return our own arguments; without a command they are not looked at, they might be its."""
        at = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[at + 1 :])
        if not ctx.obj and "--help" not in args[:at]:
            raise _UsageError(
                "a command is needed, after --: coordinator run --lock PATH [HOSTS] -- COMMAND", ctx
            )
        return args[:at]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "COMMAND", "[ARG]..."]


@app.callback()
def _options(*, version: Version = False) -> None:
    pass


@app.command()
def demo(*, json: EventsAsJson = False, zookeeper: Zookeeper = None) -> None:
    """Break a real session three ways, and check what comes back.

    Exit code 0: every check holds; 1: one does not, or time ran out; 2: no ZooKeeper can
    be had; 130: interrupted.
    """
    from coordinator.cli.demo import run_demo

    raise typer.Exit(run_demo(as_json=json, hosts=zookeeper))


@app.command()
def watch(
    arguments: Watched = None,
    *,
    json: EventsAsJson = False,
    kind: Kinds = None,
    heartbeats: Heartbeats = False,
) -> None:
    """Show what happens to a session and to znodes.

    Each PATH is watched with its children; it need not exist. Data is never shown. It goes
    on until it is interrupted.

    Exit code 1: the credentials were refused; 2: wrong usage; 130: interrupted; 141: the
    reader of a pipe has gone; 143: terminated.
    """
    from coordinator.cli.watch import run_watch

    raise typer.Exit(run_watch(arguments or (), as_json=json, kinds=kind or (), heartbeats=heartbeats))


@app.command(context_settings={"allow_interspersed_args": False})
def dev(command: Command = None, *, ensemble: Ensemble = 1, port: Port = None) -> None:
    """Keep a ZooKeeper running, and print its hosts.

    At the end it is removed, with its data. With a COMMAND: run it with COORDINATOR_HOSTS
    in its environment, and end when it does, with its exit code.

    Exit code 1: it does not start; 2: none can be had here, wrong usage; 130: interrupted;
    143: terminated.
    """
    from coordinator.cli.dev import run_dev

    raise typer.Exit(run_dev(command or (), size=ensemble, port=port))


@app.command()
def status(
    hosts: Hosts = None, *, json: StatusAsJson = False, timeout: Timeout = 5.0, strict: Strict = False
) -> None:
    """Say whether ZooKeeper serves: a health check.

    Exit code 0: it does; 1: it does not; 2: wrong usage; 3: with --strict, it does, but a
    server of HOSTS does not; 130: interrupted; 143: terminated.
    """
    from coordinator.cli.status import run_status

    raise typer.Exit(run_status(hosts, as_json=json, timeout=timeout, strict=strict))


@app.command("run", cls=_Run)
def _run(
    ctx: typer.Context,
    hosts: Hosts = None,
    *,
    lead: Lead = None,
    lock: Lock = None,
    timeout: WaitAtMost = None,
    identity: Identity = None,
    stop_within: StopWithin = None,
    grace: Grace = 5.0,
    on_lost: OnLoss = UponLoss.kill,
    dialect: InQueuesOf = Family.kazoo,
) -> None:
    """Run a command only while a lock or leadership is held.

    It has COORDINATOR_LEASE_TOKEN and COORDINATOR_LEASE_PATH in its environment, and gets
    our signals. When the lease is lost it is ended, with all that it started, before anybody
    else can hold it. The lease is given back after that.

    Exit code: that of the command; 121: the lease was lost; 122: the ensemble cannot be
    reached; 123: wrong usage; 124: --timeout; 125: run itself failed; 126, 127: as a shell.
    """
    from coordinator.cli.run import Wish, run_beside_a_lease

    wish = Wish(lead, lock, timeout, identity, stop_within, grace, on_lost.value, dialect.value)
    raise typer.Exit(run_beside_a_lease(wish, hosts, ctx.obj))


@app.command(cls=_Leader)
def leader(
    arguments: Led = None,
    *,
    watch: Changes = False,
    json: LeaderAsJson = False,
    timeout: Timeout = 5.0,
    dialect: InQueuesOf = Family.kazoo,
) -> None:
    """Say who leads, or holds a lock: identity, fencing token, session.

    Exit code 0: somebody does; 1: nobody; 2: wrong usage; 122: the ensemble cannot be asked;
    with --watch 130: interrupted; 141: the reader of a pipe has gone; 143: terminated.
    """
    from coordinator.cli.leader import Look, run_leader

    look = Look(watch, json, timeout, dialect.value)
    raise typer.Exit(run_leader(arguments or (), look))


def run(arguments: Sequence[str]) -> int:
    """Run the command line with these arguments and return its exit code."""
    try:
        app(list(arguments), prog_name="coordinator")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
