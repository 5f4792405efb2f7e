"""Depth images as people store them, read as the numbers that stand in the file; which unit these
are in is for the caller to know.

    .png .pgm .tif .tiff       one channel of 8 or 16 bits, or of 32-bit floats (TIFF)
    .npy .npz                  [h, w], whole numbers or floats; of several arrays in a .npz, `depth`
    .exr                       32- or 16-bit floats; of several channels, where all are equal;
                               as it is, or compressed by RLE, ZIPS, ZIP, PIZ or PXR24

A palette, an alpha channel, three different channels, or a lossy format hold no depth: they are
refused rather than converted.
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import IO

import av
import numpy as np
from PIL import Image as pillow

from mimic.sources.base import Unreadable
from mimic.sources.photos import pictures

PICTURES = (".png", ".pgm", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")
FLOATS = (".exr",)
DEPTH = (*PICTURES, *ARRAYS, *FLOATS)
ODD_MODES = {"P": "a palette", "1": "black and white"}
UNKNOWN = (0, 65535)  # of 16 bits; of other numbers whatever is no distance
EXR = b"\x76\x2f\x31\x01"
CHANNELS = b"channels\0chlist\0"
COMPRESSION = b"compression\0compression\0"
COMPRESSIONS = ("none", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
LOSSY = ("B44", "B44A", "DWAA", "DWAB")
# P2 or P5, width, height and the greatest number, with comments between them
GREY_MAP = re.compile(rb"P[25]{0}\d+{0}\d+{0}(\d+)".replace(b"{0}", rb"(?:\s|#[^\n\r]*[\n\r])+"))
HEADER_MAX = 4096  # bytes
ONE_LETTER = 19  # bytes of a list of one channel: letter, end, 16 bytes about it, end


def read_values(path: Path) -> np.ndarray:
    """uint8, uint16, uint32 or float32[height, width], as stored; uint32 where a whole number does
    not fit in 16 bits.

    Raises:
        Unreadable: damaged, of several channels, or no depth.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in ARRAYS:
            return _one_channel(_array(path))
        if suffix in FLOATS:
            return _one_channel(_exr(path))
        return _one_channel(_picture(path))
    except (Unreadable, FileNotFoundError):
        raise
    except pillow.UnidentifiedImageError:
        raise Unreadable("no image") from None
    except Exception as error:  # damaged bytes surface as nearly any exception of a decoder
        raise Unreadable(pictures.reason(error)) from None


def in_metres(values: np.ndarray, per_m: float) -> np.ndarray:
    """float32[height, width]; 0 where unknown.

    Args:
        values: as `read_values` gives them.
        per_m: units a metre.
    """
    known = np.isfinite(values) & (values > 0)
    if values.dtype == np.uint16:
        known &= ~np.isin(values, UNKNOWN)
    return np.where(known, values / per_m, 0).astype(np.float32)


def _picture(path: Path) -> np.ndarray:
    with pictures.opened(path) as file:
        pictures.refuse_giant(*file.size)
        if file.mode not in ("L", "F", "I", "I;16", "I;16B", "I;16L"):
            what = ODD_MODES.get(file.mode, f"channels {file.mode}")
            raise Unreadable(f"{what}, where one channel of depth is wanted")
        if file.format in ("JPEG", "WEBP"):
            raise Unreadable(f"a lossy {file.format} holds no depth")
        step = pictures.grey_step(file)
        values = np.array(file) // step if step > 1 else np.array(file)
        return _as_stored(path, values) if file.format == "PPM" else values


def _as_stored(path: Path, values: np.ndarray) -> np.ndarray:
    """A grey map without what Pillow multiplies by: it spreads the numbers over all of 8 or 16
    bits, where the header names a smaller greatest one."""
    with path.open("rb") as file:
        header = GREY_MAP.match(file.read(HEADER_MAX))
    if header is None:
        return values  # floats (Pf)
    largest = int(header[1])
    range_max = 255 if largest < 256 else 65535
    stored = np.rint(values * (largest / range_max))
    return stored.astype(np.uint8 if largest < 256 else np.uint16)


