"""Relative camera pose on 7-Scenes: a cross-view model, fine-tuned to tell where one camera stands
in the axes of another.

A query is placed by train frames that are like it (`retrieval`): by the nearest with the metric
translation, or by all together (geometry/relative.py). Trained on the same: a train frame and one
of its neighbours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimic.errors import BadInput
from mimic.geometry.relative import median_standard_error, placed, pose_errors, summary
from mimic.infra.progress import counted
from mimic.infra.storage import Workspace
from mimic.models.encoder import normalise
from mimic.models.two_view import RelativePose
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.batches import step_indices
from mimic.tasks.engine.encoder_with_head import freeze_in_words, seeded
from mimic.tasks.engine.feature_cache import READERS
from mimic.tasks.engine.image_io import read_photo
from mimic.tasks.engine.train_loop import layer_decayed, train
from mimic.tasks.engine.visualize import cameras, scaled
from mimic.tasks.relative_pose.config import RelativePoseTask
from mimic.tasks.relative_pose.retrieval import Neighbours, neighbours, read_image
from mimic.tasks.relative_pose.seven_scenes import SevenScenesScene, read_scene
from mimic.training.batches import evenly_spaced, prefetch

WAYS = (
    "nearest",
    "consensus",
    "retrieval",
)  # retrieval: the nearest neighbour's own pose, what is known before any model looks
NUMBERS = ("median_error_m", "median_error_deg", "within_5cm_5deg")


def run(task: RelativePoseTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train on pairs of train frames, find the pose of every test frame.

    Raises:
        BadInput: images do not divide into patches, or a scene or its neighbours are not whole.
    """
    folder = Workspace(folders.root).resolve(task.data)
    scenes = [read_scene(folder, name, task.every) for name in task.scenes]
    pretrained = subject.two_view_model(task.task)
    patch_px = pretrained.encoder.patch_px
    if task.size_px % patch_px or task.width_px % patch_px:
        raise BadInput(
            f"{task.task}: images of {task.width_px} x {task.size_px} do not divide into patches "
            f"of {patch_px} px"
        )
    near = [neighbours(task, scene, pretrained.encoder, folders) for scene in scenes]
    model = seeded(task.seed, lambda: RelativePose(pretrained, task.head_width))
    assert isinstance(model, RelativePose)
    model.freeze(task.freeze)
    last_loss = train_model(task, model, scenes, near, folders.progress)
    model.eval()
    estimated = [
        locate(task, model, scene, lists) for scene, lists in zip(scenes, near, strict=True)
    ]
    metrics = _metrics(task, scenes, estimated)
    return Result(
        name="median_error_m",
        headline="median_error_m",
        higher_is_better=False,
        metrics={
            **metrics,
            "train_size": sum(len(scene.train) for scene in scenes),
            "train_loss": last_loss,
        },
        protocol=_protocol(task),
        selection="last step",
        test_size=sum(len(scene.test) for scene in scenes),
        pictures=_pictures(task, scenes, near, estimated),
    )


# ---------------------------------------------------------------------------- training


def train_model(
    task: RelativePoseTask,
    model: RelativePose,
    scenes: list[SevenScenesScene],
    near: list[Neighbours],
    folder: Path,
) -> float | None:
    """Train in place on frames and their neighbours; the mean loss of the last tenth of the steps.

    Loss: Frobenius distance of the rotations plus metres between the translations, unweighted.
    """
    pairs = [
        (scene, lists, frame)
        for scene, lists in zip(scenes, near, strict=True)
        for frame in range(len(scene.train))
    ]

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        images = []
        moves = []
        for number, index in enumerate(step_indices(step, task.batch, len(pairs), task.seed)):
            scene, lists, query = pairs[index]
            rng = np.random.default_rng([task.seed, step, number])
            a = scene.train[query]
            b = scene.train[rng.choice(lists.train[query])]
            images.append(np.stack([read_image(task, a), read_image(task, b)]))
            moves.append(np.linalg.inv(b.pose) @ a.pose)
        return np.stack(images), np.stack(moves).astype(np.float32)

    def loss(batch: tuple[np.ndarray, np.ndarray]) -> Tensor:
        images, moves = (torch.from_numpy(part).to(model.device) for part in batch)
        rotation, translation = model(normalise(images[:, 0]), normalise(images[:, 1]))
        return (
            (rotation - moves[:, :3, :3]).flatten(1).norm(dim=1)
            + (translation - moves[:, :3, 3]).norm(dim=1)
        ).mean()

    return train(model, task, draw, loss, lambda: layer_decayed(model, task), folder)


