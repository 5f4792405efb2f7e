"""One command a stage of the pipeline, in its order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mimic.cli.options import DEFAULT_PARAMS, ParamsFile
from mimic.commands.workspace import versions
from mimic.commands.workspace.unchanged import unchanged
from mimic.infra import exchange
from mimic.infra.storage import Workspace
from mimic.params import Params, load_params

PANEL = "Pipeline"


@contextmanager
def _settings(path: Path) -> Iterator[Params]:
    """The parameter file of a workspace that belongs to this version of mimic, for a stage: of what
    DVC will record, nothing may change while it runs."""
    exchange.settle_all(Workspace(path.parent).places())
    with unchanged(path.parent):
        settings = load_params(path)
        versions.check(path.parent, settings.profile)
        yield settings


def synthesize(
    kind: Annotated[str, typer.Argument(help="rooms, phone, frames, nyu or tasks")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Generate synthetic raw data in the layouts of real datasets.

    rooms: .glb scenes; phone: hand-held videos; frames: folders of numbered frames; nyu: labelled
    depth; tasks: a small labelled set for every other task.
    """
    from mimic import synthesize as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent, kind)


def ingest(
    source: Annotated[str, typer.Argument(help="A name under `sources` in params.yaml")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """List a source's raw data: clips, bytes, frames, hashes."""
    from mimic import ingest as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent, source)


def mine(
    source: Annotated[str, typer.Argument(help="A name under `sources` in params.yaml")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Mine pairs of overlapping views from a source into shards."""
    from mimic import mine as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent, source)


def assemble(
    dataset: Annotated[str, typer.Argument(help="A name under `datasets` in params.yaml")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Select the pairs of a dataset and write its manifest.

    Near-duplicates are removed, the split is by scene, and a smaller dataset is a subset of the
    larger ones.
    """
    from mimic import assemble as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent, dataset)


def recipe(
    run: Annotated[str, typer.Argument(help="A name under `runs` or `adapt` in params.yaml")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Write how a run is pretrained, its recipe whole.

    It is trained again when that file changes.
    """
    from mimic import recipe as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent, run)


def pretrain(
    run: Annotated[str, typer.Argument(help="A name under `runs` or `adapt` in params.yaml")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Pretrain an encoder.

    Run the same command again to resume an interrupted training. A finished one is kept: nothing is
    trained until something that decides it changes (rm -r runs/pretrain/RUN forgets it).
    """
    from mimic import pretrain as stage
    from mimic import recipe as before

    with _settings(params) as settings:
        before.require_recorded(settings, params.parent, run)
        stage.main(settings, params.parent, run)


def prepare(
    task: Annotated[str, typer.Argument(help="A name under `evaluate` in params.yaml")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Validate a task's data before training on them.

    Checks counts, units, masks and labels.
    """
    from mimic import prepare as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent, task)


def evaluate(
    run: Annotated[str, typer.Argument(help="A name under `runs`, `adapt` or `imported`")],
    task: Annotated[str, typer.Argument(help="A name under `evaluate` in params.yaml")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Evaluate an encoder on a task."""
    from mimic import evaluate as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent, run, task)


def report(params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Write report/index.html: pairs, losses, predictions, results."""
    from mimic import report as stage

    with _settings(params) as settings:
        stage.main(settings, params.parent)


COMMANDS = (synthesize, ingest, mine, assemble, recipe, pretrain, prepare, evaluate, report)