def _array(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return _bounded(file)
    with np.load(path, allow_pickle=False) as archive:
        names = sorted(archive.files)
        if len(names) > 1 and "depth" not in names:
            raise Unreadable(f"arrays {', '.join(names)}, of which none is called depth")
        if not names:
            raise Unreadable("no array")
        name = "depth" if len(names) > 1 else names[0]
        if f"{name}.npy" not in archive.zip.namelist():
            raise Unreadable("no array")
        with archive.zip.open(f"{name}.npy") as member:
            return _bounded(member)


def _bounded(file: IO[bytes]) -> np.ndarray:
    """The array of a .npy file whose header states no more numbers than a picture has."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, _ = read(file)
    if math.prod(shape) > pictures.PIXELS_MAX:
        raise Unreadable(
            f"{' x '.join(map(str, shape))} numbers are more than "
            f"{pictures.PIXELS_MAX / 1e6:.0f} million"
        )
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _exr(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if not content.startswith(EXR):
        raise Unreadable("no image")
    _refuse_lossy(content)
    with av.open(io.BytesIO(_called_luminance(content)), "r", format="exr_pipe") as file:
        frame = next(file.decode(video=0))
    planes = [_plane(frame, number) for number in range(min(3, len(frame.planes)))]
    if any(not np.array_equal(plane, planes[0], equal_nan=True) for plane in planes):
        raise Unreadable("channels differ, where one channel of depth is wanted")
    return planes[0]


def _refuse_lossy(content: bytes) -> None:
    at = content.find(COMPRESSION)
    if at < 0:
        raise Unreadable("no compression is named")
    number = content[at + len(COMPRESSION) + 4]  # behind the attribute's length
    if number >= len(COMPRESSIONS):
        raise Unreadable(
            f"compressed by method {number} of OpenEXR, which is not read; save as ZIP"
        )
    if COMPRESSIONS[number] in LOSSY:
        raise Unreadable(
            f"a lossy OpenEXR ({COMPRESSIONS[number]}) holds no exact depth; save it as ZIP"
        )


def _plane(frame: av.VideoFrame, number: int) -> np.ndarray:
    """Floats [height, width] of one channel, without a conversion."""
    plane = frame.planes[number]
    kind = np.dtype("<f2" if "f16" in frame.format.name else "<f4")
    rows = np.frombuffer(bytes(plane), kind).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _called_luminance(content: bytes) -> bytes:
    """The same file with its only channel called Y, the one name under which FFmpeg reads a channel
    by itself; Blender writes V, others R or Z."""
    at = content.find(CHANNELS)
    if at < 0:
        raise Unreadable("no list of channels")
    first = at + len(CHANNELS) + 4  # behind the attribute's length
    size = int.from_bytes(content[first - 4 : first], "little")
    if size != ONE_LETTER:
        return content
    return content[:first] + b"Y" + content[first + 1 :]


def _one_channel(values: np.ndarray) -> np.ndarray:
    """As uint8, uint16, uint32 or float32[h, w]."""
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.reshape([side for side in values.shape if side > 1] or [1])
    if values.ndim != 2 or not values.size:
        raise Unreadable(f"{list(values.shape)} numbers, where [height, width] are wanted")
    if values.dtype in (np.uint8, np.uint16):
        return values
    if np.issubdtype(values.dtype, np.floating):
        return values.astype(np.float32)
    if not np.issubdtype(values.dtype, np.integer):
        raise Unreadable(f"{values.dtype}, where numbers are wanted")
    largest = int(values.max())
    if largest > np.iinfo(np.uint32).max:
        raise Unreadable(f"numbers up to {largest}, where depth is wanted")
    kind = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    return values.clip(min=0).astype(kind)  # a negative number is no distance
