"""Your own data: which kinds of clips lie at a path, and which section reads each.

A folder is searched for videos, .glb scenes and folders of images. A folder of more than SET_MAX
numbered frames is a sequence, and each frame is paired with the next or, where that overlaps too
much, with the 2nd, 4th, ... 32nd after it; any other folder is a set, and all its pairs are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic import config
from mimic.errors import BadInput
from mimic.sources import base, images, scenes, videos
from mimic.sources.photos import folders
from mimic.sources.photos.sequences import sequences

SCENE_EXTENSIONS = frozenset({".glb"})
KNOWN = videos.EXTENSIONS | images.EXTENSIONS | SCENE_EXTENSIONS
SET_MAX = 32  # images; a larger numbered folder is a sequence
DISTANCES = (1, 2, 4, 8, 16, 32)


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


def clips_by_kind(
    path: Path, sections: dict[type[Any], Any], skipped: dict[str, str]
) -> list[PathClips]:
    """Videos, scenes and image folders at a path, each with the section that reads them; other
    files are named as skipped.

    Raises:
        BadInput: there are none.
    """
    if path.is_dir():
        files = _files_below(path, skipped)
    elif path.exists() and not path.is_file():
        raise BadInput(folders.NO_FILE)  # a pipe or a device, which nobody would end reading
    elif folders.UNWRITABLE.search(path.name):
        raise BadInput(folders.NOT_WRITABLE)
    else:
        files = [path.name]
    by_kind = _sort_into_kinds(path, files, sections)
    if not by_kind:
        raise BadInput(_no_media_reason(path))
    return [PathClips(path, section, names) for section, names in by_kind]


def _files_below(folder: Path, skipped: dict[str, str]) -> list[str]:
    """Videos, images and scenes of a whole tree, named from its root."""
    listing = folders.tree(
        folder,
        lambda name: folders.has_extension(name, KNOWN),
        "a video, an image or a .glb scene",
    )
    if "." in listing.skipped:
        raise BadInput(listing.skipped["."])
    glbs = [file for file in listing.files if folders.has_extension(file, SCENE_EXTENSIONS)]
    scenes.forget_parts(listing.skipped, folder, glbs)
    skipped.update(
        {folders.shown(f"{folder}/{name}"): why for name, why in listing.skipped.items()}
    )
    return listing.files


def _sort_into_kinds(
    path: Path, files: list[str], sections: dict[type[Any], Any]
) -> list[tuple[Any, list[str]]]:
    """Videos, scenes and folders of the files that are neither."""
    root = path if path.is_dir() else path.parent
    films = [file for file in files if videos.is_video(root / file)]
    glbs = [file for file in files if folders.has_extension(file, SCENE_EXTENSIONS)]
    by_kind = [
        (sections[kind], clips)
        for kind, clips in ((config.Videos, films), (config.Scenes, glbs))
        if clips
    ]
    if path.is_dir():
        moving = set(films)
        by_kind += _folders(path, [file for file in files if file not in moving], sections)
    return by_kind


def _folders(
    path: Path, files: list[str], sections: dict[type[Any], Any]
) -> Iterator[tuple[Any, list[str]]]:
    pictures = [file for file in files if folders.has_extension(file, images.EXTENSIONS)]
    names = list(dict.fromkeys(Path(file).parent.as_posix() for file in pictures))
    template = sections[config.Images].model_copy(update={"glob": "*"})
    sequence = {
        "pairing": "neighbours",
        "advance": 1,
        "stride": DISTANCES[0],
        "retry_strides": DISTANCES[1:],
    }
    is_sequence = {name: _is_sequence(path / name) for name in names}
    for wanted, change in ((True, sequence), (False, {"pairing": "all"})):
        if clips := [name for name in names if is_sequence[name] is wanted]:
            yield template.model_copy(update=change), clips


def _is_sequence(folder: Path) -> bool:
    files = [folder / name for name in base.files_in(folder, images.EXTENSIONS)]
    return any(len(sequence) > SET_MAX for sequence in sequences(files))


def _no_media_reason(path: Path) -> str:
    if path.is_dir():
        return "no video, image or .glb scene in this folder"
    if not path.exists():
        return "a link to nothing"
    if (known := folders.remedy(path.name)) is not None:
        return known
    single = "for one image give its folder, or compare two with `mimic pair A B`"
    return f"neither a video nor a .glb scene, by the ending of its name; {single}"
