"""Commands that show results."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from mimic.cli.options import DEFAULT_PARAMS, ParamsFile
from mimic.errors import BadInput
from mimic.params import load_params

PANEL = "Results"


def compare(
    params: ParamsFile = DEFAULT_PARAMS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON")] = False,
    with_paper: Annotated[
        bool,
        typer.Option(
            "--paper", help="Print the paper's tables, with our values beside the published ones"
        ),
    ] = False,
    by: Annotated[
        Optional[list[str]],
        typer.Option(
            "--by",
            help="Print what this setting changes, and how sure that is: dataset, objective, init, "
            "steps, recipe, or run (every two runs of the table); may be given several times",
        ),
    ] = None,
) -> None:
    """Print the results table: one row a run, one column a task."""
    from mimic.commands import compare as command

    if by and with_paper:
        raise BadInput("compare: --paper and --by are two tables; ask for one")
    if by:
        command.print_differences(load_params(params), params.parent, by, as_json=as_json)
        return
    show = command.print_paper_tables if with_paper else command.print_results
    show(load_params(params), params.parent, as_json=as_json)


def track(
    params: ParamsFile = DEFAULT_PARAMS,
    best: Annotated[
        Optional[str],
        typer.Option(
            "--best",
            help="The task that decides where the alias `best` of the registry leads: to the run "
            "with the best mean over its seeds; without it, the first of table.tasks",
        ),
    ] = None,
    encoders: Annotated[
        bool, typer.Option(help="Register encoders, loadable with mlflow.pytorch and timm")
    ] = True,
) -> None:
    """Copy every published result to MLflow, and the encoders to its registry.

    What it already holds is not added twice.
    """
    from mimic.commands.track import print_mirrored

    if best is not None and not encoders:
        raise BadInput("track: --best chooses among encoders; leave --no-encoders away")
    print_mirrored(load_params(params), params.parent, best, encoders=encoders)


COMMANDS = (compare, track)
