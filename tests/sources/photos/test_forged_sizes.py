"""Pictures whose headers state sizes that are not behind them: named, in bounded memory."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from mimic import sources
from mimic.errors import BadInput
from mimic.mining import loop, shard_job
from mimic.mining.stats import MiningStats
from mimic.pairs import read as pairs
from mimic.params import load_params
from mimic.sources import depth_files
from mimic.sources.base import Unreadable
from mimic.sources.photos import pictures
from mimic.tasks.depth import nyu
from mimic.tasks.engine import image_io
from mimic.tasks.flow_stereo import files as flow
from mimic.tasks.keypoints import coco
from mimic.tasks.segmentation import own
from tests.support import footage

SIDE = 60000


def _saved(form: str, mode: str = "RGB", **more: Any) -> bytearray:
    data = io.BytesIO()
    pillow.new(mode, (64, 48), 9).save(data, form, **more)
    return bytearray(data.getvalue())


def png(mode: str = "RGB") -> bytes:
    data = _saved("PNG", mode)
    data[16:24] = struct.pack(">II", SIDE, SIDE)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def jpeg(**more: Any) -> bytes:
    data = _saved("JPEG", **more)
    frame = data.find(b"\xff\xc2" if more else b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", SIDE, SIDE)
    return bytes(data)


def tiff() -> bytes:
    data = _saved("TIFF", "L")
    first = struct.unpack("<I", data[4:8])[0]
    for entry in range(struct.unpack("<H", data[first : first + 2])[0]):
        place = first + 2 + 12 * entry
        if struct.unpack("<H", data[place : place + 2])[0] in (256, 257):  # width and height
            data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, SIDE)
    return bytes(data)


def webp() -> bytes:
    data = _saved("WEBP")
    start = data.find(b"\x9d\x01\x2a") + 3
    data[start : start + 4] = struct.pack("<HH", 16383, 16383)
    return bytes(data)


def gif() -> bytes:
    data = _saved("GIF", save_all=True, append_images=[pillow.new("RGB", (64, 48), 200)])
    data[6:10] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


FORGED: dict[str, Callable[[], bytes]] = {
    "a.png": png,
    "a.jpg": jpeg,
    "progressive.jpg": lambda: jpeg(progressive=True),
    "a.tif": tiff,
    "a.webp": webp,
}


def write(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(FORGED[name]())
    return path


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_picture_is_named_by_every_reader(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    with pytest.raises(Unreadable, match=r"^(damaged: its header states )?\d+ x \d+ pixels"):
        pictures.read(path)
    for read in (image_io.read_photo, image_io.read_labels, flow._png):
        with pytest.raises(BadInput, match=rf"{re.escape(name)}: \d+ x \d+ pixels are more") as one:
            read(path)
        assert "\n" not in str(one.value)


def test_a_forged_jpeg_takes_no_memory(tmp_path: Path) -> None:
    """Its decoder would fill what is missing with grey: 12 GB, in two minutes."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from mimic.sources.photos import pictures\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try:\n    pictures.read(Path(sys.argv[1]))\n"
        "except pictures.Unreadable as error:\n    print(error)\n"
    )
    path = write(tmp_path, "progressive.jpg")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout == (
        f"damaged: its header states {SIDE} x {SIDE} pixels, which do not fit into its "
        f"{path.stat().st_size} bytes\n"
    )
    assert done.stderr == ""


def test_among_photographs_each_is_counted_once(tmp_path: Path, repository: Path) -> None:
    for number, image in enumerate(footage.pan(1, 3, 80)):
        pillow.fromarray(image).save(tmp_path / f"photo{number}.png")
    for name in FORGED:
        write(tmp_path, name)
    (tmp_path / "moving.gif").write_bytes(gif())
    params = load_params(repository / "params.yaml")
    section = footage.images_section(params, tmp_path, pairing="all", group_max=20)
    source = sources.open_source("any", section, Path(), 224)
    assert source.clips() == ["."]
    assert source.skipped == {
        "moving.gif": "an animation, which is mined as a video, not among photographs"
    }
    stats = MiningStats()
    found = list(loop.mine_clip(source, ".", shard_job.rule_of(params.mine), 0.0, 0, stats))
    assert found
    assert {name for _, name in stats.unreadable_views} == set(FORGED)


def _header(shape: str) -> bytes:
    about = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(about)) + about.encode()


def test_depth_of_a_forged_size_is_named_before_it_is_read(tmp_path: Path) -> None:
    array = _header("(60000, 60000)")
    (tmp_path / "depth.npy").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "depth.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", array + bytes(1_000_000))
    for name in ("depth.npy", "depth.npz"):
        with pytest.raises(Unreadable, match="60000 x 60000 numbers are more than 180 million"):
            depth_files.read_values(tmp_path / name)
    (tmp_path / "depth.png").write_bytes(png("L"))
    with pytest.raises(Unreadable, match="60000 x 60000 pixels are more than 180 megapixels"):
        depth_files.read_values(tmp_path / "depth.png")
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "whole.npy", whole)
    np.savez(tmp_path / "whole.npz", depth=whole, other=1)
    for name in ("whole.npy", "whole.npz"):
        assert np.array_equal(depth_files.read_values(tmp_path / name), whole)


def test_masks_and_annotated_images_of_a_forged_size_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(png("P"))
    for coloured in (True, False):
        with pytest.raises(BadInput, match="60000 x 60000 pixels are more than"):
            own.read_mask(tmp_path / "mask.png", coloured)
    cut = _saved("PNG", "P")
    (tmp_path / "cut.png").write_bytes(cut[:-30])
    for coloured in (True, False):
        with pytest.raises(BadInput, match=r"cut\.png: damaged"):
            own.read_mask(tmp_path / "cut.png", coloured)
    assert "opened" in vars(coco)  # the sizes of annotated images are read by the same rule


def test_a_forged_mask_of_a_depth_set_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "0000.png").write_bytes(png("L"))
    with pytest.raises(BadInput, match=r"0000\.png: no such mask, or not a PNG"):
        nyu.Nyu._read_mask(None, tmp_path, 0, (48, 64))


def test_a_forged_jpeg_in_a_shard_is_no_image() -> None:
    assert pairs.decode_image(jpeg()) is None
