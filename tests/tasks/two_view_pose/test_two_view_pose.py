"""Two-view pose from frozen patches: the area under a curve written down, motions that are known,
an encoder that sees where it is and one that sees nothing."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mimic.config import SevenScenesSet
from mimic.errors import BadInput
from mimic.geometry import covisibility
from mimic.models.encoder import denormalise
from mimic.synthetic.toy_datasets import seven_scenes
from mimic.tasks import run_task
from mimic.tasks.checks import check
from mimic.tasks.two_view_pose.config import TwoViewPoseTask, read_pairs
from mimic.tasks.two_view_pose.measure import (
    estimate,
    matched,
    off_line_px,
    pose_auc,
    pose_error_deg,
    tops,
)
from tests.support.miniatures import FLAT, as_subject, folders_in, make_encoder

WIDTH, HEIGHT = 320, 240
K = covisibility.intrinsics_from_fov(WIDTH, HEIGHT, seven_scenes.HFOV_DEG)


def motion(rotation_deg: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3] = Rotation.from_rotvec(np.radians(rotation_deg)).as_matrix()
    found[:3, 3] = translation
    return found


# ---------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    ("errors", "threshold", "area"),
    [
        ([0.0, 0.0, 0.0], 5, 1.0),
        ([np.inf, np.inf], 5, 0.0),
        ([6.0], 5, 0.0),
        # (0, 0), (2, 1/2), flat up to 10: 2 * 1/4 + 8 * 1/2
        ([2.0, np.inf], 10, (0.5 + 4.0) / 10),
        # (0, 0), (1, 1/4), (4, 1/2), (6, 3/4), flat up to 10
        ([4.0, 1.0, 6.0, 15.0], 10, (0.125 + 3 * 0.375 + 2 * 0.625 + 4 * 0.75) / 10),
        ([5.0], 5, 0.0),  # an error at the threshold is not below it
    ],
)
def test_the_area_under_the_curve(errors: list[float], threshold: float, area: float) -> None:
    assert pose_auc(np.array(errors), threshold) == pytest.approx(area)


def test_the_error_is_the_larger_angle_and_knows_no_sign_of_translation() -> None:
    truth = motion((0, 10, 0), (1, 0, 0))
    assert pose_error_deg(motion((0, 10, 0), (-3, 0, 0)), truth) == pytest.approx(0, abs=1e-5)
    assert pose_error_deg(motion((0, 13, 0), (1, 0, 0)), truth) == pytest.approx(3)
    turned = (np.cos(np.radians(40)), 0, np.sin(np.radians(40)))
    assert pose_error_deg(motion((0, 13, 0), turned), truth) == pytest.approx(40)
    assert pose_error_deg(motion((0, 10, 0), (0, 0, 1)), truth) == pytest.approx(90)
    assert pose_error_deg(motion((4, 0, 0), (0, 0, 1)), motion((0, 0, 0), (0, 0, 0))) == (
        pytest.approx(4)
    )


def test_perfect_matches_give_the_motion_whatever_the_cameras() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-3, -2, 3], [3, 2, 9], (200, 3))
    b_from_a = motion((5, -12, 3), (0.5, 0.1, -0.3))
    other = np.array([[700.0, 0, 300], [0, 650, 200], [0, 0, 1]])
    a, b = points @ K.T, (points @ b_from_a[:3, :3].T + b_from_a[:3, 3]) @ other.T
    a, b = a[:, :2] / a[:, 2:], b[:, :2] / b[:, 2:]
    assert off_line_px(a, b, K, other, b_from_a).max() < 1e-6
    b[:60] = rng.uniform(0, 600, (60, 2))  # wrong ones
    found = estimate(a, b, K, other, 1.0)
    assert found is not None
    assert pose_error_deg(found, b_from_a) < 0.1
    again = estimate(a, b, K, other, 1.0)
    assert again is not None
    assert np.array_equal(found, again)


def test_fewer_than_five_matches_are_no_estimate() -> None:
    few = np.random.default_rng(0).uniform(0, 100, (4, 2))
    assert estimate(few, few, K, K, 1.0) is None


def test_matches_are_mutual_and_lie_at_patch_centres() -> None:
    a = torch.eye(6).reshape(2, 3, 6)
    b = a[:, [1, 2, 0]].clone()  # columns moved by one
    b[1, 2] = b[1, 1]  # two patches of b say the same, and one of a's has none in b
    in_a, in_b = matched(a, b, 8, refine=False)
    found = {tuple(p): tuple(q) for p, q in zip(in_a.tolist(), in_b.tolist(), strict=True)}
    assert found == {
        (3.5, 3.5): (19.5, 3.5),
        (11.5, 3.5): (3.5, 3.5),
        (19.5, 3.5): (11.5, 3.5),
        (11.5, 11.5): (3.5, 11.5),
        (19.5, 11.5): (11.5, 11.5),
    }


def test_the_top_of_a_parabola_is_found_between_patches() -> None:
    y, x = np.mgrid[0:5, 0:6].astype(float)
    likeness = 1 - 0.1 * (x - 2.3) ** 2 - 0.2 * (y - 1.8) ** 2
    assert tops(likeness[None], np.array([2]), np.array([2]))[0] == pytest.approx([0.3, -0.2])
    border = 1 - 0.1 * (x - 0.2) ** 2 - 0.2 * (y - 1.8) ** 2
    assert tops(border[None], np.array([2]), np.array([0]))[0] == pytest.approx([0, -0.2])


# ---------------------------------------------------------------------------- rooms


ROOM_M = np.array([3.0, 1.5, 4.0])  # half its sides


def places(pose: np.ndarray) -> np.ndarray:
    """Where on the walls of a room each pixel lies, as uint8[h, w, 3]."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(K).T @ pose[:3, :3].T
    reach = ((np.sign(rays) * ROOM_M - pose[:3, 3]) / rays).min(axis=-1, keepdims=True)
    on_wall = (pose[:3, 3] + rays * reach) / ROOM_M
    return np.clip(np.round((on_wall + 1) / 2 * 255), 0, 255).astype(np.uint8)


