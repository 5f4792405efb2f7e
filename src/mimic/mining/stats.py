"""What became of the candidates of some clips, and the name of everything that gave nothing, with
the reason.

Outcomes are counted and add up. Named beside them: clips that could not be read (to their end),
clips on which the program failed, clips without a pair, pictures that could not be read, and files
that a source passed over. The last three may be ordinary and many, so a summary may be asked to
name the first of each only; it always says how many there are.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic.geometry.overlap import Outcome

HISTOGRAM_BINS = 20
LINES = 5  # of a kind in a log; more are counted


@dataclass(frozen=True)
class WithoutPairs:
    """A clip that gave no pair: why, and what became of its candidates."""

    why: str
    outcomes: dict[str, int]


@dataclass
class MiningStats:
    """What became of the candidates of some clips."""

    clips: int = 0
    candidates: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    overlaps: Counter[int] = field(
        default_factory=Counter
    )  # of all candidates that have a homography, by bin
    damaged: dict[str, str] = field(
        default_factory=dict
    )  # clip -> why it could not be read (to its end)
    failed: dict[str, str] = field(default_factory=dict)  # clip -> the exception that ended it
    without_pairs: dict[str, WithoutPairs] = field(default_factory=dict)  # by clip
    unreadable_views: dict[tuple[str, str], str] = field(
        default_factory=dict
    )  # (clip, key of the view) -> why
    skipped: dict[str, str] = field(
        default_factory=dict
    )  # file or folder below the root -> why the source passed it over

    _before_clip: Counter[Outcome] = field(
        default_factory=Counter
    )  # outcomes before the clip that is being mined

    @property
    def kept(self) -> int:
        return self.outcomes[Outcome.KEPT]

    def add(self, other: MiningStats) -> None:
        """Count what another job found as well."""
        self.clips += other.clips
        self.candidates += other.candidates
        self.outcomes.update(other.outcomes)
        self.overlaps.update(other.overlaps)
        self.damaged.update(other.damaged)
        self.failed.update(other.failed)
        self.without_pairs.update(other.without_pairs)
        self.unreadable_views.update(other.unreadable_views)
        self.skipped.update(other.skipped)

    def begin_clip(self) -> None:
        """A clip begins; `end_clip` says whether it gave a pair."""
        self.clips += 1
        self._before_clip = self.outcomes.copy()

    def end_clip(self, clip: str, why: str | None = None) -> None:
        """The clip ends; one that gave no pair is named, with `why` or, without, that no candidate
        was kept."""
        counts = {
            outcome: count - self._before_clip[outcome] for outcome, count in self.outcomes.items()
        }
        if counts.get(Outcome.KEPT, 0):
            return
        outcomes = {outcome.value: count for outcome, count in counts.items() if count}
        tried = sum(outcomes.values())
        reason = f"none of {tried} candidates was kept" if tried else "no two views to compare"
        self.without_pairs[clip] = WithoutPairs(why or reason, outcomes)

    def add_damaged(self, clip: str, why: str) -> None:
        """Count and name a clip that could not be mined (to its end): one candidate, UNREADABLE."""
        self.candidates += 1
        self.outcomes[Outcome.UNREADABLE] += 1
        self.damaged[clip] = why

    def add_failed(self, clip: str, error: Exception, pairs: int) -> None:
        """Count and name a clip on which the program failed: one candidate, FAILED; `pairs` = those
        written so far, of all clips."""
        lost = self.kept - pairs  # counted as kept, but the failure came before it could be written
        self.outcomes[Outcome.KEPT] -= lost
        self.outcomes[Outcome.FAILED] += lost + 1
        self.candidates += 1
        self.failed[clip] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self.end_clip(clip, self.failed[clip])

    def add_unreadable_view(self, clip: str, key: str, why: str) -> None:
        """Name a picture that could not be read; its candidates are counted one by one."""
        self.unreadable_views[clip, key] = why

    def add_skipped(self, skipped: dict[str, str]) -> None:
        """Name files and folders that a source does not read."""
        self.skipped.update(skipped)

    def check(self, pairs: int) -> None:
        """Counts must add up before anything is published; AssertionError names the sums
        otherwise."""
        total = sum(self.outcomes.values())
        if total != self.candidates or self.kept != pairs:
            raise AssertionError(
                f"{self.candidates} candidates but {total} outcomes; {self.kept} kept but {pairs} "
                "pairs written"
            )

    def summary(self, most: int | None = None) -> dict[str, Any]:
        """Plain JSON; every outcome is listed, and every bin of the histogram, by its lower edge.

        Args:
            most: so many clips without pairs, pictures and skipped files are named; None = all.
                `totals` counts all.
        """
        views: dict[str, dict[str, str]] = {}
        for (clip, key), why in sorted(self.unreadable_views.items())[:most]:
            views.setdefault(clip, {})[key] = why
        without = {clip: dataclasses.asdict(reason) for clip, reason in self.without_pairs.items()}
        return {
            "clips": self.clips,
            "candidates": self.candidates,
            "kept": self.kept,
            "outcomes": {outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "overlap_histogram": {
                f"{number / HISTOGRAM_BINS:.2f}": self.overlaps[number]
                for number in range(HISTOGRAM_BINS)
            },
            "damaged": dict(sorted(self.damaged.items())),
            "failed": dict(sorted(self.failed.items())),
            "without_pairs": _at_most(most, without),
            "unreadable_views": views,
            "skipped": _at_most(most, self.skipped),
            "totals": {
                "without_pairs": len(self.without_pairs),
                "unreadable_views": len(self.unreadable_views),
                "skipped": len(self.skipped),
            },
        }

    def entry(self) -> dict[str, Any]:
        """Plain JSON, of statistics in the middle of a clip; see `from_entry`."""
        entered = {outcome.value: count for outcome, count in self._before_clip.items()}
        return {"summary": self.summary(), "entered": entered}

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> MiningStats:
        """The inverse of `entry`."""
        stats = cls.from_summary(entry["summary"])
        entered = entry["entered"].items()
        stats._before_clip = Counter({Outcome(name): count for name, count in entered})
        return stats

    @classmethod
    def from_summary(cls, summary: dict[str, Any]) -> MiningStats:
        """The inverse of `summary`; one that was written before things were named opens as well."""
        views = summary.get("unreadable_views", {})
        return cls(
            clips=summary["clips"],
            candidates=summary["candidates"],
            outcomes=Counter({Outcome(name): count for name, count in summary["outcomes"].items()}),
            overlaps=Counter(
                {
                    round(float(edge) * HISTOGRAM_BINS): count
                    for edge, count in summary["overlap_histogram"].items()
                }
            ),
            damaged=summary["damaged"],
            failed=summary["failed"],
            without_pairs={
                clip: WithoutPairs(**entry)
                for clip, entry in summary.get("without_pairs", {}).items()
            },
            unreadable_views={
                (clip, key): why for clip, entry in views.items() for key, why in entry.items()
            },
            skipped=dict(summary.get("skipped", {})),
        )


BY_CLIP = ("damaged", "failed", "without_pairs", "unreadable_views")  # what a summary holds by clip


def rename_clips(summary: dict[str, Any], names: dict[str, str], root: Path) -> dict[str, Any]:
    """A summary in which clips have the names that people know them by, and reasons do not repeat
    the name.

    Args:
        names: of clips, by their names in the source.
        root: of the source.
    """
    named: dict[str, Any] = {kind: {} for kind in BY_CLIP}
    for kind in BY_CLIP:
        for clip, why in summary[kind].items():
            named[kind][names[clip]] = _without(f"{root / clip}: ", why)
    return {**summary, **named}


def _without(prefix: str, reason: Any) -> Any:
    """A reason, or what holds reasons, without the prefix."""
    if isinstance(reason, dict):
        return {name: _without(prefix, value) for name, value in reason.items()}
    return reason.removeprefix(prefix) if isinstance(reason, str) else reason


def problem_entries(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything that a tally's summary names, one entry each: what it is, where it lies, why."""
    for kind in ("damaged", "failed"):
        for clip, why in summary[kind].items():
            yield {"kind": kind, "clip": clip, "why": why}
    for clip, reason in summary.get("without_pairs", {}).items():
        yield {"kind": "without_pairs", "clip": clip, **reason}
    for clip, views in summary.get("unreadable_views", {}).items():
        for key, why in views.items():
            yield {"kind": "unreadable_view", "clip": clip, "view": key, "why": why}
    for path, why in summary.get("skipped", {}).items():
        yield {"kind": "skipped", "path": path, "why": why}


