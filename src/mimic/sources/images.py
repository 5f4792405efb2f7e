"""Folders of images: numbered frames, each paired with a later one, or an unordered set, all pairs
of it.

Layout: any tree below the root; every folder that holds images itself is a clip, named by its path
below the root ("." is the root). Numbered frames: a folder may hold several sequences
(sequences.py); only images of one sequence are paired. A set of more than `group_max` images is not
tried whole: of each image, only so many of the next ones in order of the time when they were taken
(or else of their names) that there are no more pairs than a set of `group_max` has. Depth maps
beside photographs are left out, and so are animations, which are videos.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.infra.confined import is_below
from mimic.sources.base import (
    SAMPLES,
    WHOLE_FILE_BYTES,
    Description,
    Group,
    NoCandidates,
    content_digest,
    damage,
    digest_of_digests,
    require_folder,
)
from mimic.sources.photos import pictures, spheres, textures
from mimic.sources.photos.folders import (
    Listing,
    files_in,
    has_extension,
    numeric_order,
    passed_over,
    tree,
)
from mimic.sources.photos.pictures import EXTENSIONS as EXTENSIONS
from mimic.sources.photos.pictures import read as read
from mimic.sources.photos.pictures import view as view
from mimic.sources.photos.pictures import view_names as view_names
from mimic.sources.photos.sequences import Sequence, sequences
from mimic.sources.video import animations

ALONE = "in no pair: no image lies {stride} before or behind it in its sequence"
# A word of a file's or folder's name: depth, depths, depth_map, disparities; rawDepth.
DEPTH = re.compile(
    r"(?i:(?<![a-z])(?:depth|disp|disparity|disparitie)(?:s|[-_ ]?maps?|[-_ ]?images?)?(?![a-z]))"
    r"|(?<=[a-z])(?:Depth|Disparity)(?:s|Maps?|Images?)?(?![a-z])"
)


class ImageSource:
    """Image folders below a root; see `config.Images` for the numbers."""

    def __init__(self, name: str, section: config.Images, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        require_folder(self.name, self.root)
        clips = list(
            dict.fromkeys(PurePosixPath(file).parent.as_posix() for file in self._listing.files)
        )
        if not clips:
            instead = passed_over(self._listing.skipped)
            raise BadInput(
                f"sources.{self.name}.root: no image that matches {self._section.glob!r} in "
                f"{self.root}{instead}"
            )
        self.skipped = dict(self._listing.skipped)
        for clip in clips:
            self.skipped.update(self.left_out(clip))
        return clips

    def describe(self, clip: str) -> Description:
        files, _ = _photographs(self._files(clip), self.root)
        described = describe(files, None)
        if (note := spheres.remark(files)) is not None:
            described["note"] = note
        return described

    def left_out(self, clip: str) -> dict[str, str]:
        """Images of a clip that are in no candidate, or not whole: path below the root -> why.

        And the clip itself, where it is not tried whole.
        """
        files, reasons = _photographs(self._files(clip), self.root)
        if self._section.pairing == "neighbours":
            for sequence in _sequences(files, reasons):
                if len(sequence) == 1:
                    reasons[sequence.files[0]] = (
                        "in no sequence: no other image has a name of the same form"
                    )
                for file in _alone(sequence, self._section):
                    reasons.setdefault(file, ALONE.format(stride=self._section.stride))
        for file in files:
            if file not in reasons and (why := pictures.further(file)) is not None:
                reasons[file] = why
        named = {file.relative_to(self.root).as_posix(): why for file, why in reasons.items()}
        reach = self._reach(len(files))
        if self._section.pairing == "all" and reach < len(files) - 1:
            named[clip] = (
                f"{len(files)} images make {len(files) * (len(files) - 1) // 2} pairs: of each "
                f"image only the {reach} next in order of"
                " time or name are tried; raise group_max for more"
            )
        return named

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        """Neighbours: a group for every first frame. All: a group for every pair, so that each is
        judged on its own."""
        files, left_out = _photographs(self._files(clip), self.root)
        if left_out and not files:
            raise NoCandidates("no photographs")
        match self._section.pairing:
            case "neighbours":
                section = self._section
                for sequence in _sequences(files, left_out):
                    yield from neighbours(
                        sequence, section.stride, section.retry_strides, section.advance
                    )
            case "all":
                yield from _all(files, self._reach(len(files)))

    def _reach(self, count: int) -> int:
        """With how many following ones an image of a set is compared: all, or as many as a set of
        `group_max` has pairs for."""
        most = self._section.group_max
        return count - 1 if count <= most else max(1, most * (most - 1) // 2 // count)

    def _files(self, clip: str) -> list[Path]:
        """The clip's images, in numeric order."""
        folder = self.root / clip
        names = [name for name in files_in(folder, EXTENSIONS) if self._is_wanted(name)]
        if any(
            (folder / name).is_symlink() for name in names
        ):  # the same file may be linked from other folders, too
            listed = set(self._listing.files)
            names = [name for name in names if PurePosixPath(clip, name).as_posix() in listed]
        return [folder / name for name in names]

    @functools.cached_property
    def _listing(self) -> Listing:
        return tree(self.root, self._is_wanted, "an image that is read here")

    def _is_wanted(self, name: str) -> bool:
        return has_extension(name, EXTENSIONS) and PurePosixPath(name).match(self._section.glob)


