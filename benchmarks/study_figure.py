"""The study at a glance: how sure each difference is, and how the runs learned.

`python -m benchmarks.study_results --write` draws it beside docs/study/results.md. Differences of
recall, δ1 and pixels share an axis: each is divided by half of its own 95 % interval, so that a
claim is supported from +1 on and refuted from -1 down.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.study_results import Line

COLOURS = {"supported": "#1b7f4b", "refuted": "#b3372f", "not decided": "#777777"}
EDGE = 6.0  # of the axis; what is surer lies on it
WINDOW = 5  # log lines that a point of a curve is the mean of


def draw(lines: Sequence[Line], logs: Path, target: Path) -> None:
    """Write an SVG file.

    Args:
        lines: as `study_results.decided` returns them; what was not run is left out.
        logs: the folder of <run>/seed-<n>.jsonl.
        target: the file.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # the same numbers make the same file
    with rc_context({"svg.hashsalt": "study", "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        _verdicts(left, lines)
        _losses(right, logs)
        figure.savefig(target, metadata={"Date": None})


def _verdicts(axes: Axes, lines: Sequence[Line]) -> None:
    shown = [line for line in lines if line.found is not None and line.found.half]
    for height, line in enumerate(shown):
        assert line.found is not None
        assert line.found.half is not None
        sure = line.found.value / line.found.half
        at = float(np.clip(sure, -EDGE, EDGE))
        axes.plot([at - 1, at + 1], [height, height], color=COLOURS[line.verdict], linewidth=2)
        axes.plot(at, height, "o", color=COLOURS[line.verdict], label=line.verdict)
    axes.axvline(0, color="black", linewidth=0.8)
    names = [f"{line.claim.name}: {line.claim.better}, {line.task}" for line in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-EDGE - 1, EDGE + 1)
    axes.set_xlabel("difference / half of its 95 % interval; right of 0: as claimed")
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if found:
        axes.legend(found.values(), found.keys(), fontsize=8, loc="lower right")


def _losses(axes: Axes, logs: Path) -> None:
    seeds = defaultdict(list)
    for path in sorted(logs.glob("*/*.jsonl")):
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        points = [(one["step"], one["loss"]) for one in entries if "loss" in one]
        if len(points) >= WINDOW:
            seeds[path.parent.name].append(np.array(points, dtype=float))
    for number, (run, curves) in enumerate(seeds.items()):
        for curve in curves:
            steps, losses = (
                np.convolve(column, np.full(WINDOW, 1 / WINDOW), "valid") for column in curve.T
            )
            axes.plot(steps, losses, color=f"C{number}", linewidth=1, label=run)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss on hidden patches")
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if found:
        axes.legend(found.values(), found.keys(), fontsize=8)
