"""What `mimic new` finds when it looks at your data, before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mimic import config
from mimic.commands.own import own_options, own_sources
from mimic.errors import BadInput
from mimic.geometry import features, overlap
from mimic.geometry.overlap import Outcome
from mimic.mining import shard_job, view_cache
from mimic.params import Params
from mimic.sources import images, videos
from mimic.sources.base import Image, Unreadable, files_in
from mimic.sources.video import sampling, tracks

KINDS = {"videos": config.Videos, "images": config.Images, "scenes": config.Scenes}
DISTANCES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # between the frames of a pair, that are tried
SAMPLE_CLIPS = 6
SAMPLE_S = 8.0  # of a clip, around its middle
BASES = 3  # frames of it that are compared with later ones


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    videos: Path | None
    images: Path | None
    scenes: Path | None
    depth: Path | None
    start_from: str | None
    steps: int | None
    positions: str | None  # None: those of the weights, else the usual ones
    licence: str

    def folders(self) -> Iterator[tuple[str, Path]]:
        for kind in KINDS:
            path = getattr(self, kind)
            if path is not None:
                yield kind, path


@dataclass(frozen=True)
class Film:
    """What a video says of itself."""

    path: Path
    seconds: float | None
    size_px: tuple[int, int]  # height, width
    fps: float | None


@dataclass(frozen=True)
class FolderMedia:
    """What a folder holds of one kind.

    clips: names below the folder, that can be read.
    unreadable: names, and why.
    others: what is said of folders that hold another kind of images; empty where there are none.
    """

    kind: str
    section: config.SourceBase
    root: Path
    clips: list[str]
    unreadable: dict[str, str]
    films: list[Film] = field(default_factory=list)
    sides_px: list[int] = field(default_factory=list)  # shorter side of a picture of each clip
    others: str = ""

    def seconds(self) -> float:
        return sum(film.seconds or 0.0 for film in self.films)


def look(params: Params, asked: Asked, project: Path) -> list[FolderMedia]:
    """Everything that the folders hold, but for what lies in the project.

    Raises:
        BadInput: a folder is missing, or holds nothing of its kind that can be read.
    """
    return [_look(params, kind, path, project) for kind, path in asked.folders()]


def _look(params: Params, kind: str, path: Path, project: Path) -> FolderMedia:
    flag = f"--{kind} {path}"
    if not path.is_dir():
        there = "is no folder" if path.exists() else "no such folder"
        raise BadInput(f"{flag}: {there}; give the folder that holds the {kind}")
    media = own_sources.find_media(params, [path], own_options.Options(), project)
    parts = [part for part in media.parts if isinstance(part.section, KINDS[kind])]
    if not parts:
        raise BadInput(f"{flag}: holds none; is it a folder of another kind?")
    part = max(parts, key=lambda part: len(part.clips))  # sequences or sets: one rule a source
    others = _others([clip.name for other in parts if other is not part for clip in other.clips])
    broken = {clip.name: str(why) for clip in part.clips if (why := clip.described["error"])}
    clips = [clip.name for clip in part.clips if clip.name not in broken]
    if not clips:
        name, why = next(iter(broken.items()))
        raise BadInput(f"{flag}: none of {len(broken)} can be read; {name}: {why}")
    root = path.resolve()
    found = FolderMedia(kind, part.section, root, clips, broken, others=others)
    if kind == "videos":
        found.films.extend(film for name in clips if (film := _film(root / name)))
        found.sides_px.extend(min(film.size_px) for film in found.films)
    if kind == "images":
        found.sides_px.extend(_shorter_sides(root, clips))
    return found


def _others(names: Sequence[str]) -> str:
    """Of a source all folders are paired by one rule."""
    if not names:
        return ""
    return (
        f"{len(names)} folders hold images of another kind ({names[0]}), and are paired like the "
        "rest; to pair them by their own rule, move them elsewhere and add a source"
    )


def _film(path: Path) -> Film | None:
    try:
        with tracks.opened(path) as container:
            stream = tracks.moving(container)
            size = (stream.codec_context.height, stream.codec_context.width)
            rate = stream.average_rate
            return Film(path, sampling.announced_s(container), size, float(rate) if rate else None)
    except Unreadable:  # a picture that moves: mined as a video, and says nothing of this kind
        return None


def _shorter_sides(root: Path, clips: Sequence[str]) -> Iterator[int]:
    for name in clips:
        folder = root / name
        for file in files_in(folder, images.EXTENSIONS)[:1]:
            yield min(images.read(folder / file).shape[:2])


def described(found: FolderMedia) -> str:
    """In one line: how many, how long, how large."""
    parts = [f"{found.kind}: {len(found.clips)} clips in {found.root}"]
    if found.films:
        known = [film.seconds for film in found.films if film.seconds is not None]
        if known:
            parts.append(f"{sum(known):.0f} s in all, {min(known):.0f} to {max(known):.0f} s each")
        rates = sorted({round(film.fps) for film in found.films if film.fps})
        parts += [f"{'/'.join(map(str, rates))} frames a second"] if rates else []
    if found.sides_px:
        parts.append(f"shorter side {min(found.sides_px)} to {max(found.sides_px)} px")
    if found.unreadable:
        name, why = next(iter(found.unreadable.items()))
        parts.append(f"{len(found.unreadable)} cannot be read ({name}: {why})")
    return "; ".join(parts)


# ---------------------------------------------------------------------------- spacing


@dataclass(frozen=True)
class Spacing:
    """Seconds between the frames of a pair, and why."""

    spacing_s: float
    kept: float  # share of the candidates
    why: str
    good: frozenset[Path]  # clips that gave a pair at it


def choose_spacing(found: FolderMedia, mine: config.Mine, fallback_s: float) -> Spacing:
    """The distance at which most of the sampled frame pairs overlap within the band.

    Args:
        fallback_s: where no sampled pair does at any distance.
    """
    step = max(1, len(found.films) // SAMPLE_CLIPS)
    tried: dict[float, Counter[Outcome]] = {distance: Counter() for distance in DISTANCES_S}
    good: dict[float, set[Path]] = {distance: set() for distance in DISTANCES_S}
    for film in found.films[::step][:SAMPLE_CLIPS]:
        frames = list(_frames(film, mine))
        for distance, outcome in _compared(frames, mine):
            tried[distance][outcome] += 1
            if outcome is Outcome.KEPT:
                good[distance].add(film.path)
    shares = {
        distance: counts[Outcome.KEPT] / counts.total()
        for distance, counts in tried.items()
        if counts.total()
    }
    best = max(shares, key=lambda distance: (shares[distance], -distance), default=None)
    if best is None or not shares[best]:
        return Spacing(fallback_s, 0.0, _nothing_kept(tried), frozenset())
    counts = tried[best]
    others = ", ".join(
        f"{distance:g} s: {tried[distance][Outcome.KEPT]} of {tried[distance].total()}"
        for distance in shares
        if distance != best
    )
    kept = f"{counts[Outcome.KEPT]} of {counts.total()}"
    why = f"{kept} sampled frame pairs overlap as wanted ({others})"
    return Spacing(best, shares[best], why, frozenset(good[best]))


def _nothing_kept(tried: dict[float, Counter[Outcome]]) -> str:
    whole: Counter[Outcome] = sum(tried.values(), Counter())
    if not whole:
        return "the clips are too short to try other distances"
    outcome, count = whole.most_common(1)[0]
    return (
        f"no sampled frame pair overlaps as wanted at any distance, most ({count} of "
        f"{whole.total()}) are {outcome.value}; look at the page before you train"
    )


def _frames(film: Film, mine: config.Mine) -> Iterator[Any]:
    """Features of frames a tenth of a second apart, from the middle of a clip."""
    start = 0.0
    if film.seconds is not None:
        start = max(0.0, (film.seconds - SAMPLE_S) / 2)
    rule = shard_job.rule_of(mine)
    try:
        for _, image in videos.sample(film.path, DISTANCES_S[0], start, start + SAMPLE_S):
            yield _squared(image, rule)
    except Unreadable:  # its end is damaged: mining will say so, the frames before serve
        return


def _squared(image: Image, rule: overlap.Rule) -> Image:
    square: Image = view_cache.squared(image, rule)
    return square


def _compared(frames: list[Image], mine: config.Mine) -> Iterator[tuple[float, Outcome]]:
    rule = shard_job.rule_of(mine)
    known: dict[int, features.Features] = {}

    def of(index: int) -> features.Features:
        if index not in known:
            known[index] = features.extract(frames[index])
        return known[index]

    for base in range(0, len(frames), max(1, len(frames) // BASES)):
        for distance in DISTANCES_S:
            other = base + round(distance / DISTANCES_S[0])
            if other < len(frames):
                rng = np.random.default_rng(mine.seed)
                yield distance, overlap.compare(of(base), of(other), rule, rng).outcome


def candidates(found: FolderMedia, spacing_s: float) -> int:
    """About how many pairs of frames will be compared."""
    return int(sum((film.seconds or 0.0) / spacing_s for film in found.films))


def typical_side_px(found: Sequence[FolderMedia]) -> int | None:
    """The median of the shorter sides of videos and images."""
    sides = [side for one in found for side in one.sides_px]
    return int(median(sides)) if sides else None
