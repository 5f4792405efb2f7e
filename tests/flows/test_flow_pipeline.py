"""The flow is DVC's graph: same stages, same order, nothing run twice."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.utilities.callables import parameter_schema

from mimic.config import Tracking
from mimic.flows import artifacts
from mimic.flows import pipeline as module
from mimic.flows.graph import choices, select
from mimic.infra.tracking.store import VARIABLE
from tests.support import REPOSITORY
from tests.support.toy_project import (
    Project,
    Server,
    group_is_gone,
    is_running,
    kill_group,
    wait_until,
)

TOY = {
    "mine@a": [],
    "mine@b": [],
    "assemble": ["mine@a", "mine@b"],
    "pretrain": ["assemble"],
    "evaluate": ["pretrain"],
}


def tasks_of(state: State) -> dict[str, TaskRun]:
    """Task runs of a flow run by name, as the server knows them."""
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(
                id=FlowRunFilterId(any_=[state.state_details.flow_run_id])
            )
        )
    return {run.name: run for run in runs}


def artifacts_of(state: State) -> dict[str, str]:
    """What a flow run shows, by key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            flow_run_filter=FlowRunFilter(
                id=FlowRunFilterId(any_=[state.state_details.flow_run_id])
            )
        )
    return {artifact.key: str(artifact.data) for artifact in found}


def test_the_graph_is_read_from_dvc(project: Project) -> None:
    assert module.graph() == TOY
    assert list(module.graph()) == list(TOY)


def test_the_form_offers_what_the_workspace_has() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    offered = parameter_schema(module.pipeline).model_dump()["properties"]
    assert offered["targets"]["items"]["enum"] == list(stages)
    assert set(offered["sources"]["items"]["enum"]) == {*params["synthesize"], *params["sources"]}
    assert set(params["runs"]) <= set(offered["runs"]["items"]["enum"])
    assert set(offered["tasks"]["items"]["enum"]) == set(params["evaluate"])


def test_a_folder_without_parameters_offers_nothing_and_refuses_nothing(tmp_path: Path) -> None:
    assert choices(tmp_path) == {
        "targets": [],
        "sources": [],
        "datasets": [],
        "runs": [],
        "tasks": [],
    }


