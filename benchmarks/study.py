"""Run the study of a workspace, a cell after the other, and keep what each gave.

Run `python -m benchmarks.study --workspace DIR [--cells RUN/TASK ...] [--out docs/study]`. DIR
holds params.yaml, a copy of profiles/study.yaml, and the data that it names. Cells are run in the
order of `table`: runs, and the tasks of each. A cell that lies in the output folder, made with the
same parameters, is not run again; a pretraining that was killed goes on where it was. Everything is
niced.

    <out>/cells/<run>/<task>.json    the result, complete
    <out>/cells/<run>/second-view.json    loss with the true and with a wrong second view
    <out>/logs/<run>/*.jsonl         losses of each seed
    <out>/params.yaml                what it was run with
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import environment_as_given, second_view
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, fingerprint, write_json
from mimic.params import Params, load_params

NICE = 19
SECOND_VIEW = "second-view"  # a cell that is no task
ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/study")
    parser.add_argument("--cells", nargs="*", default=[], help="RUN/TASK; all of them if none")
    options = parser.parse_args()
    os.nice(NICE)
    study(options.workspace.resolve(), options.out.resolve(), options.cells)


def study(workspace: Path, out: Path, wanted: list[str]) -> list[str]:
    """The cells that were run; those that are kept already are not among them.

    Raises:
        BadInput: a cell is in no row or column of the table.
        CalledProcessError: a command failed; what it printed was shown.
    """
    params = load_params(workspace / "params.yaml")
    cells = cells_of(params)
    if unknown := sorted(set(wanted) - set(cells)):
        raise BadInput(f"--cells {unknown[0]}: no such cell; the table has {', '.join(cells)}")
    done = []
    for cell in [cell for cell in cells if not wanted or cell in wanted]:
        run, task = cell.split("/")
        path = out / "cells" / run / f"{task}.json"
        key = key_of(params, run, task)
        if path.exists() and json.loads(path.read_text())["key"] == key:
            continue
        result = measured(params, workspace, run, task)
        write_json(path, {"key": key, "commit": commit(), "result": result})
        keep_logs(workspace, run, out)
        shutil.copy(workspace / "params.yaml", out / "params.yaml")
        done.append(cell)
        print(f"study: {cell} done, {len(done)} in this call", flush=True)
    return done


def cells_of(params: Params) -> list[str]:
    """RUN/TASK of the whole table, the most important first."""
    return [
        f"{run}/{task}"
        for run in params.table.runs
        for task in ([SECOND_VIEW] if params.recipe(run).objective == "croco" else [])
        + list(params.table.tasks)
    ]


def key_of(params: Params, run: str, task: str) -> str:
    """Changes when the run, its recipe, its dataset or the task's section does."""
    entry = params.runs[run]
    parts: list[Any] = [
        entry.model_dump(mode="json"),
        params.recipe(run).model_dump(mode="json"),
        params.datasets[entry.dataset].model_dump(mode="json"),
    ]
    if task != SECOND_VIEW:
        parts.append(params.evaluate[task].model_dump(mode="json"))
    return fingerprint(*parts)


def measured(params: Params, workspace: Path, run: str, task: str) -> Any:
    """Mine, assemble and pretrain what is missing, then measure."""
    dataset = params.runs[run].dataset
    space = Workspace(workspace)
    if not space.manifest(dataset).exists():
        for source in params.datasets[dataset].sources:
            command(workspace, "ingest", source)
            command(workspace, "mine", source)
        command(workspace, "assemble", dataset)
    command(workspace, "recipe", run)
    command(workspace, "pretrain", run)
    if task == SECOND_VIEW:
        return second_view.measure(workspace, run, space.manifest(dataset))
    command(workspace, "prepare", task)
    command(workspace, "evaluate", run, task)
    return json.loads(space.metrics(run, task).read_text())


def command(workspace: Path, *words: str) -> None:
    # not the program `mimic`: where nothing may be installed, the package lies in PYTHONPATH
    program = [sys.executable, "-c", "from mimic.cli import main; main()"]
    subprocess.run([*program, *words], cwd=workspace, env=environment_as_given(), check=True)


def keep_logs(workspace: Path, run: str, out: Path) -> None:
    for name, folder in Workspace(workspace).encoders(run).items():
        log = folder / "log.jsonl"
        if log.exists():
            target = out / "logs" / f"{name}.jsonl"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target)


def commit() -> str:
    """The commit of the code that ran."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
