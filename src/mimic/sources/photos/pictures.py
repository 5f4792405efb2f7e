"""Picture files: which names may be pictures, and how their pixels are read.

Which formats are read is what Pillow and PyAV (FFmpeg) say of themselves on this machine, and then
what they manage to open.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import av
import numpy as np
from PIL import ExifTags, ImageFile, ImageOps
from PIL import Image as pillow

from mimic.infra import endings
from mimic.sources.base import Image, Pose, Unreadable, View
from mimic.sources.photos import by_ffmpeg, colours
from mimic.sources.photos.by_ffmpeg import FLOATS
from mimic.sources.photos.by_ffmpeg import PIXELS_MAX as PIXELS_MAX

# a progressive JPEG is decoded at once, whatever its resolution: 3 bytes a pixel, 1 GB
PROGRESSIVE_MAX = 2 * PIXELS_MAX
JPEG_BYTE_PX = 1024  # no JPEG holds more pixels a byte: it says at least a bit of each 8 x 8
PREVIEW = 1  # bit of the TIFF tag NewSubfileType: a smaller copy of another picture in the file
MASK = 4  # bit of the same tag: what is transparent in another picture
JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif")
JPEG = b"\xff\xd8\xff"
GREY_OF_FEW_BITS = re.compile("L;([24])")  # names of stored forms, as Pillow's decoders have them
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
            frame = by_ffmpeg.not_sdr(source, file) or by_ffmpeg.misread(source, file)
            if frame is None:
                file.load()
            if problem := endings.lacking(source, file.format):
                raise Unreadable(problem)
            if frame is not None:
                return _turned(by_ffmpeg.on_white(frame, file.info.get("icc_profile")), file)
            return rgb(file)
    except Unreadable:
        raise
    except pillow.UnidentifiedImageError:
        return by_ffmpeg.read(source)
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


def orientation(file: Path) -> int:
    """How a picture is turned, in EXIF's numbers; 1 = not at all, or nothing says so."""
    try:
        with opened(file) as picture:
            return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except pillow.UnidentifiedImageError:
        return by_ffmpeg.orientation(file)
    except Exception:  # a picture that cannot be read is named when it is read
        return 1


def as_stored(upright: Image, turned: int) -> Image:
    """The pixels as they lie in a file of this `orientation`."""
    if turned >= 5:
        upright = upright.transpose(1, 0, 2)
    rows = -1 if turned in (3, 4, 6, 7) else 1
    columns = -1 if turned in (2, 3, 7, 8) else 1
    return np.ascontiguousarray(upright[::rows, ::columns])


def view_names(folder: Path, files: Iterable[Path]) -> dict[Path, str]:
    """Names of a clip's views by file: file names, or paths below the clip's folder where its
    images lie in several folders, which may hold files of equal names."""
    files = list(files)
    if len({file.parent for file in files}) < 2:
        return {file: file.name for file in files}
    return {file: file.relative_to(folder).as_posix() for file in files}


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


def is_single_channel(file: Path, *, is_deep: bool = False) -> bool | None:
    """Whether a picture has one channel, as depth maps have; None where it cannot be opened.

    Args:
        is_deep: of 16 bits or more alone.
    """
    try:
        with opened(file) as picture:
            is_one = len(picture.getbands()) == 1 and picture.mode != "P"
            return is_one and (not is_deep or picture.mode[0] in "IF")
    except Exception:  # a picture that cannot be read is named when it is read
        return None


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
    """The upright 8-bit RGB image of a picture that is loaded, in sRGB; see `read`."""
    profile = file.info.get("icc_profile")
    if profile:
        file = colours.srgb(ImageOps.exif_transpose(file))
    if file.mode.startswith("I;16") or file.mode == "I":
        deep = np.asarray(ImageOps.exif_transpose(file)).astype(np.int64)
        grey = np.clip(deep >> 8, 0, 255).astype(np.uint8)
        if isinstance(hidden := file.info.get("transparency"), int):  # tRNS of a PNG: that value
            grey[deep == hidden] = 255
        return colours.srgb_pixels(np.repeat(grey[..., None], 3, axis=2), profile)
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


def _turned(pixels: Image, file: ImageFile.ImageFile) -> Image:
    """Pixels that another decoder read, turned as the file says."""
    picture = pillow.fromarray(pixels)
    orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))


def reason(error: Exception) -> str:
    """Without the machine's path in it."""
    if isinstance(error, MemoryError):
        return "its pixels do not fit in memory"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


def grey_step(file: ImageFile.ImageFile) -> int:
    """By what Pillow multiplies grey of 2 or 4 bits, so that its white is 255; 1 of other forms."""
    tile = file.tile[0] if file.tile else None
    form = "" if tile is None else tile[3]
    packed = GREY_OF_FEW_BITS.match(str(form[0] if isinstance(form, tuple) else form))
    return 255 // (2 ** int(packed[1]) - 1) if packed else 1
