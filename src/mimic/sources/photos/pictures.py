"""Picture files: which names may be pictures, and how their pixels are read.

Which formats are read is what Pillow and PyAV (FFmpeg) say of themselves on this machine, and then
what they manage to open.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from PIL import ExifTags, ImageFile, ImageOps
from PIL import Image as pillow

from mimic.sources.base import Image, Pose, Unreadable, View
from mimic.sources.photos import colours
from mimic.sources.video import hdr, side_data, tracks

# decoded at once, 0.5 GB in RGB; JPEG and JPEG 2000 are decoded at a lower resolution above it
PIXELS_MAX = 180_000_000
# a progressive JPEG is decoded at once, whatever its resolution: 3 bytes a pixel, 1 GB
PROGRESSIVE_MAX = 2 * PIXELS_MAX
JPEG_BYTE_PX = 1024  # no JPEG holds more pixels a byte: it says at least a bit of each 8 x 8
FLOATS = "floating-point pixels are no photograph; export 8 or 16 bits"
TILES = "in tiles, or made of another, which nothing here puts together; convert it to JPEG"
HEIC_BRANDS = ("heic", "heix", "heim", "heis", "mif1")
PREVIEW = 1  # bit of the TIFF tag NewSubfileType: a smaller copy of another picture in the file
BITS, PHOTOMETRIC, PLANES = 258, 262, 284  # tags: BitsPerSample, ..., PlanarConfiguration
MASK = 4  # bit of the same tag: what is transparent in another picture
JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif")
JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
DENSE = ("WEBP", "AVIF", "JPEG2000", "QOI")  # without long runs of zeros, and without an end mark
ZEROS = 512  # bytes
CRC_BYTES = 4  # behind a chunk of a PNG
BY_ITSELF = {
    "protocol_whitelist": "file",
    "pattern_type": "none",
}  # `a%03d.jpg` is one file, no pattern
NO_PICTURES = frozenset(
    {"EPS", "MPEG"}
)  # a program, which Pillow would run; and a video, which it only recognises
OTHERS = frozenset({".rs", ".y"})  # names in FFmpeg's table that are nearly always source code


def _extensions() -> frozenset[str]:
    """Endings of the names of picture files, by the tables of the libraries."""
    pillow.init()
    read = {name for name, (factory, _) in pillow.OPEN.items() if not _is_stub(factory)} | {"MPO"}
    known = {
        ending
        for ending, name in pillow.registered_extensions().items()
        if name in read - NO_PICTURES
    }
    known |= {f".{ending}" for ending in av.format.ContainerFormat("image2", "w").extensions}
    known |= {
        f".{ending}"
        for ending in av.format.ContainerFormat("mov", "r").extensions
        if "hei" in ending
    }
    return frozenset(known | {".hif"} - OTHERS) - OTHERS


def _is_stub(factory: object) -> bool:
    """Whether Pillow knows the format by its first bytes only."""
    return isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)


EXTENSIONS = _extensions()
pillow.MAX_IMAGE_PIXELS = None  # `read` has a bound of its own, and says so
warnings.filterwarnings(
    "ignore", category=UserWarning, module=r"PIL\."
)  # of damage, which is named where it ends a picture


def read(source: Path | io.BytesIO) -> Image:
    """The upright RGB image of a file, or of one in memory; of several in a file, the first.

    Palettes, grey, CMYK and 16 bits become 8-bit RGB, and wide gamuts sRGB (colours.py). What is
    transparent lies on white; where all is equally transparent, the colours are taken as they are.

    Raises:
        Unreadable: missing, truncated, too large, or no photograph.
    """
    try:
        with opened(source) as file:
            bound(file)
            frame = not_sdr(source, file) or _misread(source, file)
            if frame is not None:
                return _turned(_on_white(frame), file)
            file.load()
            _require_end(source, file)
            if "icc_profile" not in file.info:
                return rgb(file)
            return rgb(colours.srgb(ImageOps.exif_transpose(file)))
    except Unreadable:
        raise
    except pillow.UnidentifiedImageError:
        return _read_by_ffmpeg(source)
    except Exception as error:  # damaged bytes surface as nearly any exception of a decoder
        raise Unreadable(reason(error)) from None


@contextmanager
def opened(source: Path | io.BytesIO) -> Iterator[ImageFile.ImageFile]:
    """A picture whose header Pillow has read.

    It is handed the open file: of a name it maps raw pixels into memory, and those of a TIFF that
    is to be turned with width and height exchanged.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        yield stack.enter_context(pillow.open(raw))


