"""One function over many items: worker processes here, or a SLURM array, by params."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from mimic import config
from mimic.infra.cluster.local import map_local

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_items(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    resources: config.Resources,
    cluster: config.Cluster,
    describe: Callable[[Item], str],
    folder: Path | None = None,
    *,
    title: str = "",
    unit: str = "items",
) -> Generator[Result, None, None]:
    """`map(function, items)`; results come in the order of the items.

    Function and items are pickled: a function of an installed module, plain data. An item is done
    when the function has written its own final file; the caller passes the items that are not.
    Closing the generator, or an exception, ends all workers and jobs.

    On SLURM `resources.items_per_job` items make an element of an array.
    Failed items are tried again, each alone and with more memory. When this process is killed the
    array goes on; the next call with this folder takes it over.

    Args:
        resources: what an element of the array asks of SLURM.
        describe: names an item in messages; on SLURM also to a later driver, so no two items may
            share a name.
        folder: for the job's files and logs, where all nodes see it; removed at the end, kept after
            a failure. None = run here, whatever the executor.

        title: of the whole work, for the lines that say how it stands on SLURM: `mine phone`.
        unit: what an item is called there, in the plural.

    Raises:
        BadInput: sbatch refuses, or SLURM does not answer while jobs may be alive.
        Cancelled: a person cancelled jobs of the array; the others have ended.
        ItemsFailed: items failed for good and all others are done; each is named, with its
            traceback. Locally these are items on which a worker process died twice; an exception in
            the function is raised at once.
    """
    if cluster.executor == "local" or folder is None:
        return map_local(function, items, cluster.workers, describe)
    from mimic.infra.cluster.arrays import (
        ArrayWork,
        map_array,
    )  # submitit is not for worker processes

    work = ArrayWork(title or folder.name, unit, describe)
    return map_array(function, items, work, resources, cluster, folder)
