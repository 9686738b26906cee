"""The commands and their options; what they do stands in modules of their own.

Those are imported when their command runs: asking for help needs neither pydantic nor kazoo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

import coordinator

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


def run(arguments: Sequence[str]) -> int:
    """Run the command line with these arguments and return its exit code."""
    try:
        app(list(arguments), prog_name="coordinator")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
