"""What there is to look at: mined pairs, mining counts, reconstructions and samples, as the page
needs them."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import pyarrow.parquet as pq

from mimic.errors import BadInput
from mimic.infra.storage import SEED, Workspace, read_json
from mimic.pairs.read import read_bytes, read_table
from mimic.pairs.schema import MANIFEST, index_path, shards_in
from mimic.params import Params
from mimic.reporting import charts
from mimic.reporting.pictures import at_most, patch_colours, smaller

PICTURE_QUALITY = 88
COLUMNS = ("view_a", "masked", "reconstruction", "view_b")
BETWEEN_PX = 12  # gap between the two views of a pair


@dataclass(frozen=True)
class PatchMatch:
    """A matched patch: its corner in a, its corner in b (as drawn, b to the right), one colour for
    both."""

    colour: str
    a: tuple[int, int]
    b: tuple[int, int]


@dataclass(frozen=True)
class PairPicture:
    """A mined pair, drawn as SVG over its own JPEGs."""

    row: dict[str, Any]
    image_a: str
    image_b: str
    marks: list[PatchMatch]
    rest: list[tuple[int, int]]  # corners of the patches without a match, in both views

    @property
    def offset_b(self) -> int:
        """Where view b begins."""
        return int(self.row["size_px"]) + BETWEEN_PX


@dataclass(frozen=True)
class MinedSource:
    """One source: what became of its candidates, and some of its pairs. `counts` is None where
    mining has not run."""

    source: str
    counts: dict[str, Any] | None
    histogram: charts.Histogram | None
    pairs: list[PairPicture]


@dataclass(frozen=True)
class DatasetCounts:
    """A manifest, counted."""

    name: str
    splits: dict[str, int]
    sources: dict[str, int]
    clips: int

    @property
    def pairs(self) -> int:
        return sum(self.splits.values())


@dataclass(frozen=True)
class Reconstruction:
    """Held-out pairs of a run: of each its view a, what was shown of it, the answer, view b
    (COLUMNS), as data URIs."""

    run: str
    caption: str
    pairs: list[list[str]]


@dataclass(frozen=True)
class Sample:
    name: str
    caption: str
    image: str


# ---------------------------------------------------------------------------- pairs


def mined(workspace: Workspace, source: str, count: int) -> MinedSource:
    """Counts and an evenly spaced selection of at most `count` pairs of a source."""
    counts = read_json(workspace.metrics("mine", source))
    bins = dict(
        sorted((counts or {}).get("overlap_histogram", {}).items(), key=lambda bin: float(bin[0]))
    )  # count by lower edge
    histogram = (
        charts.histogram([*(float(edge) for edge in bins), 1.0], list(bins.values()))
        if bins
        else None
    )
    return MinedSource(
        source,
        counts,
        histogram,
        [pair_picture(tar, row) for tar, row in select(workspace.pairs(source), count)],
    )


def select(folder: Path, count: int) -> list[tuple[Path, dict[str, Any]]]:
    """(tar, row) of at most `count` pairs, spread evenly over all of a folder's pairs; empty where
    there is no folder."""
    if not folder.is_dir() or not count:
        return []
    tars = shards_in(folder)
    starts = np.cumsum([0, *(pq.read_metadata(index_path(tar)).num_rows for tar in tars)])
    total = int(starts[-1])
    chosen = sorted({int((index + 0.5) * total / count) for index in range(count)}) if total else []
    return [_row_at(tars, starts, position) for position in chosen]


def at(folder: Path, position: int) -> tuple[Path, dict[str, Any]]:
    """(tar, row) of one of a folder's pairs, counted through its shards."""
    tars = shards_in(folder)
    starts = np.cumsum([0, *(pq.read_metadata(index_path(tar)).num_rows for tar in tars)])
    return _row_at(tars, starts, position)


def _row_at(tars: list[Path], starts: np.ndarray, position: int) -> tuple[Path, dict[str, Any]]:
    number = int(np.searchsorted(starts, position, side="right")) - 1
    table = read_table(index_path(tars[number]))
    return tars[number], table.slice(position - int(starts[number]), 1).to_pylist()[0]


