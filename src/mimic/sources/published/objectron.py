"""Objectron: portrait phone videos of objects.

Layout:

    <root>/videos/<class>/batch-<i>/<j>/video.MOV          classes bike book bottle camera
                                                           cereal_box chair cup laptop shoe
    <root>/videos/<class>/batch-<i>/<j>/geometry.pbdata    cameras; not needed to mine

A clip is a video, named `<class>/batch-<i>/<j>/video.MOV` below `videos/`. MIMIC mined it but
published no script: frames are sampled as for the other videos. Terms: C-UDA-1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.sources import videos
from mimic.sources.base import Description, Group, Position, files_below, require_folder
from mimic.sources.video.sampling import sampled

VIDEO = re.compile(r"(?:^|/)batch-[0-9]+/[0-9]+/video\.mov$", re.IGNORECASE)


class ObjectronSource:
    """See `config.PhoneVideos` for the numbers."""

    def __init__(self, name: str, section: config.PhoneVideos, root: Path) -> None:
        self.name = name
        self._section = section
        self.skipped: dict[str, str] = {}
        self.root = root / "videos" if (root / "videos").is_dir() else root
        self._reach = videos.steps_to_retry(name, section.spacing_s, section.retry_spacing_s)

    def clips(self) -> list[str]:
        files = files_below(require_folder(self.name, self.root), frozenset({".mov"}), self.skipped)
        clips = [file for file in files if VIDEO.search(file)]
        self.skipped.update(dict.fromkeys(set(files) - set(clips), "not batch-<i>/<j>/video.MOV"))
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no <class>/batch-<i>/<j>/video.MOV below {self.root}"
            )
        return clips

    def describe(self, clip: str) -> Description:
        return videos.describe(self.root / clip, self._section.seconds_min)

    def groups(
        self,
        clip: str,
        rng: np.random.Generator,  # noqa: ARG002
        resume_after: Position | None = None,
    ) -> Iterator[Group]:
        path = self.root / clip
        videos.refuse_short(path, self._section.seconds_min)
        frames = sampled(path, self._section.spacing_s, resume_at=resume_after)
        groups = videos.spaced(frames, self._section.spacing_s, self._reach, crop_bottom=0.0)
        yield from videos.behind(resume_after, groups)
