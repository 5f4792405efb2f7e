"""Video files: frames at 0, s, 2s, ... seconds, each paired with the next; with the one after where
they overlap too much.

Layout: any tree below the root; every file with a video extension is a clip, named by its path
below the root, and so is every picture that moves (animations.py).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.sources.base import (
    Description,
    Group,
    Image,
    NoCandidates,
    Pose,
    Position,
    Unreadable,
    View,
    content_digest,
    files_below,
    require_folder,
)
from mimic.sources.photos.folders import has_extension, passed_over
from mimic.sources.video import animations, aspect, hdr, streams, tracks
from mimic.sources.video.sampling import TOLERANCE_S, Sampled, announced_s, sampled

EXTENSIONS = frozenset(
    {
        *(".mp4", ".mov", ".qt", ".m4v", ".3gp", ".3g2", ".f4v", ".avi", ".divx"),
        *(".mkv", ".mk3d", ".webm", ".ogv", ".ogm", ".wmv", ".asf", ".flv", ".rm", ".rmvb"),
        *(".mpg", ".mpeg", ".mpe", ".vob", ".tod", ".ts", ".m2t", ".mts", ".m2ts"),
        *(".mxf", ".gxf", ".dv", ".nut", ".wtv"),  # of editing and broadcasting
        # Bare streams, as recorders and encoders write them.
        *(".h264", ".264", ".avc", ".h265", ".hevc", ".obu", ".ivf"),
        *(".m1v", ".m2v", ".mjpeg", ".mjpg", ".y4m"),
    }
)


class VideoSource:
    """Videos below a folder; see `config.Videos` for the numbers."""

    def __init__(self, name: str, section: config.Videos, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}
        self._reach = steps_to_retry(name, section.spacing_s, section.retry_spacing_s)

    def clips(self) -> list[str]:
        root = require_folder(self.name, self.root)
        files = files_below(root, EXTENSIONS | animations.EXTENSIONS, self.skipped, "a video")
        clips = [file for file in files if is_video(root / file)]
        self.skipped.update(dict.fromkeys(set(files) - set(clips), "not a video"))
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no video in {self.root}{passed_over(self.skipped)}"
            )
        return clips

    def describe(self, clip: str) -> Description:
        path = self.root / clip
        return animations.describe(path) if _is_picture(path) else describe(path, 0.0)

    def groups(
        self,
        clip: str,
        rng: np.random.Generator,  # noqa: ARG002
        resume_after: Position | None = None,
    ) -> Iterator[Group]:
        """One group for each sampled frame but the last: with the next frame, else with the one at
        the retry distance.

        Raises:
            Unreadable: the file does not open, or its last frames could not be decoded; what was
                yielded before stands.
            NoCandidates: it is too short for two frames.
        """
        section = self._section
        path = self.root / clip
        of = animations.sampled if _is_picture(path) else sampled
        frames = of(path, section.spacing_s, resume_at=resume_after)
        groups = spaced(frames, section.spacing_s, self._reach, section.crop_bottom)
        yield from behind(resume_after, groups)


def is_video(path: Path) -> bool:
    """Whether a file is mined as a video: by its extension, or as a picture that moves."""
    return has_extension(path.name, EXTENSIONS) or animations.is_animation(path)


def _is_picture(path: Path) -> bool:
    return has_extension(path.name, animations.EXTENSIONS)


def steps_to_retry(name: str, spacing_s: float, retry_spacing_s: float | None) -> int:
    """How many sampled frames ahead the retry frame is; 1 = no retry."""
    if retry_spacing_s is None:
        return 1
    steps = round(retry_spacing_s / spacing_s)
    if steps < 2 or abs(steps * spacing_s - retry_spacing_s) > TOLERANCE_S:
        raise BadInput(
            f"sources.{name}.retry_spacing_s: {retry_spacing_s} is no multiple (2 or more) of "
            f"spacing_s {spacing_s};"
            " use one, or null for no retry"
        )
    return steps


def describe(path: Path, seconds_min: float) -> Description:
    """What a video file says of itself, once its first frame has been decoded.

    The note says what was chosen for a file that does not say it (the track, the rate of its
    frames), and what is done to its shape and colours.
    """
    frames = None
    error = None
    note = None
    try:
        refuse_short(path, seconds_min)
        with tracks.opened(path) as container:
            # What the container says, which is no promise.
            frames = tracks.moving(container).frames or None
            first = next(streams.decoded(container))
            remarks = [
                *tracks.remarks(container, first.frame),
                *aspect.remarks(first.frame, first.pixel_aspect),
                *hdr.remarks(first.frame),
            ]
            note = "; ".join(remarks) or None
    except Unreadable as unreadable:
        error = str(unreadable)
    except StopIteration:
        error = "no frame decodes"
    digest = content_digest(path)
    return Description(
        bytes=path.stat().st_size, frames=frames, digest=digest, error=error, note=note
    )


def refuse_short(path: Path, seconds_min: float) -> None:
    """Unreadable when the container announces less than `seconds_min`; one that announces nothing
    passes."""
    if seconds_min <= 0:
        return
    with tracks.opened(path) as container:
        seconds = announced_s(container)
    if seconds is None:
        return
    if seconds < seconds_min:
        raise Unreadable(f"{seconds:.1f} s are less than seconds_min {seconds_min:g}")


class _Taken(NamedTuple):
    """A sampled frame as a view."""

    view: View
    frame: Sampled


def spaced(
    frames: Iterable[Sampled],
    spacing_s: float,
    retry_offset: int,
    crop_bottom: float,
    pose_at: Callable[[float], Pose | None] | None = None,
) -> Iterator[Group]:
    """One group for each sampled frame but the last: with the next one, else with the one
    `retry_offset` frames ahead.

    Args:
        spacing_s: of the frames, for the reason why there is no group.
        crop_bottom: share of the height cut off below, truncated to whole rows (published script).
        pose_at: camera to world at a time of the video, where it is known.

    Raises:
        NoCandidates: there is one frame alone.
    """
    count = 0
    window: deque[_Taken] = deque()
    for frame in frames:
        count += 1
        rows = len(frame.image)
        image = frame.image[: max(1, rows - int(crop_bottom * rows))]
        pose = None if pose_at is None else pose_at(frame.time_s)
        view = View(key=f"{frame.time_s:.3f}", read=functools.partial(_same, image), pose=pose)
        window.append(_Taken(view, frame))
        if len(window) > retry_offset:
            yield _first_of(window, retry_offset)
            window.popleft()
    if count == 1:
        raise NoCandidates(
            f"1 frame at a spacing of {spacing_s:g} s: nothing to pair; lower spacing_s if it has "
            "more"
        )
    while len(window) > 1:
        yield _first_of(window, retry_offset)
        window.popleft()


def _first_of(window: deque[_Taken], retry_offset: int) -> Group:
    retry = retry_offset > 1 and len(window) > retry_offset
    first = window[0].frame
    return Group(
        views=tuple(taken.view for taken in window),
        pairs=((0, 1),),
        retry=((0, retry_offset),) if retry else (),
        skip_after_retry=retry_offset - 1 if retry else 0,
        locate=first.locate,
        share=first.share,
    )


def behind(resume_after: Position | None, groups: Iterator[Group]) -> Iterator[Group]:
    """Groups of frames sampled from a place on, without the group of the place itself."""
    return itertools.islice(groups, 0 if resume_after is None else 1, None)


def sample(
    path: Path,
    spacing_s: float,
    start_s: float = 0.0,
    end_s: float = math.inf,
    quarter_turns: int | None = None,
) -> Iterator[tuple[float, Image]]:
    """Times since the first frame and upright RGB frames; see `sampling.sampled`."""
    for frame in sampled(path, spacing_s, start_s, end_s, quarter_turns):
        yield frame.time_s, frame.image


def _same(image: Image) -> Image:
    return image
