"""params.yaml, typed."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from mimic.config.base import Section
from mimic.config.evaluation import Report, Table
from mimic.config.licences import LicenceName, OwnLicence
from mimic.config.machines import Cluster, HabitatRuntime, Tracking
from mimic.config.mining import Dataset, Mine
from mimic.config.names import Name, TrackedName
from mimic.config.synthesize import NothingToSynthesize, Synthesize
from mimic.config.training import Adaptation, Recipe, Run
from mimic.sources import SourceSection
from mimic.tasks import Task


class Params(Section):
    """All of params.yaml."""

    profile: str | None  # whose values stand in for those that the file does not state
    licences: dict[LicenceName, OwnLicence]  # terms that the table of mimic does not know
    sources: dict[TrackedName, SourceSection]
    synthesize: Synthesize | NothingToSynthesize
    mine: Mine
    datasets: dict[Name, Dataset]
    pretrain: dict[Name, Recipe]
    runs: dict[TrackedName, Run]  # once it is read, the entries of `adapt` as well
    adapt: dict[TrackedName, Adaptation]
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

    @model_validator(mode="after")
    def _one_table_of_runs(self) -> Params:
        """To everything that follows, a run is a run; `references` says where two have one
        name."""
        self.runs.update({name: run for name, run in self.adapt.items() if name not in self.runs})
        return self

    @model_validator(mode="before")
    @classmethod
    def _may_be_absent(cls, content: Any) -> Any:
        """Files of earlier versions declare no licences."""
        return {"licences": {}, **content} if isinstance(content, dict) else content

    def recipe(self, run: str) -> Recipe:
        """How a run is pretrained: the recipe it names, with what it changes."""
        return self.adapted.get(run) or self.pretrain[self.runs[run].recipe]

    def section(self, run: str) -> str:
        """The section of params.yaml that a run stands in."""
        return "adapt" if run in self.adapt else "runs"
