"""Pairs, models and raw data against our own records of them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mimic import config, sources
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.infra.addresses import without_secrets
from mimic.pairs import remote
from mimic.pairs.read import read_bytes, read_table
from mimic.pairs.schema import MANIFEST, index_path, shards_in
from mimic.params import Params
from mimic.reporting.look import SUMMARY
from mimic.sources.base import INVENTORY, describe
from mimic.training.encoder_folder import WEIGHTS

NAMED = 3  # of many damaged things in one file
PLACES = ["key", "offset_a", "size_a", "sha_a", "offset_b", "size_b", "sha_b"]
Wanted = Callable[[Path], bool]


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was recorded; `remedy` where DVC holds no better one."""

    path: Path
    what: str
    remedy: str


@dataclass
class Looked:
    """What one check compared, by the name of its things."""

    counts: dict[str, int] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def checks(
    params: Params, root: Path, paths: Sequence[Path], wanted: Wanted
) -> Iterator[Callable[[], Looked]]:
    """One a shard, a manifest, a model, a source; and a shard of a result of `mimic pairs`, which
    lies where its owner wants it, and is looked at when it is named."""
    for folder in sorted((root / "data/pairs").glob("*")):
        if folder.is_dir() and wanted(folder):
            kept = f"runs/mine/{folder.name}"  # until DVC has recorded them
            again = f"remove {folder} and {kept}, and mine it again: mimic mine {folder.name}"
            yield from _shard_checks(folder, wanted, again)
    for folder in paths:
        if (folder / SUMMARY).is_file():
            again = f"remove {folder}, and run the same mimic pairs again"
            yield functools.partial(_own_shards, folder, again)
            yield from _shard_checks(folder, wanted, again)
    for path in sorted((root / "data/manifests").glob("*.parquet")):
        if wanted(path):
            yield functools.partial(_manifest, path, root, params.cluster.shards)
    for card in sorted((root / "models").rglob("card.json")):
        if wanted(card.parent):
            yield functools.partial(_model, card)
    for name, section in params.sources.items():
        path = storage.Workspace(root).inventory(name)
        if path.exists() and wanted(path):
            yield functools.partial(_raw, params, root, name, section, path)


def named(what: list[str]) -> str:
    more = f" and {len(what) - NAMED} more" if len(what) > NAMED else ""
    return f"{', '.join(what[:NAMED])}{more}"


# ---------------------------------------------------------------------------- pairs


def _shard_checks(folder: Path, wanted: Wanted, again: str) -> Iterator[Callable[[], Looked]]:
    try:
        tars = shards_in(folder)
    except BadInput as error:
        damage = Damage(folder, str(error).removeprefix(f"{folder}: "), again)
        yield lambda: Looked(damages=[damage])
        return
    for tar in tars:
        if wanted(tar) or wanted(index_path(tar)):
            yield functools.partial(_shard, tar, again)


def _own_shards(folder: Path, again: str) -> Looked:
    """How many shards a result of `mimic pairs` has."""
    stated = (storage.read_json(folder / SUMMARY) or {}).get("shards")
    present = len(list(folder.glob("shard-*.parquet")))
    if present == stated:
        return Looked()
    what = f"{present} shards are there of the {stated} that it says"
    return Looked(damages=[Damage(folder / SUMMARY, what, again)])


def _shard(tar: Path, again: str) -> Looked:
    """Each picture against the sha256 in the Parquet file."""
    try:
        rows = read_table(index_path(tar), PLACES).to_pylist()
    except BadInput as error:
        return Looked(damages=[Damage(index_path(tar), _reason(error, index_path(tar)), again)])
    odd = [
        f"{row['key']}.{side}.jpg" for row in rows for side in "ab" if not _is_whole(tar, row, side)
    ]
    counts = {"pictures": 2 * len(rows), "shards": 1}
    if not odd:
        return Looked(counts)
    what = f"{len(odd)} of {2 * len(rows)} pictures are not those recorded ({named(odd)})"
    return Looked(counts, [Damage(tar, what, again)])


def _is_whole(tar: Path, row: dict[str, Any], side: str) -> bool:
    try:
        data = read_bytes(tar, row[f"offset_{side}"], row[f"size_{side}"])
    except BadInput:
        return False
    return hashlib.sha256(data).hexdigest() == row[f"sha_{side}"]


