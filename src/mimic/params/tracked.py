"""What MLflow is told of params.yaml beside the results."""

from __future__ import annotations

from mimic.config import NothingToSynthesize
from mimic.infra.tracking import TrackingContext
from mimic.params.schema import Params


def tracking_context(params: Params) -> TrackingContext:
    """Which data are generated, what held-out pairs are of, and which task comes first: it decides
    which encoder is the best, unless somebody names another."""
    synthetic = params.synthesize
    nothing = isinstance(synthetic, NothingToSynthesize)
    return TrackingContext(
        tracking=params.tracking,
        generated=frozenset() if nothing else frozenset(type(synthetic).model_fields),
        tests={
            name: tuple(sorted(dataset.test.sources)) for name, dataset in params.datasets.items()
        },
        best=next(iter(params.table.tasks), None),
    )
