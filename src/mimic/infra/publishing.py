"""Folders of results: each says who made it, and only a result of the same kind and name is ever replaced.

The mark `.mimic.json` lies in every published folder:

    {"made_by": "mimic", "kind": "pretrain", "name": "croco-3m", "files": ["card.json", ...]}

A folder that holds anything else than the files its mark names is not replaced, and what is removed are those files, one by one:
nothing that this program did not write can be lost. Folders from before there were marks are known by what lies in them, which the
caller recognises. Whatever is in the way (a file, something foreign, a broken link) is one line, best before any work is spent:
`place` says so at the start of a stage, and `publish` asks again at its end.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra.storage import SCRATCH_STEM, made_folder, makeable, short, write_json

MARK = ".mimic.json"
MAKER = "mimic"
EARLIER = "earlier"  # of an aside folder


@dataclass(frozen=True)
class Work:
    """What a folder is: made by which command, under which name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


Recognise = Callable[[Path, list[str]], Work | None]  # of a folder without a mark, and what lies in it


def never(folder: Path, entries: list[str]) -> Work | None:  # noqa: ARG001
    """Recognises no folder: everything that is replaced bears a mark."""
    return None


def place(out: Path, work: Work, *, over: Collection[str] = (), recognise: Recognise = never) -> Path:
    """Where a result will lie, links followed: a path that is free, an empty folder, or an earlier result of the same kind and name.

    Args:
        over: further kinds that it replaces, of the same name.
        recognise: what a folder without a mark is; None where it is not ours.

    Raises:
        BadInput: something else lies there, or nothing can be made there; nothing was touched.
    """
    real = makeable(out)
    if not real.exists():
        return real
    if not real.is_dir():
        raise BadInput(f"{out}: is a file, and a folder is to be written; name another place, or move it away")
    if real.is_mount() or Path.cwd().is_relative_to(real):
        raise BadInput(
            f"{out}: is {'a disk' if real.is_mount() else 'the folder you are in'}, which is never replaced; name a folder in it"
        )
    entries = entries_of(real)
    if entries:
        _refuse_foreign(out, real, entries, work, {work.kind, *over}, recognise)
    return real


def publish(
    fill: Callable[[Path], object],
    out: Path,
    work: Work,
    *,
    over: Collection[str] = (),
    recognise: Recognise = never,
    for_good: bool = False,
) -> None:
    """Make folder `out` hold exactly what `fill` writes into the folder it is given, all at once.

    Args:
        out, work, over, recognise: as in `place`.
        for_good: leave no mark, so that it is never replaced: it goes to other people.

    Raises:
        BadInput: as `place`, before the files are made and once more after it; what lies there is as it was.
    """
    real = place(out, work, over=over, recognise=recognise)
    made_folder(real.parent)
    _sweep(real, work)
    scratch = _scratch(real)
    try:
        write_json(scratch / MARK, _mark(work, None))
        fill(scratch)
        if for_good:
            (scratch / MARK).unlink()
        else:
            mark(scratch, work)
        place(out, work, over=over, recognise=recognise)
        _swap(scratch, real, work)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def mark(folder: Path, work: Work) -> None:
    """Make everything that lies in a folder the result of this work: for those who fill a folder in place."""
    write_json(folder / MARK, _mark(work, [name for name in entries_of(folder) if name != MARK]))


def marked(folder: Path) -> tuple[Work, list[str] | None] | None:
    """What a folder's mark says, and of which files (None: it is still being written); None where there is no mark."""
    try:
        found = json.loads((folder / MARK).read_text())
        if found["made_by"] != MAKER:
            return None
        files = found["files"]
        return Work(str(found["kind"]), str(found["name"])), None if files is None else [str(file) for file in files]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def entries_of(folder: Path) -> list[str]:
    """Every file and link below a folder, and every empty folder (`name/`), as posix paths; links are not followed."""
    found = []
    for path, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(path)
        links = [name for name in folders if (here / name).is_symlink()]
        found += [(here / name).relative_to(folder).as_posix() for name in (*files, *links)]
        if not folders and not files and here != folder:
            found.append(f"{here.relative_to(folder).as_posix()}/")
    return sorted(found)


