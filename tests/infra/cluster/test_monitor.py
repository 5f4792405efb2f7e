"""Watching jobs, where SLURM's answers and the shared disk are not as usual."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from mimic import config
from mimic.infra.cluster.slurm import monitor
from mimic.infra.cluster.slurm.news import ArrayNews
from mimic.infra.cluster.slurm.queue import Standing
from mimic.infra.cluster.slurm.submission import SlurmJob
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
