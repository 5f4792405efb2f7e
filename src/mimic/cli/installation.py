"""Commands that answer questions about an installation and its parameters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from mimic.cli.options import DEFAULT_PARAMS, AnyParamsFile, ParamsFile
from mimic.params import load_here_or_packaged

PANEL = "Help"
PORT_MAX = 65535


def doctor(
    params: AnyParamsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON")] = False,
) -> None:
    """Check what works on this machine, and say how to fix what does not.

    Exit status 1 if anything that the parameter file needs does not work.
    """
    from mimic.commands.operation import doctor as command

    workspace = params.parent if params else Path()
    if not command.main(load_here_or_packaged(params), workspace, as_json=as_json):
        raise typer.Exit(1)


def params(
    section: Annotated[
        str, typer.Argument(help="A section or a dotted key, such as evaluate.depth; default: all")
    ] = "",
    file: ParamsFile = DEFAULT_PARAMS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the values and their origins as JSON")
    ] = False,
) -> None:
    """Print every parameter with its value and the line that states it.

    Entries of params.yaml name presets and say what differs; this shows the whole.
    """
    from mimic.commands import show_params as command

    command.main(file, section, as_json=as_json)


def serve(
    port: Annotated[int, typer.Option(help="Port of Prefect's pages", min=1, max=PORT_MAX)] = 4200,
    mlflow_port: Annotated[
        int, typer.Option(help="Port of MLflow's pages", min=1, max=PORT_MAX)
    ] = 5000,
    report_port: Annotated[
        int, typer.Option(help="Port of the report", min=1, max=PORT_MAX)
    ] = 8000,
    params: AnyParamsFile = None,
) -> None:
    """Schedule the pipeline and show it: Prefect, its worker, MLflow and the report.

    One command on this machine only (127.0.0.1); Ctrl-C ends all of it, the worker first.
    """
    from mimic.commands.operation import serve as command

    tracking = load_here_or_packaged(params).tracking
    store = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri
    workspace = params.parent if params else Path()
    command.main(workspace, command.Ports(port, mlflow_port, report_port), store)


def verify(
    paths: Annotated[
        Optional[list[Path]],
        typer.Argument(help="Only what lies at or below these; default: the whole workspace"),
    ] = None,
    params: AnyParamsFile = None,
) -> None:
    """Read all data, models and cached files again, and compare them with what was recorded.

    Exit status 1 if anything is damaged; each line says what to do. Nothing is changed.
    """
    from mimic.commands.operation import verify as command

    root = (params or DEFAULT_PARAMS).parent
    if not command.main(load_here_or_packaged(params), root, paths or []):
        raise typer.Exit(1)


COMMANDS = (doctor, verify, params, serve)
