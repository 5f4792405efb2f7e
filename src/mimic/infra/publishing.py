"""Folders of results: each says who made it, and only a result of the same kind and name is ever
replaced.

The mark `.mimic.json` lies in every published folder (`marks.py`). A folder that holds anything
else than the files its mark names is not replaced, and what is removed are those files, one by one:
nothing that this program did not write can be lost. Folders from before there were marks are known
by what lies in them, which the caller recognises. Whatever is in the way (a file, something
foreign, a broken link) is one line, best before any work is spent: `resolve_target` says so at the
start of a stage, and `publish` asks again at its end.

Several processes may publish the same place: each result comes out whole, and the last one stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra import owner
from mimic.infra.exchange import RESULT, exchange, settled, workplace
from mimic.infra.marks import MARK, Work, entries_of, foreign_of, mark, marked
from mimic.infra.storage import made_folder, makeable, short

__all__ = [
    "MARK",
    "Recognise",
    "Work",
    "entries_of",
    "mark",
    "marked",
    "never",
    "publish",
    "resolve_target",
]

Recognise = Callable[
    [Path, list[str]], Work | None
]  # of a folder without a mark, and what lies in it


def never(folder: Path, entries: list[str]) -> Work | None:  # noqa: ARG001
    """Recognises no folder: everything that is replaced bears a mark."""
    return None


def resolve_target(
    out: Path, work: Work, *, over: Collection[str] = (), recognise: Recognise = never
) -> Path:
    """Where a result will lie, links followed: a path that is free, an empty folder, or an earlier
    result of the same kind and name.

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
        raise BadInput(
            f"{out}: is a file, and a folder is to be written; name another place, or move it away"
        )
    mounted = os.path.ismount(
        real
    )  # False of a folder that is gone by now; Path.is_mount fails then
    if mounted or Path.cwd().is_relative_to(real):
        raise BadInput(
            f"{out}: is {'a disk' if mounted else 'the folder you are in'}, which is never "
            "replaced; name a folder in it"
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
        BadInput: as `place`, before the files are made and once more after it; or this process no
            longer owns the folder of its work (infra.owner). What lies there is as it was.
    """
    real = settled(lambda: resolve_target(out, work, over=over, recognise=recognise))
    made_folder(real.parent)

    def check(stepped_aside: Path) -> None:
        _refuse_foreign(
            out, stepped_aside, entries_of(stepped_aside), work, {work.kind, *over}, never
        )

    with workplace(real, work) as folder:
        result = folder / RESULT
        fill(result)
        if not for_good:
            mark(result, work)
        settled(lambda: resolve_target(out, work, over=over, recognise=recognise))
        settled(lambda: _mark_earlier(real, recognise))
        owner.confirm_held()
        exchange(folder, real, check)


# ---------------------------------------------------------------------------- whose folder it is


def _refuse_foreign(
    out: Path, real: Path, entries: list[str], work: Work, kinds: set[str], recognise: Recognise
) -> None:
    known = marked(real)
    if known is None:
        before = recognise(real, entries)
        if before is None:
            raise BadInput(
                f"{out}: holds {short(entries[0])}, which is no earlier result of {work}; nothing "
                "was touched:"
                " name another place, or move it away"
            )
        earlier = before
    else:
        earlier, files = known
        foreign = foreign_of(entries, files or [])
        if foreign and earlier.kind in kinds and earlier.name == work.name:
            raise BadInput(
                f"{out}: holds {short(foreign[0])} beside the result of {earlier}; nothing was "
                "touched: move it away, and run this again"
            )
    if earlier.kind not in kinds or earlier.name != work.name:
        raise BadInput(
            f"{out}: holds {earlier}, which {work} does not replace; nothing was touched: name "
            "another place, or move it away"
        )


def _mark_earlier(real: Path, recognise: Recognise) -> None:
    """Write down what a result from before there were marks consists of: elsewhere, or half
    removed, it would not be recognised."""
    if not real.is_dir() or marked(real) is not None:
        return
    entries = entries_of(real)
    earlier = recognise(real, entries)
    if earlier is not None:
        mark(real, earlier, entries)
