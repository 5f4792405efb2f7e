"""Segmentation on folders of images and masks of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.tasks import run_task
from mimic.tasks.checks import check
from mimic.tasks.inspection import lines
from mimic.tasks.segmentation import finetune
from mimic.tasks.segmentation.config import (
    FewShotSegmentationTask,
    LinearSegmentationTask,
    SegmentationTask,
)
from mimic.tasks.segmentation.own import OwnMasks
from mimic.tasks.segmentation.sets import open_masks
from tests.support.miniatures import as_subject, folders_in
from tests.support.own_labels import packed_png, photo

COLOURS = np.array([[128, 64, 0], [0, 0, 255], [9, 200, 9]], np.uint8)
NAMES = ("Straße", "небо", "two words")


def mask(seed: int, numbers: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """uint8[40, 48]: upright bands of classes, and a row without one."""
    found = np.repeat(np.array(numbers, np.uint8), 16)[None].repeat(40, axis=0)
    found = np.roll(found, seed, axis=1)
    found[0] = 255
    return found


def write_set(
    folder: Path,
    image: str = "images/{}.jpg",
    label: str = "masks/{}.png",
    mode: str = "L",
    count: int = 10,
) -> None:
    for number in range(count):
        path = folder / image.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(number, 40, 48)).save(path)
        place = folder / label.format(number)
        place.parent.mkdir(parents=True, exist_ok=True)
        labels = mask(number)
        if mode == "RGB":
            coloured = np.zeros((*labels.shape, 3), np.uint8)
            coloured[labels < 3] = COLOURS[labels[labels < 3]]
            coloured[0] = coloured[1]
            Image.fromarray(coloured).save(place)
            continue
        drawn = Image.fromarray(labels)
        if mode == "P":
            drawn = drawn.convert("P")
            drawn.putdata(labels.ravel().tolist())
            drawn.putpalette(np.roll(np.arange(768) % 256, 5).astype(np.uint8).tobytes())
        drawn.save(place)


@pytest.fixture
def task(segmentation_task: SegmentationTask) -> SegmentationTask:
    return segmentation_task.model_copy(update={"data": Path("own")})


def opened(task: SegmentationTask, root: Path) -> OwnMasks:
    found = open_masks(task, root)
    assert isinstance(found, OwnMasks)
    return found


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("Images/{} ö.JPG", "Labels/{} ö.PNG"),
        ("images/{}.webp", "annotations/{}_mask.tif"),
        ("комната/{}.png", "комната/{}_mask.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    ],
)
def test_layouts_names_and_palettes(
    tmp_path: Path, task: SegmentationTask, image: str, label: str, mode: str
) -> None:
    """Indices are those stored, whatever colours a palette gives them."""
    if mode == "P" and label.endswith("tif"):
        label = label.replace("tif", "png")
    write_set(tmp_path / "own", image, label, mode)
    found = opened(task, tmp_path)
    assert (len(found.train), len(found.test)) == (8, 2)
    assert found.names == ("class 0", "class 1", "class 2")
    for place in range(10):
        assert (found.read(place).labels == mask(place)).all()


@pytest.mark.parametrize(
    "listing",
    [
        "128 64 0 Straße\n0 0 255 небо\n9 200 9 two words\n",
        "\ufeffStraße 128 64 0\nнебо: 0,0,255\n# no\ntwo words 9, 200, 9\n",
        {"Straße": [128, 64, 0], "небо": [0, 0, 255], "two words": [9, 200, 9]},
    ],
)
def test_colours_are_classes(
    tmp_path: Path, task: SegmentationTask, listing: str | dict[str, list[int]]
) -> None:
    write_set(tmp_path / "own", mode="RGB")
    if isinstance(listing, str):
        (tmp_path / "own/classes.txt").write_text(listing)
    else:
        (tmp_path / "own/classes.json").write_text(json.dumps(listing))
    found = opened(task, tmp_path)
    assert found.names == NAMES
    assert (found.read(3).labels[1:] == mask(3)[1:]).all()
    Image.fromarray(np.full((40, 48, 3), 7, np.uint8)).save(tmp_path / "own/masks/3.png")
    with pytest.raises(BadInput, match=r"3\.png: colour 7 7 7 in 1920 pixels, which classes\."):
        check(task, tmp_path)


@pytest.mark.parametrize(
    ("mode", "listing", "ignored", "said"),
    [
        ("RGB", "128 64 0 Straße\n0 0 255 небо\n9 200 9 Ignore\n", [2], "colour 9 200 9 is"),
        (
            "RGB",
            "128 64 0 ignore\n0 0 255 небо\n9 200 9 o\n7 7 7 ignore\n",
            [0],
            "colour 128 64 0, ",
        ),
        ("L", "0 Straße\n1 небо\n2 ignore\n", [2], "255, class 2 is ignored"),
        ("L", "0 ignore\n1 небо\n2 o\n255 void\n", [0], "255 is one of them"),
    ],
)
def test_what_is_called_ignore_is_no_class(
    tmp_path: Path,
    task: SegmentationTask,
    mode: str,
    listing: str,
    ignored: list[int],
    said: str,
) -> None:
    write_set(tmp_path / "own", mode=mode)
    (tmp_path / "own/classes.txt").write_text(listing)
    found = opened(task, tmp_path)
    assert "ignore" not in map(str.lower, found.names)
    assert said in found.notes[0]
    labels = found.read(3).labels[1:]
    truth = mask(3)[1:]
    assert (labels[np.isin(truth, ignored)] == 255).all()
    assert (labels[~np.isin(truth, ignored)] < 255).all()


@pytest.mark.parametrize(
    ("name", "listing"),
    [
        ("classes.txt", "Straße\nнебо\ntwo words\n"),
        ("classes.txt", "2 two words\n0: Straße\n1 небо\n"),
        ("classes.json", '["Straße", "небо", "two words"]'),
        ("classes.json", '{"Straße": 0, "two words": 2, "небо": 1}'),
        ("classes.json", '{"0": "Straße", "1": "небо", "2": "two words"}'),
    ],
)
def test_numbers_have_names(
    tmp_path: Path, task: SegmentationTask, name: str, listing: str
) -> None:
    write_set(tmp_path / "own")
    (tmp_path / "own" / name).write_text(listing)
    assert opened(task, tmp_path).names == NAMES
    said = lines(check(task, tmp_path))
    assert said[0] == "train: 8 images, 96.9 % labelled pixels, class 0 to 2"
    assert f"classes: 3 by {name} (Straße, небо, two words); 255 is ignored" in said


def test_a_class_that_is_not_listed_is_one_line(tmp_path: Path, task: SegmentationTask) -> None:
    write_set(tmp_path / "own")
    (tmp_path / "own/classes.txt").write_text("a\nb\n")
    with pytest.raises(BadInput, match=r"class 2 in 624 pixels, which classes\.txt does not list"):
        check(task, tmp_path)
    ignoring = task.model_copy(update={"ignore": 2})
    with pytest.raises(BadInput, match="class 255 in 48 pixels"):
        check(ignoring, tmp_path)


def test_foreground_is_not_silently_ignored(tmp_path: Path, task: SegmentationTask) -> None:
    write_set(tmp_path / "own")
    for number in range(10):
        binary = np.where(mask(number) == 1, 255, 0).astype(np.uint8)
        Image.fromarray(binary).save(tmp_path / f"own/masks/{number}.png")
    with pytest.raises(BadInput, match="masks hold 0 and 255 alone, and 255 is ignored"):
        open_masks(task, tmp_path)
    (tmp_path / "own/classes.txt").write_text("0 background\n255 foreground\n")
    found = opened(task, tmp_path)
    assert found.names == ("background", "foreground")
    assert (found.read(0).labels == (mask(0) == 1)).all()


def test_lossy_transparent_and_coloured_masks_are_refused(
    tmp_path: Path, task: SegmentationTask
) -> None:
    write_set(tmp_path / "own")
    path = tmp_path / "own/masks/0.png"
    Image.fromarray(mask(0)).save(path, format="JPEG")
    with pytest.raises(BadInput, match=r"0\.png: a lossy JPEG smears classes"):
        open_masks(task, tmp_path)
    Image.fromarray(photo(0, 40, 48)).save(path)
    with pytest.raises(BadInput, match="mode RGB, where one channel of class numbers"):
        open_masks(task, tmp_path)
    veiled = np.dstack([mask(0), np.full((40, 48), 9, np.uint8)])
    Image.fromarray(veiled).save(path)
    with pytest.raises(BadInput, match="partly transparent"):
        open_masks(task, tmp_path)
    Image.fromarray(np.dstack([mask(0), np.full((40, 48), 255, np.uint8)])).save(path)
    assert (opened(task, tmp_path).read(0).labels == mask(0)).all()
    write_set(tmp_path / "jpeg", label="masks/{}.jpg")
    with pytest.raises(BadInput, match="no images with masks .* a JPEG is no mask"):
        open_masks(task.model_copy(update={"data": Path("jpeg")}), tmp_path)


@pytest.mark.parametrize(("number", "said"), [(-1, "-1 to 2"), (65_536, "0 to 65536")])
def test_numbers_that_do_not_fit_in_16_bits_are_refused(
    tmp_path: Path, task: SegmentationTask, number: int, said: str
) -> None:
    write_set(tmp_path / "own", label="masks/{}.tif")
    whole = mask(0).astype(np.int32)
    path = tmp_path / "own/masks/0.tif"
    Image.fromarray(whole).save(path)
    assert (opened(task, tmp_path).read(0).labels == mask(0)).all()
    whole[0] = number
    Image.fromarray(whole).save(path)
    with pytest.raises(BadInput, match=rf"0\.tif: pixels from {said}, where numbers from 0 to"):
        open_masks(task, tmp_path)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_read_as_it_is_stored(
    tmp_path: Path, task: SegmentationTask, bits: int
) -> None:
    """Pillow spreads it over 8 bits, so that the highest class would be 255, which is ignored."""
    classes = tuple(range(2**bits))
    write_set(tmp_path / "own")
    for number in range(10):
        labels = np.roll(np.array(classes, np.uint8).repeat(32 // len(classes)), number)
        packed_png(tmp_path / f"own/masks/{number}.png", np.tile(labels, (40, 1)), bits)
        Image.fromarray(photo(number, 40, 32)).save(tmp_path / f"own/images/{number}.jpg")
    found = opened(task, tmp_path)
    assert found.names == tuple(f"class {number}" for number in classes)
    assert (np.unique(found.read(0).labels) == classes).all()


def test_rare_classes_and_lonely_images_are_said(tmp_path: Path, task: SegmentationTask) -> None:
    write_set(tmp_path / "own")
    (tmp_path / "own/classes.txt").write_text("a\nb\nc\nd\ne\n")
    strange = mask(9)
    strange[5:9, 5:9] = 3
    Image.fromarray(strange).save(tmp_path / "own/masks/9.png")
    (tmp_path / "own/masks/0.png").unlink()
    said = lines(check(task, tmp_path))
    assert "1 classes in no mask: e" in said
    assert "1 classes scored, never trained on: d" in said
    assert "not used: 1 images without a mask" in said


def test_split_by_folders_in_both(tmp_path: Path, task: SegmentationTask) -> None:
    write_set(tmp_path / "own", "images/train/{}.jpg", "masks/train/{}.png", count=6)
    write_set(tmp_path / "own", "images/val/{}.jpg", "masks/val/{}.png", count=3)
    found = opened(task, tmp_path)
    assert (len(found.train), len(found.test)) == (6, 3)
    assert "by the folders train and validation" in found.notes[1]


def test_prediction_equal_to_truth_scores_one(tmp_path: Path, task: SegmentationTask) -> None:
    write_set(tmp_path / "own")
    found = opened(task, tmp_path)

    def scored(shift: int) -> float:
        counts, _ = finetune.score(
            task,
            found,
            lambda _, items: [(item, (item.target + shift) % 3) for item in items],
        )
        return float(finetune.average_metrics(task, found, counts)["mIoU"])

    assert scored(0) == 1.0
    assert scored(1) < 0.01


def test_every_segmentation_task_runs_on_a_folder(
    tmp_path: Path,
    task: SegmentationTask,
    linear_segmentation_task: LinearSegmentationTask,
    few_shot_segmentation_task: FewShotSegmentationTask,
    encoder: VisionTransformer,
) -> None:
    write_set(tmp_path / "own")
    (tmp_path / "own/classes.txt").write_text("\n".join(NAMES))
    for kind in (task, linear_segmentation_task, few_shot_segmentation_task):
        section = kind.model_copy(update={"data": Path("own")})
        result = run_task(section, as_subject(encoder), folders_in(tmp_path))
        assert 0 <= result.value <= 1
        assert "own data own (3 classes; split one scene" in result.protocol
        if "classes" in result.metrics:
            assert set(result.metrics["classes"]) <= set(NAMES)


def test_official_folders_stay_ade20k(
    made_ade20k: Path, segmentation_task: SegmentationTask
) -> None:
    assert not isinstance(open_masks(segmentation_task, made_ade20k.parent), OwnMasks)


def test_scenes_below_labelled_images_are_used_too(tmp_path: Path, task: SegmentationTask) -> None:
    for scene in ("", "a/", "b/"):
        write_set(tmp_path / "own", f"images/{scene}{{}}.jpg", f"masks/{scene}{{}}.png")
    write_set(tmp_path / "own", "late/images/{}.jpg", "late/masks/{}.png")
    write_set(tmp_path / "own", "flat/{}.jpg", "flat/{}_mask.png")
    found = opened(task, tmp_path)
    assert len(found) == 50
    assert len({found.stem(index) for index in range(50)}) == 50


@pytest.mark.parametrize(
    ("image", "label", "second"),
    [
        ("images/{}.jpg", "masks/{}.png", "masks/3_mask.png"),
        ("images/{}.jpg", "masks/{}_label.png", "masks/3_mask.png"),
        ("images/{}.jpg", "masks/{}.png", "masks/3.tif"),
        ("{}.png", "{}_mask.png", "3_mask_1.png"),  # an object each
        ("images/{}.jpg", "masks/{}.png", "images/3.png"),
    ],
)
def test_of_several_masks_or_images_of_a_name_none_is_chosen(
    tmp_path: Path, task: SegmentationTask, image: str, label: str, second: str
) -> None:
    write_set(tmp_path / "own", image, label)
    Image.fromarray(mask(4)).save(tmp_path / "own" / second)
    with pytest.raises(BadInput, match="both masks of|have one name") as error:
        opened(task, tmp_path)
    assert Path(second).name in str(error.value)


def test_masks_without_an_image_are_said(tmp_path: Path, task: SegmentationTask) -> None:
    write_set(tmp_path / "own")
    (tmp_path / "own/masks/empty").mkdir()
    for name in ("77.png", "empty/1.png"):
        Image.fromarray(mask(4)).save(tmp_path / "own/masks" / name)
    said = lines(check(task, tmp_path))
    left = "2 files beside labels that belong to no image, such as masks/77.png"
    assert f"not used: {left}" in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("car 2\nroad 1\nsky 0\n", ("sky", "road", "car")),
        ("sky: 0\nroad: 1\nbig car: 2", ("sky", "road", "big car")),
        ("zone 1\nzone 2\nzone 3\n", ("zone 1", "zone 2", "zone 3")),
        ("sky\nroad 66\ncar\n", ("sky", "road 66", "car")),
    ],
)
def test_numbers_behind_names_are_numbers_where_all_have_one(
    tmp_path: Path, task: SegmentationTask, text: str, names: tuple[str, ...]
) -> None:
    write_set(tmp_path / "own")
    (tmp_path / "own/classes.txt").write_text(text)
    assert opened(task, tmp_path).names == names


def test_which_images_are_in_which_split_is_a_part_of_the_data(tmp_path: Path) -> None:
    """Two lists that change places leave every file as it was, and as many images in each."""
    write_set(tmp_path / "own", count=4)
    digests = set()
    for train, test in (((0, 1), (2, 3)), ((2, 3), (0, 1)), ((0, 2), (1, 3))):
        for name, numbers in (("train", train), ("test", test)):
            (tmp_path / f"own/{name}.txt").write_text("".join(f"{n}\n" for n in numbers))
        found = OwnMasks(tmp_path / "own", 255)
        assert [found.stem(int(n)) for n in found.train] == [f"images-{n}" for n in train]
        digests.add(found.extent()["digest"])
    assert len(digests) == 3
