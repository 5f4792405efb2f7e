"""`mimic serve`: the Prefect server, its deployments, the worker, MLflow's pages and the report, on
this machine only, as children of one command that ends them all, the worker first.

Every child is on a leash: it ends with this process, even if that is killed. A child that dies is
started again, because nobody watches at night; one that keeps dying ends everything, with one line,
because nobody would read the hundredth.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from mimic.commands.operation import leash
from mimic.errors import BadInput
from mimic.infra.addresses import LOOPBACK, opened, without_password
from mimic.infra.owner import owned
from mimic.infra.progress import say

HOST = "127.0.0.1"
HOME = ".prefect"  # as prefect.toml says
START_S = 180.0  # the first start makes the databases
GRACE_S = 15.0  # for a server to end
WORKER_GRACE_S = 70.0  # stages save what they have, then the worker ends
LOOK_S = 0.5
AGAIN_S = 1.0
DEATHS = 10  # a child that dies so often within WITHIN_S is not started again
WITHIN_S = 300.0
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
# MLflow's server can evaluate language models, for which it keeps eight processes of 200 MB.
JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"


@dataclass(frozen=True)
class Ports:
    prefect: int
    mlflow: int
    report: int


@dataclass
class Child:
    """A program that runs until it is told to end."""

    name: str
    command: list[str]
    health: str | None  # an address that answers once it works
    grace_s: float = GRACE_S
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))

    def start(self, variables: dict[str, str], root: Path, log: Path) -> None:
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-I", leash.__file__, str(self.grace_s), *self.command],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C reaches this process alone, which keeps the order
                env={**os.environ, **variables, **self.variables},
                cwd=root,
            )

    def end(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait()

    @property
    def is_dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    @property
    def was_killed(self) -> bool:
        """By a signal: itself, or what it holds on the leash."""
        status = None if self.process is None else self.process.poll()
        return status is not None and (status < 0 or status > 128)

    def died_too_often(self) -> bool:
        """Count one death."""
        self.deaths.append(time.monotonic())
        return len(self.deaths) == DEATHS and self.deaths[-1] - self.deaths[0] < WITHIN_S


def main(root: Path, ports: Ports, store: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        root: the workspace.
        store: where MLflow's results are, as `tracking.uri` says; None: tracking is off.

    Raises:
        BadInput: no workspace is here, another one serves it, or a port is taken.
    """
    if not (root / "dvc.yaml").is_file():
        raise BadInput(f"serve: {root.absolute()} has no dvc.yaml; go to a workspace")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    root = root.resolve()
    with owned(root / HOME, "mimic serve", 0.0):
        (root / HOME).chmod(0o700)  # the database keeps the notified address, and its key
        _settle(root)
        _refuse_taken(ports)
        House(root, ports, store, stop).serve()


def _settle(root: Path) -> None:
    """A workspace that has no schedule yet gets the repository's, all switched off."""
    for name in ("prefect.yaml", "prefect.toml"):
        if not (root / name).exists():
            with resources.as_file(resources.files("mimic.flows") / name) as template:
                shutil.copyfile(template, root / name)
            say(f"{name}: written; it is yours to edit")


def _refuse_taken(ports: Ports) -> None:
    options: dict[int, str] = {}
    for option, port in (
        ("--port", ports.prefect),
        ("--mlflow-port", ports.mlflow),
        ("--report-port", ports.report),
    ):
        if port in options:
            raise BadInput(f"serve: {options[port]} and {option} are both {port}; change one")
        options[port] = option
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise BadInput(
                    f"serve: port {port} cannot be had ({error.strerror}); choose another with "
                    f"{option}"
                ) from error


