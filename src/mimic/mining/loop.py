"""The mining loop: candidate groups of a clip in, kept pairs and counted reasons out.

Every candidate pair ends in exactly one outcome. Of a group, the pair that overlaps least within
the band is KEPT; the others in the band are NOT_BEST. Retry pairs are candidates only when they are
tried. A clip that cannot be read, or not to its end, is one candidate more, UNREADABLE, and is
named; pairs found before the damage stand. The same goes for a clip on which the program fails
(FAILED). Given pairs are KEPT unless they are UNREADABLE. A file that is gone, or may not be
opened, is damage like any other. Every picture that could not be read, and every clip that gave no
pair, is named in the statistics with the reason.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import UInt8

from mimic.errors import BadInput
from mimic.geometry import features, overlap
from mimic.geometry.overlap import Comparison, Outcome
from mimic.geometry.patches import patch_count
from mimic.mining.reject_samples import RejectSamples
from mimic.mining.stats import HISTOGRAM_BINS, MiningStats
from mimic.mining.view_cache import ViewCache, read, squared
from mimic.sources.base import (
    Correspondences,
    Group,
    Image,
    NoCandidates,
    SeekableSource,
    Source,
    Unreadable,
    View,
    damage,
)
from mimic.sources.bookmark import Bookmark

Guard = Callable[[np.ndarray], np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Pair:
    """A kept pair."""

    a: View
    b: View
    image_a: UInt8[np.ndarray, "size size 3"]
    image_b: UInt8[np.ndarray, "size size 3"]
    comparison: Comparison


def mine_clip(
    source: Source,
    clip: str,
    rule: overlap.Rule,
    sharpness_min: float,
    seed: int,
    stats: MiningStats,
    guard: Guard | None = None,
    examples: RejectSamples | None = None,
) -> Iterator[Pair]:
    """Kept pairs of a clip, in order; `stats` is complete when the iterator is exhausted.

    `guard` is given each picture of a kept pair, and returns the one to write, or None to withhold
    the pair. `examples` is offered every candidate that was judged.

    What is drawn depends on the seed and the clip's name alone, so order and number of workers
    cannot matter.
    """
    walk = walk_clip(source, clip, rule, sharpness_min, seed, stats, guard, examples, Bookmark())
    return (pair for pair in walk if pair is not None)


def walk_clip(
    source: Source,
    clip: str,
    rule: overlap.Rule,
    sharpness_min: float,
    seed: int,
    stats: MiningStats,
    guard: Guard | None,
    examples: RejectSamples | None,
    bookmark: Bookmark,
) -> Iterator[Pair | None]:
    """As `mine_clip`, with None for a group of which no pair is kept.

    It goes on from the bookmark, which whoever ends it finds where it is, and `stats` must then be
    the one of that time.
    """
    identity = [seed, zlib.crc32(clip.encode())]
    if bookmark.votes is None:
        # Not the source's generator: the walk must not depend on the rule.
        bookmark.votes = np.random.default_rng([*identity, 1])
    votes = bookmark.votes
    views = ViewCache(rule, sharpness_min)
    views.unreadable = bookmark.unreadable
    why = None
    if bookmark.groups == 0:
        stats.begin_clip()
    try:
        for group in _groups(source, clip, np.random.default_rng(identity), bookmark):
            bookmark.turn(group)
            if bookmark.skip:
                bookmark.skip -= 1
                continue
            show = functools.partial(_show, examples, clip, group, views)
            pair, retried = _pair_of(group, views, rule, votes, stats, show)
            if pair is not None and guard is not None:
                pair = _guarded(pair, guard, stats)
            if pair is not None:
                bookmark.skip = group.skip_after_retry if retried else 0
                bookmark.pairs += 1
            yield pair
    except Unreadable as unreadable:
        why = str(unreadable)
        stats.add_damaged(clip, why)
    except NoCandidates as nothing:
        why = str(nothing)
    finally:  # a failure of the program ends the clip as well
        for key, reason in views.unreadable.items():
            stats.add_unreadable_view(clip, key, reason)
    stats.end_clip(clip, why)


class ClipFailed(Exception):
    """The program failed while it read or judged a clip; no fault of what writes the shard."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def surviving(walk: Iterator[Pair | None]) -> Iterator[Pair | None]:
    """What is walked; an exception on the way ends one clip, unless it is about the parameters or
    this machine's setup."""
    while True:
        try:
            pair = next(walk)
        except StopIteration:
            return
        except BadInput:
            raise
        except Exception as error:
            raise ClipFailed(error) from error
        yield pair


def _groups(
    source: Source,
    clip: str,
    rng: np.random.Generator,
    bookmark: Bookmark,
) -> Iterator[Group]:
    """The source's groups behind the bookmark; a file that vanishes or may not be opened is damage
    of the clip."""
    try:
        if bookmark.locate is not None:
            yield from cast(SeekableSource, source).groups(clip, rng, bookmark.locate())
        else:
            yield from itertools.islice(source.groups(clip, rng), bookmark.groups, None)
    except OSError as error:
        raise Unreadable(damage(error)) from None


Show = Callable[[Sequence[tuple[int, int]], list[Comparison], list[Outcome]], None]


def _show(
    examples: RejectSamples | None,
    clip: str,
    group: Group,
    views: ViewCache,
    pairs: Sequence[tuple[int, int]],
    comparisons: list[Comparison],
    outcomes: list[Outcome],
) -> None:
    """Offer candidates that were judged as examples of what became of them; their views are still
    at hand."""
    for pair, comparison, outcome in zip(pairs, comparisons, outcomes, strict=True):
        a, b = (group.views[index] for index in pair)
        if examples is not None:
            examples.add(
                outcome, clip, (a.key, b.key), (views.get(a).image, views.get(b).image), comparison
            )


