"""Stage ingest: list what raw data a source holds, so that DVC versions it without copying it.

data/inventory/<source>.parquet, one row a clip, in the order they are mined: clip, bytes, frames
(as announced; null: not known), digest of the contents, error (why it cannot be read; null: it
can), note (how it is read, such as which axis of a scene is up). Digest: sha256 of everything up to
64 MiB a clip; above, of names, sizes and 16 samples spread over it. Its metadata say the versions
of the reader and of its engine, so that a raised one makes another file, and DVC mines again.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from mimic import sources
from mimic.infra import cluster, progress, storage
from mimic.infra.owner import one_owner
from mimic.mining import stats
from mimic.pairs.write import parts_metadata, write_table
from mimic.params import Params, pick
from mimic.sources.base import NOTED, describe


@one_owner("ingest")
def main(params: Params, root: Path, name: str) -> None:
    """Write the inventory of a source.

    Raises:
        BadInput: the source's root is missing or holds nothing.
    """
    section = pick(params.sources, name, "source")
    source = sources.open_source(name, section, root, params.mine.size_px, params.habitat)
    clips = source.clips()[: section.limit_clips]
    rows = []
    notes = {}
    # Hashing and decoding let go of Python's lock: threads are enough.
    with (
        ThreadPoolExecutor(cluster.available_cores()) as pool,
        progress.track(f"ingest {name}", len(clips), "clips", None) as track,
    ):
        for clip, description in zip(
            clips, pool.map(functools.partial(describe, source), clips), strict=True
        ):
            rows.append({"clip": clip, **description})
            if description["error"]:
                progress.say(
                    f"ingest {name}: {clip}: {description['error']}; it will be counted, the rest "
                    "is mined"
                )
            if note := description.get("note"):
                notes[clip] = note
            track.advance(1)
    for line in stats.note_lines(notes):
        progress.say(f"ingest {name}: {line}")
    for line in stats.first_lines(source.skipped, None):
        progress.say(f"ingest {name}: skipped: {line}")
    schema = NOTED.with_metadata(parts_metadata(sources.parts(section)))
    write_table(pa.Table.from_pylist(rows, schema=schema), storage.Workspace(root).inventory(name))
