"""`mimic clean`: what runs/ keeps of what params.yaml no longer names, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mimic import cli, pretrain
from mimic.commands.operation import clean
from mimic.errors import BadInput
from mimic.infra.cluster import slurm
from mimic.infra.owner import owned
from mimic.infra.storage import Workspace
from mimic.params import load_params
from tests.support import toy_runs

NAMED = (
    "runs/pretrain/random/seed-0/1f/published/encoder.safetensors",
    "runs/pretrain/croco/2f/step-000003.pt",
    "runs/pretrain/import/3f/step-000001.pt",
    "runs/evaluate/croco@depth/4f/measured/result.json",
    "runs/evaluate/random/seed-0@depth/5f/measured/result.json",
    "runs/prepare/depth.json",
    "runs/mine/phone/6f/shard-00000.tar",
    "runs/features/77/part.npy",
    "runs/decoded/88.npy",
    "models/old/encoder.safetensors",
    "metrics/old/depth.json",
)
LEFT = {
    "runs/pretrain/old": "no run is called old",
    "runs/pretrain/random/seed-7": "random has no seed 7 any more",
    "runs/pretrain/croco/seed-0": "croco has no seed 0 any more",
    "runs/evaluate/old@depth": "no run is called old",
    "runs/evaluate/croco@gone": "no task is called gone",
    "runs/evaluate/random/seed-7@depth": "random has no seed 7 any more",
    "runs/prepare/gone.json": "no task is called gone",
    "runs/mine/gone": "no source is called gone",
}


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Path:
    root = toy_runs.write_workspace(tmp_path, repository)
    toy_runs.change(root, "runs", "random", seed=None, seeds=[0, 1])
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["imported"] = ["import"]
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    for name in (*NAMED, *LEFT):
        path = root / name
        path = path if path.suffix else path / "9f/file.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(500_000))
    return root


def _clean(root: Path, *words: str) -> list[str]:
    done = CliRunner().invoke(cli.app, ["clean", "--params", str(root / "params.yaml"), *words])
    if done.exception is not None:
        raise done.exception
    return done.output.splitlines()


def _there(root: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if (root / name).exists()]


def _in_a_thread(root: Path) -> str:
    """A thread that holds nothing is to the lock what another process is."""

    def refused() -> str:
        with pytest.raises(BadInput) as caught:
            _clean(root, "--remove")
        return str(caught.value)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(refused).result()


def test_it_lists_and_touches_nothing(workspace: Path) -> None:
    *lines, total = _clean(workspace)
    assert sorted(lines) == sorted(f"{name}: 0.5 MB: {why}" for name, why in LEFT.items())
    assert total == "4.0 MB; `mimic clean --remove` takes them away"
    assert len(_there(workspace, (*NAMED, *LEFT))) == len(NAMED) + len(LEFT)


def test_it_removes_that_and_nothing_else(workspace: Path) -> None:
    assert _clean(workspace, "--remove")[-1] == "4.0 MB removed"
    assert _there(workspace, LEFT) == []
    assert len(_there(workspace, NAMED)) == len(NAMED)
    assert _clean(workspace) == ["runs/: everything there belongs to something in params.yaml"]
    assert not list(workspace.rglob(".owner"))


def test_what_a_process_works_on_stays(workspace: Path) -> None:
    with owned(Workspace(workspace).work("pretrain", "old"), "pretrain old"):
        other = _in_a_thread(workspace)
    assert re.search(r"clean old: pretrain old .* works in .*runs/pretrain/old", other)
    assert (workspace / "runs/pretrain/old/9f/file.bin").exists()


def test_a_seed_that_is_listed_again_trains_again_and_the_rest_is_kept(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = toy_runs.write_workspace(tmp_path, repository)

    def trained(seeds: list[int]) -> str:
        toy_runs.change(root, "runs", "croco", seed=None, seeds=seeds, steps=2)
        pretrain.main(load_params(root / "params.yaml"), root, "croco")
        return "".join(capsys.readouterr())

    trained([0, 1])
    trained([0])
    assert (root / "runs/pretrain/croco/seed-1").is_dir()
    _clean(root, "--remove")
    assert not (root / "runs/pretrain/croco/seed-1").exists()
    said = trained([0, 1])
    assert "pretrain croco/seed-0: kept" in said
    assert "pretrain croco/seed-1: kept" not in said


@pytest.mark.parametrize(
    "name", ["pretrain/old", "pretrain/random/seed-9", "evaluate/old@depth", "mine/old"]
)
def test_a_link_and_what_it_leads_to_stay(workspace: Path, name: str, tmp_path: Path) -> None:
    _clean(workspace, "--remove")
    outside = tmp_path / "outside/precious.txt"
    outside.parent.mkdir()
    outside.write_text("precious")
    (workspace / "runs" / name).symlink_to(outside.parent)
    said = _clean(workspace, "--remove")
    assert said[0].startswith(f"runs/{name}: stays; mimic makes no link")
    assert outside.read_text() == "precious"
    assert (workspace / "runs" / name).is_symlink()


def test_a_file_of_yours_and_a_link_to_nothing_stay_and_end_nothing(workspace: Path) -> None:
    (workspace / "runs/mine/dangling").symlink_to(workspace / "away")
    (workspace / "runs/pretrain/notes.txt").write_text("mine")
    said = _clean(workspace, "--remove")
    assert [line.partition(";")[0] for line in said[-3:]] == [
        "runs/pretrain/notes.txt: stays",
        "runs/mine/dangling: stays",
        "4.0 MB removed",
    ]
    assert (workspace / "runs/pretrain/notes.txt").read_text() == "mine"
    assert (workspace / "runs/mine/dangling").is_symlink()


def test_shards_that_dvc_has_recorded_as_pairs_go(workspace: Path) -> None:
    _clean(workspace, "--remove")
    work = workspace / "runs/mine/phone/6f"
    (work / "log.jsonl").touch()
    (work / "published.json").write_text('{"md5": "0123abcd"}')
    nothing = "runs/: everything there belongs to something in params.yaml"
    assert _clean(workspace) == [nothing], "DVC may still ask for them"
    (workspace / "dvc.lock").write_text("md5: 0123abcd\n")
    what = "runs/mine/phone/6f: 0.5 MB: DVC has recorded these shards as pairs"
    assert _clean(workspace, "--remove") == [what, "0.5 MB removed"]
    assert [path.name for path in work.iterdir()] == ["log.jsonl"]
    assert _clean(workspace) == [nothing]


def _aged(path: Path, days: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(500_000))
    then = path.stat().st_mtime - days * 86_400
    os.utime(path, (then, then))


def test_scratch_files_of_killed_writers_go_and_those_of_others_stay(workspace: Path) -> None:
    done = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    gone = int(done.stdout)
    dead = [
        f"metrics/croco/.depth.json.{gone}-0.part",
        f"data/manifests/.own.parquet.{gone}-3.part",
        f"runs/pretrain/croco/2f/.step-000004.pt.{gone}-0.part",
    ]
    stays = {
        f"metrics/croco/.new.json.{gone}-0.part": 0.5,  # of another machine, maybe, at work
        f"metrics/croco/.mine.json.{os.getpid()}-0.part": 9,
        f"data/raw/films/.a.mp4.{gone}-0.part": 9,  # raw data are never changed
        f"models/.croco.{gone}-0.part/croco/.w.{gone}-0.part": 9,  # the publisher's own
        "metrics/croco/.notes.part": 9,
    }
    for name in dead:
        _aged(workspace / name, 2)
    for name, days in stays.items():
        _aged(workspace / name, days)
    lines = _clean(workspace)
    for name in dead:
        assert f"{name}: 0.5 MB: a killed process did not finish it" in lines
    assert lines[-1] == "5.5 MB; `mimic clean --remove` takes them away"
    assert _clean(workspace, "--remove")[-1] == "5.5 MB removed"
    assert _there(workspace, dead) == []
    assert _there(workspace, stays) == list(stays)


def test_without_git_no_experiment_has_finished(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _aged(workspace / "runs/experiments/some/pretrain/croco/2f/step-000003.pt", 0)
    monkeypatch.setenv("PATH", str(workspace))
    lines = _clean(workspace, "--remove")
    assert any(line.startswith("runs/experiments/some: 0.5 MB: stays; ") for line in lines)
    assert (workspace / "runs/experiments/some/pretrain/croco/2f/step-000003.pt").is_file()


def test_the_work_of_a_finished_experiment_goes(workspace: Path) -> None:
    """DVC keeps a result as a reference of its name; an unfinished one goes on under its name. What
    links lead to stays."""
    git = ["git", "-C", str(workspace), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    for name in ("longer", "linked"):
        reference = f"refs/exps/ab/{'c' * 38}/{name}"
        subprocess.run([*git, "update-ref", reference, "HEAD"], check=True)
    for name in ("longer", "killed"):
        _aged(workspace / f"runs/experiments/{name}/pretrain/croco/2f/step-000003.pt", 0)
    outside = workspace / "outside"
    (outside / "precious").mkdir(parents=True)
    (outside / "precious/file.txt").write_text("precious")
    for link in ("linked", "longer/evaluate", "longer/pretrain/other"):
        (workspace / "runs/experiments" / link).symlink_to(outside)
    lines = _clean(workspace)
    assert "runs/experiments/longer: 0.5 MB: the experiment has finished" in lines
    assert any(line.startswith("runs/experiments/linked: stays; ") for line in lines)
    assert any(line.startswith("runs/experiments/killed: 0.5 MB: stays; ") for line in lines)
    with owned(workspace / "runs/experiments/longer/pretrain/croco", "pretrain croco"):
        assert "runs/experiments/longer/pretrain/croco" in _in_a_thread(workspace)
    assert (workspace / "runs/experiments/longer").is_dir()
    _clean(workspace, "--remove")
    assert not (workspace / "runs/experiments/longer").exists()
    assert (outside / "precious/file.txt").read_text() == "precious"
    assert (workspace / "runs/experiments/linked").is_symlink()
    assert (workspace / "runs/experiments/killed/pretrain/croco/2f/step-000003.pt").is_file()


def test_work_of_a_living_job_stays(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock lies in the folder of the work, on a node; that of the run is free."""
    job = workspace / "runs/pretrain/old/1f/job.json"
    job.parent.mkdir()
    job.write_text(json.dumps({"job": {"id": "7", "folder": "x", "tasks": 1}}))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    living = {"7": "RUNNING"}
    monkeypatch.setattr(slurm, "queue", lambda: living)
    params = load_params(workspace / "params.yaml")
    with pytest.raises(BadInput, match=r"clean: job 7 works in .*old/1f; wait for it, or `scancel"):
        clean.main(params, workspace, remove=True)
    assert job.exists()
    living.clear()
    clean.main(params, workspace, remove=True)
    assert not job.exists()
