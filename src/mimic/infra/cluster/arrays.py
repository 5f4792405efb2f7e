"""Items mapped over a SLURM array: the driver may die, an element may be killed, an item may be
poisoned."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle

from mimic import config
from mimic.errors import BadInput, Cancelled
from mimic.infra import storage
from mimic.infra.addresses import without_secrets
from mimic.infra.cluster import notes, slurm, task
from mimic.infra.cluster.failures import ItemsFailed
from mimic.infra.cluster.stop import Stop
from mimic.infra.progress import say

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Chunk:
    """The items of one array element, one after the other; each leaves its outcome in a file, so a
    restart skips it."""

    function: Callable[[Any], Any]
    items: Mapping[str, Any]  # by key
    folder: Path

    def run(self, stop: Stop) -> None:
        for key, item in self.items.items():
            if not (self.folder / key).exists():
                storage.write_bytes(self.folder / key, self._outcome(item, stop))
            if stop.requested():
                stop.exit()

    def _outcome(self, item: Any, stop: Stop) -> bytes:
        try:
            return cloudpickle.dumps(("success", self.function(item)))
        except Exception:
            if stop.requested():
                # it fell with its helpers, which were told to stop as well: no verdict on the item
                raise
            trace = without_secrets(traceback.format_exc())
            return cloudpickle.dumps(("error", trace))


@dataclass(frozen=True)
class _Element:
    """A submitted chunk, as `array.json` describes it to a later driver."""

    job: slurm.SlurmJob
    folder: str  # of the outcomes
    keys: tuple[str, ...]


@dataclass(frozen=True)
class ArrayWork:
    """What is done to the items, in words."""

    title: str  # mine phone
    unit: str  # shards
    describe: Callable[[Any], str]  # an item


class _Items:
    """The items by key, and what became of them."""

    def __init__(self, work: ArrayWork, items: Sequence[Any]) -> None:
        self.work = work
        self.names = {
            storage.fingerprint(work.describe(item)): work.describe(item) for item in items
        }
        if len(self.names) < len(items):
            raise ValueError("two items have the same description")
        self.todo = dict(zip(self.names, items, strict=True))
        self.errors: dict[str, str] = {}  # of the last try
        self.cancelled: dict[str, str] = {}  # by a person: not tried again

    def failed(self) -> list[str]:
        return [self.names[key] for key in self.errors if key in self.todo]

    def take(self, key: str, kind: str, value: Any) -> None:
        if kind == "error":
            self.errors[key] = value
            return
        del self.todo[key]
        if kind == "cancelled":
            self.cancelled[key] = value

    def say_failed(self, attempt: int) -> None:
        failed = self.failed()
        more = ", ..." if len(failed) > 5 else ""
        say(
            f"slurm: {self.work.title}: {len(failed)} {self.work.unit} failed in attempt "
            f"{attempt}: {', '.join(failed[:5])}{more}"
        )

    def conclude(self, logs: Path) -> None:
        """
        Raises:
            Cancelled: a person has cancelled some.
            ItemsFailed: some have failed for good.
        """
        if self.cancelled:
            reasons = "; ".join(sorted(set(self.cancelled.values()))[:3])
            raise Cancelled(
                f"{self.work.title}: {reasons}: {len(self.cancelled)} of {len(self.names)} "
                f"{self.work.unit} are not done and were not tried again; the same command does "
                "them"
            )
        if self.todo:
            raise ItemsFailed({self.names[key]: self.errors[key] for key in self.todo}, str(logs))

    def news(self, elements: Collection[_Element]) -> slurm.ArrayNews:
        of = {element.job.id: element for element in elements}

        def item_of(id: str) -> str:
            done = _files(of[id].folder)
            return next((self.names[key] for key in of[id].keys if key not in done), "its last one")

        return slurm.ArrayNews(
            self.work.title,
            self.work.unit,
            len(self.names),
            lambda: (len(self.todo) + len(self.cancelled), len(self.failed())),
            item_of,
        )


def map_array(
    function: Callable[[T], R],
    items: Sequence[T],
    work: ArrayWork,
    resources: config.Resources,
    cluster: config.Cluster,
    folder: Path,
) -> Generator[R, None, None]:
    """`map_items` on SLURM."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    known = _Items(work, items)
    todo = known.todo
    results: dict[str, R] = {}
    elements = _living(folder, known)
    order = iter(known.names)
    following = next(order, None)
    for attempt in range(resources.retries + 1):
        taken = {key for element in elements for key in element.keys}
        fresh = {key: item for key, item in todo.items() if key not in taken}
        if fresh:
            chunk = (
                resources.items_per_job if attempt == 0 else 1
            )  # a poisoned item shall not take others down again
            grown = resources.model_copy(
                update={"mem_gb": resources.mem_gb * resources.retry_mem_growth**attempt}
            )
            elements = [
                *elements,
                *_submit(function, fresh, chunk, grown, cluster, folder, elements, work),
            ]
        with closing(_outcomes(elements, cluster, known.news(elements))) as outcomes:
            for key, (kind, value) in outcomes:
                known.take(key, kind, value)
                if kind == "success":
                    results[key] = value
                while following in results:
                    yield results.pop(following)
                    following = next(order, None)
        elements = []
        if not todo:
            break
        known.say_failed(attempt + 1)
    known.conclude(folder)
    shutil.rmtree(folder)


