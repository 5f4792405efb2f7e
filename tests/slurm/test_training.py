"""A training on a cluster: it ends with the result of one that was never disturbed, or says why
not."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from mimic import config, pretrain
from mimic.errors import BadInput
from mimic.infra.cluster import ItemsFailed, TrainingFailed, run_training, run_trainings
from mimic.infra.storage import Workspace, is_full
from mimic.params import load_params
from mimic.training import journal
from tests.slurm.conftest import Driver, Sandbox
from tests.support import cluster_work, toy_runs

QUICK: dict[str, Any] = {"steps": 20, "pause_s": 0.01, "save_every": 5}
LONG: dict[str, Any] = {"steps": 80, "pause_s": 0.1, "save_every": 10}
ON_SIGNAL = LONG | {"save_every": 1000}  # nothing is saved but when a signal asks for it
GPUS: dict[str, Any] = {"nodes": 2, "tasks_per_node": 2, "gpus_per_node": 2, "partition": "gpu"}


def _check(driver: Any, steps: int, world: int) -> None:
    """The results are those of an undisturbed training, and this one went on from a checkpoint."""
    results = driver.results()
    assert [result["rank"] for result in results] == list(range(world))
    assert {round(result["total"], 6) for result in results} == {
        round(cluster_work.expected_total(steps, world), 6)
    }
    starts = [int(line.split()[1]) for line in driver.notes() if line.startswith("start")]
    assert len(starts) == 2, driver.notes()
    assert starts[0] == 0, driver.notes()
    assert 0 < starts[1] < steps, driver.notes()


def _wait_until_gone(slurm: Sandbox, job: Any) -> None:
    deadline = time.monotonic() + 300
    while slurm.state(job):
        assert time.monotonic() < deadline, f"job {job} still holds its nodes: {slurm.state(job)}"
        time.sleep(0.2)


# ---------------------------------------------------------------------------- here and on SLURM


@pytest.mark.parametrize(
    ("executor", "world"),
    [("local", 1), ("local", 2), pytest.param("slurm", 1, marks=pytest.mark.slurm)],
    indirect=["executor"],
)
def test_ranks_add_up(
    executor: str, cluster: Callable[..., config.Cluster], tmp_path: Path, world: int
) -> None:
    settings = cluster(executor, tasks_per_node=world)
    results = run_training(cluster_work.train, QUICK, tmp_path, settings.pretrain, settings)
    assert [result["rank"] for result in results] == list(range(world))
    assert [result["total"] for result in results] == pytest.approx(
        [cluster_work.expected_total(20, world)] * world
    )


def test_the_rank_that_failed_is_named_not_the_ones_it_took_down(
    executor: str, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    settings = cluster(executor, tasks_per_node=2)
    with pytest.raises(TrainingFailed, match="this rank fails on purpose") as info:
        run_training(
            cluster_work.train, LONG | {"fails_at": 3}, tmp_path, settings.pretrain, settings
        )
    assert "rank 1" in str(info.value)
    assert "cluster_work.py" in str(info.value)


def test_a_disk_that_a_rank_finds_full_is_no_traceback(
    cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    """As from a training in this very process: the command line makes one line of it."""
    settings = cluster("local", tasks_per_node=2)
    with pytest.raises(OSError, match="No space left") as info:
        run_training(
            cluster_work.train, QUICK | {"disk_full_at": 3}, tmp_path, settings.pretrain, settings
        )
    assert is_full(info.value)
    assert info.value.filename.startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("number", "world"), [(signal.SIGTERM, 1), (signal.SIGUSR2, 1), (signal.SIGTERM, 2)]
)
def test_a_signal_saves_and_the_next_run_goes_on(
    cluster: Callable[..., config.Cluster],
    drive: Callable[..., Driver],
    number: Signals,
    world: int,
) -> None:
    settings = cluster("local", tasks_per_node=world)
    description = ON_SIGNAL | {"pause_s": 0.05}
    first = drive(description, settings)
    first.wait_until("start")
    time.sleep(0.5)
    first.process.send_signal(number)
    assert "the work is saved" in first.finish()
    assert first.process.returncode != 0
    _check(drive(description, settings), 80, world)


def test_local_ranks_die_with_their_driver(
    cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    driver = drive(LONG, cluster("local", tasks_per_node=2))
    driver.wait_until("saved")
    driver.process.kill()
    driver.process.wait()
    time.sleep(1)
    saved = driver.notes()
    time.sleep(2)
    assert driver.notes() == saved
    assert saved[-1] != "saved 80"


def test_in_a_sweep_one_failure_leaves_the_others(
    executor: str, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    """On SLURM one array; here one after the other. Those that ended well are known at once."""
    settings = cluster(executor)
    trainings = {
        tmp_path / "a": QUICK,
        tmp_path / "b": QUICK | {"fails_at": 2},
        tmp_path / "c": QUICK | {"steps": 10},
    }
    ended: dict[Path, list[Any]] = {}
    with pytest.raises(ItemsFailed, match="fails on purpose") as info:
        run_trainings(
            cluster_work.train,
            trainings,
            settings.pretrain,
            settings,
            done=lambda folder, results: ended.update({folder: results}),
        )
    assert list(info.value.failed) == [str(tmp_path / "b")]
    assert (tmp_path / "c" / "notes-0.txt").read_text().splitlines()[-1] == "saved 10"
    assert sorted(ended) == [tmp_path / "a", tmp_path / "c"]
    assert ended[tmp_path / "a"][0]["total"] == pytest.approx(cluster_work.expected_total(20, 1))


# ---------------------------------------------------------------------------- only on SLURM


@pytest.mark.slurm
def test_two_nodes_with_two_tasks_each_see_their_own_gpus(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    settings = cluster("slurm", **GPUS)
    results = run_training(cluster_work.train, QUICK, tmp_path, settings.pretrain, settings)
    assert [result["total"] for result in results] == pytest.approx(
        [cluster_work.expected_total(20, 4)] * 4
    )
    assert sorted(result["gpus"] for result in results) == ["0", "0", "1", "1"]


@pytest.mark.long
@pytest.mark.slurm
def test_the_pretrain_stage_sweeps_and_publishes(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path, repository: Path
) -> None:
    """Two objectives as one array of two ranks on each of two nodes: the losses of one process
    here."""
    alone, workspace = (
        toy_runs.write_workspace(tmp_path / name, repository) for name in ("alone", "cluster")
    )
    params = load_params(workspace / "params.yaml")
    params = params.model_copy(update={"cluster": cluster("slurm", nodes=2, tasks_per_node=2)})
    assert pretrain.sweep(params, workspace, ["croco", "mae"]) == ["croco", "mae"]
    for name in ("croco", "mae"):
        pretrain.main(params, workspace, name)
        theirs = journal.read(workspace / "models" / name / "log.jsonl")
        ours = journal.read(toy_runs.run(alone, name) / "log.jsonl")
        assert [line["loss"] for line in theirs] == pytest.approx(
            [line["loss"] for line in ours], rel=1e-4
        )
    (array,) = workspace.glob(
        "runs/pretrain/*/*/slurm/mimic-*"
    )  # one submission, and none for publishing
    assert len(list(array.glob("*_log.out"))) == 2 * 4


@pytest.mark.slurm
def test_the_seeds_of_a_run_are_one_array(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path, repository: Path
) -> None:
    """Two seeds, then a third: the weights of one process here, and no job for what is finished."""
    workspace = toy_runs.write_workspace(tmp_path, repository)
    found = load_params(workspace / "params.yaml")
    for seeds, jobs in (((0, 1), 2), ((0, 1, 2), 3)):
        run = found.runs["mae"].model_copy(update={"seed": None, "seeds": seeds})
        settings = {"cluster": cluster("slurm"), "runs": {**found.runs, "mae": run}}
        pretrain.main(found.model_copy(update=settings), workspace, "mae")
        folders = Workspace(workspace).encoders("mae")
        assert list(folders) == [f"mae/seed-{seed}" for seed in seeds]
        assert len(list(workspace.glob("runs/pretrain/mae/seed-*/*/slurm/*/*_log.out"))) == jobs
    arrays = {path.name for path in workspace.glob("runs/pretrain/mae/seed-*/*/slurm/mimic-*")}
    assert len(arrays) == 2  # one a call
    theirs = journal.read(folders["mae/seed-0"] / "log.jsonl")
    ours = journal.read(toy_runs.run(workspace, "mae") / "log.jsonl")
    assert [line["loss"] for line in theirs] == pytest.approx(
        [line["loss"] for line in ours], rel=1e-4
    )


@pytest.mark.slurm
def test_preempted_with_a_warning_signal_and_a_killed_driver(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    """The children that it forked neither requeue the job a second time nor hold its nodes at the
    end."""
    description, settings = (
        ON_SIGNAL | {"children": True},
        cluster("slurm", **GPUS | {"tasks_per_node": 1, "partition": "scavenge"}),
    )
    first = drive(description, settings)
    first.wait_until("start")
    job = first.job
    first.process.kill()
    first.process.wait()
    time.sleep(1)
    slurm(
        "srun", "--partition=gpu", "--nodes=2", "--gpus-per-node=4", "--exclusive", "true"
    )  # returns when it had its turn
    second = drive(description, settings)
    _check(second, 80, 2)
    assert f"re-attached to job {job}" in second.output
    log = (
        next(second.run_dir.glob("slurm/*/*_0_log.out")).read_text()
        + next(second.run_dir.glob("slurm/*/*_0_log.err")).read_text()
    )
    assert log.count("Calling checkpoint method") == 1, log
    _wait_until_gone(slurm, job)


@pytest.mark.slurm
def test_preempted_without_a_warning_signal(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    slurm.up(SLURM_PREEMPT_SIGNAL="0")
    try:
        driver = drive(ON_SIGNAL, cluster("slurm", gpus_per_node=1, partition="scavenge"))
        driver.wait_until("start")
        time.sleep(1)
        slurm("srun", "--partition=gpu", "--nodes=2", "--gpus-per-node=4", "--exclusive", "true")
        _check(driver, 80, 1)
    finally:
        slurm.up(SLURM_PREEMPT_SIGNAL="1")


@pytest.mark.slurm
def test_a_node_goes_down(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    driver = drive(LONG, cluster("slurm", partition="gpu"))
    driver.wait_until("saved")
    job = driver.job
    node = slurm("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        _check(driver, 80, 1)
    finally:
        slurm.up()  # resumes the node
    requeued = rf"job {job} of {driver.run_dir}: PENDING \(\w+\), \d min, requeued 1 time\n"
    assert re.search(requeued, driver.output), driver.output


@pytest.mark.slurm
def test_the_controller_is_away_for_a_while(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    """Nothing is lost, and no second copy is submitted while SLURM cannot say whether the first is
    alive."""
    settings = cluster("slurm")
    description = LONG | {"steps": 120}
    first = drive(description, settings)
    first.wait_until("saved")
    job = first.job
    slurm.stop_controller()
    try:
        time.sleep(2)
        assert first.process.poll() is None
        first.process.kill()
        first.process.wait()
        refused = drive(description, settings).finish()
        assert f"SLURM does not answer, and job {job}" in refused
    finally:
        slurm.up()
    last = drive(description, settings)
    assert last.results()[0]["total"] == pytest.approx(cluster_work.expected_total(120, 1))
    assert f"re-attached to job {job}" in last.output
    assert [line for line in last.notes() if line.startswith("start")] == ["start 0"]


@pytest.mark.slurm
def test_cancelled_by_somebody_else(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    driver = drive(LONG | {"steps": 10_000}, cluster("slurm"))
    driver.wait_until("saved")
    job = driver.job
    slurm("scancel", job)
    output = driver.finish()
    assert f"job {job} of {driver.run_dir} was cancelled by root" in output
    saved = json.loads((driver.run_dir / "checkpoint.json").read_text())[0]
    assert driver.notes()[-1] == f"saved {saved}"


@pytest.mark.slurm
def test_ctrl_c_cancels_the_job(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    driver = drive(LONG | {"steps": 10_000}, cluster("slurm"))
    driver.wait_until("saved")
    job = driver.job
    driver.process.send_signal(signal.SIGINT)
    driver.finish()
    _wait_until_gone(slurm, job)


@pytest.mark.slurm
def test_a_waiting_driver_ends_with_its_flow_and_the_job_goes_on(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], drive: Callable[..., Driver]
) -> None:
    """A worker that is gone lets the leash go without a word; a person who cancels gives one."""
    description = LONG | {"steps": 10_000}
    first = drive(description, cluster("slurm"), leashed=True)
    first.wait_until("saved")
    job = first.job
    first.process.stdin.close()
    first.process.wait(timeout=600)
    assert slurm.state(job) == "RUNNING"
    second = drive(description, cluster("slurm"), leashed=True)
    time.sleep(5)
    assert slurm.state(job) == "RUNNING"
    second.process.stdin.write("stop")
    output = second.finish()
    assert f"re-attached to job {job}" in output
    _wait_until_gone(slurm, job)
    assert [line for line in second.notes() if line.startswith("start")] == ["start 0"]


@pytest.mark.slurm
def test_a_refused_job_is_one_clear_line(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    settings = cluster("slurm", partition="no-such-partition")
    with pytest.raises(BadInput, match="SLURM refused the job: .*invalid partition"):
        run_training(cluster_work.train, QUICK, tmp_path, settings.pretrain, settings)


@pytest.mark.slurm
def test_the_time_limit(slurm: Sandbox) -> None:
    _check(slurm.limited, 2000, 1)
