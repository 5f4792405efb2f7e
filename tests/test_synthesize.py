from __future__ import annotations

import re
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from mimic import synthesize
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.params import Params, load_params, resolve_params
from mimic.scenes.mesh import CLASSES
from mimic.synthetic import labelled, video_writer

FLAT = {"width_m": 8.0, "depth_m": 7.0, "height_m": 2.5, "texture_px": 128}
SMALL = {
    "rooms": {"scenes": 2, "first_seed": 0, "flat": FLAT},
    "phone": {
        "videos": 2,
        "first_seed": 100,
        "flat": FLAT,
        "seconds": 1.2,
        "fps": 5,
        "width_px": 48,
        "height_px": 64,
        "speed_m_s": 0.4,
    },
    "frames": {
        "folders": 1,
        "first_seed": 200,
        "flat": FLAT,
        "frames": 40,
        "width_px": 64,
        "height_px": 48,
        "step_m": 0.06,
    },
    "nyu": {
        "scenes": 3,
        "first_seed": 300,
        "flat": FLAT,
        "train": 4,
        "test": 3,
        "width_px": 64,
        "height_px": 48,
    },
    "tasks": {
        "ade20k": {
            "first_seed": 500,
            "flat": FLAT,
            "train": 2,
            "test": 1,
            "width_px": 64,
            "height_px": 48,
        },
        "flow": {
            "first_seed": 540,
            "flat": FLAT,
            "train": 2,
            "test": 1,
            "width_px": 64,
            "height_px": 48,
        },
        "stereo": {
            "first_seed": 560,
            "flat": FLAT,
            "train": 2,
            "test": 1,
            "width_px": 64,
            "height_px": 48,
        },
        "seven_scenes": {
            "first_seed": 580,
            "flat": FLAT,
            "scenes": 1,
            "train": 2,
            "test": 1,
            "width_px": 64,
            "height_px": 48,
        },
        "coco": {
            "first_seed": 520,
            "train": 2,
            "test": 2,
            "people": 2,
            "width_px": 64,
            "height_px": 48,
        },
        "imagenet": {"first_seed": 540, "train_per_class": 2, "test_per_class": 1, "size_px": 32},
        "taskonomy": {
            "first_seed": 560,
            "flat": FLAT,
            "train": 2,
            "validation": 1,
            "test": 1,
            "width_px": 32,
            "height_px": 32,
        },
    },
}


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    raw = resolve_params(repository / "params.yaml").checked()
    return Params.model_validate(
        {**raw, "synthesize": SMALL, "cluster": {**raw["cluster"], "workers": 2}}
    )


@pytest.fixture(scope="module")
def workspace(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    for kind in SMALL:
        synthesize.main(params, root, kind)
    return root


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["rooms", "nyu"])
def test_the_same_parameters_give_the_same_files(
    params: Params, workspace: Path, tmp_path: Path, kind: str
) -> None:
    synthesize.main(params, tmp_path, kind)
    again, before = files(tmp_path / "data/raw" / kind), files(workspace / "data/raw" / kind)
    assert again == before
    assert "LICENCE.txt" in before


def test_rooms_are_scenes_with_their_axes_beside_them(workspace: Path) -> None:
    names = sorted(files(workspace / "data/raw/rooms"))
    assert names == [
        ".mimic.json",
        "LICENCE.txt",
        "room-000.glb",
        "room-000.stage_config.json",
        "room-001.glb",
        "room-001.stage_config.json",
    ]


