"""Stage assemble: a dataset is a manifest, rows that point into shards; no image is stored twice.

- A dataset holds every row of the dataset it `contains`; beyond those, a source's count is filled in an order that depends on
  the pairs' keys and the seed alone.
- A clip is on the same side of the split in every dataset: it is held out when the hash of source and clip falls below
  `validation`; where that takes no clip of a source that has several, the clip with the lowest hash is.
- Exact duplicates (the same two images, in either order) are left out: rows of the contained dataset stay, then the first.

Two passes over the shards, one at a time: names and hashes to choose, then whole rows to copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimic import config
from mimic.errors import BadInput
from mimic.infra import progress, shards, storage

ROW_GROUP = 8192  # rows read together; a random row costs reading one group


@dataclass(frozen=True)
class Catalogue:
    """The light columns of a source: one entry a pair, in the order of its shards."""

    source: str
    tars: list[Path]
    starts: np.ndarray  # i64 [tars + 1], where the pairs of each shard begin and end
    keys: pa.ChunkedArray
    held_out: np.ndarray  # bool
    images: np.ndarray  # u64 [pairs, 2], 8 bytes of each image's hash, the smaller first

    def __len__(self) -> int:
        return len(self.keys)

    def rank(self, seed: int) -> np.ndarray:
        """u64: the order in which a count is filled."""
        numbers = (_hash(f"{seed}\0{key}") for chunk in self.keys.chunks for key in chunk.to_pylist())
        return np.fromiter(numbers, np.uint64, len(self))


def main(params: config.Params, root: Path, name: str) -> None:
    """Write a dataset's manifest.

    Raises:
        BadInput: a source has not been mined, or has fewer pairs than the recipe wants.
    """
    dataset = config.pick(params.datasets, name, "dataset")
    space = storage.Workspace(root)
    catalogues = {source: _read(source, space, dataset.validation) for source in sorted(dataset.sources)}
    chosen = _choose(params, name, catalogues)
    counts = {"train": 0, "validation": 0}
    with storage.replacing(space.manifest(name)) as scratch, pq.ParquetWriter(scratch, shards.MANIFEST, compression="zstd") as writer:
        for table in _in_groups(_rows(catalogues, chosen, root)):
            writer.write_table(table, row_group_size=ROW_GROUP)
            for split in pc.value_counts(table["split"]).to_pylist():
                counts[split["values"]] += split["counts"]
    progress.say(f"assemble {name}: {counts['train']} pairs to train on, {counts['validation']} held out")


def _read(source: str, space: storage.Workspace, validation: float) -> Catalogue:
    tars = shards.shards_in(space.pairs(source))
    keys, clips, images, starts = [], [], [np.empty((0, 2), np.uint64)], [0]
    for tar in tars:
        table = shards.read_table(shards.twin(tar), ["key", "clip", "sha_a", "sha_b"])
        keys.append(table["key"])
        clips.append(table["clip"])
        images.append(np.sort(np.stack([_first_bytes(table[name]) for name in ("sha_a", "sha_b")], axis=1), axis=1))
        starts.append(starts[-1] + len(table))
    clip = pa.chunked_array([chunk for column in clips for chunk in column.chunks], pa.string()).combine_chunks().dictionary_encode()
    return Catalogue(
        source=source,
        tars=tars,
        starts=np.array(starts),
        keys=pa.chunked_array([chunk for column in keys for chunk in column.chunks], pa.string()),
        held_out=held_out(source, clip.dictionary.to_pylist(), validation)[clip.indices.to_numpy()],
        images=np.concatenate(images),
    )


def held_out(source: str, clips: list[str], validation: float) -> np.ndarray:
    """Which clips are kept for validation, as bool; at least one of several, unless the share is 0."""
    hashes = np.array([_hash(f"{source}\0{clip}") for clip in clips], np.uint64)
    held = hashes < int(validation * 2**64) if validation < 1 else np.ones(len(clips), bool)
    if validation > 0 and len(clips) > 1 and not held.any():
        held[hashes.argmin()] = True
    return held


def _choose(params: config.Params, name: str, catalogues: dict[str, Catalogue]) -> dict[str, np.ndarray]:
    """Which rows of each source are in the dataset, as bool; the contained dataset is chosen first, by the same rule."""
    dataset = params.datasets[name]
    chosen = {source: np.zeros(len(catalogue), bool) for source, catalogue in catalogues.items()}
    if dataset.contains is not None:
        inner = params.datasets[dataset.contains]
        chosen |= _choose(params, dataset.contains, {source: catalogues[source] for source in sorted(inner.sources)})
    usable = _without_duplicates(catalogues, chosen)
    for source, count in dataset.sources.items():
        free = np.flatnonzero(usable[source] & ~chosen[source])
        if count is not None:
            wanted = count - int(chosen[source].sum())
            if wanted > len(free):
                raise BadInput(_short(name, source, count, count - wanted + len(free)))
            free = free[np.argsort(catalogues[source].rank(dataset.seed)[free], kind="stable")[:wanted]]
        chosen[source][free] = True
    return chosen


def _without_duplicates(catalogues: dict[str, Catalogue], first: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first row of each pair of images, as bool; rows in `first` come before all others."""
    names = list(catalogues)
    images = np.concatenate([catalogues[name].images for name in names])
    late = ~np.concatenate([first[name] for name in names])
    order = np.lexsort((late, images[:, 1], images[:, 0]))  # stable: rows keep their order within equal ones
    keep = np.ones(len(order), bool)
    keep[order[1:]] = (images[order[1:]] != images[order[:-1]]).any(axis=1)
    ends = np.cumsum([len(catalogues[name]) for name in names])[:-1]
    return dict(zip(names, np.split(keep, ends), strict=True))


def _rows(catalogues: dict[str, Catalogue], chosen: dict[str, np.ndarray], root: Path) -> Iterator[pa.Table]:
    """Whole rows of the chosen pairs, shard by shard."""
    for source, catalogue in catalogues.items():
        for number, tar in enumerate(catalogue.tars):
            here = slice(catalogue.starts[number], catalogue.starts[number + 1])
            mask = chosen[source][here]
            if not mask.any():
                continue
            table = shards.read_table(shards.twin(tar)).filter(pa.array(mask))
            held = catalogue.held_out[here][mask]
            table = table.append_column(shards.MANIFEST.field("shard"), pa.array([tar.relative_to(root).as_posix()] * len(table)))
            yield table.append_column(shards.MANIFEST.field("split"), pa.array(np.where(held, "validation", "train").tolist()))


def _in_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ROW_GROUP, the last one shorter."""
    waiting = shards.MANIFEST.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table.cast(shards.MANIFEST)])
        while len(waiting) >= ROW_GROUP:
            yield waiting.slice(0, ROW_GROUP)
            waiting = waiting.slice(ROW_GROUP)
    if len(waiting):
        yield waiting


def _hash(text: str) -> int:
    """64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _first_bytes(digests: pa.ChunkedArray) -> np.ndarray:
    """The first 8 bytes of hexadecimal digests, u64."""
    return np.frombuffer(bytes.fromhex("".join(digest[:16] for digest in digests.to_pylist())), np.uint64)


def _short(name: str, source: str, wanted: int, there: int) -> str:
    return (
        f"datasets.{name}.sources.{source}: wants {wanted} pairs, but {there} distinct ones were mined, {wanted - there} too few;"
        " mine more of it, or lower the count (null takes all there are)"
    )
