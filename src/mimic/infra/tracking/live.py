"""Curves while it trains: a process beside the one that trains, or waits for a job that does. It
reads the growing logs now and then, and writes them to MLflow.

It is a process of its own, and the least urgent one, so that the training neither waits for a
tracker nor shares an interpreter with it; short trainings start none. It ends when its standard
input does, however that came about. What it wrote is completed by `mirror_pretrain`, or by
`mimic track`: the end is the same as without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mimic import config
from mimic.config.names import seed_of
from mimic.infra.progress import say
from mimic.infra.storage import fingerprint
from mimic.infra.tracking import recorder, store, trained
from mimic.infra.tracking.identity import identity_of, user_name
from mimic.infra.tracking.names import TrackingContext
from mimic.infra.tracking.records import Record, Times
from mimic.infra.tracking.writer import Writer

AFTER_S = 60.0  # a training that is over by then is shown at its end
EVERY_S = 30.0
PATIENCE_S = 60.0  # for what it is writing when the training ends
DONE = "done\n"
VARIABLE = "MIMIC_SHOW_EVERY_S"  # seconds, instead of both


@dataclass(frozen=True)
class ShownTraining:
    """A training that may be shown.

    Args:
        encoder: its name; that of the run, or of one of its seeds.
        folder: of the unfinished work, with log.jsonl.
        lines: that the log will have.
        label: of the run, as it will be called.
    """

    encoder: str
    folder: str
    lines: int
    label: str


@contextlib.contextmanager
def showing(
    context: TrackingContext, root: Path, trainings: Sequence[ShownTraining]
) -> Iterator[None]:
    """Show trainings while the block runs.

    Args:
        trainings: all encoders of their runs, also those that are finished.
    """
    tracking = context.tracking
    if store.address(tracking, root) is None or not trainings:
        yield
        return
    request = json.dumps(
        {
            "tracking": tracking.model_dump(mode="json"),
            "root": str(root.resolve()),
            "trainings": [asdict(one) for one in trainings],
        }
    )
    started: list[subprocess.Popen[str]] = []
    timer = threading.Timer(_seconds(AFTER_S), lambda: started.append(_start(request)))
    timer.daemon = True
    timer.start()
    try:
        yield
        word = DONE
    except BaseException:
        word = ""
        raise
    finally:
        timer.cancel()
        timer.join()
        for process in started:
            _end(process, word)


def _start(told_once: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mimic.infra.tracking.live"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=quiet,
        stderr=quiet,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended at once: there is nothing to show with
        process.stdin.write(f"{told_once}\n")
        process.stdin.flush()
    return process


def _end(process: subprocess.Popen[str], word: str) -> None:
    """It has the time to write what it is at; a tracker that hangs is left."""
    try:
        process.communicate(word, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _seconds(usual: float) -> float:
    given = os.environ.get(VARIABLE) or usual
    with contextlib.suppress(ValueError):
        if 0 <= float(given) < threading.TIMEOUT_MAX:  # NaN is no number of seconds either
            return float(given)
    say(f"{VARIABLE}: {given!r} is no number of seconds; {usual:g} are taken")
    return usual


# ---------------------------------------------------------------------------- in that process


def main() -> None:
    """Until standard input ends."""
    os.nice(19)
    request = json.loads(sys.stdin.readline())
    trainings = [ShownTraining(**one) for one in request["trainings"]]
    tracking = config.Tracking.model_validate(request["tracking"])
    root = Path(request["root"])
    while True:
        _look(tracking, root, trainings)
        ready, _, _ = select.select([sys.stdin], [], [], _seconds(EVERY_S))
        if ready:
            if sys.stdin.readline() != DONE:
                _look(tracking, root, trainings, ended=True)
            return


def _look(
    tracking: config.Tracking,
    root: Path,
    trainings: Sequence[ShownTraining],
    *,
    ended: bool = False,
) -> None:
    """Write what is new. A tracker that does not answer is asked again the next time; whoever
    publishes says so."""
    uri = store.address(tracking, root)
    if uri is None:
        return
    with contextlib.suppress(Exception), store.opened(uri) as client:
        for run in dict.fromkeys(seed_of(one.encoder)[0] for one in trainings):
            of = [one for one in trainings if seed_of(one.encoder)[0] == run]
            writer = Writer(client, uri, tracking.experiment_prefix, identity_of(root), run)
            _show(writer, run, of, ended)


def _show(writer: Writer, run: str, trainings: Sequence[ShownTraining], ended: bool) -> None:
    """One run, with its seeds and trainings below it."""
    begun = [recorder.read(Path(one.folder) / recorder.FILE).begun for one in trainings]
    known = [one for one in begun if one is not None]
    by_seed = sorted(trainings, key=lambda one: seed_of(one.encoder)[1] or 0)  # as when published
    training = fingerprint(*(Path(one.folder).name for one in by_seed))
    if not known:
        return  # it waits for a machine
    run_record = replace(_record("run", run, trainings[0], min(known)), training=training)
    if writer.is_made(run_record):
        return
    shown = [writer.shown(run_record)]
    for one, since in zip(trainings, begun, strict=True):
        if since is not None:
            shown += _show_encoder(writer, run, one, since)
    for mlflow_run in shown if ended else ():
        writer.client.set_terminated(mlflow_run.info.run_id, "KILLED")


def _show_encoder(writer: Writer, run: str, one: ShownTraining, since: float) -> list[Any]:
    """What was written to: the runs of a seed and of its training."""
    above = ("run", run)
    pretraining = _record("pretrain", one.encoder, one, since)
    if writer.is_made(pretraining):
        return []
    shown = []
    if seed_of(one.encoder)[1] is not None:
        seed = _record("seed", one.encoder, one, since).below(*above)
        shown.append(writer.shown(seed))
        above = seed.node
    mlflow_run = writer.shown(pretraining.below(*above))
    lines = trained.thinned(trained.log_lines(Path(one.folder), None), one.lines)
    writer.add(mlflow_run, trained.curves(lines), pretraining.times.begun)
    return [*shown, mlflow_run]


def _record(level: str, subject: str, one: ShownTraining, begun: float) -> Record:
    """As far as it is known before it is published."""
    started = round(begun * 1000)
    names = {
        "run": one.label,
        "seed": f"{subject.replace('/seed-', ' seed ')}",
        "pretrain": f"pretrain {subject.replace('/', ' ')}",
    }
    return Record(
        level=level,
        subject=subject,
        name=names[level],
        fingerprint="",
        tags={},
        times=Times(started, started),
        user=user_name(),
        training=Path(one.folder).name,
    )


if __name__ == "__main__":
    main()
