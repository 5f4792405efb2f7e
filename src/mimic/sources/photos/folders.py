"""What lies in a folder: files by name, in numeric order; and what is passed over, each with the
reason.

Symbolic links are followed, but each real folder is entered once and each real file is listed once:
under its own name where that lies below the root, else under the first link's. With `each_path`
every path counts for itself: of a labelled folder, in which a link says which class or which side
of a split its image belongs to. Hidden entries, folders in which a system keeps thumbnails or
deleted files, and names that cannot be written down, are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from mimic.infra.publishing import MARK

DEAD_LINK = "a dead link"
CLOSED_LINK = "a link into a folder that may not be entered"
RAW = frozenset(
    {
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2"),
        *(".raf", ".rw2", ".orf", ".pef", ".srw", ".x3f", ".3fr", ".iiq"),
    }
)
RAW_DATA = "raw data of a camera; develop it to JPEG or PNG"
RAW_VIDEOS = frozenset({".braw", ".r3d", ".crm", ".ari", ".cine", ".nev"})
RAW_VIDEO = "raw video of a camera; export it as MP4 or MOV with the maker's program"
SPHERES = frozenset({".insv", ".insp", ".360"})
SPHERE = (
    "two fisheye views of a 360-degree camera; export ordinary (reframed) views as MP4 or JPEG "
    "with the maker's program"
)
PREVIEWS = frozenset({".lrv", ".lrf", ".thm"})
PREVIEW = "a camera's small preview of another recording"
SCENES = frozenset(
    {
        *(".gltf", ".obj", ".ply", ".stl", ".off", ".3mf", ".fbx", ".dae", ".3ds", ".x3d"),
        *(".blend", ".usd", ".usda", ".usdc", ".usdz", ".abc", ".max", ".skp", ".vrm", ".b3dm"),
        *(".wrl", ".ifc", ".step", ".stp", ".las", ".laz", ".e57", ".pts", ".ptx", ".xyz"),
        *(".splat", ".pcd"),
    }
)
SCENE_OF_ANOTHER_FORMAT = (
    "a 3-D format that is not read; convert it to .glb, for example with Blender (File > Export > "
    "glTF 2.0, format glTF Binary)"
)
REMEDIES = (
    (RAW, RAW_DATA),
    (RAW_VIDEOS, RAW_VIDEO),
    (SPHERES, SPHERE),
    (PREVIEWS, PREVIEW),
    (SCENES, SCENE_OF_ANOTHER_FORMAT),
)
NO_FILE = "neither a file nor a folder"
DIGITS = frozenset("0123456789")
UNWRITABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
)  # control characters, and bytes that are not UTF-8
# Of Synology, QNAP and Windows; in lower case.
OF_SYSTEMS = frozenset({"@eadir", "@recycle", "#recycle", "$recycle.bin"})
NOT_WRITABLE = "a name that cannot be written down: control characters, or bytes that are not UTF-8"

Wanted = Callable[[str], bool]


@dataclass
class Listing:
    """Paths below a root, posix."""

    files: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(
        default_factory=dict
    )  # file or folder -> why; names are escaped


@dataclass
class _Walk:
    """What is known while a tree is walked."""

    root: str
    wanted: Wanted
    kind: str | None
    listing: Listing = field(default_factory=Listing)
    each_path: bool = False  # links are files and folders of their own
    folders: dict[str, str] = field(default_factory=dict)  # real path -> path below the root
    links: list[str] = field(default_factory=list)  # below the root, of files
    linked_folders: list[str] = field(default_factory=list)

    def skip(self, path: str, why: str) -> None:
        self.listing.skipped[shown(path)] = why


def tree(root: Path, wanted: Wanted, kind: str | None, each_path: bool = False) -> Listing:
    """All files below a root whose names are wanted, and everything else, with the reason.

    Args:
        wanted: of a file's name.
        kind: what is wanted, for the reason why another file is not, such as "an image". None:
            other files belong to the layout, and are not named.
    """
    state = _Walk(os.fspath(root), wanted, kind, each_path=each_path)
    _enter(state, "", os.path.realpath(root))
    while (
        state.linked_folders
    ):  # after all that lie there themselves: a folder goes by its own name before a link's
        path = state.linked_folders.pop(0)
        real = os.path.realpath(os.path.join(state.root, path))
        if not _is_again(state, path, real):
            _enter(state, path, real)
    _add_links(state)
    state.listing.files.sort(key=numeric_order)
    return state.listing


def files_below(
    root: Path,
    extensions: Set[str],
    skipped: dict[str, str] | None = None,
    kind: str | None = None,
    each_path: bool = False,
) -> list[str]:
    """The files of a whole tree with one of the extensions (in any case): paths below root, posix,
    in numeric order.

    Args:
        skipped: is told what else lies there, and why it is passed over.
        kind: see `tree`.
    """
    listing = tree(root, lambda name: has_extension(name, extensions), kind, each_path)
    if skipped is not None:
        skipped.update(listing.skipped)
    return listing.files


def walk(
    root: Path, skipped: dict[str, str], each_path: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk` from the top, links followed, each real folder once: (path below root, names of
    folders, names of files).

    A caller that removes names of folders is not led there.

    Args:
        skipped: is told of what is passed over, and why.
    """
    state = _Walk(os.fspath(root), bool, None, Listing([], skipped), each_path)
    waiting = [("", os.path.realpath(root))]
    while waiting or state.linked_folders:
        if not waiting:
            path = state.linked_folders.pop(0)
            real = os.path.realpath(os.path.join(state.root, path))
            if not _is_again(state, path, real):
                waiting.append((path, real))
            continue
        folder, real = waiting.pop()
        below, linked = _look(state, folder, real)
        names = below + linked
        prefix = f"{folder}/" if folder else ""
        files = [path.removeprefix(prefix) for path in (*state.listing.files, *state.links)]
        state.listing.files = []
        state.links = []
        yield folder, names, sorted(files)
        waiting += [
            (_join(folder, name), os.path.join(real, name))
            for name in reversed(below)
            if name in names
        ]
        state.linked_folders += [_join(folder, name) for name in linked if name in names]