def _misread(source: Path | io.BytesIO, file: ImageFile.ImageFile) -> av.VideoFrame | None:
    """The picture as FFmpeg decodes it, where Pillow takes its bytes for others: some TIFF of more
    than 8 bits, and run lengths of SGI without the zero that ends a row.

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
    elif file.format != "SGI":
        return None
    if not isinstance(source, Path):
        raise Unreadable(f"a {file.format} of a kind that is read from a file alone")
    return _decoded(source)[0]


def _require_end(source: Path | io.BytesIO, file: ImageFile.ImageFile) -> None:
    """A picture whose tail is zeros, as of a copy that was cut off by a power loss: decoders take
    what is missing for black, or make something up.

    Raises:
        Unreadable: it has no end.
    """
    if file.format == "PNG" and "IEND" not in png_chunks(source):
        raise Unreadable("damaged: ends before its last chunk (IEND)")
    if file.format not in DENSE:
        return
    with ExitStack() as stack:
        raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        size = raw.seek(0, io.SEEK_END)
        raw.seek(max(0, size - ZEROS))
        if size > 2 * ZEROS and not any(raw.read()):
            raise Unreadable(f"damaged: its last {ZEROS} bytes are zeros")


def png_chunks(source: Path | io.BytesIO, until: str = "IEND") -> list[str]:
    """Names of a PNG's chunks in their order, up to one of a name or to where none follows."""
    names: list[str] = []
    with ExitStack() as stack:
        raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        raw.seek(len(PNG))
        while until not in names:
            head = raw.read(8)
            if len(head) < 8 or not head[4:].isalpha():
                break
            names.append(head[4:].decode())
            raw.seek(int.from_bytes(head[:4], "big") + CRC_BYTES, io.SEEK_CUR)
    return names


def view(file: Path, pose: Pose | None = None) -> View:
    """An image file as a view of its folder."""
    return View(key=file.name, read=lambda: read(file), pose=pose)


def taken(file: Path) -> str | None:
    """When a camera says that it took a picture, as text that sorts; None where nothing says so."""
    try:
        with opened(file) as picture:
            exif = picture.getexif()
            detail = exif.get_ifd(ExifTags.IFD.Exif)
            moment = detail.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
            part = detail.get(ExifTags.Base.SubsecTimeOriginal) or ""
    except Exception:  # a picture that cannot be read is named when it is read
        return None
    return f"{moment}.{part}" if moment else None


def further(file: Path) -> str | None:
    """Why a file of several pages or frames is not read whole; None for one picture.

    Smaller copies of a page, the second view of a stereo picture and layers are no pages.
    """
    ending = file.suffix.lower()
    try:
        if ending in JPEGS:
            return _misnamed(file)
        if ending not in (".tif", ".tiff"):
            return None
        with opened(file) as picture:
            count = _pages(picture)
    except Exception:  # a picture that cannot be read is named when it is read
        return None
    if count < 2:
        return None
    return (
        f"only the first of its {count} pages is read; save each as a file of its own to mine them "
        "all"
    )


def _misnamed(file: Path) -> str | None:
    """Of an animation that is called a JPEG, as downloads are."""
    with file.open("rb") as raw:
        if raw.read(len(JPEG)) == JPEG:
            return None
    with opened(file) as picture:
        count = getattr(picture, "n_frames", 1)
        if count < 2 or not getattr(picture, "is_animated", False):
            return None
        return (
            f"only the first of its {count} frames is read: it is an animation ({picture.format}); "
            "name it so to mine it as a video"
        )


