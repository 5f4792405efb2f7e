"""The page that `mimic pairs` ends with: what it is told beside the counts, and when it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mimic.commands.own import own_sources
from mimic.licences import combine
from mimic.mining import shard_job
from mimic.params import Params, terms
from mimic.reporting.look import PAGE, look_page

PLACES = {"root", "tracked_by"}  # where the data lies on this machine


def look(out: Path) -> None:
    """Make the page, where there is none: last, because the pairs stand without it, and again where
    it is gone."""
    if not (out / PAGE).exists():
        look_page(out)


def address(out: Path) -> str:
    """What a browser opens, in plain ASCII whatever the folder is called."""
    return (out / PAGE).resolve().as_uri()


def described(params: Params, media: own_sources.MediaFound) -> dict[str, Any]:
    """How the data was mined, and under which terms it stands, for the summary: plain JSON."""
    bits = [dataset.near_duplicate_bits for dataset in params.datasets.values()]
    stated = [(part.source, part.section.licence) for part in media.parts]
    return {
        "settings": {
            "overlap_min": params.mine.overlap_min,
            "overlap_max": params.mine.overlap_max,
            "near_duplicate_bits": bits[0] if bits else None,
            "sources": {
                part.source: {
                    **part.section.model_dump(mode="json", exclude=PLACES),
                    "below": _below(part.clips[0]),
                }
                for part in media.parts
            },
        },
        "licences": combine(terms.of_rows(params, stated)),
    }


def examples(todo: Sequence[shard_job.Job]) -> Iterator[list[dict[str, Any]]]:
    """Rejected candidates of finished shards, their clips called as people know them."""
    for job in todo:
        names = dict(zip(job.clips, job.shown, strict=True))
        entries = shard_job.read_result(job)["examples"]
        yield [{**entry, "clip": names[entry["clip"]]} for entry in entries]


def _below(clip: own_sources.Clip) -> str:
    """The path that the names of a part's clips are found below, as it was given."""
    return clip.shown if clip.name == "." else clip.shown.removesuffix(clip.name).rstrip("/")
