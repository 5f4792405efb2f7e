"""Folders of images with masks of one's own, at any depth below `data`:

    images/NAME.jpg masks/NAME.png           also labels/ or annotations/, and folders in both
    NAME.jpg NAME_mask.png                   beside each other

A mask is a PNG, TIFF or BMP whose pixels are whole numbers (of a palette the indices, never its
colours) or, where `classes.txt` lists colours, colours. `ignore` is no class, unless it is listed.
A mask of another size than its image takes the image's by nearest neighbour. Which images are
scored: `own.splits`; which classes there are: `segmentation.classes`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from mimic.errors import BadInput
from mimic.sources.base import numeric_order
from mimic.sources.photos.folders import files_below, files_in, shown, walk
from mimic.sources.rgbd_layouts import (
    COLOUR,
    MARKS,
    one_of,
    same_name,
    scenes_in,
)
from mimic.tasks.engine.dense_transforms import resize_labels
from mimic.tasks.engine.image_io import opened, read_as, read_labels, read_photo
from mimic.tasks.own.files import (
    contents,
    digests_of,
    photo_beside,
    require_single,
    same_on_both_sides,
    without_image,
)
from mimic.tasks.own.splits import LabelledImage, split, without_ending
from mimic.tasks.segmentation import classes
from mimic.tasks.segmentation.ade20k import IGNORED, AdeImage
from mimic.tasks.segmentation.classes import Classes

IMAGES = ("images", "image", "img", "imgs", "rgb", "color", "jpegimages")
MASKS = ("masks", "mask", "labels", "label", "annotations", "annotation", "segmentationclass")
MASK_ENDINGS = frozenset({".png", ".tif", ".tiff", ".bmp"})
WORD = re.compile(
    r"(?:^|(?<=[^a-zA-Z]))"
    r"(?:masks?|labels?|labelids|seg|segmentation|annotation|gt)"
    r"(?=[^a-zA-Z]|$)",
    re.IGNORECASE,
)


class OwnMasks:
    """A listed folder: `train` and `test` hold image numbers counted from 0, the training split
    first; `read` gives one.

    Raises:
        BadInput: no image has a mask, the split is none, or the classes are not known.
    """

    def __init__(self, folder: Path, ignore: int) -> None:
        self.folder = folder
        self._ignore = ignore
        items, self._lonely, self._masks_left = _items(folder)
        parts = split(folder, items)
        self._items = [items[index] for index in (*parts.train.tolist(), *parts.test.tolist())]
        self.train = np.arange(len(parts.train))
        self.test = np.arange(len(parts.train), len(self._items))
        self._parts = (parts.train, parts.test)  # of the listed images: which are in which
        self._rule = parts.rule
        self._unused = parts.unused
        self.classes = classes.listed(folder) or self._seen()
        self.names = self.classes.names
        self.n_classes = len(self.classes)

    def __len__(self) -> int:
        return len(self._items)

    def stem(self, index: int) -> str:
        """The image's name, which names its picture in the report."""
        return self._items[index].name.replace("/", "-")

    def read(self, index: int) -> AdeImage:
        """Image `index`, counted from 0, the training split first."""
        item = self._items[index]
        labels = self._labels(item.label)
        image = photo_beside(item.image, item.label, (labels.shape[0], labels.shape[1]))
        if labels.shape != image.shape[:2]:
            labels = resize_labels(labels, (image.shape[0], image.shape[1]))
        return AdeImage(image, labels)

    def extent(self) -> dict[str, int | str]:
        """Bytes and digest of all images and masks, and of the split."""
        return dict(self._contents)

    @property
    def own(self) -> str:
        """What the protocol says, so that nobody takes the number for ADE20K's."""
        rule = self._rule.partition(";")[0]
        return f"own data {shown(self.folder.name)} ({self.n_classes} classes; split {rule})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, a line each."""
        some = ", ".join(shown(name) for name in self.names[:8])
        more = ", ..." if self.n_classes > 8 else ""
        lines = [
            f"classes: {self.n_classes} by {self.classes.source} ({some}{more}); "
            f"{self._ignored_in_words()}",
            f"split: {self._rule}",
        ]
        unused = [f"{count:,} {why}" for why, count in self._unused.items()]
        if self._lonely:
            unused.append(f"{self._lonely:,} images without a mask")
        unused += without_image(self._masks_left, self.folder)
        if unused:
            lines.append(f"not used: {', '.join(unused)}")
        images = [item.image for item in self._items]
        trained = images[: len(self.train)]
        lines += same_on_both_sides(self._digests, trained, images[len(self.train) :], self.folder)
        return tuple(lines)

    def _ignored_in_words(self) -> str:
        ignored = [self._named(classes.number_of(key)) for key in self.classes.ignored]
        if self._ignore in self.classes.keys:
            return f"{self._ignore} is one of them"
        if not self.classes.coloured:
            ignored.insert(0, str(self._ignore))
        return f"{', '.join(ignored) or 'nothing'} is ignored"

    @cached_property
    def _digests(self) -> dict[Path, str]:
        files = {path for item in self._items for path in (item.image, item.label)}
        listing = {self.folder / name for name in classes.FILES if (self.folder / name).is_file()}
        return digests_of(files | listing)

    @cached_property
    def _contents(self) -> dict[str, int | str]:
        return contents(self._digests, self.folder, self._parts)

    def _labels(self, path: Path) -> np.ndarray:
        """uint8[h, w]: places of classes, or IGNORED.

        Raises:
            BadInput: a number or colour that is no class.
        """
        values = read_mask(path, self.classes.coloured)
        present, places = np.unique(values, return_inverse=True)
        numbers = {classes.number_of(key): at for at, key in enumerate(self.classes.keys)}
        numbers |= {classes.number_of(key): IGNORED for key in self.classes.ignored}
        if not self.classes.coloured:
            numbers.setdefault(self._ignore, IGNORED)
        unknown = [int(value) for value in present if int(value) not in numbers]
        if unknown:
            pixels = int((values == unknown[0]).sum())
            raise BadInput(
                f"{path}: {self._named(unknown[0])} in {pixels} pixels, which "
                f"{self.classes.source} does not list; list it, as {classes.IGNORE} where it is no "
                "class"
            )
        table = np.array([numbers[int(value)] for value in present], np.uint8)
        return table[places].reshape(values.shape)

    def _named(self, value: int) -> str:
        if not self.classes.coloured:
            return f"class {value}"
        return f"colour {value >> 16} {value >> 8 & 255} {value & 255}"

    def _seen(self) -> Classes:
        """The numbers that all masks hold."""
        numbers: set[int] = set()
        for item in self._items:
            numbers.update(np.unique(read_mask(item.label, coloured=False)).tolist())
        if numbers == {0, IGNORED} and self._ignore == IGNORED:
            raise BadInput(
                f"{self.folder}: masks hold 0 and 255 alone, and 255 is ignored; list both in "
                "classes.txt, such as `0 background` and `255 foreground`"
            )
        known = sorted(numbers - {self._ignore})
        if not 2 <= len(known) <= classes.MOST:
            raise BadInput(
                f"{self.folder}: masks hold {len(known)} classes beside {self._ignore}, which is "
                f"ignored; 2 to {classes.MOST} are needed"
            )
        return classes.of_numbers(known)