def describe(files: list[Path], error: str | None) -> Description:
    """What the inventory says of a clip that is some files of images; those that cannot be opened
    are named in `error`."""
    readable = []
    gone = []
    sizes = []
    for file in files:
        try:
            with file.open("rb"):
                sizes.append(file.stat().st_size)
            readable.append(file)
        except OSError as problem:
            gone.append(f"{file.name}: {damage(problem)}")
    if gone and error is None:
        error = f"{len(gone)} of {len(files)} images cannot be opened, such as {gone[0]}"
    digest = (
        digest_of_digests([(_digest(readable, sizes), "\n".join(gone))])
        if gone
        else _digest(readable, sizes)
    )
    return Description(bytes=sum(sizes), frames=len(readable), digest=digest, error=error)


def describe_listed(root: Path, paths: Set[str]) -> Description:
    """What the inventory says of images that a list names: how many are missing, or lie where the
    list must not reach."""
    below = sorted(path for path in paths if is_below(path))
    gone = {path for path in below if not (root / path).is_file()}
    problems = []
    if gone:
        problems.append(f"{len(gone)} images are missing, such as {min(gone)}")
    if outside := sorted(set(paths) - set(below)):
        problems.append(f"{len(outside)} images lie outside the root, such as {outside[0]}")
    return describe(
        [root / path for path in below if path not in gone], "; ".join(problems) or None
    )


def neighbours(
    sequence: Sequence,
    stride: int,
    retry_strides: tuple[int, ...],
    advance: int,
    unit: float | None = None,
) -> Iterator[Group]:
    """A group for every first frame: with the one `stride` later, else with those at the retry
    distances.

    Distances count frames of the sequence, gaps included: a pair whose second frame is missing is
    no candidate.

    Args:
        unit: see `Sequence.steps`.
    """
    if len(sequence) < 2:
        return
    views = [view(file) for file in sequence.files]
    position = {step: index for index, step in enumerate(sequence.steps(unit))}
    for first in position:
        if first % advance or first + stride not in position:
            continue
        later = [
            position[first + further] for further in retry_strides if first + further in position
        ]
        yield Group(
            views=tuple(
                views[index] for index in (position[first], position[first + stride], *later)
            ),
            pairs=((0, 1),),
            retry=tuple((0, 2 + index) for index in range(len(later))),
        )


def _all(files: list[Path], reach: int) -> Iterator[Group]:
    """Every pair of a set, or those at most `reach` apart in order of time or name."""
    if reach >= len(files) - 1:
        views = tuple(view(file) for file in files)
        for pair in itertools.combinations(range(len(views)), 2):
            yield Group(views=views, pairs=(pair,))
        return
    times = {file: pictures.taken(file) for file in files}
    views = tuple(
        view(file)
        for file in sorted(files, key=lambda file: (times[file] or "", numeric_order(file.name)))
    )
    for first in range(len(views)):
        window = views[first : first + reach + 1]
        for second in range(1, len(window)):
            yield Group(views=window, pairs=((0, second),))


def _sequences(files: list[Path], left_out: dict[Path, str]) -> list[Sequence]:
    """The sequences of a folder; files that are in none are left out."""
    ordered = sequences(files)
    of_one = {file for sequence in ordered for file in sequence.files}
    left_out.update(
        {file: "in no sequence: no number in its name" for file in files if file not in of_one}
    )
    return ordered


def _alone(sequence: Sequence, section: config.Images) -> list[Path]:
    """Files that would be the first or the second of a candidate, and are in none because another
    is missing. Those that the stride passes over are not meant."""
    if len(sequence) < 2:
        return []
    steps = sequence.steps(None)
    present = set(steps)
    stride = section.stride
    every = section.advance
    firsts = {step for step in steps if not step % every and step + stride in present}
    taken = {step + later for step in firsts for later in (0, stride, *section.retry_strides)}
    return [
        file
        for file, step in zip(sequence.files, steps, strict=True)
        if step not in taken and (not step % every or not (step - stride) % every)
    ]


def _photographs(files: list[Path], root: Path) -> tuple[list[Path], dict[Path, str]]:
    """The files that are photographs, and those that are not: animations, depth maps and textures
    of 3-D scenes.

    Depth maps are told by a word in their names or their folder's, and a single channel; by a
    folder further up, and a single channel of 16 bits.
    """
    named = {file: DEPTH.search(file.stem) or DEPTH.search(file.parent.name) for file in files}
    # further up a word says less: KITTI's proj_depth/groundtruth/image_02/0000000005.png
    above = {file: any(map(DEPTH.search, file.relative_to(root).parts[:-2])) for file in files}
    depth = [file for file in files if named[file] or above[file]]
    reasons = textures.reasons(files, root)
    reasons |= {file: animations.NO_PHOTOGRAPH for file in files if animations.is_animation(file)}
    alike: dict[str, list[Path]] = defaultdict(list)
    for file in depth:
        alike[re.sub("[0-9]+", "#", file.name)].append(file)
    for form in alike.values():  # the first that can be opened tells of all
        answers = (pictures.is_single_channel(file, is_deep=not named[file]) for file in form)
        if next((answer for answer in answers if answer is not None), False):
            reasons |= dict.fromkeys(form, "a depth map, no photograph")
    return [file for file in files if file not in reasons], reasons


def _digest(files: list[Path], sizes: list[int]) -> str:
    """As for one big file: up to 64 MiB everything counts; above, all names and sizes, and the
    contents of 16 spread files."""
    if sum(sizes) <= WHOLE_FILE_BYTES or len(files) <= SAMPLES:
        return digest_of_digests([(file.name, content_digest(file)) for file in files])
    sampled = {(len(files) - 1) * sample // (SAMPLES - 1) for sample in range(SAMPLES)}
    contents = [
        content_digest(file) if index in sampled else str(size)
        for index, (file, size) in enumerate(zip(files, sizes, strict=True))
    ]
    return digest_of_digests(
        [(file.name, content) for file, content in zip(files, contents, strict=True)]
    )
