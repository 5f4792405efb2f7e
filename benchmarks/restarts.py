"""No night is lost: `mimic serve` with a schedule, killed again and again at random moments.

    python -m benchmarks.restarts --kills 20 --seed 1

A small project of five stages is due every few seconds, with new input each time. Server, worker,
both, or all of it at once (as when the power is cut; it is then started again) are killed with
SIGKILL. Afterwards, once the schedule is switched off and all has come to rest:

- each run that was due has completed, or was dropped because the previous one was still at work;
- no slot is taken, and no two runs were at work at the same time;
- nothing is half done: what stands is what an undisturbed run makes of the last input.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from mimic.commands.operation.schedule_slots import held_slots

NOBODY = "http://127.0.0.1:1"
KINDS = ("server", "worker", "both", "all")
DROPPED = "concurrency limit reached"  # by Prefect: the previous run still works
RESTS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
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
"""
MINE = """
    import os, pathlib, sys, time
    name, run = sys.argv[1], os.environ.get("PREFECT__FLOW_RUN_ID", "by hand")
    what = pathlib.Path("raw", name).read_text()
    begun = time.time()
    out = pathlib.Path("data", name)
    out.write_text(what[:3])
    for _ in range(6):
        time.sleep(0.25)
        with open("work.log", "a") as file:
            file.write(f"{time.time()} {run} {name}\\n")
    out.write_text(what)
"""


