"""Segmentation from kept features of a frozen encoder: the linear probe, and the ConvNeXt head
trained on few images.

Every training image passes the encoder once (its mirror image too, if the recipe mirrors), whatever
the number of seeds, shots and steps; so does every test image of the few-shot task. The linear
probe is measured once, on whatever windows its protocol asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mimic.models.heads import LinearHead
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.dense_transforms import Item, Items, OnDisk
from mimic.tasks.engine.encoder_with_head import (
    EncoderWithHead,
    read_blocks,
    require_patches,
    seeded,
)
from mimic.tasks.engine.feature_cache import FeatureArray, ImageSet, features, lookup_features, maps
from mimic.tasks.engine.few_shot import Draw, Measured, measure_draws, require_images
from mimic.tasks.engine.finetune import finetune_model
from mimic.tasks.metrics.items import item_ious
from mimic.tasks.segmentation import finetune
from mimic.tasks.segmentation.config import FewShotSegmentationTask, LinearSegmentationTask
from mimic.tasks.segmentation.sets import MaskSet, open_masks

Frozen = LinearSegmentationTask | FewShotSegmentationTask


def run_linear(task: LinearSegmentationTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train the linear layer on the train split, measure the last step on the validation split."""
    ade = open_masks(task, folders.root)
    encoder = subject.encoder
    require_patches(task.size_px, encoder.patch_px)
    head = seeded(task.seed, partial(LinearHead, encoder.width, ade.n_classes, encoder.patch_px))
    model = EncoderWithHead(
        encoder,
        head,
        read_blocks(task.blocks, encoder.depth, 1),
        task.freeze,
        task.drop_path,
        norm=True,
    )
    last_loss = _train(
        task, model, ade, np.arange(len(ade.train)), folders.features, folders.progress
    )
    model.eval()
    counts, pictures = finetune.score(
        task, ade, lambda _, items: finetune.predict(task, model, items)
    )
    metrics = finetune.average_metrics(task, ade, counts)
    return Result(
        name="mIoU",
        headline="mIoU",
        higher_is_better=True,
        metrics={**metrics, "train_size": len(ade.train), "train_loss": last_loss},
        protocol=f"linear, {finetune.of_set(task, ade, len(ade.train), len(counts))}",
        selection="last step",
        test_size=len(counts),
        pictures=pictures,
        items=item_ious(counts, pooled=task.averaging == "global"),
    )


def run_few(task: FewShotSegmentationTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """For each seed a head on each of its nested subsets, the same number of updates for all,
    measured on the whole validation split."""
    ade = open_masks(task, folders.root)
    encoder = subject.encoder
    require_patches(task.size_px, encoder.patch_px)
    require_images(task.shots, len(ade.train))

    def measure(draw: Draw) -> Measured:
        drawn = task.model_copy(update={"seed": draw.seed})
        model = finetune.build(drawn, encoder, ade.n_classes)
        _train(drawn, model, ade, draw.chosen, folders.features, draw.progress)
        counts, shown = _score(drawn, model, ade, folders.features)
        miou = finetune.average_metrics(drawn, ade, counts)["mIoU"]
        return miou, item_ious(counts, pooled=task.averaging == "global"), shown

    seeds = range(task.seed, task.seed + task.seeds)
    draws = measure_draws("mIoU", task.shots, seeds, len(ade.train), folders.progress, measure)
    protocol = finetune.of_set(task, ade, max(task.shots), len(ade.test))
    return Result(
        name="mIoU",
        headline="mIoU",
        higher_is_better=True,
        metrics=draws.metrics,
        protocol=f"few-shot, mean of {task.seeds} draws of {max(task.shots)} images, {protocol}",
        selection="last step; the largest number of images",
        test_size=len(ade.test),
        pictures=draws.pictures,
        items=draws.items,
    )


def cache_features(
    task: Frozen,
    model: EncoderWithHead,
    ade: MaskSet,
    numbers: np.ndarray,
    mirrored: bool,
    folder: Path,
) -> FeatureArray:
    """Features of the squares that this task shows the encoder of these images, made now if no task
    made them before."""

    def read(index: int) -> np.ndarray:
        item = finetune.read(ade, int(numbers[index]))
        return finetune.preprocess(task, Items((item.hflip() if mirrored else item,))).images[0]

    view = {
        "size_px": task.size_px,
        "frame": task.frame,
        "antialias": task.antialias,
        "mirrored": mirrored,
    }
    view["numbers"] = numbers.tolist()
    images = ImageSet(str(ade.extent()["digest"]), view, len(numbers), read)
    what = {"blocks": model.blocks, "norm": model.norm}
    return features(
        folder,
        images,
        model.encoder,
        maps(model.encoder, model.blocks, model.norm),
        what,
        task.eval_batch,
        "float32",
    )


def _train(
    task: Frozen, model: EncoderWithHead, ade: MaskSet, chosen: np.ndarray, kept: Path, folder: Path
) -> float | None:
    """Train the head on the chosen training images; the mean loss of the last tenth of the
    steps."""
    views = [
        cache_features(task, model, ade, ade.train, mirrored, kept)
        for mirrored in ((False, True) if task.augment == "flip" else (False,))
    ]
    examples = OnDisk(partial(finetune.read, ade), ade.train[chosen])
    prepare = partial(finetune.preprocess, task)
    seen = lookup_features(views, chosen, model.device)
    return finetune_model(
        model, task, examples, prepare, lambda items, _: prepare(items), finetune.loss, folder, seen
    )


def _score(
    task: FewShotSegmentationTask, model: EncoderWithHead, ade: MaskSet, kept: Path
) -> tuple[np.ndarray, list[Figure]]:
    """Counts of each test image, and pictures; the encoder is not run again."""
    test = cache_features(task, model, ade, ade.test, False, kept)
    model.eval()

    def predict(part: slice, items: list[Item]) -> Iterator[tuple[Item, np.ndarray]]:
        levels = torch.from_numpy(test[np.arange(part.start, part.stop)]).to(model.device)
        with torch.inference_mode():
            logits = model.head(list(levels.unbind(dim=1))).float()
        yield from finetune.squares(finetune.preprocess(task, Items(tuple(items))), logits)

    return finetune.score(task, ade, predict)