def _pages(picture: ImageFile.ImageFile) -> int:
    pages = 0
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        kind = int(picture.tag_v2.get(254, 0))  # type: ignore[attr-defined]
        pages += not kind & (PREVIEW | MASK)
    return pages


def is_single_channel(file: Path, *, is_deep: bool = False) -> bool:
    """Whether a picture has one channel, as depth maps have; False where it cannot be opened.

    Args:
        is_deep: of 16 bits or more alone.
    """
    try:
        with opened(file) as picture:
            is_one = len(picture.getbands()) == 1 and picture.mode != "P"
            return is_one and (not is_deep or picture.mode[0] in "IF")
    except Exception:  # a picture that cannot be read is named when it is read
        return False


def _subfile_type(file: ImageFile.ImageFile) -> int:
    """TIFF's NewSubfileType, bits that say what the picture is; 0 where it is not written."""
    return int(file.tag_v2.get(254, 0))  # type: ignore[attr-defined]


def bound(file: ImageFile.ImageFile) -> None:
    """Make a huge picture decode at a lower resolution, or refuse it.

    Raises:
        Unreadable: it would need too much memory; or it is only a preview of a camera's raw file.
    """
    width, height = file.size
    if file.format == "TIFF" and _subfile_type(file) & PREVIEW:
        raise Unreadable(
            f"raw data of a camera, with a preview of {width} x {height}; develop it to JPEG or PNG"
        )
    if width * height <= PIXELS_MAX:
        return
    if file.format == "JPEG":
        _refuse_forged(file)
        file.draft("RGB", (width // 8, height // 8))
    elif file.format == "JPEG2000":
        file.reduce = 3  # type: ignore[method-assign, assignment]
        width = width // 8
        height = height // 8
    if min(file.size[0] * file.size[1], width * height) > PIXELS_MAX:
        raise _too_many(width, height, PIXELS_MAX)


def refuse_giant(width: int, height: int) -> None:
    """Of what must be read at its full resolution, such as labels.

    Raises:
        Unreadable: it would need too much memory.
    """
    if width * height > PIXELS_MAX:
        raise _too_many(width, height, PIXELS_MAX)


def _refuse_forged(file: ImageFile.ImageFile) -> None:
    """A JPEG whose header states a size that is not behind it; its decoder would fill it up."""
    width, height = file.size
    if file.fp is not None:
        offset = file.fp.tell()
        size = file.fp.seek(0, io.SEEK_END)
        file.fp.seek(offset)
        if width * height > size * JPEG_BYTE_PX:
            raise Unreadable(
                f"damaged: its header states {width} x {height} pixels, which do not fit into its "
                f"{size} bytes"
            )
    if "progressive" in file.info and width * height > PROGRESSIVE_MAX:
        raise _too_many(width, height, PROGRESSIVE_MAX)


def _too_many(width: int, height: int, most: int) -> Unreadable:
    return Unreadable(
        f"{width} x {height} pixels are more than {most / 1e6:.0f} megapixels; make it smaller, or "
        "cut it into pieces"
    )


def rgb(file: pillow.Image) -> Image:
    """The upright 8-bit RGB image of a picture that is loaded; see `read`."""
    if file.mode.startswith("I;16") or file.mode == "I":
        deep = np.asarray(ImageOps.exif_transpose(file)).astype(np.int64)
        grey = np.clip(deep >> 8, 0, 255).astype(np.uint8)
        if isinstance(hidden := file.info.get("transparency"), int):  # tRNS of a PNG: that value
            grey[deep == hidden] = 255
        return np.repeat(grey[..., None], 3, axis=2)
    if file.mode == "F":
        raise Unreadable(FLOATS)
    upright = ImageOps.exif_transpose(file)
    if not upright.has_transparency_data:
        return np.asarray(upright.convert("RGB"))
    layer = upright.convert("RGBA")
    alpha = np.asarray(layer.getchannel("A"))
    if alpha.min() == alpha.max() > 0:
        return np.asarray(upright.convert("RGB"))
    return np.asarray(
        pillow.alpha_composite(pillow.new("RGBA", layer.size, "white"), layer).convert("RGB")
    )


def _read_by_ffmpeg(source: Path | io.BytesIO) -> Image:
    """A picture in a format that Pillow does not know, such as HEIC."""
    if isinstance(source, io.BytesIO):
        raise Unreadable("not an image")
    try:
        frame, is_film = _decoded(source)
        if frame is None:
            raise Unreadable("not an image that is read here")
        if is_film:
            raise Unreadable("a video, no image; name it as one to mine it")
        if frame.width * frame.height > PIXELS_MAX:
            raise Unreadable(f"{frame.width} x {frame.height} pixels are too many; make it smaller")
        if "f32" in frame.format.name or "f16" in frame.format.name:
            raise Unreadable(FLOATS)
        return side_data.upright(frame)(_on_white(frame))
    except Unreadable:
        raise
    except FileNotFoundError as error:
        raise Unreadable(reason(error)) from None
    except Exception:  # damaged bytes surface as nearly any exception of a decoder
        raise Unreadable("not an image that is read here") from None


def _on_white(frame: av.VideoFrame) -> Image:
    """Its colours, and white where it is transparent, unless it is so all over."""
    pixels = hdr.rgb(frame)
    if not any(component.is_alpha for component in frame.format.components):
        return pixels
    alpha = frame.to_ndarray(format="rgba")[..., 3:].astype(np.float32) / 255
    if alpha.min() == alpha.max() > 0:
        return pixels
    return (pixels * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def _decoded(path: Path) -> tuple[av.VideoFrame | None, bool]:
    """The first picture of a file, as FFmpeg reads it, and whether a video follows. Of the pictures
    of a HEIC it is the one that the file names (`pitm`): thumbnails, depths and tiles may come
    first.

    Raises:
        Unreadable: it lists other files, or the picture is put together of others.
    """
    with av.open(str(path), metadata_errors="ignore", options=BY_ITSELF) as container:
        tracks.refuse_lists(container)
        streams = container.streams.video
        named = [one for one in streams if one.disposition & Disposition.default]
        if not named and container.metadata.get("major_brand") in HEIC_BRANDS:
            raise Unreadable(f"a HEIC picture {TILES}")
        frames = container.decode((named or streams)[0])
        first = next(frames, None)
        return first, container.format.name != "image2" and next(frames, None) is not None


def _turned(pixels: Image, file: ImageFile.ImageFile) -> Image:
    """Pixels that another decoder read, turned as the file says."""
    picture = pillow.fromarray(pixels)
    orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))


def not_sdr(source: Path | io.BytesIO, file: ImageFile.ImageFile) -> av.VideoFrame | None:
    """The picture with all its bits, where it says that its light is HLG or PQ or its colours are
    BT.2020.

    Pillow does not say so, and gives 8 bits: AVIF says it in a `colr` property (ISO 23000-22) or in
    its stream, PNG in a chunk named cICP (PNG, third edition). JPEG pictures with a gain map are
    SDR to whoever does not look for the map.

    Raises:
        Unreadable: it is, but consists of tiles.
    """
    if not isinstance(source, Path) or file.format not in ("AVIF", "PNG"):
        return None
    if file.format == "PNG" and "cICP" not in png_chunks(source, "IDAT"):
        return None
    try:
        frame, _ = _decoded(source)
    except (av.FFmpegError, ValueError):  # Pillow has the last word on damage
        return None
    if frame is None or hdr.is_standard(frame):
        return None
    if sorted((frame.width, frame.height)) != sorted(file.size):
        raise Unreadable(f"an HDR picture {TILES}")
    return frame


def reason(error: Exception) -> str:
    """Without the machine's path in it."""
    if isinstance(error, MemoryError):
        return "its pixels do not fit in memory"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
