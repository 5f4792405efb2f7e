"""MLflow, a view of the published files: each run is mirrored into one MLflow run, with its seeds,
pretrainings and evaluations below it (`records`).

The files are the truth. Whatever happens to the tracker, the stage that has just published them has
succeeded; `mimic track` mirrors everything found, whenever it is called. Mirroring the same result
again changes nothing; another result of the same name (other data, other parameters) is a run of
its own, and the tag `current` tells the newest from its predecessors.

Compute nodes need no tracker: this is called by the process that publishes. While it trains, a
process beside it shows the log as it grows (`live`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra import progress
from mimic.infra.addresses import without_password
from mimic.infra.storage import Workspace
from mimic.infra.tracking import earlier_layout, published, registry, store
from mimic.infra.tracking.evaluated import mark, record_path
from mimic.infra.tracking.identity import identity_of
from mimic.infra.tracking.live import ShownTraining, showing
from mimic.infra.tracking.names import TrackingContext
from mimic.infra.tracking.published import label
from mimic.infra.tracking.recorder import recorded
from mimic.infra.tracking.records import Record
from mimic.infra.tracking.registry import Pack
from mimic.infra.tracking.writer import Writer

__all__ = [
    "Pack",
    "ShownTraining",
    "Summary",
    "TrackingContext",
    "label",
    "mark",
    "mirror_all",
    "mirror_evaluation",
    "mirror_pretrain",
    "record_path",
    "recorded",
    "showing",
]

log = logging.getLogger(__name__)


def mirror_pretrain(context: TrackingContext, root: Path, run: str) -> None:
    """Show models/<run>/, all its seeds, in MLflow; a tracker that fails is one line of warning."""
    _mirror_published(
        context,
        root,
        run,
        f"pretrain {run}",
        lambda: published.of_run(Workspace(root), context, run),
    )


def mirror_evaluation(context: TrackingContext, root: Path, run: str, task: str) -> None:
    """Show metrics/<run>/<task>.json and its samples in MLflow; a tracker that fails is one line of
    warning."""
    _mirror_published(
        context,
        root,
        run,
        f"evaluate {run} {task}",
        lambda: published.of_run(Workspace(root), context, run, task),
    )


@dataclass(frozen=True)
class Summary:
    """What `mirror_all` did."""

    new: int
    known: int
    skipped: int  # folders and files whose names are not those of results
    encoders: int  # new in the registry
    best: str  # where the alias leads and by which rule, or why it leads nowhere; empty: no task
    where: str  # how to look at it: a link, or a command


def mirror_all(context: TrackingContext, root: Path, pack: Pack | None = None) -> Summary:
    """Mirror every published result of a workspace, and its encoders into the registry.

    Args:
        pack: writes an encoder as it is registered; None = the registry is left alone.

    Raises:
        BadInput: tracking is off, or the tracker cannot be reached.
    """
    uri = store.address(context.tracking, root)
    if uri is None:
        raise BadInput("tracking is off: set tracking.uri in params.yaml, or MLFLOW_TRACKING_URI")
    workspace = Workspace(root)
    published_records = published.everything(workspace, context)
    for path in published_records.misnamed:
        progress.say(f"track: {path}: skipped, mimic gives no result this name; rename it")
    prefix = context.tracking.experiment_prefix
    try:
        with store.opened(uri) as client:
            writer = Writer(client, uri, prefix, identity_of(root))
            new = sum([writer.put(record) for record in published_records.records])
            earlier_layout.give_way(client, prefix, writer, published_records.records)
            encoders = 0
            best = ""
            if pack is not None:
                encoders = registry.register(
                    writer, workspace, prefix, published_records.records, pack
                )
                best = _best(context, writer, workspace, published_records.records)
            return Summary(
                new=new,
                known=len(published_records.records) - new,
                skipped=len(published_records.misnamed),
                encoders=encoders,
                best=best,
                where=store.where(uri, writer.experiment),
            )
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"MLflow at {without_password(uri)}: {store.reason(error)}; start the server, or check "
            "tracking.uri and MLFLOW_TRACKING_URI"
        ) from error


def _best(
    context: TrackingContext, writer: Writer, workspace: Workspace, records: list[Record]
) -> str:
    if context.best is None:
        return ""
    chosen = registry.best_encoder(workspace, context.best, records)
    prefix = context.tracking.experiment_prefix
    if isinstance(chosen, str):
        registry.point_nowhere(writer, prefix)
        return f"none: {chosen}"
    encoder, checkpoint, rule = chosen
    address = registry.point_best(writer, prefix, encoder, checkpoint, rule)
    if address is None:
        registry.point_nowhere(writer, prefix)
        return f"none: {encoder} is not in models/, only its numbers are here"
    return f"{address} is {encoder} ({rule})"


def _mirror_published(
    context: TrackingContext, root: Path, run: str, what: str, read: Callable[[], list[Record]]
) -> None:
    uri = store.address(context.tracking, root)
    if uri is None:
        return
    try:
        with store.opened(uri) as client:
            writer = Writer(client, uri, context.tracking.experiment_prefix, identity_of(root), run)
            for record in read():
                writer.put(record)
    except (
        Exception
    ) as error:  # the result is published and whole: nothing that a tracker does may fail it
        log.warning(
            "%s is finished, but not shown in MLflow at %s (%s); `mimic track` shows it later",
            what,
            without_password(uri),
            store.reason(error),
        )
