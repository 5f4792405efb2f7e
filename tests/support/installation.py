"""A lab's whole installation on this machine: Prefect and MLflow on one PostgreSQL, an S3 server, a
SLURM, a worker, and a workspace whose deployments they serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support import marked
from tests.support.servers import (
    MlflowServer,
    ObjectStoreServer,
    Postgres,
    PrefectServer,
    Service,
    with_programs,
)
from tests.support.toy_project import wait_until

OVER = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
SLURM = ("SLURM_CONF", "SLURM_SANDBOX", "GLOO_SOCKET_IFNAME")


@dataclass
class Installation:
    """What runs, and what its operator does with it."""

    root: Path  # the workspace
    database: Postgres
    prefect: PrefectServer
    mlflow: MlflowServer
    s3: ObjectStoreServer
    cluster: dict[str, str]  # how jobs find SLURM: its `export` lines
    worker: Service = field(init=False)
    sandbox: Any = None  # what an administrator of SLURM does to it
    command_lines: marked.CommandLines = field(default_factory=marked.CommandLines)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "mimic.flows.worker"]
        logs = self.prefect.logs
        self.worker = Service(
            "worker", command, self.root, self._has_worker, self.environment, logs
        )

    @property
    def environment(self) -> dict[str, str]:
        """Of everything that is started in the workspace."""
        return with_programs(
            PREFECT_API_URL=self.prefect.api,
            MIMIC_ROOT=str(self.root),
            **self.cluster,
            **self.s3.store.environment,
            **self.credentials,
        )

    @property
    def credentials(self) -> dict[str, str]:
        """Of servers that ask for none here: they are sent, and must be shown nowhere."""
        user = f"lab:{marked.secret('Tracker')}"
        return {
            "MLFLOW_TRACKING_URI": self.mlflow.page.replace("//", f"//{user}@"),
            "PREFECT_API_AUTH_STRING": f"lab:{marked.secret('Prefect')}",
        }

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """What a command prints that ends well."""
        done = subprocess.run(
            command, cwd=cwd or self.root, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def background(self, *command: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """The same, not waited for, in a group of its own."""
        return subprocess.Popen(
            command,
            cwd=cwd or self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    # ------------------------------------------------------------------------ Prefect

    def ask(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self.prefect.api + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def deploy(self, **schedules: int) -> None:
        """The deployments of prefect.yaml; those named are due every so many seconds."""
        path = self.root / "prefect.yaml"
        said = yaml.safe_load(path.read_text())
        for one in said["deployments"]:
            if one["name"] in schedules:
                every = {"interval": schedules[one["name"]], "slug": "often", "active": True}
                one["schedules"] = [every]
        changed = path.with_name("prefect.tested.yaml")
        changed.write_text(yaml.safe_dump(said))
        deploy = ("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", changed.name)
        self.run(*deploy)
        changed.unlink()

    def deployment(self, name: str) -> dict[str, Any]:
        (found,) = self.ask("/deployments/filter", deployments={"name": {"any_": [name]}})
        return dict(found)

    def switch_on(self, name: str, on: bool) -> None:
        verb = "resume" if on else "pause"
        identity = self.deployment(name)["id"]
        self._tell("POST", f"/deployments/{identity}/{verb}_deployment")

    def delete(self, path: str) -> None:
        self._tell("DELETE", path)

    def _tell(self, method: str, path: str) -> None:
        request = urllib.request.Request(self.prefect.api + path, b"", method=method)
        urllib.request.urlopen(request, timeout=30).close()

    def start_run(self, name: str, **parameters: Any) -> str:
        identity = self.deployment(name)["id"]
        made = self.ask(f"/deployments/{identity}/create_flow_run", parameters=parameters)
        return str(made["id"])

    def runs(self, name: str, *states: str) -> list[dict[str, Any]]:
        """Runs of a deployment in these states, or all of them, the oldest first."""
        wanted = {"state": {"type": {"any_": list(states)}}} if states else {}
        asked = {"deployments": {"name": {"any_": [name]}}, "flow_runs": wanted}
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", **asked)
        return sorted(found, key=lambda run: run["start_time"] or run["expected_start_time"])

    def state(self, run: str) -> dict[str, Any]:
        (found,) = self.ask("/flow_runs/filter", flow_runs={"id": {"any_": [run]}})
        return dict(found["state"])

    def wait_for(self, run: str, patience_s: float = 300) -> dict[str, Any]:
        """The state that a run ends in; a server that is away for a while is asked again."""

        def over() -> dict[str, Any] | None:
            try:
                state = self.state(run)
            except OSError:
                return None
            return state if state["type"] in OVER else None

        return dict(wait_until(over, patience_s, f"the run {run} to end"))

    def logs(self, run: str) -> list[str]:
        asked = {"flow_run_id": {"any_": [run]}}
        lines: list[str] = []
        while page := self.ask("/logs/filter", logs=asked, limit=200, offset=len(lines)):
            lines += [line["message"] for line in page]
        return lines

    def tasks(self, run: str) -> dict[str, str]:
        """The state of each stage of a run, by name."""
        found = self.ask("/task_runs/filter", flow_runs={"id": {"any_": [run]}}, limit=200)
        return {task["name"]: task["state"]["name"] for task in found}

    def artifacts(self, run: str) -> dict[str, Any]:
        found = self.ask("/artifacts/filter", flow_runs={"id": {"any_": [run]}})
        return {artifact["key"]: artifact["data"] for artifact in found}

    # ------------------------------------------------------------------------ MLflow

    def mlflow_runs(self) -> list[dict[str, str]]:
        """The tags of every run that is not deleted."""
        api = f"{self.mlflow.page}/api/2.0/mlflow"
        with urllib.request.urlopen(f"{api}/experiments/search?max_results=100") as answer:
            experiments = [one["experiment_id"] for one in json.load(answer)["experiments"]]
        body = json.dumps({"experiment_ids": experiments, "max_results": 1000}).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{api}/runs/search", body, kind)
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer).get("runs", [])
        return [
            {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
            | {"status": run["info"]["status"], "name": run["info"].get("run_name", "")}
            for run in found
        ]

    def _has_worker(self) -> bool:
        try:
            return bool(self.ask("/work_pools/mimic/workers/filter"))
        except OSError:
            return False


@contextmanager
def installed(
    root: Path, folder: Path, s3_program: str, cluster: dict[str, str]
) -> Iterator[Installation]:
    """Everything is up; afterwards nothing is left of it.

    Args:
        folder: for the servers' files and logs.
        cluster: `export` lines of docker/slurm/up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database = Postgres()
    prefect = PrefectServer(root, database, folder)
    mlflow = MlflowServer(folder, database)
    s3 = ObjectStoreServer(s3_program, folder / "s3")
    found = Installation(root, database, prefect, mlflow, s3, cluster)
    try:
        database.create()
        _start([s3, mlflow, prefect])
        found.worker.start()
        yield found
    finally:
        for service in (found.worker, prefect, mlflow, s3, database):  # a worker before its server
            service.end()


def _start(services: Sequence[Service]) -> None:
    """All at once: each waits for the disk and for imports most of the time."""
    for service in services:
        service.launch()
    for service in services:
        service.wait()


def cluster_of(environment: dict[str, str] | None = None) -> dict[str, str]:
    """How jobs find the SLURM of this process."""
    found = os.environ if environment is None else environment
    return {name: found[name] for name in SLURM if name in found}
