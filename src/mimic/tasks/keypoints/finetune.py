"""Joints of people in COCO's layout, top-down: a crop of each person, two deconvolutions on the
last block, AP (ViTPose).

As the published classic decoder: no class token, its position added to every patch; positions
trained; a fresh final norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.models.encoder import VisionTransformer, normalise
from mimic.models.heads import JointHead
from mimic.models.heatmaps import apply, decode, encode
from mimic.models.layers import resample_positions
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.batches import shown_batches, step_indices
from mimic.tasks.engine.dense_transforms import FLIP_SHARE
from mimic.tasks.engine.encoder_with_head import (
    EncoderWithHead,
    freeze_in_words,
    read_blocks,
    seeded,
)
from mimic.tasks.engine.image_io import read_photo
from mimic.tasks.engine.train_loop import layer_decayed, train
from mimic.tasks.keypoints import crops
from mimic.tasks.keypoints.coco import BONES, FLIPPED, JOINTS, PERSON, Coco, Person, boxes_of
from mimic.tasks.keypoints.config import PoseTask
from mimic.tasks.metrics.oks import score, suppress
from mimic.training.batches import evenly_spaced
from mimic.training.optim import multistep_lr

MAP_PX = 4  # pixels of the crop per pixel of a map
CONFIDENT = 0.2  # joints above it count in a person's score
DOUBLE = 0.9  # OKS above which the lower-scored of two people is dropped
PICTURE_PX = 240  # height of the pictures


@dataclass(frozen=True)
class DetectedPose:
    """One person found: joints in the image [17, 2], the peaks of their maps [17], score."""

    person: Person
    joints: np.ndarray
    peaks: np.ndarray
    score: float


def run(task: PoseTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train on every labelled person of the train split, find the joints in the boxes of the
    validation split.

    Raises:
        BadInput: the data or sizes do not fit, or nobody can be scored.
    """
    folder = Workspace(folders.root).resolve(task.data)
    people = Coco(folder, "train")
    coco = Coco(folder, "val")
    boxes = boxes_of(task, coco, folders.root)
    model = build(task, subject.encoder)
    last_loss = train_model(task, model, people, folders.progress)
    detected = list(predict(task, model, coco, boxes))
    kept = [detected[index] for index in _without_doubles(detected, task.width_px / task.size_px)]
    metrics = score(coco.annotations, [_entry(one) for one in kept], PERSON)
    if metrics["AP"] is None:
        raise BadInput(f"{coco.path}: nobody to score; run mimic prepare")
    return Result(
        name="AP",
        headline="AP",
        higher_is_better=True,
        metrics={
            **metrics,
            "standard_error": None,
            "train_size": len(people.people),
            "train_loss": last_loss,
            "boxes": len(boxes),
            "people": len(coco.people),
            "people_kept": len(kept),
        },
        protocol=_protocol(task, len(people.people), len(coco.images), len(boxes)),
        selection="last step",
        test_size=len(coco.images),
        pictures=_pictures(task, coco, kept),
    )


def build(task: PoseTask, encoder: VisionTransformer) -> EncoderWithHead:
    """The encoder as the classic decoder wants it, with the head, initialised from the task's
    seed.

    Raises:
        BadInput: crops do not divide into patches.
    """
    size = (task.size_px, task.width_px)
    if any(side % encoder.patch_px for side in size):
        raise BadInput(
            f"pose: crops of {size[1]} x {size[0]} do not divide into the encoder's patches of "
            f"{encoder.patch_px} px"
        )
    _without_class_token(encoder, size)
    encoder.patch_embed.proj.padding = (task.patch_padding, task.patch_padding)
    head = seeded(
        task.seed,
        lambda: JointHead(encoder.width, task.head_width, JOINTS, encoder.patch_px, MAP_PX),
    )
    model = EncoderWithHead(
        encoder, head, read_blocks(task.blocks, encoder.depth, 1), task.freeze, task.drop_path
    )
    if encoder.pos_embed is not None:
        encoder.pos_embed.requires_grad_(task.freeze != "encoder")
    return model


