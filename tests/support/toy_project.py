"""A small project of five stages in git and DVC, a Prefect server beside it, and how to watch
processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPOSITORY

PATIENCE = 4.0
SLOW_S = 120.0  # for an answer of a server that shares a busy machine with what it watches
DVC_YAML = """
stages:
  mine:
    foreach: [a, b]
    do:
      cmd: python mine.py ${item}
      deps: [mine.py, "raw/${item}"]
      outs: ["data/${item}"]
  assemble:
    cmd: cat data/a data/b > all
    deps: [data/a, data/b]
    outs: [all]
  pretrain:
    cmd: wc -c < all > size
    deps: [all]
    outs: [size]
  evaluate:
    cmd: wc -c < size > score
    deps: [size]
    outs: [score]
"""

# What raw/<name> holds says how its stage behaves.
MINE = """
    import pathlib, signal, subprocess, sys, time
    name = sys.argv[1]
    what = pathlib.Path("raw", name).read_text()
    print("starting", name)
    print(f"mine {name}: 1/4 clips, 1.0 clips/s, 0:03 left")
    if what == "slow":
        time.sleep(1.5)
    if what == "wait":
        while not pathlib.Path("go").exists():
            time.sleep(0.1)
    if what == "refuse":
        print("mimic: raw/b: not an image"); sys.exit(2)
    if what == "cancelled":
        print("mimic: job 5 of mine a was cancelled by ann"); sys.exit(3)
    if what == "die":
        sys.exit(9)
    if what == "hang":   # with a descendant that ignores polite signals
        stubborn = (
            "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN);"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "print('deaf', flush=True); time.sleep(600)"
        )
        child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
        child.stdout.readline()
        import os, signal
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        pathlib.Path("pids.part").write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
        pathlib.Path("pids.part").rename("pids")
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            pathlib.Path("saved").write_text("yes")
            raise
    pathlib.Path("data", name).write_text(what)
    print("finished", name)
"""


@dataclass(frozen=True)
class Project:
    root: Path

    def write(self, name: str, what: str) -> None:
        (self.root / "raw" / name).write_text(what)

    def children(self, timeout_s: float = 30) -> list[int]:
        """Process ids of a hanging stage: the shell or dvc, the command, the command's child."""
        wait_until(lambda: (self.root / "pids").exists(), timeout_s, "the stage to start")
        return [int(pid) for pid in (self.root / "pids").read_text().split()]


def make_project(root: Path) -> Project:
    (root / "raw").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "mine.py").write_text(textwrap.dedent(MINE))
    (root / ".gitignore").write_text("/data\n/all\n/size\n/score\n/.prefect\n__pycache__\n")
    (root / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", "prefect.toml"):
        shutil.copy(REPOSITORY / name, root / name)
    project = Project(root)
    project.write("a", "plain")
    project.write("b", "plain")
    subprocess.run(["git", "init", "-q", root], check=True)
    return project


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Its value, once it is true.

    Args:
        timeout_s: which suffices on two quick cores; a busy machine is given `PATIENCE` times that,
            and only a test that fails waits so long.
    """
    patience_s = PATIENCE * timeout_s
    end = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {patience_s:.0f} s for {what}")
        time.sleep(0.1)
    return value


def is_running(pid: int) -> bool:
    """Also false for a zombie: in a container nobody may be there to bury it."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc here, or it has just gone
        return not Path("/proc").exists()


def end(process: subprocess.Popen[Any]) -> None:
    """A server or worker, and whatever it started, is gone afterwards."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(60)
    left = not group_is_gone(process.pid)
    kill_group(process)
    assert not left, "it did not end when asked, or left processes behind"


def kill_group(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def group_is_gone(group: int) -> bool:
    """No process of the group runs any more."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    return not any(
        int(pgid) == group and not stat.startswith("Z")
        for pgid, stat in map(str.split, listed.splitlines())
    )


@dataclass
class Server:
    """A Prefect server in a process of its own, set up by prefect.toml alone."""

    project: Project  # its working directory: database and logs lie there
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")
        }
        return {
            **inherited,
            "PREFECT_API_URL": self.url,
            "MIMIC_ROOT": str(self.project.root),
            # the shortest that there is, so that a test can wait for its end
            "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "30",
        }

    def serve(self) -> None:
        self.process = self.start(
            "server", "start", "--host", "127.0.0.1", "--port", str(self.port)
        )
        wait_until(
            lambda: self.answers() or self.process.poll() is not None, 120, "the Prefect server"
        )
        assert self.process.poll() is None, (self.project.root / "log").read_text()

    def kill_and_start_again(self) -> None:
        """As when the power is cut."""
        assert self.process is not None
        kill_group(self.process)
        self.serve()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return self.start_module("prefect", *command)

    def start_module(self, *command: str) -> subprocess.Popen[bytes]:
        log = (self.project.root / "log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.project.root,
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def deploy(self) -> None:
        """The deployments of the project's prefect.yaml."""
        self.run_module("mimic.flows.deploy")

    def run_module(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.project.root,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def patch(self, path: str, **body: Any) -> Any:
        return self.post(path, "PATCH", **body)

    def post(self, path: str, method: str = "POST", /, **body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        for _ in range(5):  # 503: its database was locked for a moment, try again
            with (
                contextlib.suppress(urllib.error.HTTPError),
                urllib.request.urlopen(request, timeout=SLOW_S) as answer,
            ):
                text = answer.read()
                return json.loads(text) if text else None
            time.sleep(1)
        pytest.fail(f"{path}: the server keeps refusing")

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(self.url + "/health", timeout=2).status == 200
        except OSError:
            return False
