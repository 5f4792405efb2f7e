"""What operating the pipeline costs beside the work: `python -m benchmarks.operations [--json]`.

In a workspace of the laptop profile in which everything is up to date (small files in the place of
results; DVC's own records of them):

no-op repro: `dvc repro` that finds nothing to do.
one stage: `dvc repro --single-item` of one stage that has nothing to do.
flow: `python -m mimic.flows.pipeline` on a real server, all stages up to date; a stage is the run's
own time, as the server has it, by the number of stages.
mirror: `mimic track` of results that MLflow does not have yet, on a database file and on a real
server; a result is the difference to a call that finds them all there.

CPU seconds are user and system time of the command and all that it started (of servers: none);
they hold on a busy machine, wall seconds do not. The load says how busy it was. Each is the least
of some tries: others on the machine only add. `--rehearse` takes few of everything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from rich.console import Console
from rich.table import Table

from mimic.commands.operation import serve
from tests.support import small_pipeline, toy_runs
from tests.support.servers import PrefectServer, Service, free_port, get, with_programs

GOALS = {"no-op repro, CPU s": 5.0, "flow, s a stage": 1.0}
FILES = 1400  # of a finished demo
MANY = 20  # results to mirror
FEW = (("random", "mae-1m", "croco-3m"), ("depth-frozen", "correspondence"))  # to rehearse with


@dataclass(frozen=True)
class Spent:
    wall_s: float
    cpu_s: float  # of the command and its children


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rehearse", action="store_true", help="few of everything")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mimic-operations-") as folder:
        found = measure(Path(folder), rehearse=asked.rehearse)
    print(json.dumps(found, indent=2)) if asked.json else show(found)


def show(found: dict[str, Any]) -> None:
    table = Table("measurement", "value", "goal")
    for name, value in found.items():
        goal = GOALS.get(name)
        table.add_row(name, str(value), "" if goal is None else f"<= {goal:g}")
    Console().print(table)


def measure(folder: Path, rehearse: bool) -> dict[str, Any]:
    """Everything, by name."""
    before = _load()
    tries = 1 if rehearse else 3
    root, stages = finished_workspace(folder / "workspace", rehearse)
    found: dict[str, Any] = {"stages": stages}
    noop = _least(tries, lambda: _nothing_to_do(root))
    one = _least(tries, lambda: _nothing_to_do(root, "--single-item", "report"))
    for name, spent in (("no-op repro", noop), ("one stage", one)):
        found[f"{name}, CPU s"] = round(spent.cpu_s, 2)
        found[f"{name}, wall s"] = round(spent.wall_s, 2)
    found |= flow_overhead(root, folder / "prefect", stages, tries)
    found |= mirror_times(folder, 2 if rehearse else MANY)
    return found | {"load before": before, "load after": _load()}


# ---------------------------------------------------------------------------- a finished workspace


def finished_workspace(root: Path, rehearse: bool) -> tuple[Path, int]:
    """The laptop profile, or a few runs and tasks of it, with something in the place of every
    output, and the number of its stages."""
    small_pipeline.copy_workspace(root)
    files = FILES // 20 if rehearse else FILES
    if rehearse:
        small_pipeline.keep_only(root / "params.yaml", *FEW)
    subprocess.run(["git", "init", "-q", root], check=True)
    with Repo(str(root)) as repository:
        stages = list(repository.index.stages)
    outs = [out.def_path for stage in stages for out in stage.outs]
    deps = [dep.def_path for stage in stages for dep in stage.deps]
    inside = [path for path in deps if any(path.startswith(f"{out}/") for out in outs)]
    folders = [path for path in outs if not Path(path).suffix]
    for name in (*outs, *inside):
        each = files // len(folders) if name in folders else 1
        _write(root / name, each)
    _run(root, "dvc", "commit", "--force", "--quiet")
    return root, len(stages)


def _write(path: Path, count: int) -> None:
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
        return
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (path / f"file-{number}").write_text(f"{path} {number}")


def _nothing_to_do(root: Path, *options: str) -> Spent:
    said, spent = _timed(root, "dvc", "repro", *options)
    assert "Running stage" not in said, said
    return spent


# ---------------------------------------------------------------------------- the flow


def flow_overhead(root: Path, folder: Path, stages: int, tries: int) -> dict[str, Any]:
    """A flow run that finds every stage up to date."""
    with _served(PrefectServer(root, None, folder)) as server:
        environment = with_programs(PREFECT_API_URL=server.api)
        flow = (sys.executable, "-m", "mimic.flows.pipeline")

        def once() -> Spent:
            said, spent = _timed(root, *flow, environment=environment)
            assert f"{stages} unchanged" in said, said
            return spent

        spent = _least(tries, once)
        runs = _post(f"{server.api}/flow_runs/filter")
    own_s = min(run["total_run_time"] for run in runs)
    return {
        "flow, s a stage": round(own_s / stages, 2),
        "flow, CPU s a stage": round(spent.cpu_s / stages, 2),
        "flow, wall s": round(spent.wall_s, 1),
        "flow, CPU s": round(spent.cpu_s, 1),
    }


# ---------------------------------------------------------------------------- MLflow


def mirror_times(folder: Path, count: int) -> dict[str, Any]:
    """Of models and a result of each, copies of one that was made; a result is what MLflow shows as
    a run."""
    root = published(folder / "results", count)
    found: dict[str, Any] = {}
    (folder / "mlflow").mkdir()
    file = f"sqlite:///{folder / 'mlflow/file.db'}"
    found |= {f"mirror, file, {key}": value for key, value in _mirrored(root, file).items()}
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow/served.db'}"]
    command += ["--artifacts-destination", str(folder / "mlflow/artifacts")]
    url = f"http://127.0.0.1:{port}"
    ready = lambda: get(f"{url}/health") == b"OK"  # noqa: E731
    settings = with_programs(**{serve.JOBS: "false"})
    with _served(Service("mlflow-server", command, folder / "mlflow", ready, settings)):
        again = _mirrored(root, url)
    return found | {f"mirror, server, {key}": value for key, value in again.items()}


def published(root: Path, count: int) -> Path:
    """A workspace with so many models and a result of each."""
    workspace = toy_runs.write_workspace(root, small_pipeline.REPOSITORY)
    toy_runs.change(workspace, "evaluate", "reconstruction", dataset="toy", pairs=4)
    toy_runs.run(workspace, "random")
    for command in ("prepare", "evaluate random"):
        _run(workspace, "mimic", *command.split(), "reconstruction")
    result = json.loads((workspace / "metrics/random/reconstruction.json").read_text())
    for number in range(1, count):
        name = f"copy-{number}"
        shutil.copytree(workspace / "models/random", workspace / "models" / name)
        shutil.copytree(workspace / "samples/random", workspace / "samples" / name)
        path = workspace / "metrics" / name / "reconstruction.json"
        path.parent.mkdir()
        path.write_text(json.dumps(result | {"run": name}))
    return workspace


def _mirrored(root: Path, uri: str) -> dict[str, float]:
    environment = with_programs(MLFLOW_TRACKING_URI=uri)
    said, first = _timed(root, "mimic", "track", "--no-encoders", environment=environment)
    new = _counted(said, "new")
    said, again = _timed(root, "mimic", "track", "--no-encoders", environment=environment)
    assert (_counted(said, "new"), _counted(said, "known")) == (0, new), said
    return {
        "results": new,
        "CPU s a result": round((first.cpu_s - again.cpu_s) / new, 3),
        "wall s a result": round((first.wall_s - again.wall_s) / new, 3),
        "all there, CPU s": round(again.cpu_s, 2),
    }


def _counted(said: str, what: str) -> int:
    found = re.search(rf"(\d+) {what}\b", said)
    assert found, said
    return int(found[1])


# ---------------------------------------------------------------------------- commands and servers


def _timed(
    root: Path, *command: str, environment: dict[str, str] | None = None
) -> tuple[str, Spent]:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    said = _run(root, *command, environment=environment)
    wall_s = time.monotonic() - started
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    return said, Spent(wall_s, cpu_s)


def _run(root: Path, *command: str, environment: dict[str, str] | None = None) -> str:
    environment = environment or with_programs()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def _least(tries: int, once: Callable[[], Spent]) -> Spent:
    """The least of each kind of seconds, by itself."""
    all_of_them = [once() for _ in range(tries)]
    return Spent(min(one.wall_s for one in all_of_them), min(one.cpu_s for one in all_of_them))


@contextmanager
def _served(service: Any) -> Iterator[Any]:
    service.start()
    try:
        yield service
    finally:
        service.end()


def _post(url: str) -> Any:
    request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _load() -> float:
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    main()
