"""How a finished folder gets its place, whatever dies on the way and whoever else publishes there.

A result is made in a folder beside its place, `.<name>.<pid>-<n>.part/`:

    .mimic.json    whose it is
    lock           held while its process lives, so that no other takes it for a left-over
    result/        what is being made
    earlier/       the result that stood there before, for the moment of the exchange

Every step is one rename. A process that dies leaves such a folder, and the next one of the same
work settles it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from mimic.errors import BadInput
from mimic.infra import progress
from mimic.infra.marks import MARK, Work, entries_of, foreign_of, mark_unfinished, marked, remove
from mimic.infra.storage import SCRATCH_STEM, is_full

RESULT = "result"
EARLIER = "earlier"
LOCK = "lock"
LOOKS = 5
LOOK_AGAIN_S = 0.02
T = TypeVar("T")
WORKPLACE = re.compile(r"\.(?P<stem>.+)\.\d+-\d+\.part", re.DOTALL)
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


@contextlib.contextmanager
def workplace(real: Path, work: Work) -> Iterator[Path]:
    """A new folder beside the place of a result, with an empty `result/`; settled at the end,
    however it ends."""
    _settle_left_overs(real, work)
    folder = _new_folder(real)
    lock = _held(folder)
    try:
        mark_unfinished(folder, work)
        (folder / RESULT).mkdir()
        yield folder
    finally:
        _settle(folder, real)
        if lock is not None:
            lock.release()


def exchange(folder: Path, real: Path, check: Callable[[Path], None]) -> None:
    """Give `result/` of a workplace its place.

    Args:
        check: refuses a folder that may not be replaced. It is asked once the folder has stepped
            aside, when nothing is added to it.

    Raises:
        BadInput: as `check`; or the folders may not be renamed. What lay there lies there again.
    """
    try:
        while True:
            _step_aside(folder, real, check)
            try:
                os.replace(folder / RESULT, real)
                return
            except OSError as error:
                if error.errno not in TAKEN or not real.is_dir():
                    raise
            if (folder / EARLIER).is_dir():
                _drop_earlier(
                    folder
                )  # another process has published in between: its result is the one to look at now
    except OSError as error:
        if is_full(error):
            raise
        raise BadInput(
            f"{real}: the new result cannot take its place ({error.strerror}); the earlier one "
            "stays"
        ) from None


def settled(look: Callable[[], T]) -> T:
    """What a look at a place finds, asked again for a moment where it refuses: another process may
    be exchanging just then."""
    for _ in range(LOOKS - 1):
        with contextlib.suppress(BadInput, FileNotFoundError):
            return look()
        time.sleep(LOOK_AGAIN_S)
    return look()


def _step_aside(folder: Path, real: Path, check: Callable[[Path], None]) -> None:
    """Move what lies at the place into the workplace, if anything does and it may be replaced."""
    earlier = folder / EARLIER
    try:
        if not any(real.iterdir()):
            return  # a rename replaces an empty folder
        os.replace(real, earlier)
    except FileNotFoundError:
        return
    check(earlier)  # refused, it gets its place back when the workplace is settled


def _settle_left_overs(real: Path, work: Work) -> None:
    """Settle the workplaces of this work whose processes have died."""
    pattern = re.compile(rf"\.{re.escape(_stem(real))}\.\d+-\d+\.part")
    for left in _beside(real):
        if not pattern.fullmatch(left.name) or not left.is_dir() or left.is_symlink():
            continue
        known = marked(left)
        if known is None or known != (work, None):
            continue
        lock = _held(left)
        if lock is None:
            continue
        if marked(left) == known:
            _settle(left, real)
        else:
            _remove_remains(left)  # its process has settled it since
        lock.release()


def settle_all(folders: Iterable[Path]) -> None:
    """Settle what killed processes of any work have left in folders where results lie, a line each:
    a stage whose result DVC takes from its cache never comes to its own."""
    for folder in folders:
        for left in sorted(folder.glob(".*.part")):
            match = WORKPLACE.fullmatch(left.name)
            if match is None or not left.is_dir() or left.is_symlink():
                continue
            if len(match["stem"].encode()) >= SCRATCH_STEM:
                continue  # cut short: its place is not known
            known = marked(left)
            if known is None or known[1] is not None:
                continue  # somebody's folder
            lock = _held(left)
            if lock is None:
                continue  # at work
            if known == marked(left):
                progress.say(f"{left}: unfinished work of {known[0]}, which was killed; removed")
                _settle(left, folder / match["stem"])
            else:
                _remove_remains(left)  # its process has settled it since
            lock.release()


def _beside(real: Path) -> list[Path]:
    try:
        return list(real.parent.iterdir())
    except OSError as error:
        raise BadInput(
            f"{real.parent}: cannot be read ({error.strerror}); name another place, or ask for the "
            "right to"
        ) from None


def _settle(folder: Path, real: Path) -> None:
    """Remove a workplace. A result that had stepped aside gets its place back, or is removed if
    there is a newer one."""
    earlier = folder / EARLIER
    if earlier.is_dir() and not os.path.lexists(real):
        os.replace(earlier, real)
    if earlier.is_dir():
        _drop_earlier(folder)
    if earlier.is_dir():
        progress.say(
            f"{earlier}: is left of what lay at {real}: files of no result, or that cannot be "
            "removed; look at them, and remove it"
        )
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (MARK, LOCK):
            path.unlink()
    if {path.name for path in folder.iterdir()} - {MARK, LOCK}:
        progress.say(f"{folder}: unfinished work that cannot be removed whole; remove it")
        return
    # killed before this, the mark still says whose it is; after it, nobody settles it
    (folder / MARK).unlink(missing_ok=True)
    _remove_remains(folder)


def _remove_remains(folder: Path) -> None:
    """Remove a workplace that holds nothing but its lock. Another process may do the same, or hold
    a lock it has just made there."""
    (folder / LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _drop_earlier(folder: Path) -> None:
    """Remove the files that the earlier result's mark names, and no other."""
    earlier = folder / EARLIER
    known = marked(earlier)
    files = known and known[1]
    entries = entries_of(earlier)
    if entries and files is None:
        return
    foreign = set(foreign_of(entries, files or []))
    try:
        remove(earlier, [entry for entry in entries if entry not in foreign])
    except OSError as error:
        progress.say(
            f"{earlier}: an earlier result that cannot be removed ({error.strerror}); remove it"
        )


def _held(folder: Path) -> FileLock | None:
    """The lock of a workplace; None where another process has it, or where the file system knows no
    locks."""
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError):
        return None
    return lock


def _new_folder(real: Path) -> Path:
    """A new folder beside the place; its name was nobody's before."""
    for number in itertools.count():
        folder = real.with_name(f".{_stem(real)}.{os.getpid()}-{number}.part")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput(
                f"{folder.parent}: nothing can be written there ({error.strerror}); name another "
                "place"
            ) from None
        return folder
    raise AssertionError("unreachable")


def _stem(real: Path) -> str:
    return real.name.encode()[:SCRATCH_STEM].decode(errors="ignore")
