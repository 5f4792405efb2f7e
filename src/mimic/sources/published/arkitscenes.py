"""ARKitScenes (raw): hand-held tablet videos of rooms.

Layout:

    <root>/raw/{Training,Validation}/<video id>/<video id>.mov
                                               /lowres_wide.traj
                                                       one pose a line: t rx ry rz tx ty tz, world
                                                       to camera
    <root>/raw/metadata.csv                    its sky_direction is wrong for a visible share of
                                               videos: not used

Frames are stored as the sensor saw them, so a scene lies upright, on a side, or on its head. The
poses say which: the world is z-up, and its up direction as seen by the camera is where the sky lies
in the frame. Videos without a trajectory (24 ids lack one) fall back to the container's display
matrix; never both. A clip is a video. Terms: Apple's licence in the data set's repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from mimic import config
from mimic.errors import BadInput
from mimic.sources import videos
from mimic.sources.base import (
    Description,
    Group,
    Position,
    digest_with,
    numeric_order,
    read_text,
    require_folder,
)
from mimic.sources.photos.folders import walk
from mimic.sources.video.sampling import sampled

# Where the sky lies in a stored frame (camera x right, y down) -> quarter turns counter-clockwise
# that put it on top.
SKY = np.array([[0, -1, 0], [-1, 0, 0], [0, 1, 0], [1, 0, 0]], np.float64)
TURNS = (0, 3, 2, 1)
TRAJECTORY = "lowres_wide.traj"


class ARKitScenesSource:
    """See `config.PhoneVideos` for the numbers."""

    def __init__(self, name: str, section: config.PhoneVideos, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}
        self._reach = videos.steps_to_retry(name, section.spacing_s, section.retry_spacing_s)

    def clips(self) -> list[str]:
        clips = []
        for folder, folders, files in walk(require_folder(self.name, self.root), self.skipped):
            name = f"{(self.root / folder).name}.mov"
            if name in files:
                clips.append(Path(folder, name).as_posix())
                folders.clear()  # the other assets are tens of thousands of files a video
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no <video id>/<video id>.mov below {self.root}; "
                "download the mov asset"
            )
        return sorted(clips, key=numeric_order)

    def describe(self, clip: str) -> Description:
        path = self.root / clip
        description = videos.describe(path, self._section.seconds_min)
        trajectory = path.with_name(TRAJECTORY)
        description["digest"] = digest_with(description["digest"], [trajectory])
        if trajectory.exists() and not _rows(trajectory):
            description["note"] = (
                f"{TRAJECTORY} holds no line of 7 numbers: turned as the .mov says"
            )
        return description

    def groups(
        self,
        clip: str,
        rng: np.random.Generator,  # noqa: ARG002
        resume_after: Position | None = None,
    ) -> Iterator[Group]:
        path = self.root / clip
        videos.refuse_short(path, self._section.seconds_min)
        turns = quarter_turns(path.with_name(TRAJECTORY))
        frames = sampled(path, self._section.spacing_s, quarter_turns=turns, resume_at=resume_after)
        groups = videos.spaced(frames, self._section.spacing_s, self._reach, crop_bottom=0.0)
        yield from videos.behind(resume_after, groups)


def quarter_turns(trajectory: Path) -> int | None:
    """Counter-clockwise quarter turns that put the frames upright, by majority over the trajectory;
    None when there is none."""
    rows = _rows(trajectory)
    if not rows:
        return None
    turns = Rotation.from_rotvec([row[1:4] for row in rows]).as_matrix()
    up_in_camera = turns[:, :, 2]  # world to camera, applied to the world's z
    votes = np.bincount((up_in_camera @ SKY.T).argmax(axis=1), minlength=4)
    return TURNS[int(votes.argmax())]


def _rows(trajectory: Path) -> list[list[float]]:
    """The lines of 7 finite numbers; others say nothing (a download that was cut off, a moment
    without tracking)."""
    try:
        lines = read_text(trajectory).splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    rows = []
    for line in lines:
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            continue
        if len(row) == 7 and np.isfinite(row).all():
            rows.append(row)
    return rows
