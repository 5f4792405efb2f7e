"""Commands that make a workspace, check it, and bring it up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mimic.cli.options import DEFAULT_PARAMS, ParamsFile

PANEL = "Your own project"


def new(
    project: Annotated[Path, typer.Argument(help="A new folder")],
    videos: Annotated[Optional[Path], typer.Option(help="A folder of videos")] = None,
    images: Annotated[Optional[Path], typer.Option(help="A folder of image folders")] = None,
    scenes: Annotated[Optional[Path], typer.Option(help="A folder of .glb scenes")] = None,
    depth: Annotated[
        Optional[Path], typer.Option(help="Images with depth, to measure encoders on")
    ] = None,
    start_from: Annotated[
        Optional[str],
        typer.Option(help="Weights to start from: a checkpoint of MAE, CroCo or timm"),
    ] = None,
    steps: Annotated[
        Optional[int], typer.Option(help="Steps of a run; default: what fits this machine")
    ] = None,
    positions: Annotated[
        Optional[Literal["sincos", "rope"]],
        typer.Option(
            help="rope: what DUSt3R and MASt3R need; CroCo v1 needs sincos, the default; timm "
            "reads both"
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the videos, images and scenes")
    ] = "private",
) -> None:
    """Make a workspace for your own data: params.yaml, DVC stages, README.

    Looks at the data first, and prints what it chose and why. `dvc repro` there runs everything.
    """
    from mimic.commands.workspace import new as command
    from mimic.commands.workspace.data import Asked

    asked = Asked(videos, images, scenes, depth, start_from, steps, positions, licence)
    command.main(project, asked)


def check(
    file: Annotated[Path, typer.Argument(help="The parameter file")] = DEFAULT_PARAMS,
) -> None:
    """List all that is wrong with a parameter file, a line each.

    Exit status 2 if anything is.
    """
    from mimic.commands.workspace import check as command

    lines = command.problems(file)
    for line in lines:
        print(line)
    if lines:
        raise typer.Exit(2)
    print(f"{file}: nothing is wrong")


def dag(
    params: ParamsFile = DEFAULT_PARAMS,
    mermaid: Annotated[bool, typer.Option(help="Print a flowchart of Mermaid")] = False,
) -> None:
    """Print the stages in their order: how many there are of each, and what they wait for."""
    from mimic.commands.workspace import dag as command

    print((command.mermaid if mermaid else command.text)(params.parent))


def upgrade(params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Bring a workspace of `mimic new` up to the installed mimic, or to another profile.

    Says what changed and which stages become stale.
    """
    from mimic.commands.workspace import upgrade as command

    command.main(params)


def clean(
    params: ParamsFile = DEFAULT_PARAMS,
    remove: Annotated[bool, typer.Option("--remove", help="Take them away")] = False,
) -> None:
    """List what runs/ keeps of runs, seeds, tasks and sources that params.yaml no longer names.

    And the work of experiments that have ended, and files that killed processes left unfinished a
    day ago, wherever they lie. Models, metrics and all that is published are left alone.
    """
    from mimic.commands.operation import clean as command
    from mimic.params import load_params

    command.main(load_params(params), params.parent, remove)


COMMANDS = (new, check, dag, upgrade, clean)
