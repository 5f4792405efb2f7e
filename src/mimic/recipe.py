"""Stage recipe: how a run is pretrained, in one small file.

data/recipes/<run>.json holds the run and its recipe whole, whatever file, preset or profile states
them, and the version of its objective's code. DVC trains a run again when this file changes, and so
not for a field that only says how to train, nor for the code of another objective.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mimic.errors import BadInput
from mimic.infra.owner import one_owner
from mimic.infra.owner.parent import STAGE
from mimic.infra.storage import Workspace, read_json, write_json
from mimic.models.objectives import OBJECTIVE_VERSIONS
from mimic.params import Params, pick
from mimic.training import HOW


@one_owner("recipe")
def main(params: Params, root: Path, name: str) -> None:
    """Write data/recipes/<name>.json.

    Raises:
        BadInput: no such run, or the weights that it starts from have another encoder.
    """
    pick(params.runs, name, "run")
    if name in params.adapt:
        from mimic.params import starting  # needs torch

        starting.check(params, root, name)
    write_json(Workspace(root).recipe(name), _decisive(params, name))


def require_recorded(params: Params, root: Path, name: str) -> None:
    """Of a training that DVC runs: it records data/recipes/<name>.json, which may be hours old, and
    the training reads params.yaml.

    Raises:
        BadInput: they say different things.
    """
    if not os.environ.get(STAGE):
        return
    path = Workspace(root).recipe(name)
    recorded = read_json(path)  # None: a pipeline of somebody's own, without these files
    if recorded not in (None, json.loads(json.dumps(_decisive(params, name)))):
        raise BadInput(
            f"{path}: params.yaml says something else of {name} by now, and dvc would record the "
            "training as that of before; run dvc repro again"
        )


def _decisive(params: Params, name: str) -> dict[str, Any]:
    """What decides the weights, beside pairs and what the run starts from."""
    recipe = params.recipe(name)
    run = params.runs[name].model_dump(mode="json")
    if run.get("seeds"):  # in any order they are the same encoders
        run["seeds"] = sorted(run["seeds"])
    return {
        "parts": {"objective": OBJECTIVE_VERSIONS[recipe.objective]},
        "recipe": recipe.model_dump(mode="json", exclude=HOW),
        "run": run,
    }
