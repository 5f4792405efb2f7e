"""Stage mine: pairs of overlapping views of a source, into shards.

Progress lies in runs/mine/<source>/<fingerprint>/ and survives any kill; finished shards are
published into data/pairs/<source> all at once, and pictures of some rejected candidates into
samples/mine/<source>. Under DVC they are kept until it has recorded them (mining.published). The
fingerprint covers the rule, the source's section, its inventory, and the versions of the libraries
and of our parts that decide.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic import config, sources
from mimic.infra import earlier, progress, publishing, storage
from mimic.infra.owner import one_owner
from mimic.licences import combine
from mimic.mining import driver, privacy, published, shard_job
from mimic.mining.stats import MiningStats, note_lines, problem_entries
from mimic.pairs.read import read_table
from mimic.pairs.write import lay_out_shards
from mimic.params import Params, pick, terms
from mimic.sources.base import INVENTORY

LOST = "_lost.jsonl"  # readers of Parquet folders pass over such names
NAMED_MAX = 1000  # of each kind, in the metrics


@one_owner("mine")
def main(params: Params, root: Path, name: str) -> None:
    """Mine a source that has been ingested.

    Raises:
        BadInput: there is no inventory, or a worker died twice on the same shard.
    """
    space = storage.Workspace(root)
    work = publishing.Work("mine", name)
    publishing.resolve_target(space.pairs(name), work, recognise=earlier.pairs)
    shard_job.place_examples(space.samples("mine", name))
    section = pick(params.sources, name, "source")
    clips = read_table(space.inventory(name), ["clip"], INVENTORY)["clip"].to_pylist()
    source = sources.open_source(name, section, root, params.mine.size_px, params.habitat)
    source.clips()  # the inventory says what is mined; this, what is passed over
    detector = privacy.model_digest(params.mine.privacy, root)
    fingerprint = storage.fingerprint(
        params.mine.model_dump(),
        section.model_dump(),
        detector,
        storage.file_digest(space.inventory(name)),
        shard_job.libraries(),
        shard_job.parts(section),
    )
    folder = space.progress("mine", name, fingerprint)
    published.clear_recorded(root)
    if published.is_here(folder):
        progress.say(
            f"mine {name}: what was mined of these very numbers is published again (rm -r "
            f"{folder.parent} mines it anew)"
        )
    todo = shard_job.jobs(name, section, params.mine, root, clips, folder, habitat=params.habitat)
    stats = driver.run(todo, params.cluster, f"mine {name}", folder / "log.jsonl")
    stats.add_skipped(source.skipped)
    lay_out = functools.partial(_lay_out, todo, stats)
    publishing.publish(lay_out, space.pairs(name), work, recognise=earlier.pairs)
    noted = _notes(space.inventory(name))
    summary = stats.summary(NAMED_MAX) | _recorded(params, name, section, noted)
    if detector is not None:
        summary["face_model_sha256"] = detector
    storage.write_json(space.metrics("mine", name), summary)
    shard_job.publish_examples(todo, space.samples("mine", name))
    published.keep(todo, folder, root, space.metrics("mine", name))
    for line in note_lines(noted):
        progress.say(f"mine {name}: {line}")
    driver.report(f"mine {name}", stats.summary(), space.pairs(name) / LOST, folder / "log.jsonl")


def _recorded(
    params: Params, name: str, section: config.SourceBase, noted: Mapping[str, str]
) -> dict[str, Any]:
    """What the metrics say beside the counts: how clips are read, and what decided the pairs."""
    return {
        "notes": dict(itertools.islice(noted.items(), NAMED_MAX)),
        "parts": shard_job.parts(section),
        "sections": {
            "mine": params.mine.model_dump(mode="json"),
            "source": section.model_dump(mode="json"),
        },
        "licences": combine(terms.of_sources(params, [name])),
    }


def _notes(inventory: Path) -> dict[str, str]:
    """How clips are read, where that is not plain; inventories of earlier versions say nothing of
    it."""
    rows = read_table(inventory, None, INVENTORY).to_pylist()
    return {row["clip"]: row["note"] for row in rows if row.get("note")}


def _lay_out(done: Sequence[shard_job.Job], stats: MiningStats, out: Path) -> None:
    """Shards, and beside them the whole lists of what gave nothing; the metrics hold the first of
    each kind."""
    lay_out_shards(shard_job.with_pairs(done), out)
    with (out / LOST).open("w", encoding="utf-8") as file:
        for entry in problem_entries(stats.summary()):
            file.write(json.dumps(entry) + "\n")
