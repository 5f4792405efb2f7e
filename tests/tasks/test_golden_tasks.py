"""What each task measures of one tiny model on tiny data, pinned for the task's version.

The model's weights are written by a formula, so that no generator and no objective has a say in
them; numbers have room for the rounding of other processors.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mimic import config
from mimic.geometry.covisibility import intrinsics_from_fov
from mimic.models import Masking, ViTSize, build
from mimic.params import resolve_params
from mimic.synthetic import toy_datasets
from mimic.synthetic.toy_datasets import seven_scenes
from mimic.tasks import TASK_VERSIONS, run_task
from mimic.tasks.api import Result
from mimic.tasks.correspondence.config import CrossAttentionTask
from mimic.tasks.reconstruction.config import ReconstructionTask
from mimic.tasks.sections import TaskSection
from mimic.tasks.taskonomy.config import TaskonomyTask
from mimic.tasks.two_view_pose.config import TwoViewPoseTask
from mimic.training.checkpoint import load_encoder
from tests.support import golden_values, miniatures
from tests.support.golden_values import look
from tests.support.miniatures import FLAT, as_subject, folders_in

VIEWS: dict[str, Any] = {"flat": FLAT, "width_px": 64, "height_px": 64}
SETS: dict[str, config.Section] = {
    "ade20k": config.Ade20kSet(first_seed=1, train=4, test=2, **VIEWS),
    "coco": config.PeopleSet(first_seed=1, train=6, test=4, people=2, width_px=96, height_px=72),
    "imagenet": config.ShapesSet(first_seed=3, train_per_class=4, test_per_class=2, size_px=40),
    "flow": config.MotionSet(first_seed=4, train=3, test=2, **VIEWS),
    "stereo": config.MotionSet(first_seed=5, train=3, test=2, **VIEWS),
    "seven_scenes": config.SevenScenesSet(first_seed=6, scenes=1, train=8, test=3, **VIEWS),
    "taskonomy": config.TaskonomySet(first_seed=7, train=4, validation=2, test=3, **VIEWS),
}
SIZES = {
    **{"patch_px": 8, "width": 24, "depth": 4, "heads": 2, "class_token": False},
    **{"positions": "sincos", "norm_eps": 1e-6},
    **{"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2},
}
MASKING = {"mask_ratio": 0.75, "visible_rounding": "down"}


def _publish(folder: Path) -> Path:
    """models/<run> of a model whose weights are a formula of their names and places."""
    size = ViTSize(**SIZES, size_px=(32, 32))  # type: ignore[arg-type]
    model = build("croco", size, Masking(**MASKING, norm_pix=True))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, weights in model.named_parameters():
            phase = zlib.crc32(name.encode()) % 997
            wave = np.sin(np.arange(weights.numel()) * 12.9898 + phase)
            scale = 1.5 / weights[0].numel() ** 0.5
            weights.copy_(scale * torch.from_numpy(wave).reshape(weights.shape))
    folder.mkdir(parents=True)
    save_file(model.encoder.state_dict(), folder / "encoder.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    card: dict[str, Any] = {
        "model": {**SIZES, "size_px": [32, 32]},
        "objective": "croco",
        "run": folder.name,
    }
    card |= {**MASKING, "norm_pix_loss": True, "dataset": "toy", "steps": 7, "versions": {}}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with tiny data for every task, and the model."""
    folder = tmp_path_factory.mktemp("golden")
    for name, section in SETS.items():
        (folder / name).mkdir()
        toy_datasets.write(section, folder / name)
    miniatures.write_nyu(folder / "nyu")
    miniatures.write_dataset(folder, pairs=8)
    _publish(folder / "models/tiny")
    return folder


@pytest.fixture
def taskonomy_task(repository: Path, root: Path) -> TaskonomyTask:
    raw = resolve_params(repository / "params.yaml").full()["evaluate"]["normals"]
    data = root / "taskonomy"
    where = {"data": data, "splits": data / "splits", "tracked_by": data, "images": [4, 2, 3]}
    small = {"size_px": 32, "head_width": 16, "steps": 4, "batch": 3, "validate_every": 2}
    return TaskonomyTask.model_validate(raw | where | small | {"precision": "fp32", "samples": 2})


