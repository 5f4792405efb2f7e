"""Tiny encoders and tasks of seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mimic.models.encoder import VisionTransformer
from mimic.synthetic import toy_datasets
from mimic.tasks.correspondence.config import CorrespondenceTask
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask, LinearDepthTask
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.imagenet.config import KnnTask, LinearProbeTask
from mimic.tasks.keypoints.config import PoseTask
from mimic.tasks.relative_pose.config import RelativePoseTask
from mimic.tasks.sections import TrainedTask
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


@pytest.fixture
def depth_task() -> DepthTask:
    """Seconds on two cores: 32 px, 6 steps."""
    return DepthTask(
        task="depth",
        preset="standard",
        data=Path("nyu"),
        tracked_by=Path("nyu"),
        layout=None,
        depth_unit=None,
        masks=None,
        freeze="none",
        blocks=None,
        head_width=16,
        size_px=32,
        augment="flip",
        steps=6,
        batch=4,
        lr=1e-3,
        weight_decay=1e-4,
        betas=(0.9, 0.999),
        layer_decay=0.75,
        drop_path=0.0,
        warmup=0.2,
        clip_grad=None,
        precision="fp32",
        save_every=None,
        seed=0,
        samples=2,
        frame="whole",
        antialias=True,
        last_norm=False,
        units_per_m=1.0,
        target_mean=2.5,
        target_std=1.0,
        score_at="native",
        score_region="all",
        depth_min_m=0.001,
        depth_max_m=10.0,
        flip_test=False,
        averaging="image",
        eval_batch=4,
        eval_ranks=1,
    )


@pytest.fixture
def pose_task(depth_task: DepthTask) -> PoseTask:
    """Crops of 24 x 32."""
    shared = {name: getattr(depth_task, name) for name in TrainedTask.model_fields}
    own = {
        "task": "pose",
        "data": Path("coco"),
        "tracked_by": Path("coco"),
        "boxes": None,
        "width_px": 24,
        "patch_padding": 0,
    }
    rates = {"warmup_from": 0.001, "drop_at": (0.8, 0.95), "flip_test": True, "eval_batch": 8}
    return PoseTask.model_validate({**shared, **own, **rates})


@pytest.fixture
def segmentation_task(depth_task: DepthTask) -> SegmentationTask:
    """Seconds on two cores: squares of 32 px, 4 steps."""
    shared = depth_task.model_dump(include=set(TrainedTask.model_fields))
    own = {
        "task": "segmentation",
        "data": Path("ade20k"),
        "tracked_by": Path("ade20k"),
        "steps": 4,
        "images": None,
        "layout": None,
        "ignore": 255,
        "cell_px": 4,
        "head_blocks": 1,
        "frame": "whole",
        "antialias": True,
        "scale": (0.5, 2.0),
        "inference": "slide",
        "stride_px": 16,
        "score_at": "native",
        "averaging": "global",
        "eval_batch": 4,
    }
    return SegmentationTask.model_validate({**shared, **own})


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
def linear_depth_task(depth_task: DepthTask) -> LinearDepthTask:
    metres = {
        "last_norm": True,
        "target_mean": 0.0,
        "target_std": 1.0,
        "bins": 16,
        "lr": 1e-2,
        "steps": 40,
        "layer_decay": 1.0,
    }
    return LinearDepthTask.model_validate(
        {**depth_task.model_dump(), **metres, "task": "linear-depth", "freeze": "encoder"}
    )


@pytest.fixture
def few_shot_depth_task(depth_task: DepthTask) -> FewShotDepthTask:
    few = {"task": "few-shot-depth", "freeze": "encoder", "shots": (2, 5), "seeds": 3}
    return FewShotDepthTask.model_validate({**depth_task.model_dump(), **few})


@pytest.fixture
def linear_segmentation_task(segmentation_task: SegmentationTask) -> LinearSegmentationTask:
    shared = segmentation_task.model_dump(exclude={"cell_px", "head_blocks"})
    own = {
        "task": "linear-segmentation",
        "freeze": "encoder",
        "steps": 60,
        "lr": 1e-2,
        "layer_decay": 1.0,
    }
    return LinearSegmentationTask.model_validate({**shared, **own})


@pytest.fixture
def few_shot_segmentation_task(segmentation_task: SegmentationTask) -> FewShotSegmentationTask:
    padded = {
        "preset": "published",
        "frame": "padded",
        "inference": "whole",
        "stride_px": None,
        "score_at": "input",
        "antialias": False,
    }
    few = {"task": "few-shot-segmentation", "freeze": "encoder", "shots": (2, 4), "seeds": 2}
    return FewShotSegmentationTask.model_validate(
        {**segmentation_task.model_dump(), **padded, **few}
    )


IMAGENET: dict[str, Any] = {
    "data": Path("imagenet"),
    "tracked_by": Path("imagenet"),
    "layout": None,
    "images": None,
    "resize_px": 36,
    "size_px": 32,
    "pool": None,
}


@pytest.fixture
def linear_probe_task() -> LinearProbeTask:
    own = {
        "task": "linear-probe",
        "preset": "standard",
        "views": 2,
        "crop_area": (0.5, 1.0),
        "epochs": 40,
        "warmup_epochs": 2,
        "batch": 32,
    }
    lars = {
        "base_lr": 64.0,
        "momentum": 0.9,
        "trust": 0.001,
        "weight_decay": 0.0,
        "selection": "last",
    }
    return LinearProbeTask.model_validate(
        {**IMAGENET, **own, **lars, "eval_batch": 16, "seed": 0, "samples": 2}
    )


@pytest.fixture
def knn_task() -> KnnTask:
    own = {
        "task": "knn",
        "preset": "standard",
        "k": (1, 3),
        "value_k": 3,
        "temperature": 0.07,
        "eval_batch": 16,
        "seed": 0,
        "samples": 2,
    }
    return KnnTask.model_validate({**IMAGENET, **own})


@pytest.fixture
def nyu_folder(tmp_path: Path) -> Path:
    """Eight train and five test images of 64 x 48, where brightness tells depth."""
    folder = tmp_path / "nyu"
    write_nyu(folder)
    return folder


def _motion(depth_task: DepthTask, kind: str, layout: str) -> dict[str, Any]:
    shared = {name: getattr(depth_task, name) for name in TrainedTask.model_fields}
    train, test = (
        {"layout": one, "folder": one, "only": None, "without": [], "repeat": 1}
        for one in (layout, "kitti")
    )
    own = {
        "task": kind,
        "data": Path(kind),
        "tracked_by": Path(kind),
        "width_px": 48,
        "overlap": 0.5,
        "betas": (0.9, 0.95),
    }
    own["masks"] = True
    train["without"] = ["final"] if layout == "sintel" else []
    return {**shared, **own, "train": [train], "test": [test]}


@pytest.fixture
def flow_task(depth_task: DepthTask) -> FlowTask:
    """Crops of 48 x 32."""
    return FlowTask.model_validate(_motion(depth_task, "flow", "sintel"))


@pytest.fixture
def stereo_task(depth_task: DepthTask) -> StereoTask:
    return StereoTask.model_validate(_motion(depth_task, "stereo", "middlebury"))


@pytest.fixture
def relative_pose_task(depth_task: DepthTask) -> RelativePoseTask:
    """Frames of 48 x 32."""
    shared = {name: getattr(depth_task, name) for name in TrainedTask.model_fields}
    own = {
        "task": "relative-pose",
        "data": Path("seven_scenes"),
        "tracked_by": Path("seven_scenes"),
        "width_px": 48,
        "augment": "none",
    }
    lists = {
        "scenes": ("flat-0",),
        "every": 1,
        "retrieval": None,
        "neighbours": 3,
        "gap": 2,
        "estimate": "consensus",
        "eval_batch": 8,
    }
    return RelativePoseTask.model_validate({**shared, **own, **lists})
