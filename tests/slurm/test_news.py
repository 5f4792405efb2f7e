"""What a stage says while SLURM works for it, and who is named when a person ends it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mimic import config
from mimic.errors import Cancelled
from mimic.infra.cluster import map_items, run_training
from mimic.infra.cluster.slurm import news
from mimic.infra.progress import ProgressLine, ProgressTracker, parse
from tests.slurm.conftest import Sandbox
from tests.slurm.test_slurm_shards import _describe, _items
from tests.support import cluster_work

LONG = {"steps": 60, "pause_s": 0.1, "save_every": 10}


def _said(captured: str) -> list[str]:
    return [line for line in captured.splitlines() if line.startswith("slurm: ")]


@pytest.mark.slurm
def test_a_training_says_its_job_its_step_and_its_rate(
    slurm: Sandbox,
    cluster: Callable[..., config.Cluster],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(news, "EVERY_S", 1.0)  # a minute is long
    settings = cluster("slurm", partition="gpu")
    title = "pretrain croco-3m"
    run_training(cluster_work.train, LONG, tmp_path, settings.pretrain, settings, title)
    lines = _said(capfd.readouterr().err)
    job = re.match(r"slurm: job (\d+) of", lines[0]).group(1)
    assert all(line.startswith(f"slurm: job {job} of {title}: ") for line in lines), lines
    assert "submitted; its log: " in lines[0]
    running = [line for line in lines if re.search(r": RUNNING on g[12], ", line)]
    steps = [int(found[1]) for line in running if (found := re.search(r"step (\d+) of 60", line))]
    assert len(steps) >= 2, lines
    assert steps == sorted(steps)
    assert ", 9.5 steps/s" in running[-1]
    assert lines[-1].endswith(": COMPLETED")


@pytest.mark.slurm
def test_an_array_says_how_many_shards_are_done_and_which_is_slowest(
    slurm: Sandbox,
    cluster: Callable[..., config.Cluster],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The second item is held until it has been said that it is at work."""
    expected = (
        r"slurm: array \d+ of mine phone: 1 of 4 shards done, 1 running, "
        r"1 pending \(JobArrayTaskLimit\), slowest item 1 for \d:\d\d"
    )
    (tmp_path / "hold").touch()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if re.fullmatch(expected, line):
            (tmp_path / "hold").unlink(missing_ok=True)

    monkeypatch.setattr(news, "say", say)
    monkeypatch.setattr(news, "CHANGES_EVERY_S", 0.5)
    settings = cluster("slurm", items_per_job=2, array_parallelism=1)
    items = _items(tmp_path, "good", "held", "good", "good")
    found = map_items(
        *(cluster_work.mine, items, settings.mine, settings, _describe, tmp_path / "map"),
        title="mine phone",
        unit="shards",
    )
    assert len(list(found)) == 4, lines
    (submitted,) = _said(capfd.readouterr().err)
    assert re.match(r"slurm: array \d+ of mine phone: 4 shards in 2 jobs; logs: /", submitted)
    assert not (tmp_path / "hold").exists()


@pytest.mark.slurm
def test_a_cancelled_array_is_not_tried_again_and_names_the_user(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    """Also of elements that never started; what is done is kept."""
    settings = cluster("slurm", items_per_job=1, array_parallelism=2, retries=2)
    items = _items(tmp_path, "good", "endless", "endless", "endless")

    def cancel() -> None:
        while not (tmp_path / "tries-2").exists():
            time.sleep(0.2)
        name = next((tmp_path / "map").glob("mimic-map-*")).name
        slurm("scancel", f"--name={name}")

    person = threading.Thread(target=cancel)
    person.start()
    work = map_items(
        *(cluster_work.mine, items, settings.mine, settings, _describe, tmp_path / "map"),
        title="mine phone",
        unit="shards",
    )
    with pytest.raises(Cancelled, match=r"^mine phone: job \d+_1 was cancelled by root; .*3 of 4"):
        list(work)
    person.join()
    assert not (tmp_path / "tries-3").exists()
    assert len(list((tmp_path / "map").glob("mimic-map-*"))) == 1


def test_a_line_of_progress_is_read_back_from_a_log(tmp_path: Path) -> None:
    """Whatever the writer of such lines makes of them."""
    job = news.SlurmJob("7", str(tmp_path), 1)
    assert news.progress_of(job) is None
    tracker = ProgressTracker("pretrain croco-3m (240 pairs, cuda bf16)", 30_000, "steps")
    tracker.advance(1200, "loss 0.2500, 240 pairs/s")
    job.paths(0).stderr.write_text(f"noise: 3/4\n{tracker.line()}\na warning: of something\n")
    found = news.progress_of(job)
    assert (found.done, found.total, found.unit) == (1200, 30_000, "steps")
    assert news._step(found, "pretrain croco-3m").startswith("step 1200 of 30000, ")
    line = (
        f"slurm: job 7 of evaluate x depth: RUNNING on g1, {news._step(found, 'evaluate x depth')}"
    )
    assert f", step 1200 of 30000 ({tracker.title}), " in line
    assert parse(line) == ProgressLine("evaluate x depth", 1200, 30_000)
    slow = ProgressTracker("features", 200, "images")
    slow.show(40.5, 0, "")
    job.paths(0).stderr.write_text(slow.line())
    assert news._step(news.progress_of(job), "x").startswith("40.50 of 200 images (features), ")
