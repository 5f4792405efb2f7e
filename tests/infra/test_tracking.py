"""Published files in MLflow: the embedded store, a real server, two datasets and two objectives
side by side."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mimic import config
from mimic.errors import BadInput
from mimic.infra import tracking as module
from mimic.infra.storage import write_bytes, write_json

TRACKING = config.Tracking(uri="sqlite:///mlflow.db", experiment_prefix="mimic")
DIGESTS = {"mimic-1m": "1a" * 32, "mimic-3m": "3b" * 32}
RUNS = {
    "mae-1m": ("mae", "mimic-1m"),
    "croco-1m": ("croco", "mimic-1m"),
    "croco-3m": ("croco", "mimic-3m"),
}


def publish_pretraining(root: Path, run: str, seed: int = 0) -> None:
    objective, dataset = RUNS[run]
    card = {
        "run": run,
        "objective": objective,
        "dataset": dataset,
        "manifest_digest": DIGESTS[dataset],
        "steps": 30,
        "seed": seed,
        "model": {"width": 192, "size_px": [64, 64]},
        "git_commit": "c0ffee",
        "versions": {"torch": "2.14.1"},
    }
    folder = root / "models" / run
    write_json(folder / "card.json", card)
    write_bytes(folder / "encoder.safetensors", f"{run} {seed}".encode())
    lines = [{"step": step, "loss": 1 / step, "lr": 1e-3} for step in range(1, 31)]
    write_bytes(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    Image.fromarray(np.full((32, 96, 3), 128, np.uint8)).save(folder / "reconstruction.png")


def publish_evaluation(root: Path, run: str, value: float) -> None:
    objective, dataset = RUNS[run]
    result = {
        "name": "delta1",
        "value": value,
        "higher_is_better": True,
        "metrics": {
            "delta1": value,
            "rms": 0.5,
            "averages": {"image": {"delta1": value}},
            "blocks": [{"exact": 0.1}, {"exact": 0.2}],
            "note": "x",
        },
        "protocol": "fine-tuned",
        "task": "depth",
        "run": run,
        "objective": objective,
        "dataset": dataset,
        "manifest_digest": DIGESTS[dataset],
        "checkpoint": "ab" * 32,
        "versions": {"torch": "2.14.1"},
    }
    write_json(root / "metrics" / run / "depth.json", result)
    picture = root / "samples" / run / "depth" / "view-0.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for run, value in zip(RUNS, (0.4, 0.5, 0.6), strict=True):
        publish_pretraining(tmp_path, run)
        publish_evaluation(tmp_path, run, value)
    write_json(tmp_path / "metrics" / "mine" / "rooms.json", {"kept": 3})
    return tmp_path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded store without runs: making its tables takes seconds."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    with module._store(f"sqlite:///{path}"):
        return path


@pytest.fixture
def tracked(workspace: Path, tables: Path) -> Path:
    shutil.copy(tables, workspace / "mlflow.db")
    return workspace


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def search(client: Any, stage: str, query: str = "") -> dict[str, Any]:
    experiment = client.get_experiment_by_name(f"mimic-{stage}").experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment], query)}


def check_side_by_side(client: Any) -> None:
    """What a reader of the UI finds."""
    trained = search(client, "pretrain")
    assert set(trained) == set(RUNS)
    run = trained["croco-3m"]
    assert run.info.status == "FINISHED"
    assert {
        "objective": "croco",
        "dataset": "mimic-3m",
        "model.width": "192",
        "model.size_px": "[64, 64]",
    }.items() <= run.data.params.items()
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.tags["version.torch"] == "2.14.1"
    assert [
        point.step for point in client.get_metric_history(run.info.run_id, "train/loss")
    ] == list(range(1, 31))
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("mimic-3m", DIGESTS["mimic-3m"][:36])
    images = [artifact.path for artifact in client.list_artifacts(run.info.run_id, "images")]
    assert any("reconstruction" in path and path.endswith(".png") for path in images)

    assert set(search(client, "evaluate", f"dataset.digest = '{DIGESTS['mimic-1m'][:36]}'")) == {
        "mae-1m/depth",
        "croco-1m/depth",
    }
    assert set(search(client, "evaluate", "dataset.name = 'mimic-3m'")) == {"croco-3m/depth"}
    assert set(
        search(client, "evaluate", "params.objective = 'croco' and metrics.`depth/delta1` > 0.55")
    ) == {"croco-3m/depth"}
    measured = search(client, "evaluate")["mae-1m/depth"]
    assert {
        "depth/delta1": 0.4,
        "depth/averages/image/delta1": 0.4,
        "depth/blocks/exact": 0.2,
    }.items() <= measured.data.metrics.items()
    assert measured.data.tags["encoder"] == "mae-1m"
    assert len(client.get_metric_history(measured.info.run_id, "depth/blocks/exact")) == 2


def test_the_embedded_store_holds_everything_once(tracked: Path) -> None:
    summary = module.mirror_all(TRACKING, tracked)
    assert (summary.new, summary.known) == (6, 0)
    assert summary.where.startswith("mlflow server --backend-store-uri sqlite:////")
    client = client_of(f"sqlite:///{tracked}/mlflow.db")
    check_side_by_side(client)
    assert (tracked / "mlruns").is_dir(), "artifacts lie in the tracked"

    again = module.mirror_all(TRACKING, tracked)
    assert (again.new, again.known) == (0, 6)
    check_side_by_side(client)


def test_each_seed_is_a_run_with_its_tag_and_so_is_their_mean(tracked: Path) -> None:
    for seed in (0, 1):
        shutil.copytree(tracked / "models/mae-1m", tracked / f"models/many/seed-{seed}")
        card = json.loads((tracked / "models/mae-1m/card.json").read_text())
        write_json(tracked / f"models/many/seed-{seed}/card.json", card | {"seed": seed})
    result = json.loads((tracked / "metrics/mae-1m/depth.json").read_text())
    each = [
        {"encoder": f"many/seed-{seed}", "run_seed": seed, "value": value, "checkpoint": f"c{seed}"}
        | {"metrics": {"delta1": value}}
        for seed, value in enumerate((0.3, 0.5))
    ]
    whole = {"run": "many", "value": 0.4, "sd": 0.14, "n": 2, "seeds": each, "checkpoint": None}
    write_json(tracked / "metrics/many/depth.json", result | whole)
    for seed in (0, 1):
        picture = tracked / f"samples/many/depth/seed-{seed}/view-0.png"
        picture.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture)
    assert module.mirror_all(TRACKING, tracked).new == 6 + 2 + 3
    client = client_of(f"sqlite:///{tracked}/mlflow.db")
    assert set(search(client, "pretrain", "tags.seed = '1'")) == {"many/seed-1"}
    (measured,) = search(client, "evaluate", "tags.seed = '1'").values()
    assert measured.data.metrics["depth/delta1"] == 0.5
    assert measured.data.tags["checkpoint"] == "c1"
    images = client.list_artifacts(measured.info.run_id, "images")
    assert any("view-0" in artifact.path for artifact in images)
    mean = search(client, "evaluate")["many/depth"]
    assert mean.data.metrics["depth/delta1"] == 0.4
    assert mean.data.metrics["depth/delta1 deviation over seeds"] == 0.14
    module.mirror_evaluation(TRACKING, tracked, "many", "depth")  # adds none of them again
    assert len(search(client, "evaluate", "tags.current = 'true'")) == 3 + 3
    assert module.mirror_all(TRACKING, tracked).new == 0


def test_another_result_of_the_same_name_is_the_current_one(tracked: Path) -> None:
    def current() -> list[str]:
        return [
            run.data.params["seed"]
            for run in search(client, "pretrain", "tags.current = 'true'").values()
        ]

    module.mirror_pretrain(TRACKING, tracked, "croco-1m")
    client = client_of(f"sqlite:///{tracked}/mlflow.db")
    publish_pretraining(tracked, "croco-1m", seed=1)
    module.mirror_pretrain(TRACKING, tracked, "croco-1m")
    assert current() == ["1"]
    publish_pretraining(tracked, "croco-1m", seed=0)
    module.mirror_pretrain(TRACKING, tracked, "croco-1m")
    assert current() == ["0"]
    experiment = client.get_experiment_by_name("mimic-pretrain").experiment_id
    assert len(client.search_runs([experiment])) == 2


def test_what_a_killed_writer_left_is_replaced(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(
            module,
            "_fill",
            lambda *_: (_ for _ in ()).throw(RuntimeError("connection lost\nat line 3")),
        )
        module.mirror_evaluation(TRACKING, tracked, "mae-1m", "depth")
    (line,) = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert "evaluate mae-1m depth is finished, but not shown" in line
    assert "connection lost" in line
    assert "mimic track" in line
    assert "\n" not in line
    module.mirror_evaluation(TRACKING, tracked, "mae-1m", "depth")
    assert [
        run.info.status
        for run in search(client_of(f"sqlite:///{tracked}/mlflow.db"), "evaluate").values()
    ] == ["FINISHED"]


def test_off_means_off(workspace: Path) -> None:
    off = config.Tracking(uri=None, experiment_prefix="mimic")
    module.mirror_pretrain(off, workspace, "croco-1m")
    assert not (workspace / "mlflow.db").exists()
    with pytest.raises(BadInput, match="tracking is off"):
        module.mirror_all(off, workspace)


def test_a_server_that_is_down_costs_seconds_and_one_line(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@127.0.0.1:{free_port()}")
    started = time.monotonic()
    module.mirror_pretrain(TRACKING, workspace, "croco-1m")
    assert time.monotonic() - started < 15
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "is finished, but not shown" in lines[0]
    assert "secret" not in lines[0]
    with pytest.raises(BadInput, match="MLflow at http://127") as info:
        module.mirror_all(TRACKING, workspace)
    assert "\n" not in str(info.value)
    assert "secret" not in str(info.value)


def test_two_first_users_of_the_embedded_store(workspace: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mimic import config; from mimic.infra import "
        "tracking\n"
        "tracking.mirror_pretrain(config.Tracking(uri='sqlite:///mlflow.db', "
        "experiment_prefix='mimic'), Path('.'), sys.argv[1])"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, run],
            cwd=workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for run in ("mae-1m", "croco-1m")
    ]
    assert [process.communicate()[0] for process in both] == ["", ""], "quiet, no migration noise"
    assert set(search(client_of(f"sqlite:///{workspace}/mlflow.db"), "pretrain")) == {
        "mae-1m",
        "croco-1m",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--workers",
                "1",
                *store,
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        )
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.server
def test_a_real_server_shows_datasets_and_objectives_side_by_side(
    workspace: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    assert module.mirror_all(TRACKING, workspace).new == 6
    summary = module.mirror_all(TRACKING, workspace)
    assert (summary.new, summary.known) == (0, 6)
    check_side_by_side(client_of(mlflow_server))
    assert summary.where.startswith(f"{mlflow_server}/#/experiments/")
    assert summary.where.endswith("compareRunsMode=CHART")
    assert not (workspace / "mlflow.db").exists()
