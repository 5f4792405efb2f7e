"""Shards that are begun: what is decided is saved now and then, so that a killed worker's successor
goes on from there.

Beside the tar of a shard that takes long lies a folder `<shard>.begun`, until the shard is done:

    part-00042.parquet  pairs kept between two saves, with their JPEGs
    state.json          how far the shard is mined, and how many parts belong to it: written after
                        them
    now.json            the same in short, more often, for whoever watches

What is decided depends on the shard's job alone, so pairs read back and pairs found again are the
same pairs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mimic.errors import BadInput
from mimic.infra import progress, storage
from mimic.mining.reject_samples import RejectSamples
from mimic.mining.stats import MiningStats
from mimic.pairs.schema import PAIR
from mimic.pairs.write import COMPUTED_COLUMNS, ROWS_AT_ONCE, ShardWriter
from mimic.sources.bookmark import Bookmark

SAVED_EVERY_S = 30.0  # so much work is lost at most
PAIRS_AT_ONCE = ROWS_AT_ONCE  # or so many pairs: they are held in memory until then
TOLD_EVERY_S = 5.0
IMAGES = ("jpeg_a", "jpeg_b")
PART = pa.schema(
    [
        *(column for column in PAIR if column.name not in COMPUTED_COLUMNS),
        *(pa.field(name, pa.binary(), nullable=False) for name in IMAGES),
    ]
)


@dataclass
class State:
    """How far a shard is mined, and what was found but for its pairs."""

    examples: RejectSamples
    stats: MiningStats = field(default_factory=MiningStats)
    tracebacks: dict[str, str] = field(default_factory=dict)  # by clip
    clips: int = 0  # done
    bookmark: Bookmark = field(default_factory=Bookmark)  # in the clip behind those

    def end_clip(self) -> None:
        self.clips += 1
        self.bookmark = Bookmark()

    @property
    def share(self) -> float:
        """Clips done, with what is done of the one behind."""
        return self.clips + self.bookmark.share


class Saved:
    """Keeps the folder of a shard that is begun.

    Args:
        folder: made when it is needed, which is not for short work.
        writer: of the shard; it is given every pair.
        killers: clips that are skipped: what was mined without skipping them is of no use.
        shown: name of each clip.
    """

    def __init__(
        self,
        folder: Path,
        writer: ShardWriter,
        killers: tuple[str, ...],
        shown: tuple[str, ...],
    ) -> None:
        self._folder = folder
        self._writer = writer
        self._killers = list(killers)
        self._shown = shown
        self._parts = 0
        self._pending: list[dict[str, Any]] = []
        self._earlier = 0.0
        self._save_at = time.monotonic() + SAVED_EVERY_S
        self._tell_at = time.monotonic() + TOLD_EVERY_S

    def restore(self, guard: Callable[[np.ndarray], np.ndarray | None] | None) -> State:
        """The state of the last save, whose pairs are in the writer now; a fresh one where nothing
        can be used.

        Args:
            guard: see `RejectSamples`.
        """
        try:
            saved = self._read()
        except BadInput as damage:
            progress.say(
                f"{self._folder.stem}: mined from its start, for what was saved of it is damaged: "
                f"{damage}"
            )
            saved = None
        if saved is None:
            return State(RejectSamples(guard))
        for part in self._part_files(saved["parts"]):
            for row in _rows(part):
                images = [row.pop(name) for name in IMAGES]
                self._writer.add(row, *images)
        self._parts = saved["parts"]
        state = State(
            RejectSamples(guard, saved["examples"]),
            MiningStats.from_entry(saved["tally"]),
            saved["tracebacks"],
            saved["clips"],
            Bookmark.from_entry(saved["bookmark"]),
        )
        self._earlier = state.share
        return state

    def add(self, row: dict[str, Any], jpeg_a: bytes, jpeg_b: bytes) -> None:
        """A kept pair, for the shard and for the next part."""
        self._writer.add(row, jpeg_a, jpeg_b)
        self._pending.append({**row, IMAGES[0]: jpeg_a, IMAGES[1]: jpeg_b})

    def between(self, state: State) -> None:
        """Called between two groups or clips; saves and tells when it is time to."""
        now = time.monotonic()
        if now >= self._save_at or len(self._pending) >= PAIRS_AT_ONCE:
            self._save(state)
            self._save_at = time.monotonic() + SAVED_EVERY_S
        if now >= self._tell_at:
            self._tell(state)
            self._tell_at = time.monotonic() + TOLD_EVERY_S

    def _save(self, state: State) -> None:
        if self._pending:
            (path,) = self._part_files(self._parts + 1)[self._parts :]
            with storage.replacing(path) as scratch:
                table = pa.Table.from_pylist(self._pending, schema=PART)
                pq.write_table(table, scratch, compression="none", write_page_checksum=True)
            self._parts += 1
            self._pending = []
        entry = {
            "parts": self._parts,
            "pairs": len(self._writer),
            "killers": self._killers,
            "clips": state.clips,
            "bookmark": state.bookmark.entry(),
            "tally": state.stats.entry(),
            "tracebacks": state.tracebacks,
            "examples": state.examples.entries(),
        }
        storage.write_json(self._state_file, entry)

    def _tell(self, state: State) -> None:
        stats = state.stats
        view = state.bookmark.view
        clip = self._shown[min(state.clips, len(self._shown) - 1)]
        where = f"{clip} at {view}" if view else clip
        now = Now(state.share, self._earlier, stats.candidates, stats.kept, where)
        self._folder.mkdir(exist_ok=True)
        scratch = self._folder / f".{NOW}"
        scratch.write_text(json.dumps(dataclasses.asdict(now)))
        os.replace(
            scratch, self._folder / NOW
        )  # nothing is lost with it, so nobody waits for the disk

    def _read(self) -> dict[str, Any] | None:
        """What was saved, when all of it is there.

        Raises:
            BadInput: something is missing or damaged.
        """
        saved = storage.read_json(self._state_file)
        if saved is None or saved["killers"] != self._killers:
            return None
        pairs = sum(len(_table(part)) for part in self._part_files(saved["parts"]))
        if pairs != saved["pairs"]:
            raise BadInput(f"{self._folder}: {pairs} pairs of {saved['pairs']}")
        return saved

    @property
    def _state_file(self) -> Path:
        return self._folder / STATE

    def _part_files(self, count: int) -> list[Path]:
        return [self._folder / f"part-{number:05}.parquet" for number in range(count)]


NOW = "now.json"
STATE = "state.json"


@dataclass(frozen=True)
class Now:
    """What a worker process is about."""

    # clips of its shard that are done, with the share of the next one where that is known
    share: float
    earlier: float  # how much of it earlier processes did
    candidates: int
    kept: int
    where: str


def folder_of(tar: Path) -> Path:
    """Where a shard that is begun is saved."""
    return tar.with_suffix(".begun")


def forget_now(tar: Path) -> None:
    """Nobody is about this shard any more, as far as is known."""
    (folder_of(tar) / NOW).unlink(missing_ok=True)


def saved(tar: Path) -> bytes | None:
    """How far a shard is mined, as bytes that change with it; None: nothing is saved."""
    try:
        return (folder_of(tar) / STATE).read_bytes()
    except FileNotFoundError:
        return None


def remove(tar: Path) -> None:
    """Forget how far a shard was mined: it is done."""
    if folder_of(tar).exists():
        shutil.rmtree(folder_of(tar))


def watched(folder: Path) -> Iterator[Now]:
    """What worker processes are about that mine shards of this folder, on whatever machine."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".begun"))
    for name in names:
        try:
            yield Now(**json.loads((folder / name / NOW).read_text()))
        except OSError:
            # nothing told yet, just done, or just replaced on another machine: it is only for the
            # eye
            continue


def _rows(part: Path) -> Iterator[dict[str, Any]]:
    yield from _table(part).to_pylist()


def _table(part: Path) -> pa.Table:
    """A part, every page of it checked.

    Raises:
        BadInput: it is missing or damaged.
    """
    try:
        return pq.read_table(part, schema=PART, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{part}: {' '.join(str(error).split())[:200]}") from None
