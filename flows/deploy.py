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

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings

from mimic.errors import BadInput
from mimic.flows import notify
from mimic.flows.worker import POOL

PLAN = "prefect.yaml"


def main() -> int:
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
    """Whether the server has these deployments already. To make them again would remove the runs
    that were due while the machine was off."""
    names = {
        one["name"] for one in yaml.safe_load(Path(PLAN).read_text(encoding="utf-8"))["deployments"]
    }
    with get_client(sync_client=True) as client:
        there = {one.name for one in client.read_deployments()}
    return names <= there and _mark().is_file() and _mark().read_text() == _digest()


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
    if not Path("prefect.yaml").is_file():
        raise BadInput("deploy: no prefect.yaml here; `mimic serve` writes one")
    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        before = {one.name: one for one in client.read_deployments()}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    here = {"MIMIC_ROOT": str(Path.cwd())}
    done = subprocess.run(command, env={**here, **os.environ}, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise BadInput(f"prefect.yaml cannot be deployed:\n{said}")
    with get_client(sync_client=True) as client:
        for made in client.read_deployments():
            if made.name in before:
                _keep_switches(client, before[made.name], made)
    print("deployed; " + notify.apply(), flush=True)


def _keep_switches(
    client: SyncPrefectClient, before: DeploymentResponse, made: DeploymentResponse
) -> None:
    """What somebody has switched on stays on, although prefect.yaml says `active: false`; what is
    paused stays paused."""
    on = {schedule.slug for schedule in before.schedules if schedule.active}
    for schedule in made.schedules:
        if schedule.slug in on and not schedule.active:
            client.update_deployment_schedule(made.id, schedule.id, active=True)
    if before.paused and not made.paused:
        client.pause_deployment(made.id)


if __name__ == "__main__":
    sys.exit(main())