def _without_class_token(encoder: VisionTransformer, size: tuple[int, int]) -> None:
    """Positions at the crop's grid, that of the class token added to all; then no class token. A
    timm model stays as it is."""
    if not encoder.plain:
        return
    grid = encoder.grid_of(*size)
    if encoder.pos_embed is not None:
        first = int(encoder.class_token)
        table = resample_positions(encoder.pos_embed[:, first:].detach(), encoder.grid, grid)
        encoder.pos_embed = nn.Parameter(
            table + encoder.pos_embed[:, :first].detach().sum(dim=1, keepdim=True)
        )
    encoder.grid = grid
    encoder.size_px = size
    encoder.class_token = False
    encoder.cls_token = None


# ---------------------------------------------------------------------------- training


def train_model(task: PoseTask, model: EncoderWithHead, coco: Coco, folder: Path) -> float | None:
    """Train in place; the mean loss of the last tenth of the steps.

    Raises:
        BadInput: nobody has a labelled joint.
    """
    rng = np.random.default_rng([task.seed, JOINTS])
    people = [
        crops.shift_box(person, rng) if task.augment == "peer" else person for person in coco.people
    ]
    if not people:
        raise BadInput(f"{coco.path}: nobody has a labelled joint")

    def draw(step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        index = step_indices(step, task.batch, len(people), task.seed)
        items = [
            example(task, people[one], coco, np.random.default_rng([task.seed, step, slot]))
            for slot, one in enumerate(index)
        ]
        images, maps, weights = (np.stack(part) for part in zip(*items, strict=True))
        return images, maps, weights

    def loss(batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Tensor:
        images, maps, weights = (torch.from_numpy(part).to(model.device) for part in batch)
        return joint_loss(model(normalise(images)).float(), maps, weights)

    return train(
        model,
        task,
        draw,
        loss,
        lambda: layer_decayed(model, task),
        folder,
        lambda step: learning_rate(step, task),
    )


def learning_rate(step: int, task: PoseTask) -> float:
    """Linear from warmup_from * lr over the warm-up, then lr, a tenth of it after each of
    drop_at."""
    return multistep_lr(
        step,
        peak=task.lr,
        warmup=round(task.warmup * task.steps),
        warmup_from=task.warmup_from,
        drops=[share * task.steps for share in task.drop_at],
    )


def joint_loss(prediction: Tensor, maps: Tensor, weights: Tensor) -> Tensor:
    """Mean over joints of each one's mean squared error over batch and pixels; joints of weight 0
    cost nothing."""
    weights = weights[:, :, None, None]
    return ((prediction * weights - maps * weights) ** 2).mean()


def example(
    task: PoseTask, person: Person, coco: Coco, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop, target maps and weights of one person."""
    aspect = task.width_px / task.size_px
    size = (task.size_px, task.width_px)
    seen = crops.view(person, read_photo(coco.path_of(person.image)), aspect)
    if task.augment != "none" and rng.random() < FLIP_SHARE:
        seen = crops.hflip(seen)
    if task.augment == "peer":
        seen = crops.half_body(seen, aspect, rng)
    crop, affine = crops.crop_affine(seen, size, rng if task.augment == "peer" else None)
    rows = size[0] // MAP_PX
    columns = size[1] // MAP_PX
    joints = crops.joints_in_crop(seen, affine) * [
        (columns - 1) / (size[1] - 1),
        (rows - 1) / (size[0] - 1),
    ]
    return crop, *encode(joints, seen.visible, (rows, columns))


# ---------------------------------------------------------------------------- measuring


def predict(
    task: PoseTask, model: EncoderWithHead, coco: Coco, boxes: list[Person]
) -> Iterator[DetectedPose]:
    """Joints in each box, in pixels of its image."""
    size = (task.size_px, task.width_px)
    model.eval()
    for part in shown_batches(len(boxes), task.eval_batch, "find joints", "people"):
        views = [
            crops.view(person, read_photo(coco.path_of(person.image)), size[1] / size[0])
            for person in boxes[part]
        ]
        cuts, affines = zip(*(crops.crop_affine(seen, size, None) for seen in views), strict=True)
        for person, maps, affine in zip(
            boxes[part], heat(task, model, np.stack(cuts)), affines, strict=True
        ):
            joints, peaks = decode(maps)
            scale = [(size[1] - 1) / (maps.shape[2] - 1), (size[0] - 1) / (maps.shape[1] - 1)]
            sure = peaks[peaks > CONFIDENT]
            where = apply(cv2.invertAffineTransform(affine), joints * scale)
            yield DetectedPose(
                person, where, peaks, person.score * float(sure.mean()) if len(sure) else 0.0
            )


def heat(task: PoseTask, model: EncoderWithHead, images: np.ndarray) -> np.ndarray:
    """Maps float32[n, 17, h, w] of crops uint8[n, h, w, 3]; averaged with those of the mirror
    images, not moved by a pixel."""
    with torch.inference_mode():
        inputs = normalise(torch.from_numpy(images).to(model.device))
        maps = model(inputs).float()
        if task.flip_test:
            maps = (
                maps
                + model(inputs.flip(-1))
                .float()
                .flip(-1)[:, torch.from_numpy(FLIPPED).to(maps.device)]
            ) / 2
    return maps.cpu().numpy()


def _without_doubles(detected: list[DetectedPose], aspect: float) -> list[int]:
    """Indices of the people that stay, image by image; a person is as large as its crop
    (ViTPose)."""
    of_image: dict[int, list[int]] = {}
    for index, one in enumerate(detected):
        of_image.setdefault(one.person.image, []).append(index)
    kept: list[int] = []
    for indices in of_image.values():
        joints = np.stack([detected[index].joints for index in indices])
        scores = np.array([detected[index].score for index in indices])
        areas = np.array(
            [crops.cut_sides(detected[index].person, aspect).prod() for index in indices]
        )
        kept += [indices[stays] for stays in suppress(joints, scores, areas, DOUBLE)]
    return kept


def _entry(one: DetectedPose) -> dict[str, Any]:
    keypoints = np.column_stack([one.joints, one.peaks]).ravel().tolist()
    return {
        "image_id": one.person.image,
        "category_id": PERSON,
        "keypoints": keypoints,
        "score": one.score,
    }


# ---------------------------------------------------------------------------- what the result says
# of itself


def _protocol(task: PoseTask, people: int, images: int, boxes: int) -> str:
    trained = freeze_in_words(task.freeze)
    origin = "annotated" if task.boxes is None else f"detected ({task.boxes.name})"
    return (
        f"preset {task.preset}, {trained}, {people} people to train on, {boxes} {origin} boxes in "
        f"{images} images, crops of "
        f"{task.width_px} x {task.size_px}, {task.steps} steps of {task.batch}, "
        f"{'flip test' if task.flip_test else 'single pass'}, OKS AP"
    )


def _pictures(task: PoseTask, coco: Coco, kept: list[DetectedPose]) -> list[Figure]:
    """Annotated joints (left) and found ones of a few images, evenly spaced among those with
    people."""
    images = sorted({person.image for person in coco.people})
    chosen = evenly_spaced(len(images), task.samples)
    pictures = []
    for image in (images[index] for index in chosen):
        photo = read_photo(coco.path_of(image))
        truth = [(person.joints, person.visible) for person in coco.people if person.image == image]
        detected = [
            (one.joints, one.peaks > CONFIDENT) for one in kept if one.person.image == image
        ]
        strip = np.concatenate(
            [draw_skeletons(photo, truth), draw_skeletons(photo, detected)], axis=1
        )
        caption = (
            f"image {image}: annotated, found; {len(truth)} people with labelled joints, "
            f"{len(detected)} found"
        )
        pictures.append(Figure(f"image-{image:012d}", strip, caption))
    return pictures


def draw_skeletons(photo: np.ndarray, people: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The photo at the pictures' height with skeletons: joints [17, 2] and which of them to draw;
    left limbs warm, right ones cold."""
    scale = PICTURE_PX / photo.shape[0]
    canvas = cv2.resize(
        photo, (math.ceil(photo.shape[1] * scale), PICTURE_PX), interpolation=cv2.INTER_AREA
    )
    for joints, shown in people:
        points = np.round((joints + 0.5) * scale - 0.5).astype(int)
        for a, b in BONES:
            if shown[a] and shown[b]:
                colour = (255, 170, 40) if a % 2 else (60, 170, 255)
                cv2.line(canvas, points[a].tolist(), points[b].tolist(), colour, 2, cv2.LINE_AA)
        for point in points[shown]:
            cv2.circle(canvas, point.tolist(), 2, (240, 240, 60), -1, cv2.LINE_AA)
    return canvas