@dataclass
class Trial:
    """One `mimic serve` and what is done to it."""

    root: Path
    every_s: float
    random: random.Random
    say: Callable[[str], None] = print
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    inputs: int = 0
    last: datetime | None = None  # what is due later does not count
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def make(self) -> None:
        """The project, `mine` due every few seconds."""
        for folder in ("raw", "data", ".dvc"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "dvc.yaml").write_text(DVC_YAML)
        (self.root / "mine.py").write_text(textwrap.dedent(MINE))
        (self.root / ".gitignore").write_text("/data\n/all\n/work.log\n/.prefect\n")
        (self.root / ".dvc/config").write_text("[core]\n    analytics = false\n")
        subprocess.run(["git", "init", "-q", self.root], check=True)
        home = Path(__file__).resolve().parents[1]
        plan = yaml.safe_load((home / "prefect.yaml").read_text())
        plan["deployments"] = [one for one in plan["deployments"] if one["name"] == "mine"]
        plan["deployments"][0]["schedules"] = [
            {"interval": self.every_s, "slug": "often", "active": True}
        ]
        (self.root / "prefect.yaml").write_text(yaml.safe_dump(plan))
        self.new_input()

    def new_input(self) -> None:
        self.inputs += 1
        for name in ("a", "b"):
            (self.root / f"raw/{name}.part").write_text(f"{name}{self.inputs} " * 50)
            (self.root / f"raw/{name}.part").rename(self.root / f"raw/{name}")

    def start(self) -> None:
        self.port = self.port or _free_port()
        ports = ["--port", str(self.port), "--mlflow-port", str(_free_port())]
        command = [sys.executable, "-c", "from mimic.cli import main; main()", "serve", *ports]
        command += ["--report-port", str(_free_port())]
        bare = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        with (self.root / ".serve.out").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.root,
                # results: not here; and the shell names a proxy, which is asked for nothing here
                env={**bare, "MLFLOW_TRACKING_URI": NOBODY, "http_proxy": NOBODY},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_work(self, timeout_s: float = 240.0) -> None:
        """Until a run is at work for the first time."""
        self.wait(lambda: (self.root / "work.log").exists(), timeout_s, "a first run")

    def wait(self, condition: Callable[[], Any], timeout_s: float, what: str) -> None:
        end = time.monotonic() + timeout_s
        while True:
            try:
                if condition():
                    return
            except (OSError, ValueError):
                pass  # the server is being started again
            if time.monotonic() > end:
                raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
            time.sleep(0.5)

    def kill(self, kind: str) -> None:
        """With SIGKILL, all processes of it at once; all = the power is cut."""
        assert self.process is not None
        serve = psutil.Process(self.process.pid)
        children = serve.children(recursive=True)
        if kind == "all":
            chosen = [serve, *children]
        else:
            chosen = [one for one in children if _belongs(one, kind)]
            if kind != "server" and self.random.random() < 0.5:
                # one process of the worker's: its watchman, or Prefect's own
                chosen = [one for one in chosen if "mimic.flows.worker" in _words(one)] or chosen
        for one in chosen:
            try:
                one.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self.kills[kind] += 1
        if kind == "all":
            self.process.wait()
            self.start()

    def post(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self.api + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self.post(
            "/flow_runs/filter", limit=200, offset=len(found), sort="EXPECTED_START_TIME_ASC"
        ):
            found += page
        return found

    def rest(self, timeout_s: float = 600.0) -> None:
        """Wait for all that is due by now, switch the schedule off, and wait until nothing is at
        work. What is due later may be left out: Prefect removes it when it pauses."""
        self.last = datetime.now(UTC)

        def is_done() -> bool:
            return all(run["state_type"] in RESTS for run in self._that_were_due())

        def off() -> bool:
            (one,) = self.post("/deployments/filter")
            self.post(f"/deployments/{one['id']}/pause_deployment")
            return True

        self.wait(is_done, timeout_s, "what was due")
        self.wait(off, 240, "the server")
        self.wait(
            lambda: all(run["state_type"] in RESTS for run in self.runs()), timeout_s, "all to rest"
        )

    def _that_were_due(self) -> list[dict[str, Any]]:
        last = self.last
        return [run for run in self.runs() if last is None or _due(run) <= last]

    def end(self) -> float:
        """Ctrl-C; after how many seconds all of it was gone."""
        assert self.process is not None
        begun = time.monotonic()
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(150)
        _, alive = psutil.wait_procs(children, timeout=5)
        if alive:
            raise AssertionError(f"left behind: {[' '.join(_words(one)) for one in alive]}")
        return time.monotonic() - begun

    def verdict(self) -> list[str]:
        """What went wrong; empty: nothing."""
        runs = self.runs()
        wrong = [
            f"{run['name']}: {run['state']['name']} ({run['state']['message']})"
            for run in runs
            if run["state_type"] != "COMPLETED"
            and not (
                run["state_type"] == "CANCELLED" and DROPPED in (run["state"]["message"] or "")
            )
        ]
        due = [_due(run).timestamp() for run in self._that_were_due()]
        gaps = [b - a for a, b in itertools.pairwise(due) if b - a > 1.5 * self.every_s]
        wrong += [f"no run was due for {gap:.0f} s" for gap in gaps]
        wrong += [f"{slot.run} holds the slot" for slot in held_slots(self.api)]
        return wrong + self._overlaps() + self._unfinished()

    def _overlaps(self) -> list[str]:
        """Two runs at work at the same time: in work.log, one comes back after another began."""
        order: list[str] = []
        for line in (self.root / "work.log").read_text().splitlines():
            run = line.split()[1]
            if not order or order[-1] != run:
                order.append(run)
        # A run that lost its process works again, later: only a-b-a within seconds is an overlap.
        times: dict[str, list[float]] = {}
        for line in (self.root / "work.log").read_text().splitlines():
            at, run, _ = line.split()
            times.setdefault(run, []).append(float(at))
        wrong = []
        for run, mine in times.items():
            for other, theirs in times.items():
                close = [t for t in theirs if any(abs(t - m) < 0.2 for m in mine)]
                if run < other and close:
                    wrong.append(f"{run} and {other} worked at the same time")
        return wrong

    def _unfinished(self) -> list[str]:
        expected = "".join((self.root / f"raw/{name}").read_text() for name in ("a", "b"))
        made = (self.root / "all").read_text()
        wrong = [] if made == expected else ["what stands is not what the last input makes"]
        command = [sys.executable, "-m", "dvc", "status", "--quiet"]
        status = subprocess.run(command, cwd=self.root).returncode
        return wrong + (["dvc status: something is not up to date"] if status else [])


def try_it(
    trial: Trial,
    kinds: list[str],
    pause_s: tuple[float, float],
    meanwhile: Callable[[Trial], None] = lambda _: None,
) -> list[str]:
    """Kill once per kind, with a random pause before each; what went wrong in the end."""
    trial.make()
    trial.start()
    trial.wait_for_work()
    meanwhile(trial)
    for number, kind in enumerate(kinds, 1):
        pause = trial.random.uniform(*pause_s)
        time.sleep(pause)
        trial.new_input()
        trial.kill(kind)
        trial.say(f"kill {number}: {kind}, after {pause:.1f} s")
    trial.new_input()
    since = time.time()
    trial.wait(lambda: _completed_since(trial, since), 600, "a run after the last kill")
    trial.rest()
    wrong = trial.verdict()
    states = Counter(run["state"]["name"] for run in trial.runs())
    resumed = sum(any(tag.startswith("resumed-") for tag in run["tags"]) for run in trial.runs())
    trial.say(
        f"{sum(trial.kills.values())} kills ({dict(trial.kills)}), runs: {dict(states)}, "
        f"{resumed} of them went on after their process was lost"
    )
    trial.say(f"Ctrl-C ended all of it in {trial.end():.0f} s")
    return wrong


def _due(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["expected_start_time"])


def _completed_since(trial: Trial, since: float) -> bool:
    return any(
        run["state_type"] == "COMPLETED"
        and datetime.fromisoformat(run["start_time"]).timestamp() > since
        for run in trial.runs()
        if run["start_time"]
    )


def _belongs(process: psutil.Process, kind: str) -> bool:
    """Whether a process is of the server, or of the worker, or of what that has started."""
    kinds = ("server", "worker") if kind == "both" else (kind,)
    try:
        line = [process, *process.parents()]
    except psutil.NoSuchProcess:
        return False
    text = " ".join(" ".join(_words(one)) for one in line)
    is_worker = "mimic.flows.worker" in text
    return ("worker" in kinds and is_worker) or (
        "server" in kinds and not is_worker and "prefect server" in text
    )


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restarts", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two due runs")
    parser.add_argument("--pause", type=float, default=45.0, help="at most, between two kills")
    parser.add_argument("--root", type=Path, help="a new folder; default: a temporary one")
    options = parser.parse_args()
    root = options.root or Path(tempfile.mkdtemp(prefix="restarts-")) / "project"
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True)

    say(f"seed {options.seed}, a run every {options.every:g} s, in {root}")
    chance = random.Random(options.seed)
    kinds = [chance.choice(KINDS) for _ in range(options.kills)]
    trial = Trial(root, options.every, chance, say)
    try:
        wrong = try_it(trial, kinds, (5.0, options.pause))
    finally:
        if trial.process is not None and trial.process.poll() is None:
            trial.end()
    for line in wrong:
        say(f"WRONG: {line}")
    say("nothing was lost" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
