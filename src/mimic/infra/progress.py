"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY_S = 10.0  # where there is no terminal
T = TypeVar("T")
_showing: list[str] = []  # titles of the work that is shown now, the outermost first


class ProgressTracker:
    """Counts work done; see `track`."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0
        self.under_way = 0.0  # of what is begun and not done
        self.note = ""
        self._before = 0  # done by an earlier process
        self._earlier = 0.0
        self._started = time.monotonic()

    def resume(self, done: int) -> None:
        """So much was done before this process began: it counts, but says nothing of the rate,
        which is measured from now on."""
        self.done = self._before = done
        self._started = time.monotonic()

    def advance(self, count: int, note: str = "") -> None:
        """So much more is done; `note` is shown beside it until the next one."""
        self.done += count
        self.under_way = max(0.0, self.under_way - count)
        self.note = note or self.note

    def show(self, under_way: float, earlier: float, note: str) -> None:
        """Work that is begun and not done.

        Args:
            under_way: how many units of it are done.
            earlier: how many of these before this process began: they say nothing of the rate.
        """
        self.under_way = under_way
        self._earlier = earlier
        self.note = note

    def line(self) -> str:
        """For example `mine phone: 40/200 clips, 3.1 clips/s, 0:52 left, 312 kept`."""
        elapsed = time.monotonic() - self._started
        done = self.done + self.under_way
        rate = max(0.0, done - self._before - self._earlier) / elapsed if elapsed > 0 else 0.0
        left = f", {_clock(elapsed)} in all"
        if self.done < self.total:
            left = f", {_clock((self.total - done) / rate)} left" if rate else ""
        count = f"{done:.2f}" if self.under_way else str(self.done)
        note = f", {self.note}" if self.note else ""
        return (
            f"{self.title}: {count}/{self.total} {self.unit}, {_rate(rate, self.unit)}{left}{note}"
        )


class _Bar(ProgressTracker):
    """On a terminal."""

    def __init__(self, title: str, total: int, unit: str, bar: Progress) -> None:
        super().__init__(title, total, unit)
        self._bar = bar
        self._task = bar.add_task(title, total=total, note="", unit=unit)

    def resume(self, done: int) -> None:
        super().resume(done)
        self._bar.reset(self._task, completed=done)

    def advance(self, count: int, note: str = "") -> None:
        super().advance(count, note)
        self._draw()

    def show(self, under_way: float, earlier: float, note: str) -> None:
        super().show(under_way, earlier, note)
        self._draw()

    def _draw(self) -> None:
        done = self.done + self.under_way
        self._bar.update(self._task, completed=done, note=self.note)


class _Lines(ProgressTracker):
    """In a log: at most a line every ten seconds, and the last; `brief`: none for shorter work."""

    def __init__(self, title: str, total: int, unit: str, brief: bool) -> None:
        super().__init__(title, total, unit)
        self._silent = brief
        self._due = time.monotonic() + LINE_EVERY_S

    def advance(self, count: int, note: str = "") -> None:
        super().advance(count, note)
        self._tell(self.done >= self.total)

    def show(self, under_way: float, earlier: float, note: str) -> None:
        super().show(under_way, earlier, note)
        self._tell(False)

    def _tell(self, last: bool) -> None:
        due = time.monotonic() >= self._due
        if due or (last and not self._silent):
            self._due = time.monotonic() + LINE_EVERY_S
            self._silent = False
            say(self.line())


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_rate(task.speed or task.finished_speed or 0.0, task.fields["unit"]))


@contextmanager
def track(
    title: str, total: int, unit: str, log: Path | None, *, brief: bool = False
) -> Iterator[ProgressTracker]:
    """Show progress on stderr while the block runs, and say where its log is.

    Args:
        total: how many units of work there are; `advance` counts them off.
        unit: their name, in the plural.
        brief: say nothing in a log of work that is done at once.
    """
    _showing.append(title)
    try:
        with _shown(title, total, unit, log, brief) as shown:
            yield shown
    finally:
        _showing.pop()


@contextmanager
def _shown(
    title: str, total: int, unit: str, log: Path | None, brief: bool
) -> Iterator[ProgressTracker]:
    if log is not None:
        say(f"{title}: {total} {unit}; log: {log}")
    if not sys.stderr.isatty():
        yield _Lines(title, total, unit, brief)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(title, total, unit, bar)


@contextmanager
def repeating(look: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `look` now and then while the block runs, in a thread of its own."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every_s):
            look()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def counted(
    things: Iterable[T], title: str, total: int, unit: str, size: Callable[[T], int] | None = None
) -> Iterator[T]:
    """The things, with progress shown while they are gone through; nothing is said of short work.

    Inside other work that is shown, only that is: a terminal has room for one bar.

    Args:
        size: how many units a thing is; None = one.
    """
    if _showing:
        yield from things
        return
    with track(title, total, unit, None, brief=True) as shown:
        for thing in things:
            yield thing
            shown.advance(1 if size is None else size(thing))


@dataclass(frozen=True)
class ProgressLine:
    """A line of progress, read again."""

    title: str
    done: float
    total: float

    @property
    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total) if self.total else 0.0


# What `ProgressTracker.line` writes, and what a stage says of the SLURM job that it waits for.
LINE = re.compile(r"^(?P<title>[^:]+): (?P<done>\d+(?:\.\d+)?)/(?P<total>\d+) \S+.*, ")
JOB = re.compile(
    r"^slurm: job \S+ of (?P<title>[^:]+): [A-Z_]+"
    r"(?:.*?, step (?P<done>[\d,]+) of (?P<total>[\d,]+))?"
)


def parse(line: str) -> ProgressLine | None:
    """The progress that a line of a log tells of; None: of none. A job that waits in the queue has
    done 0 of 0."""
    match = LINE.match(line) or JOB.match(line)
    if match is None:
        return None
    done, total = (float((match[name] or "0").replace(",", "")) for name in ("done", "total"))
    return ProgressLine(match["title"], done, total)


def say(line: str) -> None:
    """A line for the reader of the log, on stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def _rate(rate: float, unit: str) -> str:
    return f"{rate:.1f} {unit}/s" if rate >= 1 or rate == 0 else f"{60 * rate:.1f} {unit}/min"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
