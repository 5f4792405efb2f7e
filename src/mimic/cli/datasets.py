"""Commands that hand a dataset to others, or estimate what one costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mimic.cli.options import DEFAULT_PARAMS, AnyParamsFile, ParamsFile
from mimic.errors import BadInput
from mimic.params import load_here_or_packaged, load_params

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
    despite_licences: Annotated[
        bool,
        typer.Option(
            "--despite-licences",
            help="Also write pictures whose licence forbids handing them on, for your own use",
        ),
    ] = False,
) -> None:
    """Write a dataset, with images and data card, for use without mimic."""
    from mimic.commands import export as command

    settings = load_params(params)
    command.main(settings, params.parent, dataset, form, out, pairs_per_file, despite_licences)


def plan(
    name: Annotated[
        Optional[str],
        typer.Argument(help="A dataset to mine; with --pretrain a run, default: every run"),
    ] = None,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Estimate pretraining instead of mining")
    ] = False,
    params: ParamsFile = DEFAULT_PARAMS,
    rates: Annotated[
        Optional[Path],
        typer.Option(help="JSON file of stated rates, such as the output of --json elsewhere"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the estimate and the rates it uses as JSON")
    ] = False,
) -> None:
    """Estimate time, storage and bottlenecks of mining or pretraining.

    The rates are those measured in this workspace, or stated with --rates.
    """
    from mimic.commands import plan_mining, plan_pretraining

    settings = load_params(params)
    if name == "pretrain" and name not in settings.datasets:  # how --pretrain was called once
        pretrain = True
        name = None
    if pretrain:
        plan_pretraining.main(settings, params.parent, name, rates, as_json=as_json)
        return
    if name is None:
        raise BadInput("plan: name a dataset of params.yaml, or give --pretrain")
    plan_mining.main(settings, params.parent, name, rates, as_json=as_json)


def licences(
    name: Annotated[
        Optional[str],
        typer.Argument(help="A dataset, a run, or a folder in models/; default: all that is known"),
    ] = None,
    params: AnyParamsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON")] = False,
) -> None:
    """Print what may be done with a dataset or a model, and which of its parts decide that.

    Without a name: the licences that are known, and those of the sources in params.yaml.
    """
    from mimic.commands import show_licences as command

    root = (params or DEFAULT_PARAMS).parent
    command.main(load_here_or_packaged(params), root, name, as_json=as_json)


COMMANDS = (export, plan, licences)
