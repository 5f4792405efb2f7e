"""Pictures that are parts of a 3-D scene and no photographs: textures that a glTF document or a
material library of Wavefront (.mtl) refers to.

A description is looked for in the folder of the pictures, in those above it, up to the root, and in
the folders beside these: `house.gltf` has its `textures/wall.jpg` below it, and `source/house.mtl`
has `../textures/wall.jpg` beside it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mimic.errors import BadInput
from mimic.scenes import gltf
from mimic.sources.photos.folders import has_extension, shown

DESCRIPTIONS = frozenset({".glb", ".gltf", ".mtl"})
MAPS = ("map_", "bump", "disp", "decal", "refl", "norm")  # lines of a .mtl that name a picture


def reasons(files: Iterable[Path], root: Path) -> dict[Path, str]:
    """Which of the files below a root are textures, and of what."""
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, []).append(file)
    textures: dict[Path, str] = {}
    described: dict[Path, dict[str, str]] = {}  # by folder, what lies in it and in those in it
    for folder, pictures in by_folder.items():
        owners: dict[str, str] = {}
        for above in _up_to(folder, root):
            if above not in described:
                described[above] = dict(_parts_described(above))
            owners |= described[above]
        if owners:
            real = {picture: os.path.realpath(picture) for picture in pictures}
            textures |= {
                picture: f"a texture of {owners[path]}"
                for picture, path in real.items()
                if path in owners
            }
    return textures


def _up_to(folder: Path, root: Path) -> Iterator[Path]:
    for above in (folder, *folder.parents):
        yield above
        if above == root:
            return


def _parts_described(folder: Path) -> Iterator[tuple[str, str]]:
    """Real paths that descriptions in a folder, and in the folders in it, refer to, and each
    description's name."""
    for within in (folder, *_folders(folder)):
        for entry in _descriptions(within):
            status = os.stat(entry)
            for part in _parts(Path(entry), status.st_mtime_ns, status.st_size):
                yield part, shown(Path(entry).name)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []  # it is named where it is read


def _descriptions(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.path
                for entry in entries
                if has_extension(entry.name, DESCRIPTIONS) and entry.is_file()
            )
    except OSError:
        return []  # it is named where it is read


@functools.lru_cache(maxsize=64)
def _parts(description: Path, modified_ns: int, size: int) -> tuple[str, ...]:  # noqa: ARG001
    """Real paths of the files that a description refers to; of an unreadable one, none.

    Args:
        modified_ns, size: of the file, which is read again when they change.
    """
    try:
        if description.suffix.lower() == ".mtl":
            references = list(_maps(description.read_text(errors="replace")))
        else:
            references = [unquote(uri) for uri in gltf.stated_files(_tree(description))]
        folder = description.parent
        paths = [os.path.realpath(folder / one.replace("\\", "/")) for one in references]
    except (BadInput, OSError, ValueError, RecursionError):
        return ()
    return tuple(paths)


def _tree(description: Path) -> dict[str, Any]:
    if description.suffix.lower() == ".glb":
        return gltf.header(description)
    tree = json.loads(description.read_bytes())
    return tree if isinstance(tree, dict) else {}


def _maps(text: str) -> Iterator[str]:
    """Pictures that a material library names: the last word of a line, or all that follows its
    first, where a name has spaces."""
    for line in text.splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword.lower().startswith(MAPS) and rest.strip():
            yield rest.strip()
            yield rest.split()[-1]
