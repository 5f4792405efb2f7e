"""The pretraining objectives. A new one is a module in this folder, a line of `OBJECTIVES`, and its
version.

Torch is imported when a model is built: listing objectives needs none of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mimic.models import cost
from mimic.models.spec import Masking, ViTSize

if TYPE_CHECKING:
    from mimic.models.objectives.base import Pretraining


@dataclass(frozen=True)
class Objective:
    """One objective: a line of the table `OBJECTIVES`.

    name: what `objective` of a recipe and of a card says.
    views: images of a sample: 1 = each view of a pair is a sample of its own, 2 = a pair is one.
    model: module and class of what is pretrained, below this folder.
    forward_flops: of one sample, from sizes and the number of visible patches of view a.
    parameters: trained numbers; tables of positions are not trained.
    reference: what the model is shown beside the visible patches of view a, for captions.
    """

    name: str
    views: int
    model: str
    forward_flops: Callable[[ViTSize, int], float]
    parameters: Callable[[ViTSize], int]
    reference: str

    def build(self, size: ViTSize, masking: Masking, attention: str) -> Pretraining:
        """The model to pretrain."""
        module, name = self.model.split(".")
        model: type[Pretraining] = getattr(
            importlib.import_module(f"mimic.models.objectives.{module}"), name
        )
        return model(size, masking, attention)


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective(
            "mae",
            views=1,
            model="mae.MaskedAutoencoder",
            forward_flops=cost.one_view_flops,
            parameters=cost.one_view_parameters,
            reference="nothing of view b",
        ),
        Objective(
            "croco",
            views=2,
            model="croco.CrossViewCompletion",
            forward_flops=cost.two_view_flops,
            parameters=cost.two_view_parameters,
            reference="all of view b",
        ),
        Objective(
            "siamese",
            views=2,
            model="siamese.SiameseAutoencoder",
            forward_flops=cost.two_view_flops,
            parameters=cost.two_view_parameters,
            reference="all of view b",
        ),
    )
}

# Raise one when its model starts from other weights, or has another loss or gradient. DVC reads
# them, and trains the runs of that objective again.
OBJECTIVE_VERSIONS = {"mae": 1, "croco": 1, "siamese": 1}


def build(
    objective: str, size: ViTSize, masking: Masking, *, attention: str = "auto"
) -> Pretraining:
    """A model to pretrain, with torch's default weights until `initialise` or `load_state_dict`.

    Raises:
        ValueError: no such objective, sizes that do not divide, matching without a second view, or
            a mask ratio that hides all patches or none.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective {objective!r} is none of {', '.join(OBJECTIVES)}")
    spec = OBJECTIVES[objective]
    if masking.matching and spec.views == 1:
        raise ValueError(f"matching needs two views; the objective {objective} has one")
    return spec.build(size, masking, attention)
