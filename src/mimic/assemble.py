"""Stage assemble: a dataset is a manifest, rows that point into shards; no image is stored twice.

Two passes over the shards: hashes and clips of all pairs to choose (see datasets.choice), then
whole rows of the chosen ones to copy. What became of every mined pair is counted in
metrics/assemble/<dataset>.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimic import config
from mimic.errors import BadInput
from mimic.infra import progress, storage
from mimic.infra.owner import one_owner
from mimic.licences import combine
from mimic.mining import published
from mimic.pairs import SELECTION_VERSION, both_sides, index, select
from mimic.pairs.index import Catalogue
from mimic.pairs.read import read_table
from mimic.pairs.schema import MANIFEST, clip_key, index_path
from mimic.pairs.select import RowStatus
from mimic.params import Params, pick, terms

# rows read together; a random row costs reading its columns of one group, and each group makes
# opening slower
ROW_GROUP = 16384
HISTOGRAM_BINS = 20
# Columns that are worth a dictionary.
REPEATED = [
    *(
        "source",
        "clip",
        "shard",
        "split",
        "licence",
        "params_digest",
        "versions",
        "size_px",
        "patch_px",
    ),
    "correspondences.list.element",
]


@one_owner("assemble")
def main(params: Params, root: Path, name: str) -> None:
    """Write a dataset's manifest.

    Raises:
        BadInput: a source has not been mined, or has fewer pairs than the recipe wants.
    """
    dataset = pick(params.datasets, name, "dataset")
    space = storage.Workspace(root)
    published.clear_recorded(root)
    rows = index.read({source: params.sources[source] for source in dataset.sources}, space)
    _distinct(name, rows)
    statuses = select.choose(
        params.datasets, name, rows, select.compare(rows, dataset.near_duplicate_bits)
    )
    overlaps: dict[str, np.ndarray] = {
        source: np.zeros(HISTOGRAM_BINS, np.int64) for source in rows.sources
    }
    licences: dict[str, set[str]] = {source: set() for source in rows.sources}
    layout: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": REPEATED,
        "write_statistics": ["split"],
    }
    with (
        storage.replacing(space.manifest(name)) as scratch,
        pq.ParquetWriter(scratch, MANIFEST, **layout) as writer,
    ):
        for table in _in_groups(index.ahead(_rows(rows, statuses, root, overlaps, licences))):
            writer.write_table(table, row_group_size=ROW_GROUP)
        # what the rows say: shards may be older than what params.yaml says of their source
        stated = [(source, licence) for source, names in licences.items() for licence in names]
        parts = terms.of_rows(params, stated)
        terms.refuse(f"datasets.{name}", parts, dataset.licences)
    summary = _summary(dataset, rows, statuses, overlaps, licences)
    shared = both_sides.shared_images(rows, statuses)
    summary["images_on_both_sides"] = shared.count if shared else 0
    summary["section"] = dataset.model_dump(mode="json")
    summary["licences"] = combine(parts)
    storage.write_json(space.metrics("assemble", name), summary)
    _report(name, summary)
    _say_both_sides(params, root, name, summary["splits"], shared)


def _distinct(name: str, rows: Catalogue) -> None:
    """Keys of pairs begin with source and clip: of `a-b`, clip `c`, as of `a`, clip `b-c`."""
    seen: dict[str, tuple[str, str]] = {}
    for source, clip in rows.clips:
        other = seen.setdefault(clip_key(source, clip), (source, clip))
        if other != (source, clip):
            raise BadInput(
                f"datasets.{name}: pairs of {source}, clip {clip}, are called as those of "
                f"{other[0]}, clip"
                f" {other[1]}; rename one of the two sources, and mine it again"
            )


def _rows(
    rows: Catalogue,
    statuses: np.ndarray,
    root: Path,
    overlaps: dict[str, np.ndarray],
    licences: dict[str, set[str]],
) -> Iterator[pa.Table]:
    """Whole rows of the chosen pairs, shard by shard; adds up their overlaps and licences on the
    way."""
    for shard in rows.shards:
        mine = statuses[shard.start : shard.stop]
        chosen = mine < len(select.SPLITS)
        if not chosen.any():
            continue
        table = read_table(index_path(shard.tar)).filter(pa.array(chosen))
        source = rows.sources[shard.source]
        bins = np.minimum(table["overlap"].to_numpy() * HISTOGRAM_BINS, HISTOGRAM_BINS - 1).astype(
            np.int64
        )
        overlaps[source] += np.bincount(bins, minlength=HISTOGRAM_BINS)
        licences[source] |= set(pc.unique(table["licence"]).to_pylist())
        path = pa.DictionaryArray.from_arrays(
            np.zeros(len(table), np.int8), [shard.tar.relative_to(root).as_posix()]
        )
        split = pa.DictionaryArray.from_arrays(mine[chosen], list(select.SPLITS))
        for field, column in (("shard", path), ("split", split)):
            table = table.append_column(MANIFEST.field(field), column.cast(pa.string()))
        yield table


def _in_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ROW_GROUP, the last one shorter."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table.cast(MANIFEST))
        if sum(map(len, waiting)) >= ROW_GROUP:
            joined = pa.concat_tables(waiting)
            complete = len(joined) // ROW_GROUP * ROW_GROUP
            for start in range(0, complete, ROW_GROUP):
                yield joined.slice(start, ROW_GROUP)
            waiting = [joined.slice(complete)]
    if waiting and (rest := pa.concat_tables(waiting)):
        yield rest


def _summary(
    dataset: config.Dataset,
    rows: Catalogue,
    statuses: np.ndarray,
    overlaps: dict[str, np.ndarray],
    licences: dict[str, set[str]],
) -> dict[str, Any]:
    """What became of the mined pairs of each source, and how much the chosen ones overlap: plain
    JSON."""
    taken = statuses < len(select.SPLITS)
    clips = Counter(rows.clips[clip][0] for clip in np.flatnonzero(index.clip_rows(rows, taken)))
    sources: dict[str, Any] = {}
    for number, source in enumerate(rows.sources):
        counts = np.bincount(statuses[rows.source == number], minlength=len(RowStatus))
        pairs = int(counts[RowStatus.TRAIN] + counts[RowStatus.VALIDATION])
        wanted = dataset.sources[source]
        sources[source] = {
            "wanted": wanted,
            "pairs": pairs,
            "short": 0 if wanted is None else wanted - pairs,
            "mined": int(counts.sum()),
            "fates": {status.name.lower(): int(counts[status]) for status in _counted(dataset)},
            "clips": clips[source],
            "licences": sorted(licences[source]),
            "overlap_histogram": {
                f"{number / HISTOGRAM_BINS:.2f}": int(count)
                for number, count in enumerate(overlaps[source])
            },
        }
    splits = {split: int((statuses == status).sum()) for status, split in enumerate(select.SPLITS)}
    return {
        "parts": {"selection": SELECTION_VERSION},
        "pairs": splits["train"] + splits["validation"],
        "splits": splits,
        "clips": clips.total(),
        "sources": sources,
    }


def _counted(dataset: config.Dataset) -> list[RowStatus]:
    """The statuses that a pair of this dataset's sources can have."""
    without = {RowStatus.ELSEWHERE}
    if dataset.places is None:
        without.add(RowStatus.OTHER_PLACE)
    return [status for status in RowStatus if status not in without]


