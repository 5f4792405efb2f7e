"""Taskonomy's dense targets, surface normals first: a DPT head, masked L1 (MultiMAE's protocol).

Targets are in [0, 1] as the peers regress them; normals stay (n + 1) / 2 and are not normalised.
The published selection looks at 200 validation images every 5 epochs and tests the best of them
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from mimic.models.dpt_head import DptHead
from mimic.models.encoder import VisionTransformer, normalise
from mimic.models.heads import initialise
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.batches import shown_batches
from mimic.tasks.engine.dense_transforms import (
    Batch,
    Item,
    Items,
    OnDisk,
    pillow_bilinear,
    resize_image,
)
from mimic.tasks.engine.encoder_with_head import (
    EncoderWithHead,
    freeze_in_words,
    norm_in_words,
    read_blocks,
    require_patches,
    seeded,
)
from mimic.tasks.engine.finetune import finetune_model
from mimic.tasks.engine.saved_weights import BestCheckpoint
from mimic.tasks.engine.visualize import scaled as to_picture
from mimic.tasks.metrics.depth import by_batch, by_everything, by_image, pooled_mean
from mimic.tasks.metrics.items import item_shares, standard_error
from mimic.tasks.taskonomy.config import TaskonomyTask
from mimic.tasks.taskonomy.dataset import TARGETS, Taskonomy, labels_seen, open_taskonomy
from mimic.training.batches import evenly_spaced

LEVELS = 4


def run(task: TaskonomyTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train the head (and what `freeze` leaves), measure the best or the last step on the test
    list."""
    taskonomy = open_taskonomy(task, folders.root)
    require_patches(task.size_px, subject.encoder.patch_px)
    model = build(task, subject.encoder)
    best = None
    if task.validate_every is not None:
        best = BestCheckpoint(
            task.validate_every,
            lambda: _value(task, _sums(task, model, taskonomy, taskonomy.validation)),
            folders.progress,
        )
    train = OnDisk(partial(read, taskonomy), taskonomy.train)
    last_loss = finetune_model(
        model,
        task,
        train,
        partial(preprocess, task),
        lambda examples, _: preprocess(task, examples),
        loss,
        folders.progress,
        best=best,
    )
    sums = _sums(task, model, taskonomy, taskonomy.test)
    metrics = _metrics(task, sums) | {"train_size": len(train), "train_loss": last_loss}
    if best is not None:
        metrics |= {"best_step": best.step, "validation_L1": best.value}
    return Result(
        name="L1",
        headline="L1",
        higher_is_better=False,
        metrics=metrics,
        protocol=_protocol(task, len(train), len(sums)),
        selection="last step"
        if best is None
        else f"best of {len(taskonomy.validation)} validation images, every {task.validate_every} "
        "steps",
        test_size=len(sums),
        items=_shares(task, sums),
        pictures=list(_pictures(task, model, taskonomy)),
    )


def _metrics(task: TaskonomyTask, sums: np.ndarray) -> dict[str, Any]:
    averages = _averages(task, sums)
    metrics: dict[str, Any] = {
        "L1": averages[task.averaging],
        "standard_error": standard_error(_shares(task, sums)),
        "averages": {name: {"L1": value} for name, value in averages.items()},
        "valid_pixels": int(sums[:, 0].sum()),
    }
    if task.target == "normal":
        metrics["angle_deg"] = pooled_mean(sums[:, [0, 2]], by_everything(len(sums)))
    return metrics


def build(task: TaskonomyTask, encoder: VisionTransformer) -> EncoderWithHead:
    """The encoder with a DPT head of the target's channels, initialised from the task's seed."""

    def head() -> DptHead:
        dpt = DptHead(
            encoder.width, task.head_width, TARGETS[task.target].channels, encoder.patch_px
        )
        initialise(dpt)
        return dpt

    blocks = read_blocks(task.blocks, encoder.depth, LEVELS)
    return EncoderWithHead(
        encoder, seeded(task.seed, head), blocks, task.freeze, task.drop_path, norm=task.last_norm
    )


def read(taskonomy: Taskonomy, index: int) -> Item:
    """Target and mask as stored, at the size of the file."""
    frame = taskonomy.read(index)
    return Item(frame.image, frame.target, frame.valid)


def preprocess(task: TaskonomyTask, examples: Items) -> Batch:
    """Squares of size_px: images interpolated, targets (then in [0, 1]) and masks (then eroded)
    nearest."""
    return Items(tuple(_resized(item, task) for item in examples.items)).batch()


def _resized(item: Item, task: TaskonomyTask) -> Item:
    size = (task.size_px, task.size_px)
    resize = pillow_bilinear if task.antialias else partial(resize_image, antialias=False)
    target, valid = labels_seen(
        item.target, item.valid, TARGETS[task.target], task.size_px, task.erode_px
    )
    return Item(resize(item.image, size), target, valid)


