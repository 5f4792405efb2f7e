"""The mined pairs of some sources as light columns: all that choosing needs, some 50 bytes a
pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int16, Int32, Int64, UInt64

from mimic import config
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.pairs.read import read_table
from mimic.pairs.schema import index_path, shards_in

T = TypeVar("T")
HEX_DIGITS = 16  # of a hash; 8 bytes tell pictures apart
_NIBBLES = np.full(256, 255, np.uint8)
_NIBBLES[[*b"0123456789abcdef"]] = range(16)


@dataclass(frozen=True)
class Shard:
    """A tar and where its rows lie in the catalogue."""

    source: int
    tar: Path
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Catalogue:
    """One entry a row in the arrays, source by source in alphabetical order, shard by shard."""

    sources: list[str]
    clips: list[tuple[str, str]]  # (source, clip)
    scene_groups: list[
        tuple[str, str]
    ]  # (source, scene group) of each clip: clips of one group are on one side of a split
    shards: list[Shard]
    source: Int16[np.ndarray, " n"]  # index into sources
    clip: Int32[np.ndarray, " n"]  # index into clips
    images: UInt64[np.ndarray, "n 2"]  # of each image's sha256, the smaller first
    dhashes: UInt64[np.ndarray, "n 2"]  # dhash of view a and of view b

    def __len__(self) -> int:
        return len(self.source)


def _clips(table: pa.Table, source: str) -> pa.Array:
    """The clip of each row. One folder may hold pairs of several sources, as `mimic pairs` writes
    them, whose clips are called alike: there the name of its own source goes before it."""
    clips = table["clip"].combine_chunks()
    owners = table["source"].combine_chunks()
    own = pc.equal(owners, source)
    return pc.if_else(own, clips, pc.binary_join_element_wise(owners, clips, "/"))


def read(sources: Mapping[str, config.SourceBase], space: storage.Workspace) -> Catalogue:
    """The catalogue of all pairs that were mined from these sources.

    Raises:
        BadInput: a source has not been mined, or a shard is damaged.
    """
    names = sorted(sources)
    files = [
        (number, tar) for number, name in enumerate(names) for tar in shards_in(space.pairs(name))
    ]
    columns = ["source", "clip", "sha_a", "sha_b", "dhash_a", "dhash_b"]
    codes: dict[tuple[str, str], int] = {}
    shards: list[Shard] = []
    clips = [np.empty(0, np.int32)]
    images = [np.empty((0, 2), np.uint64)]
    dhashes = [np.empty((0, 2), np.uint64)]
    start = 0
    for (number, tar), table in zip(
        files, ahead(read_table(index_path(tar), columns) for _, tar in files), strict=True
    ):
        clip = _clips(table, names[number]).dictionary_encode()
        clip_codes = [
            codes.setdefault((names[number], name), len(codes))
            for name in clip.dictionary.to_pylist()
        ]
        clips.append(np.array(clip_codes, np.int32)[clip.indices.to_numpy()])
        images.append(
            np.sort(
                np.stack([first_bytes(tar, table[name]) for name in ("sha_a", "sha_b")], axis=1),
                axis=1,
            )
        )
        dhashes.append(
            np.stack([table[name].to_numpy() for name in ("dhash_a", "dhash_b")], axis=1)
        )
        shards.append(Shard(number, tar, start, start + len(table)))
        start += len(table)
    source = np.repeat(
        np.array([shard.source for shard in shards], np.int16),
        [shard.stop - shard.start for shard in shards],
    )
    scene_groups = [(source, sources[source].scene_group(clip)) for source, clip in codes]
    return Catalogue(
        names,
        list(codes),
        scene_groups,
        shards,
        source,
        np.concatenate(clips),
        np.concatenate(images),
        np.concatenate(dhashes),
    )


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made by a thread while the one before it is in use."""
    iterator = iter(items)
    nothing = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming: Future[object] = pool.submit(next, iterator, nothing)
        while (item := coming.result()) is not nothing:
            coming = pool.submit(next, iterator, nothing)
            yield item  # type: ignore[misc]


def clip_rows(catalogue: Catalogue, chosen: np.ndarray) -> Int64[np.ndarray, " clips"]:
    """How many of the chosen rows each clip has."""
    return np.bincount(catalogue.clip[chosen], minlength=len(catalogue.clips))


def first_bytes(tar: Path, digests: pa.ChunkedArray) -> UInt64[np.ndarray, " n"]:
    """The first 8 bytes of hexadecimal sha256 digests, read where Arrow keeps them: a Python string
    each would take minutes.

    Raises:
        BadInput: a digest has other than 64 hexadecimal letters.
    """
    column = digests.combine_chunks()
    text = column.buffers()[2]
    count = len(column)
    if count == 0:
        return np.empty(0, np.uint64)
    # Arrow keeps all strings in one buffer of letters, and where each begins in another.
    letters = np.frombuffer(text, np.uint8)
    first = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + count + 1]
    if not (np.diff(first) == 64).all():
        raise BadInput(f"{tar}: its Parquet file holds what is no sha256; mine the source again")
    # Each letter is 4 bits; two make a byte, eight bytes one big-endian number.
    nibbles = _NIBBLES[letters[first[0] : first[-1]].reshape(count, 64)[:, :HEX_DIGITS]]
    if (nibbles == 255).any():
        raise BadInput(f"{tar}: its Parquet file holds what is no sha256; mine the source again")
    return ((nibbles[:, ::2] << 4) | nibbles[:, 1::2]).copy().view(">u8")[:, 0].astype(np.uint64)
