"""Your own data: which clips share a shard, and how the keys of their pairs begin."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mimic.commands.own.own_sources import Clip, MediaFound, MediaPart
from mimic.infra import storage
from mimic.mining import shard_job
from mimic.pairs.schema import plain_name
from mimic.params import Params

SHARDS_AIMED_AT = (
    64  # small clips share shards, as long as there are about so many of them for workers to share
)
FRAMES_PER_SHARD = (
    256  # at most, of small clips together: some seconds of work are lost when a run is killed
)


def shard_jobs(params: Params, media: MediaFound, folder: Path) -> list[shard_job.Job]:
    """Shards of all parts, numbered through."""
    total = sum(clip.described["frames"] or 0 for part in media.parts for clip in part.clips)
    share = min(FRAMES_PER_SHARD, max(1, total // SHARDS_AIMED_AT))
    todo: list[shard_job.Job] = []
    for part in media.parts:
        digest = storage.fingerprint(params.mine.model_dump(), part.section.model_dump())
        for clips in _batches(part.clips, params.mine.clips_per_shard, share):
            keys = tuple(_key(part, clip, digest) for clip in clips)
            tar = folder / f"shard-{len(todo):05}.tar"
            names = tuple(clip.name for clip in clips)
            shown = tuple(clip.shown for clip in clips)
            todo.append(
                shard_job.Job(
                    part.source,
                    part.section,
                    params.mine,
                    Path(),
                    names,
                    tar,
                    digest,
                    params.habitat,
                    keys,
                    shown,
                )
            )
    return todo


def _batches(clips: Sequence[Clip], at_least: int, frames: int) -> Iterator[list[Clip]]:
    """Runs of clips that make a shard: at least so many clips, and no fewer frames than given; one
    of unknown length ends its run."""
    run: list[Clip] = []
    weight = 0.0
    for clip in clips:
        run.append(clip)
        weight += math.inf if clip.described["frames"] is None else clip.described["frames"]
        if len(run) >= at_least and weight >= frames:
            yield run
            run = []
            weight = 0.0
    if run:
        yield run


def _key(part: MediaPart, clip: Clip, params_digest: str) -> str:
    """Begins the keys of a clip's pairs: another file, other contents or other numbers give another
    key, in whatever outputs."""
    path = os.path.realpath(part.section.root / clip.name)
    made_of = storage.fingerprint(path, clip.described["digest"], params_digest)
    return f"{part.source}-{plain_name(clip.name)}-{made_of}"