def _pair_of(
    group: Group,
    views: ViewCache,
    rule: overlap.Rule,
    votes: np.random.Generator,
    stats: MiningStats,
    show: Show,
) -> tuple[Pair | None, bool]:
    """The group's pair, given or mined, and whether it took the retry to find it."""
    if group.precomputed is not None:
        return _take(group, rule, votes, stats, views), False
    views.reserve(group)
    return _mine_group(group, views, rule, votes, stats, show)


def _mine_group(
    group: Group,
    views: ViewCache,
    rule: overlap.Rule,
    votes: np.random.Generator,
    stats: MiningStats,
    show: Show,
) -> tuple[Pair | None, bool]:
    """The group's kept pair, and whether it took the retry to find it."""
    retried = False
    pairs = group.pairs
    comparisons = [_judge(group, pair, views, rule, votes) for pair in pairs]
    show(pairs, comparisons, _count(comparisons, stats))
    if group.retry and overlap.all_too_similar(comparisons, rule):
        retried = True
        pairs = group.retry
        comparisons = [_judge(group, pair, views, rule, votes) for pair in pairs]
        show(pairs, comparisons, _count(comparisons, stats))
    best = overlap.choose(comparisons)
    if best is None:
        return None, retried
    a, b = (group.views[index] for index in pairs[best])
    image_a = views.get(a).image
    image_b = views.get(b).image
    assert image_a is not None
    assert image_b is not None
    return Pair(a, b, image_a, image_b, comparisons[best]), retried


def _guarded(pair: Pair, guard: Guard, stats: MiningStats) -> Pair | None:
    image_a = guard(pair.image_a)
    image_b = guard(pair.image_b)
    if image_a is None or image_b is None:
        stats.outcomes[Outcome.KEPT] -= 1
        stats.outcomes[Outcome.WITHHELD] += 1
        return None
    return dataclasses.replace(pair, image_a=image_a, image_b=image_b)


def _take(
    group: Group,
    rule: overlap.Rule,
    votes: np.random.Generator,
    stats: MiningStats,
    views: ViewCache,
) -> Pair | None:
    """A given pair, kept whatever the rule thinks of it, unless a view of it is blurred."""
    a, b = (group.views[index] for index in group.pairs[0])
    unreadable = views.unreadable
    image_a = read(a, unreadable)
    image_b = read(b, unreadable)
    try:
        assert group.precomputed is not None
        known = group.precomputed()
    except (Unreadable, OSError) as error:
        unreadable[f"{a.key} and {b.key}"] = damage(error)
        image_a = None
    if image_a is None or image_b is None:
        _count([NOTHING], stats)
        return None
    if views.is_blurred(image_a) or views.is_blurred(image_b):
        _count([dataclasses.replace(NOTHING, outcome=Outcome.BLURRED)], stats)
        return None
    image_a = squared(image_a, rule)
    image_b = squared(image_b, rule)
    comparison = _as_given(image_a, image_b, known, a.key, rule, votes)
    _count([comparison], stats)
    return Pair(a, b, image_a, image_b, comparison)


def _as_given(
    image_a: Image,
    image_b: Image,
    known: Correspondences | None,
    key: str,
    rule: overlap.Rule,
    votes: np.random.Generator,
) -> Comparison:
    """What is known of a pair that others chose; what came without correspondences is measured."""
    patches = patch_count(rule.size_px, rule.patch_px)
    if known is None:
        comparison = overlap.compare(
            features.extract(image_a), features.extract(image_b), rule, votes
        )
        nothing = np.full(patches, -1, np.int16)
        correspondences = nothing if comparison.b_from_a is None else comparison.correspondences
        return dataclasses.replace(
            comparison, outcome=Outcome.KEPT, correspondences=correspondences
        )
    if len(known) != patches:
        raise BadInput(
            f"{key}: its correspondences are of {len(known)} patches, mine.size_px and "
            f"mine.patch_px make {patches}"
        )
    share = np.count_nonzero(known >= 0) / patches  # one to one, so the same in both directions
    return Comparison(Outcome.KEPT, share, share, share, 0, 0, None, known)


def _judge(
    group: Group,
    pair: tuple[int, int],
    views: ViewCache,
    rule: overlap.Rule,
    votes: np.random.Generator,
) -> Comparison:
    a, b = (views.get(group.views[index]) for index in pair)
    for rejected in (Outcome.UNREADABLE, Outcome.BLURRED):
        if rejected in (a.rejected, b.rejected):
            return dataclasses.replace(NOTHING, outcome=rejected)
    assert a.features is not None
    assert b.features is not None
    return overlap.compare(a.features, b.features, rule, votes)


def _count(comparisons: list[Comparison], stats: MiningStats) -> list[Outcome]:
    """Adds the candidates of a group to the statistics; what became of each."""
    best = overlap.choose(comparisons)
    outcomes = []
    for index, comparison in enumerate(comparisons):
        lost = comparison.outcome is Outcome.KEPT and index != best
        outcome = Outcome.NOT_BEST if lost else comparison.outcome
        stats.candidates += 1
        stats.outcomes[outcome] += 1
        if comparison.b_from_a is not None:
            stats.overlaps[min(int(comparison.overlap * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += 1
        outcomes.append(outcome)
    return outcomes


NOTHING = Comparison(
    Outcome.UNREADABLE, 0.0, 0.0, 0.0, 0, 0, None, np.empty(0, np.int16)
)  # of views that were not compared
