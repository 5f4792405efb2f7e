"""How well pairs are judged, against what depth and pose say two views share: the tables of
docs/experiments/mining-rule.md.

Run `python -m benchmarks.truth [--json]`. Images come from the folder MIMIC_TEST_DATA (default
../shared/data): 60 frames of a kitchen video with depth and pose, and images that show different
things. Columns:

kept: pairs found in the band. recall: share kept of those whose true co-visibility lies in the
band. corr: correlation of measured overlap and co-visibility, over pairs with a homography.
precision: share of stored correspondences of kept pairs, where both views see the patch, that depth
and pose put within one patch. false: homographies found between images that show different things.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import sample_data
from mimic.geometry import covisibility, features, homography, overlap, resize
from mimic.geometry.overlap import Outcome

TOLERANCE = 0.05  # of the depth: nearer surfaces hide a point
STEP_PX = 8  # every so many pixels of the depth map are asked
GAPS = range(1, 19)  # between the frames of a pair, in steps of five frames (1/6 s)
FOLDER = "seven_scenes_kitchen"
UNRELATED = (
    "coco/*.jpg",
    "imagenet/*/*.JPEG",
    "ade20k/images/*/*.jpg",
    "oxford_affine/*/img1.png",
    "opensfm_lund/01.jpg",
    f"{FOLDER}/frames/frame-000000.color.jpg",
)
# The same photographs shrunk either way: a walk outdoors, an object, a wall (Oxford), a building.
PHOTOS = (
    "opensfm_lund/*.jpg",
    "fox/images/*",
    "oxford_affine/graf/img*.png",
    "real/sequences/southbuilding/*.jpg",
)
Match = Callable[[features.Features, features.Features, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Variant:
    """What differs from the default rule."""

    matches: str
    estimator: str
    shrink: str


@dataclass(frozen=True, eq=False)
class Frame:
    """One view with its truth: depth in metres (0 = unknown), pose camera to world."""

    image: np.ndarray
    depth_m: np.ndarray
    pose: np.ndarray


def one_way(
    a: features.Features, b: features.Features, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    return features.match(a, b, ratio)


def one_way_mutual(
    a: features.Features, b: features.Features, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ratio test from a to b, of pairs that are each other's nearest."""
    rows, columns = features.match(a, b, ratio)
    nearest = _nearest(b, a)
    mutual = nearest[columns] == rows
    return rows[mutual], columns[mutual]