def _report(name: str, summary: dict[str, Any]) -> None:
    splits = summary["splits"]
    tested = f", {splits['test']} to test on" if splits["test"] else ""
    progress.say(
        f"assemble {name}: {splits['train']} pairs to train on, {splits['validation']} held "
        f"out{tested}"
    )
    statuses = [counts["fates"] for counts in summary["sources"].values()]
    if gone := sum(status["duplicate"] + status["near_duplicate"] for status in statuses):
        near = sum(status["near_duplicate"] for status in statuses)
        progress.say(
            f"assemble {name}: {gone} duplicates left out, {near} of them near ones of other clips"
        )
    for source, counts in summary["sources"].items():
        if counts["short"]:
            progress.say(
                f"assemble {name}: {source} has {counts['pairs']} of the {counts['wanted']} pairs "
                f"wanted, {counts['short']} too few"
            )


def _say_both_sides(
    params: Params,
    root: Path,
    name: str,
    splits: dict[str, int],
    shared: both_sides.SharedImages | None,
) -> None:
    """What would make held-out numbers better than they are."""
    if shared is not None:
        one, other = (", clip ".join(clip) for clip in (shared.trained, shared.held_out))
        progress.say(
            f"assemble {name}: {shared.count} images are trained on and held out, such as one of "
            f"{one}, and {other}; keep one of the two, or held-out losses are lower than they "
            "would be"
        )
    if splits["train"] and splits["validation"] + splits["test"]:
        roots = {
            source: root / params.sources[source].root for source in params.datasets[name].sources
        }
        for one, other in both_sides.sources_of_one_folder(roots):
            progress.say(
                f"assemble {name}: sources {one} and {other} read one folder; a place may be "
                "trained on by one and held out by the other; keep one of the two, or name other "
                "folders"
            )
