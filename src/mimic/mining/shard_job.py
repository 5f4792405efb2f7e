"""Shards of mined pairs: the unit of work, of resuming and of statistics.

A shard is done when its `.json` exists (what became of the candidates, examples of the rejected
ones): it is written last. Before it came the tar and then its Parquet file, where there were pairs;
a shard without pairs has neither. What a shard holds depends on its job alone, so any number of
workers, killed at any moment, leaves the same bytes in the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mimic import config, mining, pairs, sources
from mimic.errors import BadInput
from mimic.geometry.overlap import Rule
from mimic.infra import cluster, owner, progress, storage
from mimic.infra.cluster.failures import cause
from mimic.mining import loop, malloc, pair_rows, privacy, reject_samples, resume, worker_deaths
from mimic.mining.stats import rename_clips, summary_lines
from mimic.pairs.schema import clip_key, index_path
from mimic.pairs.write import ShardWriter, encode_image, shard_writer
from mimic.sources import base

# What decides the outcome: images decoded by these, features and homographies found by these.
DECIDING = ("opencv-python-headless", "numpy", "av", "pillow")
LOOKED_EVERY_S = 5.0  # at what workers say of themselves


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
    found = []
    for number, start in enumerate(range(0, len(clips), size)):
        some = tuple(clips[start : start + size])
        keys = tuple(clip_key(name, clip) for clip in some)
        tar = folder / f"shard-{number:05}.tar"
        found.append(Job(name, section, mine, root, some, tar, digest, habitat, keys, some))
    return found


def run(todo: Sequence[Job], where: config.Cluster, title: str, log: Path) -> loop.MiningStats:
    """Mine the jobs that are not done yet, and sum up all; one line a shard goes to the log.

    A clip in which worker processes die again and again is named and skipped, once all other shards
    are done.

    Raises:
        BadInput: worker processes die, and no clip is to blame; or the program fails on every clip.
    """
    for job in todo:
        _trace(job).unlink(
            missing_ok=True
        )  # of earlier runs, whose workers may have been killed by anybody
        resume.forget_now(job.tar)
    while True:
        try:
            stats = _round(todo, where, title, log)
            break
        except cluster.ItemsFailed as failed:
            todo = [
                _without_killers(job, failed) if _describe(job) in failed.failed else job
                for job in todo
            ]
    for folder in {job.tar.parent for job in todo}:
        storage.sweep(
            folder
        )  # now that nobody writes there, not even jobs of a driver that was killed
    for job in todo:
        resume.remove(job.tar)  # of workers that were killed when they were done
    if stats.failed and len(stats.failed) == stats.clips:
        for job in todo:  # nothing to keep: whatever was wrong, the next run tries again
            _result(job).unlink(missing_ok=True)
        clip, why = min(stats.failed.items())
        raise BadInput(
            f"{title}: the program failed on every clip, first on {clip}: {why}; tracebacks are in "
            f"{log}"
        )
    return stats


def _round(todo: Sequence[Job], where: config.Cluster, title: str, log: Path) -> loop.MiningStats:
    stats = loop.MiningStats()
    missing = {job.tar.name: job for job in todo if not _result(job).exists()}
    for job in todo:
        if job.tar.name not in missing:
            stats.add(_summary(job))
    clips = sum(len(job.clips) for job in missing.values())
    results = cluster.map_items(
        mine_shard,
        list(missing.values()),
        where.mine,
        where,
        _describe,
        log.parent / "slurm",
        title=title,
        unit="shards",
    )
    with (
        log.open("a") as lines,
        contextlib.closing(results),
        progress.track(title, clips, "clips", log) as track,
        progress.repeating(functools.partial(_watch, log.parent, stats, track), LOOKED_EVERY_S),
    ):
        for name, seconds in results:
            job = missing[name]
            stats.add(_summary(job))
            result = read_result(job)
            known = {
                **result["tally"],
                "tracebacks": result["tracebacks"],
                "taken_over": result["taken_over"],
            }
            lines.write(
                json.dumps({"shard": job.tar.stem, "seconds": round(seconds, 3), **known}) + "\n"
            )
            lines.flush()
            track.advance(len(job.clips), _counted(stats.kept, stats.candidates))
    return stats


def _watch(folder: Path, stats: loop.MiningStats, track: progress.ProgressTracker) -> None:
    """Show what worker processes say of the shards that they are in the middle of."""
    seen = list(resume.watched(folder))
    if not seen:
        return
    kept = stats.kept + sum(now.kept for now in seen)
    candidates = stats.candidates + sum(now.candidates for now in seen)
    others = f" and {len(seen) - 1} more" if len(seen) > 1 else ""
    note = f"{_counted(kept, candidates)}, in {seen[0].where}{others}"
    track.show(sum(now.share for now in seen), sum(now.earlier for now in seen), note)


def _counted(kept: int, candidates: int) -> str:
    return f"{kept} pairs of {candidates} candidates"


def _without_killers(job: Job, failed: cluster.ItemsFailed) -> Job:
    """The job without the clips in which a worker process died twice."""
    if not _trace(job).exists():  # it was an exception, and those are no accidents
        raise failed
    killers = tuple(clip for clip in worker_deaths.killers(_trace(job)) if clip not in job.killers)
    if not killers:  # it dies anywhere: too little memory for any clip
        raise BadInput(cause(failed.failed[_describe(job)]))
    return dataclasses.replace(job, killers=(*job.killers, *killers))


def _describe(job: Job) -> str:
    again = f", without {', '.join(job.killers)}" if job.killers else ""
    return f"{job.tar.stem} ({', '.join(job.clips[:3])}{again})"


def mine_shard(job: Job) -> tuple[str, float]:
    """Write one shard; the tar's name and the seconds it took. Runs in a worker process.

    A shard that was begun goes on where it was saved last.
    """
    folder = resume.folder_of(job.tar)
    with owner.owned(folder, f"mine {job.source} {job.tar.stem}") as mine:
        if mine.waited and _result(job).exists():  # the worker of a killed driver was still at it
            return job.tar.name, 0.0
        return _mine_shard(job)


def _mine_shard(job: Job) -> tuple[str, float]:
    started = time.monotonic()
    malloc.keep_freed()
    source = sources.open_source(job.source, job.section, job.root, job.mine.size_px, job.habitat)
    guard = privacy.open_guard(job.mine.privacy, job.root)
    with (
        shard_writer(job.tar, parts(job.section)) as writer,
        worker_deaths.tracing(_trace(job)) as enter,
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
    storage.write_json(_result(job), result)  # says "done", so it comes last
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
        state.tracebacks[clip] = "".join(traceback.format_exception(failed.error))


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


def report(title: str, summary: dict[str, Any], where: Path, log: Path) -> None:
    """What became of the candidates, and the first of what was damaged or left out, for the reader
    of the log.

    Args:
        summary: as `MiningStats.summary` gives it.
        where: the file in which all are named.
        log: holds the tracebacks.
    """
    counts = Counter(summary["outcomes"])
    reasons = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common() if count)
    progress.say(
        f"{title}: {summary['candidates']} candidates in {summary['clips']} clips: "
        f"{reasons or 'none'}"
    )
    for line in summary_lines(summary, where, log):
        progress.say(f"{title}: {line}")


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


def _trace(job: Job) -> Path:
    return job.tar.with_suffix(".trace")


def _result(job: Job) -> Path:
    return job.tar.with_suffix(".json")


def read_result(job: Job) -> dict[str, Any]:
    """What a finished job found: its stats, tracebacks and examples."""
    found: dict[str, Any] = json.loads(_result(job).read_text())
    return found


def _summary(job: Job) -> loop.MiningStats:
    return loop.MiningStats.from_summary(read_result(job)["tally"])


def with_pairs(done: Sequence[Job]) -> list[Path]:
    """The tars of finished jobs, in order; of those that found pairs."""
    return [job.tar for job in done if job.tar.exists()]


def place_examples(folder: Path) -> None:
    """Refuse a folder that the examples could not replace, before anything is mined."""
    reject_samples.place(folder)


def publish_examples(done: Sequence[Job], folder: Path) -> None:
    """Pictures of rejected candidates into a folder of their own."""
    reject_samples.publish((read_result(job)["examples"] for job in done), folder)


def clear(done: Sequence[Job]) -> None:
    """Remove what lies beside the log, once it is published; the file which says "done" goes
    first."""
    for job in done:
        for path in (_result(job), index_path(job.tar), job.tar):
            path.unlink(missing_ok=True)
