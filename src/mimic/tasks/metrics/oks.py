"""Scoring joints as COCO does: object keypoint similarity, its suppression of doubles, AP and AR by
pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

# One deviation a joint, as a share of the square root of a person's area (COCO's published
# constants).
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
# areas in square pixels that begin a size
MEDIUM = 32**2
LARGE = 96**2
STATISTICS = (
    "AP",
    "AP50",
    "AP75",
    "AP_medium",
    "AP_large",
    "AR",
    "AR50",
    "AR75",
    "AR_medium",
    "AR_large",
)


def similarity(joints: np.ndarray, truth: np.ndarray, visible: np.ndarray, area: float) -> float:
    """OKS of one person: the mean over visible joints of exp(-d^2 / (2 area (2 sigma)^2)).

    Args:
        joints, truth: [17, 2], pixels.
        visible: bool[17]; none visible gives 0.
        area: of the person, square pixels.
    """
    if not visible.any():
        return 0.0
    squared = ((joints - truth) ** 2).sum(axis=1)
    return float(
        np.exp(-squared / (2 * (area + np.spacing(1)) * (2 * SIGMAS) ** 2))[visible].mean()
    )


def suppress(
    joints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float
) -> np.ndarray:
    """Indices that stay, best first: each person drops the lower-scored ones whose OKS with it
    exceeds the threshold.

    Args:
        joints: [people, 17, 2] of one image.
        areas: of their boxes; two people are compared on the mean of theirs.
    """
    everything = np.ones(len(SIGMAS), bool)
    kept = []
    order = np.argsort(-scores, kind="stable").tolist()
    while order:
        best = order.pop(0)
        kept.append(best)
        order = [
            other
            for other in order
            if similarity(
                joints[other], joints[best], everything, float(areas[best] + areas[other]) / 2
            )
            <= threshold
        ]
    return np.array(kept, np.int64)


def score(
    annotations: dict[str, Any], detected: list[dict[str, Any]], category: int
) -> dict[str, float | None]:
    """COCO's ten numbers, fractions; None where no person is of that size.

    Args:
        annotations: a COCO person_keypoints file, parsed. The ids of people are of no account:
            pycocotools wants them different, and takes 0 for nobody.
        detected: image_id, category_id, keypoints (51 numbers) and score of each person; none at
            all scores 0.
        category: the one that is scored.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    scored = (one for one in annotations["annotations"] if one["category_id"] == category)
    people = [{**one, "id": number} for number, one in enumerate(scored, 1)]
    if not detected:
        return _nobody_found(people)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **annotations, "annotations": people}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detected), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [None if value < 0 else float(value) for value in evaluation.stats]
    return dict(zip(STATISTICS, values, strict=True))


def _nobody_found(people: list[dict[str, Any]]) -> dict[str, float | None]:
    """0 of the sizes that there are people of."""
    areas = [one["area"] for one in people if one["num_keypoints"] and not one["iscrowd"]]
    has_people = {
        "medium": any(MEDIUM <= area <= LARGE for area in areas),
        "large": any(area >= LARGE for area in areas),
    }
    return {
        name: 0.0 if has_people.get(name.partition("_")[2], bool(areas)) else None
        for name in STATISTICS
    }
