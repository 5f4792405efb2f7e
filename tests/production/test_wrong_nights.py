"""What goes wrong in a night costs nothing but time: `python -m benchmarks.night_faults` has all of
it, here is what is quick."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.production.conftest import Night
from tests.support import nights

pytestmark = [
    pytest.mark.long,
    pytest.mark.server,
    pytest.mark.slurm,
    pytest.mark.timeout(1800),
]


def test_the_servers_die_while_the_cluster_trains(night: Night) -> None:
    """Prefect's server and its database for seconds, MLflow until the training is over. Where
    the server comes back later than Prefect's client asks, the run fails, and the next night goes
    on."""
    lab = night.lab

    def die() -> None:
        for service in (lab.mlflow, lab.prefect, lab.database):
            service.kill()
        time.sleep(3)
        lab.database.start()
        lab.prefect.start()

    nights.forget(lab.root, ["pretrain"])
    nights.disturbed(lab, "pretrain@croco", die, night.results)


def test_the_worker_is_killed_while_the_cluster_mines(night: Night) -> None:
    """Whatever becomes of that run, the next one is not dropped, and no job is there twice."""
    lab = night.lab

    def die() -> None:
        assert lab.worker.process is not None
        os.kill(lab.worker.process.pid, signal.SIGKILL)
        lab.worker.process.wait()

    nights.forget(lab.root, ["mine"])
    nights.disturbed(lab, "mine@phone", die, night.results)
