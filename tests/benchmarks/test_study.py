"""The study in miniature, end to end: cells in order, none run twice, and what each keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import second_view, study, study_speed
from mimic.errors import BadInput
from mimic.params import load_params
from tests.support import toy_pairs, toy_runs


@pytest.fixture
def workspace(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """24 pairs in six clips; a trained run of two seeds, a random one, and one task."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    workspace = toy_runs.write_workspace(tmp_path / "workspace", repository)
    toy_pairs.write_dataset(workspace, "toy", pairs=24, size_px=32, seed=0, validation=8)
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    del raw["runs"]["croco"]["seed"]
    raw["runs"]["croco"] |= {"steps": 2, "seeds": [0, 1]}
    raw["evaluate"]["correspondence"] |= {
        "dataset": "toy",
        "tracked_by": "data/manifests/toy.parquet",
        "pairs": 4,
    }
    raw["table"] |= {"runs": ["random", "croco"], "tasks": ["correspondence"]}
    path.write_text(yaml.safe_dump(raw))
    return workspace


def test_a_miniature_runs_and_is_not_run_again(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cells = ["random/second-view", "croco/second-view", "croco/correspondence"]
    assert study.study(workspace, out, cells) == cells
    assert study.study(workspace, out, cells) == []
    kept = json.loads((out / "cells/croco/second-view.json").read_text())
    assert kept["result"]["n"] == 2
    assert [seed["pairs"] for seed in kept["result"]["seeds"].values()] == [8, 8]
    assert json.loads((out / "cells/croco/correspondence.json").read_text())["result"]
    assert (out / "logs/croco/seed-1.jsonl").read_text()
    toy_runs.change(workspace, "evaluate", "correspondence", pairs=3)
    assert study.study(workspace, out, cells) == ["croco/correspondence"]


@pytest.mark.parametrize("given", [None, "3"])
def test_a_training_has_the_threads_that_were_given(given: str | None, repository: Path) -> None:
    """And not the one thread of the measurements of CPU time."""
    show = "import os; print(os.environ.get('OMP_NUM_THREADS'))"
    script = (
        "import os, subprocess, sys; from pathlib import Path; from benchmarks import study\n"
        "run = subprocess.run\n"
        f"shown = [sys.executable, '-c', {show!r}]\n"
        "study.subprocess.run = lambda program, **rest: run(shown, **rest)\n"
        "study.command(Path('.'), 'pretrain', 'croco')\n"
    )
    environment = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    if given:
        environment["OMP_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(given)


def test_a_cell_that_is_none_is_refused(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such cell"):
        study.study(workspace, tmp_path / "out", ["croco/depth"])


def test_cells_of_the_profile_begin_with_what_croco_claims(repository: Path) -> None:
    cells = study.cells_of(load_params(repository / "profiles/study.yaml"))
    assert cells.index("croco/second-view") < cells.index("croco/depth") < cells.index("mae/depth")
    assert "mae/second-view" not in cells
    page = (repository / "docs/study/claims.md").read_text()
    tasks = {cell.split("/")[1] for cell in cells}
    assert all(f"`{task}`" in page for task in tasks)


def test_the_wrong_view_is_of_another_clip() -> None:
    clips = np.array(["a", "a", "a", "b", "c", "c"])
    wrong = second_view.of_another_clip(clips)
    assert (clips[wrong] != clips).all()
    with pytest.raises(BadInput, match="of one clip"):
        second_view.of_another_clip(clips[:3])


def test_the_speed_of_the_studys_model_is_printed_beside_its_floor() -> None:
    found = study_speed.measure(turns=1)
    assert set(found["processor_s"]) == {"decoded at every step", "kept decoded"}
    assert 0 < found["floor_s"] < min(found["processor_s"].values())
    assert 0 < found["products_s"] < found["processor_s"]["kept decoded"]
