"""Probes on folders of classes of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.tasks import run_task
from mimic.tasks.checks import check
from mimic.tasks.imagenet.config import KnnTask, LinearProbeTask
from mimic.tasks.imagenet.dataset import open_imagenet
from mimic.tasks.imagenet.own import OwnClasses
from mimic.tasks.inspection import lines
from tests.support import own_labels
from tests.support.miniatures import as_subject, folders_in

COLOURS = {"Äpfel": (220, 30, 30), "кот": (30, 220, 30), "two words": (30, 30, 220)}


def write(path: Path, colour: tuple[int, int, int], seed: int, **how: object) -> None:
    """A picture of one colour with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-20, 20, (40, 48, 3))
    picture = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(picture).save(path, **how)  # type: ignore[arg-type]


def write_classes(folder: Path, images: int, endings: tuple[str, ...] = (".jpg",)) -> None:
    for number, (name, colour) in enumerate(COLOURS.items()):
        for image in range(images):
            ending = endings[image % len(endings)]
            write(folder / name / f"{image} {number}{ending}", colour, 100 * number + image)


@pytest.fixture
def task(knn_task: KnnTask) -> KnnTask:
    return knn_task.model_copy(update={"data": Path("own"), "k": (1, 3), "value_k": 1})


def opened(task: KnnTask, root: Path) -> OwnClasses:
    found = open_imagenet(task, root)
    assert isinstance(found, OwnClasses)
    return found


@pytest.mark.parametrize("tested", ["val", "test", "Validation"])
@pytest.mark.parametrize("inside", [False, True])
def test_split_by_folders(tmp_path: Path, task: KnnTask, tested: str, inside: bool) -> None:
    """train/CLASS and CLASS/train are the same; any ending, in capitals too."""
    for name, colour in COLOURS.items():
        for side, count in (("train", 4), (tested, 2)):
            folder = tmp_path / "own" / (f"{name}/{side}" if inside else f"{side}/{name}")
            for image, ending in zip(range(count), (".JPG", ".png", ".webp", ".bmp"), strict=False):
                write(folder / f"{image}{ending}", colour, image)
    found = opened(task, tmp_path)
    assert found.wnids == sorted(COLOURS)
    assert np.bincount(found.train[1]).tolist() == [4, 4, 4]
    assert np.bincount(found.val[1]).tolist() == [2, 2, 2]
    for paths, classes in (found.train, found.val):
        for path, number in zip(paths, classes, strict=True):
            assert found.wnids[number] in path.parts


def test_a_single_folder_is_split_by_names(tmp_path: Path, task: KnnTask) -> None:
    """Of each class a fifth; further images move none from one side to the other but at the
    border."""
    write_classes(tmp_path / "own", 10, (".jpg", ".tif"))
    found = opened(task, tmp_path)
    assert np.bincount(found.val[1]).tolist() == [2, 2, 2]
    assert not {*found.train[0]} & {*found.val[0]}
    said = lines(check(task, tmp_path))
    assert said[0] == "train: 24 images, smaller side_px 40 to 40"
    assert "classes: 3 (two words, Äpfel, кот), the fewest training images 8" in said[2]
    assert "a fifth of each class" in said[3]


def test_lists_win(tmp_path: Path, task: KnnTask) -> None:
    write_classes(tmp_path / "own", 3)
    names = [f"{name}/{image} {n}" for n, name in enumerate(COLOURS) for image in range(3)]
    (tmp_path / "own/train.txt").write_text("\n".join(f"{name}.jpg" for name in names[1::3]))
    (tmp_path / "own/val.txt").write_text("\n".join(names[0::3]))
    found = opened(task, tmp_path)
    assert (len(found.train[0]), len(found.val[0])) == (3, 3)
    assert "not used: 3 in no split" in found.notes
    before = found.extent["digest"]
    (tmp_path / "own/val.txt").write_text("\n".join(names[2::3]))
    assert opened(task, tmp_path).extent["digest"] != before


def test_another_split_of_files_that_are_called_alike_is_another_set(
    tmp_path: Path, task: KnnTask
) -> None:
    """A folder an object, a file of the same name in each; features are remembered by digest."""
    for name, colour in COLOURS.items():
        for number in range(4):
            write(tmp_path / f"own/{name}/{number}/rgb.jpg", colour, number)
    digests = []
    for tested in (0, 3):
        for side, numbers in (("val", {tested}), ("train", {0, 1, 2, 3} - {tested})):
            names = [f"{name}/{number}/rgb.jpg" for name in COLOURS for number in sorted(numbers)]
            (tmp_path / f"own/{side}.txt").write_text("\n".join(names))
        digests.append(opened(task, tmp_path).extent["digest"])
    assert digests[0] != digests[1]


def test_synsets_stay_imagenet(tmp_path: Path, task: KnnTask) -> None:
    """The official layout is read as before, unless the section says otherwise."""
    for side in ("train", "val"):
        for number in (1, 2):
            path = tmp_path / f"own/{side}/n0000000{number}/{side}.JPEG"
            write(path, (0, 0, 0), number)
    assert not isinstance(open_imagenet(task, tmp_path), OwnClasses)
    stated = task.model_copy(update={"layout": "folders"})
    assert opened(stated, tmp_path).wnids == ["n00000001", "n00000002"]


