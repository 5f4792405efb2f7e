"""One owner a folder of work: an exclusive lock that dies with its holder.

    with owned(space.work("pretrain", "croco-3m"), "pretrain croco-3m"):
        ...
        publish(...)        # only by the owner: it asks again at the last moment

The lock is `flock` on `<folder>/.owner`. The kernel gives it back when the process ends, however it
ends, so that no lock is ever left over and none is broken by age: clocks of machines are never
compared. The file says who holds it, for people to read. It is removed at the end; a process that
waited for a file that is gone takes the new one.

On NFS (version 4, or 3 with lockd) the lock holds between machines; with the mount options
`nolock` or `local_lock=flock`, and on file systems without locks, which are told of in a line, it
does not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from mimic.errors import BadInput
from mimic.infra.owner import parent
from mimic.infra.progress import say
from mimic.infra.storage import Workspace, made_folder

FILE = ".owner"
LOOK_EVERY_S = 0.5
SAY_EVERY_S = 60.0
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
P = ParamSpec("P")
S = TypeVar("S")
_held: dict[tuple[str, int], Ownership] = {}  # by real path and thread: whose block may be nested
_descriptors: set[int] = set()


@dataclass
class Ownership:
    """A folder that this process owns."""

    folder: Path
    what: str
    descriptor: int | None  # None: the file system knows no locks

    def confirm(self) -> None:
        """Ask once more, before something gets its final name.

        Raises:
            BadInput: the folder, or the lock in it, was taken away, so that another process may own
                it; or the dvc that started this process was killed, and would not record what is
                published.
        """
        if self.descriptor is not None and not _is_at(self.descriptor, self.folder / FILE):
            raise BadInput(
                f"{self.what}: {self.folder / FILE} was removed or replaced while this worked, and "
                "another process may work there: nothing was published; run it again"
            )
        parent.refuse_orphan(self.what)


@contextlib.contextmanager
def owned(
    folder: Path,
    what: str,
    patience_s: float | None = None,
    *,
    leave: Callable[[], bool] = lambda: False,
) -> Iterator[Ownership]:
    """Hold a folder, made if need be, for this process alone while the block runs.

    While another process holds it, a line says who, and since when by that machine's clock; again
    every minute. A thread that holds it already goes on at once.

    Args:
        what: is done there, such as "pretrain croco-3m".
        patience_s: for how long to wait; None = for ever, 0 = not at all.
        leave: asked while waiting; True ends it.

    Raises:
        BadInput: another process still holds it at the end of the patience.
    """
    key = (os.path.realpath(folder), threading.get_ident())
    if key in _held:
        yield _held[key]
        return
    mine = _taken(folder, what, patience_s, leave)
    _held[key] = mine
    try:
        yield mine
    finally:
        del _held[key]
        _give_back(mine)


def one_owner(
    stage: str,
) -> Callable[
    [Callable[Concatenate[S, Path, P], None]],
    Callable[Concatenate[S, Path, P], None],
]:
    """Of a stage's `main(params, root, *names)`: at most one process at a time does this for these
    names; others wait. It owns runs/<stage>/<name>@<name>."""

    def decorate(
        main: Callable[Concatenate[S, Path, P], None],
    ) -> Callable[Concatenate[S, Path, P], None]:
        @functools.wraps(main)
        def alone(params: S, root: Path, *names: P.args, **named: P.kwargs) -> None:
            given = [str(name) for name in (*names, *named.values())]
            folder = Workspace(root).work(stage, "@".join(given))
            with owned(folder, " ".join([stage, *given])):
                main(params, root, *names, **named)

        return alone

    return decorate


def confirm_held() -> None:
    """`Ownership.confirm`, of all that this thread holds: only an owner publishes."""
    thread = threading.get_ident()
    for (_, holder), mine in list(_held.items()):
        if holder == thread:
            mine.confirm()


@contextlib.contextmanager
def all_owned(
    folders: Sequence[Path], what: str, patience_s: float | None = None
) -> Iterator[dict[Path, Ownership]]:
    """`owned`, of several folders; always taken in the same order, so that no two processes wait
    for each other."""
    with contextlib.ExitStack() as stack:
        yield {
            folder: stack.enter_context(owned(folder, what, patience_s))
            for folder in sorted(set(folders))
        }


def _taken(
    folder: Path, what: str, patience_s: float | None, leave: Callable[[], bool]
) -> Ownership:
    begun = time.monotonic()
    next_line = begun
    while True:
        made_folder(folder)
        descriptor = _try(folder / FILE)
        if descriptor is not None:
            return _written(folder, what, descriptor)
        now = time.monotonic()
        if (patience_s is not None and now - begun >= patience_s) or leave():
            raise BadInput(
                f"{what}: {_holder(folder)} works in {folder}; wait for it to end, or end it, and "
                "run this again"
            )
        if now >= next_line:
            say(f"{what}: waits for {_holder(folder)}, which works in {folder}")
            next_line = now + SAY_EVERY_S
        time.sleep(LOOK_EVERY_S)


def _try(path: Path) -> int | None:
    """A descriptor of the locked file; -1 where the file system knows no locks, None where another
    process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None  # the folder is gone again: its owner is done
    except PermissionError:
        _clear_of_another(path)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NO_LOCKS:
            raise
        return -1
    if _is_at(descriptor, path):
        return descriptor
    os.close(descriptor)  # it was removed while we opened it: by its holder, who is done
    return None


def _clear_of_another(path: Path) -> None:
    """Take away the file of another user's process, if that has ended; whoever may write in the
    folder may.

    Raises:
        PermissionError: this user may not.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return  # it is at work
    except OSError as error:
        # NFS locks a file for one process only where that may write: it cannot be asked.
        if error.errno not in (*NO_LOCKS, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _written(folder: Path, what: str, descriptor: int) -> Ownership:
    """The ownership, once the file says whose it is."""
    if descriptor < 0:
        say(
            f"{what}: the file system of {folder} knows no locks ({FILE}); see to it that no other "
            "process works there"
        )
        return Ownership(folder, what, None)
    _descriptors.add(descriptor)
    mine = Ownership(folder, what, descriptor)
    record = {
        "what": what,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(record) + "\n").encode(), 0)
    except OSError:
        _give_back(mine)
        raise
    return mine


def _give_back(mine: Ownership) -> None:
    if mine.descriptor is None:
        return
    path = mine.folder / FILE
    if _is_at(mine.descriptor, path):
        path.unlink(missing_ok=True)
    _descriptors.discard(mine.descriptor)
    os.close(mine.descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(folder: Path) -> str:
    """Who holds a folder, as far as its file says."""
    try:
        holder = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return (
            f"{holder['what']} (pid {holder['pid']} on {holder['host']}, since {holder['since']})"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is being written, or gone
        return "another process"


def _close_in_child() -> None:
    """A forked child would keep the lock when its parent, the holder, is gone."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
