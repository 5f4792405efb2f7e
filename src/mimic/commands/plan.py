"""What a recipe will cost, from rates measured here: core-days, bytes and files (`mimic plan`).

Rates come from the logs of this workspace's mining runs (runs/mine/<source>/*/log.jsonl) and the
shards they published, or from a file of stated rates. A source that was never mined takes the rate
of one with the same reader, and the plan says so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.table import Table

from mimic.errors import BadInput
from mimic.infra import cluster, storage
from mimic.pairs.read import open_table, read_table
from mimic.pairs.schema import index_path, shards_in
from mimic.params import Params, pick

DAY_S = 86400
FILES_PER_SHARD = 2  # the tar and its Parquet twin


class Rate(BaseModel):
    """What a pair of a source costs. `clips_per_pair` says how many shards there will be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds_per_pair: float = Field(gt=0)  # of one core
    bytes_per_pair: float = Field(gt=0)  # in the shards, rows included
    clips_per_pair: float = Field(gt=0)


def main(params: Params, root: Path, name: str, rates_file: Path | None, as_json: bool) -> None:
    """Print what mining a dataset's pairs will take.

    Raises:
        BadInput: nothing was mined yet and no rates are stated; or the file of rates is wrong.
    """
    dataset = pick(params.datasets, name, "dataset")
    rates = measured(params, storage.Workspace(root)) | (stated(rates_file) if rates_file else {})
    found = [_line(params, root, source, count, rates) for source, count in dataset.sources.items()]
    total = {
        key: sum(line[key] for line in found if line[key] is not None)
        for key in ("pairs", "core_days", "bytes", "files")
    }
    cores = params.cluster.workers or cluster.available_cores()
    if params.cluster.executor == "slurm":
        cores = params.cluster.mine.array_parallelism
    total["days"] = total["core_days"] / cores
    used = {line["rate_of"]: rates[line["rate_of"]].model_dump() for line in found}
    result = {
        "dataset": name,
        "cores": cores,
        "total": total,
        "sources": {line.pop("source"): line for line in found},
        "rates": used,
    }
    print(json.dumps(result, indent=2)) if as_json else _show(result)


def measured(params: Params, space: storage.Workspace) -> dict[str, Rate]:
    """Rates of the sources that were mined in this workspace, by source."""
    rates = {}
    for source in params.sources:
        lines = _log(space.root / "runs/mine" / source)
        kept, clips, seconds = (
            sum(line[key] for line in lines) for key in ("kept", "clips", "seconds")
        )
        size = _bytes_per_pair(space.pairs(source))
        if kept and seconds and size:
            rates[source] = Rate(
                seconds_per_pair=seconds / kept, bytes_per_pair=size, clips_per_pair=clips / kept
            )
    return rates


def stated(path: Path) -> dict[str, Rate]:
    """Rates from a JSON file: {source or reader: {seconds_per_pair, bytes_per_pair,
    clips_per_pair}}, or all that --json printed."""
    try:
        raw = json.loads(path.read_text())
        return {name: Rate.model_validate(rate) for name, rate in raw.get("rates", raw).items()}
    except FileNotFoundError:
        raise BadInput(f"--rates {path}: no such file") from None
    except (ValidationError, ValueError, AttributeError) as error:
        raise BadInput(
            f"--rates {path}: not a file of rates: {' '.join(str(error).split())[:200]}"
        ) from None


def _log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the newest mining run of a source; a shard that was mined again counts once, by
    its last line."""
    logs = sorted(folder.glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime)
    lines: dict[str, dict[str, Any]] = {}
    for text in logs[-1].read_text().splitlines() if logs else ():
        try:
            line = json.loads(text)
        except ValueError:  # cut off by a kill
            continue
        lines[line["shard"]] = line
    return list(lines.values())


def _bytes_per_pair(folder: Path) -> float | None:
    tars = shards_in(folder) if folder.is_dir() else []
    pairs = 0
    for tar in tars:
        with open_table(index_path(tar)) as file:
            pairs += file.metadata.num_rows
    size = sum(path.stat().st_size for tar in tars for path in (tar, index_path(tar)))
    return size / pairs if pairs else None


def _line(
    params: Params, root: Path, source: str, count: int | None, rates: dict[str, Rate]
) -> dict[str, Any]:
    rate_of = _rate_of(params, source, rates)
    rate = rates[rate_of]
    if count is None:
        count = _all_of(storage.Workspace(root).inventory(source), rate)
    clips = None if count is None else max(1, round(count * rate.clips_per_pair))
    return {
        "source": source,
        "rate_of": rate_of,
        "pairs": count,
        "core_days": None if count is None else count * rate.seconds_per_pair / DAY_S,
        "bytes": None if count is None else round(count * rate.bytes_per_pair),
        "files": None
        if clips is None
        else FILES_PER_SHARD * -(-clips // params.mine.clips_per_shard),
    }


def _rate_of(params: Params, source: str, rates: dict[str, Rate]) -> str:
    """Whose rate serves for a source: its own, that of its reader, or that of a source with the
    same reader."""
    reader = params.sources[source].reader
    alike = [
        other
        for other, section in params.sources.items()
        if section.reader == reader and other in rates
    ]
    for name in (source, reader, *alike):
        if name in rates:
            return name
    known = ", ".join(rates) or "none"
    raise BadInput(
        f"no rate for {source} (reader {reader}); known: {known}. Mine some of it with "
        "limit_clips, or state one with --rates FILE"
    )


def _all_of(inventory: Path, rate: Rate) -> int | None:
    """Pairs to expect where a recipe takes all there are; None before ingest."""
    if not inventory.exists():
        return None
    from mimic.sources.base import INVENTORY

    return round(len(read_table(inventory, ["clip"], INVENTORY)) / rate.clips_per_pair)


def _show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['dataset']}: what mining it takes")
    for column in ("source", "rate of", "pairs", "core-days", "GB", "files"):
        table.add_column(column, justify="left" if column in ("source", "rate of") else "right")
    by_reader: dict[str, list[str]] = defaultdict(list)
    for source, line in result["sources"].items():
        table.add_row(source, line["rate_of"], *_cells(line))
        by_reader[line["rate_of"]].append(source)
    table.add_section()
    table.add_row("total", "", *_cells(result["total"]))
    console = Console()
    console.print(table)
    console.print(f"{result['total']['days']:.2f} days on {result['cores']} cores")
    for rate_of, sources in by_reader.items():
        if others := [source for source in sources if source != rate_of]:
            console.print(f"{', '.join(others)}: not measured; the rate is that of {rate_of}")


def _cells(line: dict[str, Any]) -> Iterable[str]:
    shown = {"pairs": "{:,}", "core_days": "{:.3g}", "bytes": "{:.2f}", "files": "{:,}"}
    for key, form in shown.items():
        value = line[key]
        yield (
            "not known before ingest"
            if value is None
            else form.format(value / 1e9 if key == "bytes" else value)
        )
