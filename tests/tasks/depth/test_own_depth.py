"""Depth tasks on folders of one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.tasks import run_task
from mimic.tasks.checks import check
from mimic.tasks.depth import finetune
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask, LinearDepthTask
from mimic.tasks.depth.frames import stacked
from mimic.tasks.depth.sets import open_depth
from mimic.tasks.inspection import lines
from tests.support import own_labels
from tests.support.miniatures import as_subject, folders_in
from tests.support.own_labels import NAMES, open_own_depth, write_depth, write_folder, write_photo


@pytest.mark.parametrize(
    ("colour", "depth"),
    [
        ("color/{}.jpg", "depth/{}.png"),
        ("RGB/{}.PNG", "Depth/{}.PNG"),
        ("images/{}.webp", "depth/{}.npy"),
        ("images/{} ö.jpg", "depth/{} ö.exr"),
        ("rgb/rgb_{}.png", "depth/depth_{}.tif"),
        ("комната 1/{}_rgb.png", "комната 1/{}_depth.png"),
        ("{}.jpg", "{}.npy"),
        ("{}.jpg", "{}.npz"),
        ("{}.jpg", "{}_depth.png"),
        ("frame-{}.color.png", "frame-{}.depth.png"),
    ],
)
def test_layouts_and_names(tmp_path: Path, own_task: DepthTask, colour: str, depth: str) -> None:
    """Every image meets its own depth, in metres, whatever they are called."""
    write_folder(tmp_path / "own", colour.format, depth.format)
    found = open_own_depth(own_task, tmp_path)
    assert found.length == len(NAMES)
    assert len(found.train) == 8
    for place in range(found.length):
        frame = found.read(place)
        truth = own_labels.depth_m(place)
        np.testing.assert_allclose(frame.depth_m, truth, atol=1e-6)
        assert (frame.valid == (truth > 0)).all()


def test_an_accent_written_as_two_letters_is_the_same_name(
    tmp_path: Path, own_task: DepthTask
) -> None:
    write_folder(tmp_path / "own", "color/u\u0308{}.jpg".format, "depth/\u00fc{}.png".format)
    (tmp_path / "own/train.txt").write_text("".join(f"\u00fc{name}\n" for name in NAMES[:6]))
    (tmp_path / "own/test.txt").write_text("".join(f"u\u0308{name}\n" for name in NAMES[6:]))
    assert open_own_depth(own_task, tmp_path).test.tolist() == [6, 7, 8, 9]


def test_prediction_equal_to_truth_scores_one(tmp_path: Path, own_task: DepthTask) -> None:
    """And one that is 1.3 times as far is never within 1.25."""
    write_folder(tmp_path / "own")
    found = open_own_depth(own_task, tmp_path)
    task = own_task.model_copy(update={"score_at": "input", "size_px": 24})

    def scored(factor: float) -> float:
        tests = finetune.Tests(found, 4)
        sums, _ = finetune.score(
            task,
            tests,
            1,
            lambda part, _: torch.from_numpy(
                factor * stacked([found.read(int(n)) for n in found.test[part]], task, 1).target
            ),
        )
        return float(finetune.average_metrics(task, sums)["delta1"])

    assert scored(1.0) == 1.0
    assert scored(1.3) == 0.0


@pytest.mark.parametrize(
    ("ending", "per_m", "unit"),
    [
        (".png", 1000.0, "millimetres, whole numbers"),
        (".npy", 1.0, "metres, fractions with median 2.55"),
        (".npy", 1000.0, "millimetres, fractions with median 25"),
        (".tif", 1.0, "metres, fractions"),
    ],
)
def test_the_unit_is_told_and_said(
    tmp_path: Path, own_task: DepthTask, ending: str, per_m: float, unit: str
) -> None:
    write_folder(tmp_path / "own", depth=lambda name: f"depth/{name}{ending}", per_m=per_m)
    found = check(own_task, tmp_path)
    said = lines(found)
    assert said[0].startswith("train: 8 images, 99.7 % pixels of known depth, depth_m 1.0")
    assert said[2].startswith(f"median depth 2.55 m: taken as {unit}")
    assert found["found"]["train"]["largest"] == pytest.approx(4.07)


@pytest.mark.parametrize("far", [0, 2])
def test_one_depth_beyond_16_bits_is_a_whole_number_still(
    tmp_path: Path, own_task: DepthTask, far: int
) -> None:
    """70 m in millimetres, in the first image or another."""
    write_folder(tmp_path / "own", depth="depth/{}.npy".format)
    for path in (tmp_path / "own/depth").iterdir():
        whole = np.rint(np.load(path) * 1000).astype(np.int32)
        whole[:4, :4] = 70_000 if path.stem == NAMES[far] else 1000
        np.save(path, whole)
    found = open_own_depth(own_task, tmp_path)
    assert (found.unit.per_m, found.unit.because) == (1000.0, "whole numbers")
    farthest_m = [float(found.read(place).depth_m.max()) for place in range(found.length)]
    assert sorted(farthest_m)[-2] < 5 < sorted(farthest_m)[-1] == pytest.approx(70.0)
    np.save(tmp_path / f"own/depth/{NAMES[5]}.npy", own_labels.depth_m())
    found = open_own_depth(own_task, tmp_path)
    with pytest.raises(BadInput, match=r"005\.npy: fractions, the others whole numbers"):
        [found.read(place) for place in range(found.length)]


@pytest.mark.parametrize("far", [20_000, 65_504, 1e10])
@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize("stated", [None, "m"])
def test_a_background_says_nothing_of_the_unit(
    tmp_path: Path, own_task: DepthTask, far: float, rows: int, stated: str | None
) -> None:
    """As renderers write it, in metres: in more than half of an image, or a few rows; and all of
    one."""
    write_folder(tmp_path / "own", depth="depth/{}.npy".format)
    for path in (tmp_path / "own/depth").iterdir():
        depth = np.load(path)
        depth[: depth.shape[0] if path.stem == NAMES[4] else rows] = far
        np.save(path, depth)
    task = own_task.model_copy(update={"depth_unit": stated, "depth_max_m": 10.0})
    found = open_own_depth(task, tmp_path)
    assert found.unit.per_m == 1.0
    assert 1 < found.unit.median_m < 5
    assert found.read(0).depth_m.max() == np.float32(far)
    said = lines(check(task, tmp_path))
    assert "(1 of them have none), depth_m 1." in said[0]
    assert said[0].endswith("to 4.07")


def test_a_stated_unit_wins(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own", per_m=5000.0)
    stated = own_task.model_copy(update={"depth_unit": 5000.0})
    assert open_own_depth(stated, tmp_path).read(0).depth_m.max() == pytest.approx(4.0)
    (tmp_path / "own/info.json").write_text(json.dumps({"depth_unit": 5000}))
    noted = open_own_depth(own_task, tmp_path)
    assert noted.read(0).depth_m.max() == pytest.approx(4.0)
    assert "info.json says so" in noted.notes[0]


def test_millimetres_are_not_metres(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own")
    with pytest.raises(BadInput, match=r"median depth 2\.55e\+03 m if .* is in metres .*set depth"):
        open_depth(own_task.model_copy(update={"depth_unit": "m"}), tmp_path)
    for odd in (["mm"], {"mm": 1}, True):
        (tmp_path / "own/info.json").write_text(json.dumps({"depth_unit": odd}))
        with pytest.raises(BadInput, match="is neither m, cm, mm nor units a metre"):
            open_depth(own_task, tmp_path)


def test_one_image_in_another_unit_is_named(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own", depth="depth/{}.npy".format)
    write_depth(tmp_path / "own/depth/003.npy", own_labels.depth_m(3), 1000.0)
    with pytest.raises(BadInput, match=r"003\.npy: median depth .* of the others 2\.\d+ m"):
        check(own_task, tmp_path)


def test_implausible_numbers_ask_for_the_unit(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own", per_m=14000.0)
    with pytest.raises(BadInput, match=r"as millimetres 35\.7 m: not a scene; set depth_unit"):
        open_depth(own_task, tmp_path)


def test_eight_bits_need_a_unit(tmp_path: Path, own_task: DepthTask) -> None:
    """And are said to be coarse, in what is printed and in the protocol."""
    for number in range(10):
        write_photo(tmp_path / f"own/color/{number}.jpg", number, 120, 160)
        depth = np.round(own_labels.depth_m(number, 120, 160) * 25.5).astype(np.uint8)
        (tmp_path / "own/depth").mkdir(exist_ok=True)
        Image.fromarray(depth).save(tmp_path / f"own/depth/{number}.png")
    with pytest.raises(BadInput, match=r"8 bits.*25\.5 if 255 is 10 m"):
        open_depth(own_task, tmp_path)
    found = open_own_depth(own_task.model_copy(update={"depth_unit": 25.5}), tmp_path)
    assert any("steps of 39 mm" in line for line in found.notes)
    assert "in steps of 39 mm, an 8-bit copy" in found.own
    assert found.read(0).depth_m.max() == pytest.approx(4.0, abs=0.02)


def test_lists_folders_and_scenes_split(tmp_path: Path, own_task: DepthTask) -> None:
    own = tmp_path / "own"
    write_folder(own)
    (own / "nyu_train.txt").write_text("\ufeff000\ncolor/001.jpg\n# no\n002.jpg depth/002.png\n")
    (own / "nyu_test.txt").write_text("003\n")
    found = open_own_depth(own_task, tmp_path)
    assert (found.train.tolist(), found.test.tolist()) == ([0, 1, 2], [3])
    assert "not used: 6 in no split" in found.notes
    before = found.digest
    (own / "nyu_test.txt").write_text("003\n004\n")
    assert open_own_depth(own_task, tmp_path).digest != before
    (own / "nyu_test.txt").write_text("002\n")
    with pytest.raises(BadInput, match="1 images are both trained on and scored"):
        open_depth(own_task, tmp_path)
    (own / "nyu_test.txt").write_text("no such\n")
    with pytest.raises(BadInput, match="'no such' names no image with a label"):
        open_depth(own_task, tmp_path)
    for label in ("depth/004.png", "depth/gone.png", "masks/003.png"):
        (own / "nyu_test.txt").write_text(f"color/003.jpg {label}\n")
        with pytest.raises(BadInput, match="another label than 003.png, which its name says"):
            open_depth(own_task, tmp_path)
    (own / "nyu_test.txt").unlink()
    with pytest.raises(BadInput, match="nothing in test or val; state both, or neither"):
        open_depth(own_task, tmp_path)


def test_folders_named_after_the_split(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own/train", names=NAMES[:6])
    write_folder(tmp_path / "own/val", names=NAMES[6:])
    found = open_own_depth(own_task, tmp_path)
    assert (len(found.train), len(found.test)) == (6, 4)
    assert "by the folders train and validation" in found.notes[1]


def test_whole_scenes_are_scored(tmp_path: Path, own_task: DepthTask) -> None:
    """By their names alone: another scene beside them moves none but itself."""
    for scene in "abcde":
        write_folder(
            tmp_path / "own", f"color/{scene}/{{}}.jpg".format, f"depth/{scene}/{{}}.png".format
        )
    found = open_own_depth(own_task, tmp_path)
    scenes = {place // 10 for place in found.test.tolist()}
    assert len(scenes) == 1
    assert len(found.test) == 10
    assert "1 of 5 scenes are scored" in found.notes[1]
    assert open_own_depth(own_task, tmp_path).test.tolist() == found.test.tolist()


def test_a_mask_is_of_its_own_image_where_scenes_call_theirs_alike(
    tmp_path: Path, own_task: DepthTask
) -> None:
    for number, scene in enumerate(("kitchen", "office")):
        folder = tmp_path / "own" / scene
        write_folder(folder)
        mask = np.full(own_labels.depth_m(0).shape, 255, np.uint8)
        mask[:, : 4 + number] = 0
        written = tmp_path / f"masks/{scene}/color/{NAMES[0]}.png"
        written.parent.mkdir(parents=True)
        Image.fromarray(mask).save(written)
    task = own_task.model_copy(update={"masks": Path("masks")})
    found = open_own_depth(task, tmp_path)
    before = found.digest
    for number in (0, 1):
        valid = found.read(number * len(NAMES)).valid
        assert not valid[:, : 4 + number].any()
        assert valid[:, 4 + number].any()
    Image.fromarray(np.full_like(mask, 255)).save(written)
    assert open_own_depth(task, tmp_path).digest != before
    (tmp_path / "masks/kitchen").rename(tmp_path / "away")
    shutil.copy(tmp_path / f"away/color/{NAMES[0]}.png", tmp_path / f"masks/{NAMES[0]}.png")
    with pytest.raises(BadInput, match="2 images would take it for their mask; name masks as"):
        open_own_depth(task, tmp_path).read(0)


def test_depth_of_another_size_takes_the_nearest(tmp_path: Path, own_task: DepthTask) -> None:
    for number in range(5):
        write_photo(tmp_path / f"own/color/{number}.jpg", number, 2 * 24, 2 * 32)
        write_depth(tmp_path / f"own/depth/{number}.png", own_labels.depth_m(number))
    frame = open_own_depth(own_task, tmp_path).read(0)
    truth = own_labels.depth_m(0)
    assert frame.image.shape == (48, 64, 3)
    assert (frame.depth_m == truth.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_another_field_of_view_is_refused(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own")
    write_photo(tmp_path / "own/color/004.jpg", 4, 24, 24)
    with pytest.raises(BadInput, match=r"004\.png: 32 x 24 for an image of 24 x 24: another field"):
        check(own_task, tmp_path)


def test_several_shapes_are_refused_before_training(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own")
    write_photo(tmp_path / "own/color/tall.jpg", 4, 32, 24)
    write_depth(tmp_path / "own/depth/tall.png", own_labels.depth_m(0, 32, 24))
    with pytest.raises(BadInput, match="images of 2 shapes once the smaller side is resized"):
        check(own_task, tmp_path)


@pytest.mark.parametrize("follows", ["stored", "upright"])
def test_a_photograph_is_turned_as_its_depth_is(
    tmp_path: Path, own_task: DepthTask, follows: str
) -> None:
    """The camera stored 32 x 24 and notes that it was held upright."""
    held = Image.Exif()
    held[0x0112] = 6
    picture = own_labels.photo(0)
    size = (24, 32) if follows == "stored" else (32, 24)
    for number in range(5):
        path = tmp_path / f"own/color/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, exif=held)
        write_depth(tmp_path / f"own/depth/{number}.png", own_labels.depth_m(number, *size))
    image = open_own_depth(own_task, tmp_path).read(0).image
    assert (image == (picture if follows == "stored" else np.rot90(picture, -1))).all()


def test_a_turn_that_no_shape_tells_is_refused(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own")
    held = Image.Exif()
    held[0x0112] = 3
    Image.fromarray(own_labels.photo(0)).save(tmp_path / "own/color/000.jpg", exif=held)
    with pytest.raises(BadInput, match="EXIF orientation is 3"):
        check(own_task, tmp_path)


def test_lossy_depth_is_refused(tmp_path: Path, own_task: DepthTask) -> None:
    for number in range(3):
        write_photo(tmp_path / f"own/color/{number}.jpg")
        write_photo(tmp_path / f"own/depth/{number}.jpg")
    with pytest.raises(BadInput, match="3 colour images, and no depth of their names"):
        open_depth(own_task, tmp_path)


def test_every_depth_task_runs_on_a_folder(
    tmp_path: Path,
    own_task: DepthTask,
    linear_depth_task: LinearDepthTask,
    few_shot_depth_task: FewShotDepthTask,
    encoder: VisionTransformer,
) -> None:
    """With the region of NYUv2 where it is defined, else with all pixels; the protocol names the
    data."""
    write_folder(tmp_path / "own")
    eigen = {"score_region": "eigen", "score_at": "native", "data": Path("own")}
    for task in (own_task, linear_depth_task, few_shot_depth_task):
        update = eigen if task.frame == "whole" else {"data": Path("own")}
        result = run_task(task.model_copy(update=update), as_subject(encoder), folders_in(tmp_path))
        assert 0 <= result.value <= 1
        assert "region all" in result.protocol
        assert "own data own (depth in millimetres; split one scene" in result.protocol


def test_a_public_copy_needs_no_word(own_task: DepthTask, real_data: Path) -> None:
    """NYUv2 as it lies there: the official split, millimetres, and that it is coarse."""
    found = open_own_depth(own_task.model_copy(update={"data": real_data / "real/nyu"}), Path())
    assert (len(found.train), len(found.test)) == (795, 654)
    assert found.unit.per_m == 1000
    assert found.unit.median_m == pytest.approx(2.6, abs=0.3)
    assert any("steps of 39 mm" in line for line in found.notes)


def test_a_record3d_capture_is_read(own_task: DepthTask, real_data: Path) -> None:
    found = open_own_depth(
        own_task.model_copy(update={"data": real_data / "real/record3d_viewer"}), Path()
    )
    assert found.length == 92
    assert found.unit.per_m == 1000
    assert found.unit.median_m == pytest.approx(0.458, abs=0.06)


def test_scenes_below_a_pair_are_used_too(tmp_path: Path, own_task: DepthTask) -> None:
    """In color/ and in the folder itself."""
    for scene in ("a", "b"):
        write_folder(
            tmp_path / "own", f"color/{scene}/{{}}.png".format, f"depth/{scene}/{{}}.png".format
        )
    write_folder(tmp_path / "own", "color/{}.png".format, "depth/{}.png".format)
    write_folder(tmp_path / "own", "c/{}_rgb.png".format, "c/{}_depth.png".format)
    write_folder(tmp_path / "own", "{}_rgb.png".format, "{}_depth.png".format)
    assert open_own_depth(own_task, tmp_path).length == 5 * len(NAMES)


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ("depth/{}.png", "depth/{}.npy", "are both the depth of"),
        ("depth/{}.png", "depth/{}_depth.png", "are both the depth of"),
        ("color/{}.png", "color/{}.jpg", "have one name"),
    ],
)
def test_of_several_files_for_one_image_none_is_chosen(
    tmp_path: Path, own_task: DepthTask, first: str, second: str, match: str
) -> None:
    colour, depth = ("color/{}.png", "depth/{}.png")
    write_folder(tmp_path / "own", colour.format, depth.format)
    if second.startswith("depth"):
        write_depth(tmp_path / "own" / second.format(NAMES[2]), own_labels.depth_m(5))
    else:
        write_photo(tmp_path / "own" / second.format(NAMES[2]), 5)
    with pytest.raises(BadInput, match=match) as error:
        open_own_depth(own_task, tmp_path)
    assert Path(first.format(NAMES[2])).name in str(error.value)
    assert Path(second.format(NAMES[2])).name in str(error.value)


def test_of_several_files_beside_each_other_none_is_chosen(
    tmp_path: Path, own_task: DepthTask
) -> None:
    write_folder(tmp_path / "own", "{}.jpg".format, "{}.npy".format)
    write_photo(tmp_path / f"own/{NAMES[1]}_rgb.png", 5)
    with pytest.raises(BadInput, match="are both the image of"):
        open_own_depth(own_task, tmp_path)


def test_depth_without_an_image_is_said(tmp_path: Path, own_task: DepthTask) -> None:
    write_folder(tmp_path / "own", "color/{}.png".format, "depth/{}.png".format)
    (tmp_path / "own/color" / f"{NAMES[3]}.png").unlink()
    said = lines(check(own_task, tmp_path))
    left = f"1 files beside labels that belong to no image, such as depth/{NAMES[3]}.png"
    assert f"not used: {left}" in said
