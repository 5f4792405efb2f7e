"""Depth of single images on the NYU Depth v2 layout: a DPT head on four blocks, reversed Huber loss
(MultiMAE's protocol).

The target is standardised: (depth_m * units_per_m - target_mean) / target_std. Errors are in
metres. All three averages are reported: over batches as the peers pool them, over images, over all
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimic.models.dpt_head import DptHead
from mimic.models.encoder import VisionTransformer, normalise
from mimic.models.heads import StandardisedLevels, initialise
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.depth.config import DepthFields, DepthTask
from mimic.tasks.depth.frames import load, natively_scored, preprocess, stacked
from mimic.tasks.depth.nyu import DepthFrame
from mimic.tasks.depth.sets import DepthSet, open_depth
from mimic.tasks.engine.batches import shown_batches
from mimic.tasks.engine.dense_transforms import Batch, ColorJitter, color_jitter, random_crop
from mimic.tasks.engine.encoder_with_head import (
    EncoderWithHead,
    freeze_in_words,
    norm_in_words,
    read_blocks,
    require_patches,
    seeded,
)
from mimic.tasks.engine.finetune import finetune_model
from mimic.tasks.metrics.depth import (
    DEPTH_METRICS,
    average,
    berhu,
    by_batch,
    by_everything,
    by_image,
    delta1_error,
    depth_sums,
)
from mimic.tasks.metrics.items import item_shares
from mimic.training.batches import evenly_spaced

LEVELS = 4
COLOURS = ColorJitter(
    brightness=0.1255, contrast=0.4, saturation=0.5, hue=0.2, share=0.5, grey_share=0.3
)  # the peers'
PICTURE_PX = 192  # height of the pictures


def run(task: DepthTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train the head (and what `freeze` leaves) on the train split, measure the last step on the
    test split."""
    with open_depth(task, folders.root) as nyu:
        model = build(task, subject.encoder)
        train = load(nyu, nyu.train, task, subject.encoder.patch_px)
        last_loss = finetune_model(
            model,
            task,
            train,
            partial(preprocess, task),
            partial(augment, task),
            partial(loss, task),
            folders.progress,
        )
        frames = Tests(nyu, task.eval_batch)
        sums, pictures = score(
            task, frames, model.encoder.patch_px, lambda _, images: predict(task, model, images)
        )
    metrics = average_metrics(task, sums)
    return Result(
        name="delta1",
        headline="delta1",
        higher_is_better=True,
        metrics={**metrics, "train_size": len(train), "train_loss": last_loss},
        protocol=of_set(task, nyu, len(train), len(sums)),
        selection="last step",
        test_size=len(sums),
        pictures=pictures,
        items=item_scores(task, sums),
    )


def item_scores(task: DepthFields, sums: np.ndarray) -> np.ndarray:
    """What each image contributes to delta1; pools of images count as one pool."""
    hits = sums[:, 1 + DEPTH_METRICS.index("delta1")]
    return item_shares(hits, sums[:, 0], pooled=task.averaging != "image")


def average_metrics(task: DepthFields, sums: np.ndarray) -> dict[str, Any]:
    """The task's average with its standard error, and all three."""
    averages = {
        "batch": average(sums, by_batch(len(sums), task.eval_batch, task.eval_ranks)),
        "image": average(sums, by_image(len(sums))),
        "global": average(sums, by_everything(len(sums))),
    }
    return {
        **averages[task.averaging],
        "standard_error": delta1_error(sums, pooled=task.averaging != "image"),
        "averages": averages,
        "valid_pixels": int(sums[:, 0].sum()),
    }


def build(task: DepthFields, encoder: VisionTransformer) -> EncoderWithHead:
    """The encoder with a DPT head of one channel, initialised from the task's seed."""
    require_patches(task.size_px, encoder.patch_px)

    def head() -> nn.Module:
        dpt = DptHead(encoder.width, task.head_width, 1, encoder.patch_px)
        initialise(dpt)
        return StandardisedLevels(dpt, [encoder.width] * LEVELS) if task.standardise else dpt

    blocks = read_blocks(task.blocks, encoder.depth, LEVELS)
    return EncoderWithHead(
        encoder, seeded(task.seed, head), blocks, task.freeze, task.drop_path, norm=task.last_norm
    )


def augment(task: DepthFields, batch: Batch, rng: np.random.Generator) -> Batch:
    """What the model sees of a train batch under the peers' augmentation (mirroring is done
    already)."""
    batch = Batch(
        np.stack(color_jitter(list(batch.images), COLOURS, rng)), batch.target, batch.valid
    )
    return random_crop(batch, task.size_px, rng) if task.frame == "crop" else batch


def loss(task: DepthFields, output: Tensor, batch: Batch) -> Tensor:
    """Reversed Huber in standardised units; invalid pixels do not count."""
    target = (
        torch.from_numpy(batch.target) * task.units_per_m - task.target_mean
    ) / task.target_std
    return berhu(
        output[:, 0].float(),
        target.to(output.device),
        torch.from_numpy(batch.valid).to(output.device),
    )


# ---------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Tests:
    """The test images in batches, in order: (places, frames)."""

    nyu: DepthSet
    batch: int

    def __iter__(self) -> Iterator[tuple[slice, list[DepthFrame]]]:
        for part in shown_batches(len(self.nyu.test), self.batch, "score", "images"):
            yield part, [self.nyu.read(int(number)) for number in self.nyu.test[part]]

    def __len__(self) -> int:
        return len(self.nyu.test)


