"""Every stage on a full disk, a real one: what the system said is raised, which the command line
prints as one line; nothing half-written has a name, and with room again the stage goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mimic import assemble, ingest, mine, prepare, pretrain, recipe, report, synthesize
from mimic import evaluate as evaluate_stage
from mimic.infra import tracking
from mimic.infra.storage import is_full
from mimic.params import Params, load_params
from mimic.params.tracked import tracking_context
from tests.support import footage, toy_runs

PAGE = 4096


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Path]:
    """A workspace on a file system of its own."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no right to mount a small file system: {done.stderr}")
    _write(folder, repository)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _write(root: Path, repository: Path) -> None:
    toy_runs.write_workspace(root, repository)
    raw = yaml.safe_load((root / "params.yaml").read_text())
    like = {"recipe": "croco", "dataset": "toy", "seed": 0}
    raw["runs"] = {"random": {**like, "steps": 0}, "croco": {**like, "steps": 3}}
    raw["pretrain"] = {"croco": raw["pretrain"]["croco"]}
    task = raw["evaluate"]["reconstruction"]
    more = {"dataset": "toy", "pairs": 4, "features_of": "random", "tracked_by": "models/random"}
    raw["evaluate"] = {"reconstruction": task | more}
    raw["table"] |= {"runs": ["random", "croco"], "tasks": ["reconstruction"]}
    phone = raw["sources"]["phone"] | {"spacing_s": 0.5, "retry_spacing_s": 1.0}
    raw["sources"] = {"phone": phone}
    raw["cluster"] |= {"workers": 1, "executor": "local"}
    raw["datasets"] = {
        name: raw["datasets"]["mimic-1m"] | {"sources": {"phone": None}} for name in ("toy", "own")
    }
    raw["synthesize"]["phone"] |= {"videos": 1, "seconds": 1.0, "width_px": 320, "height_px": 240}
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    footage.video(root / "data/raw/phone/0.mp4", footage.pan(0, 8, 80))


def _fill(disk: Path, pages: int) -> None:
    """Leave room for so many pages."""
    space = os.statvfs(disk)
    with (disk / "filler").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, (space.f_bavail - pages) * space.f_frsize)


def _names(root: Path) -> set[str]:
    """What has a final name: all but work in progress, and the locks of it."""
    kept = ("data", "models", "metrics", "samples", "report")
    files = (path for name in kept for path in (root / name).rglob("*"))
    return {path.relative_to(root).as_posix() for path in files if path.is_file()}


STAGES: dict[str, tuple[int, Callable[[Params, Path], object]]] = {
    "ingest": (1, lambda params, root: ingest.main(params, root, "phone")),
    "mine": (6, lambda params, root: mine.main(params, root, "phone")),
    "assemble": (1, lambda params, root: assemble.main(params, root, "own")),
    "recipe": (0, lambda params, root: recipe.main(params, root, "croco")),
    "random": (20, lambda params, root: pretrain.main(params, root, "random")),
    "pretrain": (20, lambda params, root: pretrain.main(params, root, "croco")),
    "prepare": (0, lambda params, root: prepare.main(params, root, "reconstruction")),
    "evaluate": (
        5,
        lambda params, root: evaluate_stage.main(params, root, "croco", "reconstruction"),
    ),
    "report": (9, lambda params, root: report.main(params, root)),
    "synthesize": (8, lambda params, root: synthesize.main(params, root, "phone")),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_on_a_full_disk_loses_nothing(disk: Path, name: str) -> None:
    pages, stage = STAGES[name]
    params = load_params(disk / "params.yaml")
    if name == "synthesize":
        shutil.rmtree(disk / "data/raw/phone")  # its own folder, which is not made by it
    before = _names(disk)
    _fill(disk, pages)
    try:
        with pytest.raises(OSError, match=r"No space left|[Nn]o space") as raised:
            stage(params, disk)
        assert is_full(raised.value), raised.value
        assert _names(disk) == before
    finally:
        (disk / "filler").unlink(missing_ok=True)
    stage(params, disk)
    assert _names(disk) > before
    assert not [path for path in disk.rglob("*.part") if "runs" not in path.parts]


def test_a_full_disk_under_the_tracker_is_a_line_and_no_failure(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    params = load_params(disk / "params.yaml")
    on_it = params.tracking.model_copy(update={"uri": f"sqlite:///{disk}/mlflow.db"})
    settings = params.model_copy(update={"tracking": on_it})
    _fill(disk, 20)
    try:
        tracking.mirror_pretrain(tracking_context(settings), disk, "croco")
    finally:
        (disk / "filler").unlink(missing_ok=True)
    said = [one.getMessage() for one in caplog.records if "not shown in MLflow" in one.getMessage()]
    assert len(said) == 1
    assert "full" in said[0] or "No space" in said[0]