def written(path: Path, pairs: list[tuple[tuple[str, str], np.ndarray]]) -> None:
    """A list of pairs in SuperGlue's form."""
    lines = ["# rendered"]
    for names, b_from_a in pairs:
        numbers = [*K.ravel(), *K.ravel(), *b_from_a.ravel()]
        lines.append(" ".join([*names, "0", "0", *(f"{value:.8g}" for value in numbers)]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four views of a room, that show where in it each pixel lies, and all pairs of them."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "places").mkdir()
    poses = {
        "a.png": motion((0, 0, 0), (0, 0, -2)),
        "b.png": motion((3, -20, 2), (1.2, 0.2, -1.8)),
        "c.png": motion((-5, 18, 0), (-1.0, -0.3, -1.0)),
        "d.png": motion((0, -9, 10), (0.9, 0.5, -3.0)),
    }
    for name, pose in poses.items():
        cv2.imwrite(str(root / "places" / name), places(pose)[:, :, ::-1])
    pairs = [
        ((a, b), np.linalg.inv(poses[b]) @ poses[a])
        for a, b in itertools.combinations(sorted(poses), 2)
    ]
    written(root / "pairs.txt", pairs)
    return root


@pytest.fixture
def task() -> TwoViewPoseTask:
    return TwoViewPoseTask(
        task="two-view-pose",
        data=Path("places"),
        pairs=Path("pairs.txt"),
        tracked_by=Path("pairs.txt"),
        size_px=WIDTH,
        block=None,
        refine=True,
        ransac_px=2.0,
        samples=2,
        seed=0,
    )


class Oracle(torch.nn.Module):
    """Features that say where in the room a patch lies."""

    patch_px, width, depth, heads, size_px, class_token = 4, 192, 2, 1, (HEIGHT, WIDTH), False

    def intermediates(self, images: torch.Tensor, blocks: object) -> list[torch.Tensor]:
        places = torch.nn.functional.avg_pool2d(denormalise(images).float().movedim(-1, 1), 4)
        waves = torch.linspace(0.02, 0.5, 24)[:, None, None]
        angles = places[:, :, None] * waves
        return [torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1, 2)]


def test_who_knows_the_places_finds_the_motion_and_chance_does_not(
    workspace: Path, task: TwoViewPoseTask
) -> None:
    result = run_task(task, as_subject(Oracle()), folders_in(workspace))
    assert result.test_size == 6
    assert result.metrics["failed"] == 0
    assert result.metrics["auc_5"] > 0.5
    assert result.value > 0.8
    assert result.metrics["precision"] > 0.8
    counts = [part["pairs"] for part in result.metrics["by_rotation_deg"].values()]
    assert sum(counts) == 6
    assert len(result.pictures) == 2
    assert result.pictures[0].image.shape == (HEIGHT, 2 * WIDTH, 3)
    random = run_task(
        task.model_copy(update={"data": Path("noise")}),
        as_subject(make_encoder()),
        folders_in(_noise(workspace)),
    )
    assert random.metrics["auc_5"] < 0.1
    assert random.value < 0.2


def _noise(workspace: Path) -> Path:
    """Images without anything in common."""
    (workspace / "noise").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for path in (workspace / "places").iterdir():
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        cv2.imwrite(str(workspace / "noise" / path.name), image)
    return workspace


def test_true_matches_of_rendered_frames_give_true_poses(tmp_path: Path) -> None:
    """No encoder: pixels of one frame of a generated flat carried to another by depth and pose."""
    section = SevenScenesSet(
        first_seed=580, flat=FLAT, scenes=1, train=6, test=1, width_px=WIDTH, height_px=HEIGHT
    )
    seven_scenes.write(section, tmp_path)
    frames = sorted(tmp_path.rglob("*.pose.txt"))[:5]
    poses = {path: np.loadtxt(path) for path in frames}
    y, x = (axis.ravel() for axis in np.mgrid[4:HEIGHT:8, 4:WIDTH:8])
    in_a = np.column_stack([x, y]).astype(float)
    errors = []
    for a, b in itertools.combinations(frames, 2):
        depth = cv2.imread(str(a).replace("pose.txt", "depth.png"), cv2.IMREAD_UNCHANGED)
        b_from_a = np.linalg.inv(poses[b]) @ poses[a]
        in_b, _ = covisibility.warp(in_a, depth[y, x] / 1e3, K, K, b_from_a)
        seen = np.isfinite(in_b).all(axis=1)
        found = estimate(in_a[seen], in_b[seen], K, K, 1.0)
        errors.append(np.inf if found is None else pose_error_deg(found, b_from_a))
    assert pose_auc(np.array(errors), 5) > 0.95


def test_an_image_may_have_any_size(workspace: Path, task: TwoViewPoseTask) -> None:
    """K follows an image that is stored at twice the size, cut to another shape."""
    root, pairs = workspace, read_pairs(workspace / "pairs.txt")[:4]
    (root / "large").mkdir(exist_ok=True)
    lines = []
    for pair in pairs:
        for name in pair.names:
            image = cv2.imread(str(root / "places" / name))
            large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(root / "large" / name), large[40:])
        doubled = covisibility.resize_intrinsics(K, 2.0, 2.0)
        doubled[1, 2] -= 40
        turn, move = pair.b_from_a[:3, :3], pair.b_from_a[:3, 3]
        numbers = np.concatenate([doubled.ravel(), doubled.ravel(), turn.ravel(), move])
        lines.append(" ".join([*pair.names, *map(str, numbers)]))
    (root / "large.txt").write_text("\n".join(lines))
    stored = task.model_copy(update={"data": Path("large"), "pairs": Path("large.txt")})
    result = run_task(stored, as_subject(Oracle()), folders_in(root))
    assert result.metrics["auc_20"] > 0.8