def score(
    task: DepthFields, tests: Tests, patch_px: int, predicted: Callable[[slice, np.ndarray], Tensor]
) -> tuple[np.ndarray, list[Figure]]:
    """Sums of errors of each test image, and pictures of a few of them, evenly spaced.

    Args:
        predicted: of the places of a batch and what the model sees of it, uint8[n, h, w, 3]: depth
            in metres, float32[n, h, w].
    """
    drawn = set(evenly_spaced(len(tests), task.samples))
    sums = []
    pictures = []
    for part, frames in tests:
        batch = preprocess(task, stacked(frames, task, patch_px))
        scored = _scored(task, frames, batch, predicted(part, batch.images))
        for position, (image, prediction, truth, valid) in zip(
            range(part.start, part.stop), scored, strict=True
        ):
            sums.append(
                depth_sums(
                    prediction[None], torch.from_numpy(truth)[None], torch.from_numpy(valid)[None]
                )
            )
            if position in drawn:
                pictures.append(
                    _picture(int(tests.nyu.test[position]), image, truth, prediction.numpy(), valid)
                )
    return np.concatenate(sums), pictures


def _scored(
    task: DepthFields, frames: list[DepthFrame], batch: Batch, predicted: Tensor
) -> Iterator[tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]]:
    """Of each test image: what is scored at which resolution: image, predicted depth in metres,
    truth, valid."""
    for index, frame in enumerate(frames):
        if task.score_at == "input":
            yield (
                batch.images[index],
                _clamped(predicted[index], task),
                batch.target[index],
                batch.valid[index],
            )
        else:
            native = F.interpolate(
                predicted[index][None, None],
                size=frame.depth_m.shape,
                mode="bilinear",
                align_corners=False,
            )[0, 0]
            yield frame.image, _clamped(native, task), frame.depth_m, natively_scored(task, frame)


def predict(task: DepthFields, model: EncoderWithHead, images: np.ndarray) -> Tensor:
    """Depth in metres, float32[n, h, w], of images uint8[n, h, w, 3]."""
    model.eval()
    with torch.inference_mode():
        inputs = normalise(torch.from_numpy(images).to(model.device))
        output = model(inputs)[:, 0].float()
        if task.flip_test:
            output = (output + model(inputs.flip(-1))[:, 0].float().flip(-1)) / 2
    return metres(task, output)


def metres(task: DepthFields, output: Tensor) -> Tensor:
    """The head's standardised output as depth, on the CPU."""
    return ((output * task.target_std + task.target_mean) / task.units_per_m).cpu()


def _clamped(depth_m: Tensor, task: DepthFields) -> Tensor:
    return (
        depth_m
        if task.depth_min_m is None and task.depth_max_m is None
        else depth_m.clamp(task.depth_min_m, task.depth_max_m)
    )


# ---------------------------------------------------------------------------- what the result says
# of itself


def of_set(task: DepthFields, data: DepthSet, train_size: int, test_size: int) -> str:
    """`protocol`, with what is said of data that are not the official ones."""
    region = task.score_region if data.has_eigen else "all"
    line = protocol(task.model_copy(update={"score_region": region}), train_size, test_size)
    return f"{line}, {data.own}" if data.own else line


def protocol(task: DepthFields, train_size: int, test_size: int) -> str:
    """One line: how it was measured."""
    trained = freeze_in_words(task.freeze)
    masks = "measured depth" if task.masks is None else f"masks {task.masks.name}"
    farthest = "inf" if task.depth_max_m is None else f"{task.depth_max_m:g}"
    limits = f"{task.depth_min_m or 0:g}-{farthest} m"
    return (
        f"preset {task.preset}, {trained}, {train_size} train / {test_size} test, {task.frame} "
        f"frame at {task.size_px} px, "
        f"{norm_in_words(task.last_norm)}{'standardised, ' if task.standardise else ''}"
        f"{task.steps} steps of {task.batch}, "
        f"scored at {task.score_at} resolution, region {task.score_region}, {limits}, {masks}, "
        f"averaged by {task.averaging}"
    )


def _picture(
    number: int, image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, valid: np.ndarray
) -> Figure:
    """Image, truth, prediction side by side; both depths in one colour scale, what is not scored
    black in the truth."""
    scored = truth[valid] if valid.any() else truth.ravel()
    low = float(np.percentile(scored, 2))
    high = float(np.percentile(scored, 98))

    def coloured(depth_m: np.ndarray) -> np.ndarray:
        share = np.clip((depth_m - low) / max(high - low, 1e-6), 0, 1)
        return cv2.applyColorMap(np.round(255 * (1 - share)).astype(np.uint8), cv2.COLORMAP_TURBO)[
            :, :, ::-1
        ]

    shown = coloured(truth).copy()
    shown[~valid] = 0
    width = round(PICTURE_PX * image.shape[1] / image.shape[0])
    strip = [
        cv2.resize(part, (width, PICTURE_PX), interpolation=cv2.INTER_AREA)
        for part in (image, shown, coloured(prediction))
    ]
    error = f"{np.abs(prediction - truth)[valid].mean():.2f} m" if valid.any() else "not known"
    caption = (
        f"test image {number + 1}: image, truth, prediction; red {low:.1f} m to blue {high:.1f} m; "
        f"mean error {error}"
    )
    return Figure(f"image-{number + 1:04d}", np.concatenate(strip, axis=1), caption)