def test_colours_are_told_apart(
    tmp_path: Path,
    task: KnnTask,
    linear_probe_task: LinearProbeTask,
    encoder: VisionTransformer,
) -> None:
    """Three colours: every nearest neighbour is of the right class, and the protocol names the
    data."""
    write_classes(tmp_path / "own", 10)
    result = run_task(task, as_subject(encoder), folders_in(tmp_path))
    assert result.value == 1.0
    assert result.metrics["chance"] == pytest.approx(1 / 3)
    assert result.protocol.endswith(
        "own data own (3 classes; split a fifth of each class, by the images' names)"
    )
    probe = linear_probe_task.model_copy(update={"data": Path("own"), "batch": 8})
    assert "own data own" in run_task(probe, as_subject(encoder), folders_in(tmp_path)).protocol


def test_a_class_without_training_images_is_named(tmp_path: Path, task: KnnTask) -> None:
    write_classes(tmp_path / "own/train", 3)
    write_classes(tmp_path / "own/test", 2)
    write(tmp_path / "own/test/dog/0.jpg", (0, 0, 0), 0)
    with pytest.raises(BadInput, match="class dog is scored and has no training image"):
        open_imagenet(task, tmp_path)


SIDE_NAMES = ("test", "dev", "image", "Data", "cat")


@pytest.mark.parametrize(
    ("layout", "train", "tested"),
    [
        ("{name}", 15, 5),
        ("data/{name}", 15, 5),
        ("{side}/{name}", 12, 8),
        ("images/{side}/{name}", 12, 8),
        ("{side}/images/{name}", 12, 8),
        ("{name}/{side}", 12, 8),
    ],
)
def test_a_class_is_called_as_a_side_or_a_folder_around(
    tmp_path: Path, task: KnnTask, layout: str, train: int, tested: int
) -> None:
    names = SIDE_NAMES if layout != "{name}/{side}" else ("cat", "dog", "owl", "fox", "hen")
    for seed, name in enumerate(names):
        for number in range(4):
            side = "train" if 5 * number + seed < 12 else "val"
            path = tmp_path / "own" / layout.format(name=name, side=side) / f"{number}.png"
            write(path, (40 * seed, 9, 9), 10 * seed + number)
    found = opened(task, tmp_path)
    assert found.wnids == sorted(names)
    assert (len(found.train[0]), len(found.val[0])) == (train, tested)
    for path, number in zip(*found.train, strict=True):
        assert found.wnids[number] in path.parts
    assert len(found.notes) == 2


def test_sides_without_classes_are_no_classes(tmp_path: Path, task: KnnTask) -> None:
    for side in ("train", "test"):
        for number in range(5):
            write(tmp_path / "own" / side / f"{number}.png", (9, 9, 9), number)
    with pytest.raises(BadInput, match="0 classes; a folder a class is needed"):
        OwnClasses(tmp_path / "own")
    write_classes(tmp_path / "own/train", 2)
    with pytest.raises(BadInput, match="nothing in test or val"):
        open_imagenet(task, tmp_path)


def test_what_is_no_class_is_refused_or_named(tmp_path: Path, task: KnnTask) -> None:
    write_classes(tmp_path / "own", 5)
    write(tmp_path / "own/loose.jpg", (0, 0, 0), 0)
    (tmp_path / "own/кот/damaged.jpg").write_bytes(b"no picture")
    assert "loose.jpg (in no folder of a class)" in opened(task, tmp_path).notes[-1]
    for number in range(3):
        write(tmp_path / f"own/loose{number}.jpg", (0, 0, 0), 0)
    assert ", 1 more files" in opened(task, tmp_path).notes[-1]
    with pytest.raises(BadInput, match=r"damaged\.jpg: .*; replace it, or take it away"):
        check(task, tmp_path)
    write(tmp_path / "one/cat/0.jpg", (0, 0, 0), 0)
    with pytest.raises(BadInput, match="1 classes; a folder a class is needed"):
        open_imagenet(task.model_copy(update={"data": Path("one")}), tmp_path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("depth", r"color/ and depth/ are images with depth, not classes; .*linear-depth or few"),
        ("masks", r"color/ and masks/ are images with masks, not classes; .*: segmentation, "),
    ],
)
@pytest.mark.parametrize("scenes", [("",), ("kitchen", "office")])
def test_images_with_depth_or_masks_are_no_classes(
    tmp_path: Path, task: KnnTask, labels: str, said: str, scenes: tuple[str, ...]
) -> None:
    for scene in scenes:
        own_labels.write_folder(
            tmp_path / "own" / scene, "color/{}.jpg".format, f"{labels}/{{}}.png".format
        )
    with pytest.raises(BadInput, match=said):
        opened(task, tmp_path)


def test_photographs_are_upright(tmp_path: Path, task: KnnTask) -> None:
    write_classes(tmp_path / "own", 5)
    held = Image.Exif()
    held[0x0112] = 6
    path = tmp_path / "own/кот/held.jpg"
    write(path, (9, 9, 9), 0, exif=held)
    assert opened(task, tmp_path).read(path).shape == (48, 40, 3)
