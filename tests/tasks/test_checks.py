"""Whether a task can be trained and scored is asked of each split, as the task will see it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import cv2
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from mimic import config
from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.params import load_params, resolve_params
from mimic.synthetic import toy_datasets as sets
from mimic.tasks import TASKS, run_task
from mimic.tasks.api import Later
from mimic.tasks.checks import check
from mimic.tasks.correspondence.config import CorrespondenceTask, CrossAttentionTask
from mimic.tasks.depth import frames
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask
from mimic.tasks.depth.nyu import MAT, Nyu
from mimic.tasks.engine.dense_transforms import Items
from mimic.tasks.engine.image_io import read_photo
from mimic.tasks.flow_stereo.config import FlowTask
from mimic.tasks.imagenet.config import KnnTask
from mimic.tasks.inspection import Needs, Split, lines
from mimic.tasks.keypoints.config import PoseTask
from mimic.tasks.relative_pose.config import RelativePoseTask
from mimic.tasks.segmentation import finetune
from mimic.tasks.segmentation.ade20k import Ade20k
from mimic.tasks.segmentation.config import LinearSegmentationTask, SegmentationTask
from mimic.tasks.segmentation.frames import scored
from mimic.tasks.taskonomy.config import TaskonomyTask
from tests.support.miniatures import as_subject, folders_in, write_dataset, write_nyu

FLAT = {"width_m": 8.0, "depth_m": 6.5, "height_m": 2.6, "texture_px": 128}
SIZE: dict[str, Any] = {"width_px": 64, "height_px": 48}
MADE = {
    "coco": config.PeopleSet(first_seed=520, train=6, test=4, people=2, **SIZE),
    "imagenet": config.ShapesSet(first_seed=540, train_per_class=3, test_per_class=2, size_px=40),
    "taskonomy": config.TaskonomySet.model_validate(
        {"first_seed": 560, "flat": FLAT, "train": 4, "validation": 2, "test": 3, **SIZE}
    ),
    "flow": config.MotionSet.model_validate(
        {"first_seed": 540, "flat": FLAT, "train": 3, "test": 2, **SIZE}
    ),
    "seven_scenes": config.SevenScenesSet.model_validate(
        {"first_seed": 580, "flat": FLAT, "scenes": 1, "train": 12, "test": 4, **SIZE}
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    for name, section in MADE.items():
        (root / name).mkdir()
        sets.write(section, root / name)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, made_ade20k: Path) -> Path:
    """A workspace with a copy of every set, to break."""
    copy = Path(shutil.copytree(made, tmp_path / "workspace"))
    shutil.copytree(made_ade20k, copy / "ade20k")
    write_nyu(copy / "nyu")
    write_dataset(copy, 6)
    return copy


def refused(task: Any, root: Path, *words: str) -> None:
    with pytest.raises(BadInput) as error:
        check(task, root)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------- depth


def _raw(root: Path, change: Callable[[Any, Any], None]) -> None:
    with h5py.File(root / "nyu" / MAT, "r+") as file:
        change(file["rawDepths"], file["depths"])


def test_test_images_beyond_the_range(root: Path, depth_task: DepthTask) -> None:
    def far(raw: Any, depths: Any) -> None:
        raw[8:], depths[8:] = 25.0, 25.0

    _raw(root, far)
    refused(depth_task, root, "none of the 5 images of the test split", "depth_max_m")
    assert check(depth_task.model_copy(update={"depth_max_m": 30.0}), root)


@pytest.mark.parametrize(("places", "split"), [(slice(0, 8), "train"), (slice(8, 13), "test")])
def test_a_split_that_was_never_measured(
    root: Path, depth_task: DepthTask, places: slice, split: str
) -> None:
    def unmeasured(raw: Any, _: Any) -> None:
        raw[places] = 0.0

    _raw(root, unmeasured)
    refused(depth_task, root, f"of the {split} split has pixels of known depth")


def test_depth_only_outside_the_crop(root: Path, depth_task: DepthTask) -> None:
    """A square of the middle is trained on; depth is known at the left edge alone."""

    def edge(raw: Any, _: Any) -> None:
        raw[:8, 4:] = 0.0  # axes: image, column, row

    _raw(root, edge)
    cropped = {"frame": "crop", "score_at": "input", "size_px": 32, "augment": "flip"}
    refused(depth_task.model_copy(update=cropped), root, "train split has pixels of known depth")
    anywhere = depth_task.model_copy(update={**cropped, "augment": "peer"})
    assert check(anywhere, root)["found"]["train"]["empty"] == 0
    assert check(depth_task, root)


def test_eigen_region_is_asked_for_beforehand(root: Path, depth_task: DepthTask) -> None:
    refused(depth_task.model_copy(update={"score_region": "eigen"}), root, "640 x 480", "64 x 48")


def test_depth_outside_eigens_crop(depth_task: DepthTask) -> None:
    """Rows 45 to 470 and columns 41 to 600, counted from 0, and nothing else."""
    inside = np.zeros((480, 640), bool)
    inside[45:471, 41:601] = True
    task = depth_task.model_copy(update={"score_region": "eigen"})
    image, depth_m = np.zeros((480, 640, 3), np.uint8), np.full((480, 640), 2.0, np.float32)
    everywhere = frames.DepthFrame(image, depth_m, np.ones((480, 640), bool))
    np.testing.assert_array_equal(frames.scored(task, everywhere)[0], inside)
    around = frames.DepthFrame(image, depth_m, ~inside)
    assert not frames.scored(task, around)[0].any()


def test_what_is_counted_is_what_is_scored(
    root: Path, depth_task: DepthTask, encoder: VisionTransformer
) -> None:
    found = check(depth_task, root)["found"]["test"]
    result = run_task(depth_task, as_subject(encoder), folders_in(root))
    assert round(found["share"] * 5 * 64 * 48) == result.metrics["valid_pixels"]
    with Nyu(root / "nyu", None) as nyu:
        depths = np.concatenate([f.depth_m[f.valid] for f in map(nyu.read, range(8, 13))])
    assert found["smallest"] == pytest.approx(depths.min(), rel=1e-5)
    assert found["largest"] == pytest.approx(depths.max(), rel=1e-5)


def test_a_draw_without_a_label(root: Path, few_shot_depth_task: FewShotDepthTask) -> None:
    """One image of eight has labels; draws of two images miss it."""

    def one(raw: Any, _: Any) -> None:
        raw[1:8] = 0.0

    _raw(root, one)
    refused(few_shot_depth_task, root, "seed ", "draws 2 training images, none of which")
    assert check(few_shot_depth_task.model_copy(update={"shots": (8,)}), root)
    refused(few_shot_depth_task.model_copy(update={"shots": (9,)}), root, "there are 8 training")


# ---------------------------------------------------------------------------- segmentation


@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize("kind", ["segmentation", "linear_segmentation", "few_shot_segmentation"])
def test_labels_that_are_all_ignored(
    root: Path, split: str, kind: str, request: pytest.FixtureRequest
) -> None:
    task = request.getfixturevalue(f"{kind}_task")
    assert check(task, root)["found"]["test"]["empty"] == 0
    for path in (root / "ade20k/annotations" / split).iterdir():
        cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    name = "train" if split == "training" else "test"
    refused(task, root, f"of the {name} split has labelled pixels")


def test_labels_only_outside_the_square(
    root: Path, linear_segmentation_task: LinearSegmentationTask
) -> None:
    for path in (root / "ade20k/annotations/training").iterdir():
        labels = np.zeros_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        if labels.shape[1] > labels.shape[0]:
            labels[:, 0] = 1
        else:
            labels[0] = 1
        cv2.imwrite(str(path), labels)
    refused(linear_segmentation_task, root, "train split has labelled pixels")
    peer = SegmentationTask.model_validate(
        {
            **linear_segmentation_task.model_dump(),
            **{"task": "segmentation", "augment": "peer", "cell_px": 4, "head_blocks": 1},
        }
    )
    assert check(peer, root)["found"]["train"]["empty"] == 0


def test_what_is_scored_of_padded_frames_is_the_square(
    made_ade20k: Path, few_shot_segmentation_task: Any
) -> None:
    item = finetune.read(Ade20k(made_ade20k, None), 7)
    square = finetune.preprocess(few_shot_segmentation_task, Items((item,)))
    shown = scored(few_shot_segmentation_task, item)
    np.testing.assert_array_equal(shown.valid, square.valid[0])
    np.testing.assert_array_equal(shown.target, square.target[0])


# ---------------------------------------------------------------------------- the others


def _annotations(root: Path, split: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / f"coco/annotations/person_keypoints_{split}2017.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_people_without_areas_or_without_people(root: Path, pose_task: PoseTask) -> None:
    assert check(pose_task, root)["found"]["val"]["of"]["items"] == "people"
    _annotations(root, "train", lambda found: [one.pop("area") for one in found["annotations"]])
    assert check(pose_task, root)  # training needs none
    _annotations(root, "val", lambda found: found["annotations"][1].pop("area"))
    refused(pose_task, root, "val2017.json: annotation ", "has no area")
    for split in ("val", "train"):
        _annotations(root, split, lambda found: found.update(annotations=[]))
        refused(pose_task, root, f"the {split} split holds no people")
        if split == "val":
            boxes = root / "boxes.json"
            image = json.loads(
                (root / "coco/annotations/person_keypoints_val2017.json").read_text()
            )["images"][0]
            entry = {"image_id": image["id"], "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1}
            boxes.write_text(json.dumps([entry]))  # a detector's boxes make nobody to score
            given = pose_task.model_copy(update={"boxes": Path("boxes.json")})
            refused(given, root, "the val split holds no people")


def test_a_picture_of_people_that_is_cut_off(root: Path, pose_task: PoseTask) -> None:
    path = next((root / "coco/train2017").iterdir())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(pose_task, root, path.name, "damaged")


def test_motion_that_is_known_nowhere(root: Path, flow_task: FlowTask) -> None:
    assert check(flow_task, root)["found"]["test"]["share"] > 0.3
    for path in (root / "flow/kitti/training/flow_occ").iterdir():
        cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint16))
    refused(flow_task, root, "none of the 2 pairs of the test split has pixels of known motion")


@pytest.fixture
def normals(repository: Path) -> TaskonomyTask:
    raw = resolve_params(repository / "params.yaml").full()["evaluate"]["normals"]
    where = {"data": "taskonomy", "splits": "taskonomy/splits", "images": [4, 2, 3], "size_px": 64}
    return TaskonomyTask.model_validate({**raw, **where})


@pytest.mark.parametrize("split", ["validation", "test"])
def test_masks_that_erosion_leaves_nothing_of(
    root: Path, normals: TaskonomyTask, split: str
) -> None:
    """Every fourth column is invalid: cells of 4 px are never whole."""
    from mimic.tasks.taskonomy.dataset import open_taskonomy

    opened = open_taskonomy(normals, root)
    for index in getattr(opened, split):
        path = opened.files(int(index))[2]
        mask = np.full(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[:2], 255, np.uint8)
        mask[:, ::4] = 0
        cv2.imwrite(str(path), mask)
    refused(normals, root, f"of the {split} split has valid pixels", "erode_px")
    assert check(normals.model_copy(update={"erode_px": 1}), root)
    unselected = normals.model_copy(update={"validate_every": None})
    if split == "validation":
        assert "validation" not in check(unselected, root)["found"]


def test_more_neighbours_than_there_are(root: Path, knn_task: KnnTask) -> None:
    found = check(knn_task, root)
    images = found["splits"]["train"]
    sides = [min(read_photo(path).shape[:2]) for path in (root / "imagenet/train").rglob("*.JPEG")]
    assert len(sides) == images
    assert found["found"]["train"]["smallest"] == min(sides)
    refused(knn_task.model_copy(update={"k": (images + 1,)}), root, f"there are {images} training")


def test_neighbours_of_every_frame(root: Path, relative_pose_task: RelativePoseTask) -> None:
    assert check(relative_pose_task, root)["splits"] == {"train": 12, "test": 4}
    many = relative_pose_task.model_copy(update={"neighbours": 12})
    refused(many, root, "flat-0: a frame has fewer than 12 neighbours among 12 train frames")
    few = relative_pose_task.model_copy(update={"every": 6})
    refused(few, root, "flat-0: a frame has fewer than 3 neighbours among 2 train frames")


def test_pairs_without_a_match(root: Path, correspondence_task: CorrespondenceTask) -> None:
    found = check(correspondence_task, root)
    assert found["splits"] == {"validation": 6, "measured": 6}
    assert found["found"]["measured"]["share"] == pytest.approx(0.75)  # one column of four left b
    path = root / "data/manifests/toy.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        row["b_from_a"] = [1, 0, 1000, 0, 1, 0, 0, 0, 1]  # out of the frame
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    refused(correspondence_task, root, "none of the 6 pairs", "patches with a true match")


@pytest.mark.parametrize("edges", [(0.7, 0.5), (0.5, 0.5, 0.7), (0.5, 0.7, 0.6)])
def test_bins_rise(
    repository: Path, correspondence_task: CorrespondenceTask, edges: tuple[float, ...]
) -> None:
    raw = resolve_params(repository / "params.yaml").full()["evaluate"]["cross-attention"]
    for section, fields in (
        (CorrespondenceTask, correspondence_task.model_dump()),
        (CrossAttentionTask, raw),
    ):
        with pytest.raises(ValidationError, match="overlap_bins"):
            section.model_validate({**fields, "overlap_bins": edges})


# ---------------------------------------------------------------------------- what is said


def test_every_task_is_in_the_table_under_its_own_name(repository: Path) -> None:
    for name, spec in TASKS.items():
        assert spec.name == name
        assert get_args(spec.section.model_fields["task"].annotation) == (name,)
    used = {task.task for task in load_params(repository / "params.yaml").evaluate.values()}
    assert used <= set(TASKS)


def test_a_line_a_split() -> None:
    split = Split("train", "train on", Needs("images", "pixels", "depth_m", ""))
    split.add_masked(np.array([[True, False]]), np.array([[1.5, 99.0]]))
    split.add(0, 2)
    assert lines({"found": {"train": split.facts()}}) == [
        "train: 2 images, 25.0 % pixels (1 of them have none), depth_m 1.5 to 1.5"
    ]


@pytest.mark.parametrize("task", TASKS)
def test_what_a_task_names_to_be_imported_later_is_a_function(task: str) -> None:
    for part in (TASKS[task].run, TASKS[task].look):
        assert callable(part.resolve() if isinstance(part, Later) else part)
