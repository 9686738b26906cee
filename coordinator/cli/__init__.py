"""The command line: ``coordinator demo``.

It needs typer and rich (extra ``cli``); ``coordinator.__main__`` says so where they are
missing. Nothing else in the package imports it.
"""
