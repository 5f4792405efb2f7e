"""What burned-in captions do to pairs of known truth: a table of docs/experiments/mining-rule.md.

Run `python -m benchmarks.stillness [--json]`. The 909 pairs of frames of the kitchen video (see
`benchmarks.truth`), as they are and with two lines of text burned in, judged with and without
setting aside what does not move. Columns as in `benchmarks.truth`, and
static: pairs that are STATIC. ms: CPU time of a comparison, features at hand; the two rules take
turns, the least of three rounds.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import sample_data, truth
from mimic.geometry import features, overlap
from mimic.geometry.overlap import Outcome

ROUNDS = 3
LINES = ("2026-11-28 10:53 GPS 48.137N 11.575E", "SPEED 47 km/h  CAM-02 FRONT")
Compared = dict[tuple[int, int], overlap.Comparison]


def main() -> None:
    as_json = sample_data.wants_json(__doc__)
    found = measure(sample_data.DATA, sample_data.rule_of_params())
    print(json.dumps(found, indent=2)) if as_json else show(found)


def measure(data: Path, rule: overlap.Rule) -> list[dict[str, Any]]:
    """A row of numbers for the bare and the captioned frames, each without and with the test for
    stillness."""
    frames, intrinsics = truth.kitchen(data)
    pairs = [
        pair
        for pair in itertools.combinations(range(len(frames)), 2)
        if pair[1] - pair[0] in truth.GAPS
    ]
    known = {pair: truth.covisible(frames, intrinsics, pair) for pair in pairs}
    rules = {"counted": dataclasses.replace(rule, still_px=0.0), "set aside": rule}
    rows = []
    for picture, draw in (("bare", np.copy), ("captioned", captioned)):
        views = [truth.seen(draw(frame.image), rule.size_px, "area") for frame in frames]
        rounds = [
            {name: timed(views, pairs, one) for name, one in rules.items()} for _ in range(ROUNDS)
        ]
        for name, one in rules.items():
            found = rounds[0][name][0]
            numbers = truth.summary(found, known, one, frames, intrinsics)
            static = sum(comparison.outcome is Outcome.STATIC for comparison in found.values())
            ms = 1000 * min(turn[name][1] for turn in rounds) / len(pairs)
            rows.append(
                {
                    "frames": picture,
                    "still matches": name,
                    **numbers,
                    "static": static,
                    "ms": round(ms, 3),
                }
            )
    return rows


def timed(
    views: list[features.Features], pairs: list[tuple[int, int]], rule: overlap.Rule
) -> tuple[Compared, float]:
    """The comparisons, and the CPU seconds of this process for all of them."""
    started = time.process_time()
    found = {(i, j): overlap.compare(views[i], views[j], rule, None) for i, j in pairs}
    return found, time.process_time() - started


def captioned(image: np.ndarray) -> np.ndarray:
    """Two lines of white text on a black strip over the lowest eighth of the frame."""
    out = image.copy()
    height, width = image.shape[:2]
    strip = height // 8
    cv2.rectangle(out, (0, height - strip), (width, height), (0, 0, 0), -1)
    for number, words in enumerate(LINES):
        foot = height - strip + round((0.42 + 0.46 * number) * strip)
        size = strip / 60
        cv2.putText(
            out,
            words,
            (strip // 8, foot),
            cv2.FONT_HERSHEY_SIMPLEX,
            size,
            (255, 255, 255),
            2,
            cv2.LINE_AA,
        )
    return out


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
