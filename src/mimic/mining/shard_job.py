"""Shards of mined pairs: the unit of work, of resuming and of statistics.

A shard is done when its `.json` exists (what became of the candidates, examples of the rejected
ones): it is written last. Before it came the tar and then its Parquet file, where there were pairs;
a shard without pairs has neither. What a shard holds depends on its job alone, so any number of
workers, killed at any moment, leaves the same bytes in the end.
"""

from __future__ import annotations

import functools
import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyarrow.parquet import read_metadata

from mimic import config, mining, pairs, sources
from mimic.errors import BadInput
from mimic.geometry.overlap import Rule
from mimic.infra import owner, storage
from mimic.infra.addresses import without_secrets
from mimic.mining import loop, malloc, pair_rows, privacy, reject_samples, resume, worker_deaths
from mimic.mining.stats import rename_clips
from mimic.pairs.schema import clip_key, index_path
from mimic.pairs.write import ShardWriter, encode_image, shard_writer
from mimic.sources import base

# What decides the outcome: images decoded by these, features and homographies found by these.
DECIDING = ("opencv-python-headless", "numpy", "av", "pillow")


@dataclass(frozen=True)
class Job:
    """Everything a worker process needs to write one shard."""

    source: str
    section: config.SourceBase
    mine: config.Mine
    root: Path  # the workspace
    clips: tuple[str, ...]
    tar: Path
    params_digest: str
    habitat: config.HabitatRuntime | None  # of this machine: no part of the digest
    keys: tuple[str, ...]  # of each clip: what its pairs' keys start with
    shown: tuple[str, ...]  # of each clip: its name in counts and messages
    killers: tuple[str, ...] = ()  # clips to skip, because worker processes died in them


def jobs(
    name: str,
    section: config.SourceBase,
    mine: config.Mine,
    root: Path,
    clips: Sequence[str],
    folder: Path,
    habitat: config.HabitatRuntime | None = None,
) -> list[Job]:
    """Shards of `mine.clips_per_shard` clips each, in the order given."""
    size = mine.clips_per_shard
    digest = storage.fingerprint(mine.model_dump(), section.model_dump())
    todo = []
    for number, start in enumerate(range(0, len(clips), size)):
        some = tuple(clips[start : start + size])
        keys = tuple(clip_key(name, clip) for clip in some)
        tar = folder / f"shard-{number:05}.tar"
        todo.append(Job(name, section, mine, root, some, tar, digest, habitat, keys, some))
    return todo


def mine_shard(job: Job) -> tuple[str, float]:
    """Write one shard; the tar's name and the seconds it took. Runs in a worker process.

    A shard that was begun goes on where it was saved last.
    """
    folder = resume.folder_of(job.tar)
    with owner.owned(folder, f"mine {job.source} {job.tar.stem}"):
        # The worker of a killed driver was still at it, or died between the end and saying so.
        if result_path(job).exists():
            return job.tar.name, 0.0
        return _mine_shard(job)


def _mine_shard(job: Job) -> tuple[str, float]:
    started = time.monotonic()
    malloc.keep_freed()
    source = sources.open_source(job.source, job.section, job.root, job.mine.size_px, job.habitat)
    guard = privacy.open_guard(job.mine.privacy, job.root)
    with (
        shard_writer(job.tar, parts(job.section)) as writer,
        worker_deaths.tracing(trace_path(job)) as enter,
    ):
        saved = resume.Saved(resume.folder_of(job.tar), writer, job.killers, job.shown)
        state = saved.restore(guard)
        stats = state.stats
        taken_over = state.stats.candidates
        for clip in job.clips[state.clips :]:
            if clip in job.killers:
                stats.begin_clip()
                stats.add_damaged(clip, worker_deaths.KILLER)
                stats.end_clip(clip, worker_deaths.KILLER)
            else:
                enter(clip)
                _mine_clip(job, source, guard, state, saved, writer)
            state.end_clip()
            saved.between(state)
        stats.check(len(writer))
    names = dict(zip(job.clips, job.shown, strict=True))
    result = {
        "tally": rename_clips(stats.summary(), names, job.root / job.section.root),
        "tracebacks": state.tracebacks,
        "examples": state.examples.entries(),
        "taken_over": taken_over,
    }
    storage.write_json(result_path(job), result)  # says "done", so it comes last
    resume.remove(job.tar)
    return job.tar.name, time.monotonic() - started


