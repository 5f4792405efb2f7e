"""What the segmentation tasks train on and score of an image: a square of it, or its whole
frame."""

from __future__ import annotations

from mimic.tasks.engine.dense_transforms import (
    Batch,
    Item,
    Items,
    crop_square,
    frame_size,
    pad,
    resize_item,
    size_within,
)
from mimic.tasks.segmentation.ade20k import IGNORED
from mimic.tasks.segmentation.config import SegmentationFields
from mimic.tasks.segmentation.sets import MaskSet

PAD = 128  # grey, as the peers pad


def read(ade: MaskSet, index: int) -> Item:
    """Labels are classes from 0 (IGNORED where not valid)."""
    frame = ade.read(index)
    return Item(frame.image, frame.labels, frame.labels != IGNORED)


def preprocess(task: SegmentationFields, examples: Items) -> Batch:
    """Squares without chance: the padded frame, or the middle of the whole one."""
    frames = to_frame(task, examples)
    if task.frame == "padded":
        return Items(tuple(pad(item, task.size_px, PAD, IGNORED) for item in frames.items)).batch()
    return Items(tuple(_middle(item, task.size_px) for item in frames.items)).batch()


def _middle(item: Item, size_px: int) -> Item:
    height, width = item.valid.shape
    return crop_square(item, (height - size_px) // 2, (width - size_px) // 2, size_px)


def to_frame(task: SegmentationFields, examples: Items) -> Items:
    """Resized so that the larger (padded) or smaller (whole) side is size_px."""
    return Items(
        tuple(resize_item(item, framed_size(task, item), task.antialias) for item in examples.items)
    )


def framed_size(task: SegmentationFields, item: Item) -> tuple[int, int]:
    """Height and width as `to_frame` makes them."""
    height, width = item.valid.shape
    return (
        size_within(height, width, task.size_px)
        if task.frame == "padded"
        else frame_size(height, width, task.size_px, 1)
    )


def trained_on(task: SegmentationFields, item: Item) -> Item:
    """What training can be shown of an image; a random square can be anywhere in it."""
    return item if task.augment == "peer" else _square(task, item)


def scored(task: SegmentationFields, item: Item) -> Item:
    """What is scored of an image."""
    return item if task.score_at == "native" else _square(task, item)


def _square(task: SegmentationFields, item: Item) -> Item:
    batch = preprocess(task, Items((item,)))
    return Item(batch.images[0], batch.target[0], batch.valid[0])
