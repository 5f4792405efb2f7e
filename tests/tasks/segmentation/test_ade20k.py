"""The SceneParse150 layout: real samples, the generated set, and everything that can be wrong with
a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.synthetic import toy_datasets
from mimic.tasks.segmentation.ade20k import IGNORED, Ade20k
from tests.support.miniatures import ADE20K


@pytest.fixture
def folder(made_ade20k: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(made_ade20k, tmp_path / "ade20k"))


def official(real_data: Path, tmp_path: Path) -> Path:
    """The two real validation images, in the folders that the archive has; the training split is
    the same two."""
    source, target = real_data / "ade20k", tmp_path / "ADEChallengeData2016"
    for split in ("training", "validation"):
        shutil.copytree(source / "images", target / "images" / split)
        shutil.copytree(source / "annotations", target / "annotations" / split)
    shutil.copy(source / "objectInfo150.csv", target)
    return target


def test_real_samples(real_data: Path, tmp_path: Path) -> None:
    ade = Ade20k(official(real_data, tmp_path), None)
    assert (ade.train.tolist(), ade.test.tolist()) == ([0, 1], [2, 3])
    assert len(ade.names) == 150
    assert ade.names[0] == "wall"
    assert ade.names[4] == "tree"
    assert ade.names[149] == "flag"
    frame = ade.read(2)
    raw = cv2.imread(
        str(real_data / "ade20k/annotations/ADE_val_00000001.png"), cv2.IMREAD_UNCHANGED
    )
    assert frame.image.shape == (512, 683, 3)
    assert frame.labels.shape == (512, 683)
    assert ade.stem(2) == "ADE_val_00000001"
    np.testing.assert_array_equal(frame.labels == IGNORED, raw == 0)
    np.testing.assert_array_equal(frame.labels[raw > 0] + 1, raw[raw > 0])
    assert ade.read(3).image.shape == (364, 500, 3)


def test_generated_set(made_ade20k: Path) -> None:
    ade = Ade20k(made_ade20k, (6, 4))
    frames = [ade.read(index) for index in range(len(ade))]
    assert len({frame.image.shape for frame in frames}) == 3  # sizes differ
    present = set(np.concatenate([frame.labels.ravel() for frame in frames]).tolist()) - {IGNORED}
    assert {"wall", "floor", "ceiling", "door"} <= {ade.names[number] for number in present}
    training = {ade.stem(int(index)) for index in ade.train}
    assert training == {f"ADE_train_{number:08d}" for number in range(1, 7)}


def test_equal_sections_give_equal_files(made_ade20k: Path, tmp_path: Path) -> None:
    toy_datasets.write(ADE20K, tmp_path)
    assert Ade20k(made_ade20k, None).extent() == Ade20k(tmp_path, None).extent()
    for path in sorted(made_ade20k.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(made_ade20k)).read_bytes()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _relabel(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


BREAKS = {
    "no folder": (
        lambda f: shutil.rmtree(f / "images/validation"),
        r"images/validation: no such folder; point `data` at",
    ),
    "no images": (
        lambda f: [p.unlink() for p in (f / "images/training").iterdir()],
        r"holds no \.jpg",
    ),
    "no annotation": (
        lambda f: (f / "annotations/training/ADE_train_00000003.png").unlink(),
        r"training/ADE_train_00000003 has an image but no annotation \(1 such\)",
    ),
    "no image": (
        lambda f: (f / "images/validation/ADE_val_00000002.jpg").unlink(),
        r"has an annotation but no image",
    ),
    "no names": (
        lambda f: (f / "objectInfo150.txt").unlink(),
        r"neither objectInfo150\.txt nor objectInfo150\.csv",
    ),
    "other names": (
        lambda f: (f / "objectInfo150.txt").write_text("a\tb\n"),
        r"first line is not Idx",
    ),
    "too few names": (
        lambda f: (f / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n"),
        r"1 classes, expected 150",
    ),
    "truncated photo": (
        lambda f: _truncate(f / "images/training/ADE_train_00000001.jpg"),
        r"00000001\.jpg: damaged \(image file is trunc",
    ),
    "truncated labels": (
        lambda f: _truncate(f / "annotations/training/ADE_train_00000001.png"),
        r"00000001\.png: damaged",
    ),
    "text": (
        lambda f: (f / "images/training/ADE_train_00000001.jpg").write_text("<html>"),
        r"not an image; download it again",
    ),
    "shifted labels": (
        lambda f: _relabel(
            f / "annotations/training/ADE_train_00000001.png",
            lambda a: np.where(a == a.max(), 255, a - 1).astype(np.uint8),
        ),
        r"class 255, expected 0 \(unlabelled\) to 150",
    ),
    "16-bit labels": (
        lambda f: _relabel(
            f / "annotations/training/ADE_train_00000001.png", lambda a: a.astype(np.uint16)
        ),
        r"expected 8-bit class numbers",
    ),
    "colour masks": (
        lambda f: _relabel(
            f / "annotations/training/ADE_train_00000001.png", lambda a: np.stack([a] * 3, axis=-1)
        ),
        r"of one channel",
    ),
    "other size": (
        lambda f: _relabel(f / "annotations/training/ADE_train_00000001.png", lambda a: a[:-1]),
        r"64 x 47 but its image is 64 x 48",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_broken_copies_are_one_clear_line(folder: Path, case: str) -> None:
    breaks, message = BREAKS[case]
    breaks(folder)

    def read_all() -> None:
        ade = Ade20k(folder, None)
        for index in range(len(ade)):
            ade.read(index)

    with pytest.raises(BadInput, match=message) as error:
        read_all()
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_counts_are_those_of_the_set(made_ade20k: Path) -> None:
    with pytest.raises(
        BadInput, match="6 training and 4 validation images, expected 20210 and 2000"
    ):
        Ade20k(made_ade20k, (20210, 2000))
