"""Commands that hand a dataset to others, or estimate what one costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mimic.cli.options import DEFAULT_PARAMS, ParamsFile
from mimic.params import load_params

PANEL = "Datasets"
ExportFormat = Literal["mimic", "webdataset", "huggingface"]


def export(
    dataset: Annotated[str, typer.Argument(help="A name under `datasets` in params.yaml")],
    out: Annotated[Path, typer.Option("--out", help="A new folder")],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="mimic: folders with CSV, as MIMIC was released; webdataset: tar files; "
            "huggingface: Parquet files",
        ),
    ],
    params: ParamsFile = DEFAULT_PARAMS,
    pairs_per_file: Annotated[int, typer.Option(help="Pairs in each tar or Parquet file")] = 5000,
) -> None:
    """Write a dataset, with images and data card, for use without mimic."""
    from mimic.commands import export as command

    command.main(load_params(params), params.parent, dataset, form, out, pairs_per_file)


def plan(
    what: Annotated[
        str,
        typer.Argument(help="A dataset to mine, or `pretrain` for every run of the parameter file"),
    ],
    params: ParamsFile = DEFAULT_PARAMS,
    rates: Annotated[
        Optional[Path],
        typer.Option(help="JSON file of stated rates, such as what --json printed elsewhere"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan, and the rates it rests on, as JSON")
    ] = False,
) -> None:
    """Estimate time, storage and bottlenecks of mining or pretraining.

    The estimate rests on rates measured in this workspace, or stated with --rates.
    """
    if what == "pretrain":
        from mimic.commands import plan_pretrain

        plan_pretrain.main(load_params(params), params.parent, rates, as_json=as_json)
        return
    from mimic.commands import plan as command

    command.main(load_params(params), params.parent, what, rates, as_json=as_json)


COMMANDS = (export, plan)
