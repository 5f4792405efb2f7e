"""CO3D v2: turn-table videos of objects, as frames.

Layout:

    <root>/<category>/<sequence>/images/frame000001.jpg ...
            numbers may start later and have gaps
                                /masks/ depth_masks/ depths/    not read
    <root>/<category>/{set_lists,eval_batches}/
            siblings of the sequences: a sequence is what has images/
    <root>/<category>/frame_annotations.jgz                     poses; not needed to mine
    <root>/_in_progress/
            left-overs of the downloader: skipped

A clip is a sequence. The published script pairs frames by their position in the sorted list (i, i +
5), i += 10, and stops one pair early; here the last pair counts, and a distance counts frame
numbers, so that a gap is not taken for a small step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.sources.base import Description, Group, files_in, numeric_order, require_folder
from mimic.sources.images import EXTENSIONS, describe, neighbours
from mimic.sources.photos.folders import walk
from mimic.sources.photos.sequences import sequences

SEQUENCE_DEPTH = 2  # <category>/<sequence>


class CO3DSource:
    """See `config.NumberedFrames` for the numbers."""

    def __init__(self, name: str, section: config.NumberedFrames, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        clips = []
        for folder, folders, _ in walk(require_folder(self.name, self.root), self.skipped):
            depth = len(Path(folder).parts)
            if depth == 0:
                folders[:] = [name for name in folders if not name.startswith("_")]
            if depth == SEQUENCE_DEPTH:
                clips += [folder] if "images" in folders else []
                folders.clear()  # what is below are its frames, and masks and depth maps of them
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no <category>/<sequence>/images below {self.root}; it "
                "must hold CO3D's categories"
            )
        return sorted(clips, key=numeric_order)

    def describe(self, clip: str) -> Description:
        files = self._files(clip)
        return describe(files, None if files else "no frames")

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        section = self._section
        for sequence in sequences(self._files(clip)):
            yield from neighbours(
                sequence, section.stride, section.retry_strides, section.advance, unit=1.0
            )

    def _files(self, clip: str) -> list[Path]:
        folder = self.root / clip / "images"
        return [folder / name for name in files_in(folder, EXTENSIONS, dead=True)]
