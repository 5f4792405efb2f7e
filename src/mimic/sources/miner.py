"""The mining loop: candidate groups of a clip in, kept pairs and counted reasons out.

Every candidate pair ends in exactly one outcome. Of a group, the pair that overlaps least within the band is KEPT; the others
in the band are NOT_BEST. Retry pairs are candidates only when they are tried. A clip that cannot be read, or not to its end,
is one candidate more, UNREADABLE, and is named; pairs found before the damage stand. The same goes for a clip on which the program
fails (FAILED). Given pairs are KEPT unless they are UNREADABLE.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mimic.errors import BadInput
from mimic.geometry import features, overlap, resize
from mimic.geometry.overlap import Comparison, Outcome
from mimic.geometry.patches import patch_count
from mimic.sources.base import Group, Source, Unreadable, View
from mimic.sources.examples import Examples

HISTOGRAM_BINS = 20
Guard = Callable[[np.ndarray], np.ndarray | None]


@dataclass
class Tally:
    """What became of the candidates of some clips."""

    clips: int = 0
    candidates: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    overlaps: Counter[int] = field(default_factory=Counter)  # of all candidates that have a homography, by bin
    damaged: dict[str, str] = field(default_factory=dict)  # clip -> why it could not be read (to its end)
    failed: dict[str, str] = field(default_factory=dict)  # clip -> the exception that ended it

    @property
    def kept(self) -> int:
        return self.outcomes[Outcome.KEPT]

    def add(self, other: Tally) -> None:
        self.clips += other.clips
        self.candidates += other.candidates
        self.outcomes.update(other.outcomes)
        self.overlaps.update(other.overlaps)
        self.damaged.update(other.damaged)
        self.failed.update(other.failed)

    def lose(self, clip: str, why: str) -> None:
        """Count and name a clip that could not be mined (to its end): one candidate, UNREADABLE."""
        self.candidates += 1
        self.outcomes[Outcome.UNREADABLE] += 1
        self.damaged[clip] = why

    def fail(self, clip: str, error: Exception, pairs: int) -> None:
        """Count and name a clip on which the program failed: one candidate, FAILED; `pairs` = those written so far, of all clips."""
        lost = self.kept - pairs  # counted as kept, but the failure came before it could be written
        self.outcomes[Outcome.KEPT] -= lost
        self.outcomes[Outcome.FAILED] += lost + 1
        self.candidates += 1
        self.failed[clip] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def check(self, pairs: int) -> None:
        """Counts must add up before anything is published; AssertionError names the sums otherwise."""
        total = sum(self.outcomes.values())
        if total != self.candidates or self.kept != pairs:
            raise AssertionError(f"{self.candidates} candidates but {total} outcomes; {self.kept} kept but {pairs} pairs written")

    def summary(self) -> dict[str, Any]:
        """Plain JSON; every outcome is listed, and every bin of the histogram, by its lower edge."""
        return {
            "clips": self.clips,
            "candidates": self.candidates,
            "kept": self.kept,
            "outcomes": {outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "overlap_histogram": {f"{number / HISTOGRAM_BINS:.2f}": self.overlaps[number] for number in range(HISTOGRAM_BINS)},
            "damaged": dict(sorted(self.damaged.items())),
            "failed": dict(sorted(self.failed.items())),
        }

    @classmethod
    def from_summary(cls, summary: dict[str, Any]) -> Tally:
        """The inverse of `summary`."""
        return cls(
            clips=summary["clips"],
            candidates=summary["candidates"],
            outcomes=Counter({Outcome(name): count for name, count in summary["outcomes"].items()}),
            overlaps=Counter({round(float(edge) * HISTOGRAM_BINS): count for edge, count in summary["overlap_histogram"].items()}),
            damaged=summary["damaged"],
            failed=summary["failed"],
        )


@dataclass(frozen=True, eq=False)
class Seen:
    """A view at mining size, and its features, computed once; or why there are none."""

    key: str
    image: UInt8[np.ndarray, "size size 3"] | None
    features: features.Features | None
    rejected: Outcome | None  # UNREADABLE or BLURRED


@dataclass(frozen=True, eq=False)
class Pair:
    """A kept pair."""

    a: View
    b: View
    image_a: UInt8[np.ndarray, "size size 3"]
    image_b: UInt8[np.ndarray, "size size 3"]
    comparison: Comparison


class Eyes:
    """Views of a clip as the rule sees them; remembers as many as the largest group of the clip so far has."""

    def __init__(self, rule: overlap.Rule, sharpness_min: float) -> None:
        self._rule = rule
        self._sharpness_min = sharpness_min
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._capacity = 2

    def attend(self, group: Group) -> None:
        self._capacity = max(self._capacity, len(group.views))

    def see(self, view: View) -> Seen:
        if view.key not in self._seen:
            self._seen[view.key] = self._look(view)
            if len(self._seen) > self._capacity:
                self._seen.popitem(last=False)
        self._seen.move_to_end(view.key)
        return self._seen[view.key]

    def _look(self, view: View) -> Seen:
        try:
            full = view.read()
        except Unreadable:
            return Seen(view.key, None, None, Outcome.UNREADABLE)
        image = squared(full, self._rule)
        if self._sharpness_min > 0 and sharpness(full, self._rule.size_px) < self._sharpness_min:
            return Seen(view.key, image, None, Outcome.BLURRED)
        return Seen(view.key, image, features.extract(image), None)


def mine_clip(
    source: Source,
    clip: str,
    rule: overlap.Rule,
    sharpness_min: float,
    seed: int,
    tally: Tally,
    guard: Guard | None = None,
    examples: Examples | None = None,
) -> Iterator[Pair]:
    """Kept pairs of a clip, in order; the tally is complete when the iterator is exhausted.

    `guard` is given each picture of a kept pair, and returns the one to write, or None to withhold the pair. `examples` is offered
    every candidate that was judged.

    What is drawn depends on the seed and the clip's name alone, so order and number of workers cannot matter.
    """
    identity = [seed, zlib.crc32(clip.encode())]
    votes = np.random.default_rng([*identity, 1])  # not the source's generator: the walk must not depend on the rule
    eyes = Eyes(rule, sharpness_min)
    tally.clips += 1
    skip = 0
    try:
        for group in source.groups(clip, np.random.default_rng(identity)):
            if skip:
                skip -= 1
                continue
            if group.given is not None:
                pair, retried = _take(group, rule, votes, tally), False
            else:
                eyes.attend(group)
                pair, retried = _mine_group(group, eyes, rule, votes, tally, functools.partial(_show, examples, clip, group, eyes))
            if pair is not None and guard is not None:
                pair = _guarded(pair, guard, tally)
            if pair is not None:
                skip = group.skip_after_retry if retried else 0
                yield pair
    except Unreadable as unreadable:
        tally.lose(clip, str(unreadable))


def squared(image: UInt8[np.ndarray, "height width 3"], rule: overlap.Rule) -> UInt8[np.ndarray, "size size 3"]:
    """The square that is mined, shrunk as the rule's mode shrinks."""
    return resize.to_square(image, rule.size_px, rule.mode)


