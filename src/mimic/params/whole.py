"""params.yaml, typed."""

from __future__ import annotations

from mimic.config.base import Section
from mimic.config.evaluation import Report, Table
from mimic.config.machines import Cluster, HabitatRuntime, Tracking
from mimic.config.mining import Dataset, Mine
from mimic.config.names import Name, TrackedName
from mimic.config.sources import Source
from mimic.config.synthesize import NothingToSynthesize, Synthesize
from mimic.config.training import Recipe, Run
from mimic.tasks import Task


class Params(Section):
    """params.yaml, whole."""

    sources: dict[TrackedName, Source]
    synthesize: Synthesize | NothingToSynthesize
    mine: Mine
    datasets: dict[Name, Dataset]
    pretrain: dict[Name, Recipe]
    runs: dict[TrackedName, Run]
    imported: tuple[
        Name, ...
    ]  # models/<name> that `mimic import-weights` has made; they may be rows of the table
    adapted: dict[TrackedName, Recipe]  # of runs that change the recipe they name
    evaluate: dict[TrackedName, Task]
    table: Table
    report: Report
    cluster: Cluster
    habitat: HabitatRuntime
    tracking: Tracking

    def recipe(self, run: str) -> Recipe:
        """How a run is pretrained: the recipe it names, with what it changes."""
        return self.adapted.get(run) or self.pretrain[self.runs[run].recipe]
