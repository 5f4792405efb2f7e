"""The weights that a run starts from, found in the workspace. Not imported with the package: it
needs torch."""

from __future__ import annotations

from pathlib import Path

from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.params import lineage
from mimic.params.whole import Params
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
    found = start.find(init, Workspace(root).model(init), optimizer=continued)
    size = params.recipe(of).model.size()
    if wrong := lineage.mismatch(init, start.encoder_size(found), size):
        raise BadInput(f"params.yaml: adapt.{of}: {wrong}")
    return found


def check(params: Params, root: Path, run: str) -> None:
    """The same of all seeds of a run before it is its turn: what another run has yet to make may be
    missing.

    Raises:
        BadInput: as `begin`.
    """
    for encoder in params.runs[run].encoders(run):
        init = lineage.init_of(params, encoder)
        if init in params.imported or (init and Workspace(root).model(init).exists()):
            begin(params, root, encoder)