def remove(folder: Path, entries: Iterable[str]) -> None:
    """Remove these entries of a folder, and the folders that are empty then; whatever else is there stays."""
    parents = {folder}
    for entry in entries:
        path = folder / entry
        if entry.endswith("/"):
            parents.add(path)
        else:
            path.unlink(missing_ok=True)
        parents.update(parent for parent in path.parents if parent.is_relative_to(folder))
    for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


# ---------------------------------------------------------------------------- whose folder it is


def _refuse_foreign(out: Path, real: Path, entries: list[str], work: Work, kinds: set[str], recognise: Recognise) -> None:
    known = marked(real)
    if known is None:
        before = recognise(real, entries)
        if before is None:
            raise BadInput(
                f"{out}: holds {short(entries[0])}, which is no earlier result of {work}; nothing was touched:"
                " name another place, or move it away"
            )
        found = before
    else:
        found, files = known
        foreign = _foreign(entries, files or [])
        if foreign and found.kind in kinds and found.name == work.name:
            raise BadInput(
                f"{out}: holds {short(foreign[0])} beside the result of {found}; nothing was touched: move it away, and run this again"
            )
    if found.kind not in kinds or found.name != work.name:
        raise BadInput(f"{out}: holds {found}, which {work} does not replace; nothing was touched: name another place, or move it away")


def _foreign(entries: list[str], files: list[str]) -> list[str]:
    """What lies there and is not named by the mark; a folder that has lost its files is not foreign."""
    ours = {MARK, *files}
    folders = {f"{parent.as_posix()}/" for file in files for parent in Path(file).parents}
    return [entry for entry in entries if entry not in ours and entry not in folders]


def _mark(work: Work, files: list[str] | None) -> dict[str, object]:
    return {"made_by": MAKER, "kind": work.kind, "name": work.name, "files": files}


def _unreadable(error: OSError) -> None:
    raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); nothing was touched") from None


# ---------------------------------------------------------------------------- how it gets its place


def _scratch(real: Path) -> Path:
    """A new folder beside the place; its name was nobody's before."""
    for number in itertools.count():
        scratch = real.with_name(f".{_stem(real)}.{os.getpid()}-{number}.part")
        try:
            scratch.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput(f"{scratch.parent}: nothing can be written there ({error.strerror}); name another place") from None
        return scratch
    raise AssertionError("unreachable")


def _stem(real: Path) -> str:
    return real.name.encode()[:SCRATCH_STEM].decode(errors="ignore")


def _sweep(real: Path, work: Work) -> None:
    """Remove the scratch folders of this work that killed runs have left; one run of a stage at a time.

    An earlier result that had stepped aside gets its place back.
    """
    pattern = re.compile(rf"\.{re.escape(_stem(real))}\.\d+-\d+\.part")
    for left in real.parent.iterdir():
        if not pattern.fullmatch(left.name) or not left.is_dir() or left.is_symlink():
            continue
        known = marked(left)
        if known is None or known[0] != work:
            continue
        if (left / EARLIER).is_dir() and not real.exists():
            os.replace(left / EARLIER, real)  # killed between the two steps of `_swap`
        shutil.rmtree(left)


def _swap(scratch: Path, real: Path, work: Work) -> None:
    """Give a finished folder its place. The earlier one steps aside first and is removed entry by entry."""
    if not real.exists():
        os.replace(scratch, real)
        return
    aside = _scratch(real)
    write_json(aside / MARK, _mark(work, None))
    earlier = aside / EARLIER
    entries = entries_of(real)
    os.replace(real, earlier)
    try:
        os.replace(scratch, real)
    except OSError:
        os.replace(earlier, real)
        raise
    remove(earlier, entries)
    remove(aside, [MARK])
