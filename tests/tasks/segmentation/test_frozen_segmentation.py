"""Segmentation from kept features: the linear probe and few shots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.synthetic import toy_datasets
from mimic.tasks import run_task
from mimic.tasks.segmentation.config import (
    FewShotSegmentationTask,
    LinearSegmentationTask,
    SegmentationTask,
)
from tests.support.miniatures import ADE20K, as_subject, folders_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "ade20k").mkdir()
    toy_datasets.write(ADE20K, tmp_path / "ade20k")
    return tmp_path


def count_images(encoder: VisionTransformer) -> list[int]:
    """How many images pass the encoder, one entry a batch."""
    seen: list[int] = []
    encoder.patch_embed.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


def test_few_shot_end_to_end(
    few_shot_segmentation_task: FewShotSegmentationTask, root: Path, encoder: VisionTransformer
) -> None:
    seen = count_images(encoder)
    result = run_task(few_shot_segmentation_task, as_subject(encoder), folders_in(root))
    by_k = result.metrics["by_k"]
    assert result.name == "mIoU"
    assert result.value == by_k["4"]["mean"]
    assert list(by_k) == ["2", "4"]
    assert by_k["4"]["std"] == pytest.approx(np.std(by_k["4"]["values"], ddof=1))
    assert result.items is not None  # over test items, as of every task: draws are by_k's
    scored = result.items[~np.isnan(result.items)]
    stated = np.std(scored, ddof=1) / len(scored) ** 0.5
    assert result.metrics["standard_error"] == pytest.approx(stated)
    assert result.test_size == 4
    assert len(result.pictures) == 2
    assert "mean of 2 draws of 4 images" in result.protocol
    assert (
        sum(seen) == 2 * 6 + 4
    )  # the training images and their mirror images, the test images, for both seeds together
    with pytest.raises(BadInput, match="shots 7: there are 6 training images"):
        run_task(
            few_shot_segmentation_task.model_copy(update={"shots": (7,)}),
            as_subject(encoder),
            folders_in(root),
        )


def test_all_images_are_the_frozen_task(
    few_shot_segmentation_task: FewShotSegmentationTask, root: Path, encoder: VisionTransformer
) -> None:
    """With as many shots as there are images, kept features give what the segmentation task gives
    by encoding everything itself."""
    few = few_shot_segmentation_task.model_copy(
        update={"shots": (6,), "augment": "none", "batch": 6}
    )
    found = run_task(few, as_subject(encoder), folders_in(root)).metrics["by_k"]["6"]["values"]
    for seed, value in enumerate(found):
        same = few.model_dump(exclude={"shots", "seeds"})
        plain = SegmentationTask.model_validate({**same, "task": "segmentation", "seed": seed})
        assert value == pytest.approx(
            run_task(plain, as_subject(encoder), folders_in(root)).value, abs=1e-4
        )


def test_linear_probe_end_to_end(
    linear_segmentation_task: LinearSegmentationTask, root: Path, encoder: VisionTransformer
) -> None:
    """Trained at all, a linear layer on a random encoder finds more pixels than an untrained one,
    on sliding windows at native size.

    The bounds leave room for other processors' rounding: over seeds the trained layer finds 30 to
    34 % of the pixels, the untrained one 0 to 1 %, and the loss falls to a quarter.
    """
    task = linear_segmentation_task.model_copy(update={"steps": 200})
    seen = count_images(encoder)
    result = run_task(task, as_subject(encoder), folders_in(root))
    first = sum(seen)
    untrained = run_task(
        task.model_copy(update={"steps": 1}), as_subject(encoder), folders_in(root)
    )
    assert (
        first - (sum(seen) - first) == 2 * 6
    )  # the training images and their mirror images are not encoded again
    assert result.metrics["pixel_accuracy"] > 0.1 + untrained.metrics["pixel_accuracy"]
    assert result.metrics["train_loss"] < untrained.metrics["train_loss"] / 2
    assert result.name == "mIoU"
    assert 0 < result.value < 1
    assert "linear, " in result.protocol
    assert len(result.pictures) == 2


def test_wrong_requests(few_shot_segmentation_task: FewShotSegmentationTask) -> None:
    for wrong in (
        {"freeze": "none"},
        {"augment": "peer"},
        {"seeds": 1},
        {"frame": "whole", "score_at": "native"},
    ):
        with pytest.raises(ValidationError):
            FewShotSegmentationTask.model_validate(
                {**few_shot_segmentation_task.model_dump(), **wrong}
            )
