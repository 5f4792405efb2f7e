"""Relative pose on 7-Scenes: official files are read as they are, poses explain the views, cameras
are found, damage is named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mimic import evaluate
from mimic.config import SevenScenesSet
from mimic.errors import BadInput
from mimic.geometry.covisibility import covisibility, intrinsics_from_fov
from mimic.models.two_view import RelativePose, nearest_rotation
from mimic.params import Params, resolve_params
from mimic.synthetic import toy_datasets
from mimic.synthetic.toy_datasets.seven_scenes import HFOV_DEG
from mimic.tasks import run_task
from mimic.tasks.checks import check
from mimic.tasks.relative_pose.config import RelativePoseTask
from mimic.tasks.relative_pose.retrieval import neighbours
from mimic.tasks.relative_pose.seven_scenes import (
    OFFICIAL,
    PosedImage,
    SevenScenesScene,
    read_pose,
    read_scene,
)
from tests.support.miniatures import FLAT, as_subject, folders_in
from tests.tasks.correspondence.test_cross_attention import make_model, publish_model

SET = SevenScenesSet(
    first_seed=580, flat=FLAT, scenes=1, train=12, test=5, width_px=64, height_px=48
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("relative")
    (root / "seven_scenes").mkdir()
    toy_datasets.write(SET, root / "seven_scenes")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_model(tmp_path_factory.mktemp("models") / "croco")


def depth_m(view: PosedImage) -> np.ndarray:
    path = next(view.image.parent.glob(f"frame-{view.frame:06d}.depth.png"))
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return np.where((values == 0) | (values == 65535), 0, values / 1000)


def shared(a: PosedImage, b: PosedImage, intrinsics: np.ndarray, step_px: int = 2) -> float:
    return covisibility(
        depth_m(a), depth_m(b), intrinsics, intrinsics, a.pose, b.pose, 0.05, step_px
    )


# ---------------------------------------------------------------------------- reading


def test_the_generated_poses_explain_the_depths(made: Path) -> None:
    """Neighbours in time see the same room where depth and pose say so; with the motion undone they
    agree less."""
    scene = read_scene(made / "seven_scenes", "flat-0", every=1)
    assert len(scene.train) == 12
    assert len(scene.test) == 5
    assert {view.sequence for view in scene.train} == {1, 2}
    intrinsics = intrinsics_from_fov(64, 48, HFOV_DEG)
    for a, b in ((scene.train[0], scene.train[1]), (scene.test[2], scene.test[1])):
        assert shared(a, b, intrinsics) > 0.5
    ahead = scene.train[0].pose.copy()
    ahead[:3, 3] += 3 * ahead[:3, 2]
    assert shared(scene.train[0], replace(scene.train[0], pose=ahead), intrinsics) < 0.5


def official_kitchen(real_data: Path, folder: Path) -> Path:
    """The sample in its true tree, as a scene of another name: every fifth frame is no whole
    scene."""
    frames = sorted((real_data / "seven_scenes_kitchen/frames").iterdir())
    for number, share in (
        (1, frames[: len(frames) // 2 // 3 * 3]),
        (2, frames[len(frames) // 2 // 3 * 3 :]),
    ):
        sequence = folder / f"kitchen/seq-{number:02d}"
        sequence.mkdir(parents=True)
        for path in share:
            shutil.copy(path, sequence)
    (folder / "kitchen/TrainSplit.txt").write_text("sequence1\r\n")
    (folder / "kitchen/TestSplit.txt").write_text("sequence2\r\n")
    return folder


def test_the_real_sample(
    real_data: Path, tmp_path: Path, relative_pose_task: RelativePoseTask
) -> None:
    """Depth and the poses as read give the shares of common view that were measured otherwise."""
    folder = official_kitchen(real_data, tmp_path / "seven_scenes")
    facts = check(relative_pose_task.model_copy(update={"scenes": ("kitchen",)}), tmp_path)
    assert sum(facts["splits"].values()) == 60
    assert facts["bytes"] > 10**6
    scene = read_scene(folder, "kitchen", every=1)
    by_frame = {view.frame: view for view in (*scene.train, *scene.test)}
    assert list(by_frame) == list(range(0, 300, 5))
    intrinsics = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
    rows = list(
        csv.DictReader(
            (real_data / "seven_scenes_kitchen/pairs_reference.tsv").open(), delimiter="\t"
        )
    )
    right, inverted = [], []
    for row in rows[::6]:
        a, b = by_frame[int(row["frame_i"])], by_frame[int(row["frame_j"])]
        right.append(shared(a, b, intrinsics, step_px=8) - float(row["covis_i_in_j"]))
        a, b = (replace(view, pose=np.linalg.inv(view.pose)) for view in (a, b))
        inverted.append(shared(a, b, intrinsics, step_px=8) - float(row["covis_i_in_j"]))
    assert np.abs(right).max() < 0.05
    assert np.abs(right).mean() < 0.01 < 0.03 < np.abs(inverted).mean()


def test_an_official_scene_must_be_whole(tmp_path: Path) -> None:
    """Sequences and counts are the published ones: 26,000 frames to train, 17,000 to test."""
    counts = [
        (len(train) * frames, len(test) * frames) for train, test, frames in OFFICIAL.values()
    ]
    assert tuple(np.sum(counts, axis=0)) == (26000, 17000)
    scene = tmp_path / "heads"
    for number in (1, 2):
        (scene / f"seq-{number:02d}").mkdir(parents=True)
        for frame in range(1000):
            (scene / f"seq-{number:02d}/frame-{frame:06d}.color.png").touch()
            (scene / f"seq-{number:02d}/frame-{frame:06d}.pose.txt").write_text(
                "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"
            )
    (scene / "TrainSplit.txt").write_text("sequence2\n")
    (scene / "TestSplit.txt").write_text("sequence1\n")
    assert len(read_scene(tmp_path, "heads", every=10).train) == 100
    for kind in ("color.png", "pose.txt"):
        (scene / f"seq-02/frame-000999.{kind}").unlink()
    with pytest.raises(
        BadInput,
        match=r"seq-02: 999 frames, the official heads has 1000 .*unpack seq-02\.zip again",
    ):
        read_scene(tmp_path, "heads", every=1)
    (scene / "TrainSplit.txt").write_text("sequence1\n")
    (scene / "TestSplit.txt").write_text("sequence2\n")
    with pytest.raises(
        BadInput, match=r"TrainSplit\.txt: sequences \[1\], the official heads has \[2\]"
    ):
        read_scene(tmp_path, "heads", every=1)


# ---------------------------------------------------------------------------- the model


def test_the_gradient_of_the_nearest_rotation() -> None:
    """Against finite differences, mirrored matrices among them; finite where the singular values
    are equal."""
    matrix = torch.randn(
        12,
        3,
        3,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
        requires_grad=True,
    )
    assert (torch.det(matrix) < 0).any()
    assert (torch.det(matrix) > 0).any()
    assert torch.autograd.gradcheck(nearest_rotation, (matrix,), atol=1e-5)
    same = torch.eye(3, dtype=torch.float64)[None].requires_grad_()
    assert torch.autograd.gradcheck(nearest_rotation, (same,))
    flat = torch.zeros(1, 3, 3, requires_grad=True)
    nearest_rotation(flat).sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_rotations_are_exact_in_mixed_precision() -> None:
    matrix = torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest_rotation(matrix)
    assert found.dtype == torch.float32
    assert torch.equal(found, nearest_rotation(matrix))


def test_an_untrained_head_says_no_motion() -> None:
    made = RelativePose(make_model(), 8).eval()
    a, b = (
        torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    rotation, translation = made(a, b)
    np.testing.assert_allclose(
        rotation.detach().numpy(), np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-6
    )
    assert not translation.any()


# ---------------------------------------------------------------------------- neighbours


def test_neighbours_are_alike_and_not_of_the_same_moment(
    root: Path, relative_pose_task: RelativePoseTask
) -> None:
    scene = read_scene(root / "seven_scenes", "flat-0", every=1)
    task = relative_pose_task.model_copy(update={"gap": 3})
    near = neighbours(task, scene, make_model().encoder, folders_in(root))
    assert near.train.shape == (12, 3)
    assert near.test.shape == (5, 3)
    for place, row in enumerate(near.train):
        a = scene.train[place]
        for b in (scene.train[index] for index in row):
            assert b.sequence != a.sequence or abs(b.frame - a.frame) >= 3
    twins = SevenScenesScene(
        "flat-0", scene.train, scene.train[3:6]
    )  # a query that is a train frame finds itself
    assert neighbours(task, twins, make_model().encoder, folders_in(root)).test[:, 0].tolist() == [
        3,
        4,
        5,
    ]
    with pytest.raises(BadInput, match="fewer than 11 neighbours among 12 train frames"):
        neighbours(
            task.model_copy(update={"neighbours": 11}),
            scene,
            make_model().encoder,
            folders_in(root),
        )


def test_a_list_of_neighbours(
    root: Path, relative_pose_task: RelativePoseTask, model: Path
) -> None:
    scene = read_scene(root / "seven_scenes", "flat-0", every=1)
    names = [view.name for view in scene.train]
    lines = [
        f"{view.name}, {name}, 0.{9 - place}"
        for view in (*scene.train, *scene.test)
        for place, name in enumerate(names[4:10])
    ]
    (root / "pairs.txt").write_text("\n".join(["# query_image, map_image, score", *lines]))
    task = relative_pose_task.model_copy(update={"retrieval": Path("pairs.txt")})
    near = neighbours(task, scene, make_model().encoder, folders_in(root))
    assert near.test.tolist() == [[4, 5, 6]] * 5
    assert near.train[0].tolist() == [4, 5, 6]
    for place, row in enumerate(near.train.tolist()):
        a = scene.train[place]
        others = {index: scene.train[index] for index in range(4, 10)}
        far = [
            index
            for index, b in others.items()
            if b.sequence != a.sequence or abs(b.frame - a.frame) >= task.gap
        ]
        assert row == far[:3]
    assert near.train[4].tolist() != [5, 6, 7], "the list names those that `gap` leaves out first"
    assert check(task, root)["retrieval"]["frames"] == 17
    assert "of pairs.txt" in run_task(task, as_subject(None, model), folders_in(root)).protocol
    for content, match in (
        (lines[:-6], "0 neighbours of flat-0/seq-03/frame-000004"),
        (["a"], "line 1 is not"),
        (None, "no such list"),
    ):
        (root / "pairs.txt").unlink() if content is None else (root / "pairs.txt").write_text(
            "\n".join(content)
        )
        with pytest.raises(BadInput, match=match):
            neighbours(task, scene, make_model().encoder, folders_in(root))


# ---------------------------------------------------------------------------- the task


def test_end_to_end(root: Path, model: Path, relative_pose_task: RelativePoseTask) -> None:
    facts = check(relative_pose_task, root)
    assert facts["bytes"] == sum(
        path.stat().st_size
        for kind in ("color.png", "pose.txt")
        for path in root.rglob(f"*.{kind}")
    )
    assert facts["splits"] == facts["scenes"]["flat-0"] == {"train": 12, "test": 5}
    assert len(facts["digest"]) == 64
    for changes in ({"estimate": "nearest", "precision": "bf16"}, {"freeze": "encoder"}):
        task = relative_pose_task.model_copy(update=changes)
        result = run_task(task, as_subject(None, model), folders_in(root))
        assert result.name == "median_error_m"
        assert not result.higher_is_better
        assert result.test_size == 5
        assert len(result.pictures) == 2
        assert (
            result.value
            == result.metrics[task.estimate]["median_error_m"]
            == result.metrics["scenes"]["flat-0"][task.estimate]["median_error_m"]
        )
        assert 0 <= result.metrics["within_5cm_5deg"] <= 1
        assert result.metrics["median_error_deg"] >= 0
        assert result.metrics["standard_error"] >= 0
        assert np.isfinite(result.metrics["train_loss"])
    again = run_task(task, as_subject(None, model), folders_in(root))
    assert again.metrics == result.metrics


def test_before_training_a_query_stands_where_its_neighbour_does(
    root: Path, model: Path, relative_pose_task: RelativePoseTask
) -> None:
    task = relative_pose_task.model_copy(
        update={"lr": 0.0, "weight_decay": 0.0, "estimate": "nearest"}
    )
    metrics = run_task(task, as_subject(None, model), folders_in(root)).metrics
    assert metrics["nearest"] == pytest.approx(metrics["retrieval"], rel=1e-4)
    scene = read_scene(root / "seven_scenes", "flat-0", every=1)
    near = neighbours(task, scene, make_model().encoder, folders_in(root)).test[:, 0]
    away = [
        np.linalg.norm(view.pose[:3, 3] - scene.train[place].pose[:3, 3])
        for view, place in zip(scene.test, near, strict=True)
    ]
    assert metrics["retrieval"]["median_error_m"] == pytest.approx(np.median(away))


def test_training_finds_the_cameras(
    root: Path, model: Path, relative_pose_task: RelativePoseTask
) -> None:
    """Queries are train frames, their neighbours other frames: learnt by heart, nearer than the
    neighbours by half."""
    task = relative_pose_task.model_copy(
        update={"steps": 300, "lr": 3e-3, "batch": 8, "estimate": "nearest"}
    )
    scene = root / "seven_scenes/flat-0"
    names = [view.name for view in read_scene(root / "seven_scenes", "flat-0", every=1).train]
    shutil.copytree(scene / "seq-01", scene / "seq-03", dirs_exist_ok=True)
    (scene / "TestSplit.txt").write_text("sequence3\n")
    for extra in (scene / "seq-03").glob("frame-*"):
        if not (scene / "seq-01" / extra.name).exists():
            extra.unlink()
    lines = [
        f"{name} {other}"
        for name in [*names, *(name.replace("seq-01", "seq-03") for name in names[:6])]
        for other in names[6:]
    ]
    (root / "pairs.txt").write_text("\n".join(lines))
    metrics = run_task(
        task.model_copy(update={"retrieval": Path("pairs.txt")}),
        as_subject(None, model),
        folders_in(root),
    ).metrics
    assert metrics["median_error_m"] < 0.5 * metrics["retrieval"]["median_error_m"]
    assert metrics["median_error_deg"] < 0.5 * metrics["retrieval"]["median_error_deg"]


def test_the_stage(
    root: Path, repository: Path, model: Path, relative_pose_task: RelativePoseTask
) -> None:
    """mimic evaluate of a published croco run; a model that never saw a second view, or a lone
    encoder, is refused."""

    raw = resolve_params(repository / "params.yaml").checked()
    raw["evaluate"] = {"relative-pose": json.loads(relative_pose_task.model_dump_json())}
    raw["table"] = {**raw["table"], "tasks": ["relative-pose"]}
    raw["tracking"]["uri"] = None
    params = Params.model_validate(raw)
    shutil.copytree(model, root / "models/croco-1m")
    evaluate.main(params, root, "croco-1m", "relative-pose")
    found = json.loads((root / "metrics/croco-1m/relative-pose.json").read_text())
    assert found["name"] == "median_error_m"
    assert found["kind"] == "relative-pose"
    assert found["overrides"]["steps"] == 6
    assert len(json.loads((root / "samples/croco-1m/relative-pose/samples.json").read_text())) == 2
    publish_model(root / "models/mae-1m", "mae")
    with pytest.raises(BadInput, match="never saw a second view"):
        evaluate.main(params, root, "mae-1m", "relative-pose")
    (root / "models/croco-1m/model.safetensors").unlink()
    with pytest.raises(BadInput, match="holds an encoder only"):
        evaluate.main(params, root, "croco-1m", "relative-pose")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("augment", "flip"),
        ("blocks", (3,)),
        ("drop_path", 0.1),
        ("scenes", ()),
        ("scenes", ("a", "a")),
    ],
)
def test_what_cannot_be_done_is_refused(
    relative_pose_task: RelativePoseTask, field: str, value: object
) -> None:
    with pytest.raises(ValidationError, match=field):
        RelativePoseTask.model_validate({**relative_pose_task.model_dump(), field: value})


# ---------------------------------------------------------------------------- bad data


def test_bad_poses(tmp_path: Path) -> None:
    def refused(content: str | bytes | None, match: str) -> None:
        path = tmp_path / "frame-000000.pose.txt"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(BadInput, match=match) as error:
            read_pose(path)
        assert "\n" not in str(error.value)
        assert path.name in str(error.value)

    def text(matrix: np.ndarray) -> str:
        return "\n".join(" ".join(map(str, row)) for row in matrix)

    pose = np.eye(4)
    pose[:3, 3] = (0.3, -0.1, 1.2)
    refused(None, "no such file")
    refused(text(pose)[:40], "numbers, a pose has 16")
    refused(b"\xff\xd8\xff\xe0" * 9, "not numbers")
    refused("a b c", "not numbers")
    refused(text(pose * [[1], [1], [1], [1]]).replace("1.2", "nan"), "not finite")
    refused(text(pose.T), "transposed")
    refused(text(pose * np.diag([2, 1, 1, 1]) + pose * (1 - np.eye(4))), "no rotation")
    refused(text(np.diag([1.0, 1, -1, 1])), "no rotation")
    refused(
        text(pose * np.array([1, 1, 1, 1000.0]) * [[1], [1], [1], [1e-3]]),
        "1200 m from the origin; .*millimetres",
    )


def test_bad_scenes(root: Path, relative_pose_task: RelativePoseTask, model: Path) -> None:
    scene = root / "seven_scenes/flat-0"

    def refused(
        path: Path,
        content: bytes | None,
        match: str,
        look: Callable[[], object] = lambda: check(relative_pose_task, root),
    ) -> None:
        kept = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(BadInput, match=match) as error:
            look()
        assert "\n" not in str(error.value)
        path.write_bytes(kept)

    image = scene / "seq-01/frame-000001.color.png"
    refused(image, None, r"seq-01: frame-000001 has its pose but no image \(1 such\)")
    refused(image, image.read_bytes()[:99], "frame-000001.color.png: damaged")
    refused(
        image,
        cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes(),
        "9 x 9, others are of another size",
    )
    refused(scene / "seq-01/frame-000001.pose.txt", None, "has its image but no pose")
    refused(scene / "TrainSplit.txt", None, "no such list")
    refused(scene / "TrainSplit.txt", b"seq-01\n", "not lines such as sequence1")
    refused(scene / "TrainSplit.txt", b"", "not lines such as sequence1")
    refused(scene / "TrainSplit.txt", b"sequence9\n", "seq-09: no frames; unpack seq-09.zip")
    refused(
        scene / "TestSplit.txt",
        b"sequence1\n",
        "sequence1 is in TrainSplit.txt and in TestSplit.txt",
    )
    odd = relative_pose_task.model_copy(update={"width_px": 50})
    refused(
        image,
        image.read_bytes(),
        "do not divide",
        lambda: run_task(odd, as_subject(None, model), folders_in(root)),
    )


def test_pictures_show_where_the_cameras_are(
    root: Path, model: Path, relative_pose_task: RelativePoseTask
) -> None:
    result = run_task(relative_pose_task, as_subject(None, model), folders_in(root))
    for picture in result.pictures:
        assert picture.image.shape[0] == 192
        assert picture.image.dtype == np.uint8
        assert "off by" in picture.caption
        plan = picture.image[:, -192:]
        assert ((plan == (0, 150, 0)).all(axis=-1)).any()
        assert ((plan == (210, 0, 0)).all(axis=-1)).any()