def read_mask(path: Path, coloured: bool) -> np.ndarray:
    """Whole numbers [h, w]: as stored, of a palette the indices, or colours as one number.

    Raises:
        BadInput: damaged, lossy, transparent, or colours where numbers are wanted and the reverse.
    """
    with opened(path, "replace it, or take it away") as file:
        form = file.format
        mode = file.mode
    if form in ("JPEG", "WEBP"):
        raise BadInput(f"{path}: a lossy {form} smears classes into each other; write PNG")
    if coloured and mode == "P":
        return classes.packed(read_photo(path))
    if mode == "1":
        return read_as(path, None).astype(np.uint8)
    values = _opaque(path, read_labels(path), mode)
    if coloured != (values.ndim == 3):
        wanted = "colours, as classes list them" if coloured else "one channel of class numbers"
        raise BadInput(
            f"{path}: mode {mode}, where {wanted} are expected; write those, or list what stands "
            "for each class in classes.txt"
        )
    return classes.packed(values) if coloured else values


def _opaque(path: Path, values: np.ndarray, mode: str) -> np.ndarray:
    """Without an alpha channel that says nothing."""
    if mode not in ("LA", "RGBA"):
        return values
    if (values[..., -1] != 255).any():
        raise BadInput(f"{path}: partly transparent; write the mask without an alpha channel")
    return values[..., 0] if mode == "LA" else values[..., :3]


