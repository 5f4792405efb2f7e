"""Training a head on an encoder, and perhaps the encoder with it, on images with dense labels.

Learning rates fall by `layer_decay` a layer towards the input; linear warm-up from zero, cosine to
zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mimic.models.encoder import normalise
from mimic.tasks.engine.batches import in_batches, step_indices
from mimic.tasks.engine.dense_transforms import FLIP_SHARE, Batch, Flippable, TrainSet
from mimic.tasks.engine.encoder_with_head import EncoderWithHead
from mimic.tasks.engine.saved_weights import BestCheckpoint, train_once
from mimic.tasks.engine.train_loop import layer_decayed, train_steps
from mimic.tasks.sections import TrainedTask
from mimic.training.fit import Optim, choose_device
from mimic.training.optim import cosine_lr

T = TypeVar("T", bound=Flippable)
# Of examples and which of them are mirrored: [b, width, rows, columns] a level.
FeatureLookup = Callable[[np.ndarray, np.ndarray], list[Tensor]]
FEATURE_BATCH = 64  # images encoded at once when features are kept
# Augmentations that show a frozen encoder few enough different images to keep their features.
CACHED_AUGMENTS = ("none", "flip")


@dataclass(frozen=True)
class TrainBatch:
    """One step's examples: numbers in the train set, what the model sees of them, and which of them
    are mirrored."""

    index: np.ndarray
    batch: Batch
    mirrored: np.ndarray


def finetune_model(
    model: EncoderWithHead,
    task: TrainedTask,
    train: TrainSet[T],
    prepare: Callable[[T], Batch],
    augment: Callable[[T, np.random.Generator], Batch],
    loss: Callable[[Tensor, Batch], Tensor],
    folder: Path,
    features: FeatureLookup | None = None,
    best: BestCheckpoint | None = None,
) -> float | None:
    """Train what is not frozen, in place; the mean loss of the last tenth of the steps (None: not
    known).

    With the encoder frozen and no augmentation but mirroring, each image is encoded once (its
    mirror image too) and only the head runs at each step: the same samples, so the same result as
    encoding at every step.

    Args:
        train: a Batch in memory, or images on disk that are read as they are sampled.
        prepare: what the model sees of examples without chance (a centre crop, say): images of one
            size.
        augment: the same by chance, after mirroring; called for recipes other than "none" and
            "flip".
        loss: of the model's output for what it saw.
        folder: where a long run keeps its checkpoints; calling again resumes it.
        features: of examples of `train`, and of their mirror images if these can be sampled; None =
            computed here where they can be kept.
        best: afterwards the model is the one that did best on validation images; None = as it is
            after the last step.
    """
    model.to(choose_device())

    def trained() -> float | None:
        lookup = features
        if lookup is None and task.freeze == "encoder" and task.augment in CACHED_AUGMENTS:
            lookup = _encode_once(model, train, prepare, mirrored=task.augment == "flip")
        return train_steps(
            model,
            task,
            lambda step: sample_batch(task, train, prepare, augment, step),
            lambda called, batch: _step_loss(model, called, loss, lookup, batch),
            Optim(
                layer_decayed(model, task), lambda step: learning_rate(step, task), task.clip_grad
            ),
            folder,
            title="train the head" if task.freeze == "encoder" else "train",
            workers=0,
            best=best,
        )

    return train_once(model, folder, trained)


def learning_rate(step: int, task: TrainedTask) -> float:
    """Linear from 0 to `lr`, both included, over the warm-up; then half a cosine that would reach 0
    one step after the last."""
    warmup = round(task.warmup * task.steps)
    return cosine_lr(
        step, peak=task.lr, floor=0.0, warmup=warmup, horizon=task.steps, peak_in_warmup=True
    )


def sample_batch(
    task: TrainedTask,
    train: TrainSet[T],
    prepare: Callable[[T], Batch],
    augment: Callable[[T, np.random.Generator], Batch],
    step: int,
) -> TrainBatch:
    """The examples of a step; a pure function of (seed, step)."""
    index = step_indices(step, task.batch, len(train), task.seed)
    rng = np.random.default_rng([task.seed, step])
    examples = train.take(index)
    mirrored = np.zeros(len(index), bool)
    if task.augment != "none":
        mirrored = rng.random(len(index)) < FLIP_SHARE
        examples = examples.hflip(mirrored)
    plain = task.augment in ("none", "flip")
    batch = prepare(examples) if plain else augment(examples, rng)
    return TrainBatch(index, batch, mirrored)


def _step_loss(
    model: EncoderWithHead,
    called: nn.Module,
    loss: Callable[[Tensor, Batch], Tensor],
    lookup: FeatureLookup | None,
    sampled: TrainBatch,
) -> Tensor:
    """Of the whole model (`called`), or of its head where the features are at hand."""
    if lookup is not None:
        return loss(model.head(lookup(sampled.index, sampled.mirrored)), sampled.batch)
    images = torch.from_numpy(sampled.batch.images).to(model.device)
    return loss(called(normalise(images)), sampled.batch)


def _encode_once(
    model: EncoderWithHead, train: TrainSet[T], prepare: Callable[[T], Batch], mirrored: bool
) -> FeatureLookup:
    """Features of all examples, and of their mirror images if these can be drawn, held in
    memory."""
    parts = []
    model.eval()
    with torch.no_grad():
        for turn in (False, True) if mirrored else (False,):
            for part in in_batches(len(train), FEATURE_BATCH):
                index = np.arange(part.start, part.stop)
                batch = prepare(train.take(index).hflip(np.full(len(index), turn)))
                parts.append(
                    model.features(normalise(torch.from_numpy(batch.images).to(model.device)))
                )
    levels = [torch.cat(level) for level in zip(*parts, strict=True)]

    def lookup(index: np.ndarray, turned: np.ndarray) -> list[Tensor]:
        rows = torch.from_numpy(index + len(train) * turned).to(model.device)
        return [level[rows] for level in levels]

    return lookup
