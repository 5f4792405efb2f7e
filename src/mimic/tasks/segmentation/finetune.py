"""Semantic segmentation on the ADE20K layout: a ConvNeXt head on the last block, cross-entropy
(MultiMAE's protocol).

mIoU over one count of all images' pixels, classes that are neither predicted nor true left out.
Unlabelled pixels are not scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimic.models.encoder import VisionTransformer, normalise
from mimic.models.heads import ConvNextHead, initialise
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.batches import in_batches, shown_batches
from mimic.tasks.engine.dense_transforms import (
    Batch,
    ColorJitter,
    Item,
    Items,
    OnDisk,
    crop_square,
    frame_size,
    pad,
    resize_item,
)
from mimic.tasks.engine.encoder_with_head import (
    EncoderWithHead,
    freeze_in_words,
    read_blocks,
    require_patches,
    seeded,
)
from mimic.tasks.engine.finetune import finetune_model
from mimic.tasks.engine.visualize import labelled_picture
from mimic.tasks.metrics.iou import averages, class_counts, class_iou, miou_error
from mimic.tasks.metrics.items import item_ious
from mimic.tasks.segmentation.ade20k import IGNORED
from mimic.tasks.segmentation.config import ConvNextFields, SegmentationFields, SegmentationTask
from mimic.tasks.segmentation.frames import PAD, framed_size, preprocess, read, to_frame
from mimic.tasks.segmentation.sets import MaskSet, open_masks
from mimic.training.batches import evenly_spaced

COLOURS = ColorJitter(
    brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, share=0.5, grey_share=0.0
)  # the peers'


def run(task: SegmentationTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train the head (and what `freeze` leaves) on the train split, measure the last step on the
    validation split."""
    ade = open_masks(task, folders.root)
    require_patches(task.size_px, subject.encoder.patch_px)
    model = build(task, subject.encoder, ade.n_classes)
    train = OnDisk(partial(read, ade), ade.train)
    last_loss = finetune_model(
        model,
        task,
        train,
        partial(preprocess, task),
        partial(augment, task),
        loss,
        folders.progress,
    )
    model.eval()
    counts, pictures = score(task, ade, lambda _, items: predict(task, model, items))
    metrics = average_metrics(task, ade, counts)
    return Result(
        name="mIoU",
        headline="mIoU",
        higher_is_better=True,
        metrics={**metrics, "train_size": len(train), "train_loss": last_loss},
        protocol=of_set(task, ade, len(train), len(counts)),
        selection="last step",
        test_size=len(counts),
        pictures=pictures,
        items=item_ious(counts, pooled=task.averaging == "global"),
    )


def average_metrics(task: SegmentationFields, ade: MaskSet, counts: np.ndarray) -> dict[str, Any]:
    """The task's average with its standard error, both averages, and the classes'."""
    both = averages(counts)
    iou = class_iou(counts.sum(axis=0))
    return {
        **both[task.averaging],
        "standard_error": miou_error(counts, pooled=task.averaging == "global"),
        "averages": both,
        "classes": {
            name: float(value)
            for name, value in zip(ade.names, iou, strict=True)
            if not np.isnan(value)
        },
        "labelled_pixels": int(counts[:, 2].sum()),
    }


def build(task: ConvNextFields, encoder: VisionTransformer, classes: int) -> EncoderWithHead:
    """The encoder with a ConvNeXt head, initialised from the task's seed."""

    def head() -> ConvNextHead:
        convnext = ConvNextHead(
            encoder.width,
            task.head_width,
            classes,
            encoder.patch_px,
            task.cell_px,
            task.head_blocks,
        )
        initialise(convnext)
        return convnext

    return EncoderWithHead(
        encoder,
        seeded(task.seed, head),
        read_blocks(task.blocks, encoder.depth, 1),
        task.freeze,
        task.drop_path,
    )


def augment(task: SegmentationFields, examples: Items, rng: np.random.Generator) -> Batch:
    """Squares by chance: colours, size, place (mirroring is done already)."""
    out = []
    for item in to_frame(task, examples).color_jitter(COLOURS, rng).items:
        factor = rng.uniform(*task.scale)
        # Truncated, as the peers' library does.
        height, width = (max(1, int(side * factor)) for side in item.valid.shape)
        item = pad(resize_item(item, (height, width), task.antialias), task.size_px, PAD, IGNORED)
        top, left = (int(rng.integers(0, side - task.size_px + 1)) for side in item.valid.shape)
        out.append(crop_square(item, top, left, task.size_px))
    return Items(tuple(out)).batch()