def is_own(folder: Path) -> bool:
    """Whether a folder holds images with masks."""
    return folder.is_dir() and next(_places(folder), None) is not None


def _items(folder: Path) -> tuple[list[LabelledImage], int, list[Path]]:
    """Images with masks in the order of their names, how many images have none, and the masks of no
    image.

    Raises:
        BadInput: there is none, or an image has several.
    """
    labelled: list[LabelledImage] = []
    lonely = 0
    masks_left: set[Path] = set()
    for below, images, masks in _places(folder):
        beside = images == masks
        masks_left |= _masks_in(masks, beside)
        for scene in [""] if beside else scenes_in(images):
            labels = _by_stem(masks / scene, beside)
            for name in files_in(images / scene, COLOUR, each_path=True):
                path = images / scene / name
                label = _only(labels, same_name(path.stem), path)
                if label is None:
                    lonely += not beside or WORD.search(path.stem) is None
                    continue
                relative = os.path.relpath(path, folder).replace(os.sep, "/")
                scene_name = same_name(f"{below}/{scene}".strip("/"))
                labelled.append(
                    LabelledImage(same_name(without_ending(relative)), path, label, scene_name)
                )
    if not labelled:
        raise BadInput(
            f"{folder}: no images with masks of their names (images/ and masks/, labels/ or "
            "annotations/, or NAME.jpg and NAME_mask.png); a JPEG is no mask, it is lossy"
        )
    require_single(labelled)
    masks_left -= {item.label for item in labelled}
    _refuse_second_masks(labelled, masks_left)
    return sorted(labelled, key=lambda item: numeric_order(item.name)), lonely, sorted(masks_left)


def _masks_in(masks: Path, beside: bool) -> set[Path]:
    if beside:
        return {
            masks / name for name in files_in(masks, MASK_ENDINGS, each_path=True) if _is_mask(name)
        }
    return {masks / name for name in files_below(masks, MASK_ENDINGS, each_path=True)}


def _refuse_second_masks(items: Iterable[LabelledImage], left: Iterable[Path]) -> None:
    """NAME_mask.png and NAME_mask_1.png: an object each, of which the first alone would be seen."""
    by_folder: dict[Path, list[Path]] = {}
    for path in left:
        by_folder.setdefault(path.parent, []).append(path)
    for item in items:
        stem = item.label.stem
        for other in by_folder.get(item.label.parent, ()) if WORD.search(stem) else ():
            if other.stem.startswith(stem) and other.stem[len(stem)] in MARKS:
                raise BadInput(
                    f"{item.label} and {other.name} are both masks of {item.image.name}; merge "
                    "them into one"
                )


def _places(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Every folder below with images and masks: its path, and where the two lie."""
    for below, folders, files in walk(folder, {}, each_path=True):
        images = one_of(IMAGES, folders)
        masks = one_of(MASKS, folders)
        if images and masks:
            yield below, folder / below / images, folder / below / masks
            folders[:] = [name for name in folders if name not in (images, masks)]
        elif any(_is_mask(name) for name in files):
            yield below, folder / below, folder / below


def _is_mask(name: str) -> bool:
    stem, ending = os.path.splitext(name)
    return ending.lower() in MASK_ENDINGS and WORD.search(stem) is not None


def _by_stem(folder: Path, beside: bool) -> dict[str, list[Path]]:
    """Masks by the stem of their image; those `beside` images have a word for masks in theirs."""
    if not folder.is_dir():
        return {}
    masks: dict[str, list[Path]] = {}
    for name in files_in(folder, MASK_ENDINGS, each_path=True):
        stem = Path(name).stem
        if beside and WORD.search(stem) is None:
            continue
        for key in {same_name(stem), same_name(WORD.sub("", stem).strip(MARKS))}:
            masks.setdefault(key, []).append(folder / name)
    return masks


def _only(masks: dict[str, list[Path]], key: str, image: Path) -> Path | None:
    """The mask of an image, which is none itself.

    Raises:
        BadInput: there are several.
    """
    candidates = [path for path in masks.get(key, []) if path != image]
    if len(candidates) > 1:
        one, other, *_ = candidates
        raise BadInput(
            f"{one} and {other.name} are both masks of {image.name}; merge them into one, or take "
            "one away"
        )
    return candidates[0] if candidates else None
