"""What `mimic new` finds when it looks at your data, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from mimic import config
from mimic.commands.own import own_options, own_sources
from mimic.errors import BadInput
from mimic.params import Params
from mimic.sources import images
from mimic.sources.base import Unreadable, files_in
from mimic.sources.video import aspect, sampling, tracks

KINDS = {"videos": config.Videos, "images": config.Images, "scenes": config.Scenes}


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
    pictures: in folders of images.
    bytes: of all files that were found there, also those that are not mined.
    others: what is said of folders that hold another kind of images; empty where there are none.
    """

    kind: str
    section: config.SourceBase
    root: Path
    clips: list[str]
    unreadable: dict[str, str]
    bytes: int
    films: list[Film] = field(default_factory=list)
    sides_px: list[int] = field(default_factory=list)  # shorter side of a picture of each clip
    others: str = ""
    pictures: int = 0

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
        problem = "is no folder" if path.exists() else "no such folder"
        raise BadInput(f"{flag}: {problem}; give the folder that holds the {kind}")
    mixed = own_sources.find_media(params, [path], own_options.Options(), project)
    parts = [part for part in mixed.parts if isinstance(part.section, KINDS[kind])]
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
    looked = FolderMedia(kind, part.section, root, clips, broken, _bytes(mixed), others=others)
    if kind == "videos":
        looked.films.extend(film for name in clips if (film := _film(root / name)))
        looked.sides_px.extend(min(film.size_px) for film in looked.films)
    if kind == "images":
        looked.sides_px.extend(_shorter_sides(root, clips))
        return replace(looked, pictures=sum(clip.described["frames"] or 0 for clip in part.clips))
    return looked


def _bytes(media: own_sources.MediaFound) -> int:
    """As they were listed; the folder may be too large to be looked through twice."""
    mined = sum(clip.described["bytes"] for part in media.parts for clip in part.clips)
    passed_over = [Path(name) for name in media.skipped]
    return mined + sum(path.stat().st_size for path in passed_over if path.is_file())


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
            decoder = stream.codec_context
            pixel_aspect = aspect.pixel_aspects(stream)()
            size = aspect.shown_size(decoder.height, decoder.width, pixel_aspect)
            rate = stream.average_rate
            return Film(path, sampling.announced_s(container), size, float(rate) if rate else None)
    except Unreadable:  # a picture that moves: mined as a video, and says nothing of this kind
        return None


def _shorter_sides(root: Path, clips: Sequence[str]) -> Iterator[int]:
    for name in clips:
        folder = root / name
        for file in files_in(folder, images.EXTENSIONS):
            with suppress(Unreadable):  # mining names it
                yield min(images.read(folder / file).shape[:2])
                break


def described(media: FolderMedia) -> str:
    """In one line: how many, how long, how large."""
    clips = len(media.clips)
    parts = [f"{media.kind}: {clips} clip{'s' * (clips != 1)} in {media.root}"]
    if media.films:
        known = [film.seconds for film in media.films if film.seconds is not None]
        if known:
            parts.append(f"{sum(known):.0f} s in all, {min(known):.0f} to {max(known):.0f} s each")
        rates = sorted({round(film.fps) for film in media.films if film.fps})
        parts += [f"{'/'.join(map(str, rates))} frames a second"] if rates else []
    if media.pictures:
        parts.append(f"{media.pictures} images in all")
    if media.sides_px:
        parts.append(f"shorter side {min(media.sides_px)} to {max(media.sides_px)} px")
    if media.unreadable:
        name, why = next(iter(media.unreadable.items()))
        parts.append(f"{len(media.unreadable)} cannot be read ({name}: {why})")
    return "; ".join(parts)


def candidates(media: FolderMedia, spacing_s: float) -> int:
    """About how many pairs of frames will be compared."""
    return int(sum((film.seconds or 0.0) / spacing_s for film in media.films))


def typical_side_px(media: Sequence[FolderMedia]) -> int | None:
    """The median of the shorter sides of videos and images."""
    sides = [side for one in media for side in one.sides_px]
    return int(median(sides)) if sides else None
