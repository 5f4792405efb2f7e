"""Your own data: what the paths of a command line hold, and which reader reads it.

A folder is searched for videos, .glb scenes and folders of images. The numbers are those of the
first source with the same reader in the parameter file, apart from what the command line says and
from these rules for images: a folder of more than 32 numbered frames is a sequence, and each frame
is paired with the next or, where that overlaps too much, with the 2nd, 4th, ... 32nd after it; any
other folder is a set, and all its pairs are tried. Every real file is mined once, by whatever names
and links it is reached; what is left out is named with the reason.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic import config, sources
from mimic.commands.own import own_options
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.mining import shard_job
from mimic.pairs.schema import plain_name
from mimic.params import Params
from mimic.sources import base, images, scenes, videos
from mimic.sources.photos import folders
from mimic.sources.photos.sequences import sequences
from mimic.sources.video import animations

SCENE_EXTENSIONS = frozenset({".glb"})
KNOWN = videos.EXTENSIONS | images.EXTENSIONS | SCENE_EXTENSIONS
ADDRESS = re.compile(r"[a-z][a-z0-9]+:/")  # of another machine: a path does not keep both slashes
SET_MAX = 32  # images; a larger numbered folder is a sequence
DISTANCES = (1, 2, 4, 8, 16, 32)
SHARDS_AIMED_AT = (
    64  # small clips share shards, as long as there are about so many of them for workers to share
)
FRAMES_PER_SHARD = (
    256  # at most, of small clips together: some seconds of work are lost when a run is killed
)


@dataclass(frozen=True)
class Clip:
    """A clip that will be mined."""

    name: str  # below the root of its part
    shown: str  # as a person finds it: the path given, and the rest below it
    described: base.Description


@dataclass(frozen=True)
class MediaPart:
    """What one source reads of one path."""

    source: str
    section: config.SourceBase
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class MediaFound:
    """All that the paths hold."""

    parts: list[MediaPart] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # path -> why it is not mined

    def notes(self) -> dict[str, str]:
        """How clips are read, by the names that people know them by, where that is not plain."""
        clips = [clip for part in self.parts for clip in part.clips]
        return {clip.shown: note for clip in clips if (note := clip.described.get("note"))}


def find_media(
    params: Params, paths: Sequence[Path], options: own_options.Options, out: Path
) -> MediaFound:
    """What the paths hold, in their order; a path or clip that cannot be read is left out with the
    reason.

    Raises:
        BadInput: a path is missing, an option is out of range, or no path holds anything to mine.

    Args:
        out: where the pairs go; what lies there is not named.
    """
    sections = own_options.sections(params, options)
    for path in paths:
        if not os.path.lexists(path):
            remote = "; fetch it first" if ADDRESS.match(str(path)) else ""
            raise BadInput(f"{folders.shown(str(path))}: no such file or folder{remote}")
    media = MediaFound()
    held: list[PathClips] = []
    for path in paths:
        with _skipping(media.skipped, folders.shown(str(path))):
            held += [
                PathClips(path, section, names)
                for section, names in _clips_by_kind(path, sections, media.skipped)
            ]
    owners = _owners(held, media.skipped)
    pictures: dict[FileId, str] = {}
    for one in held:
        if part := _part(params, one, owners, pictures, media.skipped):
            media.parts.append(part)
    _forget_below(out, media.skipped)
    if not media.parts:
        whole = [shown for shown in map(folders.shown, map(str, paths)) if shown in media.skipped]
        name = (whole or list(media.skipped))[0]
        more = len(set(whole)) - 1
        others = f" ({more} more paths cannot be mined either)" if more > 0 else ""
        raise BadInput(f"{name}: {media.skipped[name]}{others}")
    return media


def _forget_below(out: Path, skipped: dict[str, str]) -> None:
    """An earlier result among the inputs is neither mined nor news."""
    real = os.path.realpath(out)
    for name in [name for name in skipped if os.path.realpath(name).startswith(f"{real}{os.sep}")]:
        del skipped[name]


def identity(paths: Sequence[Path]) -> str:
    """A digest of which real files and folders are named, in whatever order and how often."""
    return storage.fingerprint(sorted({os.path.realpath(path) for path in paths}))


def shard_jobs(params: Params, media: MediaFound, folder: Path) -> list[shard_job.Job]:
    """Shards of all parts, numbered through."""
    total = sum(clip.described["frames"] or 0 for part in media.parts for clip in part.clips)
    share = min(FRAMES_PER_SHARD, max(1, total // SHARDS_AIMED_AT))
    todo: list[shard_job.Job] = []
    for part in media.parts:
        digest = storage.fingerprint(params.mine.model_dump(), part.section.model_dump())
        for clips in _batches(part.clips, params.mine.clips_per_shard, share):
            keys = tuple(_key(part, clip, digest) for clip in clips)
            tar = folder / f"shard-{len(todo):05}.tar"
            names = tuple(clip.name for clip in clips)
            shown = tuple(clip.shown for clip in clips)
            todo.append(
                shard_job.Job(
                    part.source,
                    part.section,
                    params.mine,
                    Path(),
                    names,
                    tar,
                    digest,
                    params.habitat,
                    keys,
                    shown,
                )
            )
    return todo


def _batches(clips: Sequence[Clip], at_least: int, frames: int) -> Iterator[list[Clip]]:
    """Runs of clips that make a shard: at least so many clips, and no fewer frames than given; one
    of unknown length ends its run."""
    run: list[Clip] = []
    weight = 0.0
    for clip in clips:
        run.append(clip)
        weight += math.inf if clip.described["frames"] is None else clip.described["frames"]
        if len(run) >= at_least and weight >= frames:
            yield run
            run = []
            weight = 0.0
    if run:
        yield run


def _key(part: MediaPart, clip: Clip, params_digest: str) -> str:
    """Begins the keys of a clip's pairs: another file, other contents or other numbers give another
    key, in whatever outputs."""
    place = os.path.realpath(part.section.root / clip.name)
    made_of = storage.fingerprint(place, clip.described["digest"], params_digest)
    return f"{part.source}-{plain_name(clip.name)}-{made_of}"


FileId = tuple[int, int]  # what a file or folder is, by whatever name: device and inode


@dataclass(frozen=True, eq=False)
class PathClips:
    """The clips of one kind at a path."""

    path: Path
    section: Any
    names: list[str]

    @property
    def root(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def shown(self, name: str) -> str:
        if not self.path.is_dir() or name == ".":
            return folders.shown(str(self.path))
        return folders.shown(f"{self.path}/{name}")


@dataclass(frozen=True)
class Owner:
    """The name under which a clip is mined."""

    held: PathClips
    name: str
    is_link: bool


def _owners(held: Sequence[PathClips], skipped: dict[str, str]) -> dict[FileId, Owner]:
    """Under which of its names each clip is mined: the first that is no link, else the first. Names
    links to nothing."""
    owners: dict[FileId, Owner] = {}
    for one in held:
        for name in one.names:
            with _skipping(skipped, one.shown(name)):
                place = one.root / name
                is_link = os.path.realpath(place) != os.path.abspath(place)
                real = _file_id(place)
                if real not in owners or (owners[real].is_link and not is_link):
                    owners[real] = Owner(one, name, is_link)
    return owners


def _part(
    params: Params,
    held: PathClips,
    owners: dict[FileId, Owner],
    pictures: dict[FileId, str],
    skipped: dict[str, str],
) -> MediaPart | None:
    """The clips of one kind at a path that are mined under these names; None where there is none.

    Args:
        pictures: the folder of every picture that is mined so far; grows.
    """
    root = held.root.resolve()
    place = {"root": root, "tracked_by": root, "limit_clips": None}
    section = held.section.model_copy(update=place)
    digest = storage.fingerprint(os.path.realpath(held.path), section.reader)[:8]
    source = f"own-{plain_name(held.path.resolve().stem)}-{digest}"
    reader = sources.open_source(source, section, Path(), params.mine.size_px, params.habitat)
    clips: list[Clip] = []
    for name in held.names:
        shown = held.shown(name)
        with _skipping(skipped, shown):
            owner = owners.get(_file_id(root / name))
            if owner is not None and (owner.held is not held or owner.name != name):
                skipped[shown] = _duplicate_reason(shown, owner.held.shown(owner.name))
            elif (first := _first_folder(root / name, shown, pictures)) is not None:
                skipped[shown] = f"all its images are links to those of {first}, which is mined"
            else:
                clips.append(Clip(name, shown, base.describe(reader, name)))
                if isinstance(reader, images.ImageSource):
                    left_out = reader.left_out(name)
                    skipped.update(
                        {
                            held.shown(file): why
                            for file, why in left_out.items()
                            if why != animations.NO_PHOTOGRAPH
                        }
                    )
    skipped.update({held.shown(name): why for name, why in reader.skipped.items()})
    return MediaPart(source, section, tuple(clips)) if clips else None


def _first_folder(place: Path, shown: str, pictures: dict[FileId, str]) -> str | None:
    """A folder that holds the images of this one already, if every one of them is known; else they
    are known from now on."""
    if not place.is_dir():
        return None
    found = [_file_id(place / name) for name in base.files_in(place, images.EXTENSIONS)]
    if found and all(real in pictures for real in found):
        return pictures[found[0]]
    for real in found:
        pictures.setdefault(real, shown)
    return None


def _duplicate_reason(shown: str, owner: str) -> str:
    return (
        "named more than once; mined once"
        if shown == owner
        else f"the same as {owner}, which is mined"
    )


@contextmanager
def _skipping(skipped: dict[str, str], shown: str) -> Iterator[None]:
    """What cannot be looked at is named, and the rest goes on."""
    try:
        yield
    except OSError as error:
        skipped[shown] = error.strerror or str(error)
    except BadInput as error:
        skipped[shown] = str(error).removeprefix(f"{shown}: ")


def _file_id(place: Path) -> FileId:
    try:
        about = place.stat()
    except FileNotFoundError:
        raise BadInput("a link to nothing" if place.is_symlink() else "it is gone") from None
    return about.st_dev, about.st_ino


def _no_media_reason(path: Path) -> str:
    if path.is_dir():
        return "no video, image or .glb scene in this folder"
    if not path.exists():
        return "a link to nothing"
    if (known := folders.remedy(path.name)) is not None:
        return known
    single = "for one image give its folder, or compare two with `mimic pair A B`"
    return f"neither a video nor a .glb scene, by the ending of its name; {single}"


def _clips_by_kind(
    path: Path, sections: dict[type[Any], Any], skipped: dict[str, str]
) -> Iterator[tuple[Any, list[str]]]:
    """Videos, scenes and image folders at a path, each with the section that reads them; other
    files are named as skipped.

    Raises:
        BadInput: there are none.
    """
    files = [path.name]
    if not path.is_dir() and folders.UNWRITABLE.search(path.name):
        raise BadInput(folders.NOT_WRITABLE)
    if path.is_dir():
        listing = folders.tree(
            path,
            lambda name: folders.has_extension(name, KNOWN),
            "a video, an image or a .glb scene",
        )
        if "." in listing.skipped:
            raise BadInput(listing.skipped["."])
        glbs = [file for file in listing.files if folders.has_extension(file, SCENE_EXTENSIONS)]
        scenes.forget_configs(listing.skipped, glbs)
        skipped.update(
            {folders.shown(f"{path}/{name}"): why for name, why in listing.skipped.items()}
        )
        files = listing.files
    found = _sort_into_kinds(path, files, sections)
    if not found:
        raise BadInput(_no_media_reason(path))
    yield from found


def _sort_into_kinds(
    path: Path, files: list[str], sections: dict[type[Any], Any]
) -> list[tuple[Any, list[str]]]:
    """Videos, scenes and folders of the files that are neither."""
    root = path if path.is_dir() else path.parent
    films = [file for file in files if videos.is_video(root / file)]
    glbs = [file for file in files if folders.has_extension(file, SCENE_EXTENSIONS)]
    found = [
        (sections[kind], clips)
        for kind, clips in ((config.Videos, films), (config.Scenes, glbs))
        if clips
    ]
    if path.is_dir():
        moving = set(films)
        found += _folders(path, [file for file in files if file not in moving], sections)
    return found


def _folders(
    path: Path, files: list[str], sections: dict[type[Any], Any]
) -> Iterator[tuple[Any, list[str]]]:
    pictures = [file for file in files if folders.has_extension(file, images.EXTENSIONS)]
    names = list(dict.fromkeys(Path(file).parent.as_posix() for file in pictures))
    template = sections[config.Images].model_copy(update={"glob": "*"})
    sequence = {"pairing": "neighbours", "stride": DISTANCES[0], "retry_strides": DISTANCES[1:]}
    is_sequence = {name: _is_sequence(path / name) for name in names}
    for wanted, change in ((True, sequence), (False, {"pairing": "all"})):
        if clips := [name for name in names if is_sequence[name] is wanted]:
            yield template.model_copy(update=change), clips


def _is_sequence(folder: Path) -> bool:
    files = [folder / name for name in base.files_in(folder, images.EXTENSIONS)]
    return any(len(sequence) > SET_MAX for sequence in sequences(files))
