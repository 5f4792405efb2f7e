"""Nights that go wrong, on a whole installation: what is disturbed, and what must be true after it
whatever happened."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support import small_pipeline
from tests.support.installation import OVER, Installation
from tests.support.toy_project import wait_until

START_S = 180.0  # until a run has reached the stage that is to be disturbed
LATER = ("mine", "assemble", "pretrain", "evaluate", "report")


@dataclass(frozen=True)
class After:
    """What a disturbed night came to."""

    ended: str  # the state of the disturbed run
    nights: int  # until everything was there: 1 = the disturbed run itself
    seconds: float


def forget(root: Path, stages: Sequence[str] = LATER) -> None:
    """As if these stages had never been run: their results, records and unfinished work."""
    path = root / "dvc.lock"
    lock = yaml.safe_load(path.read_text())
    chosen = [name for name in lock["stages"] if name.partition("@")[0] in stages]
    for name in chosen:
        for out in lock["stages"].pop(name).get("outs", []):
            _remove(root / out["path"])
    path.write_text(yaml.safe_dump(lock, sort_keys=False))
    _remove(root / ".dvc/cache/runs")
    for stage in stages:
        _remove(root / "runs" / stage)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def reached(lab: Installation, run: str, stage: str) -> None:
    """Wait until a run is at a stage, and its command has started: of an evaluation, that of its
    run and task."""
    command, _, item = stage.partition("@")
    words = item.split("-", 1) if command == "evaluate" else [item]
    sign = " ".join(["> mimic", command, *words]).strip()

    def there() -> bool:
        try:
            return any(sign in line for line in lab.logs(run)) or lab.state(run)["type"] in OVER
        except OSError:
            return False

    wait_until(there, START_S, f"{stage} to start")
    assert any(sign in line for line in lab.logs(run)), f"the run was over without {sign!r}"


def disturbed(
    lab: Installation, stage: str, act: Callable[[], None], wanted: dict[str, str]
) -> After:
    """A night in which something happens while a stage works; then nights until all is there.

    Raises:
        AssertionError: the results are others, or something is there twice, or left behind.
    """
    started = time.monotonic()
    run = lab.start_run("everything")
    reached(lab, run, stage)
    act()
    if lab.worker.process is None or lab.worker.process.poll() is not None:
        lab.worker.start()
    ended = lab.wait_for(run)["name"]
    for server in (lab.s3, lab.mlflow):  # what stayed away until the end of the run
        if server.process is None or server.process.poll() is not None:
            server.start()
    nights = 1
    if ended != "Completed":
        nights = 2
        state = lab.wait_for(lab.start_run("everything"))
        assert state["name"] == "Completed", state["message"]
    check(lab, wanted)
    return After(ended, nights, time.monotonic() - started)


def check(lab: Installation, wanted: dict[str, str]) -> None:
    """Every number is there, the one of an undisturbed night, once; nothing is left."""
    assert small_pipeline.results(lab.root) == wanted
    said = lab.run("dvc", "repro")
    assert "Running stage" not in said, said
    assert small_pipeline.status(lab.root, lab.environment) == {}
    jobs = lab.run("squeue", "--noheader", "--format=%i %j %T")
    assert jobs.strip() == "", f"jobs are left: {jobs}"
    lab.run("mimic", "track")  # what could not be shown at the time
    runs = lab.mlflow_runs()
    assert {run["status"] for run in runs} == {"FINISHED"}
    count = Counter((run["mimic.key"], run["mimic.fingerprint"]) for run in runs)
    assert max(count.values()) == 1, f"shown twice: {count.most_common(1)}"
