"""Segmentation from kept features of a frozen encoder: the linear probe, and the ConvNeXt head trained on few images.

Every training image passes the encoder once (its mirror image too, if the recipe mirrors), whatever the number of seeds, shots and steps;
so does every test image of the few-shot task. The linear probe is measured once, on whatever windows its protocol asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mimic.config import FewShotSegmentationTask, LinearSegmentationTask
from mimic.errors import BadInput
from mimic.models.heads import LinearHead
from mimic.tasks import segmentation
from mimic.tasks.ade20k import Ade20k
from mimic.tasks.base import Folders, Picture, Result, Subject
from mimic.tasks.features import Features, ImageSet, features, look_up, maps
from mimic.tasks.frames import Item, Items, OnDisk
from mimic.tasks.opened import opened_ade20k
from mimic.tasks.shots import by_shots, subset
from mimic.tasks.tuning import Tuned, read_blocks, require_patches, seeded, tune
from mimic.training.fit import choose_device

Frozen = LinearSegmentationTask | FewShotSegmentationTask


def run_linear(task: LinearSegmentationTask, subject: Subject, folders: Folders) -> Result:
    """Train the linear layer on the train split, measure the last step on the validation split."""
    ade, encoder = opened_ade20k(task, folders.root), subject.encoder.to(choose_device())
    require_patches(task.size_px, encoder.patch_px)
    head = seeded(task.seed, partial(LinearHead, encoder.width, ade.n_classes, encoder.patch_px))
    model = Tuned(encoder, head, read_blocks(task.blocks, encoder.depth, 1), task.freeze, task.drop_path, norm=True)
    last_loss = _train(task, model, ade, np.arange(len(ade.train)), folders.features, folders.progress)
    model.eval()
    counts, pictures = segmentation.score(task, ade, lambda _, items: segmentation.predicted(task, model, items))
    metrics = segmentation.averaged(task, ade, counts)
    return Result(
        name="mIoU",
        value=metrics["mIoU"],
        higher_is_better=True,
        metrics={**metrics, "train_size": len(ade.train), "train_loss": last_loss},
        protocol=f"linear, {segmentation.protocol(task, len(ade.train), len(counts))}",
        selection="last step",
        test_size=len(counts),
        pictures=pictures,
    )


def run_few(task: FewShotSegmentationTask, subject: Subject, folders: Folders) -> Result:
    """For each seed a head on each of its nested subsets, the same number of updates for all, measured on the whole validation split."""
    ade, encoder = opened_ade20k(task, folders.root), subject.encoder.to(choose_device())
    require_patches(task.size_px, encoder.patch_px)
    if max(task.shots) > len(ade.train):
        raise BadInput(f"shots {max(task.shots)}: there are {len(ade.train)} training images; lower shots")
    values: dict[int, list[float]] = {shots: [] for shots in task.shots}
    pictures: list[Picture] = []
    for seed in range(task.seed, task.seed + task.seeds):
        drawn = task.model_copy(update={"seed": seed})
        for shots in task.shots:
            model = segmentation.build(drawn, encoder, ade.n_classes)
            chosen = subset(seed, shots, len(ade.train))
            _train(drawn, model, ade, chosen, folders.features, folders.progress / f"{seed}-{shots}")
            counts, shown = _score(drawn, model, ade, folders.features)
            values[shots].append(segmentation.averaged(drawn, ade, counts)["mIoU"])
            pictures = shown if (seed, shots) == (task.seed, max(task.shots)) else pictures
    found = by_shots(values)
    most = found[str(max(task.shots))]
    protocol = segmentation.protocol(task, max(task.shots), len(ade.test))
    return Result(
        name="mIoU",
        value=most["mean"],
        higher_is_better=True,
        metrics={"mIoU": most["mean"], "standard_error": most["std"] / task.seeds**0.5, "by_k": found},
        protocol=f"few-shot, mean of {task.seeds} draws of {max(task.shots)} images, {protocol}",
        selection="last step; the largest number of images",
        test_size=len(ade.test),
        pictures=pictures,
    )


def keep(task: Frozen, model: Tuned, ade: Ade20k, numbers: np.ndarray, mirrored: bool, folder: Path) -> Features:
    """Features of the squares that this task shows the encoder of these images, made now if no task made them before."""

    def read(place: int) -> np.ndarray:
        item = segmentation.read(ade, int(numbers[place]))
        return segmentation.prepared(task, Items((item.mirrored() if mirrored else item,))).images[0]

    view = {"size_px": task.size_px, "frame": task.frame, "antialias": task.antialias, "mirrored": mirrored}
    where = {"first": int(numbers[0]), "last": int(numbers[-1])}
    images = ImageSet(str(ade.extent()["digest"]), {**view, **where}, len(numbers), read)
    what = {"blocks": model.blocks, "norm": model.norm}
    return features(folder, images, model.encoder, maps(model.encoder, model.blocks, model.norm), what, task.eval_batch, "float32")


def _train(task: Frozen, model: Tuned, ade: Ade20k, chosen: np.ndarray, kept: Path, folder: Path) -> float | None:
    """Train the head on the chosen training images; the mean loss of the last tenth of the steps."""
    views = [keep(task, model, ade, ade.train, mirrored, kept) for mirrored in ((False, True) if task.augment == "flip" else (False,))]
    examples = OnDisk(partial(segmentation.read, ade), ade.train[chosen])
    prepare = partial(segmentation.prepared, task)
    seen = look_up(views, chosen, model.device)
    return tune(model, task, examples, prepare, lambda items, _: prepare(items), segmentation.loss, folder, seen)


def _score(task: FewShotSegmentationTask, model: Tuned, ade: Ade20k, kept: Path) -> tuple[np.ndarray, list[Picture]]:
    """Counts of each test image, and pictures; the encoder is not run again."""
    test = keep(task, model, ade, ade.test, False, kept)
    model.eval()

    def found(part: slice, items: list[Item]) -> Iterator[tuple[Item, np.ndarray]]:
        levels = torch.from_numpy(test[np.arange(part.start, part.stop)]).to(model.device)
        with torch.inference_mode():
            logits = model.head(list(levels.unbind(dim=1))).float()
        yield from segmentation.squares(segmentation.prepared(task, Items(tuple(items))), logits)

    return segmentation.score(task, ade, found)