def loss(output: Tensor, batch: Batch) -> Tensor:
    """Mean absolute error over valid pixels and channels; without any, 0."""
    target = torch.from_numpy(batch.target).to(output.device).movedim(-1, 1)
    valid = torch.from_numpy(batch.valid).to(output.device)[:, None]
    error = torch.where(valid, (output.float() - target).abs(), 0.0)
    return error.sum() / (valid.sum() * target.shape[1]).clamp(min=1)


# ---------------------------------------------------------------------------- measuring


def _sums(
    task: TaskonomyTask, model: EncoderWithHead, taskonomy: Taskonomy, numbers: np.ndarray
) -> np.ndarray:
    """float64[images, 3]: valid pixels; the sum over them of the absolute error, mean over
    channels; and of the angle in degrees."""
    sums = []
    for part in shown_batches(len(numbers), task.eval_batch, "score", "images"):
        batch = preprocess(
            task, OnDisk(partial(read, taskonomy), numbers).take(np.arange(part.start, part.stop))
        )
        for predicted, target, valid in zip(
            predict(model, batch.images), batch.target, batch.valid, strict=True
        ):
            error = np.abs(predicted - target).mean(axis=2)[valid].sum(dtype=np.float64)
            turned = (
                angle_deg(predicted, target)[valid].sum(dtype=np.float64)
                if task.target == "normal"
                else 0.0
            )
            sums.append((valid.sum(), error, turned))
    return np.array(sums, np.float64)


def predict(model: EncoderWithHead, images: np.ndarray) -> np.ndarray:
    """float32[n, h, w, channels] of images uint8[n, h, w, 3]; the model's mode is left as it
    was."""
    training = model.training
    model.eval()
    with torch.inference_mode():
        output = (
            model(normalise(torch.from_numpy(images).to(model.device)))
            .float()
            .movedim(1, -1)
            .cpu()
            .numpy()
        )
    model.train(training)
    return np.asarray(output)


def angle_deg(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Degrees between normals stored as (n + 1) / 2, [h, w]; a prediction of no direction is 90
    degrees off."""
    a = 2 * predicted - 1
    b = 2 * target - 1
    lengths = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    cosine = np.divide(
        (a * b).sum(axis=2), lengths, out=np.zeros_like(lengths), where=lengths > 1e-6
    )
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _averages(task: TaskonomyTask, sums: np.ndarray) -> dict[str, float]:
    pools = {
        "batch": by_batch(len(sums), task.eval_batch, 1),
        "image": by_image(len(sums)),
        "global": by_everything(len(sums)),
    }
    return {name: pooled_mean(sums[:, :2], pool) for name, pool in pools.items()}


def _value(task: TaskonomyTask, sums: np.ndarray) -> float:
    return _averages(task, sums)[task.averaging]


def _shares(task: TaskonomyTask, sums: np.ndarray) -> np.ndarray:
    """What each image contributes to the value."""
    return item_shares(sums[:, 1], sums[:, 0], pooled=task.averaging != "image")


# ---------------------------------------------------------------------------- what the result says
# of itself


def _protocol(task: TaskonomyTask, train_size: int, test_size: int) -> str:
    return (
        f"preset {task.preset}, {task.target}, {freeze_in_words(task.freeze)}, "
        f"{train_size} train / {test_size} test, {task.size_px} px, "
        f"{norm_in_words(task.last_norm)}{task.steps} steps of {task.batch}, "
        "L1 in [0, 1] over valid pixels, "
        f"masks eroded by {task.erode_px} px, averaged by {task.averaging}"
    )


def _pictures(
    task: TaskonomyTask, model: EncoderWithHead, taskonomy: Taskonomy
) -> Iterator[Figure]:
    """Image, truth, prediction; what is not scored is black in the truth."""
    numbers = taskonomy.test[evenly_spaced(len(taskonomy.test), task.samples, nearest=True)]
    for number in map(int, numbers):
        batch = preprocess(task, Items((read(taskonomy, number),)))
        predicted = predict(model, batch.images)[0]
        target = batch.target[0]
        valid = batch.valid[0]
        error = (
            float(np.abs(predicted - target).mean(axis=2)[valid].mean())
            if valid.any()
            else float("nan")
        )
        shown = _shown(target)
        shown[~valid] = 0
        strip = np.concatenate(
            [to_picture(part) for part in (batch.images[0], shown, _shown(predicted))], axis=1
        )
        stem = taskonomy.stem(number)
        yield Figure(
            stem,
            strip,
            f"{stem}: image, {task.target}, prediction; mean error {1000 * error:.0f} thousandths; "
            "not scored is black",
        )


def _shown(values: np.ndarray) -> np.ndarray:
    """uint8[h, w, 3]: three channels as they are, two as red and green, one in grey."""
    levels = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    if levels.shape[2] == 1:
        return cv2.cvtColor(levels[..., 0], cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(
        np.pad(levels, ((0, 0), (0, 0), (0, 3 - levels.shape[2])), constant_values=128)
    )
