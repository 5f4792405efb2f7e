"""Pictures that FFmpeg decodes: what Pillow does not know, takes for other pixels, or gives with
fewer bits than the file holds."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from PIL import ImageFile

from mimic.infra import endings
from mimic.sources.base import Image, Unreadable
from mimic.sources.photos import colours
from mimic.sources.video import hdr, side_data, tracks

# decoded at once, 0.5 GB in RGB; JPEG and JPEG 2000 are decoded at a lower resolution above it
PIXELS_MAX = 180_000_000
FLOATS = "floating-point pixels are no photograph; export 8 or 16 bits"
TILES = "in tiles, or made of another, which nothing here puts together; convert it to JPEG"
HEIC_BRANDS = ("heic", "heix", "heim", "heis", "mif1")
BITS, PHOTOMETRIC, PLANES = 258, 262, 284  # tags: BitsPerSample, ..., PlanarConfiguration
JP2_HEAD = 1 << 20  # bytes at its start, among which the codestream begins: behind profiles
CODESTREAM = b"\xff\x4f\xff\x51"
HEIC_HEAD = 4 << 20  # bytes at its start, in which its pictures are described
PROFILE = re.compile(rb"(.{4})colr(?:prof|rICC)", re.DOTALL)
BY_ITSELF = {
    "protocol_whitelist": "file",
    "pattern_type": "none",
}  # `a%03d.jpg` is one file, no pattern


def read(source: Path | io.BytesIO) -> Image:
    """A picture in a format that Pillow does not know, such as HEIC."""
    if isinstance(source, io.BytesIO):
        raise Unreadable("not an image")
    try:
        frame, is_film = decoded(source)
        if frame is None:
            raise Unreadable("not an image that is read here")
        if is_film:
            raise Unreadable("a video, no image; name it as one to mine it")
        if frame.width * frame.height > PIXELS_MAX:
            raise Unreadable(f"{frame.width} x {frame.height} pixels are too many; make it smaller")
        if "f32" in frame.format.name or "f16" in frame.format.name:
            raise Unreadable(FLOATS)
        return side_data.upright(frame)(on_white(frame, _profile(source)))
    except Unreadable:
        raise
    except FileNotFoundError as error:
        raise Unreadable(tracks.reason(error)) from None
    except Exception:  # damaged bytes surface as nearly any exception of a decoder
        raise Unreadable("not an image that is read here") from None


def orientation(path: Path) -> int:
    """How a picture is turned, in EXIF's numbers; 1 where it cannot be read."""
    try:
        frame, _ = decoded(path)
    except (Unreadable, OSError, av.FFmpegError, ValueError):
        return 1  # it is named when it is read
    return 1 if frame is None else side_data.orientation(frame)


def decoded(path: Path, halvings: int = 0) -> tuple[av.VideoFrame | None, bool]:
    """The first picture of a file, as FFmpeg reads it, and whether a video follows. Of the pictures
    of a HEIC it is the one that the file names (`pitm`): thumbnails, depths and tiles may come
    first.

    Args:
        halvings: of its sides, for JPEG 2000, which holds smaller copies of itself.

    Raises:
        Unreadable: it lists other files, or the picture is put together of others.
    """
    with av.open(str(path), metadata_errors="ignore", options=BY_ITSELF) as container:
        tracks.refuse_lists(container)
        streams = container.streams.video
        named = [one for one in streams if one.disposition & Disposition.default]
        if not named and container.metadata.get("major_brand") in HEIC_BRANDS:
            raise Unreadable(f"a HEIC picture {TILES}")
        stream = (named or streams)[0]
        if halvings:
            stream.codec_context.options = {"lowres": str(halvings)}
        frames = container.decode(stream)
        first = next(frames, None)
        return first, container.format.name != "image2" and next(frames, None) is not None