def _look(state: _Walk, folder: str, real: str) -> tuple[list[str], list[str]]:
    """Names of the folders in a folder, and of the links to folders, whose files have been sorted
    in."""
    # Below the target of a link, and a target itself.
    if real in state.folders and not state.each_path:
        state.skip(folder, f"the same folder as {state.folders[real] or '.'}")
        return [], []
    state.folders[real] = folder
    try:
        with os.scandir(os.path.join(state.root, folder)) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        state.skip(folder or ".", error.strerror or type(error).__name__)
        return [], []
    before = len(state.linked_folders)
    below = [entry.name for entry in entries if _sort_in(state, folder, entry)]
    linked = [path.rpartition("/")[2] for path in state.linked_folders[before:]]
    del state.linked_folders[before:]
    return below, linked


def files_in(
    folder: Path, extensions: Set[str], dead: bool = False, each_path: bool = False
) -> list[str]:
    """Names of the files of a folder with one of the extensions, in numeric order; as `files_below`
    sees the folder alone.

    Args:
        dead: links to nothing that can be seen count as files, for a reader that names what it
            cannot open.

    Raises:
        OSError: the folder cannot be opened.
    """
    state = _Walk(
        os.fspath(folder), lambda name: has_extension(name, extensions), None, each_path=each_path
    )
    state.folders[os.path.realpath(folder)] = ""
    with os.scandir(folder) as entries:
        for entry in entries:
            _sort_in(state, "", entry)
    _add_links(state)
    if dead:
        unseen = (DEAD_LINK, CLOSED_LINK)
        state.listing.files += [
            name
            for name, why in state.listing.skipped.items()
            if why.startswith(unseen) and state.wanted(name)
        ]
    return sorted(state.listing.files, key=lambda name: (numeric_order(name), name))


def has_extension(name: str, extensions: Set[str]) -> bool:
    return os.path.splitext(name)[1].lower() in extensions


