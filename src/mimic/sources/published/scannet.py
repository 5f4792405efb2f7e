"""ScanNet v2: hand-held RGB-D scans.

Layouts, all accepted, at any depth below the root (scans/, scans_test/ or the root itself):

    <scan>/<scan>.sens                   the raw stream (sens.py), read without extracting it
    <scan>/color/<i>.jpg  pose/<i>.txt   SensReader/python's export: no zero padding, 4x4 camera to
                                         world
    <scan>/frame-000000.color.jpg        SensReader/c++'s export, with frame-000000.pose.txt
    <scan>/<i>.jpg                       a flattened export

A clip is a scan: its .sens file, or the folder of its export (a folder that holds both is read from
the .sens file). Frames are sorted by number; the published script reads them in the order of the
directory, so that its windows hold random frames of the scan. Terms: ScanNet's terms of use,
signed; no redistribution.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.sources import images
from mimic.sources.base import (
    Description,
    Group,
    Pose,
    Unreadable,
    View,
    content_digest,
    digest_with,
    files_in,
    numeric_order,
    read_numbers,
    require_folder,
)
from mimic.sources.photos.folders import walk
from mimic.sources.published import sens

COLOUR = frozenset({".jpg", ".jpeg", ".png"})
JPEGS = frozenset({".jpg", ".jpeg"})
FRAME = re.compile(r"(?:frame-)?(\d+)(?:\.color)?")


class ScanNetSource:
    """See `config.ScanNet` for the numbers."""

    def __init__(self, name: str, section: config.ScanNet, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        clips = []
        for folder, folders, files in walk(require_folder(self.name, self.root), self.skipped):
            parent = Path(folder)
            if streams := [name for name in files if name.endswith(".sens")]:
                clips += [(parent / name).as_posix() for name in streams]
            elif "color" in folders:
                clips.append(parent.as_posix())
            elif frames := sum(_frame(name) is not None for name in files):
                if any(self._holds_scan(parent / name, frames) for name in folders):
                    self.skipped[parent.as_posix()] = "pictures beside scans, in none of them"
                    continue
                clips.append(parent.as_posix())
            else:
                continue
            folders.clear()  # what is below are this scan's files, thousands of them
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no .sens file and no exported colour frames below "
                f"{self.root}"
            )
        return sorted(clips, key=numeric_order)

    def _holds_scan(self, folder: Path, beside: int) -> bool:
        """Whether scans lie in a folder, and no depth maps or thumbnails of the frames above it.

        Args:
            beside: how many frames these are; a flattened scan has more than lie beside it.
        """
        for _, folders, files in walk(self.root / folder, {}):
            jpegs = [name for name in files if PurePosixPath(name).suffix.lower() in JPEGS]
            if (
                "color" in folders
                or any(name.endswith(".sens") for name in files)
                or sum(_frame(name) is not None for name in jpegs) > beside
            ):
                return True
        return False

    def describe(self, clip: str) -> Description:
        stream = self.root / clip
        if stream.suffix != ".sens":
            exported = self._frames(clip)
            files = [file for file, _ in exported]
            description = images.describe(files, None if files else "no colour frames")
            poses = (pose for _, pose in exported)
            description["digest"] = digest_with(description["digest"], poses)
            return description
        frames = None
        error = None
        try:
            frames = min(
                sens.read_header(stream).frames, stream.stat().st_size // sens.FRAME.size
            )  # at most what the header promises
        except Unreadable as unreadable:
            error = str(unreadable)
        return Description(
            bytes=stream.stat().st_size, frames=frames, digest=content_digest(stream), error=error
        )

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        """A group for each whole window: the first `edge` frames against `edge` frames from
        `second_edge` on."""
        section = self._section
        pairs = tuple(itertools.product(range(section.edge), range(section.edge, 2 * section.edge)))
        window: list[View] = []
        count = self._count(clip)
        for number, view in enumerate(self._views(clip), 1):
            window.append(view)
            if len(window) == section.window:
                second = window[section.second_edge : section.second_edge + section.edge]
                share = (number - section.window) / max(count, number)
                yield Group(views=(*window[: section.edge], *second), pairs=pairs, share=share)
                window = []

    def _count(self, clip: str) -> int:
        """How many frames there are, or are announced."""
        if clip.endswith(".sens"):
            return sens.read_header(self.root / clip).frames
        return len(self._frames(clip))

    def _views(self, clip: str) -> Iterator[View]:
        if clip.endswith(".sens"):
            yield from sens.views(self.root / clip)
            return
        for file, pose in self._frames(clip):
            yield images.view(file, _pose(pose))

    def _frames(self, clip: str) -> list[tuple[Path, Path]]:
        """(colour file, pose file) of an export, by frame number."""
        folder = self.root / clip
        colour = folder / "color" if (folder / "color").is_dir() else folder
        frames: list[tuple[int, Path, Path]] = []
        for name in files_in(colour, COLOUR, dead=True):
            if match := _frame(name):
                stem = Path(name).stem.removesuffix(".color")
                pose = (
                    folder / "pose" / f"{stem}.txt"
                    if colour != folder
                    else folder / f"{stem}.pose.txt"
                )
                frames.append((int(match[1]), colour / name, pose))
        # Exports of one folder have colour in JPEG and depth in PNG, of the same numbers.
        is_jpeg = {number for number, file, _ in frames if file.suffix.lower() in JPEGS}
        kept = [one for one in frames if one[0] not in is_jpeg or one[1].suffix.lower() in JPEGS]
        return [(file, pose) for _, file, pose in sorted(kept, key=lambda item: item[0])]


def _frame(name: str) -> re.Match[str] | None:
    """The match of a colour frame's name, with its number."""
    path = PurePosixPath(name)
    return FRAME.fullmatch(path.stem) if path.suffix.lower() in COLOUR else None


def _pose(file: Path) -> Pose | None:
    """4x4 camera to world; None where the export has none or tracking was lost (-inf)."""
    pose = read_numbers(file)
    return pose if pose is not None and pose.shape == (4, 4) and np.isfinite(pose).all() else None
