"""ImageNet-1K (ILSVRC 2012) as distributed, read image by image.

    <folder>/train/<wnid>/*.JPEG
    <folder>/val/<wnid>/*.JPEG                       sorted into classes, or
    <folder>/val/ILSVRC2012_val_00000001.JPEG, ...   flat, as in the archive; the classes then come
                                                     from one of
    <folder>/LOC_val_solution.csv                    lines "ILSVRC2012_val_00000001,n01751748 111
                                                     108 262 ..."
    <folder>/ILSVRC2012_devkit_t12/data/             ILSVRC2012_validation_ground_truth.txt (a
                                                     number a line) and meta.mat (its WordNet id)

The official set has 1000 classes, 1,281,167 training and 50,000 validation images. Classes are
numbered by sorted WordNet id.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.io

from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.tasks.engine.image_io import extent, read_photo, with_labels
from mimic.tasks.imagenet.config import ImageNetTask
from mimic.tasks.imagenet.own import OwnClasses, is_own

WNID = re.compile(r"n\d{8}")
SUFFIX = ".JPEG"
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}  # that people have
SOLUTION = "LOC_val_solution.csv"
DEVKIT = "ILSVRC2012_devkit_t12/data"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"


class ImageNet:
    """A listed set; `train` and `val` are (paths, classes int64[n]) in a fixed order.

    Args:
        counts: classes, training and validation images there must be; None = whatever is there.

    Raises:
        BadInput: a folder or file is missing, a validation image has no class or one without
            training images, the counts are wrong.
    """

    own = ""  # in the protocol, of data that are not the official ones
    notes: tuple[str, ...] = ()  # by `prepare`, beyond what every set says

    def __init__(self, folder: Path, counts: tuple[int, int, int] | None) -> None:
        self.folder = folder
        self.wnids = _classes(folder / "train")
        numbers = {wnid: number for number, wnid in enumerate(self.wnids)}
        self.train = _sorted_into(folder / "train", self.wnids, numbers)
        self.val = _validation(folder, numbers)
        actual = (len(self.wnids), len(self.train[0]), len(self.val[0]))
        if counts is not None and actual != counts:
            parts = ", ".join(
                f"{n} {what}"
                for n, what in zip(
                    actual, ("classes", "training images", "validation images"), strict=True
                )
            )
            raise BadInput(
                f"{folder}: {parts}, expected {', '.join(map(str, counts))}; unpack the archives "
                "again"
            )

    def read(self, path: Path) -> np.ndarray:
        """uint8[h, w, 3] RGB; the set has a few CMYK and PNG files under this name, which are
        converted."""
        return read_photo(path)

    @cached_property
    def extent(self) -> dict[str, int | str]:
        """Bytes and digest of all images, whose sizes are looked up once, and of their classes,
        which a list may say."""
        images = extent([*self.train[0], *self.val[0]], self.folder)
        return with_labels(images, hashlib.sha256(self.val[1].tobytes()).hexdigest())


def _classes(train: Path) -> list[str]:
    if not train.is_dir():
        raise BadInput(
            f"{train}: no such folder; point `data` at the folder that holds train/ and val/ of "
            "ImageNet-1K"
        )
    names = sorted(entry.name for entry in os.scandir(train) if entry.is_dir())
    strange = [name for name in names if not WNID.fullmatch(name)]
    if strange:
        raise BadInput(
            f"{train / strange[0]}: not a WordNet id such as n01440764; train/ holds one folder a "
            "class. Classes of your own may have any names: set layout: folders"
        )
    if len(names) < 2:
        tars = any(entry.name.endswith(".tar") for entry in os.scandir(train))
        remedy = (
            "unpack the archive of each class into a folder of its name"
            if tars
            else "unpack the training archive again"
        )
        raise BadInput(f"{train}: {len(names)} classes; {remedy}")
    return names


def _images(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(SUFFIX))


def _remedy(folder: Path) -> str:
    """For a folder without images of the set's suffix."""
    suffixes = Counter(Path(entry.name).suffix for entry in os.scandir(folder) if entry.is_file())
    pictures = {suffix: n for suffix, n in suffixes.items() if suffix.lower() in PICTURES}
    if not pictures:
        return "unpack its archive again"
    suffix, n = max(pictures.items(), key=lambda item: item[1])
    return f"its {n} {suffix} files are not read: name them {SUFFIX}, as ImageNet's are"


