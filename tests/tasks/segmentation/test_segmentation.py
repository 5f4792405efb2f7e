"""Semantic segmentation under both presets, its frames and windows, and IoU against
torchmetrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.tasks import TASKS
from mimic.tasks.checks import check
from mimic.tasks.engine.dense_transforms import Item, Items
from mimic.tasks.metrics.iou import averages, class_counts, class_iou, miou_error
from mimic.tasks.segmentation import finetune
from mimic.tasks.segmentation.ade20k import IGNORED, Ade20k
from mimic.tasks.segmentation.config import SegmentationTask
from tests.support.miniatures import as_subject, folders_in
from tests.tasks.segmentation.test_ade20k import official

SMALL: dict[str, Any] = {
    "images": (6, 4),
    "size_px": 32,
    "head_width": 16,
    "head_blocks": 1,
    "steps": 2,
    "batch": 4,
    "stride_px": 16,
    "precision": "fp32",
}


@pytest.mark.parametrize("preset", ["published", "standard"])
def test_end_to_end(
    preset: str, made_ade20k: Path, segmentation_task: SegmentationTask, encoder: VisionTransformer
) -> None:
    update = {**TASKS["segmentation"].presets[preset], **SMALL, "preset": preset}
    task = SegmentationTask.model_validate({**segmentation_task.model_dump(), **update})
    assert check(task, made_ade20k.parent)["splits"] == {"train": 6, "test": 4}
    result = finetune.run(task, as_subject(encoder), folders_in(made_ade20k.parent))
    both = result.metrics["averages"]
    assert result.value == both["global"]["mIoU"] != both["image"]["mIoU"]
    assert 0 <= result.value <= 1
    assert result.metrics["standard_error"] > 0
    assert 1 < result.metrics["train_loss"] < 10
    assert result.test_size == 4
    mean = np.mean(list(result.metrics["classes"].values()))
    assert mean == pytest.approx(result.value)
    assert set(result.metrics["classes"]) <= set(Ade20k(made_ade20k, None).names)
    assert len(result.pictures) == 2
    assert "labelled pixels right" in result.pictures[0].caption


def test_training_learns_walls_and_floors(
    made_ade20k: Path, segmentation_task: SegmentationTask, encoder: VisionTransformer
) -> None:
    """Pixel accuracy on flats never seen rises well above the untrained head's."""
    update = {"steps": 40, "lr": 3e-3, "freeze": "none", "augment": "flip"}
    untrained = segmentation_task.model_copy(update={**update, "steps": 1, "lr": 0.0, "samples": 0})
    before = finetune.run(untrained, as_subject(encoder), folders_in(made_ade20k.parent)).metrics[
        "pixel_accuracy"
    ]
    trained = segmentation_task.model_copy(update={**update, "samples": 0})
    after = finetune.run(trained, as_subject(encoder), folders_in(made_ade20k.parent)).metrics[
        "pixel_accuracy"
    ]
    assert after > max(0.3, before + 0.2)


def test_real_images(
    real_data: Path, segmentation_task: SegmentationTask, encoder: VisionTransformer, tmp_path: Path
) -> None:
    task = segmentation_task.model_copy(
        update={"data": official(real_data, tmp_path), "batch": 2, "steps": 1, "stride_px": 32}
    )
    result = finetune.run(task, as_subject(encoder), folders_in(tmp_path))
    labelled = sum(
        int((cv2.imread(str(path), -1) > 0).sum())
        for path in (real_data / "ade20k/annotations").glob("*.png")
    )
    assert result.test_size == 2
    assert result.metrics["labelled_pixels"] == labelled


