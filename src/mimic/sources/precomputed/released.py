"""The released MIMIC-1M and MIMIC-3M: pairs that were mined already, taken as they are.

Layout:

    <root>/<dataset>/<video or scene>/<pair>/0000.jpg  0001.jpg      224 x 224
                                            /corresponding.npy
                                                    a pickled dict {patch of 0000: patch of 0001},
                                                    14 x 14 patches
    <root>/<dataset>/<scene>/0000.jpg ...                            DeMoN: no pair level
    <root>/<index>.csv
            path1,path2[,correspondence], relative to <root>

A clip is a video or scene. With an index, its rows are the pairs; it is read clip by clip
(pair_index.py). Without one, every folder with a 0000.jpg and a 0001.jpg is a pair. There are no
homographies. The pickled maps are read by restricted_pickle.py, which builds nothing but dicts of
ints. Terms: those of every set that the pairs were mined from.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.infra.confined import is_below
from mimic.sources import images
from mimic.sources.base import (
    Correspondences,
    Description,
    Group,
    Image,
    Unreadable,
    View,
    digest_of_digests,
    digest_with,
    numeric_order,
    require_folder,
    stamp,
)
from mimic.sources.photos.folders import walk
from mimic.sources.precomputed import pair_index
from mimic.sources.precomputed.pair_index import PairIndex, Row, clip_of
from mimic.sources.precomputed.restricted_pickle import MAX_BYTES, NotAPatchMap, read_patch_map

PATCHES = 14 * 14
FIRST = "0000.jpg"
SECOND = "0001.jpg"
MAP = "corresponding.npy"


class ReleasedSource:
    """See `config.Released`."""

    def __init__(self, name: str, section: config.Released, root: Path) -> None:
        self.name = name
        self.root = root
        self._index = section.index
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        root = require_folder(self.name, self.root)
        clips = (
            list(self._indexed.runs)
            if self._index is not None
            else {clip_of(f"{pair}/{FIRST}") for pair in _pair_folders(root, self.skipped)}
        )
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no pair in {root} ({FIRST} and {SECOND} in one folder)"
            )
        return sorted(clips, key=numeric_order)

    def describe(self, clip: str) -> Description:
        rows = list(self._rows(clip))
        description = images.describe_listed(self.root, {path for row in rows for path in row[:2]})
        maps = {path for row in rows if (path := self._map_of(*row)) and is_below(path)}
        listed = digest_of_digests([(first, f"{second} {by}") for first, second, by in rows])
        digest = digest_of_digests([("images", description["digest"]), ("pairs", listed)])
        description["digest"] = digest_with(digest, (self.root / path for path in sorted(maps)))
        return description

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        for first, second, correspondence in self._rows(clip):
            views = (self._view(first), self._view(second))
            yield Group(
                views=views,
                pairs=((0, 1),),
                precomputed=functools.partial(self._known, first, second, correspondence),
            )

    def _view(self, path: str) -> View:
        return View(key=path, read=functools.partial(_read, self.root, path), pose=None)

    def _known(self, first: str, second: str, correspondence: str) -> Correspondences | None:
        path = self._map_of(first, second, correspondence)
        return None if path is None else self._map(path)

    def _map_of(self, first: str, second: str, correspondence: str) -> str | None:
        """The map that the index names, or the one that lies beside the images, which is of the
        first to the second."""
        if correspondence:
            return correspondence
        beside = PurePosixPath(first).with_name(MAP).as_posix()
        in_order = first.endswith(f"/{FIRST}") and PurePosixPath(first).with_name(
            SECOND
        ) == PurePosixPath(second)
        return beside if in_order and (self.root / beside).exists() else None

    def _map(self, path: str) -> Correspondences:
        if not is_below(path):
            raise Unreadable(f"{path} leaves the root")
        try:
            with (self.root / path).open("rb") as stream:
                targets = read_patch_map(stream.read(MAX_BYTES + 1), PATCHES)
        except (OSError, NotAPatchMap) as error:
            raise Unreadable(f"{path}: {error}") from None
        correspondences = np.full(PATCHES, -1, np.int16)
        correspondences[list(targets)] = list(targets.values())
        return correspondences

    def _rows(self, clip: str) -> Iterable[Row]:
        """First image, second image, map ("" = the one beside the first image, if any)."""
        if self._index is not None:
            return self._indexed.rows(clip)
        pairs = [
            clip,
            *(f"{clip}/{name}" for name in os.listdir(self.root / clip) if name.isdecimal()),
        ]
        complete = [
            pair
            for pair in pairs
            if (self.root / pair / FIRST).exists() and clip_of(f"{pair}/{FIRST}") == clip
        ]
        return [
            (f"{pair}/{FIRST}", f"{pair}/{SECOND}", "")
            for pair in sorted(complete, key=numeric_order)
        ]

    @property
    def _indexed(self) -> PairIndex:
        assert self._index is not None
        path = self.root / self._index
        return pair_index.read(path, stamp(path))


def _pair_folders(root: Path, skipped: dict[str, str]) -> list[str]:
    pairs = []
    for folder, _, files in walk(root, skipped):
        if FIRST in files and SECOND in files:
            pairs.append(Path(folder).as_posix())
        elif FIRST in files or SECOND in files:
            skipped[Path(folder).as_posix()] = (
                f"no pair: {FIRST if SECOND in files else SECOND} is missing"
            )
    return pairs


def _read(root: Path, path: str) -> Image:
    if not is_below(path):
        raise Unreadable(f"{path} leaves the root")
    return images.read(root / path)
