"""The deployments of prefect.yaml on the server: `python -m mimic.flows.deploy`.

Does all that a server that has just been made lacks: the work pool, the deployments, the automation
that tells somebody. Any number of times, before or after the worker has started.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings

from mimic.errors import BadInput
from mimic.flows import notify
from mimic.flows.worker import POOL
from mimic.infra.addresses import hide_secrets

PLAN = "prefect.yaml"


def main() -> int:
    hide_secrets()
    try:
        if sys.argv[1:] == ["--if-changed"] and _is_done():
            print("deployments: as before", flush=True)
            return 0
        deploy()
        _mark().write_text(_digest())
    except BadInput as error:
        print(f"mimic: {error}", file=sys.stderr)
        return 2
    except httpx.HTTPError as error:
        print(f"mimic: the Prefect server does not answer ({error})", file=sys.stderr)
        return 1
    return 0


def _is_done() -> bool:
    """Whether the server has these deployments already. To make them again takes seconds, and an
    interval without an anchor would begin anew."""
    names = {one.get("name") for one in _deployments(_plan())}
    with get_client(sync_client=True) as client:
        deployed = {one.name for one in client.read_deployments()}
    return names <= deployed and _mark().is_file() and _mark().read_text() == _digest()


def _mark() -> Path:
    return get_current_settings().home / "deployed"


def _digest() -> str:
    """Of all that a deployment is made of."""
    parts = [version("mimic"), str(Path.cwd()), os.environ.get(notify.VARIABLE, "")]
    files = [Path(name) for name in (PLAN, "params.yaml", "dvc.yaml")]
    parts += [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def deploy() -> None:
    """
    Raises:
        BadInput: no server is named, or prefect.yaml is refused.
        httpx.HTTPError: the server does not answer.
    """
    if get_current_settings().api.url is None:
        raise BadInput("deploy: PREFECT_API_URL is not set; `mimic serve` starts a server")
    _plan()
    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        before = {one.name: one for one in client.read_deployments()}
    _run_prefect(before)
    print("deployed; " + notify.apply(), flush=True)


def _plan() -> dict[str, Any]:
    """
    Raises:
        BadInput: prefect.yaml is missing, or is no mapping.
    """
    path = Path(PLAN)
    if not path.is_file():
        raise BadInput(f"deploy: no {PLAN} here; `mimic serve` writes one")
    try:
        plan: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{PLAN} cannot be read: {error}") from error
    if not isinstance(plan, dict) or not isinstance(plan.get("deployments"), list):
        raise BadInput(f"{PLAN}: it has no list `deployments`; remove it: `mimic serve` writes one")
    mapping: dict[str, Any] = plan
    return mapping


def _deployments(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """What is no mapping is left to Prefect to refuse."""
    return [one for one in plan["deployments"] if isinstance(one, dict)]


def _run_prefect(before: dict[str, DeploymentResponse]) -> None:
    """
    Raises:
        BadInput: prefect.yaml is refused.
    """
    file = get_current_settings().home / PLAN
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(_with_switches(before), sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    command += ["--prefect-file", str(file)]
    root = {"MIMIC_ROOT": str(Path.cwd())}
    done = subprocess.run(command, env={**root, **os.environ}, capture_output=True, text=True)
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise BadInput(f"prefect.yaml cannot be deployed:\n{output}")


def _with_switches(before: dict[str, DeploymentResponse]) -> dict[str, Any]:
    """prefect.yaml, but what somebody has switched on in the UI stays on, although it says
    `active: false`, and what is paused stays paused, also for the moment of the deployment."""
    plan = _plan()
    for one in _deployments(plan):
        known = before.get(str(one.get("name")))
        if known is None:
            continue
        one["paused"] = known.paused or bool(one.get("paused"))
        on = {schedule.slug for schedule in known.schedules if schedule.active}
        one["schedules"] = [
            {**schedule, "active": True} if schedule.get("slug") in on else schedule
            for schedule in one.get("schedules") or []
        ]
    return plan


if __name__ == "__main__":
    sys.exit(main())
