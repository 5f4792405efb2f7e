"""How far apart in time `mimic new` pairs the frames of your videos.

A short spacing gives more candidates of a film, a long one may give better ones; what counts is the
pairs that come out of a second of film. Frames of a few clips are compared at several distances,
and of each distance the share that is kept is taken at the lower end of what so few comparisons
allow (Wilson's bound), so that one lucky pair of two does not decide.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimic import config
from mimic.commands.workspace.data import Film, FolderMedia
from mimic.geometry import features, overlap
from mimic.geometry.overlap import Outcome
from mimic.mining import shard_job, view_cache
from mimic.sources import videos
from mimic.sources.base import Image, Unreadable

DISTANCES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # between the frames of a pair, that are tried
SAMPLE_CLIPS = 6
SAMPLE_S = 8.0  # of a clip, around its middle
BASES = 8  # frames of it that are compared with later ones
SLACK_S = 0.02  # frames of 30 a second do not lie on tenths
LATE = 1.5  # times a distance: a pair that is further apart says nothing of it
WILSON_Z = 1.645  # one-sided, 95 %

Counts = dict[float, Counter[Outcome]]  # by distance


@dataclass(frozen=True)
class Spacing:
    """Seconds between the frames of a pair, and why."""

    spacing_s: float
    kept: float  # share of the candidates
    why: str
    good: frozenset[Path]  # clips that gave a pair at it


def choose_spacing(media: FolderMedia, mine: config.Mine, fallback_s: float) -> Spacing:
    """The distance that gives most pairs a second of film, judged by sampled frames.

    Args:
        fallback_s: where no sampled pair is kept at any distance.
    """
    step = max(1, len(media.films) // SAMPLE_CLIPS)
    tried: Counts = {distance: Counter() for distance in DISTANCES_S}
    good: dict[float, set[Path]] = {distance: set() for distance in DISTANCES_S}
    for film in media.films[::step][:SAMPLE_CLIPS]:
        frames = list(_frames(film, mine))
        for distance, outcome in _compared(frames, mine):
            tried[distance][outcome] += 1
            if outcome is Outcome.KEPT:
                good[distance].add(film.path)
    best = best_distance(tried)
    if best is None:
        return Spacing(fallback_s, 0.0, _nothing_kept(tried), frozenset())
    share = tried[best][Outcome.KEPT] / tried[best].total()
    return Spacing(best, share, _why(tried, best), frozenset(good[best]))


def best_distance(tried: Counts) -> float | None:
    """The distance with most pairs a second to expect, the shortest of equals; None where nothing
    was kept."""
    rates = {distance: pairs_a_second(counts, distance) for distance, counts in tried.items()}
    best = max(rates, key=lambda distance: (rates[distance], -distance))
    return best if rates[best] else None


def pairs_a_second(counts: Counter[Outcome], distance_s: float) -> float:
    """Pairs that a second of film gives at least, if every frame is paired with the next."""
    return lower_share(counts[Outcome.KEPT], counts.total()) / distance_s


def lower_share(kept: int, count: int, z: float = WILSON_Z) -> float:
    """The lower bound of a share, after Wilson (1927); 0 of nothing."""
    if not kept:
        return 0.0
    share = kept / count
    middle = share + z**2 / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (middle - spread) / (1 + z**2 / count)


def _why(tried: Counts, best: float) -> str:
    rate = pairs_a_second(tried[best], best)
    others = ", ".join(
        f"{distance:g} s: {_counted(counts)}"
        for distance, counts in tried.items()
        if distance != best and counts.total()
    )
    return (
        f"{_counted(tried[best])} sampled frame pairs overlap as wanted, most pairs a second of "
        f"film: {rate:.2g} or more ({others})"
    )


def _counted(counts: Counter[Outcome]) -> str:
    return f"{counts[Outcome.KEPT]} of {counts.total()}"


def _nothing_kept(tried: Counts) -> str:
    outcomes: Counter[Outcome] = sum(tried.values(), Counter())
    if not outcomes:
        return "the clips are too short to try other distances"
    outcome, count = outcomes.most_common(1)[0]
    return (
        f"no sampled frame pair overlaps as wanted at any distance, most ({count} of "
        f"{outcomes.total()}) are {outcome.value}; look at the page before you train"
    )


def _frames(film: Film, mine: config.Mine) -> Iterator[tuple[float, Image]]:
    """Seconds and squares of frames a tenth of a second apart, or as far as they are, from the
    middle of a clip."""
    start = 0.0
    if film.seconds is not None:
        start = max(0.0, (film.seconds - SAMPLE_S) / 2)
    rule = shard_job.rule_of(mine)
    try:
        for time_s, image in videos.sample(film.path, DISTANCES_S[0], start, start + SAMPLE_S):
            yield time_s, view_cache.squared(image, rule)
    except Unreadable:  # its end is damaged: mining will say so, the frames before serve
        return


def _compared(
    frames: list[tuple[float, Image]], mine: config.Mine
) -> Iterator[tuple[float, Outcome]]:
    rule = shard_job.rule_of(mine)
    known: dict[int, features.Features] = {}

    def of(index: int) -> features.Features:
        if index not in known:
            known[index] = features.extract(frames[index][1])
        return known[index]

    times = [time_s for time_s, _ in frames]
    for base in range(0, len(frames), max(1, len(frames) // BASES)):
        for distance, other in partners(times, base):
            rng = np.random.default_rng(mine.seed)
            yield distance, overlap.compare(of(base), of(other), rule, rng).outcome


def partners(times: Sequence[float], base: int) -> Iterator[tuple[float, int]]:
    """The distances that a film has, each with the frame that mining would pair with this one: the
    first that is as late. A film of few frames a second has none of the short ones."""
    for distance in DISTANCES_S:
        other = bisect.bisect_left(times, times[base] + distance - SLACK_S)
        if other < len(times) and times[other] - times[base] <= LATE * distance:
            yield distance, other