PAIRS = {"dataset": "toy", "tracked_by": Path("x"), "samples": 2, "seed": 0, "batch": 4, "pairs": 6}


@pytest.fixture
def cross_attention_task() -> CrossAttentionTask:
    own = {"temperature": 1e-4, "reciprocal": True, "overlap_bins": (0.0, 0.7, 1.0)}
    return CrossAttentionTask.model_validate({**PAIRS, **own, "task": "cross-attention"})


@pytest.fixture
def reconstruction_task() -> ReconstructionTask:
    own = {"preset": "standard", "split": "validation", "inception": None, "features_of": "tiny"}
    shown = {**MASKING, "paste_visible": True, "task": "reconstruction"}
    return ReconstructionTask.model_validate({**PAIRS, **own, **shown})


@pytest.fixture
def two_view_pose_task(root: Path) -> TwoViewPoseTask:
    """Frames of a generated flat, as far apart as they are."""
    folder = root / "seven_scenes"
    files = sorted(folder.rglob("*.pose.txt"))
    camera = intrinsics_from_fov(64, 64, seven_scenes.HFOV_DEG).ravel()
    lines = []
    for a, b in ((0, 3), (1, 6), (2, 9)):
        b_from_a = np.linalg.inv(np.loadtxt(files[b])) @ np.loadtxt(files[a])
        names = [
            str(files[at].relative_to(folder)).replace("pose.txt", "color.png") for at in (a, b)
        ]
        lines.append(" ".join([*names, *map(str, [*camera, *camera, *b_from_a.ravel()])]))
    (folder / "pairs.txt").write_text("\n".join(lines))
    where = {"data": folder, "pairs": folder / "pairs.txt", "tracked_by": folder / "pairs.txt"}
    own = {"size_px": 64, "block": None, "refine": False, "ransac_px": 4.0}
    about = {"task": "two-view-pose", "samples": 1, "seed": 0}
    return TwoViewPoseTask.model_validate({**about, **where, **own})


def _measured(task: TaskSection, root: Path) -> Result:
    encoder, _ = load_encoder(root / "models/tiny")
    return run_task(task, as_subject(encoder, root / "models/tiny"), folders_in(root))


def _numbers(value: Any) -> Any:
    """The same with every number a fraction: a count of right answers may differ by rounding."""
    if isinstance(value, dict):
        return {str(key): _numbers(one) for key, one in value.items() if key != "sha256"}
    if isinstance(value, list | tuple):
        return [_numbers(one) for one in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if np.isnan(value) else float(value)
    return value


@pytest.mark.parametrize("name", sorted(TASK_VERSIONS))
def test_a_task_measures_what_its_version_did(
    name: str, root: Path, request: pytest.FixtureRequest
) -> None:
    task = request.getfixturevalue(f"{name.replace('-', '_')}_task")
    result = _measured(task, root)
    value = {
        "name": result.name,
        "headline": result.headline,
        "higher": result.higher_is_better,
        "metrics": _numbers(result.metrics),
        "selection": result.selection,
        "test size": result.test_size,
        "pictures": [[figure.name, look(figure.image)] for figure in result.pictures],
    }
    said_in = f"TASK_VERSIONS of {name} in tasks/__init__.py"
    golden_values.check(f"task-{name}", said_in, TASK_VERSIONS[name], value, within=0.02, floor=0.1)
    _check_items(name, result)


WITHOUT_ITEMS = {"pose", "relative-pose"}  # an AP and a median have no parts of their own
OF_DRAWS = {"few-shot-depth", "few-shot-segmentation"}  # their error is over draws, not images


def _check_items(name: str, result: Result) -> None:
    """The items' contributions: one each, their mean the value, their spread the stated error."""
    if name in WITHOUT_ITEMS:
        assert result.items is None
        return
    assert result.items is not None
    assert len(result.items) == result.test_size
    scored = result.items[~np.isnan(result.items)]
    assert scored.mean() == pytest.approx(result.value, rel=0.05, abs=0.03)
    stated = result.metrics["standard_error"]
    if name not in OF_DRAWS and stated:
        assert scored.std(ddof=1) / len(scored) ** 0.5 == pytest.approx(stated, rel=0.5)