def pair_picture(tar: Path, row: dict[str, Any], side_px: int | None = None) -> PairPicture:
    """A pair as it is drawn.

    Args:
        side_px: views that are stored larger are shown at this size; None = as they are.
    """
    patch = row["patch_px"]
    right = row["size_px"] + BETWEEN_PX
    side = row["size_px"] // patch
    colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in patch_colours(side).tolist()]

    def corner(index: int, left: int) -> tuple[int, int]:
        return left + index % side * patch, index // side * patch

    matches = [(a, b) for a, b in enumerate(row["correspondences"]) if b >= 0]
    alone_a = set(range(side * side)) - {a for a, _ in matches}
    alone_b = set(range(side * side)) - {b for _, b in matches}
    return PairPicture(
        row=row,
        image_a=_view(read_bytes(tar, row["offset_a"], row["size_a"]), side_px),
        image_b=_view(read_bytes(tar, row["offset_b"], row["size_b"]), side_px),
        marks=[PatchMatch(colours[a], corner(a, 0), corner(b, right)) for a, b in matches],
        rest=[corner(a, 0) for a in sorted(alone_a)] + [corner(b, right) for b in sorted(alone_b)],
    )


def _view(jpeg: bytes, side_px: int | None) -> str:
    """A stored view as a data URI."""
    if side_px is not None:
        jpeg = at_most(jpeg, side_px, PICTURE_QUALITY)
    return data_uri("image/jpeg", jpeg)


def dataset(workspace: Workspace, name: str) -> DatasetCounts | None:
    """A manifest counted by split and source; None where it has not been assembled."""
    path = workspace.manifest(name)
    if not path.exists():
        return None
    table = read_table(path, ["split", "source", "clip"], MANIFEST)
    splits = Counter(table["split"].to_pylist())
    sources = Counter(table["source"].to_pylist())
    clips = len(set(zip(table["source"].to_pylist(), table["clip"].to_pylist(), strict=True)))
    return DatasetCounts(name, dict(sorted(splits.items())), dict(sorted(sources.items())), clips)


# ---------------------------------------------------------------------------- pictures of runs


def reconstruction(workspace: Workspace, run: str) -> Reconstruction | None:
    """models/<run>/reconstruction.npz as single pictures; None where there is none."""
    folder = next(iter(workspace.encoders(run).values()), None)  # of several seeds the first
    path = folder and folder / "reconstruction.npz"
    if path is None or not path.exists():
        return None
    try:
        with np.load(path) as saved:
            shown = [
                [_png(saved[name][index]) for name in COLUMNS]
                for index in range(len(saved[COLUMNS[0]]))
            ]
            return Reconstruction(run, str(saved["caption"]), shown)
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise BadInput(f"{path}: damaged ({error}); run mimic pretrain {run} again") from None


def samples(params: Params, workspace: Workspace, task: str) -> dict[str, dict[str, Sample]]:
    """Pictures of a task: by name, then by run, so that one input can be compared across runs."""
    by_name: dict[str, dict[str, Sample]] = {}
    for run in params.table.runs:
        for path, caption in _captioned(_shown(workspace.samples(run, task))):
            by_name.setdefault(path.stem, {})[run] = Sample(path.stem, caption, picture(path))
    return dict(sorted(by_name.items()))


def _shown(folder: Path) -> Path:
    """Where a result's pictures lie; of several seeds those of the first."""
    return min(
        folder.glob(f"{SEED}*"), key=lambda path: int(path.name[len(SEED) :]), default=folder
    )


def _captioned(folder: Path) -> list[tuple[Path, str]]:
    """A folder's pictures and the captions that samples.json gives them."""
    listing = folder / "samples.json"
    try:
        captions = (
            {entry["file"]: entry["caption"] for entry in json.loads(listing.read_text())}
            if listing.exists()
            else {}
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{listing}: not a list of files and captions ({error!r}); evaluate again"
        ) from None
    return [(path, captions.get(path.name, path.stem)) for path in sorted(folder.glob("*.png"))]


def _png(image: np.ndarray) -> str:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data_uri("image/png", data.tobytes())


def picture(path: Path) -> str:
    """A PNG file as a data URI."""
    try:
        return data_uri(*smaller(path.read_bytes(), PICTURE_QUALITY))
    except ValueError:
        raise BadInput(
            f"{path}: not a picture; remove it and run the stage that makes it again"
        ) from None


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
