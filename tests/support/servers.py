"""Real servers on this machine for tests and trials: PostgreSQL, Prefect, MLflow, S3.

Each is started by the command that a person would type, in a process group of its own, and can be
killed as a power cut does and started again on what it had written.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_connection, socket

import pytest

from mimic.commands.operation import serve
from tests.support import REPOSITORY, marked
from tests.support.object_store import ObjectStore
from tests.support.toy_project import kill_group, wait_until

PATIENCE_S = 150.0  # for a server to come up on a busy machine
GRACE_S = 10.0  # between asking one to end and killing it
PROGRAMS = Path(sys.executable).parent


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> bytes | None:
    """What a server answers; None if it does not."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def with_programs(**more: str) -> dict[str, str]:
    """This process's environment, its own programs first, without settings of another Prefect."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    path = os.pathsep.join([str(PROGRAMS), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, **more}


@dataclass
class Service:
    """A server: its command, and how it says that it is ready."""

    name: str
    command: list[str]
    folder: Path  # its working directory
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=with_programs)
    logs: Path | None = None  # the folder of its log; None = its working directory
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return (self.logs or self.folder) / f"{self.name}.log"

    def launch(self) -> None:
        """Start it, and do not wait for it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        process = self.process
        assert process is not None
        wait_until(lambda: self.ready() or process.poll() is not None, PATIENCE_S, self.name)
        assert process.poll() is None, f"{self.name} ended:\n{self.log.read_text()[-4000:]}"

    def start(self) -> None:
        self.launch()
        self.wait()

    def kill(self) -> None:
        """As the power cut does."""
        assert self.process is not None
        kill_group(self.process)

    def end(self) -> None:
        """Asked first; whatever is left of its processes after that is killed."""
        if self.process is None:
            return
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        kill_group(self.process)


# ---------------------------------------------------------------------------- PostgreSQL


def postgres_program(name: str) -> str | None:
    """On the PATH, or where Debian keeps it."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or next(map(str, kept), None)


def missing_of_postgres() -> list[str]:
    needed = ("initdb", "postgres", "psql", "pg_isready", "pg_dump")
    return [name for name in needed if postgres_program(name) is None]


class Postgres(Service):
    """A PostgreSQL with the databases that docker/compose.yaml makes; without a password it trusts
    whoever reaches it."""

    def __init__(self, password: str | None = None) -> None:
        self.password = password
        folder = Path(tempfile.mkdtemp(prefix="mimic-postgres-"))
        self.port = free_port()
        self._as_server: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._as_server = ["runuser", "-u", "postgres", "--"]
            shutil.chown(folder, "postgres")
        where = ["-p", str(self.port), "-k", str(folder), "-h", "127.0.0.1"]
        server = [*self._as_server, str(postgres_program("postgres")), "-D", "data", *where]
        super().__init__("postgres", server, folder, self._answers)

    @property
    def address(self) -> str:
        """`user:password@host:port`; the password is asked of nobody here."""
        return f"mimic:{marked.secret('Database')}@127.0.0.1:{self.port}"

    def create(self) -> None:
        """The files of an empty one, started, and its databases."""
        program = str(postgres_program("initdb"))
        made = [*self._as_server, program, "-D", "data", "-U", "mimic", "-N"]
        made += ["-A", "trust" if self.password is None else "scram-sha-256"]
        if self.password is not None:
            file = self.folder / "password"
            file.write_text(self.password)
            shutil.copystat(self.folder, file)  # nobody else reads it
            shutil.chown(file, self.folder.stat().st_uid)
            made += ["--pwfile", file.name]
        subprocess.run(made, check=True, capture_output=True, cwd=self.folder)
        self.start()
        databases = str(REPOSITORY / "docker/postgres-init.sql")
        self._run("-f", databases).check_returncode()

    def dump(self, database: str) -> bytes:
        """All rows of all tables."""
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "mimic"]
        command = [str(postgres_program("pg_dump")), *address, "--data-only", database]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def query(self, database: str, query: str) -> str:
        asked = self._run("-tAc", query, database=database)
        asked.check_returncode()
        return asked.stdout.strip()

    def kill(self) -> None:
        """Without a checkpoint: it recovers from its log when it is started again. Its processes
        have sessions of their own, so the group is not enough."""
        self._signal(signal.SIGQUIT)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self._signal(signal.SIGINT)  # does not wait for its clients
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        """To the server itself: who started it as another user passes hardly any on."""
        assert self.process is not None
        os.kill(int((self.folder / "data/postmaster.pid").read_text().split()[0]), number)
        self.process.wait(30)

    def _answers(self) -> bool:
        return self._run("-c", "select 1").returncode == 0

    def _run(self, *words: str, database: str = "postgres") -> subprocess.CompletedProcess[str]:
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "mimic", "-d", database]
        command = [str(postgres_program("psql")), "-w", *address, *words]
        known = {} if self.password is None else {"PGPASSWORD": self.password}
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | known)


@contextmanager
def own_postgres(password: str | None = None) -> Iterator[Postgres]:
    """One of its own; the test is skipped where it is not installed, and fails in CI."""
    if missing := missing_of_postgres():
        reason = f"PostgreSQL is not installed (no {', '.join(missing)})"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    found = Postgres(password)
    try:
        found.create()
        yield found
    finally:
        found.end()


# ---------------------------------------------------------------------------- Prefect and MLflow


class PrefectServer(Service):
    """Prefect's server, on PostgreSQL or on a file of its own, set up by prefect.toml of its folder
    and the environment."""

    def __init__(self, folder: Path, database: Postgres | None, logs: Path | None = None) -> None:
        self.port = free_port()
        settings = {
            "PREFECT_SERVER_API_PORT": str(self.port),  # where the pages of its UI ask, too
            # the shortest that there is, so that a test can wait for its end
            "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "30",
        }
        if database is not None:
            tables = f"postgresql+asyncpg://{database.address}/prefect"
            settings["PREFECT_API_DATABASE_CONNECTION_URL"] = tables
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
        super().__init__(
            "prefect-server", command, folder, self._answers, with_programs(**settings), logs
        )

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.page}/api"

    def _answers(self) -> bool:
        return get(f"{self.api}/health") == b"true"


class MlflowServer(Service):
    """MLflow's server on PostgreSQL, its artifacts in a folder."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        tables = f"postgresql://{database.address}/mlflow"
        settings = with_programs(MLFLOW_BACKEND_STORE_URI=tables, **{serve.JOBS: "false"})
        super().__init__("mlflow-server", command, folder, self._answers, settings)

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        return get(f"{self.page}/health") == b"OK"


# ---------------------------------------------------------------------------- an object store


class ObjectStoreServer(Service):
    """The S3 server of `object_store`, which can be away for a while: it keeps its address."""

    def __init__(self, program: str, folder: Path) -> None:
        port = free_port()
        key = (marked.secret("Key"), marked.secret(secrets.token_hex(16)))
        self.store = ObjectStore(f"http://127.0.0.1:{port}", folder / "buckets", *key)
        self.store.folder.mkdir(parents=True)
        command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", str(self.store.folder)]
        settings = {"RCLONE_AUTH_KEY": f'"{key[0]},{key[1]}"', "RCLONE_CONFIG": os.devnull}
        super().__init__("s3", command, folder, self._listens, with_programs(**settings))
        self._port = port

    def _listens(self) -> bool:
        with suppress(OSError), create_connection(("127.0.0.1", self._port), timeout=2):
            return True
        return False
