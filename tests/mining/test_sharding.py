"""One shard: when it is done, what it leaves, and how often it waits for the disk."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from mimic.errors import BadInput
from mimic.infra import storage
from mimic.mining import driver, published, shard_job, worker_deaths
from mimic.mining.stats import MiningStats
from mimic.pairs.schema import index_path
from mimic.params import Params, load_params
from tests.support import footage


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _job(params: Params, folder: Path, *steps_px: int) -> shard_job.Job:
    """A shard of clips, each a pan by so many pixels a frame."""
    for number, step_px in enumerate(steps_px):
        footage.video(folder / f"raw/{number}.mp4", footage.pan(number, 4, step_px))
    clips = [f"{number}.mp4" for number in range(len(steps_px))]
    mine = params.mine.model_copy(update={"clips_per_shard": len(clips)})
    (job,) = shard_job.jobs(
        "phone",
        footage.videos_section(params, folder / "raw"),
        mine,
        folder,
        clips,
        folder / "work",
    )
    job.tar.parent.mkdir()
    return job


def _mine(job: shard_job.Job, params: Params) -> int:
    where = params.cluster.model_copy(update={"workers": 1, "executor": "local"})
    return driver.run([job], where, "mine", job.tar.parent / "log.jsonl").kept


def test_a_shard_is_done_when_its_summary_is_there_and_not_before(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its Parquet file and its summary, it is mined again, and the same comes
    out."""
    job = _job(params, tmp_path, 80)
    real = storage.write_json

    def killed(path: Path, value: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        shard_job.mine_shard(job)
    monkeypatch.setattr(storage, "write_json", real)
    before = {path.name: path.read_bytes() for path in (job.tar, index_path(job.tar))}
    assert not job.tar.with_suffix(".json").exists()
    assert _mine(job, params) > 0
    assert {path.name: path.read_bytes() for path in (job.tar, index_path(job.tar))} == before
    inode = job.tar.stat().st_ino
    assert _mine(job, params) > 0
    assert job.tar.stat().st_ino == inode  # done: not mined again


def test_a_finished_shard_that_is_handed_out_again_is_left_alone(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died between the end and saying so; killed again, its pairs would be gone and its
    counts there."""
    job = _job(params, tmp_path, 80)
    shard_job.mine_shard(job)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_job, "_mine_clip", killed)
    shard_job.mine_shard(job)
    assert shard_job.with_pairs([job]) == [job.tar]


@pytest.mark.parametrize("gone", ["tar", "parquet"])
def test_pairs_that_were_counted_and_are_not_there_are_not_published(
    tmp_path: Path, params: Params, gone: str
) -> None:
    job = _job(params, tmp_path, 80)
    kept = _mine(job, params)
    job.tar.with_suffix(f".{gone}").unlink()
    with pytest.raises(BadInput, match=f"holds 0 of the {kept} pairs that were counted"):
        shard_job.with_pairs([job])
    assert _mine(job, params) == kept, "the same command mines it anew"
    assert shard_job.with_pairs([job]) == [job.tar]


@pytest.mark.parametrize(("step_px", "waits"), [(80, 3), (200, 1)])
def test_a_shard_waits_for_the_disk_once_a_file(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, step_px: int, waits: int
) -> None:
    """Tar, Parquet and summary; a shard without pairs has a summary only."""
    job = _job(params, tmp_path, step_px)
    counted = []
    real = os.fsync

    def note(file: int) -> None:
        counted.append(file)
        real(file)

    monkeypatch.setattr(os, "fsync", note)
    shard_job.mine_shard(job)
    assert len(counted) == waits
    assert sorted(path.suffix for path in job.tar.parent.iterdir()) == sorted(
        [".json", ".parquet", ".tar"][: 1 if waits == 1 else 3]
    )


def test_clips_are_named_as_people_know_them(tmp_path: Path, params: Params) -> None:
    job = _job(params, tmp_path, 80)
    (tmp_path / "raw/0.mp4").write_text("no video")
    job = dataclasses.replace(job, shown=("my videos/0.mp4",))
    shard_job.mine_shard(job)
    named = shard_job.read_result(job)["tally"]["damaged"]
    assert list(named) == ["my videos/0.mp4"]


@pytest.mark.parametrize(
    "what",
    [
        {"failed": {"0.mp4": "OSError: away"}},
        {"damaged": {"0.mp4": worker_deaths.KILLER}},
        {"unreadable_views": {("0.mp4", "1"): "not an image"}},
        {"damaged": {"0.mp4": "2 damaged packets"}},
    ],
)
def test_a_shard_in_which_what_failed_may_be_mended_is_not_kept(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, what: dict[str, Any]
) -> None:
    """Under DVC shards outlive their publication; what lies in a file of its own stays as it is."""
    job = _job(params, tmp_path, 80)
    _mine(job, params)
    (tmp_path / ".dvc").mkdir()
    metrics = tmp_path / "metrics.json"
    metrics.write_text("{}")
    monkeypatch.setattr(shard_job, "read_stats", lambda job: MiningStats(**what))
    published.keep([job], job.tar.parent, tmp_path, metrics)
    assert shard_job.result_path(job).exists() == ("2 damaged packets" in str(what))
