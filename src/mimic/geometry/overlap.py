"""The mining rule: how much two views overlap, and whether they make a pair (docs/mining.md).

Two modes. `reference` is the published rule, quirks included. `symmetric` decides by all pixels,
gives the transposed answer for swapped views, refuses homographies that no camera makes, and lets
nothing that is burned into the frame decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int16

from mimic.geometry import homography, patches, stillness
from mimic.geometry.features import Features, match, match_mutual, precedes


class Outcome(StrEnum):
    """What became of a candidate pair; every candidate has exactly one."""

    KEPT = "kept"
    # in the band, but another pair of its group overlaps less; given by the miner, never by
    # `compare`
    NOT_BEST = "not_best"
    BLURRED = "blurred"  # a view is below the sharpness gate
    FEW_MATCHES = "few_matches"
    # what was found again stands still, but is not the whole scene: a caption, a border
    STATIC = "static"
    DEGENERATE = "degenerate"  # no homography, or one that no camera makes
    TOO_DIFFERENT = "too_different"
    TOO_SIMILAR = "too_similar"
    UNREADABLE = "unreadable"
    # the program failed on the clip: an error of the code or of this machine; given by the miner
    FAILED = "failed"
    WITHHELD = (
        "withheld"  # would be kept, but a picture of it may not be written; given by the miner
    )


@dataclass(frozen=True)
class Rule:
    """The numbers of the rule; params.yaml `mine` holds them."""

    mode: Literal["symmetric", "reference"]
    size_px: int  # both views are square, of this size
    patch_px: int
    ratio: float
    matches_min: int
    ransac_px: float
    votes_per_patch: int  # reference mode only
    overlap_min: float  # the band is open: an overlap equal to a bound is outside
    overlap_max: float
    inliers_min: int  # symmetric mode only, and all below
    inlier_share_min: float
    area_ratio_max: float
    still_px: float  # of the square: a match that moves less stands still
    still_spread_min: float  # share of the patches with key points that a still scene reaches


class Decision(NamedTuple):
    """The test that decided: what was measured, and the bound (of that name in the rule) that it
    was held against."""

    # a field of Rule; "" where there is no bound: no homography was found, or none that cameras
    # make
    bound_name: str
    # matches, inliers, a share, a ratio of areas (inf: singular, mirrored or through infinity), or
    # the overlap
    value: float
    bound: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything known about two views. Without a (plausible) homography: overlaps 0, no
    correspondences, b_from_a None."""

    outcome: Outcome
    overlap: float  # the smaller of the two directions
    overlap_a_to_b: float  # distinct patches of b that patches of a fall into, as a share of all
    overlap_b_to_a: float
    matches: int  # without those that were set aside
    inliers: int
    b_from_a: Float64[np.ndarray, "3 3"] | None
    correspondences: Int16[
        np.ndarray, " n"
    ]  # patch of b for each patch of a, one to one, -1 = none
    decision: Decision | None = None  # None: nothing was compared, or the pair was taken as it came
    # x, y in either view of the matches that were set aside because they do not move while the rest
    # does
    aside: Float64[np.ndarray, "k 2"] = field(default_factory=lambda: np.empty((0, 2)))

    def swapped(self) -> Comparison:
        """The same finding with the views exchanged."""
        a_from_b = None if self.b_from_a is None else homography.invert(self.b_from_a)
        return dataclasses.replace(
            self,
            overlap_a_to_b=self.overlap_b_to_a,
            overlap_b_to_a=self.overlap_a_to_b,
            b_from_a=None if a_from_b is None else a_from_b / a_from_b[2, 2],
            correspondences=patches.invert_map(self.correspondences),
        )


def compare(a: Features, b: Features, rule: Rule, rng: np.random.Generator | None) -> Comparison:
    """Judge two views from their features.

    Reference mode draws its pixels from `rng`; symmetric mode uses none.
    """
    match rule.mode:
        case "reference":
            if rng is None:
                raise ValueError("reference mode draws pixels: it needs a random generator")
            return _compare_reference(a, b, rule, rng)
        case "symmetric":
            # Matching and RANSAC have a direction, so work in an order that depends on the contents
            # alone.
            return (
                _compare_symmetric(b, a, rule).swapped()
                if precedes(b, a)
                else _compare_symmetric(a, b, rule)
            )


