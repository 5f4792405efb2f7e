"""Servers and clusters that a stage talks to."""

from __future__ import annotations

import os
import shutil
import subprocess

from mimic import config
from mimic.commands.operation.doctor.finding import Finding, absent, shortened, version_of
from mimic.commands.operation.schedule_slots import held_slots
from mimic.infra.addresses import opened, without_password

SLURM = ("sbatch", "squeue", "scancel", "sacct")


def slurm(needed: bool) -> Finding:
    lacking = [name for name in SLURM if shutil.which(name) is None]
    if lacking:
        remedy = "run on a login node, or set cluster.executor: local" if needed else ""
        return Finding("SLURM", absent(needed), f"no {', '.join(lacking)} here", remedy)
    asked = ["squeue", "--noheader", "--me"]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    if answer.returncode:
        refusal = " ".join(answer.stderr.split())[:120]
        problem = f"sbatch is here, but no cluster answers ({refusal})"
        return Finding("SLURM", absent(needed), problem)
    jobs = len(answer.stdout.splitlines())
    return Finding("SLURM", "ok", f"the cluster answers, {jobs} jobs of yours")


def mlflow_server(tracking: config.Tracking) -> Finding:
    installed = version_of("mlflow")
    if not installed:
        return Finding("MLflow", "note", "not installed", "pip install -e . brings it")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri
    if uri is None:
        return Finding("MLflow", "ok", f"{installed}, tracking is off")
    if not uri.startswith(("http://", "https://")):
        return Finding("MLflow", "ok", f"{installed}, {uri.partition(':')[0]} store")
    try:
        # urllib cannot read an address with a password in it, and would print it
        bare = without_password(uri).rstrip("/")
        with opened(f"{bare}/health", timeout_s=5):
            return Finding("MLflow", "ok", f"{installed}, the server answers")
    except (OSError, ValueError) as error:
        problem = f"{installed}, the server does not answer ({shortened(error)})"
        remedy = "results wait in files; mimic track shows them later"
        return Finding("MLflow", "warning", problem, remedy)


def prefect_server() -> Finding:
    installed = version_of("prefect")
    if not installed:
        return Finding("Prefect", "note", "not installed", "pip install -e . brings it")
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        return Finding("Prefect", "ok", f"{installed}, no server (PREFECT_API_URL is not set)")
    try:
        slots = held_slots(api)
    except (OSError, ValueError) as error:
        problem = f"{installed}, the server does not answer ({shortened(error)})"
        return Finding("Prefect", "warning", problem, "prefect server start")
    stuck = [slot for slot in slots if slot.is_stuck]
    if not stuck:
        at_work = "".join(f", {slot.run} holds the slot of {slot.deployment}" for slot in slots)
        return Finding("Prefect", "ok", f"{installed}, the server answers{at_work}")
    one = stuck[0]
    return Finding(
        "Prefect",
        "warning",
        f"the slot of {one.deployment} is held by {one.run}, {one.state} for "
        f"{one.seconds / 60:.0f} min: the runs that are due meanwhile are dropped",
        "start the worker (python -m mimic.flows.worker), which frees it",
    )