# ---------------------------------------------------------------------------- measuring


def locate(
    task: RelativePoseTask, model: RelativePose, scene: SevenScenesScene, near: Neighbours
) -> dict[str, np.ndarray]:
    """Poses float64[queries, 4, 4] of the test frames, by each of WAYS."""

    def load(query_index: int) -> tuple[np.ndarray, np.ndarray]:
        return read_image(task, scene.test[query_index]), np.stack(
            [read_image(task, scene.train[index]) for index in near.test[query_index]]
        )

    estimated: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    asked = prefetch(load, 0, len(scene.test), READERS)
    title = f"find the cameras of {scene.name}"
    for query_index, (query, others) in counted(asked, title, len(scene.test), "frames"):
        a, b = (
            normalise(torch.from_numpy(images).to(model.device))
            for images in (np.stack([query] * len(others)), others)
        )
        with torch.inference_mode():
            rotations, translations = (part.double().cpu().numpy() for part in model(a, b))
        known = np.stack([scene.train[index].pose for index in near.test[query_index]])
        for way, pose in zip(
            WAYS, (*placed(rotations, translations, known), known[0]), strict=True
        ):
            estimated[way].append(pose)
    return {way: np.stack(poses) for way, poses in estimated.items()}


def _metrics(
    task: RelativePoseTask, scenes: list[SevenScenesScene], estimated: list[dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Medians of each scene, and their means over scenes, as the field reports them."""
    by_scene: dict[str, Any] = {}
    spread = []
    for scene, poses in zip(scenes, estimated, strict=True):
        truth = np.stack([view.pose for view in scene.test])
        errors = {way: pose_errors(poses[way], truth) for way in WAYS}
        by_scene[scene.name] = {
            **{way: summary(errors[way]) for way in WAYS},
            "queries": len(truth),
        }
        spread.append(median_standard_error(errors[task.estimate][:, 0]))
    means = {
        way: {
            name: float(np.mean([by_scene[scene][way][name] for scene in by_scene]))
            for name in NUMBERS
        }
        for way in WAYS
    }
    # Of the mean over scenes; frames of a sequence resemble each other, so that the true one is
    # larger.
    error = float(np.sqrt(np.sum(np.square(spread))) / len(spread))
    return {**means[task.estimate], **means, "scenes": by_scene, "standard_error": error}


# ---------------------------------------------------------------------------- what the result says
# of itself


def _protocol(task: RelativePoseTask) -> str:
    trained = freeze_in_words(task.freeze, "encoder and decoder")
    listed = (
        "by the pretrained encoder's mean patch"
        if task.retrieval is None
        else f"of {task.retrieval.name}"
    )
    placed_by = "the nearest alone" if task.estimate == "nearest" else "all together"
    frames = "" if task.every == 1 else f", every {task.every}. frame"
    return (
        f"preset {task.preset}, {trained}, medians averaged over {len(task.scenes)} "
        f"scenes{frames}, {task.neighbours} neighbours {listed}, "
        f"placed by {placed_by}, whole frames at {task.width_px} x {task.size_px}, {task.steps} "
        f"steps of {task.batch} pairs"
    )


def _pictures(
    task: RelativePoseTask,
    scenes: list[SevenScenesScene],
    near: list[Neighbours],
    estimated: list[dict[str, np.ndarray]],
) -> list[Figure]:
    """Query, first neighbour, and the room from above: train cameras, the query's true place and
    where it was put."""
    queries = [
        (number, query) for number, scene in enumerate(scenes) for query in range(len(scene.test))
    ]
    pictures = []
    for index in evenly_spaced(len(queries), task.samples):
        number, query = queries[index]
        scene = scenes[number]
        pose = estimated[number][task.estimate][query]
        view = scene.test[query]
        other = scene.train[near[number].test[query, 0]]
        plan = cameras(np.stack([camera.pose for camera in scene.train]), view.pose, pose)
        strip = np.concatenate(
            [*(scaled(read_photo(shown.image)) for shown in (view, other)), plan], axis=1
        )
        ((away, turned),) = pose_errors(pose[None], view.pose[None])
        caption = (
            f"{view.name}: query, first neighbour ({other.name}), cameras in their main plane: "
            "train grey, true green, found red; "
            f"off by {away:.2f} m, {turned:.1f} degrees"
        )
        pictures.append(
            Figure(f"{scene.name}-{view.sequence:02d}-{view.frame:06d}", strip, caption)
        )
    return pictures
