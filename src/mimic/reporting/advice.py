"""What to change, read from the counts of `mimic pairs`: plain rules, each with the numbers it went
by and, where one does it, the option of the command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mimic.geometry.overlap import Outcome

MOST = 0.4  # share of the candidates from which an outcome is worth a change
SOME = 0.1  # of those that should hardly occur
ONE_CLIP = 0.5  # share of all pairs that come from one clip
CROP = 0.2  # share of the height that MIMIC cuts off for captions


@dataclass(frozen=True)
class Change:
    """What was seen, what to do about it, and the command that does; None where none does."""

    seen: str
    do: str
    command: str | None = None


def findings(
    summary: dict[str, Any], settings: dict[str, Any], pairs: Sequence[int], alike: tuple[int, int]
) -> list[Change]:
    """What the counts suggest, the most frequent reason first.

    Args:
        summary: of `_pairs.json`.
        settings: how it was mined: `sources` with their numbers.
        pairs: of each clip that gave some.
        alike: pairs that look like one of another clip, and how many were compared.
    """
    shares = _shares(summary)
    changes = [
        _with_command(finding, summary.get("paths", []), summary.get("options", {}))
        for outcome, share in sorted(shares.items(), key=lambda one: -one[1])
        for finding in _of_outcome(outcome, share, _spacing(settings))
    ]
    changes += _of_clips(summary, pairs)
    many, compared = alike
    if many > SOME * compared:
        changes.append(
            Change(
                f"{many:,} of {compared:,} pairs look like a pair of another clip",
                "near_duplicate_bits of a dataset leaves all but one of each out; copies of a "
                "video are best left out here",
            )
        )
    return changes


def _shares(summary: dict[str, Any]) -> dict[str, float]:
    total = summary["candidates"]
    return {name: count / total for name, count in summary["outcomes"].items() if count and total}


def _of_outcome(name: str, share: float, spacing: float | None) -> Iterator[Change]:
    seen = f"{100 * share:.0f} % of the candidates are {name.replace('_', ' ')}"
    least = {Outcome.STATIC: SOME, Outcome.UNREADABLE: SOME, Outcome.FAILED: 0.0}
    if share < least.get(Outcome(name), MOST):
        return
    match Outcome(name):
        case Outcome.TOO_SIMILAR if spacing:
            option = f"--spacing-s {2 * spacing:g}"
            yield Change(
                seen, "the camera moves little between frames: take frames farther apart", option
            )
        case Outcome.TOO_SIMILAR:
            yield Change(
                seen, "the pictures hardly differ: give every second one, or pictures farther apart"
            )
        case Outcome.TOO_DIFFERENT | Outcome.FEW_MATCHES if spacing:
            option = f"--spacing-s {spacing / 2:g}"
            yield Change(
                seen, "the camera moves much between frames: take frames closer together", option
            )
        case Outcome.TOO_DIFFERENT | Outcome.FEW_MATCHES:
            yield Change(
                seen,
                "the pictures show different places, or little to recognise: give each place "
                "a folder of its own",
            )
        case Outcome.STATIC:
            still = "a caption, a border or a dashboard stands still in front of the scene"
            option = f"--crop-bottom {CROP:g}"
            yield Change(seen, f"{still}: cut it off", option if spacing else None)
        case Outcome.BLURRED:
            yield Change(
                seen, "move the camera more slowly or in more light, or lower sharpness_min"
            )
        case Outcome.DEGENERATE:
            yield Change(
                seen,
                "no camera motion explains the matches: much that moves by itself, or one "
                "pattern again and again",
            )
        case Outcome.UNREADABLE:
            yield Change(seen, "copy the files that are named below once more, or convert them")
        case Outcome.FAILED:
            yield Change(seen, "the program failed; _log.jsonl holds the traceback: report it")
        case Outcome.WITHHELD:
            yield Change(seen, "the filter of mine.privacy withholds them; look at its threshold")


def _of_clips(summary: dict[str, Any], pairs: Sequence[int]) -> Iterator[Change]:
    total = sum(pairs)
    without = len(summary.get("without_pairs", {}))
    if not total:
        yield Change("no pair was kept", "the reasons below say why; nothing can be trained yet")
    elif len(pairs) > 1 and max(pairs) > ONE_CLIP * total:
        yield Change(
            f"one clip gives {max(pairs):,} of {total:,} pairs",
            "an encoder will mostly see this place: add other clips, or take fewer of its source "
            "into the dataset",
        )
    if total and without > len(pairs):
        yield Change(
            f"{without:,} of {summary['clips']:,} clips gave nothing",
            "their reasons stand below; clips of few seconds or frames cannot give much",
        )


def _spacing(settings: dict[str, Any]) -> float | None:
    """Seconds between the frames of videos; None where there are none."""
    spacings = [
        section["spacing_s"]
        for section in settings.get("sources", {}).values()
        if section.get("spacing_s")
    ]
    return float(spacings[0]) if spacings else None


def _with_command(finding: Change, paths: Sequence[str], options: Mapping[str, str]) -> Change:
    """With the whole command in the place of its option: the same paths and options, into a new
    folder."""
    if finding.command is None:
        return finding
    flag, value = finding.command.split()
    words = [word for one in {**options, flag: value}.items() for word in one]
    return replace(
        finding, command=shlex.join(["mimic", "pairs", *paths, "--out", "NEW_FOLDER", *words])
    )
