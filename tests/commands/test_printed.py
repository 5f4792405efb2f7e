"""Tables of the commands in a terminal that is narrower than they are."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.table import Table

from mimic.commands import printed

HEADINGS = ("a heading that is longer", "second")
ROW = ("a-name-that-is-as-long-as-it-is", "0.1234 ± 0.0012 (n=3)")


def _plain() -> Table:
    table = Table(box=None)
    for heading in HEADINGS:
        table.add_column(heading)
    return table


def _unwrapped() -> Table:
    table = Table(title="with a frame")
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    return table


@pytest.mark.parametrize("make", [_plain, _unwrapped])
@pytest.mark.parametrize("width", [10, 40, 200])
def test_no_cell_is_cut_off(make: Callable[[], Table], width: int) -> None:
    table = make()
    table.add_row(*ROW)
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, color_system=None)
    printed.print_whole(console, table)
    lines = output.getvalue().splitlines()
    assert "…" not in output.getvalue()
    assert any(all(heading in line for heading in HEADINGS) for line in lines)
    assert any(all(cell in line for cell in ROW) for line in lines)
    assert console.width == width
