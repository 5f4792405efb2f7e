"""Tiny encoders and tasks of seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mimic.config.presets import LayeredValues, lay_preset
from mimic.models.encoder import VisionTransformer
from mimic.synthetic import toy_datasets
from mimic.tasks import TASKS
from mimic.tasks.correspondence.config import CorrespondenceTask
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask, LinearDepthTask
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.imagenet.config import KnnTask, LinearProbeTask
from mimic.tasks.keypoints.config import PoseTask
from mimic.tasks.relative_pose.config import RelativePoseTask
from mimic.tasks.segmentation.config import (
    FewShotSegmentationTask,
    LinearSegmentationTask,
    SegmentationTask,
)
from tests.support.miniatures import ADE20K, make_encoder, write_nyu

torch.set_num_threads(1)  # tiny models: a second thread only waits


@pytest.fixture
def encoder() -> VisionTransformer:
    """A random encoder of 32 px images in 8 px patches."""
    return make_encoder()


@pytest.fixture
def make() -> Callable[..., VisionTransformer]:
    return make_encoder


# Seconds on two cores, whatever is trained: squares of 32 px, 6 steps.
SMALL: dict[str, Any] = {
    "size_px": 32,
    "head_width": 16,
    "steps": 6,
    "batch": 4,
    "weight_decay": 1e-4,
    "warmup": 0.2,
    "eval_batch": 4,
    "samples": 2,
}


def _section(task: str, where: str, **differs: Any) -> Any:
    """The section of a task: its preset `tiny`, with its data in the folder `where`, and what
    differs."""
    spec = TASKS[task]
    laid = LayeredValues()
    lay_preset(laid, spec.document, (task,), "tiny")
    data = {"task": task, "preset": "standard", "data": where, "tracked_by": where}
    return spec.section.model_validate({**laid.content, **data, **differs})


@pytest.fixture
def depth_task() -> DepthTask:
    numbers = {"target_mean": 2.5, "target_std": 1.0, "score_region": "all"}
    return _section("depth", "nyu", **SMALL, **numbers)


@pytest.fixture
def pose_task() -> PoseTask:
    """Crops of 24 x 32."""
    return _section(
        "pose", "coco", **SMALL | {"eval_batch": 8}, width_px=24, boxes=None, clip_grad=None
    )


@pytest.fixture
def segmentation_task() -> SegmentationTask:
    own = {"steps": 4, "head_blocks": 1, "augment": "flip", "drop_path": 0.0}
    return _section("segmentation", "ade20k", **SMALL | own, images=None, stride_px=16)


@pytest.fixture(scope="session")
def made_ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and four validation views of flats, 64 x 48 and narrower."""
    folder = tmp_path_factory.mktemp("workspace") / "ade20k"
    folder.mkdir()
    toy_datasets.write(ADE20K, folder)
    return folder


@pytest.fixture
def correspondence_task() -> CorrespondenceTask:
    return CorrespondenceTask(
        task="correspondence",
        dataset="toy",
        tracked_by=Path("data/manifests/toy.parquet"),
        pairs=6,
        batch=4,
        block=None,
        overlap_bins=(0.0, 0.7, 1.0),
        samples=2,
        seed=0,
    )


@pytest.fixture
def linear_depth_task() -> LinearDepthTask:
    own = {"steps": 40, "lr": 1e-2, "bins": 16}
    return _section("linear-depth", "nyu", **SMALL | own, score_region="all", flip_test=False)


@pytest.fixture
def few_shot_depth_task() -> FewShotDepthTask:
    numbers = {"target_mean": 2.5, "target_std": 1.0, "score_at": "native"}
    return _section("few-shot-depth", "nyu", **SMALL, **numbers, shots=(2, 5), seeds=3)


@pytest.fixture
def linear_segmentation_task() -> LinearSegmentationTask:
    own = {"steps": 60, "lr": 1e-2}
    return _section("linear-segmentation", "ade20k", **SMALL | own, images=None, stride_px=16)


@pytest.fixture
def few_shot_segmentation_task() -> FewShotSegmentationTask:
    own = {"steps": 4, "head_blocks": 1, "preset": "published", "scale": (0.5, 2.0)}
    return _section(
        "few-shot-segmentation", "ade20k", **SMALL | own, images=None, shots=(2, 4), seeds=2
    )


CLASSES = {"resize_px": 36, "size_px": 32, "eval_batch": 16, "samples": 2}


@pytest.fixture
def linear_probe_task() -> LinearProbeTask:
    return _section(
        "linear-probe", "imagenet", **CLASSES, crop_area=(0.5, 1.0), warmup_epochs=2, batch=32
    )


@pytest.fixture
def knn_task() -> KnnTask:
    return _section("knn", "imagenet", **CLASSES, k=(1, 3), value_k=3)


@pytest.fixture
def nyu_folder(tmp_path: Path) -> Path:
    """Eight train and five test images of 64 x 48, where brightness tells depth."""
    folder = tmp_path / "nyu"
    write_nyu(folder)
    return folder


def _motion(task: str, layout: str) -> Any:
    train, test = (
        {"layout": one, "folder": one, "only": None, "without": [], "repeat": 1}
        for one in (layout, "kitti")
    )
    train["without"] = ["final"] if layout == "sintel" else []
    own = SMALL | {"layer_decay": 0.75}
    del own["eval_batch"]
    return _section(task, task, **own, width_px=48, train=[train], test=[test])


@pytest.fixture
def flow_task() -> FlowTask:
    """Crops of 48 x 32."""
    return _motion("flow", "sintel")


@pytest.fixture
def stereo_task() -> StereoTask:
    return _motion("stereo", "middlebury")


@pytest.fixture
def relative_pose_task() -> RelativePoseTask:
    """Frames of 48 x 32."""
    own = {"eval_batch": 8, "layer_decay": 0.75, "betas": (0.9, 0.999)}
    frames = {"width_px": 48, "scenes": ("flat-0",), "neighbours": 3, "gap": 2}
    return _section("relative-pose", "seven_scenes", **SMALL | own, **frames)