def _sorted_into(
    folder: Path, wnids: list[str], numbers: dict[str, int]
) -> tuple[list[Path], np.ndarray]:
    paths: list[Path] = []
    classes: list[int] = []
    for wnid in wnids:
        images = _images(folder / wnid)
        if not images:
            raise BadInput(f"{folder / wnid}: holds no {SUFFIX} file; {_remedy(folder / wnid)}")
        paths += images
        classes += [numbers[wnid]] * len(images)
    return paths, np.array(classes, np.int64)


def _validation(folder: Path, numbers: dict[str, int]) -> tuple[list[Path], np.ndarray]:
    val = folder / "val"
    if not val.is_dir():
        raise BadInput(f"{val}: no such folder; unpack the validation archive")
    wnids = sorted(entry.name for entry in os.scandir(val) if entry.is_dir())
    flat = _images(val)
    if wnids and flat:
        raise BadInput(
            f"{val}: holds both class folders and {flat[0].name}; either sort all images into "
            "classes or none"
        )
    if wnids:
        for wnid in wnids:
            if wnid not in numbers:
                raise BadInput(
                    f"{val / wnid}: no training images of this class in {folder / 'train'}"
                )
        return _sorted_into(val, wnids, numbers)
    if not flat:
        raise BadInput(f"{val}: holds no {SUFFIX} file; {_remedy(val)}")
    source, classes = _mapping(folder)
    chosen = []
    for path in flat:
        wnid = classes.get(path.stem, "")
        if wnid not in numbers:
            reason = f"says {wnid}, which has no training images" if wnid else "does not name it"
            raise BadInput(f"{path}: {source} {reason}; image and list must be of the same release")
        chosen.append(numbers[wnid])
    return flat, np.array(chosen, np.int64)


def _mapping(folder: Path) -> tuple[Path, dict[str, str]]:
    """WordNet id of each validation image, by stem, and the file that says so."""
    solution = folder / SOLUTION
    devkit = folder / DEVKIT
    if solution.is_file():
        with solution.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        if not rows or any(len(row) != 2 or not WNID.match(row[1]) for row in rows):
            raise BadInput(
                f"{solution}: expected lines such as ILSVRC2012_val_00000001,n01751748 111 108 262 "
                "170; download it again"
            )
        return solution, {row[0]: row[1].split()[0] for row in rows}
    truth = devkit / TRUTH
    if truth.is_file():
        wnids = _devkit_wnids(devkit / META)
        lines = truth.read_text().split()
        unknown = next((line for line in lines if line not in wnids), None)
        if unknown is not None:
            raise BadInput(
                f"{truth}: {unknown!r} is no class number of {META}; download the development kit "
                "again"
            )
        return truth, {
            f"ILSVRC2012_val_{number:08d}": wnids[line] for number, line in enumerate(lines, 1)
        }
    raise BadInput(
        f"{folder / 'val'}: images are not sorted into classes, and neither {solution.name} nor "
        f"{DEVKIT}/{TRUTH} says theirs"
    )


def _devkit_wnids(path: Path) -> dict[str, str]:
    """WordNet id of each class number of the development kit, which are not those of sorted ids."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; unpack the development kit again")
    try:
        synsets = scipy.io.loadmat(path, squeeze_me=True)["synsets"]
        return {
            str(int(number)): str(wnid)
            for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        }
    except Exception as error:  # damaged files surface as nearly any exception of the parser
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadInput(
            f"{path}: not the development kit's table of classes ({reason}); unpack it again"
        ) from None


ClassSet = ImageNet | OwnClasses


def open_imagenet(task: ImageNetTask, root: Path) -> ClassSet:
    """ImageNet, or a folder of classes of one's own, recognised by what lies in `data`."""
    folder = Workspace(root).resolve(task.data)
    recognised = "folders" if is_own(folder, WNID) else "imagenet"
    if (task.layout or recognised) == "folders":
        return OwnClasses(folder)
    return ImageNet(folder, task.images)