# ---------------------------------------------------------------------------- lists


def test_the_forms_of_a_list_say_the_same(workspace: Path, tmp_path: Path) -> None:
    given = read_pairs(workspace / "pairs.txt")
    cameras = np.concatenate([K.ravel(), K.ravel()])
    for split in (False, True):
        lines = []
        for pair in given:
            turn, move = pair.b_from_a[:3, :3], pair.b_from_a[:3, 3]
            pose = np.concatenate([turn.ravel(), move]) if split else pair.b_from_a.ravel()
            lines.append(" ".join([*pair.names, *map(str, [*cameras, *pose])]))
        (tmp_path / "pairs_calibrated.txt").write_text("\n".join(lines))
        again = read_pairs(tmp_path / "pairs_calibrated.txt")
        for one, other in zip(given, again, strict=True):
            assert one.names == other.names
            assert np.allclose(one.b_from_a, other.b_from_a)
            assert np.allclose(one.intrinsics, other.intrinsics, rtol=1e-6)


def test_prepare_goes_through_list_and_images(workspace: Path, task: TwoViewPoseTask) -> None:
    found = check(task, workspace)
    assert found["splits"] == {"test": 6}
    assert found["images"] == 4
    assert 0 < found["found"]["test"]["smallest"] < found["found"]["test"]["largest"] < 90


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "holds no pair"),
        ("a.png b.png 1 2 3", "line 1 has 5 fields"),
        ("a.png b.png 1 0 " + "1 " * 34, "rotated images are not read"),
        ("a.png b.png " + "x " * 30, "not all fields"),
        ("a.png b.png " + "1 " * 30, "no rotation and translation"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_in_one_line(
    line: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "pairs.txt").write_text(line)
    with pytest.raises(BadInput, match=said) as caught:
        read_pairs(tmp_path / "pairs.txt")
    assert "\n" not in str(caught.value)


def test_a_corrected_camera_is_other_data(workspace: Path, task: TwoViewPoseTask) -> None:
    """An evaluation that is there is not of it."""
    before = check(task, workspace)
    path = workspace / task.pairs
    text = path.read_text()
    path.write_text(re.sub(r"(\d\.\d)", r"\g<1>1", text, count=1))
    try:
        after = check(task, workspace)
    finally:
        path.write_text(text)
    assert before["found"] == after["found"]
    assert before["digest"] != after["digest"]


def test_an_image_that_is_missing_is_named(workspace: Path, task: TwoViewPoseTask) -> None:
    lost = task.model_copy(update={"data": Path("nowhere")})
    with pytest.raises(BadInput, match=r"a\.png: no such file"):
        check(lost, workspace)
