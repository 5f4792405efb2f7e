"""Image files of labelled sets: read whole or refused in one clear line, and what is said of many
of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ImageFile, UnidentifiedImageError

from mimic.errors import BadInput
from mimic.infra.storage import file_digest
from mimic.sources.base import Unreadable
from mimic.sources.photos import pictures

REMEDY = "download it again"
LABEL_MAX = 65535
LOOKED_INTO = 16  # files of a data set: all would be hours of reading


def read_photo(path: Path) -> np.ndarray:
    """uint8[h, w, 3] RGB, as stored: labels follow the stored pixels, so that a rotation noted
    beside them is not applied.

    Raises:
        BadInput: missing, truncated, or no image.
    """
    return read_as(path, "RGB")


def read_labels(path: Path) -> np.ndarray:
    """Pixel values of a PNG as they are: uint8 or uint16, [h, w] or [h, w, channels]; of a palette
    image the indices.

    Raises:
        BadInput: missing, truncated, no image, or with numbers that are no labels.
    """
    values = read_as(path, None)
    if values.dtype == np.int32:  # 32 bits, and how older Pillows open 16
        low = int(values.min())
        high = int(values.max())
        if low < 0 or high > LABEL_MAX:
            raise BadInput(
                f"{path}: pixels from {low} to {high}, where numbers from 0 to {LABEL_MAX} are "
                "expected; write another number where nothing is labelled, such as 255"
            )
        values = values.astype(np.uint16)
    if values.dtype not in (np.uint8, np.uint16):
        raise BadInput(f"{path}: pixels are {values.dtype}, expected 8 or 16 bits; {REMEDY}")
    return values


def read_as(path: Path, mode: str | None) -> np.ndarray:
    """Pixels in a mode of Pillow's; None = as stored.

    Raises:
        BadInput: missing, truncated, no image, or too large.
    """
    with opened(path) as file:
        step = pictures.grey_step(file)
        file.load()
        if mode is not None:
            return np.array(file.convert(mode))
        return np.array(file) // step if step > 1 else np.array(file)


@contextmanager
def opened(path: Path, remedy: str = REMEDY) -> Iterator[ImageFile.ImageFile]:
    """An image whose header has been read, and says no more pixels than fit in memory.

    Raises:
        BadInput: missing, no image, too large, or what the block does with it finds it damaged.
    """
    try:
        with pictures.opened(path) as file:
            pictures.refuse_giant(*file.size)
            yield file
    except Unreadable as error:
        raise BadInput(f"{path}: {error}") from None
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {remedy}") from None
    except UnidentifiedImageError:
        raise BadInput(f"{path}: not an image; {remedy}") from None
    except BadInput:
        raise
    except Exception as error:  # damaged bytes surface as nearly any exception of a decoder
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadInput(f"{path}: damaged ({reason}); {remedy}") from None


def extent(files: Iterable[Path], root: Path) -> dict[str, int | str]:
    """bytes: of all files; digest: sha256 over their names below `root`, their sizes, and what is
    in some of them, spread evenly: pictures without compression, flow and depth that are replaced
    by others keep their sizes."""
    digest = hashlib.sha256()
    total = 0
    ordered = sorted(files)
    looked_into = {len(ordered) * part // LOOKED_INTO for part in range(LOOKED_INTO)}
    for index, path in enumerate(ordered):
        size = path.stat().st_size
        total += size
        digest.update(f"{path.relative_to(root).as_posix()} {size}\n".encode())
        if index in looked_into:
            digest.update(file_digest(path).encode())
    return {"bytes": total, "digest": digest.hexdigest()}


def with_labels(images: dict[str, int | str], labels: str) -> dict[str, int | str]:
    """What `extent` or `contents` says, with a digest that changes with the labels, too.

    Args:
        labels: a digest of what says them.
    """
    both = hashlib.sha256(f"{images['digest']} {labels}".encode())
    return {**images, "digest": both.hexdigest()}
