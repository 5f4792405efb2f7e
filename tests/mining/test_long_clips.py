"""A clip that takes long: killed in its middle it goes on where it was, to the same bytes, and it
shows how far it is."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mimic import config, ingest, mine
from mimic.errors import BadInput, WorkFailed
from mimic.infra import cluster, storage
from mimic.infra.owner import lock
from mimic.mining import driver, loop, resume, shard_job, worker_deaths
from mimic.pairs.schema import index_path
from mimic.params import Params, load_params, resolve_params
from mimic.synthetic import apartments, glb_writer
from tests.support import footage
from tests.support.command import MIMIC

FRAMES = 90


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _files(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): storage.file_digest(file) for file in files}


# ---------------------------------------------------------------------------- as a user runs it


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace with one long clip among short ones, mined undisturbed."""
    root = tmp_path_factory.mktemp("mined")
    raw = resolve_params(repository / "params.yaml").full()
    raw["sources"]["phone"] |= {"spacing_s": 0.5, "retry_spacing_s": 1.0}
    raw["mine"]["clips_per_shard"] = 2
    raw["cluster"] |= {"workers": 1, "executor": "local"}
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    footage.video(root / "data/raw/phone/0.mp4", footage.pan(0, 6, 80))
    views = [
        image for step_px in (40, 80, 60) for image in footage.pan(step_px, FRAMES // 3, step_px)
    ]
    footage.video(root / "data/raw/phone/1.mp4", views)
    loaded = load_params(root / "params.yaml")
    ingest.main(loaded, root, "phone")
    mine.main(loaded, root, "phone")
    return root


@pytest.fixture
def copy(mined: Path, tmp_path: Path) -> Path:
    """The same raw data and inventory, not mined yet."""
    root = tmp_path / "copy"
    shutil.copytree(
        mined, root, ignore=shutil.ignore_patterns("pairs", "runs", "metrics", "samples")
    )
    return root


# Python reads this first in every process: work is saved and told at once, and each group that is
# decided is written down.
HURRY = """
import os, sys
from mimic.infra import progress
progress.LINE_EVERY_S = 0.3
from mimic.mining import driver, loop, resume
resume.SAVED_EVERY_S, resume.TOLD_EVERY_S, driver.LOOKED_EVERY_S = 0.05, 0.05, 0.1
whole = loop.walk_clip
def walk_clip(source, clip, *rest):
    for pair in whole(source, clip, *rest):
        with open("decided.txt", "a") as file:
            print(os.getpid(), clip, rest[-1].groups, file=file)
        yield pair
loop.walk_clip = walk_clip
"""


def _environment(copy: Path) -> dict[str, str]:
    (copy / "site").mkdir(exist_ok=True)
    (copy / "site/sitecustomize.py").write_text(HURRY)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(copy / "site"), os.environ.get("PYTHONPATH", "")])
    }


def _state(copy: Path) -> dict[str, Any]:
    """What is saved of the shard of both clips; empty where nothing is."""
    for file in copy.glob("runs/mine/phone/*/shard-00000.begun/state.json"):
        return json.loads(file.read_text())
    return {"clips": 0, "bookmark": {"groups": 0}, "tally": {"summary": {"candidates": 0}}}


def _kill_at(copy: Path, groups: int) -> dict[str, Any]:
    """kill -9 once so many groups of the long clip are saved; what is saved when all is quiet."""
    with (copy / "said.txt").open("a") as said:
        process = subprocess.Popen(
            [MIMIC, "mine", "phone"],
            cwd=copy,
            stderr=said,
            env=_environment(copy),
            start_new_session=True,
        )
    deadline = time.monotonic() + 400
    while (state := _state(copy))["clips"] < 1 or state["bookmark"]["groups"] < groups:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while (
        subprocess.run(
            ["pgrep", "-s", str(process.pid), "-r", "RSD"], capture_output=True
        ).returncode
        == 0
    ):
        assert time.monotonic() < deadline, "a worker outlived the run"
        time.sleep(0.02)
    return _state(copy)


