"""The README's figure: two views with matched patches, and a masked view completed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic.infra.storage import Workspace
from mimic.models import OBJECTIVES
from mimic.pairs.read import iter_rows, read_image
from mimic.pairs.schema import MANIFEST
from mimic.params import Params
from mimic.reporting import gallery, pictures


@dataclass(frozen=True)
class Completion:
    """What a cross-view run made of its first held-out pair."""

    row: dict[str, Any]  # of the manifest
    masked: np.ndarray
    reconstruction: np.ndarray
    mask_ratio: float


def draw_figure(params: Params, workspace: Workspace) -> bytes | None:
    """Two views with matched patches and, once a cross-view model is trained, view a masked and
    completed, as PNG; None without pairs."""
    for run in params.table.runs:
        completion = _completion(params, workspace, run)
        if completion is not None:
            return _with_completion(workspace, completion)
    for source in params.sources:
        for tar, row in gallery.select(workspace.pairs(source), 1):
            return pictures.figure(_matched(tar, row))
    return None


def _with_completion(workspace: Workspace, completion: Completion) -> bytes:
    row = completion.row
    hidden = f"view a, {100 * completion.mask_ratio:.0f} % hidden"
    return pictures.figure(
        [
            *_matched(workspace.root / row["shard"], row),
            (hidden, completion.masked),
            ("view a, completed with the help of b", completion.reconstruction),
        ]
    )


def _matched(tar: Path, row: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    a = read_image(tar, row["offset_a"], row["size_a"])
    b = read_image(tar, row["offset_b"], row["size_b"])
    tinted = pictures.matched_patches(a, b, np.asarray(row["correspondences"]))
    return [("view a", tinted[0]), ("view b: matching patches, matching colours", tinted[1])]


def _completion(params: Params, workspace: Workspace, run: str) -> Completion | None:
    """The first held-out pair of a cross-view run; None where there is no such run or pair."""
    if run in params.imported:
        return None
    planned = params.runs[run]
    recipe = params.recipe(run)
    folder = next(iter(workspace.encoders(run).values()), workspace.model(run))
    saved_pairs = folder / "reconstruction.npz"
    manifest = workspace.manifest(planned.dataset)
    if OBJECTIVES[recipe.objective].views == 1 or planned.steps == 0:
        return None
    if not saved_pairs.exists() or not manifest.exists():
        return None
    with np.load(saved_pairs) as saved:
        key = str(saved["keys"][0])
        masked = saved["masked"][0]
        reconstruction = saved["reconstruction"][0]
    row = next((row for row in iter_rows(manifest, MANIFEST) if row["key"] == key), None)
    if row is None or not (workspace.root / row["shard"]).exists():
        return None
    return Completion(row, masked, reconstruction, recipe.mask_ratio)
