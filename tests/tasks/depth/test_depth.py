"""The depth task under both presets, and the peers' transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.tasks import TASKS
from mimic.tasks.depth import finetune
from mimic.tasks.depth.config import DepthTask
from mimic.tasks.depth.nyu import Nyu
from mimic.tasks.engine.dense_transforms import (
    Batch,
    center_crop,
    color_jitter,
    random_crop,
    resize_image,
)
from tests.support.miniatures import as_subject, folders_in

SMALL: dict[str, Any] = {
    "masks": None,
    "size_px": 32,
    "head_width": 16,
    "steps": 2,
    "batch": 4,
    "eval_batch": 2,
}


def test_published_preset_end_to_end(
    nyu_folder: Path, depth_task: DepthTask, encoder: VisionTransformer, tmp_path: Path
) -> None:
    """In the published units targets sit near +20; errors come out in metres all the same."""
    published = TASKS["depth"].presets["published"]
    task = DepthTask.model_validate(
        {**depth_task.model_dump(), **published, **SMALL, "preset": "published"}
    )
    result = finetune.run(task, as_subject(encoder), folders_in(nyu_folder.parent))
    averages = result.metrics["averages"]
    assert result.value == averages["batch"]["delta1"]
    assert averages["batch"]["rmse"] != averages["global"]["rmse"]
    assert 0 < averages["image"]["rmse"] < 6
    assert 10 < result.metrics["train_loss"] < 60


def test_eigen_region_needs_native_frames(
    nyu_folder: Path, depth_task: DepthTask, encoder: VisionTransformer, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="native"):
        DepthTask.model_validate(
            {**depth_task.model_dump(), "score_region": "eigen", "score_at": "input"}
        )
    task = depth_task.model_copy(update={"score_region": "eigen", "steps": 1})
    with pytest.raises(BadInput, match="640 x 480"):
        finetune.run(task, as_subject(encoder), folders_in(nyu_folder.parent))


def test_real_frames(
    real_data: Path, depth_task: DepthTask, encoder: VisionTransformer, tmp_path: Path
) -> None:
    """The Eigen region of the true container: its 426 x 560 pixels, less what was not measured."""
    update = {
        "data": real_data / "derived_layouts/nyu",
        "score_region": "eigen",
        "batch": 1,
        "steps": 1,
    }
    with Nyu(real_data / "derived_layouts/nyu", None) as nyu:
        frame = nyu.read(int(nyu.test[0]))
    known = frame.valid & (frame.depth_m > 0.001) & (frame.depth_m < 10)
    inside = sum(known[row, column] for row in range(45, 471) for column in range(41, 601))
    result = finetune.run(
        depth_task.model_copy(update=update), as_subject(encoder), folders_in(tmp_path)
    )
    assert result.test_size == 1
    assert result.metrics["valid_pixels"] == inside > 0.5 * 426 * 560


def test_flip_test_sees_a_mirror_image_mirrored(
    depth_task: DepthTask, encoder: VisionTransformer
) -> None:
    """The mean over an image and its mirror image, turned back, turns with the image."""
    model = finetune.build(depth_task, encoder)
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 48, 3), dtype=np.uint8)
    mirror = np.ascontiguousarray(images[:, :, ::-1])
    both = depth_task.model_copy(update={"flip_test": True})
    seen, turned = finetune.predict(both, model, images), finetune.predict(both, model, mirror)
    torch.testing.assert_close(turned, seen.flip(-1), rtol=1e-4, atol=1e-5)
    once, other = (finetune.predict(depth_task, model, views) for views in (images, mirror))
    torch.testing.assert_close(seen, (once + other.flip(-1)) / 2, rtol=1e-4, atol=1e-5)
    assert (once - other.flip(-1)).abs().max() > 100 * (turned - seen.flip(-1)).abs().max()
    assert (seen - seen.flip(-1)).abs().max() > 1e-3  # or nothing could be told apart


def _batch() -> Batch:
    grid = np.arange(6 * 8).reshape(6, 8)
    images = np.stack([np.stack([grid] * 3, axis=-1)] * 3).astype(np.uint8)
    return Batch(images, images[..., 0].astype(np.float32), images[..., 0] % 2 == 0)


def test_the_head_is_trained_towards_standardised_depth_and_read_back_in_metres(
    depth_task: DepthTask,
) -> None:
    task = depth_task.model_copy(
        update={"target_mean": 2000.0, "target_std": 500.0, "units_per_m": 1000.0}
    )
    depth_m = torch.tensor([[[2.0, 2.5], [1.0, 4.0]]])
    standardised = torch.tensor([[[0.0, 1.0], [-2.0, 4.0]]])
    batch = Batch(np.zeros((1, 2, 2, 3), np.uint8), depth_m.numpy(), np.ones((1, 2, 2), bool))
    assert finetune.loss(task, standardised[:, None], batch).item() == pytest.approx(0, abs=1e-5)
    assert torch.allclose(finetune.metres(task, standardised), depth_m)


def test_images_and_labels_move_together() -> None:
    rng = np.random.default_rng(0)
    for moved in (
        _batch().hflip(np.array([True, False, True])),
        random_crop(_batch(), 4, rng),
        center_crop(_batch(), 4),
    ):
        np.testing.assert_array_equal(moved.images[..., 0], moved.target)
        np.testing.assert_array_equal(moved.valid, moved.target % 2 == 0)
    assert center_crop(_batch(), 4).target[0, 0, 0] == 8 + 2
    assert _batch().hflip(np.array([True, False, False])).target[0, 0, 0] == 7


def test_recolouring_depends_on_the_draw_alone() -> None:
    images = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 3), dtype=np.uint8)
    first, again = (
        np.stack(color_jitter(list(images), finetune.COLOURS, np.random.default_rng(5)))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    grey = (first == first[..., :1]).all(axis=(1, 2, 3))
    assert 1 <= grey.sum() <= 10
    assert (first == images).all(axis=(1, 2, 3)).any()


def test_resizing_equals_torch_without_antialiasing() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    ours = resize_image(image, (20, 30), antialias=False)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image).movedim(-1, 0)[None].float(), size=(20, 30), mode="bilinear"
    )
    assert np.abs(ours - theirs[0].movedim(0, -1).numpy()).max() <= 1.01