@pytest.mark.long
def test_killed_again_and_again_inside_a_clip_it_ends_with_the_same_bytes(
    mined: Path, copy: Path
) -> None:
    saved = [_kill_at(copy, groups) for groups in (5, 35, 70)]
    again = subprocess.run(
        [MIMIC, "mine", "phone"],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=600,
        env=_environment(copy),
    )
    assert again.returncode == 0, again.stderr
    for folder in ("data/pairs/phone", "metrics/mine", "samples/mine/phone"):
        assert _files(copy / folder) == _files(mined / folder)
    decided: dict[str, list[int]] = {}
    for line in (copy / "decided.txt").read_text().splitlines():
        process, clip, groups = line.split()
        if clip == "1.mp4":
            decided.setdefault(process, []).append(int(groups))
    first = [groups[0] for groups in decided.values()]
    assert len(first) == 4
    assert first[0] == 1
    for begin, state in zip(first[1:], saved, strict=True):
        before = state["bookmark"]["groups"] + state["bookmark"]["skip"]
        assert begin == before + 1, (
            "nothing that was saved is decided again, and nothing is left out"
        )
    (log,) = copy.glob("runs/mine/phone/*/log.jsonl")
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert line["taken_over"] == saved[-1]["tally"]["summary"]["candidates"] > 70
    assert [file.name for file in log.parent.iterdir()] == ["log.jsonl"]
    said = (copy / "said.txt").read_text() + again.stderr
    told = [line for line in said.splitlines() if ", in 1.mp4 at " in line]
    counts = [line.split("/2 clips")[0].split()[-1] for line in told]
    assert len(set(counts)) > 2, said
    assert all(1 <= float(count) < 2 for count in counts), said


# ---------------------------------------------------------------------------- every kind of source


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def _sens(path: Path, images: list[np.ndarray]) -> None:
    head = struct.pack("<IQ", 4, 1) + b"s" + np.eye(4, dtype=np.float32).tobytes() * 4
    height, width = images[0].shape[:2]
    head += struct.pack("<2i4IfQ", 2, 1, width, height, 8, 8, 1000.0, len(images))
    with path.open("wb") as file:
        file.write(head)
        for image in images:
            blob = io.BytesIO()
            Image.fromarray(image).save(blob, "jpeg", quality=90)
            file.write(np.eye(4, dtype=np.float32).tobytes())
            file.write(struct.pack("<4Q", 0, 0, blob.tell(), 0) + blob.getvalue())


def _room(root: Path) -> None:
    (root / "room.glb").write_bytes(glb_writer.to_glb(apartments.build(0, 11.0, 8.0, 2.6, 256)))
    stage = json.dumps(glb_writer.stage_config("room.glb"))
    (root / "room.stage_config.json").write_text(stage)


def _video(params: Params, root: Path) -> tuple[str, config.SourceBase]:
    """Slow, so that retries are kept; their shift is half a patch, so that draws decide."""
    footage.video(root / "a.mp4", footage.pan(3, 30, 36))
    return "a.mp4", footage.videos_section(params, root, spacing_s=0.5, retry_spacing_s=1.0)


def _damaged_video(params: Params, root: Path) -> tuple[str, config.SourceBase]:
    path = footage.video(root / "a.mp4", footage.pan(3, 40, 60))
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 60] = bytes(60)
    path.write_bytes(data)
    return "a.mp4", footage.videos_section(params, root, spacing_s=0.5, retry_spacing_s=1.0)


def _images(params: Params, root: Path) -> tuple[str, config.SourceBase]:
    footage.folder(root / "walk", footage.pan(4, 24, 60))
    (root / "walk/frame000011.png").write_bytes(b"no picture")
    change = {"stride": 1, "retry_strides": (2,), "advance": 1}
    return "walk", footage.images_section(params, root, **change)


def _stream(params: Params, root: Path) -> tuple[str, config.SourceBase]:
    _sens(root / "a.sens", footage.pan(5, 24, 30))
    base: dict[str, Any] = {
        "licence": "x",
        "tracked_by": root,
        "sharpness_min": 0.0,
        "limit_clips": None,
    }
    numbers: dict[str, Any] = {"window": 4, "edge": 1, "second_edge": 3}
    return "a.sens", config.ScanNet(reader="scannet", root=root, **numbers, **base)