def sharpness(image: UInt8[np.ndarray, "height width 3"], size_px: int) -> float:
    """Variance of the Laplacian of the 8-bit grey square.

    Always of the square as `reference` shrinks: the published thresholds were set on such pictures, and averaging lowers the variance.
    """
    square = resize.to_square(image, size_px, "reference")
    return float(cv2.Laplacian(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


Show = Callable[[Sequence[tuple[int, int]], list[Comparison], list[Outcome]], None]


def _show(
    examples: Examples | None,
    clip: str,
    group: Group,
    eyes: Eyes,
    pairs: Sequence[tuple[int, int]],
    found: list[Comparison],
    outcomes: list[Outcome],
) -> None:
    """Offer candidates that were judged as examples of what became of them; their views are still at hand."""
    for pair, comparison, outcome in zip(pairs, found, outcomes, strict=True):
        a, b = (group.views[index] for index in pair)
        if examples is not None:
            examples.offer(outcome, clip, (a.key, b.key), (eyes.see(a).image, eyes.see(b).image), comparison)


def _mine_group(
    group: Group,
    eyes: Eyes,
    rule: overlap.Rule,
    votes: np.random.Generator,
    tally: Tally,
    show: Show,
) -> tuple[Pair | None, bool]:
    """The group's kept pair, and whether it took the retry to find it."""
    retried = False
    pairs = group.pairs
    found = [_judge(group, pair, eyes, rule, votes) for pair in pairs]
    show(pairs, found, _count(found, tally))
    if group.retry and overlap.all_too_similar(found, rule):
        retried = True
        pairs = group.retry
        found = [_judge(group, pair, eyes, rule, votes) for pair in pairs]
        show(pairs, found, _count(found, tally))
    best = overlap.choose(found)
    if best is None:
        return None, retried
    a, b = (group.views[index] for index in pairs[best])
    image_a, image_b = eyes.see(a).image, eyes.see(b).image
    assert image_a is not None and image_b is not None
    return Pair(a, b, image_a, image_b, found[best]), retried


def _guarded(pair: Pair, guard: Guard, tally: Tally) -> Pair | None:
    image_a, image_b = guard(pair.image_a), guard(pair.image_b)
    if image_a is None or image_b is None:
        tally.outcomes[Outcome.KEPT] -= 1
        tally.outcomes[Outcome.WITHHELD] += 1
        return None
    return dataclasses.replace(pair, image_a=image_a, image_b=image_b)


def _take(group: Group, rule: overlap.Rule, votes: np.random.Generator, tally: Tally) -> Pair | None:
    """A given pair, kept whatever the rule thinks of it; what came without correspondences is measured."""
    assert group.given is not None
    a, b = (group.views[index] for index in group.pairs[0])
    try:
        image_a, image_b = (squared(view.read(), rule) for view in (a, b))
        known = group.given()
    except Unreadable:
        _count([NOTHING], tally)
        return None
    patches = patch_count(rule.size_px, rule.patch_px)
    if known is None:
        found = overlap.compare(features.extract(image_a), features.extract(image_b), rule, votes)
        nothing = np.full(patches, -1, np.int16)
        found = dataclasses.replace(
            found, outcome=Outcome.KEPT, correspondences=nothing if found.b_from_a is None else found.correspondences
        )
    elif len(known) != patches:
        raise BadInput(f"{a.key}: its correspondences are of {len(known)} patches, mine.size_px and mine.patch_px make {patches}")
    else:
        share = np.count_nonzero(known >= 0) / patches  # one to one, so the same in both directions
        found = Comparison(Outcome.KEPT, share, share, share, 0, 0, None, known)
    _count([found], tally)
    return Pair(a, b, image_a, image_b, found)


def _judge(group: Group, pair: tuple[int, int], eyes: Eyes, rule: overlap.Rule, votes: np.random.Generator) -> Comparison:
    a, b = (eyes.see(group.views[index]) for index in pair)
    for rejected in (Outcome.UNREADABLE, Outcome.BLURRED):
        if rejected in (a.rejected, b.rejected):
            return dataclasses.replace(NOTHING, outcome=rejected)
    assert a.features is not None and b.features is not None
    return overlap.compare(a.features, b.features, rule, votes)


def _count(found: list[Comparison], tally: Tally) -> list[Outcome]:
    """Adds the candidates of a group to the tally; what became of each."""
    best = overlap.choose(found)
    outcomes = []
    for index, comparison in enumerate(found):
        lost = comparison.outcome is Outcome.KEPT and index != best
        outcome = Outcome.NOT_BEST if lost else comparison.outcome
        tally.candidates += 1
        tally.outcomes[outcome] += 1
        if comparison.b_from_a is not None:
            tally.overlaps[min(int(comparison.overlap * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += 1
        outcomes.append(outcome)
    return outcomes


NOTHING = Comparison(Outcome.UNREADABLE, 0.0, 0.0, 0.0, 0, 0, None, np.empty(0, np.int16))  # of views that were not compared
