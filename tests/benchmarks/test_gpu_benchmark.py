"""The call for a GPU, rehearsed on this machine with a model of toy size, and what it carries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from benchmarks import study
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import carried, correctness
from benchmarks.gpu.subject import subject
from mimic.errors import BadInput
from mimic.params import load_params
from tests.support import toy_pairs, toy_runs


@pytest.mark.timeout(1800)  # compiles
def test_the_rehearsal_passes(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path), "--rehearse"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == json.loads((tmp_path / "all.json").read_text())
    assert all(found[name]["ok"] for name in gpu.CHECKS)
    assert found["resume"]["exact"]
    assert found["training"]["with_loader"]["pairs_per_second"] > 0
    assert found["training"]["goal_met"] is None or torch.cuda.is_available()
    assert found["loading"]["encoded_images_per_second"] > 0


def test_a_check_that_breaks_is_kept_and_has_failed(tmp_path: Path) -> None:
    def breaks() -> dict:
        raise RuntimeError("no such kernel")

    found = gpu.kept(tmp_path, "attention", breaks)
    assert not found["ok"]
    assert "no such kernel" in found["failed"][-1]
    assert json.loads((tmp_path / "attention.json").read_text()) == found


def test_a_wrong_kernel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = correctness.attend

    def wrong(*given: torch.Tensor | str) -> torch.Tensor:
        out = right(*given)  # type: ignore[arg-type]
        return 1.1 * out if given[-1] == "sdpa" else out

    monkeypatch.setattr(correctness, "attend", wrong)
    found = correctness.attention(subject(rehearsal=True))
    assert not found["ok"]
    assert not found["sdpa float32"]["ok"]
    assert found["manual float32"]["ok"]


def test_without_a_gpu_the_real_thing_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BadInput, match="no GPU"):
        gpu.measure(tmp_path, rehearse=False, minutes=1, study=None)


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Path:
    """Params of a random encoder and two tasks, and its pairs."""
    workspace = toy_runs.write_workspace(tmp_path / "workspace", repository)
    toy_pairs.write_dataset(workspace, "toy", pairs=24, size_px=32, seed=0, validation=8)
    toy_runs.change(
        workspace,
        "evaluate",
        "correspondence",
        dataset="toy",
        tracked_by="data/manifests/toy.parquet",
        pairs=4,
    )
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["table"] |= {"runs": ["random"], "tasks": ["correspondence", "reconstruction"]}
    path.write_text(yaml.safe_dump(raw))
    return workspace


@pytest.mark.long
@pytest.mark.timeout(1800)  # a dozen commands, each a process
def test_cells_run_in_what_was_carried(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert 0 < carried.pack(workspace, tmp_path / "carried", ["reconstruction"]) < 1
    with pytest.raises(BadInput, match="exists"):
        carried.pack(workspace, tmp_path / "carried")
    wanted = study.cells_of(load_params(tmp_path / "carried/params.yaml"))
    assert wanted == ["random/second-view", "random/correspondence"]
    out = tmp_path / "out"
    found = carried.cells(tmp_path / "carried", out, deadline=float("inf"))
    assert list(found["seconds"]) == wanted
    assert (out / "cells/random/correspondence.json").exists()
    none = carried.cells(tmp_path / "carried", tmp_path / "late", deadline=0.0)
    assert none["not_run"] == wanted


def test_depth_is_carried_at_a_quarter(tmp_path: Path) -> None:
    for kind, name in (("color", "1.jpg"), ("depth", "1.png")):
        (tmp_path / "nyu" / kind).mkdir(parents=True)
        picture = np.full((40, 80), 7000, np.uint16) if kind == "depth" else np.zeros((40, 80, 3))
        assert cv2.imwrite(str(tmp_path / "nyu" / kind / name), picture)
    (tmp_path / "nyu/info.json").write_text("{}")
    carried._shrink(tmp_path / "nyu", tmp_path / "out")
    depth = cv2.imread(str(tmp_path / "out/depth/1.png"), cv2.IMREAD_UNCHANGED)
    assert depth is not None
    assert depth.shape == (10, 20)
    assert (depth == 7000).all()
    assert (tmp_path / "out/info.json").exists()