def _scene(params: Params, root: Path) -> tuple[str, config.SourceBase]:
    _room(root)
    return "room.glb", params.sources["rooms"].model_copy(
        update={"root": root, "positions": 3, "headings": 4}
    )


def _covisible(params: Params, root: Path) -> tuple[str, config.SourceBase]:
    _room(root)
    rooms = params.sources["rooms"].model_dump(exclude={"headings", "step_m", "turn_deg"})
    walk = {
        "hfov_deg": 60.0,
        "positions": 6,
        "tries": 100,
        "steps": 5,
        "step_sigma_m": 2.0,
        "jitter_deg": (3.0, 10.0, 5.0),
    }
    measure = {
        "valid_depth_min": 0.7,
        "overlap_min": 0.5,
        "point_distance_m": 0.05,
        "patches": 14,
        "depth_tolerance": 0.05,
    }
    section = rooms | walk | measure | {"reader": "covisible", "layout": "scenes", "root": root}
    return "room.glb", config.Covisible(**section)


Made = Callable[[Params, Path], tuple[str, config.SourceBase]]


def _job(
    params: Params, folder: Path, make: Made, name: str, mode: str = "symmetric"
) -> shard_job.Job:
    """A shard of this name, of one clip; all names have the same clip."""
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    clip, section = make(params, folder / "raw")
    numbers = params.mine.model_copy(update={"mode": mode})
    (job,) = shard_job.jobs("one", section, numbers, folder, [clip], folder / name)
    job.tar.parent.mkdir()
    return job