def summary_lines(summary: dict[str, Any], where: Path, log: Path) -> Iterator[str]:
    """What a summary names, for the reader of a log: the first of each kind, and how many more
    there are.

    Args:
        where: the file in which all are named.
        log: the file that holds tracebacks.
    """
    broken = {**summary["damaged"], **summary["failed"]}
    views = summary.get("unreadable_views", {})
    without = summary.get("without_pairs", {})
    kinds: dict[str, dict[str, str]] = {
        "damaged": summary["damaged"],
        "failed": {
            clip: f"{why} (traceback in {log}; please report it)"
            for clip, why in summary["failed"].items()
        },
        "unreadable": {
            f"{clip}: {key}": why for clip, entry in views.items() for key, why in entry.items()
        },
        "no pairs": {
            clip: _counted(entry) for clip, entry in without.items() if clip not in broken
        },
        "skipped": summary.get("skipped", {}),
    }
    for words, named in kinds.items():
        yield from (f"{words}: {line}" for line in first_lines(named, where))


def first_lines(named: dict[str, str], where: Path | None) -> Iterator[str]:
    """Lines `name: why`: a few, the rarest reasons first, then how many more of each reason there
    are, and where to find them."""
    often = Counter(named.values())
    entries = sorted(named.items(), key=lambda entry: (often[entry[1]], entry))
    yield from (f"{name}: {why}" for name, why in entries[:LINES])
    more = Counter(why for _, why in entries[LINES:])
    if more:
        reasons = ", ".join(f"{count} {why}" for why, count in more.most_common(LINES))
        others = sum(more.values()) - sum(count for _, count in more.most_common(LINES))
        yield (
            f"{more.total()} more{f', all named in {where}' if where else ''}: "
            f"{reasons}{f', {others} others' if others else ''}"
        )


def note_lines(notes: dict[str, str]) -> Iterator[str]:
    """Clips that are read in the same way share a line: the note, the first of them by name, and
    how many there are."""
    by_note: dict[str, list[str]] = {}
    for clip, note in notes.items():
        by_note.setdefault(note, []).append(clip)
    for note, clips in list(by_note.items())[:LINES]:
        yield f"{clips[0]}{f' and {len(clips) - 1} more' if len(clips) > 1 else ''}: {note}"


def _counted(reason: dict[str, Any]) -> str:
    """For example `none of 3 candidates was kept (2 too_similar, 1 few_matches)`."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in reason["outcomes"].items())
    return f"{reason['why']} ({counts})" if counts else str(reason["why"])


def _at_most(most: int | None, named: dict[str, Any]) -> dict[str, Any]:
    """The first so many, by name."""
    return dict(sorted(named.items())[:most])