@pytest.mark.parametrize("damaged", ["sources: [", "- a\n", "sources: 3\n", "\xff"])
def test_a_damaged_params_yaml_fails_the_run_and_not_its_beginning(
    project: Project, damaged: str
) -> None:
    """A flow that cannot be imported is a crash, which the worker would start again and again."""
    (project.root / "params.yaml").write_bytes(damaged.encode("latin-1"))
    done = subprocess.run(
        [sys.executable, "-c", "import mimic.flows.pipeline"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("given", "taken"), [("", 2), ("16", 16), *((wrong, 2) for wrong in ("two", "0", "-1", "1.5"))]
)
def test_how_many_stages_run_at_once_ends_no_night(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, taken: int
) -> None:
    monkeypatch.setenv(module.AT_ONCE_VARIABLE, given)
    assert module._at_once() == taken
    assert ("no number of stages" in capsys.readouterr().err) is (given not in ("", "16"))


def test_names_choose_the_stages_that_they_belong_to() -> None:
    needs = graph_of(REPOSITORY)
    _, needed = select(needs, [], {"runs": ["croco-3m"], "tasks": ["depth"]})
    last = "evaluate@croco-3m-depth"
    assert last in needed
    assert "pretrain@croco-3m" in needed
    wanted, _ = select(needs, ["evaluate"], {"runs": ["croco-3m"], "tasks": ["depth"]})
    assert wanted == {last}
    wanted, _ = select(needs, ["evaluate"], {"tasks": ["depth"]})
    assert len(wanted) > 1
    assert all(stage.endswith("-depth") for stage in wanted)
    wanted, _ = select(needs, [], {"runs": ["croco-3m"]})
    assert {stage.partition("@")[0] for stage in wanted} == {"recipe", "pretrain", "evaluate"}


def test_a_task_whose_name_ends_like_another_is_not_that_one() -> None:
    tasks = ["pose", "relative-pose"]
    needs: dict[str, list[str]] = {f"prepare@{task}": [] for task in tasks}
    needs |= {f"evaluate@x-{task}": [f"prepare@{task}"] for task in tasks}
    for task in tasks:
        wanted, _ = select(needs, [], {"tasks": [task]})
        assert wanted == {f"prepare@{task}", f"evaluate@x-{task}"}


def graph_of(folder: Path) -> dict[str, list[str]]:
    """As `graph` reads it in a folder."""
    with contextlib.chdir(folder):
        return module.graph()


@pytest.mark.parametrize(
    ("parameters", "title"),
    [
        ({}, "everything"),
        ({"targets": ["pretrain"], "runs": ["croco-3m"]}, "pretrain croco-3m"),
        ({"sources": ["a", "b", "c", "d"]}, "a b c and 1 more"),
        ({"targets": ["assemble"], "retries": 1}, "assemble"),
    ],
)
def test_a_run_is_called_after_what_it_does(parameters: dict[str, Any], title: str) -> None:
    assert module.title(parameters) == title


def test_targets_bring_what_they_need_and_nothing_else() -> None:
    assert select(TOY, [], {}) == (set(TOY), TOY)
    assert select(TOY, ["mine"], {"sources": ["b"]}) == ({"mine@b"}, {"mine@b": []})
    wanted, needed = select(TOY, ["assemble"], {})
    assert (wanted, list(needed)) == ({"assemble"}, ["mine@a", "mine@b", "assemble"])
    with pytest.raises(ValueError, match="no such name: c; known: a, b"):
        select(TOY, ["mine"], {"sources": ["c"]})


@pytest.mark.server
def test_one_task_a_stage_and_the_second_run_is_cached(
    project: Project, here: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "prefect.task_runs"):
        first = module.pipeline(return_state=True)
    assert (first.name, first.message) == ("Completed", "5 ran")
    assert {"starting a", "finished a"} <= {record.getMessage() for record in caplog.records}
    runs = tasks_of(first)
    ids = {str(run.id): name for name, run in runs.items()}
    edges = {
        name: sorted(ids[str(up.id)] for up in run.task_inputs.get("wait_for", []))
        for name, run in runs.items()
    }
    assert edges == TOY
    assert (project.root / "score").exists()
    assert float(artifacts_of(first)["progress-mine-a"]) == 25

    second = module.pipeline(return_state=True)
    assert (second.name, second.message) == ("Completed", "5 unchanged")
    assert {run.state_name for run in tasks_of(second).values()} == {"Cached"}

    with get_client(sync_client=True) as client:
        run = client.read_flow_run(second.state_details.flow_run_id)
    assert run.name.startswith("everything, ")
    assert all(name.endswith(" (unchanged)") for name in tasks_of(second))

    # The names of this project are not those of the repository, where the flow was loaded.
    unchecked = module.pipeline.with_options(validate_parameters=False)
    forced = unchecked(targets=["mine"], sources=["b"], force=True, return_state=True)
    assert forced.message == "1 ran"


@pytest.mark.server
def test_a_failed_stage_fails_the_flow_with_the_reason(project: Project, here: Server) -> None:
    project.write("b", "refuse")
    state = module.pipeline(retries=3, return_state=True)
    assert state.is_failed()
    assert state.message.startswith("raw/b: not an image\nmine@b failed\n")
    assert "mimic: raw/b: not an image" in state.message
    links = artifacts_of(state)["links"]
    assert links.startswith("**raw/b: not an image**\n")
    assert "logs: " in links
    assert state.message.endswith("not run, they need it: assemble, pretrain, evaluate")
    runs = tasks_of(state)
    assert {name: run.state_name for name, run in runs.items()} == {
        "mine@a": "Completed",
        "mine@b": "Failed",
        "assemble": "NotReady",
        "pretrain": "NotReady",
        "evaluate": "NotReady",
    }
    assert runs["mine@b"].run_count == 1, "bad input is not tried again"


@pytest.mark.server
def test_a_run_links_to_the_mlflow_that_params_yaml_names(
    project: Project, here: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (VARIABLE, artifacts.MLFLOW_UI):
        monkeypatch.delenv(name, raising=False)
    tracking = Tracking(uri="http://127.0.0.1:9", experiment_prefix="mimic")

    @flow
    def end_of_a_run() -> bool:
        artifacts._links(tracking, [])
        return True

    shown = artifacts_of(end_of_a_run(return_state=True))
    assert "(http://127.0.0.1:9/#/experiments)" in shown["mlflow"]
    assert "- MLflow: [http://127.0.0.1:9/" in shown["links"]


@pytest.mark.server
def test_without_a_server_and_interrupted(project: Project) -> None:
    """`python -m mimic.flows.pipeline` with nothing configured, stopped half-way: neither a stage
    nor a server stays behind."""
    project.write("a", "hang")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")
    } | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "mimic.flows.pipeline", "mine"]
    log = project.root / "log"
    with log.open("wb") as file:
        flow = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        pids = project.children(120)
        assert all(map(is_running, pids))
        wait_until(lambda: "finished b" in log.read_text(), 30, "the other stage")
        flow.send_signal(signal.SIGTERM)
        wait_until(lambda: not any(map(is_running, pids)), 20, "the stage to end")
        assert flow.wait(30) == 128 + signal.SIGTERM, log.read_text()
        assert (project.root / "saved").exists(), "the stage was asked before it was killed"
        assert (project.root / ".prefect").is_dir(), "the server's files stay in the project"
        wait_until(lambda: group_is_gone(flow.pid), 20, "the server started for the run to end")
    finally:
        kill_group(flow)