def test_a_set_that_is_not_whole_is_refused(
    made_ade20k: Path, segmentation_task: SegmentationTask, encoder: VisionTransformer
) -> None:
    task = segmentation_task.model_copy(update={"images": (20210, 2000)})
    with pytest.raises(BadInput, match="expected 20210 and 2000"):
        check(task, made_ade20k.parent)
    with pytest.raises(BadInput, match="size_px 36: .* 32 would do|size_px 36: .* 40 would do"):
        finetune.run(
            segmentation_task.model_copy(update={"size_px": 36}),
            as_subject(encoder),
            folders_in(made_ade20k.parent),
        )


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"score_at": "input"}, "frame padded is scored at input"),
        ({"stride_px": None}, "needs frame: whole and a stride_px"),
        ({"scale": (2.0, 0.5)}, "first factor is the smaller"),
    ],
)
def test_settings_that_contradict(
    segmentation_task: SegmentationTask, update: dict, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        SegmentationTask.model_validate({**segmentation_task.model_dump(), **update})


def _item(height: int, width: int) -> Item:
    labels = np.arange(height * width).reshape(height, width).astype(np.uint8) % 150
    return Item(np.repeat(labels[..., None], 3, axis=2), labels, np.ones(labels.shape, bool))


def test_padded_frames(segmentation_task: SegmentationTask) -> None:
    """Larger side 32, grey and unlabelled below; the image itself is not moved."""
    task = segmentation_task.model_copy(update={"frame": "padded"})
    batch = finetune.preprocess(task, Items((_item(24, 32), _item(32, 16))))
    assert batch.images.shape == (2, 32, 32, 3)
    assert batch.valid.sum() == 24 * 32 + 32 * 16
    assert (batch.images[~batch.valid] == 128).all()
    assert (batch.target[~batch.valid] == IGNORED).all()
    np.testing.assert_array_equal(batch.target[0, :24], _item(24, 32).target)


def test_random_squares_keep_labels_on_their_pixels(segmentation_task: SegmentationTask) -> None:
    """Left half dark and class 1, right half bright and class 2: so it stays, at any scale, where
    it is not an edge."""
    image = np.full((48, 64, 3), 20, np.uint8)
    image[:, 32:] = 220
    labels = np.where(image[..., 0] > 100, 2, 1).astype(np.uint8)
    items = Items((Item(image, labels, np.ones(labels.shape, bool)),) * 16)
    task = segmentation_task.model_copy(update={"frame": "padded", "scale": (0.1, 2.0)})
    batch = finetune.augment(task, items, np.random.default_rng(0))
    assert batch.images.shape == (16, 32, 32, 3)
    bright = batch.images.astype(int).sum(axis=-1)
    for image_sum, target, valid in zip(bright, batch.target, batch.valid, strict=True):
        sides = [image_sum[valid & (target == number)] for number in (1, 2)]
        if len(sides[0]) and len(sides[1]):
            assert np.median(sides[0]) < np.median(sides[1])
    assert (batch.valid.mean(axis=(1, 2)) < 1).any()
    assert len({int(value) for value in batch.valid.sum(axis=(1, 2))}) > 4


def test_random_sizes_are_truncated(segmentation_task: SegmentationTask) -> None:
    """48 x 64 becomes int(48 s) x int(64 s); what is valid of a square says how large that was."""
    labels = np.ones((48, 64), np.uint8)
    items = Items((Item(np.full((48, 64, 3), 90, np.uint8), labels, labels.astype(bool)),) * 40)
    task = segmentation_task.model_copy(
        update={"frame": "padded", "size_px": 64, "scale": (0.5, 1.0)}
    )
    batch = finetune.augment(task, items, np.random.default_rng(1))
    rng, expected = np.random.default_rng(1), []
    Items(items.items).color_jitter(finetune.COLOURS, rng)
    for _ in range(40):
        factor = rng.uniform(0.5, 1.0)
        expected.append((int(48 * factor), int(64 * factor)))
        rng.integers(0, 1, 2)
    found = [(int(valid.any(axis=1).sum()), int(valid.any(axis=0).sum())) for valid in batch.valid]
    assert found == expected
    assert any(round(48 * size[1] / 64) != size[0] for size in expected)


def test_windows_cover_the_frame_and_average(
    segmentation_task: SegmentationTask, encoder: VisionTransformer
) -> None:
    """One window equals one pass; with several, every pixel is the mean of the windows that hold
    it."""
    model = finetune.build(segmentation_task, encoder, 150).eval()
    square = _item(32, 32)
    assert torch.equal(
        finetune.slide_inference(segmentation_task, model, square),
        finetune.whole_inference(segmentation_task, model, square),
    )
    wide = _item(32, 56)
    found = finetune.slide_inference(segmentation_task, model, wide)
    parts = {
        left: finetune.whole_inference(
            segmentation_task, model, Item(*(a[:, left : left + 32] for a in vars(wide).values()))
        )
        for left in (0, 16, 24)
    }
    torch.testing.assert_close(found[..., :16], parts[0][..., :16])
    torch.testing.assert_close(
        found[..., 24:32], (parts[0][..., 24:32] + parts[16][..., 8:16] + parts[24][..., :8]) / 3
    )
    torch.testing.assert_close(found[..., 48:], parts[24][..., 24:])


def test_jaccard_equals_torchmetrics_with_absent_classes() -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    rng = np.random.default_rng(0)
    truth = rng.choice([0, 3, 7, 20, IGNORED], (5, 40, 50)).astype(np.uint8)
    prediction = np.where(
        rng.random(truth.shape) < 0.6, truth, rng.choice([0, 3, 9], truth.shape)
    ).astype(np.uint8)
    prediction[prediction == IGNORED] = 3
    counts = np.stack(
        [class_counts(p, t, t != IGNORED, 150) for p, t in zip(prediction, truth, strict=True)]
    )
    arguments = (torch.from_numpy(prediction).long(), torch.from_numpy(truth).long())
    both = averages(counts)
    assert both["global"]["mIoU"] == pytest.approx(
        float(MulticlassJaccardIndex(150, ignore_index=IGNORED)(*arguments)), abs=1e-7
    )
    micro = MulticlassAccuracy(150, ignore_index=IGNORED, average="micro")(*arguments)
    assert both["global"]["pixel_accuracy"] == pytest.approx(float(micro), abs=1e-7)
    assert both["global"]["mIoU"] == pytest.approx(np.nanmean(class_iou(counts.sum(axis=0))))
    assert np.isnan(class_iou(counts.sum(axis=0))).sum() == 150 - 5
    recalls = [np.mean(prediction[truth == number] == number) for number in (0, 3, 7, 20)]
    assert both["global"]["mean_accuracy"] == pytest.approx(np.mean(recalls))
    each = [np.nanmean(class_iou(one)) for one in counts]
    assert both["image"]["mIoU"] == pytest.approx(np.mean(each))
    assert miou_error(counts, pooled=False) == pytest.approx(np.std(each, ddof=1) / np.sqrt(5))
    left_out = [
        np.nanmean(class_iou(np.delete(counts, one, axis=0).sum(axis=0))) for one in range(5)
    ]
    squares = sum((value - np.mean(left_out)) ** 2 for value in left_out)
    assert miou_error(counts, pooled=True) == pytest.approx((4 / 5 * squares) ** 0.5, rel=1e-9)
    assert miou_error(counts[:1], pooled=True) is None
    for pooled in (False, True):  # images without a labelled pixel are no images to it
        more = np.concatenate([counts, np.zeros_like(counts)])
        assert miou_error(more, pooled) == pytest.approx(miou_error(counts, pooled))
