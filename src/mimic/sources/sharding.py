"""Shards of mined pairs: the unit of work, of resuming and of statistics.

A shard is done when its Parquet file exists; its tar and its `.json` (what became of the candidates) were written before.
What a shard holds depends on its job alone, so any number of workers, killed at any moment, leaves the same bytes in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import mimic
from mimic import config, sources
from mimic.geometry.overlap import Rule
from mimic.infra import cluster, progress, shards, storage
from mimic.sources import miner

# What decides the outcome: images decoded by these, features and homographies found by these.
DECIDING = ("opencv-python-headless", "numpy", "av", "pillow", "mimic")


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
    """Mine the jobs that are not done yet, and sum up all; one line a shard goes to the log."""
    tally = miner.Tally()
    missing = [job for job in todo if not shards.twin(job.tar).exists()]
    for job in todo:
        if shards.twin(job.tar).exists():
            tally.add(_summary(job))
    clips = sum(len(job.clips) for job in missing)
    results = cluster.map_shards(
        mine_shard, missing, where, lambda job: f"{job.tar.stem} ({', '.join(job.clips[:3])})", log.parent / "slurm"
    )
    with log.open("a") as lines, contextlib.closing(results), progress.track(title, clips, "clips", log) as track:
        for job, seconds in zip(missing, results, strict=True):
            tally.add(_summary(job))
            lines.write(json.dumps({"shard": job.tar.stem, "seconds": round(seconds, 3), **json.loads(_twin(job).read_text())}) + "\n")
            lines.flush()
            track.advance(len(job.clips), f"{tally.kept} pairs of {tally.candidates} candidates")
    for folder in {job.tar.parent for job in todo}:
        storage.sweep(folder)  # now that nobody writes there, not even jobs of a driver that was killed
    return tally


def _describe(job: Job) -> str:
    return f"{job.tar.stem} ({', '.join(job.clips[:3])})"


def mine_shard(job: Job) -> float:
    """Write one shard; seconds it took. Runs in a worker process."""
    started = time.monotonic()
    source = sources.open_source(job.source, job.section, job.root, job.mine.size_px, job.habitat)
    rule = rule_of(job.mine)
    tally = miner.Tally()
    constant = {
        "source": job.source,
        "size_px": job.mine.size_px,
        "patch_px": job.mine.patch_px,
        "licence": job.section.licence,
        "params_digest": job.params_digest,
        "versions": json.dumps(versions(), sort_keys=True),
    }
    with shards.writing(job.tar) as writer:
        for clip in job.clips:
            try:
                for number, pair in enumerate(miner.mine_clip(source, clip, rule, job.section.sharpness_min, job.mine.seed, tally)):
                    key = f"{key_of(job.source, clip)}-{number:05}"
                    jpegs = (shards.encode_image(image, job.mine.jpeg_quality) for image in (pair.image_a, pair.image_b))
                    writer.add({"key": key, "clip": clip, **_found(pair), **constant}, *jpegs)
            except Exception as error:
                error.add_note(f"while mining {job.source}: {clip}")
                raise
        tally.check(len(writer))
        storage.write_json(_twin(job), tally.summary())
    return time.monotonic() - started


def report(title: str, tally: miner.Tally) -> None:
    """What became of the candidates, and which clips were damaged, for the reader of the log."""
    reasons = ", ".join(f"{count} {outcome.value}" for outcome, count in tally.outcomes.most_common() if count)
    progress.say(f"{title}: {tally.candidates} candidates in {tally.clips} clips: {reasons or 'none'}")
    for clip, why in sorted(tally.damaged.items()):
        progress.say(f"{title}: damaged: {clip}: {why}")


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


def _twin(job: Job) -> Path:
    return job.tar.with_suffix(".json")


def _summary(job: Job) -> miner.Tally:
    return miner.Tally.from_summary(json.loads(_twin(job).read_text()))
