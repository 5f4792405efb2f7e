"""The driver of mining: shard jobs go to workers, here or on a cluster, until all are done.

What workers say of themselves is shown on the way; a clip in which they die is skipped by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mimic import config
from mimic.errors import BadInput, WorkFailed
from mimic.infra import cluster, progress, storage
from mimic.infra.cluster.failures import cause, is_of_another, is_of_the_machine
from mimic.mining import loop, resume, shard_job, worker_deaths
from mimic.mining.stats import summary_lines

LOOKED_EVERY_S = 5.0  # at what workers say of themselves


def run(
    todo: Sequence[shard_job.Job], where: config.Cluster, title: str, log: Path
) -> loop.MiningStats:
    """Mine the jobs that are not done yet, and sum up all; one line a shard goes to the log.

    A clip in which worker processes die again and again is named and skipped, once all other shards
    are done.

    Raises:
        BadInput: worker processes die, and no clip is to blame; or the program fails on every clip.
    """
    for job in todo:
        # Of earlier runs, whose workers may have been killed by anybody.
        shard_job.trace_path(job).unlink(missing_ok=True)
        resume.forget_now(job.tar)
    while True:
        before = {job.tar: resume.saved(job.tar) for job in todo}
        try:
            stats = _round(todo, where, title, log)
            break
        except cluster.ItemsFailed as failed:
            todo = [
                _without_killers(job, failed, before) if _describe(job) in failed.failed else job
                for job in todo
            ]
    # Nobody writes there any more, not even jobs of a driver that was killed.
    for folder in {job.tar.parent for job in todo}:
        storage.sweep(folder)
    for job in todo:
        resume.remove(job.tar)  # of workers that were killed when they were done
    if stats.failed and len(stats.failed) == stats.clips:
        _give_up(todo, stats, title, log)
    return stats


def _give_up(
    todo: Sequence[shard_job.Job], stats: loop.MiningStats, title: str, log: Path
) -> NoReturn:
    """The program failed on every clip: nothing is kept, and the next run tries again."""
    for job in todo:
        shard_job.result_path(job).unlink(missing_ok=True)
    clip, why = min(stats.failed.items())
    raise BadInput(
        f"{title}: the program failed on every clip, first on {clip}: {why}; tracebacks are in "
        f"{log}"
    )


def _round(
    todo: Sequence[shard_job.Job], where: config.Cluster, title: str, log: Path
) -> loop.MiningStats:
    stats = loop.MiningStats()
    missing = {job.tar.name: job for job in todo if not shard_job.result_path(job).exists()}
    for job in todo:
        if job.tar.name not in missing:
            stats.add(shard_job.read_stats(job))
    clips = sum(len(job.clips) for job in missing.values())
    results = cluster.map_items(
        shard_job.mine_shard,
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
            stats.add(shard_job.read_stats(job))
            lines.write(_log_line(job, seconds))
            lines.flush()
            track.advance(len(job.clips), _counted(stats.kept, stats.candidates))
    return stats


def _log_line(job: shard_job.Job, seconds: float) -> str:
    result = shard_job.read_result(job)
    known = {
        "shard": job.tar.stem,
        "seconds": round(seconds, 3),
        **result["tally"],
        "tracebacks": result["tracebacks"],
        "taken_over": result["taken_over"],
    }
    return json.dumps(known) + "\n"


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


def _without_killers(
    job: shard_job.Job, failed: cluster.ItemsFailed, before: Mapping[Path, bytes | None]
) -> shard_job.Job:
    """The job without the clips in which a worker process died twice.

    Args:
        before: how far each shard was mined when this round began.
    """
    why = failed.failed[_describe(job)]
    if is_of_the_machine(why) and (
        is_of_another(why) or resume.saved(job.tar) != before[job.tar]
    ):  # a clip that takes all of the time, and saves nothing, may be to blame
        raise WorkFailed(
            f"{_describe(job)}: {cause(why)}; what it has mined is saved, and the same command "
            "goes on from there"
        )
    if not shard_job.trace_path(job).exists():  # it was an exception, and those are no accidents
        raise failed
    killers = tuple(
        clip for clip in worker_deaths.killers(shard_job.trace_path(job)) if clip not in job.killers
    )
    if not killers:  # it dies anywhere: too little memory for any clip
        raise BadInput(cause(why))
    return dataclasses.replace(job, killers=(*job.killers, *killers))


def _describe(job: shard_job.Job) -> str:
    again = f", without {', '.join(job.killers)}" if job.killers else ""
    return f"{job.tar.stem} ({', '.join(job.clips[:3])}{again})"


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
