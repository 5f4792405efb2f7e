"""Shards that lie in an object store or on a web server: fetched whole when first needed, kept in a
folder of bounded size.

Any address that fsspec understands: s3://bucket/pairs, gs://..., https://host/pairs,
file:///mnt/pairs. Several processes may share a folder. A shard gets its name there when it is
whole, so a half-fetched one is never read; the least recently used make room. A copy is known by
the lock file that was made to fetch it: whatever else lies in the folder is neither counted nor
removed.
"""

from __future__ import annotations

import glob
import os
import time
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from mimic import config
from mimic.errors import BadInput
from mimic.infra import confined, experiment, storage
from mimic.infra.addresses import without_secrets
from mimic.pairs.read import read_bytes

# the pause doubles
TRIES = 3
PAUSE_S = 1.0
VARIABLE = "MIMIC_SHARDS_URL"
AGE_S = 3600.0  # a scratch file this old is nobody's: its process was killed


def address(section: config.Shards) -> str | None:
    """MIMIC_SHARDS_URL goes first: an address that holds a password or a signature stands in no
    file, and no job is pickled with it."""
    return os.environ.get(VARIABLE) or section.url


def open_store(section: config.Shards, root: Path) -> ShardStore | None:
    """The store that `cluster.shards` names; None for none."""
    url = address(section)
    if url is None:
        return None
    return ShardStore(url, experiment.home(root) / section.cache, round(section.cache_gb * 1e9))


class ShardStore:
    """
    Args:
        url: what a manifest's shard names are relative to.
        folder: of the local copies.
        limit_bytes: of the copies together; at least one shard is kept, whatever its size.
    """

    def __init__(self, url: str, folder: Path, limit_bytes: int) -> None:
        self.url = url.rstrip("/")
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._files: Any = None

    def local(self, name: str) -> Path:
        """The local copy of a shard, fetched if need be. It may go again when others need room:
        open it soon, or ask again.

        Raises:
            BadInput: the store has no such shard, cannot be reached, or the name leads out of the
                folder.
        """
        path = confined.inside(self.folder, name, "the manifest")
        if not self._used(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(_lock_of(path)):  # one process fetches, the others wait for it
                if not self._used(path):
                    self._fetch(name, path)
        return path

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a shard; it is fetched again if another process made room just before it was
        opened."""
        for attempt in range(TRIES):
            path = self.local(name)
            try:
                return read_bytes(path, offset, size)
            except BadInput:
                if path.exists() or attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _used(self, path: Path) -> bool:
        """Whether it is there; if so it counts as used now."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _fetch(self, name: str, path: Path) -> None:
        for attempt in range(TRIES):
            try:
                files, remote = self._opened(name)
                size = int(files.info(remote)["size"])
                self._make_room(size, path)
                with storage.replacing(path) as scratch:
                    files.get_file(remote, str(scratch))
                    if scratch.stat().st_size != size:
                        raise OSError(f"{scratch.stat().st_size} bytes came of {size}")
                return
            except FileNotFoundError:
                raise BadInput(
                    f"{without_secrets(self._at(name))}: no such shard in the store; is the "
                    "manifest of other pairs?"
                ) from None
            except ImportError as error:
                raise BadInput(without_secrets(f"{self.url}: {error}")) from None
            except Exception as error:  # every store has errors of its own
                if attempt == TRIES - 1 or storage.is_full(error):
                    raise self._unreachable(name, error) from None
                time.sleep(PAUSE_S * 2**attempt)

    def _unreachable(self, name: str, error: Exception) -> Exception:
        if storage.is_full(error):
            return error
        # the text of a store's error may repeat the address, password included
        reason = without_secrets(" ".join(str(error).split()))[:160] or type(error).__name__
        return BadInput(f"{without_secrets(self._at(name))}: cannot be fetched ({reason})")

    def _opened(self, name: str) -> tuple[Any, str]:
        if self._files is None:
            self._files = fsspec.core.url_to_fs(self.url)[0]
        return self._files, self._files._strip_protocol(self._at(name))

    def _at(self, name: str) -> str:
        """The address of a shard; what a web address says after its path (a signature) stays
        there."""
        path, mark, query = self.url.partition("?" if self.url.startswith("http") else "\0")
        return f"{path.rstrip('/')}/{name}{mark}{query}"

    def _make_room(self, needed: int, wanted: Path) -> None:
        """Remove the least recently used until `needed` bytes fit, and what killed processes have
        left."""
        with FileLock(self.folder / ".room.lock"):
            copies = []
            for lock in self.folder.rglob(".*.lock"):
                path = lock.with_name(lock.name[1:].removesuffix(".lock"))
                for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                    if time.time() - left.stat().st_mtime > AGE_S:
                        left.unlink(missing_ok=True)
                if path.is_file():
                    copies.append((path.stat().st_mtime, path.stat().st_size, path))
            copies.sort()
            used = sum(size for _, size, _ in copies)
            for _, size, path in copies:
                if used + needed <= self.limit_bytes:
                    break
                if path != wanted:
                    path.unlink(missing_ok=True)
                    used -= size


def _lock_of(path: Path) -> Path:
    """Held while a copy is fetched; it stays, and says that the copy is ours."""
    return path.with_name(f".{path.name}.lock")