def choose(comparisons: Sequence[Comparison]) -> int | None:
    """Index of the pair to keep of a group: the lowest overlap in the band, the first among equals;
    None where none is."""
    kept = [
        index for index, comparison in enumerate(comparisons) if comparison.outcome is Outcome.KEPT
    ]
    return min(kept, key=lambda index: comparisons[index].overlap, default=None)


def all_too_similar(comparisons: Sequence[Comparison], rule: Rule) -> bool:
    """Whether every candidate of a group overlaps so much that one further apart is worth a try.

    Exactly `overlap_max` is outside the band; the published scripts nevertheless try again only
    beyond it, so `reference` does too.
    """
    beyond = [comparison for comparison in comparisons if comparison.outcome is Outcome.TOO_SIMILAR]
    if rule.mode == "reference":
        beyond = [comparison for comparison in beyond if comparison.overlap > rule.overlap_max]
    return len(beyond) == len(comparisons)


def _compare_reference(
    a: Features, b: Features, rule: Rule, rng: np.random.Generator
) -> Comparison:
    index_a, index_b = match(a, b, rule.ratio)
    if len(index_a) < rule.matches_min:
        return _rejected(
            Outcome.FEW_MATCHES,
            len(index_a),
            0,
            rule,
            Decision("matches_min", len(index_a), rule.matches_min),
        )
    b_from_a, inlier = homography.estimate_plain(
        a.points[index_a], b.points[index_b], rule.ransac_px
    )
    inliers = int(inlier.sum())
    a_from_b = None if b_from_a is None else homography.invert(b_from_a)
    if b_from_a is None or a_from_b is None:
        return _rejected(Outcome.DEGENERATE, len(index_a), inliers, rule, NO_HOMOGRAPHY)
    pixels_a = patches.draw_pixels(rule.size_px, rule.patch_px, rule.votes_per_patch, rng)
    pixels_b = patches.draw_pixels(rule.size_px, rule.patch_px, rule.votes_per_patch, rng)
    b_of_a = patches.keep_first(patches.vote_drawn(b_from_a, pixels_a, rule.size_px, rule.patch_px))
    a_of_b = patches.keep_first(patches.vote_drawn(a_from_b, pixels_b, rule.size_px, rule.patch_px))
    return _measured(b_of_a, a_of_b, len(index_a), inliers, b_from_a, rule)


def _compare_symmetric(a: Features, b: Features, rule: Rule) -> Comparison:
    index_a, index_b = match_mutual(a, b, rule.ratio)
    if len(index_a) < rule.matches_min:
        return _rejected(
            Outcome.FEW_MATCHES,
            len(index_a),
            0,
            rule,
            Decision("matches_min", len(index_a), rule.matches_min),
        )
    points_a = a.points[index_a]
    points_b = b.points[index_b]
    still = stillness.still(points_a, points_b, rule.still_px)
    if not still.any():
        return _fitted(points_a, points_b, rule)
    aside = stillness.middle(points_a[still], points_b[still])
    side = rule.size_px // rule.patch_px
    moving, standing = (
        stillness.spread(a, b, points_a[which], points_b[which], side, rule.patch_px)
        for which in (~still, still)
    )
    if moving > standing:
        comparison = _moving(points_a[~still], points_b[~still], rule)
        return dataclasses.replace(comparison, aside=aside)
    if standing >= rule.still_spread_min:
        return _standing(len(still), len(aside), rule)
    decision = Decision("still_spread_min", standing, rule.still_spread_min)
    comparison = _rejected(Outcome.STATIC, len(still) - len(aside), 0, rule, decision)
    return dataclasses.replace(comparison, aside=aside)


def _moving(
    points_a: Float32[np.ndarray, "m 2"], points_b: Float32[np.ndarray, "m 2"], rule: Rule
) -> Comparison:
    """By the matches that move, where others were set aside."""
    if len(points_a) < rule.matches_min:
        decision = Decision("matches_min", len(points_a), rule.matches_min)
        return _rejected(Outcome.FEW_MATCHES, len(points_a), 0, rule, decision)
    return _fitted(points_a, points_b, rule)


