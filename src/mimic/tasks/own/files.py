"""Files of a labelled folder of one's own: photographs as their labels see them, and a digest of
all that is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from mimic.errors import BadInput
from mimic.infra.storage import file_digest
from mimic.sources.base import Unreadable
from mimic.sources.photos import pictures
from mimic.sources.photos.folders import files_in, shown
from mimic.tasks.engine.image_io import read_photo
from mimic.tasks.own.splits import LabelledImage

ASPECT = 0.02  # two images show the same field of view up to this share
NAMED = 3  # of the files that are passed over
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def photo_beside(path: Path, label: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8[h, w, 3] sRGB, turned as its labels are.

    A camera may store a photograph lying and note how it is held. Labels follow either the stored
    or the upright picture, and only their shape says which.

    Args:
        label: the file of the labels, for the message.
        size: height and width of the labels.

    Raises:
        BadInput: damaged, of another aspect than its labels, or nothing says how it is turned.
    """
    try:
        image = pictures.read(path)
    except (Unreadable, OSError) as error:
        raise BadInput(f"{path}: {error}; replace it, or leave it out") from None
    orientation = pictures.orientation(path)
    if orientation != 1:
        image = _as_labelled(path, label, image, orientation, size)
    require_same_aspect(label, size, image.shape[:2])
    return image


def require_same_aspect(label: Path, size: tuple[int, int], image: tuple[int, int]) -> None:
    """
    Raises:
        BadInput: labels and image do not show the same field of view.
    """
    if not same_aspect(image, size):
        raise BadInput(
            f"{label}: {size[1]} x {size[0]} for an image of {image[1]} x {image[0]}: another "
            "field of view; register or crop one to the other"
        )


def same_aspect(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return abs(np.log(one[0] * other[1] / (one[1] * other[0]))) <= ASPECT


def _as_labelled(
    path: Path, label: Path, upright: np.ndarray, orientation: int, size: tuple[int, int]
) -> np.ndarray:
    lying = (upright.shape[1], upright.shape[0])
    if orientation in TURNED and same_aspect(lying, size) != same_aspect(upright.shape[:2], size):
        return read_photo(path) if same_aspect(lying, size) else upright
    if orientation in TURNED and not same_aspect(upright.shape[:2], size):
        return upright  # of neither shape, which is said of it
    raise BadInput(
        f"{path}: its EXIF orientation is {orientation}, and {label.name} does not tell by its "
        "shape whether it follows that; store the photograph upright, without orientation"
    )


def digests_of(files: Iterable[Path]) -> dict[Path, str]:
    """The sha256 of each file."""
    return {path: file_digest(path) for path in sorted(files)}


def contents(
    digests: Mapping[Path, str], root: Path, parts: Iterable[np.ndarray]
) -> dict[str, int | str]:
    """bytes: of all files; digest: sha256 over their names below `root`, what is in them (arrays of
    other numbers are as long), and the places of each split."""
    digest = hashlib.sha256()
    total = 0
    for path, of_file in sorted(digests.items()):
        total += path.stat().st_size
        name = path.relative_to(root).as_posix()
        digest.update(f"{name} {of_file}\n".encode(errors="surrogateescape"))
    for part in parts:
        digest.update(f"{part.tolist()}\n".encode())
    return {"bytes": total, "digest": digest.hexdigest()}


def same_on_both_sides(
    digests: Mapping[Path, str], trained: Iterable[Path], scored: Iterable[Path], root: Path
) -> list[str]:
    """A line where copies of images that are trained on are scored, which makes scores too good."""
    by_digest = {digests[path]: path for path in trained if path in digests}
    copies = [
        (path, by_digest[digests[path]])
        for path in scored
        if path in digests and digests[path] in by_digest
    ]
    if not copies:
        return []
    names = " and ".join(shown(path.relative_to(root).as_posix()) for path in copies[0])
    return [
        f"{len(copies):,} images that are scored are trained on, too, as copies under another name,"
        f" such as {names}"
    ]


def unpaired(
    items: Iterable[LabelledImage], known: Set[Path], endings: Set[str], root: Path
) -> list[str]:
    """What lies beside labels and belongs to no image, in words; nothing where all is used.

    Args:
        known: files that are told of elsewhere.
    """
    used = set(known)
    folders = set()
    for item in items:
        used |= {item.image, item.label}
        folders.add(item.label.parent)
    beside = (
        folder / name
        for folder in sorted(folders)
        for name in files_in(folder, endings, each_path=True)
    )
    return without_image([path for path in beside if path not in used], root)


def without_image(paths: Sequence[Path], root: Path) -> list[str]:
    if not paths:
        return []
    first = shown(paths[0].relative_to(root).as_posix())
    return [f"{len(paths):,} files beside labels that belong to no image, such as {first}"]


def first_named(skipped: Mapping[str, str]) -> list[str]:
    """The first files that are passed over, each with its reason, and how many more there are."""
    names = [f"{name} ({why})" for name, why in sorted(skipped.items())]
    return names if len(names) <= NAMED else [*names[:NAMED], f"{len(names) - NAMED:,} more files"]


def require_single(items: Iterable[LabelledImage]) -> None:
    """
    Raises:
        BadInput: two images have one name, and so one label.
    """
    by_name: dict[str, LabelledImage] = {}
    for item in items:
        other = by_name.setdefault(item.name, item)
        if other is not item:
            raise BadInput(
                f"{other.image} and {item.image.name} have one name, and {item.label.name} is the "
                "label of one of them; keep one"
            )
