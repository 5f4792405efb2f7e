"""Shards of mined pairs: the unit of work, of resuming and of statistics.

A shard is done when its Parquet file exists; its tar and its `.json` (what became of the candidates) were written before.
What a shard holds depends on its job alone, so any number of workers, killed at any moment, leaves the same bytes in the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import mimic
from mimic import config, sources
from mimic.errors import BadInput
from mimic.geometry.overlap import Rule
from mimic.infra import cluster, heap, progress, shards, storage
from mimic.sources import examples, miner, privacy

# What decides the outcome: images decoded by these, features and homographies found by these.
DECIDING = ("opencv-python-headless", "numpy", "av", "pillow", "mimic")

ATTEMPT = "attempt\n"  # separates attempts in a trace; clips are written as JSON


@dataclass(frozen=True)
class Job:
    """Everything a worker process needs to write one shard."""

    source: str
    section: config.Source
    mine: config.Mine
    root: Path  # the workspace
    clips: tuple[str, ...]
    tar: Path
    params_digest: str
    habitat: config.Habitat | None  # of this machine: no part of the digest
    killers: tuple[str, ...] = ()  # clips to skip, because worker processes died in them


def jobs(
    name: str,
    section: config.Source,
    mine: config.Mine,
    root: Path,
    clips: Sequence[str],
    folder: Path,
    first: int = 0,
    habitat: config.Habitat | None = None,
) -> list[Job]:
    """Shards of `mine.clips_per_shard` clips each, in the order given, numbered from `first`."""
    size = mine.clips_per_shard
    digest = storage.fingerprint(mine.model_dump(), section.model_dump())
    return [
        Job(name, section, mine, root, tuple(clips[start : start + size]), folder / f"shard-{first + number:05}.tar", digest, habitat)
        for number, start in enumerate(range(0, len(clips), size))
    ]


def run(todo: Sequence[Job], where: config.Cluster, title: str, log: Path) -> miner.Tally:
    """Mine the jobs that are not done yet, and sum up all; one line a shard goes to the log.

    A clip in which worker processes die again and again is named and skipped, once all other shards are done.

    Raises:
        BadInput: worker processes die, and no clip is to blame; or the program fails on every clip.
    """
    for job in todo:
        _trace(job).unlink(missing_ok=True)  # of earlier runs, whose workers may have been killed by anybody
    while True:
        try:
            tally = _round(todo, where, title, log)
            break
        except cluster.ShardsFailed as failed:
            todo = [_without_killers(job, failed) if _describe(job) in failed.failed else job for job in todo]
    for folder in {job.tar.parent for job in todo}:
        storage.sweep(folder)  # now that nobody writes there, not even jobs of a driver that was killed
    if tally.failed and len(tally.failed) == tally.clips:
        for job in todo:  # nothing to keep: whatever was wrong, the next run tries again
            shards.twin(job.tar).unlink(missing_ok=True)
        clip, why = min(tally.failed.items())
        raise BadInput(f"{title}: the program failed on every clip, first on {clip}: {why}; tracebacks are in {log}")
    return tally


def _round(todo: Sequence[Job], where: config.Cluster, title: str, log: Path) -> miner.Tally:
    tally = miner.Tally()
    missing = {job.tar.name: job for job in todo if not shards.twin(job.tar).exists()}
    for job in todo:
        if job.tar.name not in missing:
            tally.add(_summary(job))
    clips = sum(len(job.clips) for job in missing.values())
    results = cluster.map_shards(mine_shard, list(missing.values()), where, _describe, log.parent / "slurm")
    with log.open("a") as lines, contextlib.closing(results), progress.track(title, clips, "clips", log) as track:
        for name, seconds in results:
            job = missing[name]
            tally.add(_summary(job))
            lines.write(json.dumps({"shard": job.tar.stem, "seconds": round(seconds, 3), **json.loads(_twin(job).read_text())}) + "\n")
            lines.flush()
            track.advance(len(job.clips), f"{tally.kept} pairs of {tally.candidates} candidates")
    return tally


def _without_killers(job: Job, failed: cluster.ShardsFailed) -> Job:
    """The job without the clips in which a worker process died twice."""
    if not _trace(job).exists():  # it was an exception, and those are no accidents
        raise failed
    attempts = _trace(job).read_text().split(ATTEMPT)[1:]
    last = Counter(json.loads(attempt.splitlines()[-1]) for attempt in attempts if attempt.strip())
    killers = tuple(clip for clip, deaths in last.items() if deaths > 1 and clip not in job.killers)
    if not killers:  # it dies anywhere: too little memory for any clip
        raise BadInput(failed.failed[_describe(job)].strip().splitlines()[-1])
    return dataclasses.replace(job, killers=(*job.killers, *killers))


def _describe(job: Job) -> str:
    again = f", without {', '.join(job.killers)}" if job.killers else ""
    return f"{job.tar.stem} ({', '.join(job.clips[:3])}{again})"


def mine_shard(job: Job) -> tuple[str, float]:
    """Write one shard; the tar's name and the seconds it took. Runs in a worker process."""
    started = time.monotonic()
    heap.keep_freed()
    source = sources.open_source(job.source, job.section, job.root, job.mine.size_px, job.habitat)
    rule = rule_of(job.mine)
    guard = privacy.open_guard(job.mine.privacy, job.root)
    tally = miner.Tally()
    constant = {
        "source": job.source,
        "size_px": job.mine.size_px,
        "patch_px": job.mine.patch_px,
        "licence": job.section.licence,
        "params_digest": job.params_digest,
        "versions": json.dumps(versions(), sort_keys=True),
    }
    looks = examples.Examples(guard)
    tracebacks: dict[str, str] = {}
    with shards.writing(job.tar) as writer, _tracing(job) as enter:
        for clip in job.clips:
            if clip in job.killers:
                tally.clips += 1
                tally.lose(clip, "skipped: worker processes died in it, for want of memory or in a decoder")
                continue
            enter(clip)
            pairs = miner.mine_clip(source, clip, rule, job.section.sharpness_min, job.mine.seed, tally, guard, looks)
            try:
                for number, pair in enumerate(_surviving(pairs)):
                    key = f"{key_of(job.source, clip)}-{number:05}"
                    jpegs = (shards.encode_image(image, job.mine.jpeg_quality) for image in (pair.image_a, pair.image_b))
                    writer.add({"key": key, "clip": clip, **_found(pair), **constant}, *jpegs)
            except ClipFailed as failed:
                tally.fail(clip, failed.error, len(writer))
                tracebacks[clip] = "".join(traceback.format_exception(failed.error))
        tally.check(len(writer))
        looks.write(_examples(job))
        storage.write_json(_twin(job), {**tally.summary(), "tracebacks": tracebacks})
    return job.tar.name, time.monotonic() - started


