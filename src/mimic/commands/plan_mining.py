"""`mimic plan DATASET`: core-days, bytes and files that mining a dataset takes, from measured
rates.

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

from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from mimic.commands import printed
from mimic.commands.stated_rates import read_rates
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
    """Print time and storage that mining a dataset's pairs will take.

    Raises:
        BadInput: nothing was mined yet and no rates are stated; or the file of rates is wrong.
    """
    dataset = pick(params.datasets, name, "dataset")
    rates = measured_rates(params, storage.Workspace(root))
    if rates_file is not None:
        rates |= read_rates(rates_file, _parse)
    lines = {
        source: _estimate(params, root, source, count, rates)
        for source, count in dataset.sources.items()
    }
    cores = _cores(params)
    unknown = [source for source, line in lines.items() if line["pairs"] is None]
    total = _total(lines.values())
    days = total["core_days"]
    total["days"] = None if days is None else days / cores
    used = {line["rate_of"] for line in lines.values()}
    result = {
        "dataset": name,
        "cores": cores,
        "total": total,
        "unknown": unknown,
        "sources": lines,
        "rates": {source: rate.model_dump() for source, rate in rates.items() if source in used},
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)


def _cores(params: Params) -> int:
    """How many cores mine at a time."""
    if params.cluster.executor == "slurm":
        return params.cluster.mine.array_parallelism
    return params.cluster.workers or cluster.available_cores()


def _total(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the sources whose numbers are known; None where those of none are."""
    keys = ("pairs", "core_days", "bytes", "files")
    known = [line for line in lines if line["pairs"] is not None]
    return {key: sum(line[key] for line in known) if known else None for key in keys}


def measured_rates(params: Params, space: storage.Workspace) -> dict[str, Rate]:
    """Rates of the sources that were mined in this workspace, by source."""
    rates = {}
    for source in params.sources:
        lines = _timed_whole(_log(space.root / "runs/mine" / source))
        pairs = sum(line["kept"] for line in lines)
        seconds = sum(line["seconds"] for line in lines)
        clips = sum(line["clips"] for line in lines)
        size = _bytes_per_pair(space.pairs(source))
        if pairs and seconds and size:
            rates[source] = Rate(
                seconds_per_pair=seconds / pairs, bytes_per_pair=size, clips_per_pair=clips / pairs
            )
    return rates


def _timed_whole(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The shards that one process mined from beginning to end. The time of one that went on after
    a kill is that of its last process, and its pairs are those of all."""
    return [line for line in lines if line["seconds"] and not line.get("taken_over")]


def _parse(raw: Any) -> dict[str, Rate]:
    """{source or reader: {seconds_per_pair, bytes_per_pair, clips_per_pair}}"""
    return {name: Rate.model_validate(rate) for name, rate in raw.items()}


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


def _estimate(
    params: Params, root: Path, source: str, count: int | None, rates: dict[str, Rate]
) -> dict[str, Any]:
    """What mining `count` pairs of a source takes; None = all there are."""
    rate_of = _rate_of(params, source, rates)
    rate = rates[rate_of]
    if count is None:
        count = _all_pairs(storage.Workspace(root).inventory(source), rate)
    if count is None:
        unknown = dict.fromkeys(("pairs", "core_days", "bytes", "files"))
        return {"rate_of": rate_of, **unknown}
    clips = max(1, round(count * rate.clips_per_pair))
    shards = -(-clips // params.mine.clips_per_shard)
    return {
        "rate_of": rate_of,
        "pairs": count,
        "core_days": count * rate.seconds_per_pair / DAY_S,
        "bytes": round(count * rate.bytes_per_pair),
        "files": FILES_PER_SHARD * shards,
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


def _all_pairs(inventory: Path, rate: Rate) -> int | None:
    """Pairs to expect where a recipe takes all there are; None before ingest."""
    if not inventory.exists():
        return None
    from mimic.sources.base import INVENTORY

    return round(len(read_table(inventory, ["clip"], INVENTORY)) / rate.clips_per_pair)


def _show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['dataset']}: estimated cost of mining")
    for column in ("source", "rate from", "pairs", "core-days", "GB", "files"):
        table.add_column(column, justify="left" if column in ("source", "rate from") else "right")
    by_reader: dict[str, list[str]] = defaultdict(list)
    for source, line in result["sources"].items():
        table.add_row(source, line["rate_of"], *_cells(line))
        by_reader[line["rate_of"]].append(source)
    table.add_section()
    unknown = result["unknown"]
    total = result["total"]
    table.add_row("at least" if unknown else "total", "", *_cells(total))
    console = printed.console()
    printed.print_whole(console, table)
    if total["days"] is not None:
        least = "at least " if unknown else ""
        console.print(f"{least}{total['days']:.2f} days on {result['cores']} cores")
    if unknown:
        console.print(
            f"{', '.join(unknown)}: all there are is asked for, and how many is unknown before "
            "ingest: not counted"
        )
    for rate_of, sources in by_reader.items():
        if others := [source for source in sources if source != rate_of]:
            console.print(f"{', '.join(others)}: not measured; the rate is that of {rate_of}")


def _cells(line: dict[str, Any]) -> list[str]:
    shown = {"pairs": "{:,}", "core_days": "{:.3g}", "gigabytes": "{:.2f}", "files": "{:,}"}
    if line["pairs"] is None:
        return ["unknown before ingest"] * len(shown)
    values = line | {"gigabytes": line["bytes"] / 1e9}
    return [form.format(values[key]) for key, form in shown.items()]
