"""Published files in MLflow: a run a bar, its seeds, trainings and evaluations below it."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mimic import config
from mimic.errors import BadInput
from mimic.infra import tracking as module
from mimic.infra.storage import Workspace
from mimic.infra.tracking import published, registry
from mimic.infra.tracking.writer import Writer
from tests.support.servers import free_port
from tests.support.tracked_results import (
    DIGESTS,
    RUNS,
    TOLD,
    client_in,
    publish_all,
    publish_evaluation,
    publish_pretraining,
    publish_seeds,
    search,
)

NAMES = {run: f"{run} ({dataset}, 1 seed)" for run, (_, dataset) in RUNS.items()}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return publish_all(tmp_path)


@pytest.fixture
def tracked(workspace: Path, tables: Path) -> Path:
    shutil.copy(tables, workspace / "mlflow.db")
    return workspace


def level(client: Any, name: str, query: str = "tags.current = 'true'") -> dict[str, Any]:
    return search(client, f"tags.`mimic.level` = '{name}' and {query}")


def check_a_run(client: Any) -> None:
    """What somebody finds who compares runs, and then opens one."""
    runs = level(client, "run")
    assert set(runs) == set(NAMES.values())
    run = runs[NAMES["croco-3m"]]
    assert run.data.metrics == {"nyuv2/delta1": 0.6}, "nothing else is on the charts"
    assert (
        run.data.tags.items()
        >= {
            "objective": "croco",
            "dataset": "mimic-3m",
            "seed": "0",
            "n": "1",
            "protocol.depth": "fine-tuned",
            "data.depth": f"nyuv2@{'da7a' * 4}",
            "code": "mimic 0.1.0, workspace at c0ffee",
        }.items()
    )
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("mimic-3m", DIGESTS["mimic-3m"][:36])

    trained = level(client, "pretrain")["pretrain croco-3m"]
    assert trained.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert (
        trained.data.params.items()
        >= {
            "objective": "croco",
            "model.width": "32",
            "model.size_px": "[32, 32]",
        }.items()
    )
    assert trained.data.tags["mlflow.source.git.commit"] == "c0ffee"
    points = client.get_metric_history(trained.info.run_id, "train/loss")
    assert [point.step for point in points] == list(range(1, 31))
    images = [artifact.path for artifact in client.list_artifacts(trained.info.run_id, "images")]
    assert any("reconstruction" in path and path.endswith(".png") for path in images)

    measured = level(client, "evaluate")["depth croco-3m"]
    assert measured.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert measured.data.metrics == {
        "nyuv2/delta1": 0.6,
        "nyuv2/rms": 0.5,
        "nyuv2/averages image delta1": 0.6,
    }
    assert measured.data.params["metrics.best_block"] == "1"
    assert measured.data.tags["protocol"] == "fine-tuned"
    (given,) = measured.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("nyuv2", "da7a" * 4)
    files = [artifact.path for artifact in client.list_artifacts(measured.info.run_id)]
    assert "depth.json" in files, "what is a list (blocks) is in the file"


def test_each_run_is_a_bar_and_all_else_lies_below_it(tracked: Path) -> None:
    summary = module.mirror_all(TOLD, tracked)
    assert (summary.new, summary.known) == (9, 0)
    assert summary.where.startswith("mlflow server --backend-store-uri sqlite:////")
    client = client_in(tracked)
    check_a_run(client)
    assert (tracked / "mlruns").is_dir(), "artifacts lie in the workspace"
    again = module.mirror_all(TOLD, tracked)
    assert (again.new, again.known) == (0, 9)
    check_a_run(client)
    assert len(search(client)) == 9


def test_a_result_that_comes_later_joins_the_bar(tracked: Path) -> None:
    module.mirror_pretrain(TOLD, tracked, "croco-3m")
    client = client_in(tracked)
    before = level(client, "run")[NAMES["croco-3m"]].info.run_id
    ade = {"data": "data/raw/ADEChallengeData2016"}
    publish_evaluation(
        tracked, "croco-3m", 0.3, "segmentation", kind="segmentation", name="mIoU", section=ade
    )
    publish_evaluation(tracked, "croco-3m", 0.55, "depth-frozen")
    publish_evaluation(tracked, "croco-3m", 0.7)
    for task in ("segmentation", "depth-frozen", "depth"):
        module.mirror_evaluation(TOLD, tracked, "croco-3m", task)
    run = level(client, "run")[NAMES["croco-3m"]]
    assert run.info.run_id == before
    assert run.data.metrics == {
        "ade20k/miou": 0.3,
        "nyuv2/delta1": 0.7,
        "nyuv2/delta1 depth-frozen": 0.55,
    }
    assert len(level(client, "evaluate", "tags.task = 'depth'")) == 1
    module.mirror_all(TOLD, tracked)
    assert set(search(client, "tags.current = 'false'")) == {"depth croco-3m"}, "the one before"


def test_held_out_pairs_and_generated_data_have_names_of_their_own(tracked: Path) -> None:
    shown = TOLD.__class__(**{**vars(TOLD), "generated": frozenset({"nyu"})})
    publish_evaluation(tracked, "croco-3m", 0.5, section={"data": "data/raw/nyu"})
    pairs = {"dataset": "mimic-3m", "split": "test"}
    publish_evaluation(
        tracked,
        "croco-3m",
        0.9,
        "reconstruction",
        kind="reconstruction",
        name="loss",
        section=pairs,
        metrics={"loss": 0.9, "FID": 41.5, "KID": "not run: weights"},
    )
    module.mirror_all(shown, tracked)
    run = level(client_in(tracked), "run")[NAMES["croco-3m"]]
    assert run.data.metrics == {
        "generated-nyu/delta1": 0.5,
        "gibson/loss": 0.9,
        "gibson/fid": 41.5,
    }


def test_data_in_a_folder_of_a_very_long_name_is_tracked(tracked: Path) -> None:
    """MLflow takes 250 letters of a metric's name, a file system 255 of a folder's."""
    folders = [f"/data/{'x' * 250}{number}" for number in range(2)]
    for task, folder in zip(("depth", "depth-frozen"), folders, strict=True):
        publish_evaluation(tracked, "croco-3m", 0.5, task, section={"data": folder})
    module.mirror_all(TOLD, tracked)
    named = level(client_in(tracked), "run")[NAMES["croco-3m"]].data.metrics
    assert all(len(name) < 130 and name.startswith("x" * 90) for name in named), named
    assert len({name.partition("/")[0] for name in named}) == 2, "each has its own"


def test_two_tasks_of_one_folder_and_kind_of_number_have_two_names(tracked: Path) -> None:
    """KITTI 2015 holds optical flow and disparity."""
    for task, value in {"flow": 4.0, "stereo": 1.0}.items():
        publish_evaluation(
            tracked,
            "croco-3m",
            value,
            task,
            kind=task,
            name="EPE_px",
            section={"data": "data/raw/kitti2015"},
        )
    module.mirror_all(TOLD, tracked)
    run = level(client_in(tracked), "run")[NAMES["croco-3m"]]
    shown = {name: value for name, value in run.data.metrics.items() if "kitti" in name}
    assert shown == {"kitti2015/epe_px": 4.0, "kitti2015/epe_px stereo": 1.0}


def test_numbers_of_an_encoder_that_is_gone_are_on_no_bar(tracked: Path) -> None:
    publish_evaluation(tracked, "croco-3m", 0.6, checkpoint="ab" * 32)
    module.mirror_all(TOLD, tracked)
    client = client_in(tracked)
    assert level(client, "run")[NAMES["croco-3m"]].data.metrics == {}
    assert "depth croco-3m" not in level(client, "evaluate")
    every = level(client, "evaluate", "tags.current = 'false'")
    assert every["depth croco-3m"].data.metrics["nyuv2/delta1"] == 0.6


def test_a_bar_is_the_mean_and_its_seeds_lie_below(tracked: Path) -> None:
    shutil.rmtree(tracked / "models/mae-1m")
    publish_seeds(tracked, "mae-1m", "depth", (0.3, 0.5))
    assert module.mirror_all(TOLD, tracked).new == 6 + 1 + 2 * 3 + 1
    client = client_in(tracked)
    run = level(client, "run")["mae-1m (mimic-1m, 2 seeds)"]
    assert run.data.metrics == {"nyuv2/delta1": 0.4}
    assert (run.data.tags["n"], run.data.tags["seed"]) == ("2", "0 1")
    seeds = level(client, "seed")
    assert {name: one.data.metrics["nyuv2/delta1"] for name, one in seeds.items()} == {
        "mae-1m seed 0": 0.3,
        "mae-1m seed 1": 0.5,
    }
    assert {one.data.tags["mlflow.parentRunId"] for one in seeds.values()} == {run.info.run_id}
    below = search(client, f"tags.mlflow.parentRunId = '{seeds['mae-1m seed 1'].info.run_id}'")
    assert set(below) == {"pretrain mae-1m seed-1", "depth mae-1m seed-1"}
    images = client.list_artifacts(below["depth mae-1m seed-1"].info.run_id, "images")
    assert any("view-0" in artifact.path for artifact in images)
    mean = level(client, "evaluate")["depth mae-1m"]
    assert mean.data.metrics["nyuv2/delta1 deviation over seeds"] == pytest.approx(0.1414, abs=1e-4)
    module.mirror_evaluation(TOLD, tracked, "mae-1m", "depth")
    assert module.mirror_all(TOLD, tracked).new == 0


def test_of_several_seeds_one_is_replaced(tracked: Path) -> None:
    """The others are still what the workspace holds; the mean is not."""
    shutil.rmtree(tracked / "models/mae-1m")
    publish_seeds(tracked, "mae-1m", "depth", (0.3, 0.5, 0.7))
    weights = tracked / "models/mae-1m/seed-1/encoder.safetensors"
    weights.write_bytes(weights.read_bytes() + b"anew")
    records = published.of_run(Workspace(tracked), TOLD, "mae-1m")
    past = {one.subject: one.is_past for one in records if one.level == "evaluate"}
    assert past == {
        "mae-1m/seed-0@depth": False,
        "mae-1m/seed-1@depth": True,
        "mae-1m/seed-2@depth": False,
        "mae-1m@depth": True,
    }


def test_seeds_in_any_order_are_the_same_result(tracked: Path) -> None:
    """A result lists them as params.yaml does; the task of this one trains nothing."""
    shutil.rmtree(tracked / "models/mae-1m")
    publish_seeds(tracked, "mae-1m", "depth", (0.3, 0.5))
    path = tracked / "metrics/mae-1m/depth.json"
    result = json.loads(path.read_text())
    seeds = [one | {"seed": 0} for one in result["seeds"][::-1]]
    path.write_text(json.dumps(result | {"seeds": seeds}))
    module.mirror_all(TOLD, tracked)
    run = level(client_in(tracked), "run")["mae-1m (mimic-1m, 2 seeds)"]
    assert run.data.metrics == {"nyuv2/delta1": 0.4}
    records = published.of_run(Workspace(tracked), TOLD, "mae-1m")
    best = registry.best_encoder(Workspace(tracked), "depth", records)
    assert best[:2] == ("mae-1m/seed-0", seeds[1]["checkpoint"])


def test_seeds_that_are_kept_when_one_is_added_stay_current(tracked: Path) -> None:
    shutil.rmtree(tracked / "models/mae-1m")
    publish_seeds(tracked, "mae-1m", "depth", (0.3, 0.5))
    module.mirror_all(TOLD, tracked)
    publish_seeds(tracked, "mae-1m", "depth", (0.3, 0.5, 0.4))
    client = client_in(tracked)
    for _ in range(2):
        module.mirror_all(TOLD, tracked)
        run = level(client, "run")["mae-1m (mimic-1m, 3 seeds)"]
        seeds = level(client, "seed")
        assert set(seeds) == {f"mae-1m seed {seed}" for seed in range(3)}
        assert {one.data.tags["mlflow.parentRunId"] for one in seeds.values()} == {run.info.run_id}
        trained = {f"pretrain mae-1m seed-{seed}" for seed in range(3)}
        assert trained <= level(client, "pretrain").keys()


def test_seeds_are_still_told_while_the_encoders_are_not_there(tracked: Path) -> None:
    shutil.rmtree(tracked / "models/mae-1m")
    publish_seeds(tracked, "mae-1m", "depth", (0.3, 0.5))
    module.mirror_all(TOLD, tracked)
    shutil.rmtree(tracked / "models")
    module.mirror_all(TOLD, tracked)
    runs = level(client_in(tracked), "run")
    assert runs["mae-1m (mimic-1m, 2 seeds)"].data.tags["seed"] == "0 1"
    assert runs[NAMES["croco-3m"]].data.tags["seed"] == "0"


def test_another_result_of_the_same_name_takes_its_place(tracked: Path) -> None:
    client = client_in(tracked)

    def publish(seed: int, value: float) -> None:
        publish_pretraining(tracked, "croco-1m", seed=seed)
        module.mirror_pretrain(TOLD, tracked, "croco-1m")
        publish_evaluation(tracked, "croco-1m", value)
        module.mirror_evaluation(TOLD, tracked, "croco-1m", "depth")

    def bars() -> list[tuple[str, float]]:
        """On the highest level, where charts look."""
        every = search_all(client)
        return [
            (run.data.params["seed"], run.data.metrics["nyuv2/delta1"])
            for run in every
            if "mlflow.parentRunId" not in run.data.tags
        ]

    publish(0, 0.5)
    publish(1, 0.7)
    assert bars() == [("1", 0.7)]
    current = [run for run in search_all(client) if run.data.tags["current"] == "true"]
    assert sorted(run.data.tags["mimic.level"] for run in current) == [
        "evaluate",
        "pretrain",
        "run",
    ]
    publish(0, 0.5)
    assert bars() == [("0", 0.5)]
    assert len(search_all(client)) == 6


def test_results_of_a_replaced_encoder_stay_with_it(tracked: Path) -> None:
    """Until its successor is measured; a bar of it would show numbers that are another's."""
    client = client_in(tracked)
    name = NAMES["croco-1m"]
    publish_evaluation(tracked, "croco-1m", 0.5)
    module.mirror_all(TOLD, tracked)
    old = level(client, "run")[name]
    publish_pretraining(tracked, "croco-1m", seed=1)
    for _ in range(2):
        module.mirror_all(TOLD, tracked)
        assert "depth croco-1m" not in level(client, "evaluate")
        measured = level(client, "evaluate", "tags.current = 'false'")["depth croco-1m"]
        assert measured.data.tags["mlflow.parentRunId"] == old.info.run_id
        bar = level(client, "run")[name]
        assert (bar.data.params["seed"], bar.data.metrics) == ("1", {})
    publish_evaluation(tracked, "croco-1m", 0.7)
    module.mirror_all(TOLD, tracked)
    bar = level(client, "run")[name]
    measured = level(client, "evaluate")["depth croco-1m"]
    assert measured.data.tags["mlflow.parentRunId"] == bar.info.run_id
    assert bar.data.metrics == {"nyuv2/delta1": 0.7}