class ClipFailed(Exception):
    """The program failed while it read or judged a clip; no fault of what writes the shard."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _surviving(pairs: Iterator[miner.Pair]) -> Iterator[miner.Pair]:
    """The pairs; an exception of what makes them ends one clip, unless it is about the parameters or this machine's setup."""
    while True:
        try:
            pair = next(pairs, None)
        except BadInput:
            raise
        except Exception as error:
            raise ClipFailed(error) from error
        if pair is None:
            return
        yield pair


@contextlib.contextmanager
def _tracing(job: Job) -> Iterator[Callable[[str], None]]:
    """Leaves the name of the clip that a process died in; a process that only fails takes its trace away."""
    with _trace(job).open("a") as trace:

        def enter(clip: str) -> None:
            trace.write(json.dumps(clip) + "\n")
            trace.flush()

        trace.write(ATTEMPT)
        trace.flush()
        try:
            yield enter
        finally:
            _trace(job).unlink(missing_ok=True)


def report(title: str, tally: miner.Tally) -> None:
    """What became of the candidates, and which clips were damaged, for the reader of the log."""
    reasons = ", ".join(f"{count} {outcome.value}" for outcome, count in tally.outcomes.most_common() if count)
    progress.say(f"{title}: {tally.candidates} candidates in {tally.clips} clips: {reasons or 'none'}")
    for clip, why in sorted(tally.damaged.items()):
        progress.say(f"{title}: damaged: {clip}: {why}")
    for clip, why in sorted(tally.failed.items()):
        progress.say(f"{title}: failed: {clip}: {why} (traceback in the log; please report it)")


def rule_of(mine: config.Mine) -> Rule:
    return Rule(**{name: getattr(mine, name) for name in Rule.__dataclass_fields__})


def versions() -> dict[str, str]:
    """Versions of what decides the outcome."""
    return {name: version(name) for name in DECIDING}


def code_digest() -> str:
    """Of the code that decides the outcome: progress made by other code is not resumed."""
    package = Path(mimic.__file__).parent
    files = [package / "infra/shards.py", *(file for room in ("geometry", "sources", "worlds") for file in (package / room).rglob("*.py"))]
    return storage.fingerprint([(file.relative_to(package).as_posix(), storage.file_digest(file)) for file in sorted(files)])


def key_of(source: str, clip: str) -> str:
    """A name for a clip that can stand in a tar: no dot, no slash, unique."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", clip).strip("_")[:40]
    name = plain if plain == clip else f"{plain}-{hashlib.sha256(clip.encode()).hexdigest()[:10]}"
    return f"{source}-{name}"


def _found(pair: miner.Pair) -> dict[str, Any]:
    comparison = pair.comparison
    return {
        "frame_a": pair.a.key,
        "frame_b": pair.b.key,
        "pose_a": _flat(pair.a.pose),
        "pose_b": _flat(pair.b.pose),
        "overlap": comparison.overlap,
        "overlap_a_to_b": comparison.overlap_a_to_b,
        "overlap_b_to_a": comparison.overlap_b_to_a,
        "b_from_a": _flat(comparison.b_from_a),
        "matches": comparison.matches,
        "inliers": comparison.inliers,
        "correspondences": comparison.correspondences.tolist(),
    }


def _flat(matrix: np.ndarray | None) -> list[float] | None:
    return None if matrix is None else matrix.astype(np.float64).ravel().tolist()


def _trace(job: Job) -> Path:
    return job.tar.with_suffix(".trace")


def _twin(job: Job) -> Path:
    return job.tar.with_suffix(".json")


def _examples(job: Job) -> Path:
    return job.tar.with_suffix(".examples.json")


def publish_examples(done: Sequence[Job], folder: Path) -> None:
    """Pictures of rejected candidates into a folder of their own."""
    examples.publish(map(_examples, done), folder)


def clear(done: Sequence[Job]) -> None:
    """Remove what lies beside the log, once it is published; the Parquet file, which says "done", goes first."""
    for job in done:
        for path in (shards.twin(job.tar), job.tar, _twin(job), _examples(job)):
            path.unlink(missing_ok=True)


def _summary(job: Job) -> miner.Tally:
    return miner.Tally.from_summary(json.loads(_twin(job).read_text()))
