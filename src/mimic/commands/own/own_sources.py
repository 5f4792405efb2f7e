"""Your own data: what the paths of a command line hold, and which reader reads it.

The numbers are those of the first source with the same reader in the parameter file, apart from
what the command line says and from the rules of own_kinds.py for folders of images. Every real file
is mined once (own_duplicates.py); what is left out is named with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mimic import config, sources
from mimic.commands.own import own_options
from mimic.commands.own.own_duplicates import (
    FileId,
    Owner,
    duplicate_reason,
    file_id,
    find_owners,
    first_folder,
    skipping,
)
from mimic.commands.own.own_kinds import PathClips, clips_by_kind
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.pairs.schema import plain_name
from mimic.params import Params
from mimic.sources import base, images
from mimic.sources.photos import folders
from mimic.sources.video import animations

ADDRESS = re.compile(r"[a-z][a-z0-9]+:/")  # of another machine: a path does not keep both slashes


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


def _forget_below(out: Path, skipped: dict[str, str]) -> None:
    """An earlier result among the inputs is neither mined nor news."""
    real = os.path.realpath(out)
    for name in [name for name in skipped if os.path.realpath(name).startswith(f"{real}{os.sep}")]:
        del skipped[name]


def identity(paths: Sequence[Path]) -> str:
    """A digest of which real files and folders are named, in whatever order and how often."""
    return storage.fingerprint(sorted({os.path.realpath(path) for path in paths}))


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
    if not paths:
        raise BadInput("no path is given: name videos, folders or scenes to mine")
    _refuse_missing(paths)
    media = MediaFound()
    held: list[PathClips] = []
    for path in paths:
        with skipping(media.skipped, folders.shown(str(path))):
            held += clips_by_kind(path, sections, media.skipped)
    owners = find_owners(held, media.skipped)
    pictures: dict[FileId, str] = {}
    for one in held:
        if part := _part(params, one, owners, pictures, media.skipped):
            media.parts.append(part)
    _forget_below(out, media.skipped)
    if not media.parts:
        raise BadInput(_no_part_reason(paths, media.skipped))
    return media


def _refuse_missing(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            os.lstat(path)
        except PermissionError:  # in a folder that may not be entered: named, and the rest is mined
            continue
        except (OSError, ValueError):
            remote = "; fetch it first" if ADDRESS.match(str(path)) else ""
            raise BadInput(f"{folders.shown(str(path))}: no such file or folder{remote}") from None


def _no_part_reason(paths: Sequence[Path], skipped: dict[str, str]) -> str:
    """The reason of the first path that was left out whole, else of the first clip."""
    whole_paths = [shown for shown in map(folders.shown, map(str, paths)) if shown in skipped]
    name = (whole_paths or list(skipped))[0]
    more = len(set(whole_paths)) - 1
    others = f" ({more} more paths cannot be mined either)" if more > 0 else ""
    return f"{name}: {skipped[name]}{others}"


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
    location = {"root": root, "tracked_by": root, "limit_clips": None}
    section = held.section.model_copy(update=location)
    digest = storage.fingerprint(os.path.realpath(held.path), section.reader)[:8]
    source = f"own-{plain_name(held.path.resolve().stem)}-{digest}"
    reader = sources.open_source(source, section, Path(), params.mine.size_px, params.habitat)
    clips: list[Clip] = []
    for name in held.names:
        with skipping(skipped, held.shown(name)):
            reason = _mined_elsewhere(held, name, owners, pictures)
            if reason is not None:
                skipped[held.shown(name)] = reason
                continue
            clips.append(Clip(name, held.shown(name), base.describe(reader, name)))
            if isinstance(reader, images.ImageSource):
                skipped.update(_unreadable_pictures(reader, held, name))
    skipped.update({held.shown(name): why for name, why in reader.skipped.items()})
    return MediaPart(source, section, tuple(clips)) if clips else None


def _mined_elsewhere(
    held: PathClips, name: str, owners: dict[FileId, Owner], pictures: dict[FileId, str]
) -> str | None:
    """Why a clip is not mined under this name; None = it is, and its pictures are known from now
    on."""
    path = held.root.resolve() / name
    shown = held.shown(name)
    owner = owners.get(file_id(path))
    if owner is not None and (owner.held is not held or owner.name != name):
        return duplicate_reason(shown, owner.held.shown(owner.name))
    if (first := first_folder(path, shown, pictures)) is not None:
        return f"all its images are links to those of {first}, which is mined"
    return None


def _unreadable_pictures(reader: images.ImageSource, held: PathClips, name: str) -> dict[str, str]:
    """The files of a folder that cannot be read, with the reason; a moving picture is none."""
    left_out = reader.left_out(name)
    return {
        held.shown(file): why for file, why in left_out.items() if why != animations.NO_PHOTOGRAPH
    }
