"""The fast geometry against the plain rule, in turns, on the same views: CPU seconds of both, and
whether all answers are the same.

The plain side runs in a process of its own with the C library's defaults, as the published scripts
do; ours keeps freed memory as a mining process does (mimic.mining.malloc).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np

from benchmarks import reference_rule
from mimic.geometry import features, homography, overlap, patches
from mimic.mining import malloc

T = TypeVar("T")
Image = np.ndarray
Run = Callable[..., Any]
TURNS = 4  # alternations between the two sides
# views per position (A), and at the two next positions together (B)
RING_A = 8
RING_B = 16


@dataclass
class Race:
    """CPU seconds of both sides over the same pairs, and whether all answers were the same."""

    plain_s: float
    plain_kept_s: float  # the plain rule in a process that keeps freed memory
    reference_s: float
    symmetric_s: float
    sift_s: float  # part of reference_s and of symmetric_s
    identical: bool
    pairs: int
    with_homography: int

    def summary(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "with_homography": round(self.with_homography / self.pairs, 3),
            "plain_ms_per_pair": round(1e3 * self.plain_s / self.pairs, 3),
            "reference_ms_per_pair": round(1e3 * self.reference_s / self.pairs, 3),
            "symmetric_ms_per_pair": round(1e3 * self.symmetric_s / self.pairs, 3),
            "speedup": round(self.plain_s / self.reference_s, 1),
            "speedup_symmetric": round(self.plain_s / self.symmetric_s, 1),
            "speedup_same_heap": round(self.plain_kept_s / self.reference_s, 1),
            "sift_share": round(self.sift_s / self.reference_s, 3),
            "identical": self.identical,
        }


@contextmanager
def plain_side() -> Iterator[Run]:
    """Runs and times functions in a process with the C library's defaults; this process keeps what
    it frees from here on."""
    malloc.keep_freed()
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield lambda work, *arguments: pool.submit(timed, work, *arguments).result()


def race_pair_stage(
    pairs: Sequence[tuple[Image, Image]], rule: overlap.Rule, plain_run: Run
) -> Race:
    """Match, homography and votes with features at hand, over the pairs that have a homography."""
    race = Race(0, 0, 0, 0, 0, True, 0, 0)
    published = replace(rule, mode="reference")
    for seed, (a, b) in enumerate(pairs):
        (plain, plain_s), _ = plain_run(judge_after_sift, a, b, rule, seed)
        if plain.overlap is None:
            continue
        _, plain_kept_s = judge_after_sift(a, b, rule, seed)
        cached = features.extract(a), features.extract(b)
        found, reference_s = timed(judge, *cached, published, seed, repeats=7)
        _, symmetric_s = timed(judge, *cached, rule, seed, repeats=7)
        race.plain_s += plain_s
        race.plain_kept_s += plain_kept_s
        race.reference_s += reference_s
        race.symmetric_s += symmetric_s
        race.identical &= same(plain, found)
        race.pairs += 1
        race.with_homography += 1
    return race


def judge_after_sift(
    a: Image, b: Image, rule: overlap.Rule, *identity: int
) -> tuple[reference_rule.Finding, float]:
    """The plain answer and its CPU seconds, SIFT not counted."""
    return timed(judge_plainly, reference_rule.detect(a), reference_rule.detect(b), rule, *identity)


def judge_plainly(a: Any, b: Any, rule: overlap.Rule, *identity: int) -> reference_rule.Finding:
    return reference_rule.compare_features(
        a, b, rule.size_px, rule.patch_px, np.random.default_rng(identity)
    )


def judge(
    a: features.Features, b: features.Features, rule: overlap.Rule, *identity: int
) -> overlap.Comparison:
    return overlap.compare(
        a, b, rule, np.random.default_rng(identity) if rule.mode == "reference" else None
    )


def race_ring(
    views_a: Sequence[Image], views_b: Sequence[Image], rule: overlap.Rule, plain_run: Run
) -> Race:
    """One try in a 3-D scene: every view at a position against every view at the next ones, SIFT
    included, best pair kept."""
    pairs = [(i, len(views_a) + j) for i in range(len(views_a)) for j in range(len(views_b))]
    return race_group([*views_a, *views_b], pairs, rule, plain_run)


def race_video(frames: Sequence[Image], rule: overlap.Rule, plain_run: Run) -> Race:
    """Consecutive frames, SIFT included, decoding excluded."""
    return race_group(frames, [(i, i + 1) for i in range(len(frames) - 1)], rule, plain_run)


def race_group(
    views: Sequence[Image], pairs: Sequence[tuple[int, int]], rule: overlap.Rule, plain_run: Run
) -> Race:
    def extract() -> list[features.Features]:
        return [features.extract(view) for view in views]

    def mine(cached: list[features.Features], rule: overlap.Rule) -> list[overlap.Comparison]:
        return [judge(cached[i], cached[j], rule, i, j) for i, j in pairs]

    plain: list[reference_rule.Finding] = []
    seconds = np.zeros(5)
    for turn in range(
        TURNS
    ):  # the machine may be busy for a while: both sides get their share of that
        findings, plain_s = plain_run(mine_plainly, views, pairs[turn::TURNS], rule)
        _, plain_kept_s = timed(mine_plainly, views, pairs[turn::TURNS], rule)
        cached, sift_s = timed(extract)
        found, reference_s = timed(mine, cached, replace(rule, mode="reference"))
        _, symmetric_s = timed(mine, cached, rule)
        plain += findings
        seconds += plain_s, plain_kept_s, sift_s / TURNS, reference_s / TURNS, symmetric_s / TURNS
    plain_s, plain_kept_s, sift_s, reference_s, symmetric_s = (float(value) for value in seconds)
    plain = [
        plain[index]
        for index in np.argsort(
            np.concatenate([np.arange(len(pairs))[turn::TURNS] for turn in range(TURNS)])
        )
    ]
    return Race(
        plain_s=plain_s,
        plain_kept_s=plain_kept_s,
        reference_s=sift_s + reference_s,
        symmetric_s=sift_s + symmetric_s,
        sift_s=sift_s,
        identical=all(same(left, right) for left, right in zip(plain, found, strict=True))
        and best(plain) == overlap.choose(found),
        pairs=len(pairs),
        with_homography=sum(finding.overlap is not None for finding in plain),
    )


def mine_plainly(
    views: Sequence[Image], pairs: Sequence[tuple[int, int]], rule: overlap.Rule
) -> list[reference_rule.Finding]:
    return [
        judge_plainly(reference_rule.detect(views[i]), reference_rule.detect(views[j]), rule, i, j)
        for i, j in pairs
    ]


def stages(pairs: Sequence[tuple[Image, Image]], rule: overlap.Rule) -> dict[str, float]:
    """Median milliseconds of each stage of one comparison; SIFT is per image."""
    rows = [row for a, b in pairs if (row := stages_of_pair(a, b, rule))]
    return {name: round(1e3 * float(np.median([row[name] for row in rows])), 3) for name in rows[0]}


def stages_of_pair(a: Image, b: Image, rule: overlap.Rule) -> dict[str, float] | None:
    """Seconds of each stage; None without a homography."""
    one, sift = timed(features.extract, a)
    two = features.extract(b)
    (from_a, from_b), match = timed(features.match, one, two, rule.ratio, repeats=5)
    (mutual_a, mutual_b), mutual = timed(features.match_mutual, one, two, rule.ratio, repeats=5)
    if min(len(from_a), len(mutual_a)) < rule.matches_min:
        return None
    points = one.points[from_a], two.points[from_b]
    (b_from_a, _), ransac = timed(homography.estimate_plain, *points, rule.ransac_px, repeats=5)
    if b_from_a is None:
        return None
    _, usac = timed(
        homography.estimate, one.points[mutual_a], two.points[mutual_b], rule.ransac_px, repeats=5
    )
    _, votes = timed(patches.count_votes, b_from_a, rule.size_px, rule.patch_px, repeats=5)
    _, drawn = timed(vote_drawn, b_from_a, rule, repeats=5)
    names = (
        "sift_per_image",
        "match",
        "match_mutual",
        "ransac",
        "usac",
        "votes_all_both_ways",
        "votes_drawn_both_ways",
    )
    return dict(zip(names, (sift, match, mutual, ransac, usac, 2 * votes, 2 * drawn), strict=True))


def vote_drawn(b_from_a: np.ndarray, rule: overlap.Rule) -> np.ndarray:
    pixels = patches.draw_pixels(
        rule.size_px, rule.patch_px, rule.votes_per_patch, np.random.default_rng(0)
    )
    return patches.vote_drawn(b_from_a, pixels, rule.size_px, rule.patch_px)


def timed(work: Callable[..., T], *arguments: Any, repeats: int = 1) -> tuple[T, float]:
    """The result and the median CPU seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = work(*arguments)
        seconds.append(time.process_time() - start)
    return result, float(np.median(seconds))


def same(plain: reference_rule.Finding, found: overlap.Comparison) -> bool:
    """Matches, inliers, overlap, patch map and decision, all equal."""
    correspondences = {a: b for a, b in enumerate(found.correspondences.tolist()) if b >= 0}
    return (
        (plain.matches, plain.inliers, plain.overlap or 0.0)
        == (found.matches, found.inliers, found.overlap)
        and plain.correspondences == correspondences
        and plain.accepted() == (found.outcome is overlap.Outcome.KEPT)
    )


def best(findings: Sequence[reference_rule.Finding]) -> int | None:
    accepted = [index for index, finding in enumerate(findings) if finding.accepted()]
    return min(accepted, key=lambda index: findings[index].overlap or 0.0, default=None)
