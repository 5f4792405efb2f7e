"""A real SLURM for the tests: docker/slurm/up in a sandbox of its own, ended after the last
test."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mimic import config
from mimic.commands.operation import leash
from mimic.infra.storage import made_folder
from mimic.params import load_params
from tests.support import REPOSITORY

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch")


class Sandbox:
    """The running cluster, and what an administrator does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limited: Driver | None = (
            # a training that meets its time limit while other tests run: SLURM takes half a minute
            # for it
            None
        )

    def up(self, **environment: str) -> None:
        for name, value in self.started(**environment).items():
            os.environ[name] = value

    def started(self, **environment: str) -> dict[str, str]:
        """Start what is missing; the settings of its clients."""
        done = subprocess.run(
            [REPOSITORY / "docker/slurm/up"],
            env=os.environ | {"SLURM_SANDBOX": str(self.folder)} | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            pytest.fail(f"docker/slurm/up: {done.stderr}")
        exports = (shlex.split(line)[1] for line in done.stdout.splitlines())
        return dict(export.split("=", 1) for export in exports)

    def down(self) -> None:
        subprocess.run(
            [REPOSITORY / "docker/slurm/down", "--purge"],
            env=os.environ | {"SLURM_SANDBOX": str(self.folder)},
            timeout=600,
        )

    def stop_controller(self) -> None:
        pid = int((self.folder / "run/slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 120
        while os.path.exists(f"/proc/{pid}/exe"):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def __call__(self, *command: str) -> str:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def state(self, job: str) -> str:
        """Of a job that is not over; else empty."""
        known = dict(
            line.split("|")
            for line in self("squeue", "--noheader", "--array", "--format=%i|%T").splitlines()
        )
        return known.get(job, "")


@pytest.fixture(scope="session")
def slurm(
    cluster: Callable[..., config.Cluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    """Skips where SLURM is not installed (MIMIC_TEST_SLURM=1 installs it); fails in CI."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing and IN_CI:
        pytest.fail(f"no SLURM here (missing: {', '.join(missing)}), and CI requires it")
    if missing and not os.environ.get("MIMIC_TEST_SLURM"):
        pytest.skip(
            f"no SLURM here (missing: {', '.join(missing)}); MIMIC_TEST_SLURM=1 installs it, or "
            "use docker/slurm/Dockerfile"
        )
    before = dict(os.environ)
    sandbox = Sandbox(Path(tempfile.mkdtemp(prefix="mimic-slurm-")))
    try:
        sandbox.up()
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(REPOSITORY), before.get("PYTHONPATH")])
        )  # jobs import tests.support.cluster_work
        settings = cluster("slurm", timeout_min=2, signal_delay_s=30)  # it comes at 60 s to 90 s
        sandbox.limited = Driver(
            # in a folder of its own: what lies beside is earlier work of the same training
            made_folder(tmp_path_factory.mktemp("limited") / "work"),
            {"steps": 2000, "pause_s": 0.1, "save_every": 10_000},
            settings,
        )
        yield sandbox
    finally:
        if sandbox.limited:
            sandbox.limited.process.kill()
            sandbox.limited.process.wait()
        sandbox.down()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def executor(request: pytest.FixtureRequest) -> str:
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    return str(request.param)


@pytest.fixture(scope="session")
def cluster(repository: Path) -> Callable[..., config.Cluster]:
    """params.yaml's cluster, with quick polls; keywords change what is common to all kinds of
    work."""

    def make(executor: str, **changes: Any) -> config.Cluster:
        plain = load_params(repository / "params.yaml").cluster.model_dump()
        small = {
            "mem_gb": 0.5,
            "cpus_per_task": 1,
            "timeout_min": 60,
            "signal_delay_s": 30,
            "retries": 1,
            **changes,
        }
        single = small | {"nodes": 1, "tasks_per_node": 1}
        kinds = {
            "mine": plain["mine"] | single | {"gpus_per_node": 0},
            "pretrain": plain["pretrain"] | small,
            "evaluate": plain["evaluate"] | single,
        }
        return config.Cluster(
            **(plain | kinds | {"executor": executor, "workers": 2, "poll_s": 1.0})
        )

    return make


class Driver:
    """`run_training` in a process of its own; with `leashed`, as a flow starts it."""

    def __init__(
        self,
        run_dir: Path,
        description: dict[str, Any],
        cluster: config.Cluster,
        leashed: bool = False,
    ) -> None:
        self.run_dir = run_dir
        arguments = json.dumps(
            [
                str(run_dir),
                description,
                cluster.pretrain.model_dump(mode="json"),
                cluster.model_dump(mode="json"),
            ]
        )
        leash_of_flows = [sys.executable, "-I", leash.__file__, "20"] if leashed else []
        self.process = subprocess.Popen(
            [*leash_of_flows, sys.executable, "-m", "tests.support.cluster_work", arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE if leashed else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def wait_for(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                pytest.fail(
                    f"what the test waits for did not come; notes: {self.notes()}; the driver "
                    f"said: {self.finish()}"
                )
            time.sleep(0.1)

    def notes(self, rank: int = 0) -> list[str]:
        path = self.run_dir / f"notes-{rank}.txt"
        return path.read_text().splitlines() if path.exists() else []

    def wait_until(self, what: str) -> None:
        """`start`: the training runs; `saved`: its first checkpoint is there."""
        self.wait_for(lambda: any(line.startswith(what) for line in self.notes()))

    @property
    def job(self) -> str:
        return str(json.loads((self.run_dir / "job.json").read_text())["job"]["id"])

    def finish(self, seconds: float = 600) -> str:
        self.output += self.process.communicate(timeout=seconds)[0]
        return self.output

    def results(self) -> list[dict[str, Any]]:
        lines = [line for line in self.finish().splitlines() if line.startswith("RESULTS ")]
        assert lines, self.output
        return list(json.loads(lines[0].removeprefix("RESULTS ")))


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    started = []

    def start(
        description: dict[str, Any], cluster: config.Cluster, leashed: bool = False
    ) -> Driver:
        started.append(Driver(tmp_path / "run", description, cluster, leashed))
        return started[-1]

    yield start
    for driver in started:
        if driver.process.poll() is None:
            driver.process.kill()
        driver.process.wait()
