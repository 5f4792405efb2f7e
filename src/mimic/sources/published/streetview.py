"""3DStreetView (3D_Street_View): images of one physical point seen from several places.

Layout, as unpacked from the official archives:

    <root>/dataset_aligned/<DDDD>/<dataset>_<image>_<view>_<target>.jpg
            640 x 640, with a .txt of the same stem (not read)
    <root>/dataset_unaligned/<DDDD>/...

Images of one folder whose fourth field is equal show the same point in the centre; target numbers
are unique only within a folder. A clip is a folder (a region of a city), a group is a target.
Terms: non-commercial, no redistribution, mined pairs included.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.sources.base import Description, Group, files_below, files_in, require_folder
from mimic.sources.images import describe, view

NAME = re.compile(r"\d+_\d+_\d+_(?P<target>\d+)")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png"})


class StreetViewSource:
    """See `config.StreetView` for the numbers."""

    def __init__(self, name: str, section: config.StreetView, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        files = files_below(require_folder(self.name, self.root), EXTENSIONS, self.skipped)
        clips = list(
            dict.fromkeys(
                Path(file).parent.as_posix() for file in files if NAME.fullmatch(Path(file).stem)
            )
        )
        unnamed = [file for file in files if not NAME.fullmatch(Path(file).stem)]
        self.skipped.update(dict.fromkeys(unnamed, "not named <dataset>_<image>_<view>_<target>"))
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no <dataset>_<image>_<view>_<target>.jpg below "
                f"{self.root}; unpack the archives there"
            )
        return clips

    def describe(self, clip: str) -> Description:
        return describe([file for target in self._targets(clip).values() for file in target], None)

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        """A group for each target, or for each pair of it when all are kept. Targets with one image
        make none."""
        for files in self._targets(clip).values():
            views = tuple(view(file) for file in files[: self._section.views_max])
            pairs = tuple(itertools.combinations(range(len(views)), 2))
            match self._section.keep:
                case "lowest" if pairs:
                    yield Group(views=views, pairs=pairs)
                case "all":
                    for pair in pairs:
                        yield Group(views=views, pairs=(pair,))

    def _targets(self, clip: str) -> dict[int, list[Path]]:
        """target -> its images, in numeric order; files of other names are not views."""
        targets: dict[int, list[Path]] = defaultdict(list)
        folder = self.root / clip
        for name in files_in(folder, EXTENSIONS, dead=True):
            if match := NAME.fullmatch(Path(name).stem):
                targets[int(match["target"])].append(folder / name)
        return dict(sorted(targets.items()))
