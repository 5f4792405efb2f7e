"""Flow and stereo: official files are read as they are, the generated truth explains the views,
training ends in the field's errors."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mimic.config import Flat, MotionSet
from mimic.errors import BadInput
from mimic.geometry.motion import error_sums, errors, pooled_error
from mimic.models.two_view import laplace_flow, laplace_stereo, nearest_rotation
from mimic.synthetic import toy_datasets
from mimic.tasks import TASKS, run_task
from mimic.tasks.checks import check
from mimic.tasks.engine.train_loop import croco_rate
from mimic.tasks.flow_stereo import finetune
from mimic.tasks.flow_stereo.augment import random_crop, resized
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.flow_stereo.files import Motion, MotionPair, read_kitti_flow
from mimic.tasks.flow_stereo.files import read as read_pair
from mimic.tasks.flow_stereo.finetune import colorize
from mimic.tasks.flow_stereo.sets import list_pairs
from tests.support.miniatures import as_subject, folders_in
from tests.tasks.correspondence.test_cross_attention import publish_model


def read(pair: MotionPair) -> Motion:
    return read_pair(pair, masks=True)


FLAT = Flat(width_m=8.0, depth_m=6.5, height_m=2.5, texture_px=128)
SET = MotionSet(first_seed=540, flat=FLAT, train=4, test=3, width_px=64, height_px=48)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("motion")
    for kind in ("flow", "stereo"):
        (root / kind).mkdir()
        toy_datasets.write(SET, root / kind)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_model(tmp_path_factory.mktemp("models") / "croco")


# ---------------------------------------------------------------------------- truth


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("flow", "sintel"), ("flow", "kitti"), ("stereo", "middlebury"), ("stereo", "kitti")],
)
def test_the_truth_explains_the_views(made: Path, kind: str, layout: str) -> None:
    """View b fetched along the motion is view a, where nothing hides; much more so than view b in
    place."""
    moved, still = [], []
    for pair in list_pairs(kind, layout, made / kind / layout):
        if "final" in pair.labels:  # the generated set has the clean pass only
            continue
        item = read(pair)
        ys, xs = np.mgrid[:48, :64].astype(np.float32)
        step = (
            item.motion
            if kind == "flow"
            else np.concatenate([-item.motion, np.zeros_like(item.motion)], axis=2)
        )
        place = np.stack([xs, ys], axis=-1) + step
        seen = (
            item.valid & (place >= 0).all(axis=-1) & (place[..., 0] <= 63) & (place[..., 1] <= 47)
        )
        fetched = cv2.remap(item.b, place.astype(np.float32), None, cv2.INTER_LINEAR)
        moved.append(np.abs(fetched.astype(int) - item.a)[seen].mean())
        still.append(np.abs(item.b.astype(int) - item.a)[seen].mean())
    assert np.median(moved) < 0.5 * np.median(still)


def official_kitti(real_data: Path, folder: Path) -> Path:
    for kind in ("image_2", "flow_occ", "flow_noc"):
        (folder / "training" / kind).mkdir(parents=True)
    for frame in (10, 11):
        shutil.copy(
            real_data / f"kitti_flow/kitti_000010_{frame}.png",
            folder / f"training/image_2/000010_{frame}.png",
        )
    shutil.copy(
        real_data / "kitti_flow/kitti_occ_000010_10.png", folder / "training/flow_occ/000010_10.png"
    )
    return folder


def official_middlebury(real_data: Path, folder: Path) -> Path:
    source = real_data / "middlebury_flow"
    for kind in ("other-data", "other-gt-flow"):
        (folder / kind / "RubberWhale").mkdir(parents=True)
    for index, frame in ((1, 10), (2, 11)):
        shutil.copy(
            source / f"RubberWhale{index}.png", folder / f"other-data/RubberWhale/frame{frame}.png"
        )
    shutil.copy(source / "RubberWhale.flo", folder / "other-gt-flow/RubberWhale/flow10.flo")
    return folder


def test_real_samples(real_data: Path, tmp_path: Path) -> None:
    kitti = read(list_pairs("flow", "kitti", official_kitti(real_data, tmp_path / "kitti"))[0])
    assert kitti.motion.shape == (*kitti.a.shape[:2], 2)
    assert 0.1 < kitti.valid.mean() < 0.6
    truth, valid = read_kitti_flow(real_data / "kitti_flow/kitti_noc_000010_10.png")
    assert valid.sum() < kitti.valid.sum()
    assert (kitti.motion[valid] == truth[valid]).all()
    whale = read(
        list_pairs("flow", "middlebury", official_middlebury(real_data, tmp_path / "middlebury"))[0]
    )
    assert whale.motion.shape == (388, 584, 2)
    assert whale.valid.mean() > 0.95
    assert np.abs(whale.motion[whale.valid]).max() < 10
    for scene, largest in (("teddy", 64), ("tsukuba", 16)):
        pairs = list_pairs("stereo", "middlebury_2003", real_data / "middlebury_stereo")
        item = read(next(pair for pair in pairs if scene in pair.labels))
        assert 4 < np.median(item.motion[item.valid]) < largest
        ys, xs = np.mgrid[: item.valid.shape[0], : item.valid.shape[1]].astype(np.float32)
        fetched = cv2.remap(item.b, xs - item.motion[..., 0], ys, cv2.INTER_LINEAR)
        seen = item.valid & (xs - item.motion[..., 0] >= 0)
        assert np.median(np.abs(fetched.astype(int) - item.a)[seen]) < 6


def test_kitti_units(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 3), np.uint16)
    values[1, 2] = (1, 2**15 - 64, 2**15 + 128)  # BGR: valid, y, x
    cv2.imwrite(str(tmp_path / "x.png"), values)
    truth, valid = read_kitti_flow(tmp_path / "x.png")
    assert valid.sum() == 1
    assert truth[1, 2].tolist() == [2.0, -1.0]


# ---------------------------------------------------------------------------- numbers


def test_errors_by_hand() -> None:
    truth = np.zeros((1, 5, 2))
    truth[0, :, 0] = (0, 20, 100, 100, 7)
    found = truth.copy()
    found[0, :, 1] = (4, 2, 4, 6, 99)  # wrong by 4; 2; 4 of 100 (within 5 %); 6 of 100; not valid
    sums = error_sums(found, truth, np.array([[True, True, True, True, False]]))
    metrics = errors(sums[None], "Fl_all")
    assert metrics["EPE_px"] == 4
    assert metrics["Fl_all"] == 0.5
    assert metrics["bad1"] == 1
    assert metrics["bad3"] == 0.75
    assert metrics["bad5"] == 0.25
    assert metrics["EPE_0_10_px"] == 4
    assert metrics["EPE_10_40_px"] == 2
    assert metrics["EPE_40_up_px"] == 5
    assert pooled_error(sums[None]) is None
    assert pooled_error(np.stack([sums, sums])) == 0


def test_losses_by_hand() -> None:
    truth, valid = torch.zeros(1, 2, 1, 2), torch.tensor([[[True, False]]])
    output = torch.tensor([[[[3.0, 9]], [[1.0, 9]], [[0.0, 0]]]])  # c = 0: s = 2.125
    assert laplace_flow(output, truth, valid).item() == pytest.approx(4 / 2.125 + np.log(2.125))
    assert laplace_stereo(output[:, [0, 2]], truth[:, :1], valid).item() == pytest.approx(3.0)


def test_rotations_are_the_nearest() -> None:
    from scipy.spatial.transform import Rotation

    matrix = torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(0))
    found = nearest_rotation(matrix).numpy()
    np.testing.assert_allclose(
        found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-5)
    best = [
        Rotation.align_vectors(part, np.eye(3))[0].as_matrix()
        for part in matrix.numpy().transpose(0, 2, 1)
    ]
    np.testing.assert_allclose(found, best, atol=1e-4)


def test_published_learning_rates(flow_task: FlowTask) -> None:
    """By the fraction of an epoch, as CroCo sets it before every batch: 240 epochs of 3750 batches,
    one of warm-up."""
    published = TASKS["flow"].presets["published"]
    task = flow_task.model_copy(
        update={name: published[name] for name in ("steps", "lr", "warmup")}
    )
    for step in (0, 1, 1875, 3749, 3750, 3751, 451875, 899999):
        epoch = step / 3750
        cosine = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / (240 - 1)))
        expected = 2e-5 * (epoch if epoch < 1 else cosine)
        assert croco_rate(step, task) == pytest.approx(expected, rel=1e-9, abs=1e-18)


def test_crops_keep_the_truth(made: Path, flow_task: FlowTask, stereo_task: StereoTask) -> None:
    """A pattern that moves by its own coordinates still does after scaling and mirroring."""
    ys, xs = np.mgrid[:48, :64].astype(np.float32)
    a = np.stack([xs * 3, ys * 3, np.zeros_like(xs)], axis=-1).astype(np.uint8)
    item = Motion(a, a, np.stack([xs / 8, -ys / 8], axis=-1), np.ones((48, 64), bool))
    for seed in range(20):
        for augment in ("none", "flip"):
            part = random_crop(
                flow_task.model_copy(update={"augment": augment}), item, np.random.default_rng(seed)
            )
            assert part.a.shape == (32, 48, 3)
            np.testing.assert_allclose(np.abs(part.motion[..., 0]) * 24, part.a[..., 0], atol=1)
            right, down = (
                np.sign(np.diff(part.a[0, :, 0].astype(int)))[0],
                np.sign(np.diff(part.a[:, 0, 1].astype(int)))[0],
            )
            assert (np.sign(part.motion[..., 0]) * right >= 0).all()
            assert (np.sign(part.motion[..., 1]) * down <= 0).all()
    half = resized(item, (24, 32))
    np.testing.assert_allclose(half.motion[3, 5], item.motion[6, 10] / 2)
    assert random_crop(
        stereo_task.model_copy(update={"augment": "peer"}), read_any(made), np.random.default_rng(0)
    ).motion.shape == (32, 48, 1)


def read_any(made: Path) -> Motion:
    return read(list_pairs("stereo", "middlebury", made / "stereo/middlebury")[0])


# ---------------------------------------------------------------------------- the tasks


@pytest.mark.parametrize("kind", ["flow", "stereo"])
def test_end_to_end(root: Path, model: Path, kind: str, request: pytest.FixtureRequest) -> None:
    task = request.getfixturevalue(f"{kind}_task")
    facts = check(task, root)
    assert facts["splits"] == {"train": 4, "test": 3}
    assert len(facts["digest"]) == 64
    for changes in ({}, {"augment": "peer", "freeze": "encoder"}):
        result = run_task(
            task.model_copy(update=changes), as_subject(None, model), folders_in(root)
        )
        assert result.name == "EPE_px"
        assert np.isfinite(result.value)
        assert not result.higher_is_better
        assert result.test_size == 3
        assert ("Fl_all" if kind == "flow" else "D1") in result.metrics
        assert len(result.pictures) == 2
        assert result.metrics["standard_error"] > 0
    again = run_task(task.model_copy(update=changes), as_subject(None, model), folders_in(root))
    assert again.metrics == result.metrics


def test_training_brings_the_error_down(root: Path, model: Path, stereo_task: StereoTask) -> None:
    """To well below half of what an untrained head answers, zero."""
    task = stereo_task.model_copy(
        update={"test": stereo_task.train, "steps": 40, "lr": 1e-3, "augment": "none"}
    )
    result = run_task(task, as_subject(None, model), folders_in(root))
    items = [read(pair) for pair in list_pairs("stereo", "middlebury", root / "stereo/middlebury")]
    assert result.value < 0.5 * np.concatenate([item.motion[item.valid] for item in items]).mean()


def test_tiles_are_fused_without_a_seam(model: Path, flow_task: FlowTask) -> None:
    """A model that answers the same everywhere is not changed by tiling; a small image is enlarged
    and its motion brought back."""
    task = flow_task
    built = finetune.build(task, as_subject(None, model))
    with torch.no_grad():
        last: Any = built.head.output[2]
        for parameter in last.parameters():
            parameter.zero_()
        last.bias.copy_(torch.tensor([3.0, -2.0, 0.5]))
    image = np.random.default_rng(0).integers(0, 255, (71, 93, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        finetune.predict(task, built, image, image),
        np.broadcast_to([3, -2], (71, 93, 2)),
        atol=1e-4,
    )
    small = finetune.predict(task, built, image[:16, :24], image[:16, :24])
    np.testing.assert_allclose(small, np.broadcast_to([1.5, -1], (16, 24, 2)), atol=1e-4)
    assert colorize(small, 2.0).shape == (16, 24, 3)


def test_frozen_means_frozen(model: Path, flow_task: FlowTask) -> None:
    built = finetune.build(
        flow_task.model_copy(update={"freeze": "encoder"}), as_subject(None, model)
    )
    assert {
        name.split(".")[0]
        for name, parameter in built.named_parameters()
        if parameter.requires_grad
    } == {"head"}
    built = finetune.build(
        flow_task.model_copy(update={"freeze": "blocks"}), as_subject(None, model)
    )
    names = [name for name, parameter in built.named_parameters() if parameter.requires_grad]
    assert "encoder.patch_embed.proj.weight" in names
    assert not any(".blocks." in name for name in names)


# ---------------------------------------------------------------------------- bad data


def test_bad_data(root: Path, flow_task: FlowTask, stereo_task: StereoTask, model: Path) -> None:
    def refused(task: FlowTask | StereoTask, path: Path, content: bytes | None, match: str) -> None:
        kept = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(BadInput, match=match) as error:
            check(task, root)
        assert "\n" not in str(error.value)
        path.write_bytes(kept)

    flo = root / "flow/sintel/training/flow/room_000/frame_0001.flo"
    refused(flow_task, flo, flo.read_bytes()[:500], "truncated")
    refused(flow_task, flo, b"x" * 500, "not a .flo file")
    refused(
        flow_task,
        flo,
        flo.read_bytes()[:12] + np.full(48 * 64 * 2, 5000, "<f4").tobytes(),
        "is it in pixels",
    )
    refused(
        flow_task, root / "flow/sintel/training/clean/room_000/frame_0002.png", None, "no such file"
    )
    truth = root / "flow/kitti/training/flow_occ/000000_10.png"
    refused(
        flow_task,
        truth,
        (root / "flow/kitti/training/image_2/000000_10.png").read_bytes(),
        "three channels of 16 bits",
    )
    refused(flow_task, truth, truth.read_bytes()[:60], "damaged")
    small = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    refused(
        flow_task,
        root / "flow/kitti/training/image_2/000000_11.png",
        small,
        "9 x 9, 000000_10.png is 64 x 48",
    )
    pfm = root / "stereo/middlebury/room_000/disp0.pfm"
    refused(stereo_task, pfm, pfm.read_bytes()[:99], "truncated")
    refused(stereo_task, pfm, b"P6\n3 3\n255\n", "not a .pfm file")
    refused(
        stereo_task,
        root / "stereo/kitti/training/disp_occ_0/000000_10.png",
        truth.read_bytes(),
        "is it the disparity",
    )
    with pytest.raises(BadInput, match="no pair in the layout kitti of flow"):
        list_pairs("flow", "kitti", root / "stereo/middlebury")
    with pytest.raises(BadInput, match="no scene is left"):
        check(
            flow_task.model_copy(
                update={"train": (flow_task.train[0].model_copy(update={"only": ("nowhere",)}),)}
            ),
            root,
        )
    with pytest.raises(BadInput, match="do not divide"):
        finetune.build(flow_task.model_copy(update={"width_px": 50}), as_subject(None, model))
