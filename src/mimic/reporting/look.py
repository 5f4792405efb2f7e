"""The page to look at before training: OUT/_index.html of `mimic pairs`, from what lies in OUT.

It shows kept and rejected pairs, how much they overlap, what each clip gave, what is twice there,
and what to change on the command line. Everything is in the one file: it opens offline, and stays
small whatever the number of pairs, because it shows a fixed number of them, chosen evenly or by a
hash of their names. Equal folders make equal pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mimic import licences
from mimic.errors import BadInput
from mimic.geometry.likeness import near_duplicate_pairs
from mimic.infra.storage import write_bytes
from mimic.pairs.read import read_table
from mimic.pairs.schema import index_path, shards_in
from mimic.reporting import advice, charts, gallery, mining
from mimic.reporting.environment import page_environment

SUMMARY = "_pairs.json"
# Examples of rejected candidates, their pictures in them: JSON, but no third file that ends so, for
# `datasets` takes a folder for what most of its files end with.
REJECTED = "_rejected"
PAGE = "_index.html"  # readers of a folder of Parquet files pass over such names
MADE_BY = '<meta name="generator" content="mimic pairs">'  # only such a page is ever replaced
PAIRS = 12  # kept ones that are shown
TWINS = 3  # pairs of near duplicates that are shown
CLIPS = 60  # clips that are listed with what they gave; of reasons, clips that are named
SIDE_PX = 256  # larger views are shown at this size
COLUMNS = ["source", "clip", "overlap", "dhash_a", "dhash_b"]
COMPARED = 100_000  # pairs among which near duplicates are looked for: a few seconds
NAME_MAX = 160  # letters of a name or a reason that are shown


@dataclass(frozen=True)
class ClipLine:
    """What a clip gave."""

    name: str
    source: str
    pairs: int
    share: float


@dataclass(frozen=True)
class Likenesses:
    """Pairs that look like a pair of another clip."""

    count: int  # all but one of each group
    groups: int
    among: int  # pairs that were compared
    shown: list[tuple[gallery.PairPicture, gallery.PairPicture]]


def look_page(out: Path) -> Path:
    """Write the page of a folder that `mimic pairs` has filled; where it lies.

    Raises:
        BadInput: the folder holds no finished result, or a file in it is damaged.
    """
    summary = _read(out / SUMMARY)
    if not isinstance(summary, dict) or "outcomes" not in summary:
        raise BadInput(f"{out}: no {SUMMARY} of `mimic pairs`; mine the data into it first")
    page = out / PAGE
    write_bytes(page, render(out, summary).encode("utf-8"))
    return page


def is_ours(page: Path) -> bool:
    """Whether a file is a page of this kind, which may be replaced."""
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            return MADE_BY in file.read(1000)
    except OSError:
        return False


def render(out: Path, summary: dict[str, Any]) -> str:
    """The page as HTML text."""
    settings = summary.get("settings", {})
    called = ClipNames(settings.get("sources", {}))
    rows = _rows(out)
    clips = _clips(rows, called)
    alike = _alike(out, rows, settings.get("near_duplicate_bits"), called)
    bins = {float(edge): count for edge, count in summary["overlap_histogram"].items()}
    without = summary.get("without_pairs", {})
    gave = [clip.pairs for clip in clips]
    shown = {
        "made_by": MADE_BY,
        "summary": summary,
        "title": _title(summary.get("paths", [])),
        "band": (settings.get("overlap_min", 0.0), settings.get("overlap_max", 1.0)),
        "histogram": charts.histogram([*sorted(bins), 1.0], [bins[edge] for edge in sorted(bins)]),
        "pairs": [_picture(called, *one) for one in gallery.select(out, PAIRS)],
        "reasons": mining.reasons_of(summary, _examples(out)),
        "clips": clips[:CLIPS],
        "clips_in_all": len(clips),
        "sources": _sources(clips, settings),
        "without": {name: reason["why"] for name, reason in islice(without.items(), CLIPS)},
        "without_in_all": len(without),
        "named": [one for one in mining.named(summary) if one[0] != "without a pair"],
        "alike": alike,
        "findings": advice.findings(
            summary, settings, gave, (alike.count, alike.among) if alike else (0, 0)
        ),
        "terms": licences.summary(summary),
        "short": _short,
    }
    return page_environment().get_template("look.html.j2").render(shown)


class ClipNames:
    """Clips by the names that people know them by."""

    def __init__(self, sources: dict[str, Any]) -> None:
        self._below = {name: section.get("below", "") for name, section in sources.items()}

    def of(self, source: str, clip: str) -> str:
        below = self._below.get(source, "")
        if clip == "." and below:
            return _short(below)
        return _short(f"{below}/{clip}" if below else clip)


def _picture(called: ClipNames, tar: Path, row: dict[str, Any]) -> gallery.PairPicture:
    known = {**row, "clip": called.of(row["source"], row["clip"])}
    return gallery.pair_picture(tar, known, SIDE_PX)


def _title(paths: Iterable[str]) -> str:
    names = [Path(path).name or path for path in paths]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return _short(", ".join(names[:2]) + more) or "pairs"


def _short(text: str) -> str:
    return text if len(text) <= NAME_MAX else f"{text[: NAME_MAX - 1]}…"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: damaged ({error}); mine the data again") from None


def _examples(out: Path) -> dict[str, list[mining.Example]]:
    """Rejected candidates by outcome; results of earlier versions have none."""
    examples: dict[str, list[mining.Example]] = {}
    try:
        for entry in _read(out / REJECTED) or []:
            image = f"data:image/jpeg;base64,{entry['picture']}"
            frames = " and ".join(entry["frames"])
            caption = _short(f"{entry['why']}. {entry['clip']}: {frames}")
            examples.setdefault(entry["outcome"], []).append(mining.Example(caption, image))
    except (KeyError, TypeError) as error:
        raise BadInput(f"{out / REJECTED}: damaged ({error!r}); mine the data again") from None
    return examples


# ---------------------------------------------------------------------------- what was kept


def _rows(out: Path) -> pa.Table:
    """The columns that are counted, of all pairs."""
    tables = [read_table(index_path(tar), COLUMNS) for tar in shards_in(out)]
    return pa.concat_tables(tables) if tables else pa.table({name: [] for name in COLUMNS})


def _clips(rows: pa.Table, called: ClipNames) -> list[ClipLine]:
    """Clips that gave pairs, those with most of them first."""
    counted = rows.group_by(["source", "clip"]).aggregate([([], "count_all")]).to_pylist()
    counted.sort(key=lambda one: (-one["count_all"], one["source"], one["clip"]))
    most = counted[0]["count_all"] if counted else 1
    return [
        ClipLine(
            called.of(one["source"], one["clip"]),
            one["source"],
            one["count_all"],
            one["count_all"] / most,
        )
        for one in counted
    ]


def _sources(clips: list[ClipLine], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What each source, a path and a kind of data, was read by and gave."""
    described = settings.get("sources", {})
    names = sorted({*described, *(clip.source for clip in clips)})
    return [
        {
            "name": name,
            "reader": described.get(name, {}).get("reader", "–"),
            "licence": described.get(name, {}).get("licence", licences.NOT_STATED),
            "clips": sum(clip.source == name for clip in clips),
            "pairs": sum(clip.pairs for clip in clips if clip.source == name),
        }
        for name in names
    ]


