"""The parts of the cluster layer that need no cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
import yaml

from mimic.errors import BadInput
from mimic.infra.cluster import ItemsFailed, Stop, Stopped, TrainingFailed, task
from mimic.infra.cluster.failures import culprit, failure
from mimic.infra.cluster.ranks import Rank
from mimic.infra.cluster.slurm import submission
from mimic.params import load_params, resolve_params
from tests.support.toy_project import wait_until

REAL = (
    'Traceback (most recent call last):\n  File "a.py", line 1, in ProcessGroup\nValueError: the '
    "cause"
)
ECHO = (
    "Traceback (most recent call last):\nRuntimeError: [gloo/pair.cc:534] Connection closed by "
    "peer [127.0.0.1]:9"
)


def test_a_result_that_is_there_is_not_made_again_by_a_late_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The warning comes while the process ends, after whoever listened has given signals back."""
    monkeypatch.setattr(task.faulthandler, "dump_traceback_later", lambda *_, **__: None)
    requeued = []
    before = signal.signal(signal.SIGUSR2, lambda *_: requeued.append(1))
    try:
        with Stop().listening():
            task._end_soon()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert requeued == []
        signal.signal(signal.SIGUSR2, before)
        with Stop().listening():
            pass
        assert signal.getsignal(signal.SIGUSR2) == before
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_jobs_get_no_credentials_of_servers_that_none_of_them_asks(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch would copy them into SLURM's own files; the store's they need."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    for name in ("PREFECT_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MIMIC_NOTIFY_URL", "AWS_SECRET"):
        monkeypatch.setenv(name, "secret-of-the-lab")
    cluster = load_params(repository / "params.yaml").cluster
    asked = submission._parameters(cluster.pretrain, cluster)["additional_parameters"]
    assert asked["export"] == "ALL,MIMIC_NOTIFY_URL=,MLFLOW_TRACKING_PASSWORD=,PREFECT_API_KEY="


def test_the_culprit_is_the_first_that_is_no_echo() -> None:
    assert culprit([(1.0, ECHO), (3.0, "late " + REAL), (2.0, REAL)]) == REAL
    assert culprit([(2.0, ECHO), (1.0, "early " + ECHO)]) == "early " + ECHO


def test_bad_input_of_another_process_stays_one_line() -> None:
    mendable = failure(REAL.replace("ValueError", "mimic.errors.BadInput"))
    assert isinstance(mendable, BadInput)
    assert str(mendable) == "the cause"
    assert isinstance(failure(REAL), TrainingFailed)


def test_failed_items_are_counted_and_the_first_traceback_is_shown() -> None:
    message = str(ItemsFailed({"shard-1": REAL, "shard-2": ECHO}))
    told = "2 item(s) failed, the others are done; shard-1: ValueError: the cause"
    assert message.startswith(told)
    assert "- shard-1: ValueError: the cause" in message
    assert message.count(REAL) == 1


@pytest.mark.parametrize(
    ("listed", "world", "shares"),
    [("2,3", 2, ["2", "3"]), ("4,5,6,7", 2, ["4,5", "6,7"]), ("5", 1, ["5"]), ("", 2, ["", ""])],
)
def test_a_rank_takes_its_share_of_the_gpus_that_the_job_was_given(
    monkeypatch: pytest.MonkeyPatch, listed: str, world: int, shares: list[str]
) -> None:
    for rank, share in enumerate(shares):
        for name in (
            "RANK",
            "WORLD_SIZE",
            "LOCAL_RANK",
            "LOCAL_WORLD_SIZE",
            "MASTER_ADDR",
            "MASTER_PORT",
        ):
            monkeypatch.setenv(name, "to be restored")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        Rank(rank, world, rank, world, "127.0.0.1", 1).export()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == share


# The kernel may give a signal of this process to any of its threads, which runs when it runs.
ARRIVAL = "the signal to arrive"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_is_noted_and_handlers_are_given_back(number: Signals) -> None:
    before = signal.getsignal(number)
    with Stop().listening() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        wait_until(stop.requested, 10, ARRIVAL)
        with pytest.raises(Stopped):
            stop.exit()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_that_comes_while_ranks_agree_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, number: Signals
) -> None:
    """Most of the time of a step is spent waiting for the other ranks, who know nothing of it
    yet."""
    with Stop().listening() as stop:

        def agree(wish: int) -> int:
            os.kill(os.getpid(), number)
            return wish

        monkeypatch.setattr(stop, "_largest", agree)
        assert not stop.requested(), "the ranks have agreed on nothing yet"
        monkeypatch.undo()
        wait_until(stop.requested, 10, ARRIVAL)


def test_a_second_interrupt_does_not_wait() -> None:
    with Stop().listening() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(stop.requested, 10, ARRIVAL)
        with pytest.raises(KeyboardInterrupt):
            _interrupt_and_wait()


def _interrupt_and_wait() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def test_children_neither_hear_the_warning_nor_ignore_their_end() -> None:
    """A spawned child lives through SIGUSR2, a forked one through SIGUSR2 and ends on SIGTERM."""
    with Stop().listening():
        spawned = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        forked = os.fork()
        if forked == 0:
            time.sleep(60)
            os._exit(0)
        for pid in (spawned.pid, forked):
            os.kill(pid, signal.SIGUSR2)
        time.sleep(0.5)
        assert spawned.poll() is None
        assert os.waitpid(forked, os.WNOHANG) == (0, 0)
        for pid in (spawned.pid, forked):
            os.kill(pid, signal.SIGTERM)
        assert spawned.wait(10) == -signal.SIGTERM
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "pretrain",
            {"gpus_per_node": 2, "gres": "gpu:2"},
            "gpus_per_node and gres must not be given together",
        ),
        (
            "pretrain",
            {"gpus_per_node": 3, "tasks_per_node": 2},
            "tasks_per_node 2 does not divide gpus_per_node 3",
        ),
        (
            "evaluate",
            {"timeout_min": 1, "signal_delay_s": 60},
            "signal_delay_s 60 is not below timeout_min 1",
        ),
        ("mine", {"tasks_per_node": 2}, "each element of the array is one process"),
        ("pretrain", {"nodes": 2}, "the local executor has one node"),
    ],
)
def test_impossible_resources_are_refused(
    repository: Path,
    tmp_path: Path,
    kind: str,
    changes: dict[str, Any] | dict[str, int],
    message: str,
) -> None:
    raw = resolve_params(repository / "params.yaml").full()
    raw["cluster"][kind] |= changes
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(BadInput, match=message):
        load_params(path)
