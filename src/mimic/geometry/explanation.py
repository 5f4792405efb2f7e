"""Why a candidate pair was kept or rejected, in words with the numbers of the test that decided."""

from __future__ import annotations

import numpy as np

from mimic.geometry.overlap import Comparison, Decision, Outcome


def explain(comparison: Comparison) -> str:
    """The test that decided, in words with its numbers; for example
    `7 matches, fewer than matches_min 11`."""
    if comparison.decision is None:
        return "taken as it came" if comparison.outcome is Outcome.KEPT else "not compared"
    words = _decided(comparison, comparison.decision)
    if not len(comparison.aside) or comparison.outcome is Outcome.STATIC:  # which says so itself
        return words
    return f"{words}; {len(comparison.aside)} matches that do not move set aside"


def _decided(comparison: Comparison, decision: Decision) -> str:
    name, value, bound = decision
    match name:
        case "matches_min":
            which = "matches" if not len(comparison.aside) else "moving matches"
            return f"{value:.0f} {which}, fewer than matches_min {bound:g}"
        case "still_spread_min":
            count = comparison.matches + len(comparison.aside)
            still = f"{len(comparison.aside)} of {count} matches do not move"
            return (
                f"{still}; they reach {value:.3f} of what the views show, less than "
                f"still_spread_min {bound:g}"
            )
        case "inliers_min":
            return (
                f"{value:.0f} of {comparison.matches} matches agree on a homography, fewer than "
                f"inliers_min {bound:g}"
            )
        case "inlier_share_min":
            return (
                f"{comparison.inliers} of {comparison.matches} matches agree, a share of "
                f"{value:.3f}, less than inlier_share_min {bound:g}"
            )
        case "area_ratio_max" if np.isfinite(value):
            return (
                f"the homography changes the area {value:.1f} times, more than area_ratio_max "
                f"{bound:g}"
            )
        case "area_ratio_max":
            return (
                "no pair of cameras makes this homography: it mirrors the frame or sends a part of "
                "it through infinity"
            )
        case "overlap_min":
            return f"overlap {value:.3f}, not above overlap_min {bound:g}"
        case "overlap_max" if comparison.outcome is Outcome.TOO_SIMILAR:
            return f"overlap {value:.3f}, not below overlap_max {bound:g}"
        case "overlap_max":
            return f"overlap {value:.3f}, in the band below overlap_max {bound:g}"
        case _:
            return f"no homography fits {comparison.matches} matches"
