"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

ParamsFile = Annotated[
    Path, typer.Option("--params", help="The parameter file; its folder is the workspace.")
]
DEFAULT_PARAMS = Path("params.yaml")
AnyParamsFile = Annotated[
    Optional[Path],
    typer.Option(
        "--params",
        help="The parameter file; default: params.yaml in the current folder, or else the one in "
        "the mimic package.",
    ),
]