def both_ways(
    a: features.Features, b: features.Features, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ratio test passed in both directions."""
    there = set(zip(*(index.tolist() for index in features.match(a, b, ratio)), strict=True))
    back = {(row, column) for column, row in zip(*features.match(b, a, ratio), strict=True)}
    return _listed(sorted(there & back))


def either_way(
    a: features.Features, b: features.Features, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ratio test passed in at least one direction, mutual or not."""
    there = set(zip(*(index.tolist() for index in features.match(a, b, ratio)), strict=True))
    back = {
        (int(row), int(column)) for column, row in zip(*features.match(b, a, ratio), strict=True)
    }
    return _listed(sorted(there | back))


def _nearest(a: features.Features, b: features.Features) -> np.ndarray:
    if not len(a) or not len(b):
        return np.empty(0, np.int64)
    return np.asarray((a.left @ b.right.T).argmin(axis=1))


def _listed(pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


MATCHES: dict[str, Match] = {
    "one way": one_way,
    "one way + mutual": one_way_mutual,
    "ratio both ways": both_ways,
    "ratio either way, not mutual": either_way,
    "ratio either way, mutual": features.match_mutual,
}
ESTIMATORS = {
    "RANSAC": cv2.RANSAC,
    "USAC_MAGSAC": cv2.USAC_MAGSAC,
    "USAC_FAST": cv2.USAC_FAST,
    "USAC_ACCURATE": cv2.USAC_ACCURATE,
}
SHRINKS: dict[str, Literal["symmetric", "reference"]] = {
    "area": "symmetric",
    "bilinear": "reference",
}  # as the modes of the rule shrink
BEST = "ratio either way, mutual"
VARIANTS = (
    *(Variant(matches, "RANSAC", "area") for matches in MATCHES),
    *(Variant(BEST, estimator, "area") for estimator in ESTIMATORS if estimator != "RANSAC"),
    Variant(BEST, "USAC_ACCURATE", "bilinear"),
)


def main() -> None:
    as_json = sample_data.wants_json(__doc__)
    found = measure(sample_data.DATA, sample_data.rule_of_params(), VARIANTS)
    print(json.dumps(found, indent=2)) if as_json else show(found)


def measure(
    data: Path, rule: overlap.Rule, variants: Sequence[Variant], patterns: Sequence[str] = PHOTOS
) -> dict[str, Any]:
    """A row of numbers for each variant of the rule."""
    frames, intrinsics = kitchen(data)
    pairs = [
        pair for pair in itertools.combinations(range(len(frames)), 2) if pair[1] - pair[0] in GAPS
    ]
    truth = {pair: covisible(frames, intrinsics, pair) for pair in pairs}
    singles = unrelated(data)
    rows = []
    for variant in variants:
        with rule_of(variant):
            views = [seen(frame.image, rule.size_px, variant.shrink) for frame in frames]
            others = [seen(image, rule.size_px, variant.shrink) for image in singles]
            found = {(i, j): overlap.compare(views[i], views[j], rule, None) for i, j in pairs}
            false = sum(
                overlap.compare(a, b, rule, None).b_from_a is not None
                for a, b in itertools.combinations(others, 2)
            )
        numbers = summary(found, truth, rule, frames, intrinsics)
        rows.append({**dataclasses.asdict(variant), **numbers, "false": false})
    photographs = [photos(data, pattern, rule) for pattern in patterns]
    chances = len(singles) * (len(singles) - 1) // 2
    return {"pairs": len(pairs), "unrelated_pairs": chances, "rows": rows, "photos": photographs}


def photos(data: Path, pattern: str, rule: overlap.Rule) -> dict[str, Any]:
    """All pairs of a folder's photographs under the default rule: kept, and good matches, for each
    way of shrinking."""
    images = [sample_data.read_image(path) for path in sorted(data.glob(pattern))]
    found: dict[str, Any] = {"photos": pattern, "size": "x".join(map(str, images[0].shape[1::-1]))}
    for shrink in ("bilinear", "area"):
        views = [seen(image, rule.size_px, shrink) for image in images]
        compared = [overlap.compare(a, b, rule, None) for a, b in itertools.combinations(views, 2)]
        kept = sum(comparison.outcome is Outcome.KEPT for comparison in compared)
        found |= {"pairs": len(compared), f"kept, {shrink}": kept}
        found |= {f"matches, {shrink}": sum(comparison.matches for comparison in compared)}
    return found


def rule_of(variant: Variant) -> Any:
    """A context in which the symmetric mode matches and estimates as the variant says."""
    estimate = functools.partial(homography._find, method=ESTIMATORS[variant.estimator])
    return mock.patch.multiple(
        overlap,
        match_mutual=MATCHES[variant.matches],
        homography=mock.Mock(wraps=homography, estimate=estimate),
    )


def seen(image: np.ndarray, size_px: int, shrink: str) -> features.Features:
    return features.extract(resize.to_square(image, size_px, SHRINKS[shrink]))


def kitchen(data: Path) -> tuple[list[Frame], np.ndarray]:
    folder = data / FOLDER
    frames = []
    for colour in sorted((folder / "frames").glob("*.color.jpg")):
        stem = colour.name.removesuffix(".color.jpg")
        millimetres = cv2.imread(str(colour.with_name(f"{stem}.depth.png")), cv2.IMREAD_UNCHANGED)
        assert millimetres is not None, colour
        depth_m = np.where(millimetres < 65535, millimetres, 0) / 1000.0
        pose = np.loadtxt(colour.with_name(f"{stem}.pose.txt"))
        frames.append(Frame(sample_data.read_image(colour), depth_m, pose))
    return frames, np.loadtxt(folder / "camera-intrinsics.txt")


def unrelated(data: Path) -> list[np.ndarray]:
    return [
        sample_data.read_image(path) for pattern in UNRELATED for path in sorted(data.glob(pattern))
    ]


def covisible(frames: Sequence[Frame], intrinsics: np.ndarray, pair: tuple[int, int]) -> float:
    """The smaller of the two directions."""
    shares = []
    for a, b in (pair, pair[::-1]):
        one = frames[a]
        other = frames[b]
        shares.append(
            covisibility.covisibility(
                one.depth_m,
                other.depth_m,
                intrinsics,
                intrinsics,
                one.pose,
                other.pose,
                TOLERANCE,
                STEP_PX,
            )
        )
    return min(shares)


def summary(
    found: dict[tuple[int, int], overlap.Comparison],
    truth: dict[tuple[int, int], float],
    rule: overlap.Rule,
    frames: Sequence[Frame],
    intrinsics: np.ndarray,
) -> dict[str, float | int]:
    kept = [pair for pair, comparison in found.items() if comparison.outcome is Outcome.KEPT]
    in_band = [pair for pair, share in truth.items() if rule.overlap_min < share < rule.overlap_max]
    known = [pair for pair, comparison in found.items() if comparison.b_from_a is not None]
    right = total = 0
    for pair in kept:
        close, judged = correct(frames, intrinsics, pair, found[pair], rule)
        right += close
        total += judged
    measured = [found[pair].overlap for pair in known]
    return {
        "homographies": len(known),
        "kept": len(kept),
        "recall": round(len(set(kept) & set(in_band)) / len(in_band), 3),
        "corr": round(float(np.corrcoef(measured, [truth[pair] for pair in known])[0, 1]), 3),
        "precision": round(right / max(total, 1), 3),
    }


def correct(
    frames: Sequence[Frame],
    intrinsics: np.ndarray,
    pair: tuple[int, int],
    comparison: overlap.Comparison,
    rule: overlap.Rule,
) -> tuple[int, int]:
    """Stored correspondences that depth and pose put within one patch, and all that they can
    judge."""
    a, b = (frames[index] for index in pair)
    side = rule.size_px // rule.patch_px
    scale = np.array(a.depth_m.shape[::-1]) / rule.size_px
    number = np.arange(side**2)
    corners = np.column_stack([number % side, number // side]) * rule.patch_px
    centres = corners + (rule.patch_px - 1) / 2
    source = np.flatnonzero(comparison.correspondences >= 0)
    pixels = (centres[source] + 0.5) * scale - 0.5
    look = covisibility.look(
        pixels, a.depth_m, b.depth_m, intrinsics, intrinsics, a.pose, b.pose, TOLERANCE
    )
    there = (look.points_b + 0.5) / scale - 0.5
    stored = centres[comparison.correspondences[source]]
    distance = np.abs(there - stored).max(axis=1)[look.visible]
    return int((distance <= rule.patch_px).sum()), int(look.visible.sum())


def show(found: dict[str, Any]) -> None:
    title = (
        f"{found['pairs']} pairs of kitchen frames; {found['unrelated_pairs']} of unrelated images"
    )
    for name, rows in ((title, found["rows"]), ("all pairs of some photographs", found["photos"])):
        table = Table(title=name)
        for column, value in rows[0].items():
            table.add_column(column, justify="right" if isinstance(value, int | float) else "left")
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