def _standing(matches: int, still: int, rule: Rule) -> Comparison:
    """By the matches that do not move, where the scene stands still as a whole: what moves in it is
    of no account."""
    if still < rule.inliers_min:
        decision = Decision("inliers_min", still, rule.inliers_min)
        return _rejected(Outcome.DEGENERATE, matches, still, rule, decision)
    same = np.arange(patches.patch_count(rule.size_px, rule.patch_px), dtype=np.int16)
    return _measured(same, same, matches, still, np.eye(3), rule)


def _fitted(
    points_a: Float32[np.ndarray, "m 2"], points_b: Float32[np.ndarray, "m 2"], rule: Rule
) -> Comparison:
    """By the homography that most of the matches agree on."""
    b_from_a, inlier = homography.estimate(points_a, points_b, rule.ransac_px)
    inliers = int(inlier.sum())
    fault = _fault(b_from_a, inliers, len(points_a), rule)
    if b_from_a is None or fault is not None:
        return _rejected(Outcome.DEGENERATE, len(points_a), inliers, rule, fault)
    a_from_b = np.linalg.inv(b_from_a)
    # Of several sources of one target the one that fills it best is its counterpart; the count,
    # hence the overlap, is the rule's.
    b_of_a = patches.keep_most_voted(*patches.count_votes(b_from_a, rule.size_px, rule.patch_px))
    a_of_b = patches.keep_most_voted(*patches.count_votes(a_from_b, rule.size_px, rule.patch_px))
    return _measured(b_of_a, a_of_b, len(points_a), inliers, b_from_a, rule)


def _fault(
    b_from_a: Float64[np.ndarray, "3 3"] | None, inliers: int, matches: int, rule: Rule
) -> Decision | None:
    """The first test of symmetric mode that a homography fails; None where it passes all."""
    if b_from_a is None:
        return NO_HOMOGRAPHY
    if inliers < rule.inliers_min:
        return Decision("inliers_min", inliers, rule.inliers_min)
    if inliers < rule.inlier_share_min * matches:
        return Decision("inlier_share_min", inliers / matches, rule.inlier_share_min)
    ratio = homography.area_ratio(b_from_a, rule.size_px)
    return (
        None
        if ratio <= rule.area_ratio_max
        else Decision("area_ratio_max", ratio, rule.area_ratio_max)
    )


def _measured(
    b_of_a: Int16[np.ndarray, " n"],
    a_of_b: Int16[np.ndarray, " n"],
    matches: int,
    inliers: int,
    b_from_a: Float64[np.ndarray, "3 3"],
    rule: Rule,
) -> Comparison:
    """Overlap and correspondences from the two maps, each with distinct targets: the smaller
    counts; of equals the second."""
    count_b = int((b_of_a != patches.NONE).sum())
    count_a = int((a_of_b != patches.NONE).sum())
    overlap = min(count_b, count_a) / len(b_of_a)
    decision = Decision("overlap_max", overlap, rule.overlap_max)
    if overlap <= rule.overlap_min:
        outcome = Outcome.TOO_DIFFERENT
        decision = Decision("overlap_min", overlap, rule.overlap_min)
    elif overlap >= rule.overlap_max:
        outcome = Outcome.TOO_SIMILAR
    else:
        outcome = Outcome.KEPT
    return Comparison(
        outcome=outcome,
        overlap=overlap,
        overlap_a_to_b=count_b / len(b_of_a),
        overlap_b_to_a=count_a / len(b_of_a),
        matches=matches,
        inliers=inliers,
        b_from_a=b_from_a,
        correspondences=b_of_a if count_b < count_a else patches.invert_map(a_of_b),
        decision=decision,
    )


def _rejected(
    outcome: Outcome, matches: int, inliers: int, rule: Rule, decision: Decision | None
) -> Comparison:
    none = np.full(patches.patch_count(rule.size_px, rule.patch_px), patches.NONE, np.int16)
    return Comparison(outcome, 0.0, 0.0, 0.0, matches, inliers, None, none, decision)


NO_HOMOGRAPHY = Decision("", 0.0, 0.0)