def on_white(frame: av.VideoFrame, profile: bytes | None) -> Image:
    """Its colours in sRGB, and white where it is transparent, unless it is so all over.

    Args:
        profile: ICC, of the file. PyAV shows no side data of a frame that has EXIF, too.
    """
    pixels = hdr.rgb(frame)
    if hdr.is_standard(frame):
        pixels = colours.srgb_pixels(pixels, profile)
    if not any(component.is_alpha for component in frame.format.components):
        return pixels
    alpha = frame.to_ndarray(format="rgba")[..., 3:].astype(np.float32) / 255
    if alpha.min() == alpha.max() > 0:
        return pixels
    return (pixels * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def _profile(source: Path) -> bytes | None:
    """The ICC profile that a HEIC states (a `colr` property: ISO 14496-12, 12.1.5); None where it
    has none. Tiles and the picture that they make have the same."""
    with source.open("rb") as file:
        head = file.read(HEIC_HEAD)
    if head[4:8] != b"ftyp" or (match := PROFILE.search(head)) is None:
        return None
    size = int.from_bytes(match[1], "big")
    return head[match.end() : match.start() + size]


def not_sdr(source: Path | io.BytesIO, file: ImageFile.ImageFile) -> av.VideoFrame | None:
    """The picture with all its bits, where it says that its light is HLG or PQ or its colours are
    BT.2020 or P3.

    Pillow does not say so, and gives 8 bits: AVIF says it in a `colr` property (ISO 23000-22) or in
    its stream, PNG in a chunk named cICP (PNG, third edition). JPEG pictures with a gain map are
    SDR to whoever does not look for the map.

    Raises:
        Unreadable: it is, but consists of tiles.
    """
    if not isinstance(source, Path) or file.format not in ("AVIF", "PNG"):
        return None
    if file.format == "PNG" and "cICP" not in endings.png_chunks(source, "IDAT"):
        return None
    try:
        frame, _ = decoded(source)
    except (av.FFmpegError, ValueError):  # Pillow has the last word on damage
        return None
    if frame is None or hdr.is_standard(frame):
        return None
    if sorted((frame.width, frame.height)) != sorted(file.size):
        raise Unreadable(f"a picture of wide gamut or HDR {TILES}")
    return frame


def misread(source: Path | io.BytesIO, file: ImageFile.ImageFile) -> av.VideoFrame | None:
    """The picture as FFmpeg decodes it, where Pillow takes its bytes for others: some TIFF of more
    than 8 bits, colours of JPEG 2000 of more than 8 bits (whose white Pillow rounds up to black),
    and run lengths of SGI without the zero that ends a row.

    Raises:
        Unreadable: it has 32 bits, or is in memory.
    """
    if file.format == "TIFF":
        tags = file.tag_v2  # type: ignore[attr-defined]
        bits = tags.get(BITS, (1,))[0]
        if bits == 32 and file.mode != "F":
            raise Unreadable("32-bit pixels are no photograph; export 8 or 16 bits")
        inverted = bits > 8 and tags.get(PHOTOMETRIC) == 0
        if not (bits == 12 or inverted or (bits > 8 and tags.get(PLANES) == 2)):
            return None
    elif file.format == "JPEG2000":
        if file.mode not in ("RGB", "RGBA") or _bits(file) <= 8:
            return None
    elif file.format != "SGI":
        return None
    if not isinstance(source, Path):
        raise Unreadable(f"a {file.format} of a kind that is read from a file alone")
    if file.format == "JPEG2000":
        halvings: object = file.reduce  # Pillow's method, where no fewer pixels are asked for
        return _full_range(decoded(source, halvings if isinstance(halvings, int) else 0)[0])
    return decoded(source)[0]


def _bits(file: ImageFile.ImageFile) -> int:
    """Of the deepest channel of a JPEG 2000, as its codestream says (ISO 15444-1, A.5.1)."""
    if file.fp is None:
        return 0
    offset = file.fp.tell()
    file.fp.seek(0)
    head = file.fp.read(JP2_HEAD)
    file.fp.seek(offset)
    if (begin := head.find(CODESTREAM)) < 0:
        return 0
    size = begin + len(CODESTREAM)
    channels = int.from_bytes(head[size + 36 : size + 38], "big")
    return max((bits & 127 for bits in head[size + 38 :: 3][:channels]), default=0) + 1


def _full_range(frame: av.VideoFrame | None) -> av.VideoFrame | None:
    """A picture whose luma and chroma are those of JPEG (sYCC of JPEG 2000), which FFmpeg takes for
    those of a video."""
    if frame is None or frame.format.is_rgb:
        return frame
    has_alpha = any(component.is_alpha for component in frame.format.components)
    return frame.reformat(
        format="rgba64le" if has_alpha else "rgb48le",
        src_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG,
    )
