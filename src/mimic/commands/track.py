"""`mimic track`: published results and encoders into MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mimic.infra import tracking
from mimic.params import Params, pick
from mimic.params.tracked import tracking_context


def print_mirrored(params: Params, root: Path, best: str | None, *, encoders: bool) -> None:
    """Mirror everything and say what was new, and where to look.

    Args:
        best: the task that decides which encoder is the best; None = the first of the table.

    Raises:
        BadInput: no such task, tracking is off, or the tracker cannot be reached.
    """
    context = tracking_context(params)
    if best is not None:
        pick(params.evaluate, best, "task in evaluate")
        context = replace(context, best=best)
    summary = tracking.mirror_all(context, root, _pack() if encoders else None)
    skipped = f", {summary.skipped} skipped" if summary.skipped else ""
    registered = f"; {summary.encoders} encoders registered" if encoders else ""
    chosen = f"; best: {summary.best}" if summary.best else ""
    print(f"{summary.new} new, {summary.known} known{skipped}{registered}{chosen}; {summary.where}")


def _pack() -> tracking.Pack:
    from mimic.commands.hand_out.registered import pack  # torch takes seconds

    return pack
