"""Stage mine: pairs of overlapping views of a source, into shards.

Progress lies in runs/mine/<source>/<fingerprint>/ and survives any kill; finished shards are published into data/pairs/<source>
all at once, and pictures of some rejected candidates into samples/mine/<source>. The fingerprint covers the rule, the source's
section, its inventory, and the code and versions that decide.
"""

from __future__ import annotations

import functools
from pathlib import Path

from mimic import config
from mimic.infra import shards, storage
from mimic.sources import privacy, sharding
from mimic.sources.base import INVENTORY


def main(params: config.Params, root: Path, name: str) -> None:
    """Mine a source that has been ingested.

    Raises:
        BadInput: there is no inventory, or a worker died twice on the same shard.
    """
    space = storage.Workspace(root)
    section = config.pick(params.sources, name, "source")
    clips = shards.read_table(space.inventory(name), ["clip"], INVENTORY)["clip"].to_pylist()
    fingerprint = storage.fingerprint(
        params.mine.model_dump(),
        section.model_dump(),
        privacy.model_digest(params.mine.privacy, root),
        storage.file_digest(space.inventory(name)),
        sharding.versions(),
        sharding.code_digest(),
    )
    folder = space.progress("mine", name, fingerprint)
    todo = sharding.jobs(name, section, params.mine, root, clips, folder, habitat=params.habitat)
    tally = sharding.run(todo, params.cluster, f"mine {name}", folder / "log.jsonl")
    storage.publish(functools.partial(shards.lay_out, sharding.with_pairs(todo)), space.pairs(name))
    storage.write_json(space.metrics("mine", name), tally.summary())
    sharding.publish_examples(todo, space.samples("mine", name))
    sharding.clear(todo)
    sharding.report(f"mine {name}", tally.summary(), space.metrics("mine", name), folder / "log.jsonl")
