"""Watching jobs, where SLURM's answers and the shared disk are not as usual."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from mimic import config
from mimic.errors import BadInput
from mimic.infra.cluster import jobs, slurm
from mimic.infra.cluster.call import Call
from mimic.infra.cluster.slurm import monitor, submission
from mimic.infra.cluster.slurm.news import ArrayNews
from mimic.infra.cluster.slurm.queue import Standing
from mimic.infra.cluster.slurm.submission import SlurmJob
from mimic.infra.storage import write_json
from mimic.params import load_params


@pytest.fixture
def cluster(repository: Path) -> config.Cluster:
    return load_params(repository / "params.yaml").cluster.model_copy(update={"poll_s": 0.001})


def _standing(state: str = "RUNNING", reason: str = "None", used: str = "1:00") -> Standing:
    return Standing(state, reason, "g1", 5, used, 0)


@pytest.fixture
def cancelled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    ids: list[str] = []
    monkeypatch.setattr(monitor, "cancel", ids.extend)
    return ids


def test_a_clock_that_is_behind_ends_no_job(
    tmp_path: Path,
    cluster: config.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """squeue says INVALID of a job that began after now."""
    jobs = [SlurmJob(f"7_{number}", str(tmp_path), 1) for number in range(2)]
    seen = {"7_0": _standing(used="INVALID"), "7_1": _standing(used="1-00:00:01")}
    monkeypatch.setattr(monitor, "queue", lambda: seen)
    news = ArrayNews("mine phone", "shards", 4, lambda: (2, 0), lambda id: f"shard {id}")
    assert monitor.JobMonitor(jobs, cluster, news.tell).look() == []
    assert "slowest shard 7_1 for 1-00:00:01" in capfd.readouterr().err


def test_a_line_that_cannot_be_said_ends_no_job(
    tmp_path: Path, cluster: config.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(standings: Mapping[str, Standing] | None) -> None:
        raise OSError("the log cannot be read")

    monkeypatch.setattr(monitor, "queue", lambda: {"7": _standing()})
    watched = monitor.JobMonitor([SlurmJob("7", str(tmp_path), 1)], cluster, tell)
    assert watched.look() == []
    assert list(watched.jobs) == ["7"]


@pytest.mark.parametrize("content", [b"", pickle.dumps(("success", 1))[:5]])
def test_a_result_that_is_not_all_there_is_no_news(tmp_path: Path, content: bytes) -> None:
    job = SlurmJob("7", str(tmp_path), 1)
    job.paths(0).result_pickle.write_bytes(content)
    assert monitor.read(job) is None
    job.paths(0).result_pickle.write_bytes(pickle.dumps(("success", 1)))
    ending = monitor.read(job)
    assert ending is not None
    assert ending.results == [1]


def test_a_result_that_goes_while_it_is_read_is_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that SLURM runs again removes what its earlier run said."""
    job = SlurmJob("7", str(tmp_path), 1)
    job.paths(0).result_pickle.write_bytes(pickle.dumps(("error", "an earlier one")))

    def gone(path: Path) -> bytes:
        path.unlink()
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", gone)
    assert monitor.read(job) is None
    assert monitor.read(SlurmJob("8", str(tmp_path / "gone"), 1)) is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("PENDING", "launch failed requeued held"),
        ("PENDING", "launch_failed_requeued_held"),
        ("REQUEUE_HOLD", "launch_failure_limit_exceeded_requeued_held"),
        ("SPECIAL_EXIT", "JobHoldMaxRequeue"),
    ],
)
def test_a_job_that_slurm_holds_for_good_is_given_up(
    tmp_path: Path,
    cluster: config.Cluster,
    cancelled: list[str],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    reason: str,
) -> None:
    """However this version of SLURM spells it."""
    monkeypatch.setattr(monitor, "queue", lambda: {"7": _standing(state, reason)})
    watched = monitor.JobMonitor([SlurmJob("7", str(tmp_path), 1)], cluster, lambda _: None)
    [(job, ending)] = watched.look()
    assert (job.id, cancelled) == ("7", ["7"])
    assert f"it would never start ({reason})" in str(ending.error)


