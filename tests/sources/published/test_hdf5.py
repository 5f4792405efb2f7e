"""An HDF5 file that names others: none of them is opened."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from mimic import config
from mimic.sources.base import Unreadable
from mimic.sources.hdf5 import item
from mimic.sources.published.demon import DemonSource

JPEG = np.frombuffer(
    cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1],
    np.uint8,
)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        for view in ("v0", "v1"):
            file[f"scene/frames/t0/{view}/image"] = JPEG
    (tmp_path / "raw").write_bytes(JPEG.tobytes())
    return path


def _evil(path: Path, secret: Path, how: str) -> None:
    with h5py.File(path, "w") as file:
        if how == "scene":
            file["scene"] = h5py.ExternalLink(str(secret), "/scene")
            return
        image = "scene/frames/t0/v0/image"
        file["scene/frames/t0/v1/image"] = JPEG
        if how == "image":
            file[image] = h5py.ExternalLink(str(secret), f"/{image}")
        elif how == "soft":
            file["far"] = h5py.ExternalLink(str(secret), "/scene")
            file[image] = h5py.SoftLink("/far/frames/t0/v0/image")
        elif how == "storage":
            where = [(str(secret.with_name("raw")), 0, len(JPEG))]
            file.create_dataset(image, shape=JPEG.shape, dtype=np.uint8, external=where)
        else:
            layout = h5py.VirtualLayout(shape=JPEG.shape, dtype=np.uint8)
            layout[:] = h5py.VirtualSource(str(secret), image, shape=JPEG.shape)
            file.create_virtual_dataset(image, layout)


@pytest.mark.parametrize("how", ["scene", "image", "soft", "storage", "virtual"])
def test_nothing_of_another_file_is_read(tmp_path: Path, secret: Path, how: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    _evil(root / "train.h5", secret, how)
    with h5py.File(root / "train.h5") as file, pytest.raises(Unreadable, match="another file"):
        item(file, "scene/frames/t0/v0/image")
    section = config.Demon(
        reader="demon",
        root=root,
        tracked_by=root,
        sharpness_min=0,
        limit_clips=None,
        licence="private",
        views_max=9,
    )
    source = DemonSource("demon", section, root)
    with pytest.raises(Unreadable, match="another file"):
        _read_all(source)


def _read_all(source: DemonSource) -> None:
    for group in source.groups("train.h5/scene", np.random.default_rng(0)):
        for view in group.views:
            view.read()


def test_links_within_a_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["real/image"] = JPEG
        file["alias"] = h5py.SoftLink("/real")
        assert len(item(file, "alias/image")) == len(JPEG)
        with pytest.raises(KeyError):
            item(file, "alias/nothing")
