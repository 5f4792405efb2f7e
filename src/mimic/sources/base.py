"""What a source is: it proposes candidate pairs of views, lazily; it does not judge (only
`covisible` and `rgbd` do, by depth and pose), write or retry.

A clip is the unit that cannot be split between training and validation: one video, one image
folder, one 3-D scene.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float64, Int16, UInt8

from mimic.errors import BadInput
from mimic.sources.photos.folders import files_below as files_below
from mimic.sources.photos.folders import files_in as files_in
from mimic.sources.photos.folders import numeric_order as numeric_order

Image = UInt8[np.ndarray, "height width 3"]
Correspondences = Int16[np.ndarray, " patches"]
Position = Any  # of JSON
Pose = Float64[np.ndarray, "4 4"]  # camera to world; x right, y down, z forward

WHOLE_FILE_BYTES = 64 << 20  # a file up to this size is hashed whole
SAMPLES = 16  # a larger one by this many pieces, equally spaced, first and last bytes included
SAMPLE_BYTES = 1 << 20
OF_THE_MACHINE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})


class Unreadable(Exception):
    """Raw data that does not decode, with the reason; it is counted, and the rest goes on."""


class NoCandidates(Exception):
    """A clip that is whole, but has no two views to compare, with the reason; it is named among the
    clips without pairs."""


def damage(error: Unreadable | OSError) -> str:
    """Why a file could not be read, in one line and without the machine's path.

    Raises:
        OSError: the error itself, where it is no fault of the file: this machine lacks memory, disk
            or descriptors.
    """
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        raise error
    return " ".join(
        (getattr(error, "strerror", None) or str(error) or type(error).__name__).split()
    )


@dataclass(frozen=True)
class View:
    """One view of a clip.

    key: name of the view within its clip (frame number, time, pose number); equal keys are equal
    images.
    read: the upright RGB image; raises Unreadable. The miner keeps what it needs by key, so it is
    called about once.
    pose: camera to world, where the source knows it.
    """

    key: str
    read: Callable[[], Image]
    pose: Pose | None


@dataclass(frozen=True)
class Group:
    """Candidate pairs of which at most one is kept: the one that overlaps least within the band.

    pairs: indices into `views`. retry: tried instead when every one of `pairs` is TOO_SIMILAR.
    skip_after_retry: so many following groups of the clip are passed over when a retry pair is
    kept, for it covers their time.
    precomputed: set when the group's only pair was chosen by others and is taken as it comes, not
        judged. Called for its correspondences (patch of b for each patch of a, one to one, -1 =
        none), or None where none came with it; raises Unreadable.
    locate: what `SeekableSource.groups` needs to begin behind this group; asked now and then. None:
        the groups before are cheap to go through again.
    share: of the clip that lies before this group, 0 to 1, where it is known.
    """

    views: tuple[View, ...]
    pairs: tuple[tuple[int, int], ...]
    retry: tuple[tuple[int, int], ...] = ()
    skip_after_retry: int = 0
    precomputed: Callable[[], Correspondences | None] | None = None
    locate: Callable[[], Position] | None = None
    share: float | None = None


class Description(TypedDict):
    """What the inventory says of a clip."""

    bytes: int  # on disk
    frames: int | None  # None: not known without decoding everything
    digest: str  # of the contents
    error: str | None  # why it cannot be read; None: it can
    note: NotRequired[
        str | None
    ]  # how it is read, where that is not plain, such as which axis is up


INVENTORY = pa.schema(
    [
        pa.field("clip", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("frames", pa.int64()),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
NOTED = INVENTORY.append(pa.field("note", pa.string()))  # as written; earlier ones have no notes


class Source(Protocol):
    """One data set on disk."""

    name: str
    skipped: dict[str, str]  # files and folders below the root that `clips` passed over -> why

    def clips(self) -> list[str]:
        """Names of all clips, sorted as the source counts them (paths below the root, posix);
        BadInput when there are none.

        What it passes over, it names in `skipped`: all but files that the layout says hold
        something else than views.
        """

    def describe(self, clip: str) -> Description:
        """What is there, without decoding it all."""

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:
        """The clip's candidates, lazily, in order, holding a bounded number of images.

        Raises:
            Unreadable: the clip cannot be read, or not to its end.
            NoCandidates: it is whole, but nothing in it can be compared.
        """


class SeekableSource(Source, Protocol):
    """A source whose groups say their places, because they cost much to go through."""

    def groups(
        self,
        clip: str,
        rng: np.random.Generator,
        resume_after: Position | None = None,
    ) -> Iterator[Group]:
        """As `Source.groups`, or what it gives behind the group of `resume_after`: the very same
        groups."""


def describe(source: Source, clip: str) -> Description:
    """What the source says of a clip; one that cannot be opened, or on which the program fails, is
    named like a damaged one."""
    try:
        return source.describe(clip)
    except BadInput:
        raise
    except (Unreadable, OSError) as error:
        why = damage(error)
    except Exception as error:
        why = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Description(bytes=0, frames=None, digest=digest_of_digests([(clip, why)]), error=why)


def camera_to_world(camera_from_world: Float[np.ndarray, "3 4"]) -> Pose | None:
    """The pose of a camera given as [R|t]; None where a number is not finite."""
    if not np.isfinite(camera_from_world).all():
        return None
    pose = np.eye(4)
    pose[:3, :3] = camera_from_world[:, :3].T
    pose[:3, 3] = -camera_from_world[:, :3].T @ camera_from_world[:, 3]
    return pose


def read_numbers(path: Path) -> Float64[np.ndarray, "rows columns"] | None:
    """A table of numbers in a text file; None when there is no such file, or it is something
    else."""
    try:
        rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
        return np.array(rows, np.float64, ndmin=2)
    except (OSError, ValueError):
        return None


def read_text(path: Path) -> str:
    """A text file, as any system writes it: UTF-8, with or without a byte order mark, or UTF-16
    with one.

    Raises:
        OSError: it cannot be opened.
        UnicodeDecodeError: it is something else.
    """
    data = path.read_bytes()
    return data.decode(
        "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    )


def require_folder(name: str, root: Path) -> Path:
    """The source's root, or one line that says it is missing or empty."""
    if not root.is_dir():
        raise BadInput(
            f"sources.{name}.root: no folder {root}; put the raw data there, or correct the path "
            "in params.yaml"
        )
    if next(root.iterdir(), None) is None:
        raise BadInput(f"sources.{name}.root: {root} is empty; put the raw data there")
    return root


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change: part of the key where what was read from a file is
    remembered. BadInput: no such file."""
    try:
        status = path.stat()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    return status.st_size, status.st_mtime_ns


def content_digest(path: Path) -> str:
    """A digest that changes when the file does: sha256 of all bytes up to 64 MiB, of the size and
    16 spread MiB above.

    An in-place edit of a huge file outside the samples, at equal size, goes unseen: ingest stays
    fast on terabytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_FILE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        total = hashlib.sha256(str(size).encode())
        for sample in range(SAMPLES):
            file.seek((size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
            total.update(file.read(SAMPLE_BYTES))
        return total.hexdigest()


def digest_of_digests(named: list[tuple[str, str]]) -> str:
    """One digest of several files: their names and digests, in the order given."""
    total = hashlib.sha256()
    for name, digest in named:
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()


def digest_with(digest: str, files: Iterable[Path]) -> str:
    """A clip's digest that also changes with files beside its views that decide what comes of them:
    poses, cameras, meshes. The same where there are none."""
    contents = [(file.name, content_digest(file)) for file in files if file.is_file()]
    return digest_of_digests([("views", digest), *contents]) if contents else digest
