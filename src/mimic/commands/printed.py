"""Tables in the terminal: a cell is never cut off."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 160  # characters of a line where the output is no terminal
WIDEST = 10_000


def console() -> Console:
    """The standard output."""
    return Console(width=None if Console().is_terminal else PIPED_WIDTH)


def width(console: Console, table: Table) -> int:
    """Characters that it takes where nothing of it is cut off."""
    unlimited = console.options.update(max_width=WIDEST)
    return console.measure(table, options=unlimited).maximum


def print_whole(console: Console, table: Table) -> None:
    """A terminal that is narrower wraps the lines."""
    before = console.width
    console.width = max(before, width(console, table))  # `print` allows none wider than this
    console.print(table)
    console.width = before
