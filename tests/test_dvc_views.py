"""What DVC shows of the report's tables, with the real DVC: metrics on one screen, plots that hold
data, two commits side by side."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mimic import report
from mimic.params import load_params
from tests.support.published import publish_everything

SCREEN = 120  # columns


def _run(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _dvc(root: Path, *command: str) -> str:
    return _run(root, sys.executable, "-m", "dvc", *command)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A report that was committed, and in the workspace a newer one: one value has changed."""
    root = tmp_path_factory.mktemp("views")
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "params.yaml"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(repository / name, root / name)
    whole = yaml.safe_load((repository / "dvc.yaml").read_text())
    own = whole["stages"]["report"] | {"params": ["report", "table"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump(whole | {"stages": {"report": own}}))
    params = load_params(root / "params.yaml")
    publish_everything(params, root)
    (root / "data/tasks").mkdir(exist_ok=True)
    report.main(params, root)
    _run(root, "git", "init", "-q", ".")
    _dvc(root, "commit", "--force", "report")
    _run(root, "git", "add", ".")
    _run(root, "git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x")
    changed = root / "metrics/croco-3m/depth.json"
    result = json.loads(changed.read_text())
    changed.write_text(json.dumps(result | {"value": 0.5}))
    report.main(params, root)
    return root


def test_metrics_are_a_row_a_task_and_a_column_a_run(root: Path) -> None:
    lines = _dvc(root, "metrics", "show").splitlines()
    runs = load_params(root / "params.yaml").table.runs
    assert lines[0].split() == ["Path", *sorted(runs)]
    assert [line.split()[0] for line in lines[1:]] == [
        "report/summary/correspondence.recall.json",
        "report/summary/depth-frozen.delta1.json",
        "report/summary/depth.delta1.json",
        "report/summary/reconstruction.recall.json",
    ]
    assert max(map(len, lines)) <= SCREEN
    assert lines[3].split()[2] == "0.5"


def test_two_commits_differ_in_what_has_changed(root: Path) -> None:
    head, row = _dvc(root, "metrics", "diff").splitlines()
    assert head.split() == ["Path", "Metric", "HEAD", "workspace", "Change"]
    assert row.split()[:2] == ["report/summary/depth.delta1.json", "croco-3m"]
    assert row.split()[3] == "0.5"
    assert len(row) <= SCREEN


def test_plots_hold_results_losses_and_overlaps(root: Path) -> None:
    shown = json.loads(_dvc(root, "plots", "show", "--json", "--split"))["data"]
    params = load_params(root / "params.yaml")
    trained = [run for run in params.table.runs if params.runs[run].steps]
    expected = {
        *(f"report/plots/loss/{run}.csv" for run in trained),
        *(f"report/plots/overlap/{source}.csv" for source in params.sources),
        "report/plots/results/depth.delta1.csv",
    }
    assert expected <= {name.removeprefix("dvc.yaml::") for name in shown}
    for name, (plot,) in shown.items():
        points = plot["anchor_definitions"]["<DVC_METRIC_DATA>"]
        assert len(points) > 1, name
        assert all(str(value) for point in points for value in point.values())
    page = root / "plots"
    _dvc(root, "plots", "diff", "HEAD", "-o", str(page))
    text = (page / "index.html").read_text()
    for revision in ("HEAD", "workspace"):
        assert text.count(f'"rev": "{revision}"') > 10
    assert '"value": "0.5"' in text
