"""Taskonomy's targets end to end on a generated tree: both presets, all eight targets, the best of
validation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms.functional import gaussian_blur

from mimic import config
from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.params import resolve_params
from mimic.synthetic import toy_datasets as sets
from mimic.synthetic.toy_datasets import taskonomy as taskonomy_set
from mimic.tasks import TASKS
from mimic.tasks.checks import check
from mimic.tasks.protocols import overrides
from mimic.tasks.taskonomy import finetune
from mimic.tasks.taskonomy.config import TaskonomyTask
from mimic.tasks.taskonomy.dataset import TARGETS, open_taskonomy
from tests.support.miniatures import as_subject, folders_in

SMALL: dict[str, Any] = {
    "images": [6, 3, 5],
    "size_px": 32,
    "head_width": 16,
    "steps": 4,
    "batch": 3,
    "validate_every": 2,
    "precision": "fp32",
    "samples": 2,
}
FLAT = {"width_m": 8.0, "depth_m": 6.5, "height_m": 2.6, "texture_px": 128}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "taskonomy"
    folder.mkdir()
    size = {"train": 6, "validation": 3, "test": 5, "width_px": 64, "height_px": 64}
    sets.write(
        config.TaskonomySet.model_validate({"first_seed": 560, "flat": FLAT, **size}), folder
    )
    return folder


@pytest.fixture
def task(repository: Path, made: Path) -> TaskonomyTask:
    raw = resolve_params(repository / "params.yaml").full()["evaluate"]["normals"]
    where = {"data": made, "splits": made / "splits", "tracked_by": made}
    return TaskonomyTask.model_validate({**raw, **where, **SMALL})


def changed(task: TaskonomyTask, **update: Any) -> TaskonomyTask:
    return TaskonomyTask.model_validate({**task.model_dump(), **update})


@pytest.mark.parametrize("preset", ["published", "standard"])
def test_end_to_end(
    preset: str, task: TaskonomyTask, made: Path, encoder: VisionTransformer, tmp_path: Path
) -> None:
    task = changed(
        task, **{**TASKS["taskonomy"].presets[preset], **SMALL, "preset": preset, "eval_batch": 2}
    )
    assert check(task, tmp_path)["splits"] == {"train": 6, "validation": 3, "test": 5}
    result = finetune.run(task, as_subject(encoder), folders_in(tmp_path))
    metrics = result.metrics
    assert result.value == metrics["averages"]["batch" if preset == "published" else "image"]["L1"]
    assert 0 < result.value < 1
    assert (
        metrics["averages"]["batch"]["L1"] != metrics["averages"]["image"]["L1"]
    )  # the last batch has one image and counts like two
    assert 0 < metrics["angle_deg"] < 180
    assert metrics["best_step"] in (2, 4)
    assert metrics["standard_error"] > 0
    assert result.test_size == 5
    assert "best of 3 validation images" in result.selection
    assert len(result.pictures) == 2
    assert overrides(task)["steps"] == 4
    assert "lr" not in overrides(task)


@pytest.mark.parametrize("target", get_args(TaskonomyTask.model_fields["target"].annotation))
def test_every_target(
    target: str, task: TaskonomyTask, encoder: VisionTransformer, tmp_path: Path
) -> None:
    result = finetune.run(
        changed(task, target=target, steps=2, samples=1), as_subject(encoder), folders_in(tmp_path)
    )
    assert 0 <= result.value < 3
    assert ("angle_deg" in result.metrics) == (target == "normal")
    assert result.pictures[0].image.shape[2] == 3
    assert set(TARGETS) == set(get_args(TaskonomyTask.model_fields["target"].annotation))


def test_generated_normals_face_the_camera(made: Path, task: TaskonomyTask) -> None:
    """Unit vectors, x to the right, y up, z backwards: each against the ray it was seen by."""
    taskonomy = open_taskonomy(task, made)
    frame = taskonomy.read(0)
    vectors = frame.target / 127.5 - 1
    assert np.abs(np.linalg.norm(vectors[frame.valid], axis=1) - 1).max() < 0.02
    across = (np.arange(64) - 31.5) / 32 * np.tan(np.radians(taskonomy_set.HFOV_DEG / 2))
    rays = np.stack(np.broadcast_arrays(across[None, :], -across[:, None], -1.0), axis=-1)
    assert ((vectors * rays).sum(axis=2)[frame.valid] < 0.03).all()


def test_loss_and_angle_by_hand() -> None:
    output = torch.tensor([0.5, 0.1]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    target, valid = np.zeros((1, 2, 2, 2), np.float32), np.array([[[True, False], [False, False]]])
    batch = finetune.Batch(np.zeros((1, 2, 2, 3), np.uint8), target, valid)
    assert float(finetune.loss(output, batch)) == pytest.approx(0.3)
    oracle = torch.nn.functional.l1_loss(output, torch.zeros_like(output))
    assert float(
        finetune.loss(output, finetune.Batch(batch.images, target, np.ones_like(valid)))
    ) == pytest.approx(float(oracle))
    assert (
        float(finetune.loss(output, finetune.Batch(batch.images, target, np.zeros_like(valid))))
        == 0
    )
    turned = finetune.angle_deg(
        np.array([[[0.5, 0.5, 1], [1, 0.5, 0.5], [0.5, 0.5, 0.5]]]),
        np.array([[[0.5, 0.5, 1.0]] * 3]),
    )
    np.testing.assert_allclose(turned, [[0, 90, 90]], atol=1e-5)


STORED = {"normal": "RGB", "reshading": "L", "edge_occlusion": "I;16", "depth_zbuffer": "I;16"}


@pytest.mark.parametrize("target", STORED)
def test_inputs_are_what_pillow_makes_of_the_files(task: TaskonomyTask, target: str) -> None:
    """Images bilinear, targets and masks nearest; occlusion edges are blurred after that."""
    mode, rng = STORED[target], np.random.default_rng(3)
    shape = (512, 512, 3) if mode == "RGB" else (512, 512)
    dtype = np.uint16 if mode == "I;16" else np.uint8
    stored = rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    image = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    valid = rng.random((512, 512)) > 0.02
    file = Image.fromarray(stored)
    assert file.mode == mode
    size = (384, 384)
    nearest = np.asarray(file.resize(size, Image.Resampling.NEAREST)).astype(np.float32)
    nearest /= np.iinfo(dtype).max
    expected: np.ndarray = np.atleast_3d(nearest)
    if target == "edge_occlusion":
        blurred = gaussian_blur(torch.from_numpy(nearest)[None], [3, 3], [1.0, 1.0])
        expected = blurred[0, ..., None].numpy()
    if target == "depth_zbuffer":
        expected = np.minimum(expected * 65535, 8000) / 8000
    item = finetune.Item(image, np.atleast_3d(stored), valid)
    asked = changed(task, target=target, size_px=384)
    found = finetune.preprocess(asked, finetune.Items((item,)))
    np.testing.assert_allclose(found.target[0], expected, atol=2e-6)
    smooth = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.images[0], np.asarray(smooth))
    mask_file = Image.fromarray(valid.astype(np.uint8) * 255)
    mask = np.asarray(mask_file.resize(size, Image.Resampling.NEAREST)) == 255
    cells = mask.reshape(96, 4, 96, 4).all(axis=(1, 3))
    np.testing.assert_array_equal(found.valid[0], np.kron(cells, np.ones((4, 4), bool)))


def test_the_best_is_tested_not_the_last(
    task: TaskonomyTask, encoder: VisionTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four looks the one that is ranked first is tested: on the images it was ranked by, its
    model gives the look's value again.

    The ranks are given, for which look is truly best depends on the processor's rounding.
    """
    for name, images in (("train", "train"), ("val", "val"), ("test", "val")):
        (tmp_path / f"tiny_{name}.csv").write_text((task.splits / f"tiny_{images}.csv").read_text())
    looks: list[float] = []
    value, ranks = finetune._value, (3.0, 1.0, 4.0, 2.0)

    def ranked_look(*given: Any) -> float:
        looks.append(value(*given))
        return ranks[len(looks) - 1]

    monkeypatch.setattr(finetune, "_value", ranked_look)
    ranked = changed(task, splits=tmp_path, images=[6, 3, 3], steps=8)
    tested = finetune.run(ranked, as_subject(copy.deepcopy(encoder)), folders_in(tmp_path / "best"))
    assert len(set(looks)) == 4
    assert (tested.metrics["best_step"], tested.metrics["validation_L1"]) == (4, 1.0)
    assert tested.value == looks[1]
    last = finetune.run(
        changed(ranked, validate_every=None),
        as_subject(copy.deepcopy(encoder)),
        folders_in(tmp_path / "last"),
    )
    assert "best_step" not in last.metrics
    assert last.value == looks[3]


def test_what_was_best_is_not_forgotten(task: TaskonomyTask, tmp_path: Path) -> None:
    model, scores = torch.nn.Linear(1, 1), iter([0.5, 0.7])
    best = finetune.BestCheckpoint(1, lambda: next(scores), tmp_path)
    best.update(model, 1)
    kept = model.weight.detach().clone()
    torch.nn.init.zeros_(model.weight)
    again = finetune.BestCheckpoint(1, lambda: next(scores), tmp_path)  # after a kill
    again.update(model, 2)
    again.restore(model)
    assert (again.step, again.value) == (1, 0.5)
    assert torch.equal(model.weight, kept)


def test_bad_input(task: TaskonomyTask, encoder: VisionTransformer, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="a mirrored image has other normals"):
        changed(task, augment="flip")
    with pytest.raises(BadInput, match="6 points, 800 are asked for"):
        check(changed(task, images=[800, 3, 5]), tmp_path)
    with pytest.raises(BadInput, match="size_px 36"):
        finetune.run(changed(task, size_px=36), as_subject(encoder), folders_in(tmp_path))
