"""Animated pictures (GIF, APNG, WebP, AVIF, FLC): short videos, whose frames say for how long they
are shown.

A file with one of the extensions and a single frame is a photograph, and no matter of this module.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from PIL import Image as pillow
from PIL import ImageFile

from mimic.infra import endings
from mimic.sources.base import Description, Image, Position, Unreadable, content_digest
from mimic.sources.photos import by_ffmpeg, pictures
from mimic.sources.video.sampling import Sampled, slot

EXTENSIONS = frozenset({".gif", ".png", ".apng", ".webp", ".avif", ".avifs", ".fli", ".flc"})
# whoever writes up to the first means no time; browsers take the second
HURRIED_S = 0.010
UNHURRIED_S = 0.1
NO_PHOTOGRAPH = "an animation, which is mined as a video, not among photographs"


def is_animation(file: Path) -> bool:
    """Whether a picture file has several frames; False where it cannot be opened."""
    ending = file.suffix.lower()
    if ending not in EXTENSIONS or not file.is_file():
        return False
    try:
        if ending == ".png" and _is_still_png(file):  # of many files, without decoding one
            return False
        with pillow.open(file) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # a picture that cannot be read is named when it is read
        return False


def _is_still_png(file: Path) -> bool:
    with file.open("rb") as raw:
        if raw.read(len(endings.PNG)) != endings.PNG:
            return False  # of another format, whatever it is called
    return "acTL" not in endings.png_chunks(file, "IDAT")


def describe(path: Path) -> Description:
    """What an animation says of itself, once its first frame has been decoded."""
    frames = None
    error = None
    try:
        with _opened(path) as picture:
            frames = _count(picture)
            if next(_frames(picture), None) is None:
                error = "no frame decodes"
    except Unreadable as unreadable:
        error = str(unreadable)
    digest = content_digest(path)
    return Description(bytes=path.stat().st_size, frames=frames, digest=digest, error=error)


def sampled(path: Path, spacing_s: float, resume_at: Position | None = None) -> Iterator[Sampled]:
    """RGB frames at 0, s, 2s, ... seconds since the first, as a video's are taken.

    Args:
        resume_at: of the first frame that is given, see `Sampled.locate`; those before are decoded
            again.

    Raises:
        Unreadable: the file does not open, or a frame is damaged or missing (after the frames
            before it).
    """
    wanted_s = 0.0 if resume_at is None else resume_at["time_s"]
    last = -1
    time_s = 0.0
    count = 0
    with _opened(path) as picture:
        announced = _count(picture)
        for image in _frames(picture):
            if slot(time_s, spacing_s) > last:
                last = slot(time_s, spacing_s)
                if time_s >= wanted_s:
                    yield Sampled(time_s, image, share=count / announced if announced else None)
            time_s += _shown_s(picture)
            count += 1
    if announced is not None and count < announced:
        raise Unreadable(f"ends after {count} of the {announced} frames that the file announces")


def _opened(path: Path) -> ImageFile.ImageFile:
    try:
        picture = pillow.open(path)
        pictures.bound(picture)
        if by_ffmpeg.not_sdr(path, picture) is not None:
            raise Unreadable("an animation in HDR, which nothing here converts; save it as a video")
    except Unreadable:
        raise
    except Exception as error:  # damaged bytes surface as nearly any exception of a decoder
        raise Unreadable(pictures.reason(error)) from None
    return picture


def _frames(picture: ImageFile.ImageFile) -> Iterator[Image]:
    """All frames, in order.

    Raises:
        Unreadable: one is damaged.
    """
    for number in itertools.count(_first(picture)):
        try:
            picture.seek(number)
            picture.load()
            image = pictures.rgb(picture)
        except EOFError:
            return
        except Unreadable:
            raise
        except Exception as error:  # damaged bytes surface as nearly any exception of a decoder
            raise Unreadable(f"frame {number}: {pictures.reason(error)}") from None
        yield image


def _count(picture: ImageFile.ImageFile) -> int | None:
    """How many frames there are; None where that is not known, as in a GIF that was cut off.

    The picture for those who cannot show an animation is not counted.
    """
    try:
        return int(getattr(picture, "n_frames", 1)) - _first(picture)
    except Exception:  # a damaged frame is named when it is read
        return None


def _first(picture: ImageFile.ImageFile) -> int:
    """The number of the first frame: an APNG may begin with a picture that is none."""
    return int(bool(getattr(picture, "default_image", False)))


def _shown_s(picture: ImageFile.ImageFile) -> float:
    """For how long the frame that was loaded last is shown."""
    said_s = float(picture.info.get("duration") or 0) / 1000
    return said_s if said_s > HURRIED_S else UNHURRIED_S
