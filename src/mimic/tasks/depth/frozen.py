"""Depth from kept features of a frozen encoder: the linear probe, and the DPT head trained on few
images.

Every image passes the encoder once (its mirror image too, if the recipe mirrors), whatever the
number of seeds, shots and tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimic.models.heads import BinsHead
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.depth import finetune
from mimic.tasks.depth.config import FewShotDepthTask, FrozenDepth, LinearDepthTask
from mimic.tasks.depth.sets import DepthSet, open_depth
from mimic.tasks.engine.dense_transforms import Batch
from mimic.tasks.engine.encoder_with_head import (
    EncoderWithHead,
    read_blocks,
    require_patches,
    seeded,
)
from mimic.tasks.engine.feature_cache import FeatureArray, ImageSet, features, lookup_features, maps
from mimic.tasks.engine.few_shot import Draw, Measured, measure_draws, require_images
from mimic.tasks.engine.finetune import finetune_model
from mimic.tasks.metrics.depth import log_loss


@dataclass(frozen=True)
class CachedFeatures:
    """A set as the heads read it: labels of the training images in memory, features of both splits
    on disk.

    `train` and `test` hold features [images, levels, width, rows, columns] of the images, then, if
    asked for, of their mirror images.
    """

    labels: Batch
    train: tuple[FeatureArray, ...]
    test: tuple[FeatureArray, ...]
    tests: finetune.Tests


def run_linear(task: LinearDepthTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train the linear layer on the train split, measure the last step on the test split."""
    encoder = subject.encoder
    require_patches(task.size_px, encoder.patch_px)
    assert task.depth_min_m is not None
    assert task.depth_max_m is not None
    head = seeded(
        task.seed,
        partial(
            BinsHead, encoder.width, task.bins, task.depth_min_m, task.depth_max_m, encoder.patch_px
        ),
    )
    model = EncoderWithHead(
        encoder,
        head,
        read_blocks(task.blocks, encoder.depth, 1),
        task.freeze,
        task.drop_path,
        norm=True,
    )
    with open_depth(task, folders.root) as nyu:
        kept = cache_features(task, model, nyu, folders.features)
        last_loss = _train(task, model, kept, np.arange(len(kept.labels)), folders.progress)
        sums, pictures = _score(task, model, kept)
    metrics = finetune.average_metrics(task, sums)
    return Result(
        name="delta1",
        headline="delta1",
        higher_is_better=True,
        metrics={**metrics, "train_size": len(kept.labels), "train_loss": last_loss},
        protocol=f"linear, {task.bins} bins, "
        + finetune.of_set(task, nyu, len(kept.labels), len(sums)),
        selection="last step",
        test_size=len(sums),
        pictures=pictures,
        items=finetune.item_scores(task, sums),
    )


def run_few(task: FewShotDepthTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """For each seed a head on each of its nested subsets, the same number of updates for all,
    measured on the whole test split."""
    encoder = subject.encoder
    seeds = range(task.seed, task.seed + task.seeds)
    with open_depth(task, folders.root) as nyu:
        require_images(task.shots, len(nyu.train))
        kept = cache_features(task, finetune.build(task, encoder), nyu, folders.features)

        def measure(draw: Draw) -> Measured:
            drawn = task.model_copy(update={"seed": draw.seed})
            model = finetune.build(drawn, encoder)
            _train(drawn, model, kept, draw.chosen, draw.progress)
            sums, shown = _score(drawn, model, kept)
            delta1 = finetune.average_metrics(drawn, sums)["delta1"]
            return delta1, finetune.item_scores(drawn, sums), shown

        draws = measure_draws(
            "delta1", task.shots, seeds, len(nyu.train), folders.progress, measure
        )
        tested = len(kept.tests)
    return Result(
        name="delta1",
        headline="delta1",
        higher_is_better=True,
        metrics=draws.metrics,
        protocol=f"few-shot, mean of {task.seeds} draws of {max(task.shots)} images, "
        f"{finetune.of_set(task, nyu, max(task.shots), tested)}",
        selection="last step; the largest number of images",
        test_size=tested,
        pictures=draws.pictures,
        items=draws.items,
    )


def cache_features(
    task: FrozenDepth, model: EncoderWithHead, nyu: DepthSet, folder: Path
) -> CachedFeatures:
    """Features of the images as this task shows them to the encoder, made now if no task made them
    before."""
    digest = nyu.digest
    patch_px = model.encoder.patch_px
    view = {"size_px": task.size_px, "frame": task.frame, "antialias": task.antialias}
    what = {"blocks": model.blocks, "norm": model.norm}

    def of(split: str, mirrored: bool) -> FeatureArray:
        numbers = nyu.train if split == "train" else nyu.test

        def read(index: int) -> np.ndarray:
            image = finetune.preprocess(
                task, finetune.load(nyu, numbers[[index]], task, patch_px)
            ).images[0]
            return np.ascontiguousarray(image[:, ::-1]) if mirrored else image

        images = ImageSet(
            digest, {**view, "numbers": numbers.tolist(), "mirrored": mirrored}, len(numbers), read
        )
        encode = maps(model.encoder, model.blocks, model.norm)
        return features(folder, images, model.encoder, encode, what, task.eval_batch, "float32")

    return CachedFeatures(
        finetune.preprocess(task, finetune.load(nyu, nyu.train, task, patch_px)),
        tuple(
            of("train", mirrored)
            for mirrored in ((False, True) if task.augment == "flip" else (False,))
        ),
        tuple(of("test", mirrored) for mirrored in ((False, True) if task.flip_test else (False,))),
        finetune.Tests(nyu, task.eval_batch),
    )


def _train(
    task: FrozenDepth,
    model: EncoderWithHead,
    kept: CachedFeatures,
    chosen: np.ndarray,
    folder: Path,
) -> float | None:
    """Train the head on the chosen images; the mean loss of the last tenth of the steps."""
    seen = lookup_features(kept.train, chosen, model.device)
    cost = _log_loss if isinstance(task, LinearDepthTask) else partial(finetune.loss, task)
    return finetune_model(
        model,
        task,
        kept.labels.take(chosen),
        lambda batch: batch,
        lambda batch, _: batch,
        cost,
        folder,
        seen,
    )


def _log_loss(output: Tensor, batch: Batch) -> Tensor:
    device = output.device
    return log_loss(
        output[:, 0].float(),
        torch.from_numpy(batch.target).to(device),
        torch.from_numpy(batch.valid).to(device),
    )


def _score(
    task: FrozenDepth, model: EncoderWithHead, kept: CachedFeatures
) -> tuple[np.ndarray, list[Figure]]:
    """Sums of errors of each test image, and pictures."""
    model.eval()

    def predicted(part: slice, _: np.ndarray) -> Tensor:
        places = np.arange(part.start, part.stop)
        with torch.inference_mode():
            outputs = [
                model.head(list(torch.from_numpy(view[places]).to(model.device).unbind(dim=1)))[
                    :, 0
                ].float()
                for view in kept.test
            ]
        return finetune.metres(
            task, outputs[0] if len(outputs) == 1 else (outputs[0] + outputs[1].flip(-1)) / 2
        )

    return finetune.score(task, kept.tests, model.encoder.patch_px, predicted)