def _after(calls: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends when so many groups more are decided; all before the last one is saved."""
    real = resume.Saved.between
    counted = iter(range(calls))

    def between(self: resume.Saved, state: resume.State) -> None:
        if next(counted, None) is None:
            raise error
        real(self, state)

    monkeypatch.setattr(resume.Saved, "between", between)


def _outcome(job: shard_job.Job) -> dict[str, Any]:
    """The bytes of a finished shard, and all that is said of it."""
    files = (job.tar, index_path(job.tar))
    result = shard_job.read_result(job)
    del result["taken_over"]
    return {"files": [file.read_bytes() for file in files if file.exists()], "result": result}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SAVED_EVERY_S", 0.0)
    monkeypatch.setattr(resume, "TOLD_EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("make", "mode", "every"),
    [
        (_video, "symmetric", 7),
        pytest.param(_video, "reference", 11, marks=pytest.mark.long),
        (_damaged_video, "symmetric", 12),
        (_images, "reference", 9),
        (_stream, "symmetric", 2),
        (_scene, "symmetric", 2),
        pytest.param(_covisible, "symmetric", 2, marks=pytest.mark.long),
    ],
)
def test_any_kind_of_clip_goes_on_where_it_was(
    tmp_path: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    hasty: None,
    make: Callable[..., Any],
    mode: str,
    every: int,
) -> None:
    """Ended every few groups until it is done; and without any end or save in between."""
    whole, job = (_job(params, tmp_path, make, name, mode) for name in ("whole", "ended"))
    with monkeypatch.context() as patient:
        patient.setattr(resume, "SAVED_EVERY_S", 1e9)
        shard_job.mine_shard(whole)
    ends = 0
    while not shard_job.result_path(job).exists():
        with monkeypatch.context() as ending:
            _after(every, Killed(), ending)
            try:
                shard_job.mine_shard(job)
            except Killed:
                ends += 1
                assert ends < 60
                assert resume.folder_of(job.tar).is_dir()
    assert ends >= 1
    expected = _outcome(whole)
    found = _outcome(job)
    assert found["files"] == expected["files"]
    assert found["files"] != []
    assert found["result"] == expected["result"]
    assert shard_job.read_result(job)["taken_over"] > 0
    assert not resume.folder_of(job.tar).exists()


# ---------------------------------------------------------------------------- what may be wrong
# with what was saved


def _ended(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, groups: int = 10
) -> shard_job.Job:
    """A shard of a video that was ended in its middle."""
    job = _job(params, tmp_path, _video, "ended")
    with monkeypatch.context() as ending:
        _after(groups, Killed(), ending)
        with pytest.raises(Killed):
            shard_job.mine_shard(job)
    return job


def _undisturbed(tmp_path: Path, params: Params) -> dict[str, Any]:
    whole = _job(params, tmp_path, _video, "whole")
    shard_job.mine_shard(whole)
    return _outcome(whole)


def _halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # in a picture
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["part-00001.parquet", "state.json"])
@pytest.mark.parametrize("harm", [_halved, _flipped, Path.unlink])
def test_damage_of_what_was_saved_costs_time_and_nothing_else(
    tmp_path: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    hasty: None,
    capfd: pytest.CaptureFixture[str],
    name: str,
    harm: Callable[..., Any],
) -> None:
    if harm is _flipped and name == "state.json":
        harm = _halved
    job = _ended(tmp_path, params, monkeypatch)
    harm(resume.folder_of(job.tar) / name)
    shard_job.mine_shard(job)
    assert _outcome(job) == _undisturbed(tmp_path, params)
    assert shard_job.read_result(job)["taken_over"] == 0
    said = capfd.readouterr().err
    assert ("shard-00000: mined from its start" in said) == (
        harm is not Path.unlink or name != "state.json"
    )
    assert "Traceback" not in said


@pytest.mark.parametrize("advanced", [True, False])
def test_a_time_limit_is_no_verdict_on_a_clip_that_went_on(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, hasty: None, advanced: bool
) -> None:
    """Its jobs end before it does: what they saved stays. One that stands still is skipped."""
    job = _ended(tmp_path, params, monkeypatch)
    state = resume.folder_of(job.tar) / resume.STATE
    rounds: list[shard_job.Job] = []

    def one_round(todo: list[shard_job.Job], *_: Any) -> loop.MiningStats:
        rounds.extend(todo)
        if len(rounds) > 1:
            return loop.MiningStats()
        shard_job.trace_path(job).write_text('attempt\n"a.mp4"\n' * 3)
        if advanced:
            state.write_text(state.read_text() + " ")
        raise cluster.ItemsFailed({driver._describe(job): "job 7 ran out of time; raise it"})

    monkeypatch.setattr(driver, "_round", one_round)
    if advanced:
        with pytest.raises(WorkFailed, match="raise it; what it has mined is saved"):
            driver.run([job], params.cluster, "mine phone", tmp_path / "log.jsonl")
        assert state.exists()
    else:
        driver.run([job], params.cluster, "mine phone", tmp_path / "log.jsonl")
        assert rounds[1].killers == ("a.mp4",)


@pytest.mark.parametrize("why", ["job 7 was preempted, and not put back", "job 7 lost its node"])
def test_no_clip_is_blamed_for_a_node_that_went(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, hasty: None, why: str
) -> None:
    """Though nothing was saved yet."""
    job = _ended(tmp_path, params, monkeypatch)

    def one_round(*_: Any) -> loop.MiningStats:
        shard_job.trace_path(job).write_text('attempt\n"a.mp4"\n' * 3)
        raise cluster.ItemsFailed({driver._describe(job): why})

    monkeypatch.setattr(driver, "_round", one_round)
    with pytest.raises(WorkFailed, match=f"{why}; what it has mined is saved"):
        driver.run([job], params.cluster, "mine phone", tmp_path / "log.jsonl")


def test_an_attempt_whose_job_is_started_again_is_no_death_in_its_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"

    def dies(clip: str, **environment: str) -> None:
        for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with contextlib.suppress(KeyError), worker_deaths.tracing(tmp_path / "own") as enter:
            enter(clip)
            with trace.open("a") as file:
                file.write((tmp_path / "own").read_text())
            raise KeyError

    for restart in ("0", "1", "2"):  # preempted twice, then out of memory
        dies("long.mp4", SLURM_JOB_ID="7", SLURM_RESTART_COUNT=restart)
    assert worker_deaths.killers(trace) == []
    dies("long.mp4", SLURM_JOB_ID="8", SLURM_RESTART_COUNT="0")
    assert worker_deaths.killers(trace) == ["long.mp4"]
    trace.unlink()
    for _ in range(2):  # on one machine, in an allocation or without
        dies("bad.mp4", SLURM_JOB_ID="7", SLURM_RESTART_COUNT="0")
    assert worker_deaths.killers(trace) == ["bad.mp4"]
    trace.write_text('attempt\n"old.mp4"\n' * 2)  # of an earlier version
    assert worker_deaths.killers(trace) == ["old.mp4"]


def test_parts_behind_the_last_state_do_not_count(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    """Killed between a part and the state that counts it."""
    job = _ended(tmp_path, params, monkeypatch)
    folder = resume.folder_of(job.tar)
    parts = sorted(folder.glob("part-*.parquet"))
    shutil.copy(parts[0], folder / f"part-{len(parts):05}.parquet")
    shard_job.mine_shard(job)
    assert _outcome(job) == _undisturbed(tmp_path, params)
    assert shard_job.read_result(job)["taken_over"] > 0


def test_a_clip_to_be_skipped_takes_what_was_saved_with_it(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    job = _ended(tmp_path, params, monkeypatch)
    skipping = dataclasses.replace(job, killers=job.clips)
    shard_job.mine_shard(skipping)
    stats = shard_job.read_result(skipping)["tally"]
    assert stats["kept"] == 0
    assert stats["candidates"] == 1
    assert list(stats["damaged"]) == ["a.mp4"]
    assert not job.tar.exists()


def test_a_full_disk_while_saving_ends_the_shard_and_the_next_run_goes_on(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    job = _job(params, tmp_path, _video, "ended")
    real = resume.pq.write_table
    written = iter(range(4))

    def full(table: Any, path: Path, **options: Any) -> None:
        if next(written, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(table, path, **options)

    with monkeypatch.context() as small:
        small.setattr(resume.pq, "write_table", full)
        with pytest.raises(OSError, match="No space left"):
            shard_job.mine_shard(job)
    assert not list(tmp_path.rglob("*.part"))
    shard_job.mine_shard(job)
    assert _outcome(job) == _undisturbed(tmp_path, params)
    assert shard_job.read_result(job)["taken_over"] > 0


def test_a_clip_without_pairs_behind_one_with_pairs_is_named_all_the_same(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    footage.video(tmp_path / "raw/0.mp4", footage.pan(3, 6, 80))
    footage.video(tmp_path / "raw/1.mp4", footage.pan(3, 12, 200))
    section = footage.videos_section(params, tmp_path / "raw", spacing_s=0.5, retry_spacing_s=1.0)
    numbers = params.mine.model_copy(update={"clips_per_shard": 2})
    found = []
    for name, groups in (("whole", 1000), ("ended", 12)):
        (job,) = shard_job.jobs(
            "one", section, numbers, tmp_path, ["0.mp4", "1.mp4"], tmp_path / name
        )
        job.tar.parent.mkdir()
        with monkeypatch.context() as ending, contextlib.suppress(Killed):
            _after(groups, Killed(), ending)
            shard_job.mine_shard(job)
        if name == "ended":
            assert json.loads((resume.folder_of(job.tar) / "state.json").read_text())["clips"] == 1
            shard_job.mine_shard(job)
        found.append(_outcome(job))
    assert found[0] == found[1]
    assert list(found[0]["result"]["tally"]["without_pairs"]) == ["1.mp4"]


def test_short_clips_are_not_saved(tmp_path: Path, params: Params) -> None:
    job = _job(params, tmp_path, _video, "short")
    seen = []
    real = resume.Saved.between

    def between(self: resume.Saved, state: Any) -> None:
        real(self, state)
        seen.append({path.name for path in resume.folder_of(job.tar).iterdir()})

    with pytest.MonkeyPatch.context() as watching:
        watching.setattr(resume, "TOLD_EVERY_S", 1e9)
        watching.setattr(resume.Saved, "between", between)
        shard_job.mine_shard(job)
    assert seen
    assert all(names == {lock.FILE} for names in seen)  # who is at it, and nothing of the clip


def test_damage_is_named_with_its_file(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    job = _ended(tmp_path, params, monkeypatch)
    part = resume.folder_of(job.tar) / "part-00000.parquet"
    _halved(part)
    with pytest.raises(BadInput, match="part-00000.parquet"):
        resume._table(part)
