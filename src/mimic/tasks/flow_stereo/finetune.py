"""Optical flow and stereo: a whole cross-view model, fine-tuned with a DPT head on four of its
blocks (CroCo v2).

Trained on crops, measured on overlapping tiles of the crop's size, fused by the model's own
confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.geometry.motion import error_sums, errors, pooled_error
from mimic.infra.progress import counted
from mimic.infra.storage import Workspace
from mimic.models.encoder import normalise
from mimic.models.heads import initialise
from mimic.models.two_view import DenseMotion, hooks, laplace_flow, laplace_stereo
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.batches import in_batches, step_indices
from mimic.tasks.engine.encoder_with_head import freeze_in_words, seeded
from mimic.tasks.engine.train_loop import layer_decayed, train
from mimic.tasks.flow_stereo.augment import random_crop
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.flow_stereo.files import Motion, MotionPair, read
from mimic.tasks.flow_stereo.mixture import mixture
from mimic.tasks.flow_stereo.sets import listed_parts, mixed
from mimic.tasks.metrics.items import item_shares
from mimic.training.batches import evenly_spaced

Task = FlowTask | StereoTask
CHANNELS = {"flow": 2, "stereo": 1}
OUTLIER = {"flow": "Fl_all", "stereo": "D1"}
FUSION = {
    "flow": (10.0, 5.0),
    "stereo": (15.0, 3.0),
}  # tile weight exp(-k 2 (sigmoid(c / s) - 0.5))
LARGEST_PX = 1e4  # motion beyond is not trained on
TILES = 8  # shown to the model at once
PICTURE_PX = 160  # height of the pictures


def run(task: Task, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train on crops of the train pairs, measure the last step on whole test pairs.

    Raises:
        BadInput: the data or sizes do not fit, or no test pair has known motion.
    """
    data = Workspace(folders.root).resolve(task.data)
    parts = listed_parts(task, task.train, data)
    tests = listed_parts(task, task.test, data)
    training = mixed(task.train, parts)
    test = mixed(task.test, tests)
    model = build(task, subject)
    last_loss = train_model(task, model, training, folders.progress)
    drawn = set(evenly_spaced(len(test), task.samples))
    sums = []
    pictures = []
    model.eval()
    for index, pair in enumerate(counted(test, "score", len(test), "pairs")):
        item = read(pair, masks=task.masks)
        predicted = predict(task, model, item.a, item.b)
        sums.append(error_sums(predicted, item.motion, item.valid))
        if index in drawn:
            pictures.append(_picture(pair, item, predicted))
    if not sum(part[0] for part in sums):
        raise BadInput(f"{data}: no test pair has a pixel of known motion")
    metrics = errors(np.stack(sums), OUTLIER[task.task])
    error = metrics["EPE_px"]
    assert error is not None
    return Result(
        name="EPE_px",
        headline="EPE_px",
        higher_is_better=False,
        metrics={
            **metrics,
            "standard_error": pooled_error(np.stack(sums)),
            "train_size": len(set(training)),
            "train_loss": last_loss,
            "valid_pixels": int(sum(part[0] for part in sums)),
        },
        protocol=_protocol(
            task, mixture(task.train, [*map(len, parts)]), mixture(task.test, [*map(len, tests)])
        ),
        selection="last step",
        test_size=len(test),
        pictures=pictures,
        items=item_shares(np.stack(sums)[:, 1], np.stack(sums)[:, 0], pooled=True),
    )


def build(task: Task, subject: EvalModel) -> DenseMotion:
    """The model with its head, initialised from the task's seed.

    Raises:
        BadInput: crops do not divide into patches, or the model lacks a block of `blocks`.
    """
    pretrained = subject.two_view_model(task.task)
    encoder = pretrained.encoder
    if task.size_px % encoder.patch_px or task.width_px % encoder.patch_px:
        raise BadInput(
            f"{task.task}: crops of {task.width_px} x {task.size_px} do not divide into patches of "
            f"{encoder.patch_px} px"
        )
    try:
        blocks = hooks(task.blocks, encoder.depth, len(pretrained.decoder.blocks))
    except ValueError as error:
        raise BadInput(f"{task.task}: {error}") from None

    def make() -> nn.Module:
        dense = DenseMotion(pretrained, task.head_width, CHANNELS[task.task], blocks)
        initialise(dense.head)
        return dense

    model = seeded(task.seed, make)
    assert isinstance(model, DenseMotion)
    model.freeze(task.freeze)
    return model


# ---------------------------------------------------------------------------- training


def train_model(
    task: Task, model: DenseMotion, pairs: list[MotionPair], folder: Path
) -> float | None:
    """Train in place; the mean loss of the last tenth of the steps."""

    def draw(step: int) -> Motion:
        index = step_indices(step, task.batch, len(pairs), task.seed)
        items = []
        for slot, one in enumerate(index):
            item = read(pairs[one], masks=task.masks)
            items.append(random_crop(task, item, np.random.default_rng([task.seed, step, slot])))
        return Motion(
            *(
                np.stack([getattr(item, name) for item in items])
                for name in ("a", "b", "motion", "valid")
            )
        )

    def loss(batch: Motion) -> Tensor:
        a, b = (normalise(torch.from_numpy(view).to(model.device)) for view in (batch.a, batch.b))
        truth = torch.from_numpy(batch.motion).movedim(-1, 1).to(model.device)
        valid = torch.from_numpy(batch.valid).to(model.device) & (truth.norm(dim=1) < LARGEST_PX)
        return (laplace_flow if task.task == "flow" else laplace_stereo)(
            model(a, b).float(), truth, valid
        )

    return train(model, task, draw, loss, lambda: layer_decayed(model, task), folder)