def test_videos_are_stored_sideways_and_turn_upright(workspace: Path) -> None:
    for name in ("walk-000.mp4", "walk-001.mov"):
        path = workspace / "data/raw/phone" / name
        capture = cv2.VideoCapture(str(path))
        read, upright = capture.read()
        assert read
        assert upright.shape == (64, 48, 3)
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        assert len(frames) == 6
        assert (frames[0].width, frames[0].height, frames[0].rotation) == (
            64,
            48,
            -90,
        )
        turned = np.rot90(frames[0].to_ndarray(format="rgb24"), frames[0].rotation // 90)
        assert np.abs(turned.astype(int) - upright[..., ::-1]).mean() < 6


def test_upright_means_upright(tmp_path: Path) -> None:
    """A picture whose top is red and whose left is dark comes back so."""
    frame = np.full((64, 48, 3), 200, np.uint8)
    frame[:20] = (250, 0, 0)
    frame[:, :12] //= 4
    video_writer.write_sideways(tmp_path / "v.mp4", [frame] * 3, (48, 64), 5)
    _, seen = cv2.VideoCapture(str(tmp_path / "v.mp4")).read()
    assert np.abs(seen[..., ::-1].astype(int) - frame).mean() < 12


def test_equal_frames_are_equal_bytes_whatever_memory_held_before(tmp_path: Path) -> None:
    """In sizes that are no multiple of a macroblock, too; junk of another size is left in memory
    before each run."""
    rng = np.random.default_rng(0)
    world = cv2.resize(
        rng.integers(0, 255, (225, 225, 3), np.uint8), (900, 900), interpolation=cv2.INTER_CUBIC
    )
    turns = [cv2.getRotationMatrix2D((450, 450), 1.3 * step, 1 + step / 100) for step in range(60)]
    frames = [cv2.warpAffine(world, turn, (900, 900))[200:680, 250:610] for turn in turns]
    digests = set()
    for turn in range(12):
        junk = [rng.bytes(100_000 * turn + 77_777 * part) for part in range(40)]
        video_writer.write_sideways(tmp_path / "walk.mp4", frames, (360, 480), 30)
        digests.add(storage.file_digest(tmp_path / "walk.mp4"))
        del junk
    assert len(digests) == 1


def test_an_odd_video_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must be even"):
        video_writer.write_sideways(tmp_path / "v.mp4", [], (47, 64), 5)


def test_frames_are_numbered_with_gaps(workspace: Path) -> None:
    names = [path.name for path in sorted((workspace / "data/raw/frames/scene-000").iterdir())]
    numbers = [int(re.fullmatch(r"frame-(\d{6})\.color\.jpg", name)[1]) for name in names]
    assert len(numbers) == 40
    assert numbers[0] in (0, 1)
    assert {1, 2} == set(np.diff(numbers))
    assert cv2.imread(str(workspace / "data/raw/frames/scene-000" / names[0])).shape == (48, 64, 3)


def text(file: h5py.File, reference: h5py.Reference) -> str:
    return "".join(chr(code) for code in file[reference][:].ravel())


def test_the_depth_set_opens_as_nyu_v2_does(workspace: Path) -> None:
    """Keys, shapes, types and axes as in the real file; see synthetic/labelled.py."""
    folder = workspace / "data/raw/nyu"
    count, (width, height) = 7, (64, 48)
    start = (folder / "nyu_depth_v2_labeled.mat").read_bytes()[:520]
    assert start.startswith(b"MATLAB 7.3 MAT-file")
    assert start[124:128] == b"\x00\x02IM"
    assert start[512:516] == b"\x89HDF"
    with h5py.File(folder / "nyu_depth_v2_labeled.mat") as file:
        assert file.userblock_size == 512
        shapes = {"depths": "<f4", "rawDepths": "<f4", "labels": "<u2", "instances": "|u1"}
        assert {key: file[key].dtype.str for key in shapes} == shapes
        assert all(file[key].shape == (count, width, height) for key in shapes)
        assert file["images"].shape == (count, 3, width, height)
        assert file["images"].dtype == np.uint8
        assert file["accelData"].shape == (4, count)
        assert file["depths"].attrs["MATLAB_class"] == b"single"
        assert [text(file, reference) for reference in file["names"][0]] == list(CLASSES[1:])
        for key in ("scenes", "sceneTypes", "rawRgbFilenames", "rawDepthFilenames"):
            assert file[key].shape == (1, count)
        depth, raw, labels = (file[key][:] for key in ("depths", "rawDepths", "labels"))
        assert depth.min() > 0
        assert depth.max() < 10
        assert labels.max() < len(CLASSES)
        assert 0.02 < (raw == 0).mean() < 0.6
        assert np.array_equal(raw[raw > 0], depth[raw > 0])
        assert all(image.std() > 5 for image in file["images"][:])
        scene = [text(file, reference) for reference in file["scenes"][0]]
        # Upright: the floor is below.
        below, above = labels[:, :, height // 2 :], labels[:, :, : height // 2]
        assert (below == CLASSES.index("floor")).mean() > (above == CLASSES.index("floor")).mean()
    splits = scipy.io.loadmat(folder / "splits.mat")
    train, test = (splits[key] for key in ("trainNdxs", "testNdxs"))
    assert train.shape == (4, 1)
    assert test.shape == (3, 1)
    assert train.dtype == np.uint16
    assert sorted([*train.ravel(), *test.ravel()]) == list(range(1, count + 1))
    assert not {scene[k - 1] for k in train.ravel()} & {scene[k - 1] for k in test.ravel()}


def test_the_real_layout_has_the_same_keys(real_data: Path, workspace: Path) -> None:
    with (
        h5py.File(real_data / "derived_layouts/nyu/nyu_depth_v2_labeled.mat") as real,
        h5py.File(workspace / "data/raw/nyu/nyu_depth_v2_labeled.mat") as ours,
    ):
        assert set(real) == set(ours)
        for key in set(real) - {"#refs#"}:
            assert (real[key].ndim, real[key].dtype) == (ours[key].ndim, ours[key].dtype), key
            assert real[key].attrs["MATLAB_class"] == ours[key].attrs["MATLAB_class"], key


def test_splits_count_from_one() -> None:
    import io

    splits = scipy.io.loadmat(io.BytesIO(labelled.splits([0, 2], [1])))
    assert splits["trainNdxs"].tolist() == [[1], [3]]
    assert splits["testNdxs"].tolist() == [[2]]


def test_no_scene_is_in_two_kinds(repository: Path) -> None:
    section = load_params(repository / "params.yaml").synthesize
    counts = {
        "rooms": section.rooms.scenes,
        "phone": section.phone.videos,
        "frames": section.frames.folders,
        "nyu": section.nyu.scenes,
    }
    seeds = [
        getattr(section, kind).first_seed + k
        for kind, count in counts.items()
        for k in range(count)
    ]
    assert len(set(seeds)) == len(seeds)


def test_an_unknown_kind_leaves_nothing(params: Params, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="known: rooms, phone, frames, nyu, tasks"):
        synthesize.main(params, tmp_path, "houses")
    assert not (tmp_path / "data").exists()
