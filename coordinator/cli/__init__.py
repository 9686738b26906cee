"""The command line: the commands of ``coordinator``, which docs/cli.md describes.

It needs typer and rich (extra ``cli``); ``coordinator.__main__`` says so where they are
missing. Nothing else in the package imports it. What a command needs is imported when it runs
(`coordinator.cli.app`).
"""
