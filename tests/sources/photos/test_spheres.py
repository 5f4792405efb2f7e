"""360-degree photographs: mined as flat pictures, and said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow
from PIL import TiffImagePlugin, TiffTags

from mimic.params import load_params
from mimic.sources.images import ImageSource
from mimic.sources.photos import spheres
from mimic.sources.video.tracks import SPHERE
from tests.support import footage

ATTRIBUTE = 'GPano:ProjectionType="equirectangular" GPano:UsePanoramaViewer="True"/>'
ELEMENT = "><GPano:ProjectionType> equirectangular </GPano:ProjectionType></rdf:Description>"
FLAT = 'GPano:ProjectionType="rectilinear"/>'


def _written(path: Path, projection: str | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pillow.fromarray(np.zeros((32, 64, 3), np.uint8))
    if projection is None:
        picture.save(path)
        return path
    space = 'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {space} {projection}</x:xmpmeta>'
    if path.suffix == ".tif":
        picture.save(path, tiffinfo={spheres.TIFF_XMP: xmp.encode()})
    else:
        picture.save(path, xmp=xmp.encode())
    return path


@pytest.mark.parametrize("name", ["a.JPG", "a.webp", "a.tif"])
@pytest.mark.parametrize(
    ("projection", "is_sphere"), [(ATTRIBUTE, True), (ELEMENT, True), (FLAT, False), (None, False)]
)
def test_metadata_say_what_is_a_sphere(
    tmp_path: Path, name: str, projection: str | None, is_sphere: bool
) -> None:
    assert spheres.is_sphere(_written(tmp_path / name, projection)) == is_sphere


def test_what_is_no_picture_is_no_sphere(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(ATTRIBUTE.encode())
    assert not spheres.is_sphere(tmp_path / "a.jpg")
    assert not spheres.is_sphere(tmp_path / "away.jpg")


def test_a_clip_with_spheres_is_noted(tmp_path: Path, repository: Path) -> None:
    section = footage.images_section(load_params(repository / "params.yaml"), tmp_path)
    for number in range(40):
        _written(tmp_path / f"walk/IMG_{number:04d}.jpg", None)
    assert ImageSource("mine", section, tmp_path).describe("walk").get("note") is None
    for number in (7, 8):
        _written(tmp_path / f"walk/IMG_{number:04d}.PHOTOSPHERE.jpg", ATTRIBUTE)
    said = f"IMG_0007.PHOTOSPHERE.jpg, as 2 of 16 images looked at: {SPHERE}"
    assert ImageSource("mine", section, tmp_path).describe("walk").get("note") == said


def test_metadata_of_another_kind_say_nothing(tmp_path: Path) -> None:
    picture = pillow.fromarray(np.zeros((32, 64, 3), np.uint8))
    entries = TiffImagePlugin.ImageFileDirectory_v2()
    entries[spheres.TIFF_XMP] = (1, 2, 3)
    entries.tagtype[spheres.TIFF_XMP] = TiffTags.SHORT
    picture.save(tmp_path / "a.tif", tiffinfo=entries)
    assert not spheres.is_sphere(tmp_path / "a.tif")


def test_a_large_folder_of_spheres_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [_written(tmp_path / f"R{number:07d}.JPG", None) for number in range(100)]
    opened: list[Path] = []
    monkeypatch.setattr(spheres, "is_sphere", opened.append)
    assert spheres.remark(files) is None
    assert len(opened) <= spheres.SAMPLES