def numeric_order(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which `9.jpg` comes before `10.jpg`."""
    return [
        (0, int(part)) if part[0] in DIGITS else (1, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    ]


def shown(name: str) -> str:
    """A name that can be written down in one line, whatever bytes it is made of: what cannot is
    escaped, as in Python."""
    return UNWRITABLE.sub(lambda letter: letter[0].encode("unicode_escape").decode(), name)


def passed_over(skipped: dict[str, str]) -> str:
    """What lies there instead, for the end of a line that says that nothing is found."""
    if not skipped:
        return ""
    name, why = min(skipped.items())
    more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"; passed over: {name} ({why}){more}"


def _enter(state: _Walk, top: str, real_top: str) -> None:
    """List a folder and those below it that are no links."""
    stack = [(top, real_top)]
    while stack:
        folder, real = stack.pop()
        below, linked = _look(state, folder, real)
        state.linked_folders += [_join(folder, name) for name in linked]
        stack += [(_join(folder, name), os.path.join(real, name)) for name in below]


def _sort_in(state: _Walk, folder: str, entry: os.DirEntry[str]) -> bool:
    """Put an entry where it belongs: among the files, the links, or what is passed over; whether it
    is a folder to enter."""
    path = _join(folder, entry.name)
    if entry.name == MARK:  # ours, in generated data
        return False
    if entry.name.startswith("."):
        state.skip(path, "hidden")
        return False
    if UNWRITABLE.search(entry.name):
        state.skip(path, NOT_WRITABLE)
        return False
    if entry.name.lower() in OF_SYSTEMS:
        state.skip(path, "thumbnails or deleted files, kept by a system")
        return False
    match kind := _kind(entry):
        case "folder":
            return True
        case "link to a folder":
            state.linked_folders.append(path)
        case "file" | "link to a file" if not state.wanted(entry.name):
            if state.kind is not None:
                state.skip(path, remedy(entry.name) or f"not {state.kind}")
        case "file":
            state.listing.files.append(path)
        case "link to a file":
            state.links.append(path)
        case _:
            state.skip(path, kind)
    return False


def remedy(name: str) -> str | None:
    """What to do with a file that is not read, where its name says what it is."""
    for extensions, why in REMEDIES:
        if has_extension(name, extensions):
            return why
    return None


def _kind(entry: os.DirEntry[str]) -> str:
    """What a directory's entry is; anything but files, folders and links to these is the reason why
    it is passed over."""
    link = "link to a " if entry.is_symlink() else ""
    try:
        if entry.is_dir():
            return f"{link}folder"
        if entry.is_file():
            return f"{link}file"
        entry.stat()
    except OSError as error:
        if not link:
            return str(error.strerror)
        kind = CLOSED_LINK if isinstance(error, PermissionError) else DEAD_LINK
        return f"{kind} ({error.strerror})"
    return NO_FILE


def _is_again(state: _Walk, path: str, real: str) -> bool:
    """Whether the target of a link has been listed, or holds the root; it is named then."""
    if state.each_path:
        if leads_back := _leads_back(state, path, real):
            state.skip(path, "a link to a folder that holds this one")
        return leads_back
    if real in state.folders:
        state.skip(
            path, f"a link to the folder {state.folders[real] or '.'}, which is mined itself"
        )
        return True
    if os.path.commonpath([real, os.path.realpath(state.root)]) == real:
        state.skip(path, "a link to a folder that holds this one")
        return True
    return False


def _leads_back(state: _Walk, path: str, real: str) -> bool:
    """Whether the target of a link holds a folder through which the walk came to that link: it
    would come there for ever."""
    parts = path.split("/")[:-1]
    way = [os.path.join(state.root, *parts[:count]) for count in range(len(parts) + 1)]
    return any(os.path.commonpath([real, above]) == real for above in map(os.path.realpath, way))


def _add_links(state: _Walk) -> None:
    """Links to files: each real file once."""
    if state.each_path:
        state.listing.files += state.links
        return
    taken: dict[str, str] = {}
    for path in sorted(state.links, key=numeric_order):
        real = os.path.realpath(os.path.join(state.root, path))
        if (itself := _listed(state, real)) is not None:
            state.skip(path, f"a link to {itself}, which is mined itself")
        elif real in taken:
            state.skip(path, f"a link to the same file as {taken[real]}")
        else:
            taken[real] = path
            state.listing.files.append(path)


def _listed(state: _Walk, real: str) -> str | None:
    """The path under which a real file is listed, if it is."""
    folder, name = os.path.split(real)
    if (
        folder not in state.folders
        or name.startswith(".")
        or UNWRITABLE.search(name)
        or not state.wanted(name)
    ):
        return None
    return _join(state.folders[folder], name)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