def _submit(
    function: Callable[[Any], Any],
    items: Mapping[str, Any],
    chunk: int,
    resources: config.Resources,
    cluster: config.Cluster,
    folder: Path,
    others: Iterable[_Element],
    work: ArrayWork,
) -> list[_Element]:
    """One array for these items; `others` are the elements of an earlier driver that still run."""
    name = slurm.new_name("map")
    outcomes = folder / name / "outcomes"
    outcomes.mkdir(parents=True)
    keys = list(items)
    size = max(chunk, math.ceil(len(keys) / slurm.array_limit()))
    chunks = [tuple(keys[start : start + size]) for start in range(0, len(keys), size)]
    tasks = [
        task.Task(_Chunk(function, {key: items[key] for key in part}, outcomes).run)
        for part in chunks
    ]
    _write_note(
        folder, others, name
    )  # before: a driver that dies in the next second leaves a name to cancel by
    jobs = slurm.submit(tasks, resources, cluster, folder / name, name)
    elements = [_Element(job, str(outcomes), part) for job, part in zip(jobs, chunks, strict=True)]
    _write_note(folder, [*others, *elements], None)
    say(
        f"slurm: array {jobs[0].id.split('_')[0]} of {work.title}: {len(keys)} {work.unit} in "
        f"{len(jobs)} jobs; logs: {folder / name}"
    )
    return elements


def _outcomes(
    elements: Sequence[_Element], cluster: config.Cluster, news: slurm.ArrayNews
) -> Generator[tuple[str, tuple[str, Any]], None, None]:
    """(key, ("success", result), ("error", traceback) or ("cancelled", by whom)) of every item, as
    they come.

    Whatever ends this generator early - Ctrl-C, an exception of the caller - cancels the jobs;
    SIGKILL leaves them to the next driver.
    """
    monitor = slurm.JobMonitor([element.job for element in elements], cluster, news.tell)
    waiting = {element.job.id: (element, set(element.keys)) for element in elements}
    try:
        while monitor.jobs:
            ended = {job.id: ending for job, ending in monitor.look()}
            for id, (element, keys) in list(waiting.items()):
                for key in sorted(keys & _files(element.folder)):
                    keys.discard(key)
                    yield key, pickle.loads((Path(element.folder) / key).read_bytes())
                if id in ended:
                    kind = "cancelled" if ended[id].by else "error"
                    for key in sorted(keys):
                        yield key, (kind, str(ended[id].error))
                    del waiting[id]
            if monitor.jobs:
                time.sleep(min(1.0, cluster.poll_s))
    except BaseException:
        slurm.cancel(monitor.jobs)
        raise


def _files(folder: str) -> set[str]:
    return {entry.name for entry in Path(folder).iterdir()}


# ---------------------------------------------------------------------------- array.json: what a
# later driver must know


def _write_note(folder: Path, elements: Iterable[_Element], name: str | None) -> None:
    storage.write_json(
        folder / notes.ARRAY, {"name": name, "elements": [asdict(element) for element in elements]}
    )


def _living(folder: Path, known: _Items) -> list[_Element]:
    """Elements that an earlier driver submitted and that still run, with those of their items that
    are still to do."""
    path = folder / notes.ARRAY
    if not path.exists():
        return []
    note = json.loads(path.read_text())
    # Whether an array of this name was submitted is not known; its ids are lost.
    lost = bool(note["name"]) and not slurm.cancel_named(note["name"])
    alive = None if lost else slurm.queue()
    if alive is None:
        raise BadInput(
            f"SLURM does not answer, and jobs of {folder} may be alive: none is submitted twice; "
            "try again later"
        )
    alive_elements = []
    for row in note["elements"]:
        job = slurm.SlurmJob(**row["job"])
        if job.id in alive:
            keys = tuple(
                key for key in row["keys"] if key in known.todo and key not in _files(row["folder"])
            )
            alive_elements.append(_Element(job, row["folder"], keys))
    if alive_elements:
        say(f"slurm: {known.work.title}: re-attached to {len(alive_elements)} jobs of {folder}")
    return alive_elements
