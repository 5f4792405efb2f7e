"""The weights that a run starts from, found in the workspace. Not imported with the package: it
needs torch."""

from __future__ import annotations

from pathlib import Path

from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.params import lineage
from mimic.params.schema import Params
from mimic.training import start
from mimic.training.start import Start


def begin(params: Params, root: Path, encoder: str) -> Start | None:
    """What an encoder starts from, which is there and fits; None for random weights.

    Args:
        encoder: a run with one seed, or a seed of one with several.

    Raises:
        BadInput: it is not there, or the recipe has another encoder.
    """
    init = lineage.init_of(params, encoder)
    if init is None:
        return None
    of, _ = seed_of(encoder)
    continued = params.adapt[of].optimizer == "continued"
    ancestor = start.find(init, Workspace(root).model(init), optimizer=continued)
    size = params.recipe(of).model.size()
    if wrong := lineage.mismatch(init, start.encoder_size(ancestor), size):
        raise BadInput(f"params.yaml: adapt.{of}: {wrong}")
    if continued:
        _continues(ancestor, params, of, encoder)
    return ancestor


def _continues(ancestor: Start, params: Params, of: str, encoder: str) -> None:
    """Every trained tensor is taken, and has its averages."""
    recipe = params.recipe(of)
    model, inherited = start.starting_model(recipe, params.runs[of].encoders(of)[encoder], ancestor)
    state = ancestor.optimizer_state()
    fresh = inherited.fresh if inherited else []
    wrong = f"{fresh[0]} is fresh" if fresh else state and state.problem(model, recipe.betas)
    if wrong:
        raise BadInput(
            f"params.yaml: adapt.{of}.optimizer: that of {ancestor.name} cannot go on: {wrong}; "
            "say optimizer: fresh"
        )


def check(params: Params, root: Path, run: str) -> None:
    """The same of all seeds of a run before it is its turn, where they start from an import. What
    another run makes may be missing, or be made anew before: its recipe was compared when the
    parameters were read.

    Raises:
        BadInput: as `begin`.
    """
    for encoder in params.runs[run].encoders(run):
        init = lineage.init_of(params, encoder)
        if init in params.imported:
            begin(params, root, encoder)