def search_all(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("mimic").experiment_id
    return list(client.search_runs([experiment]))


def test_what_a_killed_writer_left_is_replaced(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(
            Writer,
            "_fill",
            lambda *_, **__: (_ for _ in ()).throw(RuntimeError("connection lost\nat line 3")),
        )
        module.mirror_evaluation(TOLD, tracked, "mae-1m", "depth")
    (line,) = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert "evaluate mae-1m depth is finished, but not shown" in line
    assert "connection lost" in line
    assert "mimic track" in line
    assert "\n" not in line
    module.mirror_evaluation(TOLD, tracked, "mae-1m", "depth")
    found = search_all(client_in(tracked))
    assert [run.info.status for run in found] == ["FINISHED"] * 3


def test_off_means_off(workspace: Path) -> None:
    off = config.Tracking(uri=None, experiment_prefix="mimic")
    told = TOLD.__class__(**{**vars(TOLD), "tracking": off})
    module.mirror_pretrain(told, workspace, "croco-1m")
    assert not (workspace / "mlflow.db").exists()
    with pytest.raises(BadInput, match="tracking is off"):
        module.mirror_all(told, workspace)


@pytest.mark.parametrize("kind", ["http", "postgresql"])
def test_a_server_that_is_down_costs_seconds_and_one_line(
    kind: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = f"{kind}://somebody:s3%40cret@127.0.0.1:{free_port()}/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    started = time.monotonic()
    module.mirror_pretrain(TOLD, workspace, "croco-1m")
    assert time.monotonic() - started < 60, "by itself MLflow tries for minutes"
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "is finished, but not shown" in lines[0]
    assert "cret" not in lines[0]
    with pytest.raises(BadInput, match=f"MLflow at {kind}://127") as info:
        module.mirror_all(TOLD, workspace)
    assert "\n" not in str(info.value)
    assert "cret" not in str(info.value)


def test_a_password_with_a_bare_at_sign_is_refused_and_not_shown(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLAlchemy would take its end for the host, and print it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://somebody:s3@cret@127.0.0.1:1/mlflow")
    module.mirror_pretrain(TOLD, workspace, "croco-1m")
    with pytest.raises(BadInput, match="holds an @; write it as %40") as info:
        module.mirror_all(TOLD, workspace)
    assert "cret" not in f"{info.value} {caplog.text}"


def test_a_damaged_database_costs_seconds_and_is_left_as_it_is(workspace: Path) -> None:
    database = workspace / "mlflow.db"
    database.write_bytes(b"no database" * 1000)
    started = time.monotonic()
    with pytest.raises(BadInput, match=r"MLflow at sqlite:.*file is not a database"):
        module.mirror_all(TOLD, workspace)
    assert time.monotonic() - started < 60, "by itself MLflow tries for minutes"
    assert database.read_bytes() == b"no database" * 1000


def test_two_first_users_of_the_embedded_store(workspace: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mimic import config\n"
        "from mimic.infra import tracking\n"
        "where = config.Tracking(uri='sqlite:///mlflow.db', experiment_prefix='mimic')\n"
        "told = tracking.TrackingContext(where, frozenset(), {}, None)\n"
        "tracking.mirror_pretrain(told, Path('.'), sys.argv[1])"
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
    assert set(level(client_in(workspace), "run")) == {NAMES["mae-1m"], NAMES["croco-1m"]}


def test_runs_of_the_earlier_layout_give_way_where_they_show_the_same(tracked: Path) -> None:
    """One experiment a stage, keys without a workspace."""
    from mimic.infra.storage import file_digest
    from mimic.infra.tracking import trained

    client = client_in(tracked)
    card = json.loads((tracked / "models/croco-1m/card.json").read_text())
    same = trained.record(Workspace(tracked), "croco-1m", card).fingerprint
    digest = file_digest(tracked / "metrics/croco-1m/depth.json")[:16]
    experiments = {
        stage: client.create_experiment(f"mimic-{stage}") for stage in ("pretrain", "evaluate")
    }

    def earlier(stage: str, name: str, fingerprint: str) -> str:
        tags = {"mimic.key": f"{stage}/{name}", "mimic.fingerprint": fingerprint, "current": "true"}
        run = client.create_run(experiments[stage], tags=tags)
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    ours = [earlier("pretrain", "croco-1m", same), earlier("evaluate", "croco-1m/depth", digest)]
    others = [earlier("pretrain", "croco-1m", "another"), earlier("evaluate", "x/depth", digest)]
    for _ in range(2):
        module.mirror_all(TOLD, tracked)
        assert [client.get_run(one).data.tags["current"] for one in ours] == ["false", "false"]
        assert [client.get_run(one).data.tags["current"] for one in others] == ["true", "true"]
    by = client.get_run(ours[0]).data.tags["superseded"]
    assert client.get_run(by).info.run_name == "pretrain croco-1m"


def test_results_without_an_encoder_are_shown_too(tracked: Path) -> None:
    """A clone that has pulled the numbers, and not the weights."""
    shutil.rmtree(tracked / "models")
    assert module.mirror_all(TOLD, tracked).new == 6
    run = level(client_in(tracked), "run")[NAMES["croco-3m"]]
    assert run.data.metrics == {"nyuv2/delta1": 0.6}


def test_a_damaged_result_is_one_line(tracked: Path) -> None:
    path = tracked / "metrics/croco-1m/depth.json"
    result = json.loads(path.read_text())
    seed = {"run_seed": 0, "value": 0.5, "checkpoint": "0" * 64, "encoder": "croco-1m/seed-0"}
    for text, wrong in (
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        (json.dumps(result | {"value": None}), "not a metrics file"),
        *(
            (json.dumps(result | {"seeds": [{k: seed[k] for k in seed if k != key}]}), f"'{key}'")
            for key in ("run_seed", "value", "checkpoint")
        ),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=f"croco-1m/depth.json: .*{wrong}") as info:
            module.mirror_all(TOLD, tracked)
        assert "\n" not in str(info.value)