def test_a_job_that_a_person_holds_is_waited_for(
    tmp_path: Path,
    cluster: config.Cluster,
    cancelled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "queue", lambda: {"7": _standing("PENDING", "JobHeldUser")})
    watched = monitor.JobMonitor([SlurmJob("7", str(tmp_path), 1)], cluster, lambda _: None)
    assert watched.look() == []
    assert not cancelled


def test_an_error_of_before_a_requeue_is_asked_about_no_oftener(
    tmp_path: Path, cluster: config.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job may wait in the queue for hours."""
    asked: list[float] = []

    def answer() -> dict[str, Standing]:
        asked.append(0.0)
        return {"7": _standing("PENDING", "BeginTime")}

    monkeypatch.setattr(monitor, "queue", answer)
    job = SlurmJob("7", str(tmp_path), 1)
    job.paths(0).result_pickle.write_bytes(pickle.dumps(("error", "an earlier one")))
    slow = cluster.model_copy(update={"poll_s": 3600.0})
    watched = monitor.JobMonitor([job], slow, lambda _: None)
    for _ in range(3):
        assert watched.look() == []
        watched._asked -= 2.0  # two seconds later
    assert len(asked) == 1


def _call(run_dir: Path) -> Call:
    return Call(_never, {"steps": 5}, run_dir, "pretrain x")


def _never(*_: object) -> None:
    raise AssertionError("no job runs here")


def _note(run_dir: Path, **note: object) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "job.json", {"description": "other", "name": None, "job": None} | note)


JOB = {"id": "7", "folder": "there", "tasks": 1}


def test_a_job_of_other_numbers_is_named_and_no_second_one_submitted(
    tmp_path: Path, cluster: config.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    _note(tmp_path / "x/1f", job=JOB)
    calls = {tmp_path / "x/2f": _call(tmp_path / "x/2f")}
    monkeypatch.setattr(jobs, "_submit", _never)
    monkeypatch.setattr(slurm, "queue", lambda: {"7": _standing()})
    with pytest.raises(BadInput, match=r"job 7 is still at work in .*x/1f.*scancel 7"):
        jobs.run_jobs(calls, cluster.pretrain, cluster)
    monkeypatch.setattr(slurm, "queue", lambda: None)
    with pytest.raises(BadInput, match="SLURM does not answer, and job 7 of .*1f may be alive"):
        jobs.run_jobs(calls, cluster.pretrain, cluster)
    monkeypatch.setattr(slurm, "queue", dict)
    jobs._refuse_earlier(calls, calls)
    (tmp_path / "x/1f/job.json").write_text("{torn")
    jobs._refuse_earlier(calls, calls)


def test_where_a_lost_name_cannot_be_cancelled_nothing_is_submitted(
    tmp_path: Path, cluster: config.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver was killed between sbatch and the note of the job's number."""
    _note(tmp_path / "x/2f", name="mimic-train-12")
    calls = {tmp_path / "x/2f": _call(tmp_path / "x/2f")}
    monkeypatch.setattr(slurm, "cancel_named", lambda _: False)
    with pytest.raises(BadInput, match="a job named mimic-train-12 of .* may be alive"):
        jobs.run_jobs(calls, cluster.pretrain, cluster)


def test_a_job_that_starts_again_removes_what_it_said(tmp_path: Path) -> None:
    """Before anything else in its script; that of no other job."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    names = {f"{name}_result.pkl" for name in ("9_0", "9_1", "7_3_0", "7_4_0")}
    for name in names:
        (folder / name).touch()

    def start(**environment: str) -> set[str]:
        line = submission._forget_earlier(folder)
        subprocess.run(["bash", "-ec", line], env=environment, check=True)
        return names - {path.name for path in folder.iterdir()}

    assert start(SLURM_JOB_ID="9") == set()
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "9"}
    assert start(SLURM_RESTART_COUNT="1", **array) == {"7_3_0_result.pkl"}
    again = start(SLURM_RESTART_COUNT="2", SLURM_JOB_ID="9")
    assert again == names - {"7_4_0_result.pkl"}
