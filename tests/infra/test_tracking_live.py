"""Curves while it trains, and when and on which machine it did."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mimic.infra import tracking
from mimic.infra.tracking import live, recorder, trained
from mimic.infra.tracking.live import VARIABLE
from mimic.infra.tracking.writer import ABOVE, ALIVE, GONE_S
from mimic.params import load_params
from mimic.training import journal
from tests.support import toy_runs
from tests.support.toy_project import wait_until
from tests.support.tracked_results import TOLD, client_of, publish_pretraining, search

RUN = "croco-1m"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.5")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def grow(folder: Path, steps: range) -> None:
    """What a training writes: its log, with times."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        for step in steps:
            line = {"step": step, "loss": 1 / step, "lr": 1e-3, "time": 1.7e9 + step}
            file.write(json.dumps(line) + "\n")


def shown(folder: Path) -> list[tracking.ShownTraining]:
    label = tracking.label(RUN, {"dataset": "mimic-1m"}, 1)
    return [tracking.ShownTraining(RUN, str(folder), 30, label)]


def told_of(run: Any, client: Any) -> dict[str, Any]:
    """All that is to be equal, however it came there."""
    others = {"mimic.key", "mimic.workspace", "workspace", "mlflow.parentRunId"}
    return {
        "params": run.data.params,
        "tags": {key: value for key, value in run.data.tags.items() if key not in others},
        "times": (run.info.start_time, run.info.end_time, run.info.status),
        "curves": {
            name: sorted(
                (point.step, point.value, point.timestamp)
                for point in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        },
        "data": [one.dataset.digest for one in run.inputs.dataset_inputs],
        "files": sorted(one.path for one in client.list_artifacts(run.info.run_id)),
    }


def test_curves_grow_while_it_trains_and_end_as_without(tmp_path: Path) -> None:
    root, plain = tmp_path / "live", tmp_path / "plain"
    folder = root / "runs/pretrain" / RUN / f"{0:016x}"
    folder.mkdir(parents=True)
    (folder / recorder.FILE).write_text('{"time": 1700000000.0, "begun": true}\n')
    client = client_of(f"sqlite:///{root}/mlflow.db")

    def points() -> int:
        try:
            run = search(client).get(f"pretrain {RUN}")
        except AttributeError:  # no experiment yet
            return 0
        loss = client.get_metric_history(run.info.run_id, "train/loss") if run else []
        assert run is None or run.info.status == "RUNNING"
        return len(loss)

    root.mkdir(exist_ok=True)
    with tracking.showing(TOLD, root, shown(folder)):
        grow(folder, range(1, 11))
        wait_until(lambda: points() == 10, 120, "10 points")
        grow(folder, range(11, 21))
        wait_until(lambda: points() == 20, 120, "20 points")
        grow(folder, range(21, 31))
    with (folder / recorder.FILE).open("a") as file:
        file.write('{"time": 1700000040.0, "cpu_utilization_percentage": 50.0}\n')
        file.write('{"time": 1700000050.0, "ended": true}\n')
    publish_pretraining(root, RUN)
    shutil.copytree(root / "runs", plain / "runs", ignore=lambda *_: ["workspace.json"])
    shutil.copytree(root / "models", plain / "models")
    tracking.mirror_pretrain(TOLD, root, RUN)
    tracking.mirror_all(TOLD, plain)
    one = search(client)
    other_client = client_of(f"sqlite:///{plain}/mlflow.db")
    other = search(other_client)
    assert set(one) == set(other) == {f"pretrain {RUN}", f"{RUN} (mimic-1m, 1 seed)"}
    for name, run in one.items():
        assert told_of(run, client) == told_of(other[name], other_client)
    trained = told_of(one[f"pretrain {RUN}"], client)
    assert trained["times"] == (1_700_000_000_000, 1_700_000_050_000, "FINISHED")
    assert trained["curves"]["train/loss"][0] == (1, 1.0, 1_700_000_001_000)
    assert trained["curves"]["system/cpu_utilization_percentage"] == [(0, 50.0, 1_700_000_040_000)]
    assert tracking.mirror_all(TOLD, root).new == 0


def test_a_training_that_fails_is_shown_as_stopped_and_goes_on_in_the_same_run(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "runs/pretrain" / RUN / f"{0:016x}"
    grow(folder, range(1, 6))
    (folder / recorder.FILE).write_text('{"time": 1700000000.0, "begun": true}\n')
    client = client_of(f"sqlite:///{tmp_path}/mlflow.db")

    def states() -> list[str]:
        try:
            return [run.info.status for run in search(client).values()]
        except AttributeError:
            return []

    def fail() -> None:
        with tracking.showing(TOLD, tmp_path, shown(folder)):
            wait_until(lambda: states() == ["RUNNING"] * 2, 120, "it is shown")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert states() == ["KILLED"] * 2
    publish_pretraining(tmp_path, RUN)
    tracking.mirror_pretrain(TOLD, tmp_path, RUN)
    assert states() == ["FINISHED"] * 2


def begun(root: Path, seed: int) -> Path:
    """The unfinished work of a training that goes on."""
    folder = root / "runs/pretrain" / RUN / f"{seed:016x}"
    grow(folder, range(1, 6))
    (folder / recorder.FILE).write_text('{"time": 1700000000.0, "begun": true}\n')
    return folder


def an_hour_later(client: Any) -> None:
    """Nothing was heard since of what is shown."""
    for run in every(client):
        if ALIVE in run.data.tags:
            client.set_tag(run.info.run_id, ALIVE, str(round(time.time() - GONE_S - 1)))


def test_seeds_in_any_order_end_in_the_runs_that_were_shown(tmp_path: Path) -> None:
    label = tracking.label(RUN, {"dataset": "mimic-1m"}, 2)
    listed = [
        tracking.ShownTraining(f"{RUN}/seed-{seed}", str(begun(tmp_path, seed)), 30, label)
        for seed in (1, 0)
    ]
    live._look(TOLD.tracking, tmp_path, listed)
    client = client_of(f"sqlite:///{tmp_path}/mlflow.db")
    before = {name: run.info.run_id for name, run in search(client).items()}
    assert before.keys() == {label} | {
        f"{name.format(RUN)}{seed}" for name in ("{} seed ", "pretrain {} seed-") for seed in (0, 1)
    }
    for seed in (0, 1):
        publish_pretraining(tmp_path, RUN, seed, several=True)
    tracking.mirror_pretrain(TOLD, tmp_path, RUN)
    after = search(client)
    assert {name: run.info.run_id for name, run in after.items()} == before
    assert {run.info.status for run in after.values()} == {"FINISHED"}


def test_a_training_of_hours_is_no_dead_one(tmp_path: Path) -> None:
    """`mimic track`, while the run is trained anew and its earlier encoder is still published."""
    publish_pretraining(tmp_path, RUN, seed=1)
    tracking.mirror_all(TOLD, tmp_path)
    client = client_of(f"sqlite:///{tmp_path}/mlflow.db")
    trainings = shown(begun(tmp_path, 0))
    live._look(TOLD.tracking, tmp_path, trainings)
    an_hour_later(client)
    live._look(TOLD.tracking, tmp_path, trainings)
    tracking.mirror_all(TOLD, tmp_path)
    assert states(client) == ["FINISHED", "FINISHED", "RUNNING", "RUNNING"]
    assert len(bars(client)) == 2


def test_a_training_that_was_taken_for_dead_gets_its_place_back(tmp_path: Path) -> None:
    publish_pretraining(tmp_path, RUN, seed=1)
    tracking.mirror_all(TOLD, tmp_path)
    client = client_of(f"sqlite:///{tmp_path}/mlflow.db")
    (earlier,) = bars(client)
    trainings = shown(begun(tmp_path, 0))

    def taken_for_dead() -> None:
        live._look(TOLD.tracking, tmp_path, trainings)
        an_hour_later(client)
        tracking.mirror_all(TOLD, tmp_path)
        assert bars(client) == [earlier]
        assert states(client) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]

    taken_for_dead()
    live._look(TOLD.tracking, tmp_path, trainings)
    assert len(bars(client)) == 2
    taken_for_dead()
    publish_pretraining(tmp_path, RUN, seed=0)
    tracking.mirror_pretrain(TOLD, tmp_path, RUN)
    (bar,) = bars(client)
    assert bar != earlier
    assert client.get_run(earlier).data.tags[ABOVE] == bar


def every(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("mimic").experiment_id
    return list(client.search_runs([experiment]))


def states(client: Any) -> list[str]:
    return sorted(run.info.status for run in every(client))


def bars(client: Any) -> list[str]:
    """What is on the highest level, where charts look."""
    return [run.info.run_id for run in every(client) if ABOVE not in run.data.tags]


def test_a_tracker_that_is_down_costs_a_training_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:s3cret@127.0.0.1:9")
    folder = tmp_path / "work"
    grow(folder, range(1, 6))
    before = {child.pid for child in psutil.Process().children()}
    with tracking.showing(TOLD, tmp_path, shown(folder)):
        time.sleep(2)
        command = [
            child.cmdline() for child in psutil.Process().children() if child.pid not in before
        ]
    assert any("mimic.infra.tracking.live" in " ".join(one) for one in command)
    assert "s3cret" not in str(command), "ps shows it to everybody"
    assert capfd.readouterr() == ("", "")
    assert {child.pid for child in psutil.Process().children()} <= before


def test_a_short_training_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    with tracking.showing(TOLD, tmp_path, shown(tmp_path)):
        assert not [
            child
            for child in psutil.Process().children()
            if "mimic.infra.tracking.live" in " ".join(child.cmdline())
        ]


def test_a_real_training_notes_when_it_ran_and_how_busy_the_machine_was(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    before = time.time()
    root = toy_runs.write_workspace(tmp_path, repository)
    toy_runs.change_tracking(root, "sqlite:///mlflow.db")
    folder = toy_runs.run(root, "croco")
    after = time.time()
    (work,) = (root / "runs/pretrain/croco").glob("*/")
    noted = recorder.read(work / recorder.FILE)
    assert noted.begun is not None
    assert noted.ended is not None
    assert before - 1 < noted.begun < noted.ended < after + 1
    times = [line["time"] for line in journal.read(work / "log.jsonl")]
    assert times == sorted(times)
    assert all("time" not in line for line in journal.read(folder / "log.jsonl"))
    run = search(client_of(f"sqlite:///{root}/mlflow.db"))["pretrain croco"]
    assert run.info.start_time == round(noted.begun * 1000)
    assert run.info.end_time == round(noted.ended * 1000)
    assert run.data.tags["mlflow.user"] == (folder / "card.json").owner()
    assert load_params(root / "params.yaml").tracking.uri == "sqlite:///mlflow.db"


def test_the_record_is_sampled_while_the_block_runs_and_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "work" / recorder.FILE
    with recorder.recorded(path, tmp_path, every_s=0.05):
        time.sleep(0.5)
    found = recorder.read(path)
    assert len(found.samples) >= 2
    assert found.samples[0].keys() >= {
        "cpu_utilization_percentage",
        "system_memory_usage_megabytes",
        "disk_usage_percentage",
        "network_receive_megabytes",
    }
    whole = path.read_text()
    path.write_text(whole[: whole.rindex('{"time"')] + '{"time": 17')  # it was killed
    killed = recorder.read(path)
    assert (killed.begun, len(killed.samples)) == (found.begun, len(found.samples))
    with recorder.recorded(path, tmp_path, every_s=60):
        pass
    assert recorder.read(path).begun == found.begun, "it goes on"
    with recorder.recorded(path, tmp_path, every_s=60):
        pass
    assert recorder.read(path).begun != found.begun, "it ended, and this is another"
    begun: list[float | None] = []
    for work in ("a", "a", "b"):
        with (
            pytest.raises(KeyboardInterrupt),
            recorder.recorded(path, tmp_path, every_s=60, work=work),
        ):
            raise KeyboardInterrupt
        begun.append(recorder.read(path).begun)
    assert begun[0] == begun[1] != begun[2], "other work begins anew although none has ended"


def test_torn_lines_of_a_log_are_passed_over(tmp_path: Path) -> None:
    """A power cut leaves zeros where the disk had not yet written."""
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"step": 1}\n\0\0\0\0{"step": 2}\n[3]\n{"step": 4}\n{"step": 5')
    assert [line["step"] for line in trained.log_lines(tmp_path, None)] == [1, 4]
    assert trained.log_lines(tmp_path / "none", None) == []


@pytest.mark.parametrize(
    ("given", "taken"),
    [("", 30.0), ("5", 5.0), *((wrong, 30.0) for wrong in ("soon", "-1", "nan", "inf", "1e300"))],
)
def test_how_often_curves_are_shown_ends_no_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, taken: float
) -> None:
    monkeypatch.setenv(live.VARIABLE, given)
    assert live._seconds(30.0) == taken
    assert ("no number of seconds" in capsys.readouterr().err) is (given not in ("", "5"))