def loss(output: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy over the labelled pixels of the batch; without any, 0."""
    target = torch.from_numpy(batch.target.astype(np.int64)).to(output.device)
    total = F.cross_entropy(output.float(), target, ignore_index=IGNORED, reduction="sum")
    return total / max(1, int(batch.valid.sum()))


# ---------------------------------------------------------------------------- measuring


def score(
    task: SegmentationFields,
    ade: MaskSet,
    predictions: Callable[[slice, list[Item]], Iterable[tuple[Item, np.ndarray]]],
) -> tuple[np.ndarray, list[Figure]]:
    """int64[images, 3, classes], and pictures of a few images, evenly spaced.

    Args:
        predictions: of the positions of some test images and these images: what is scored of each,
            and the predicted classes.
    """
    drawn = set(ade.test[evenly_spaced(len(ade.test), task.samples)].tolist())
    counts = []
    pictures = []
    for part in shown_batches(len(ade.test), task.eval_batch, "score", "images"):
        numbers = ade.test[part].tolist()
        for number, (item, prediction) in zip(
            numbers, predictions(part, [read(ade, number) for number in numbers]), strict=True
        ):
            counts.append(class_counts(prediction, item.target, item.valid, ade.n_classes))
            if number in drawn:
                pictures.append(
                    labelled_picture(
                        ade.stem(number), item.image, item.target, prediction, item.valid, ade.names
                    )
                )
    return np.stack(counts), pictures


def predict(
    task: SegmentationFields, model: EncoderWithHead, items: list[Item]
) -> Iterator[tuple[Item, np.ndarray]]:
    """Of each test image what is scored: image and truth, predicted classes uint8[h, w] of the same
    size."""
    if task.score_at == "input":
        batch = preprocess(task, Items(tuple(items)))
        yield from squares(batch, _logits(model, batch.images))
        return
    for item in items:
        coarse = (
            slide_inference(task, model, item)
            if task.inference == "slide"
            else whole_inference(task, model, item)
        )
        native = F.interpolate(coarse, size=item.valid.shape, mode="bilinear", align_corners=False)
        yield item, native[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


def squares(batch: Batch, logits: Tensor) -> Iterator[tuple[Item, np.ndarray]]:
    """Of each square what is scored and the predicted classes."""
    for index, predicted in enumerate(logits.argmax(dim=1).to(torch.uint8).cpu().numpy()):
        yield Item(batch.images[index], batch.target[index], batch.valid[index]), predicted


def whole_inference(task: SegmentationFields, model: EncoderWithHead, item: Item) -> Tensor:
    """Logits [1, classes, h, w] of the frame in one pass, its sides rounded to patches."""
    height, width = item.valid.shape
    size = frame_size(height, width, task.size_px, model.encoder.patch_px)
    return _logits(model, resize_item(item, size, task.antialias).image[None])


def slide_inference(task: SegmentationFields, model: EncoderWithHead, item: Item) -> Tensor:
    """Logits [1, classes, h, w] of the frame: the mean over overlapping squares, the last of a row
    or column ending with the frame."""
    assert task.stride_px is not None
    image = resize_item(item, framed_size(task, item), task.antialias).image
    places = [
        (top, left)
        for top in _starts(image.shape[0], task)
        for left in _starts(image.shape[1], task)
    ]
    total = None
    times = torch.zeros(image.shape[:2], device=model.device)
    for part in in_batches(len(places), task.eval_batch):
        squares = np.stack(
            [
                image[top : top + task.size_px, left : left + task.size_px]
                for top, left in places[part]
            ]
        )
        for (top, left), logits in zip(places[part], _logits(model, squares), strict=True):
            total = (
                torch.zeros((1, len(logits), *image.shape[:2]), device=model.device)
                if total is None
                else total
            )
            rows = slice(top, top + task.size_px)
            columns = slice(left, left + task.size_px)
            total[0, :, rows, columns] += logits
            times[rows, columns] += 1
    assert total is not None
    return total / times


def _starts(side: int, task: SegmentationFields) -> list[int]:
    assert task.stride_px is not None
    last = side - task.size_px
    return [*range(0, last, task.stride_px), last]


def _logits(model: EncoderWithHead, images: np.ndarray) -> Tensor:
    """float32[n, classes, h, w] of images uint8[n, h, w, 3]."""
    with torch.inference_mode():
        return model(normalise(torch.from_numpy(images).to(model.device))).float()


def of_set(task: SegmentationFields, data: MaskSet, train_size: int, test_size: int) -> str:
    """`protocol`, with what is said of data that are not the official ones."""
    line = protocol(task, train_size, test_size)
    return f"{line}, {data.own}" if data.own else line


def protocol(task: SegmentationFields, train_size: int, test_size: int) -> str:
    """One line: how it was measured."""
    windows = f"squares every {task.stride_px} px" if task.inference == "slide" else "one pass"
    return (
        f"preset {task.preset}, {freeze_in_words(task.freeze)}, {train_size} train / "
        f"{test_size} test, {task.frame} frame at {task.size_px} px, "
        f"{task.steps} steps of {task.batch}, {windows}, scored at {task.score_at} resolution, "
        f"averaged by {task.averaging}"
    )