def _alike(out: Path, rows: pa.Table, bits: int | None, called: ClipNames) -> Likenesses | None:
    """Near duplicates, found as `mimic assemble` finds them; None where they are not asked for."""
    if bits is None:
        return None
    chosen = _compared(rows["dhash_a"].to_numpy().astype(np.uint64))
    some = rows.take(pa.array(chosen))
    codes = np.stack(
        [some[name].to_numpy().astype(np.uint64) for name in ("dhash_a", "dhash_b")], axis=1
    )
    places = [f"{source}\0{clip}" for source, clip in zip(*_columns(some), strict=True)]
    clip = np.unique(np.array(places, dtype=object).astype(str), return_inverse=True)[1]
    group = _groups(codes, clip.astype(np.int64), bits)
    members = group >= 0
    groups = len(np.unique(group[members]))
    return Likenesses(
        int(members.sum()) - groups, groups, len(some), _twins(out, group, clip, chosen, called)
    )


def _compared(codes: np.ndarray) -> np.ndarray:
    """Which pairs are compared: all, or COMPARED of them, drawn by the look of view a, so that
    equal ones are drawn together; of rows drawn singly few would meet their like."""
    if len(codes) <= COMPARED:
        return np.arange(len(codes))
    mixed = codes * np.uint64(0x9E3779B97F4A7C15)  # the golden ratio: neighbours lie apart
    return np.sort(np.argsort(mixed, kind="stable")[:COMPARED])


def _columns(rows: pa.Table) -> tuple[list[str], list[str]]:
    return rows["source"].to_pylist(), rows["clip"].to_pylist()


def _groups(codes: np.ndarray, clip: np.ndarray, bits: int) -> np.ndarray:
    """For each pair the number of its group of near duplicates from several clips; -1 = of none.

    Equal codes are one for the search: thousands of equal pictures would be millions of links.
    """
    if not len(codes):
        return np.empty(0, np.int64)
    distinct, code = np.unique(codes, axis=0, return_inverse=True)
    code = code.ravel()
    links = near_duplicate_pairs(distinct, np.arange(len(distinct)), bits)
    size = len(distinct)
    linked = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(size, size))
    label = connected_components(linked, directed=False)[1][code]
    low = np.full(size, np.iinfo(np.int64).max)
    high = np.full(size, -1)
    np.minimum.at(low, label, clip)
    np.maximum.at(high, label, clip)
    return np.where(low[label] != high[label], label, -1)


def _twins(
    out: Path, group: np.ndarray, clip: np.ndarray, chosen: np.ndarray, called: ClipNames
) -> list[tuple[gallery.PairPicture, gallery.PairPicture]]:
    """Two pairs of different clips of each of the first groups."""
    shown = []
    for label in np.unique(group[group >= 0])[:TWINS]:
        rows = np.flatnonzero(group == label)
        other = rows[clip[rows] != clip[rows[0]]][0]
        one, two = (
            _picture(called, *gallery.at(out, int(chosen[row]))) for row in (rows[0], other)
        )
        shown.append((one, two))
    return shown