# ---------------------------------------------------------------------------- measuring


def predict(task: Task, model: DenseMotion, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Motion float32[h, w, c] of whole images, from overlapping tiles."""
    height, width = a.shape[:2]
    scale = max(1.0, task.size_px / height, task.width_px / width)
    size = (
        (max(task.size_px, round(height * scale)), max(task.width_px, round(width * scale)))
        if scale > 1
        else (height, width)
    )
    views = [
        cv2.resize(view, size[::-1], interpolation=cv2.INTER_LINEAR)
        if size != (height, width)
        else view
        for view in (a, b)
    ]
    places = list(_places(size, (task.size_px, task.width_px), task.overlap))
    total = np.zeros((*size, CHANNELS[task.task]))
    weights = np.zeros((*size, 1))
    sharpness, softness = FUSION[task.task]
    for part in in_batches(len(places), TILES):
        tiles = [np.stack([view[window] for window in places[part]]) for view in views]
        with torch.inference_mode():
            output = (
                model(*(normalise(torch.from_numpy(tile).to(model.device)) for tile in tiles))
                .float()
                .movedim(1, -1)
            )
            weight = (
                torch.exp(-sharpness * 2 * ((output[..., -1:] / softness).sigmoid() - 0.5))
                .cpu()
                .numpy()
            )
        for window, values, share in zip(
            places[part], output[..., :-1].cpu().numpy(), weight, strict=True
        ):
            total[window] += values * share
            weights[window] += share
    fused = (total / weights).astype(np.float32)
    if size == (height, width):
        return fused
    back = np.array([width / size[1], height / size[0]], np.float32)[: fused.shape[2]]
    return (
        cv2.resize(fused, (width, height), interpolation=cv2.INTER_LINEAR).reshape(
            height, width, -1
        )
        * back
    )


def _places(
    size: tuple[int, int], tile: tuple[int, int], overlap: float
) -> Iterator[tuple[slice, slice]]:
    """Tiles that cover an image, neighbours sharing at least `overlap` of a side."""

    def starts(length: int, side: int) -> list[int]:
        steps = int(np.ceil((length - side) / max(1.0, side * (1 - overlap))))
        return np.unique(np.round(np.linspace(0, length - side, steps + 1)).astype(int)).tolist()

    for top in starts(size[0], tile[0]):
        for left in starts(size[1], tile[1]):
            yield slice(top, top + tile[0]), slice(left, left + tile[1])


# ---------------------------------------------------------------------------- what the result says
# of itself


def _protocol(task: Task, train: list[str], test: list[str]) -> str:
    trained = freeze_in_words(task.freeze, "encoder and decoder")
    known = "every pixel of known motion, occluded ones too"
    scored = "pixels that the sets' own masks let count" if task.masks else known
    return (
        f"preset {task.preset}, {trained}, trained on {' + '.join(train)}, tested on "
        f"{' + '.join(test)}, "
        f"crops {task.width_px} x {task.size_px}, {task.steps} steps of {task.batch}, "
        f"tiles overlapping by {task.overlap:g}, {scored}"
    )


def colorize(motion: np.ndarray, largest: float) -> np.ndarray:
    """Flow as hue (direction) and saturation (length); disparity from blue (far) to red (near)."""
    if motion.shape[2] == 1:
        levels = np.clip(motion[..., 0] / largest * 255, 0, 255).astype(np.uint8)
        return cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, :, ::-1]
    hue = (np.arctan2(motion[..., 1], motion[..., 0]) / np.pi + 1) * 90
    length = np.clip(np.linalg.norm(motion, axis=-1) / largest * 255, 0, 255)
    return cv2.cvtColor(
        np.stack([hue, length, np.full_like(hue, 255)], axis=-1).astype(np.uint8), cv2.COLOR_HSV2RGB
    )


def _picture(pair: MotionPair, item: Motion, predicted: np.ndarray) -> Figure:
    """Both views, truth (black where unknown) and prediction in one colour scale."""
    largest = (
        float(np.percentile(np.linalg.norm(item.motion[item.valid], axis=-1), 98))
        if item.valid.any()
        else 1.0
    )
    truth = np.where(item.valid[..., None], colorize(item.motion, max(largest, 1e-3)), 0).astype(
        np.uint8
    )
    width = round(PICTURE_PX * item.valid.shape[1] / item.valid.shape[0])
    parts = (item.a, item.b, truth, colorize(predicted, max(largest, 1e-3)))
    strip = np.concatenate(
        [cv2.resize(part, (width, PICTURE_PX), interpolation=cv2.INTER_AREA) for part in parts],
        axis=1,
    )
    off = np.linalg.norm(predicted - item.motion, axis=-1)[item.valid]
    error = f"{off.mean():.1f} px" if len(off) else "not known"
    caption = (
        f"{pair.name}: view a, view b, truth, prediction; full colour {largest:.1f} px; error "
        f"{error}"
    )
    return Figure(f"pair-{pair.name}", strip, caption)
