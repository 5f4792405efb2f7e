"""NYU Depth v2, labelled set, as distributed; read image by image.

    <folder>/nyu_depth_v2_labeled.mat   MATLAB 7.3 = HDF5 behind a 512-byte user block; axes are
                                        reversed:
        images     (n, 3, 640, 480) uint8      -> 480 x 640 x 3, RGB
        depths     (n, 640, 480)    float32    -> metres, in-painted
        rawDepths  (n, 640, 480)    float32    -> metres as measured, 0 = missing
    <folder>/splits.mat                 MATLAB 5: trainNdxs, testNdxs, counted from 1

The official set has 1449 images, 795 to train and 654 to test. Valid pixels are those the sensor
measured (rawDepths > 0), or those that are 255 in a folder of masks named by the image's number
counted from 0 (`0000.png`), such as the ones made from Eigen's normals_gt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import h5py
import numpy as np
import scipy.io

from mimic.errors import BadInput
from mimic.infra.storage import file_digest
from mimic.sources.base import Unreadable
from mimic.sources.hdf5 import item

MAT = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
DEPTH_M = (0.1, 30.0)  # a median outside is not a room in metres
LOOKED_AT = 8  # images read on opening, to check units and masks


@dataclass(frozen=True)
class DepthFrame:
    """One labelled image: image uint8[h, w, 3] RGB, depth_m float32[h, w], valid bool[h, w]; and
    whether Eigen's region may be one of it, which is defined on NYUv2's 640 x 480."""

    image: np.ndarray
    depth_m: np.ndarray
    valid: np.ndarray
    has_eigen: bool = True


class Nyu:
    """An opened set: `train` and `test` hold image numbers counted from 0; `read` gives one image.

    Raises:
        BadInput: a file is missing, truncated or not what its name says; a split is wrong; depth is
            not in metres; masks are missing.
    """

    notes: tuple[str, ...] = ()  # by `prepare`, beyond what every set says
    own = ""  # in the protocol, of data that are not the official ones
    has_eigen = True

    def __init__(self, folder: Path, masks: Path | None) -> None:
        self.path = folder / MAT
        self.masks = masks
        self._file = _open(self.path)
        try:
            self._fields = _fields(self._file, self.path, with_raw=masks is None)
            self.length = len(self._fields["images"])
            self.train, self.test = _read_splits(folder / SPLITS, self.length)
            self._check_samples()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Nyu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, index: int) -> DepthFrame:
        """Image `index`, counted from 0.

        Raises:
            BadInput: the file is damaged there, or its mask is missing or of another size.
        """
        try:
            image = np.ascontiguousarray(self._fields["images"][index].transpose(2, 1, 0))
            depth_m = np.ascontiguousarray(self._fields["depths"][index].T)
            valid = (
                self._fields["rawDepths"][index].T > 0
                if self.masks is None
                else self._read_mask(self.masks, index, depth_m.shape)
            )
        except OSError as error:
            raise BadInput(
                f"{self.path}: image {index} cannot be read ({_line(error)}); the file is damaged, "
                "fetch it again"
            ) from None
        # A value that is not a distance is no label, whatever the mask says.
        return DepthFrame(
            image, depth_m, np.ascontiguousarray(valid) & np.isfinite(depth_m) & (depth_m > 0)
        )

    def extent(self) -> dict[str, int | str]:
        """Bytes and digest of the set."""
        return {"bytes": self.path.stat().st_size, "digest": self.digest}

    @property
    def digest(self) -> str:
        return file_digest(self.path)

    def _read_mask(self, folder: Path, index: int, shape: tuple[int, ...]) -> np.ndarray:
        path = folder / f"{index:04d}.png"
        try:
            mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        except cv2.error:  # its header states more pixels than OpenCV takes
            mask = None
        if mask is None:
            raise BadInput(
                f"{path}: no such mask, or not a PNG; every image needs one (255 = valid), or set "
                "masks: null to use rawDepths"
            )
        if mask.shape != shape:
            raise BadInput(
                f"{path}: a mask of {mask.shape[1]} x {mask.shape[0]} for an image of {shape[1]} x "
                f"{shape[0]}"
            )
        return mask == 255

    def _check_samples(self) -> None:
        """Metres and masks, on a few images spread over both splits."""
        everything = np.concatenate([self.train, self.test])
        looked_at = [
            self.read(int(index)) for index in everything[:: -(-len(everything) // LOOKED_AT)]
        ]
        measured = [frame.depth_m[frame.valid] for frame in looked_at]
        if not any(map(len, measured)):
            where = (
                "rawDepths are 0 everywhere"
                if self.masks is None
                else f"the masks in {self.masks} are 255 nowhere"
            )
            raise BadInput(f"{self.path}: no valid pixel in {len(looked_at)} images: {where}")
        median = float(np.median(np.concatenate(measured)))
        if not DEPTH_M[0] <= median <= DEPTH_M[1]:
            guess = "not metres"
            if 100 < median < 6000:
                guess = "millimetres"
            elif median >= 6000:
                guess = "units of 1/6553.6 m"
            raise BadInput(
                f"{self.path}: median depth {median:g}, which looks like {guess}; `depths` holds "
                "metres (float32) in the official file"
            )


def _open(path: Path) -> Any:
    if not path.is_file():
        raise BadInput(
            f"{path}: no such file; point `data` at the folder that holds {MAT} and {SPLITS}, or "
            "at images with depth (color/ and depth/, NAME.jpg and NAME.npy)"
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        what = (
            "truncated: copy it again"
            if "truncated" in str(error)
            else "not a MATLAB 7.3 (HDF5) file"
        )
        raise BadInput(f"{path}: {what} ({_line(error)})") from None


def _fields(file: Any, path: Path, with_raw: bool) -> dict[str, Any]:
    """The datasets, once their shapes and types are right."""
    fields = {}
    expected = {"images": (4, np.uint8), "depths": (3, np.float32)} | (
        {"rawDepths": (3, np.float32)} if with_raw else {}
    )
    for name, (axes, dtype) in expected.items():
        if name not in file:
            remedy = (
                "; without it set `masks` to a folder of valid masks" if name == "rawDepths" else ""
            )
            raise BadInput(
                f"{path}: no dataset {name!r}; found {', '.join(sorted(file)) or 'none'}{remedy}"
            )
        try:
            fields[name] = item(file, name)
        except Unreadable as error:
            raise BadInput(f"{path}: {error}; take the official file") from None
        if fields[name].ndim != axes or fields[name].dtype != dtype:
            actual = f"{fields[name].dtype} {fields[name].shape}"
            raise BadInput(
                f"{path}: {name} is {actual}, expected {np.dtype(dtype)} with {axes} axes (image "
                "first, then reversed); wrong unit or file?"
            )
    images = fields["images"].shape
    if images[1] != 3:
        raise BadInput(f"{path}: images is {images}, expected (images, 3, width, height)")
    for name in fields.keys() - {"images"}:
        if fields[name].shape != (images[0], *images[2:]):
            raise BadInput(f"{path}: {name} is {fields[name].shape} but images is {images}")
    return fields


def _read_splits(path: Path, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Train and test image numbers, counted from 0."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; the official split (trainNdxs, testNdxs) is needed")
    try:
        raw = scipy.io.loadmat(path)
    except Exception as error:
        raise BadInput(f"{path}: not a MATLAB 5 file ({_line(error)})") from None
    splits = []
    for name in ("trainNdxs", "testNdxs"):
        if name not in raw:
            raise BadInput(
                f"{path}: no variable {name!r}; found "
                f"{', '.join(key for key in raw if not key.startswith('__'))}"
            )
        numbers = np.asarray(raw[name]).ravel().astype(np.int64)
        if not len(numbers):
            raise BadInput(f"{path}: {name} is empty")
        if numbers.min() < 1 or numbers.max() > length:
            extremes = f"{numbers.min()}..{numbers.max()}"
            raise BadInput(
                f"{path}: {name} holds {extremes}, expected 1..{length} (counted from 1); does it "
                f"belong to this {MAT}?"
            )
        splits.append(numbers - 1)
    shared = np.intersect1d(splits[0], splits[1])
    if len(shared):
        raise BadInput(
            f"{path}: {len(shared)} images are in both trainNdxs and testNdxs, the first is "
            f"{shared[0] + 1}"
        )
    return splits[0], splits[1]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
