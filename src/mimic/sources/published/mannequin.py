"""MannequinChallenge: videos of people who hold still, published as camera tracks.

The videos are the user's to obtain.

Layouts, both accepted below one root:

    {train,validation,test}/<clip>.txt     line 1: the video's URL; then `timestamp_us fx fy cx cy
                                           k1 k2 r11 ... t3` (19 columns)
    <videos>/<youtube id>.<extension>      the folder that `videos` names; one video may feed
                                           several clips
    <folder>/trims/<video file>            clips already cut, as the published script expects them

A clip is a .txt file, cut from its video at the first and last timestamp, or a trimmed file. Videos
that are gone (many are) are counted as unreadable. Poses are [R|t], world to camera, and go with
the frames whose timestamp matches. The bottom of the frame carries captions and is cut off. Terms:
the tracks are CC BY 4.0, the videos belong to their authors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from mimic import config
from mimic.errors import BadInput
from mimic.sources import videos
from mimic.sources.base import (
    Description,
    Group,
    Pose,
    Position,
    Unreadable,
    camera_to_world,
    content_digest,
    digest_of_digests,
    files_below,
    numeric_order,
    read_text,
    require_folder,
)
from mimic.sources.video.sampling import sampled

SPLITS = ("train", "validation", "test")
YOUTUBE_ID = re.compile(r"(?:v=|youtu\.be/|embed/)([\w-]{6,20})")
COLUMNS = 19
SAME_FRAME_S = 0.01  # timestamps are rounded to the video's clock; frames are 0.016 s apart or more


@dataclass(frozen=True, eq=False)
class Track:
    """What a .txt file says: which video, and where its camera was."""

    video: str  # YouTube id
    times_s: Float64[np.ndarray, " n"]  # since the video's start, ascending
    poses: Float64[np.ndarray, "n 3 4"]  # world to camera

    @property
    def seconds(self) -> float:
        return float(self.times_s[-1] - self.times_s[0])

    def pose_at(self, time_s: float) -> Pose | None:
        """Camera to world, where the track has the frame of this time."""
        nearest = int(np.abs(self.times_s - time_s).argmin())
        return (
            camera_to_world(self.poses[nearest])
            if abs(self.times_s[nearest] - time_s) <= SAME_FRAME_S
            else None
        )


class MannequinSource:
    """See `config.Mannequin` for the numbers."""

    def __init__(self, name: str, section: config.Mannequin, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}
        self._reach = videos.steps_to_retry(name, section.spacing_s, section.retry_spacing_s)

    def clips(self) -> list[str]:
        root = require_folder(self.name, self.root)
        tracks = [
            file
            for file in files_below(root, frozenset({".txt"}), self.skipped)
            if Path(file).parent.name in SPLITS
        ]
        trims = [
            file
            for file in files_below(root, videos.EXTENSIONS, self.skipped)
            if Path(file).parent.name == "trims"
        ]
        if not tracks and not trims:
            raise BadInput(
                f"sources.{self.name}.root: neither <split>/<clip>.txt nor <folder>/trims/<video> "
                f"below {root}"
            )
        return sorted(tracks + trims, key=numeric_order)

    def describe(self, clip: str) -> Description:
        path = self.root / clip
        if path.suffix != ".txt":
            return videos.describe(path, self._section.seconds_min)
        digest = content_digest(path)
        try:
            track = self._track(path)
            video = self._video(track)
        except Unreadable as unreadable:
            return Description(
                bytes=path.stat().st_size, frames=None, digest=digest, error=str(unreadable)
            )
        described = videos.describe(video, 0.0)
        digest = digest_of_digests([(clip, digest), (video.name, described["digest"])])
        return Description(
            bytes=described["bytes"],
            frames=len(track.times_s),
            digest=digest,
            error=described["error"],
            note=described.get("note"),
        )

    def groups(
        self,
        clip: str,
        rng: np.random.Generator,  # noqa: ARG002
        resume_after: Position | None = None,
    ) -> Iterator[Group]:
        path = self.root / clip
        section = self._section
        if path.suffix == ".txt":
            track = self._track(path)
            first_s, last_s = (float(track.times_s[end]) for end in (0, -1))
            video = self._video(track)
            pose_at = track.pose_at
            frames = sampled(video, section.spacing_s, first_s, last_s, resume_at=resume_after)
        else:
            pose_at = None
            videos.refuse_short(path, section.seconds_min)
            frames = sampled(path, section.spacing_s, resume_at=resume_after)
        crop_bottom = section.crop_bottom
        groups = videos.spaced(frames, section.spacing_s, self._reach, crop_bottom, pose_at)
        yield from videos.behind(resume_after, groups)

    def _track(self, path: Path) -> Track:
        track = read_track(path)
        if track.seconds < self._section.seconds_min:
            raise Unreadable(
                f"{track.seconds:.1f} s are less than seconds_min {self._section.seconds_min:g}"
            )
        return track

    def _video(self, track: Track) -> Path:
        folder = self.root / self._section.videos
        for path in sorted(folder.glob(f"{track.video}.*")):
            if path.suffix.lower() in videos.EXTENSIONS:
                return path
        raise Unreadable(f"video {track.video} is not in {self._section.videos}")


def read_track(path: Path) -> Track:
    """The video, the timestamps and the cameras of a clip.

    Raises:
        Unreadable: the file is not a camera track.
    """
    try:
        url, *lines = read_text(path).splitlines()
        rows = np.array([line.split() for line in lines if line.strip()], np.float64)
    except (OSError, ValueError) as error:
        raise Unreadable(f"not a camera track: {error}") from None
    match = YOUTUBE_ID.search(url)
    if (
        match is None
        or rows.ndim != 2
        or rows.shape[1] != COLUMNS
        or not np.isfinite(rows[:, 0]).all()
    ):
        raise Unreadable(f"not a camera track: no video, or lines that have not {COLUMNS} numbers")
    rows = rows[rows[:, 0].argsort(kind="stable")]
    return Track(match[1], rows[:, 0] / 1e6, rows[:, 7:].reshape(-1, 3, 4))
