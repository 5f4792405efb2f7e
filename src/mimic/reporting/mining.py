"""A page for each source: what became of its candidates, kept pairs, and rejected ones by reason;
and what datasets are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment

from mimic import licences
from mimic.errors import BadInput
from mimic.geometry.overlap import Outcome
from mimic.infra.storage import Workspace, read_json
from mimic.params import Params
from mimic.reporting import charts, gallery

BAR_PX = 720  # width of a dataset's bar
HUES = 7  # colours s1 to s7 of the style sheet, round and round
MEANING = {
    Outcome.KEPT: "the overlap lies in the band, and no other pair of its group overlaps less",
    Outcome.NOT_BEST: "in the band, but another pair of the same group overlaps less",
    Outcome.BLURRED: "a view is less sharp than the source demands",
    Outcome.FEW_MATCHES: "too few features of one view were found again in the other",
    Outcome.STATIC: "only what stands still was found again, and it is not the whole scene: a "
    "caption, a border, a dashboard",
    Outcome.DEGENERATE: "no homography, or one that no two cameras make",
    Outcome.TOO_DIFFERENT: "too little of one view is seen in the other",
    Outcome.TOO_SIMILAR: "nearly all of one view is seen in the other",
    Outcome.UNREADABLE: "a picture or clip could not be read, or not to its end",
    Outcome.FAILED: "the program failed on a clip; the traceback is in the log of the run",
    Outcome.WITHHELD: "would be kept, but a picture may not be written",
}


@dataclass(frozen=True)
class Example:
    """A rejected candidate: both views side by side."""

    caption: str
    image: str


@dataclass(frozen=True)
class Reason:
    """An outcome that occurred."""

    name: str
    meaning: str
    count: int
    share: float
    examples: list[Example]


@dataclass(frozen=True)
class Segment:
    """The pairs of one source in a dataset's bar."""

    source: str
    hue: str
    x: float
    width: float
    pairs: int
    share: float
    short: int
    left_out: dict[str, int]
    histogram: charts.Histogram | None


@dataclass(frozen=True)
class Composition:
    """A dataset by source."""

    name: str
    pairs: int
    width: int
    segments: list[Segment]
    terms: list[str]  # what may be done with its pairs


def pages(
    params: Params,
    workspace: Workspace,
    mined: Sequence[gallery.MinedSource],
    environment: Environment,
) -> dict[str, str]:
    """HTML of each source that was mined, by file name."""
    template = environment.get_template("source.html.j2")
    written = {}
    for number, source in enumerate(mined):
        if source.counts:
            written[page_name(number, source.source)] = template.render(
                title=params.report.title,
                source=source,
                section=params.sources[source.source],
                reasons=reasons(workspace, source),
                named=named(source.counts),
                band=(params.mine.overlap_min, params.mine.overlap_max),
                gallery_columns=params.report.columns,
            )
    return written


def page_name(number: int, source: str) -> str:
    """A file name for a source, whatever its name is made of."""
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_"
        for letter in source
    )
    return f"source-{number}-{plain}.html"


def reasons(workspace: Workspace, source: gallery.MinedSource) -> list[Reason]:
    """The outcomes that occurred, in the order of the rule, with their examples."""
    assert source.counts is not None
    return reasons_of(source.counts, _examples(workspace.samples("mine", source.source)))


def reasons_of(counts: dict[str, Any], shown: dict[str, list[Example]]) -> list[Reason]:
    """The outcomes that occurred, in the order of the rule: together they are all candidates.

    Args:
        shown: examples by outcome.
    """
    total = counts["candidates"]
    return [
        Reason(
            outcome.value,
            MEANING[outcome],
            count,
            count / total if total else 0.0,
            shown.get(outcome.value, []),
        )
        for outcome in Outcome
        if (count := counts["outcomes"].get(outcome.value, 0))
    ]


def named(counts: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """What the metrics of a source name, with the reason, by kind; metrics of earlier versions name
    less."""
    views = counts.get("unreadable_views", {})
    without = counts.get("without_pairs", {})
    return [
        ("damaged", counts.get("damaged", {})),
        ("failed", counts.get("failed", {})),
        ("without a pair", {clip: entry["why"] for clip, entry in without.items()}),
        (
            "pictures unreadable",
            {f"{clip}: {key}": why for clip, entry in views.items() for key, why in entry.items()},
        ),
        ("skipped", counts.get("skipped", {})),
    ]


def _examples(folder: Path) -> dict[str, list[Example]]:
    listing = folder / "samples.json"
    if not listing.exists():
        return {}
    examples: dict[str, list[Example]] = {}
    try:
        for entry in json.loads(listing.read_text()):
            image = gallery.data_uri("image/jpeg", (folder / entry["file"]).read_bytes())
            examples.setdefault(entry["outcome"], []).append(Example(entry["caption"], image))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{listing}: not a list of pictures that are there ({error!r}); mine again"
        ) from None
    return examples


def compositions(params: Params, workspace: Workspace) -> list[Composition]:
    """What the assembled datasets are made of; bars to one scale, so that lengths compare. Colours:
    those of the sources, in order."""
    counted = {
        name: metrics
        for name in params.datasets
        if (metrics := read_json(workspace.metrics("assemble", name))) is not None
    }
    longest = max((metrics["pairs"] for metrics in counted.values()), default=0)
    hues = {source: f"s{number % HUES + 1}" for number, source in enumerate(params.sources)}
    return [
        _composition(name, metrics, longest, hues)
        for name, metrics in counted.items()
        if metrics["pairs"]
    ]


def _composition(
    name: str, metrics: dict[str, Any], longest: int, hues: dict[str, str]
) -> Composition:
    segments = []
    x = 0.0
    for source, part in metrics["sources"].items():
        width = BAR_PX * part["pairs"] / longest
        bins = dict(sorted(part["overlap_histogram"].items(), key=lambda bin: float(bin[0])))
        segments.append(
            Segment(
                source=source,
                hue=hues.get(source, "s0"),
                x=round(x, 1),
                width=round(width, 1),
                pairs=part["pairs"],
                share=part["pairs"] / metrics["pairs"],
                short=part["short"],
                left_out={
                    fate.replace("_", " "): count
                    for fate, count in part["fates"].items()
                    if count and fate not in SPLITS
                },
                histogram=charts.histogram(
                    [*(float(edge) for edge in bins), 1.0], list(bins.values())
                )
                if bins
                else None,
            )
        )
        x += width
    return Composition(name, metrics["pairs"], BAR_PX, segments, licences.summary(metrics))


SPLITS = frozenset({"train", "validation", "test"})