def _mine_clip(
    job: Job,
    source: base.Source,
    guard: loop.Guard | None,
    state: resume.State,
    saved: resume.Saved,
    writer: ShardWriter,
) -> None:
    """Mine the clip that the state is at, from its bookmark on."""
    clip = job.clips[state.clips]
    key = job.keys[state.clips]
    bookmark = state.bookmark
    rule = rule_of(job.mine)
    sharpness_min = job.section.sharpness_min
    seed = job.mine.seed
    constant = _constant(job, clip)
    walk = loop.walk_clip(
        source, clip, rule, sharpness_min, seed, state.stats, guard, state.examples, bookmark
    )
    try:
        for pair in loop.surviving(walk):
            if pair is not None:
                row = {
                    "key": f"{key}-{bookmark.pairs - 1:05}",
                    **pair_rows.of_pair(pair),
                    **constant,
                }
                images = (pair.image_a, pair.image_b)
                saved.add(row, *(encode_image(image, job.mine.jpeg_quality) for image in images))
            saved.between(state)
    except loop.ClipFailed as failed:
        state.stats.add_failed(clip, failed.error, len(writer))
        trace = "".join(traceback.format_exception(failed.error))
        state.tracebacks[clip] = without_secrets(trace)


def _constant(job: Job, clip: str) -> dict[str, Any]:
    """What the rows of a clip's pairs have in common."""
    return {
        "source": job.source,
        "clip": clip,
        "size_px": job.mine.size_px,
        "patch_px": job.mine.patch_px,
        "licence": job.section.licence,
        "params_digest": job.params_digest,
        "versions": _versions_written(),
    }


def rule_of(mine: config.Mine) -> Rule:
    return Rule(**{name: getattr(mine, name) for name in Rule.__dataclass_fields__})


def libraries() -> dict[str, str]:
    """Versions of the libraries that decide the outcome."""
    return {name: version(name) for name in DECIDING}


@functools.cache
def _versions_written() -> str:
    return json.dumps(libraries() | {"mimic": version("mimic")}, sort_keys=True)


def parts(section: config.SourceBase) -> dict[str, int]:
    """Versions of our code that decides the outcome: progress made by other ones is not resumed."""
    judged = {"rule": mining.RULE_VERSION, "writer": pairs.WRITER_VERSION}
    return sources.parts(section) | judged


def trace_path(job: Job) -> Path:
    """Which clips its workers were in when they died."""
    return job.tar.with_suffix(".trace")


def result_path(job: Job) -> Path:
    """What says "done"."""
    return job.tar.with_suffix(".json")


def read_result(job: Job) -> dict[str, Any]:
    """What a finished job found: its stats, tracebacks and examples."""
    result: dict[str, Any] = json.loads(result_path(job).read_text())
    return result


def read_stats(job: Job) -> loop.MiningStats:
    return loop.MiningStats.from_summary(read_result(job)["tally"])


def with_pairs(done: Sequence[Job]) -> list[Path]:
    """The tars of finished jobs, in order; of those that found pairs.

    Raises:
        BadInput: a tar does not hold the pairs that were counted.
    """
    for job in done:
        counted = read_stats(job).kept
        index = index_path(job.tar)
        held = read_metadata(index).num_rows if index.exists() and job.tar.exists() else 0
        if held != counted:
            result_path(job).unlink()
            raise BadInput(
                f"{job.tar}: holds {held} of the {counted} pairs that were counted, as after a "
                "fault of the disk; run the same command again, and it is mined anew"
            )
    return [job.tar for job in done if job.tar.exists()]


def place_examples(folder: Path) -> None:
    """Refuse a folder that the examples could not replace, before anything is mined."""
    reject_samples.resolve_target(folder)


def publish_examples(done: Sequence[Job], folder: Path) -> None:
    """Pictures of rejected candidates into a folder of their own."""
    reject_samples.publish((read_result(job)["examples"] for job in done), folder)