class House:
    """The children of one `mimic serve`."""

    def __init__(self, root: Path, ports: Ports, store: str | None, stop: threading.Event) -> None:
        self._stop = stop
        self._root = root
        self._log = root / HOME / "serve.log"
        self._prefect = f"http://{HOST}:{ports.prefect}"
        self._report = f"http://{HOST}:{ports.report}/"
        self._variables = {
            **QUIET,
            **_past_proxies(),
            "PREFECT_API_URL": f"{self._prefect}/api",
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(ports.prefect),
            "MIMIC_ROOT": str(root),
            "MIMIC_REPORT_URL": self._report,
        }
        self._children = [self._server()]
        self._mlflow = self._shown_elsewhere(store)
        if self._mlflow is None and store is not None:
            self._mlflow = f"http://{HOST}:{ports.mlflow}"
            self._variables["MIMIC_MLFLOW_UI"] = self._mlflow
            self._children.append(self._tracker(store, ports.mlflow))
        self._children.append(self._pages(root, ports.report))
        self._worker = Child(
            "worker", [sys.executable, "-m", "mimic.flows.worker"], None, WORKER_GRACE_S
        )

    def _server(self) -> Child:
        command = [sys.executable, "-m", "prefect", "server", "start"]
        return Child("Prefect server", command, f"{self._prefect}/api/health")

    def _tracker(self, store: str, port: int) -> Child:
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
        command += ["--workers", "1"]
        # As without a server: a run that is mirrored by hand later finds the same files.
        command += ["--no-serve-artifacts"]
        # Not an option: it may hold a password, and everybody sees command lines.
        given = {"MLFLOW_BACKEND_STORE_URI": store, JOBS: os.environ.get(JOBS, "false")}
        return Child("MLflow", command, f"http://{HOST}:{port}/health", variables=given)

    def _pages(self, root: Path, port: int) -> Child:
        command = [sys.executable, "-m", "http.server", str(port), "--bind", HOST]
        return Child("report", [*command, "--directory", str(root / "report")], None)

    def _shown_elsewhere(self, store: str | None) -> str | None:
        return store if store is not None and store.startswith(("http://", "https://")) else None

    def serve(self) -> None:
        """
        Raises:
            BadInput: a child does not start, or dies again and again.
        """
        try:
            for child in self._children:
                child.start(self._variables, self._root, self._log)
            for child in self._children:
                self._wait_for(child)
            self._deploy()
            if not self._stop.is_set():
                self._worker.start(self._variables, self._root, self._log)
                self._tell()
            while not self._stop.wait(LOOK_S):
                self._look()
        finally:
            self._end()

    def _wait_for(self, child: Child) -> None:
        end = time.monotonic() + START_S
        while child.health is not None and not self._stop.is_set() and not _answers(child.health):
            if child.was_killed:
                self._start_again(child)
            if child.is_dead or time.monotonic() > end:
                raise BadInput(f"serve: the {child.name} does not start; {self._log} says why")
            self._stop.wait(LOOK_S)

    def _deploy(self) -> None:
        """Once more where the server was killed meanwhile."""
        command = [sys.executable, "-m", "mimic.flows.deploy", "--if-changed"]
        environment = {**os.environ, **self._variables}
        while not self._stop.is_set():
            done = subprocess.run(
                command,
                cwd=self._root,
                env=environment,
                capture_output=True,
                text=True,
                start_new_session=True,  # Ctrl-C reaches this process alone
            )
            if done.returncode == 0:
                say(done.stdout.strip())
                return
            server = self._children[0]
            if not server.was_killed:
                raise BadInput(f"serve: {done.stderr.strip().removeprefix('mimic: ')}")
            self._start_again(server)
            self._wait_for(server)

    def _tell(self) -> None:
        say(f"Prefect: {self._prefect}   what runs, when, and its logs")
        if self._mlflow is not None:
            say(f"MLflow:  {without_password(self._mlflow)}   results and curves")
        say(f"report:  {self._report}")
        say(f"log of the servers: {self._log}; Ctrl-C ends all of it")

    def _look(self) -> None:
        for child in [*self._children, self._worker]:
            if child.is_dead:
                self._start_again(child)

    def _start_again(self, child: Child) -> None:
        """
        Raises:
            BadInput: it has died too often.
        """
        assert child.process is not None
        status = child.process.returncode
        if child.died_too_often():
            raise BadInput(
                f"serve: the {child.name} died {DEATHS} times in {WITHIN_S / 60:.0f} minutes "
                f"(now with status {status}): all of it ends; {self._log} says why"
            )
        say(f"the {child.name} ended with status {status}: started again")
        self._stop.wait(AGAIN_S)
        child.start(self._variables, self._root, self._log)

    def _end(self) -> None:
        """The worker first: without its server it could not say how its runs ended."""
        say("ending: the worker, then the servers")
        self._worker.end()
        threads = [threading.Thread(target=child.end) for child in self._children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        say("ended")


def _past_proxies() -> dict[str, str]:
    """Children talk to each other on this machine, whatever the shell says of proxies."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = ",".join([*filter(None, given.split(",")), *LOOPBACK])
    return {"no_proxy": hosts, "NO_PROXY": hosts}


def _answers(address: str) -> bool:
    try:
        with opened(address, timeout_s=2) as answer:
            return answer.status == 200
    except OSError:
        return False