def _manifest(path: Path, root: Path, shards: config.Shards) -> Looked:
    """Each row against the Parquet file of its shard, which the pictures are compared with."""
    again = f"assemble it again: mimic assemble {path.stem}"
    try:
        rows = read_table(path, [*PLACES, "shard"], MANIFEST).to_pandas()
    except BadInput as error:
        return Looked(damages=[Damage(path, _reason(error, path), again)])
    looked = Looked({"rows of manifests": len(rows)})
    away: list[str] = []
    for shard, rows_of_shard in rows.groupby("shard", sort=True):
        tar = root / str(shard)
        if not index_path(tar).exists():
            away.append(str(shard))
        elif others := _unlike(rows_of_shard.drop(columns="shard"), index_path(tar)):
            what = f"{len(others)} rows are not those of {shard} ({named(others)})"
            looked.damages.append(Damage(path, what, again))
    store = remote.address(shards)
    if away and store is None:
        what = f"names shards that are not here ({named(away)})"
        looked.damages.append(Damage(path, what, "fetch them (dvc pull), or mine the source"))
    elif away:
        where = without_secrets(store or "")
        looked.unchecked.append(
            f"{len(away)} shards of {path.stem} are not here but at {where}: each picture is "
            "compared when it is first read"
        )
    return looked


def _unlike(rows: pd.DataFrame, index: Path) -> list[str]:
    """Keys of the rows that the shard's own table has otherwise, or not at all."""
    try:
        recorded = read_table(index, PLACES).to_pandas()
    except BadInput:
        return []  # named by the shard's own check
    both = rows.merge(recorded, how="left", on=PLACES, indicator=True)
    return [str(key) for key in both.loc[both["_merge"] == "left_only", "key"]]


# ---------------------------------------------------------------------------- models


def _model(card: Path) -> Looked:
    """Files of weights against the digests in the card beside them."""
    folder = card.parent
    again = f"train or import {folder.name} again"
    try:
        stated = json.loads(card.read_text()).get("weights") or {}
    except (ValueError, AttributeError, OSError) as error:
        return Looked(damages=[Damage(card, f"no card that can be read ({error})", again)])
    looked = Looked({"files of weights": len(stated)})
    for name, digest in sorted(stated.items()):
        path = folder / name
        if name not in WEIGHTS or not path.is_file():
            looked.damages.append(Damage(path, "is not there, and its card names it", again))
        elif what := _wrong_with(path, digest):
            looked.damages.append(Damage(path, what, again))
    if not stated:
        looked.unchecked.append(f"{folder}: its card states no digest, it is an earlier one")
    return looked


def _wrong_with(path: Path, digest: str) -> str | None:
    try:
        same = storage.file_digest(path) == digest
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if same else "its sha256 is not that of card.json"


# ---------------------------------------------------------------------------- raw data


def _raw(
    params: Params, root: Path, name: str, section: config.SourceBase, inventory: Path
) -> Looked:
    """The clips that a source has now against those that it was mined from."""
    again = f"put the earlier files back, or let it be mined anew: dvc repro mine@{name}"
    try:
        recorded = {
            row["clip"]: row["digest"]
            for row in read_table(inventory, ["clip", "digest"], INVENTORY).to_pylist()
        }
    except BadInput as error:
        return Looked(damages=[Damage(inventory, _reason(error, inventory), again)])
    try:
        source = sources.open_source(name, section, root, params.mine.size_px, params.habitat)
        present = set(source.clips()[: section.limit_clips])
    except BadInput as error:
        return Looked(unchecked=[f"raw data of {name}: {error}"])
    where = storage.Workspace(root).resolve(section.root)
    looked = Looked({"clips of raw data": len(recorded)})
    gone = sorted(recorded.keys() - present)
    both = sorted(recorded.keys() & present)
    other = [clip for clip in both if describe(source, clip)["digest"] != recorded[clip]]
    for what, clips in (("are not there", gone), ("have other contents", other)):
        if clips:
            problem = f"{len(clips)} of {len(recorded)} clips {what} ({named(clips)})"
            looked.damages.append(Damage(where / clips[0], problem, again))
    if new := sorted(present - recorded.keys()):
        looked.unchecked.append(f"{len(new)} new clips of {name} ({named(new)}): not mined yet")
    return looked


def _reason(error: BadInput, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").partition("; ")[0]
