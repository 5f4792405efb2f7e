"""Labelled folders of one's own that are made of links: a path says which side of a split its image
belongs to, or which class, whatever file it leads to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mimic.errors import BadInput
from mimic.sources.rgbd_layouts import frames_in
from mimic.tasks.depth.config import DepthTask
from mimic.tasks.imagenet.own import OwnClasses
from mimic.tasks.own.splits import LabelledImage, split
from mimic.tasks.segmentation.own import OwnMasks
from tests.support.own_labels import depth_m, open_own_depth, photo, write_depth, write_photo
from tests.tasks.imagenet.test_own_classes import write_classes
from tests.tasks.segmentation.test_own_masks import mask, write_set

SIDES = {"train": range(6), "val": range(6, 9)}


@pytest.fixture
def own_task(depth_task: DepthTask) -> DepthTask:
    return depth_task.model_copy(update={"data": Path("own"), "masks": None})


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def _link_sides(folder: Path, images: str, labels: str) -> None:
    """train/ and val/ of links in both folders to the files in all/."""
    for side, numbers in SIDES.items():
        for kind, ending in ((images, "jpg"), (labels, "png")):
            for number in numbers:
                name = f"{number}.{ending}"
                _link(folder / kind / "all" / name, folder / kind / side / name)


def test_masks_in_folders_of_links(tmp_path: Path) -> None:
    write_set(tmp_path, "images/all/{}.jpg", "masks/all/{}.png")
    _link_sides(tmp_path, "images", "masks")
    opened = OwnMasks(tmp_path, 255)
    names = [opened.stem(index) for index in (*opened.train, *opened.test)]
    assert names == [
        f"images-{side}-{number}" for side, numbers in SIDES.items() for number in numbers
    ]
    assert "10 in no split" in opened.notes[2]


def test_depth_in_folders_of_links(tmp_path: Path, own_task: DepthTask) -> None:
    folder = tmp_path / "own"
    for number in range(10):
        write_photo(folder / f"color/all/{number}.jpg", number)
        write_depth(folder / f"depth/all/{number}.png", depth_m(number))
    _link_sides(folder, "color", "depth")
    opened = open_own_depth(own_task, tmp_path)
    assert (len(opened.train), len(opened.test)) == (6, 3)
    assert "by the folders train and validation" in opened.notes[1]
    assert "10 in no split" in opened.notes[-1]


def test_sides_that_are_links_to_folders(tmp_path: Path, own_task: DepthTask) -> None:
    """A link to a folder that has been listed, or lies elsewhere."""
    folder = tmp_path / "own"
    for side, numbers in SIDES.items():
        for number in numbers:
            write_photo(tmp_path / f"store/{side}/color/{number}.jpg", number)
            write_depth(tmp_path / f"store/{side}/depth/{number}.png", depth_m(number))
    _link(tmp_path / "store/train", folder / "data")
    _link(folder / "data", folder / "train")
    _link(tmp_path / "store/val", folder / "val")
    _link(folder, folder / "val/back")  # would be followed for ever
    opened = open_own_depth(own_task, tmp_path)
    assert (len(opened.train), len(opened.test)) == (6, 3)
    assert "6 in no split" in opened.notes[-1]


def test_classes_in_folders_of_links(tmp_path: Path) -> None:
    write_classes(tmp_path / "store", 9)
    for path in sorted((tmp_path / "store").rglob("*.jpg")):
        side = "train" if int(path.name[0]) < 6 else "val"
        _link(path, tmp_path / f"own/{side}" / path.relative_to(tmp_path / "store"))
    _link(tmp_path / "store", tmp_path / "own/all")
    opened = OwnClasses(tmp_path / "own")
    assert (len(opened.train[0]), len(opened.val[0])) == (18, 9)
    assert len(opened.wnids) == 3  # `all` is none
    assert "27 in no split" in opened.notes[-1]


def test_one_label_for_many_images(tmp_path: Path, own_task: DepthTask) -> None:
    """Of a camera that stands still, as links."""
    folder = tmp_path / "own"
    write_depth(folder / "static.png", depth_m(0))
    for number in range(6):
        write_photo(folder / f"color/{number}.jpg", 0)
        _link(folder / "static.png", folder / f"depth/{number}.png")
        Image.fromarray(photo(number, 40, 48)).save(_made(tmp_path / f"masked/images/{number}.png"))
        _link(tmp_path / "static.png", tmp_path / f"masked/masks/{number}.png")
    Image.fromarray(mask(0)).save(tmp_path / "static.png")
    assert open_own_depth(own_task, tmp_path).length == 6
    assert len(OwnMasks(tmp_path / "masked", 255)) == 6
    assert all(frame.depth is not None for frame in frames_in(folder, 0.02))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_an_image_on_both_sides_under_two_names_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, "images/train/{}.jpg", "masks/train/{}.png", count=6)
    write_set(tmp_path, "images/val/{}.jpg", "masks/val/{}.png", count=2)  # the same two again
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        name = f"train/3.{ending}"
        _link(tmp_path / kind / name, tmp_path / kind / f"val/other.{ending}")
    with pytest.raises(BadInput, match=r"1 images .* two names, such as images/train/3\.jpg and "):
        OwnMasks(tmp_path, 255)
    (tmp_path / "images/val/other.jpg").unlink()
    os.link(tmp_path / "images/train/3.jpg", tmp_path / "images/val/other.jpg")
    with pytest.raises(BadInput, match=r"images/val/other\.jpg, which are one file"):
        OwnMasks(tmp_path, 255)
    (tmp_path / "images/val/other.jpg").unlink()
    shutil.copy(tmp_path / "images/train/3.jpg", tmp_path / "images/val/other.jpg")
    said = OwnMasks(tmp_path, 255).notes[-1]
    assert said.startswith("3 images that are scored are trained on, too, as copies")
    assert said.endswith("such as images/val/0.jpg and images/train/0.jpg")


def test_links_beside_their_files_count_once_where_no_split_is_stated(tmp_path: Path) -> None:
    """They could come to lie on both sides."""
    write_classes(tmp_path, 5)
    for name in ("кот", "Äpfel"):
        for path in sorted((tmp_path / name).iterdir()):
            path.with_name(f"0 first {path.name}").symlink_to(path.name)
    opened = OwnClasses(tmp_path)
    assert (len(opened.train[0]), len(opened.val[0])) == (12, 3)
    assert not any(path.is_symlink() for path in (*opened.train[0], *opened.val[0]))
    assert "10 links to other images" in opened.notes[-1]


def test_what_is_one_file_cannot_be_divided(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("a.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    items = [LabelledImage(path.stem, path, path, "") for path in paths]
    with pytest.raises(BadInput, match="all labelled images are one file"):
        split(tmp_path, items)


def test_an_image_that_is_linked_again_in_its_split_is_said(tmp_path: Path) -> None:
    """Some weigh a rare class so."""
    write_classes(tmp_path / "train", 3)
    write_classes(tmp_path / "val", 2)
    for path in sorted((tmp_path / "train/кот").iterdir()):
        path.with_name(f"again {path.name}").symlink_to(path.name)
    opened = OwnClasses(tmp_path)
    assert len(opened.train[0]) == 12
    assert "3 images of a split are other names (links) of images of it" in opened.notes[1]
