"""The commands and their options; what they do stands in modules of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

import coordinator
from coordinator.cli.demo import run_demo

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
Json = Annotated[bool, typer.Option("--json", help="Events as NDJSON on stdout, the rest on stderr.")]
Hosts = Annotated[
    str | None,
    typer.Option(metavar="HOSTS", help="Use the first server of host:port[,host:port][/chroot]."),
]


@app.callback()
def _options(*, version: Version = False) -> None:
    pass


@app.command()
def demo(*, json: Json = False, zookeeper: Hosts = None) -> None:
    """Break a real session three ways and check that everything comes back.

    Exit code 0: every check holds; 1: one does not, or time ran out; 2: no ZooKeeper can
    be had; 130: interrupted.
    """
    raise typer.Exit(run_demo(as_json=json, hosts=zookeeper))


def run(arguments: Sequence[str]) -> int:
    """Run the command line with these arguments and return its exit code."""
    try:
        app(list(arguments), prog_name="coordinator")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
