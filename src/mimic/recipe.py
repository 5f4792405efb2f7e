"""Stage recipe: how a run is pretrained, in one small file.

data/recipes/<run>.json holds the run and its recipe whole, whatever file, preset or profile states
them, and the version of its objective's code. DVC trains a run again when this file changes, and so
not for a field that only says how to train, nor for the code of another objective.
"""

from __future__ import annotations

from pathlib import Path

from mimic.infra.owner import one_owner
from mimic.infra.storage import Workspace, write_json
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
    recipe = params.recipe(name)
    parts = {"objective": OBJECTIVE_VERSIONS[recipe.objective]}
    resolved = recipe.model_dump(mode="json", exclude=HOW)
    run = params.runs[name].model_dump(mode="json")
    if run.get("seeds"):  # in any order they are the same encoders
        run["seeds"] = sorted(run["seeds"])
    write_json(Workspace(root).recipe(name), {"parts": parts, "recipe": resolved, "run": run})
