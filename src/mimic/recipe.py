"""Stage recipe: how a run is pretrained, in one small file.

data/recipes/<run>.json holds the run's recipe whole and the version of its objective's code. DVC
trains a run again when this file changes, and so not for a field that only says how to train, nor
for the code of another objective.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    content: dict[str, Any] = {"parts": parts, "recipe": resolved}
    if params.profile is not None:  # which may state the steps, that DVC would see nowhere else
        content["steps"] = params.runs[name].steps
    write_json(Workspace(root).recipe(name), content)
