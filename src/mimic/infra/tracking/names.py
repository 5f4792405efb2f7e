"""What results are called in MLflow: the data's name and the metric's, `nyuv2/delta1`.

MLflow makes one chart of each metric and one section of each part before a slash. A name goes by
the result alone, never by what other results there are: the same task has the same name always.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mimic import config

# Folders of known sets, as people name them: letters and digits only.
KNOWN = {
    **dict.fromkeys(("nyu", "nyuv2", "nyud", "nyudv2", "nyudepth", "nyudepthv2"), "nyuv2"),
    **dict.fromkeys(("ade20k", "ade", "adechallengedata2016"), "ade20k"),
    **dict.fromkeys(("imagenet", "imagenet1k", "ilsvrc2012"), "imagenet"),
    **dict.fromkeys(("coco", "coco2017", "mscoco"), "coco"),
    **dict.fromkeys(("7scenes", "sevenscenes"), "7scenes"),
}
# The entry of `evaluate` whose numbers need no other name than the data's; every other one of the
# same kind has its own name behind.
PLAIN = {
    "depth": "depth",
    "segmentation": "segmentation",
    "pose": "pose",
    "linear-probe": "imagenet",
    "flow": "flow",  # and not stereo: KITTI's folder holds both, and both measure EPE_px
    "relative-pose": "relative-pose",
    "two-view-pose": "two-view-pose",
    "correspondence": "correspondence",
    "reconstruction": "reconstruction",
}
DATA_NAME_MAX = 100  # letters; MLflow takes 250 of a metric's whole name
BESIDE = ("FID", "KID")  # that are headlines, too, where they were measured


@dataclass(frozen=True)
class TrackingContext:
    """What params.yaml says, and results do not.

    Args:
        generated: folders of data/raw that `mimic synthesize` writes.
        tests: sources of the test split, by dataset.
        best: the task that decides which encoder is the best.
    """

    tracking: config.Tracking
    generated: frozenset[str]
    tests: Mapping[str, tuple[str, ...]]
    best: str | None


def data_name(result: Mapping[str, Any], context: TrackingContext) -> str:
    """Of the data that a result was measured on; the task's where the result does not say (it was
    made before results did). Of a longer name than `DATA_NAME_MAX` the beginning, with a digest."""
    name = _data_name(result, context)
    if len(name) <= DATA_NAME_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: DATA_NAME_MAX - 9]}-{digest}"


def _data_name(result: Mapping[str, Any], context: TrackingContext) -> str:
    section = result.get("section") or {}
    if section.get("data"):
        return _folder_name(PurePath(str(section["data"])), context)
    dataset = section.get("dataset")
    if not dataset:
        return clean(str(result["task"]))
    sources = context.tests.get(str(dataset), ())
    if section.get("split") == "test" and sources:
        return clean("-".join(sources))
    return clean(str(dataset))


def _folder_name(folder: PurePath, context: TrackingContext) -> str:
    parts = folder.parts
    if parts[:2] == ("data", "raw") and parts[2:3] and parts[2] in context.generated:
        return f"generated-{clean(folder.name)}"
    return KNOWN.get(re.sub(r"[^a-z0-9]", "", folder.name.lower()), clean(folder.name))


def metric_name(result: Mapping[str, Any], context: TrackingContext, metric: str) -> str:
    """Of one number of a result, such as `nyuv2/delta1` and `nyuv2/delta1 depth-frozen`."""
    task = str(result["task"])
    behind = "" if PLAIN.get(str(result.get("kind", task))) == task else f" {task}"
    name = f"{data_name(result, context)}/{metric}"
    return clean(name if name.startswith(f"{task}/") else f"{name}{behind}")


def headlines(result: Mapping[str, Any], context: TrackingContext) -> Iterator[tuple[str, float]]:
    """The numbers of a result that runs are compared by."""
    yield metric_name(result, context, str(result["name"]).lower()), float(result["value"])
    for name in BESIDE:
        value = result["metrics"].get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield metric_name(result, context, name.lower()), float(value)


def clean(name: str) -> str:
    """With characters that MLflow takes in the name of a metric."""
    return re.sub(r"[^\w\-. :/]", "_", name)
