"""Labelled folders as people have them, with known geometry."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mimic.tasks.depth.config import DepthTask
from mimic.tasks.depth.own import OwnDepth
from mimic.tasks.depth.sets import open_depth

HEIGHT = 24
WIDTH = 32
NAMES = tuple(f"{number:03d}" for number in range(10))


def depth_m(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A slanted wall from about 1 to 4 m, float32, whole millimetres; its first pixel unknown."""
    rise = np.linspace(1, 3, width)[None] + np.linspace(0, 1, height)[:, None]
    found = np.round(rise + 0.01 * seed, 3).astype(np.float32)
    found[0, 0] = 0
    return found


def photo(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_photo(path: Path, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(seed, height, width)).save(path)


def write_depth(path: Path, depth: np.ndarray, per_m: float | None = None) -> None:
    """As the ending says: 16 bits in millimetres, arrays and floats in metres, unless stated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    whole = ending in (".png", ".pgm")
    values = depth * (per_m or (1000.0 if whole else 1.0))
    if whole:
        Image.fromarray(np.round(values).astype(np.uint16)).save(path)
    elif ending == ".npy":
        np.save(path, values)
    elif ending == ".npz":
        np.savez(path, depth=values, confidence=np.ones(3))
    elif ending == ".exr":
        path.write_bytes(exr(values, "Z"))
    else:
        assert cv2.imwrite(str(path), values.astype(np.float32))


def write_folder(
    folder: Path,
    colour: Callable[[str], str] = "color/{}.jpg".format,
    depth: Callable[[str], str] = "depth/{}.png".format,
    names: tuple[str, ...] = NAMES,
    per_m: float | None = None,
) -> None:
    for number, name in enumerate(names):
        write_photo(folder / colour(name), number)
        write_depth(folder / depth(name), depth_m(number), per_m)


EXR_NONE, EXR_RLE, EXR_ZIPS = 0, 1, 2  # by their numbers in the file


def exr(
    values: np.ndarray, channels: str, half: bool = False, compression: int = EXR_NONE
) -> bytes:
    """An OpenEXR file of single lines, all channels equal; another compression is only named."""
    height, width = values.shape
    kind = np.dtype("<f2" if half else "<f4")

    def attribute(name: str, what: str, content: bytes) -> bytes:
        length = struct.pack("<i", len(content))
        return name.encode() + b"\0" + what.encode() + b"\0" + length + content

    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    about = struct.pack("<iB3xii", 1 if half else 2, 0, 1, 1)
    listed = b"".join(name.encode() + b"\0" + about for name in channels) + b"\0"
    head = b"\x76\x2f\x31\x01" + struct.pack("<i", 2)
    head += attribute("channels", "chlist", listed)
    head += attribute("compression", "compression", bytes([compression]))
    head += attribute("dataWindow", "box2i", box) + attribute("displayWindow", "box2i", box)
    head += attribute("lineOrder", "lineOrder", b"\0")
    head += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += attribute("screenWindowCenter", "v2f", struct.pack("<ff", 0, 0))
    head += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    rows = []
    for y, row in enumerate(values.astype(kind)):
        content = _packed(len(channels) * row.tobytes(), compression)
        rows.append(struct.pack("<ii", y, len(content)) + content)
    first = len(head) + 8 * height
    starts = [first + sum(map(len, rows[:y])) for y in range(height)]
    return head + struct.pack(f"<{height}Q", *starts) + b"".join(rows)


def _packed(line: bytes, compression: int) -> bytes:
    """Even bytes before odd ones, differences, then RLE or deflate; whichever is shorter counts."""
    if compression not in (EXR_RLE, EXR_ZIPS):
        return line
    parted = np.frombuffer(line[::2] + line[1::2], np.uint8).astype(np.int16)
    steps = np.concatenate([parted[:1], np.diff(parted) + 128]).astype(np.uint8).tobytes()
    packed = zlib.compress(steps) if compression == EXR_ZIPS else _runs(steps)
    return packed if len(packed) < len(line) else line


def _runs(content: bytes) -> bytes:
    """A count less one and the byte that repeats, or minus a count and as many bytes."""
    found = b""
    at = 0
    while at < len(content):
        end = at + 1
        while end < len(content) and content[end] == content[at] and end - at < 128:
            end += 1
        alone = end - at < 3
        end = at + 1 if alone else end
        head = -1 if alone else end - at - 1
        found += struct.pack("b", head) + content[at : at + 1]
        at = end
    return found


def open_own_depth(task: DepthTask, root: Path) -> OwnDepth:
    """The folder that a task names, which is none of NYUv2's."""
    found = open_depth(task, root)
    assert isinstance(found, OwnDepth)
    return found


def packed_png(path: Path, values: np.ndarray, bits: int) -> None:
    """Grey of 1, 2 or 4 bits, which Pillow does not write.

    Args:
        values: uint8[height, width]; a row fills whole bytes.
    """
    height, width = values.shape
    unpacked = np.unpackbits(values[..., None], axis=-1)[..., -bits:]
    rows = np.packbits(unpacked.reshape(height, -1), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
            for name, content in chunks
        )
    )
