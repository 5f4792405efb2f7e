"""Report: one self-contained HTML page and the project's figure, from published files only.

Whatever is missing is shown as "not run". Equal files give equal bytes: no clock, no path of this
machine gets in.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mimic.infra import earlier
from mimic.infra.owner import one_owner
from mimic.infra.publishing import Work, publish, resolve_target
from mimic.infra.storage import Workspace, made_folder
from mimic.params import Params
from mimic.reporting.figure import draw_figure
from mimic.reporting.html import render_pages
from mimic.reporting.tables import tables

WORK = Work("report", "")


@one_owner("report")
def main(params: Params, root: Path) -> None:
    """Write report/index.html, a page for each source that was mined, tables for DVC's metrics and
    plots, and report/figure.png where there are pairs."""
    workspace = Workspace(root)
    resolve_target(workspace.report, WORK, recognise=earlier.report)
    pages = render_pages(params, workspace)
    texts = pages | tables(params, workspace)
    figure = draw_figure(params, workspace)

    def write(folder: Path) -> None:
        for name, text in texts.items():
            made_folder((folder / name).parent)
            (folder / name).write_text(text, encoding="utf-8")
        if figure is not None:
            (folder / "figure.png").write_bytes(figure)

    publish(write, workspace.report, WORK, recognise=earlier.report)
    Console(stderr=True).print(
        f"report: {workspace.report / 'index.html'} ({len(pages['index.html'].encode()) / 1e6:.1f} "
        "MB)",
        highlight=False,
        soft_wrap=True,
    )
