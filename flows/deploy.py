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
from urllib.parse import urlsplit

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings

from mimic.errors import BadInput
from mimic.flows import notify, plan
from mimic.flows.janitor import FLOW
from mimic.infra.addresses import LOOPBACK, hide_secrets


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
    names = {one.get("name") for one in plan.deployments(plan.read())}
    with get_client(sync_client=True) as client:
        deployed = {one.name for one in _deployed(client)}
    return names <= deployed and _mark().is_file() and _mark().read_text() == _digest()


def _mark() -> Path:
    return get_current_settings().home / "deployed"


def _digest() -> str:
    """Of all that a deployment is made of."""
    parts = [version("mimic"), str(Path.cwd()), os.environ.get(notify.VARIABLE, "")]
    files = [Path(name) for name in (plan.FILE, "params.yaml", "dvc.yaml")]
    parts += [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def deploy() -> None:
    """
    Raises:
        BadInput: no server is named, prefect.yaml is refused, or a name or the work pool in it
            belongs to another workspace.
        httpx.HTTPError: the server does not answer.
    """
    if get_current_settings().api.url is None:
        raise BadInput("deploy: PREFECT_API_URL is not set; `mimic serve` starts a server")
    names = {str(one.get("name")) for one in plan.deployments(plan.read())}
    pool = plan.pool()
    with get_client(sync_client=True) as client:
        deployed = _deployed(client)
        _refuse_anothers(deployed, names, pool)
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    _run_prefect({one.name: one for one in deployed})
    print("deployed; " + notify.apply(pool), flush=True)


def _deployed(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Of our flow; another one of the server may have deployments of the same names."""
    return client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])))


def _refuse_anothers(deployed: list[DeploymentResponse], names: set[str], pool: str) -> None:
    """Whoever deploys a name that is taken takes over its schedules, and whoever serves a pool runs
    what is due in it.

    Raises:
        BadInput: a name or the pool belongs to another workspace.
    """
    ours = Path(_root())
    for one in deployed:
        where = _directory(one)
        taken = [f"the name {one.name}"] if one.name in names else []
        taken += [f"the work pool {pool}"] if one.work_pool_name == pool else []
        if not taken or where is None or _is_same(where, ours) or _was_moved(where):
            continue
        raise BadInput(
            f"deploy: the workspace {where} has {' and '.join(taken)} on this Prefect server; "
            f"choose others in {plan.FILE} (`name`, `work_pool`, and `prefect.resource.name` of a "
            "trigger), or give this workspace a server of its own: `mimic serve --port`. If that "
            "workspace is gone for good: `prefect deployment delete pipeline/NAME`"
        )


def _directory(deployment: DeploymentResponse) -> Path | None:
    """Where its runs work."""
    for step in deployment.pull_steps or []:
        for options in step.values():
            if isinstance(options, dict) and options.get("directory"):
                return Path(str(options["directory"]))
    return None


def _is_same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _was_moved(where: Path) -> bool:
    """A server on this machine knew workspaces of this machine alone."""
    host = urlsplit(str(get_current_settings().api.url)).hostname
    return host in LOOPBACK and not where.exists()


def _root() -> str:
    """Where the runs of this workspace work."""
    return os.environ.get("MIMIC_ROOT") or str(Path.cwd())


def _run_prefect(before: dict[str, DeploymentResponse]) -> None:
    """
    Raises:
        BadInput: prefect.yaml is refused.
    """
    file = get_current_settings().home / plan.FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(_with_switches(before), sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    command += ["--prefect-file", str(file)]
    environment = {**os.environ, "MIMIC_ROOT": _root()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise BadInput(f"prefect.yaml cannot be deployed:\n{output}")


def _with_switches(before: dict[str, DeploymentResponse]) -> dict[str, Any]:
    """prefect.yaml, but what somebody has switched on in the UI stays on, although it says
    `active: false`, and what is paused stays paused, also for the moment of the deployment."""
    changed = plan.read()
    for one in plan.deployments(changed):
        known = before.get(str(one.get("name")))
        if known is None:
            continue
        one["paused"] = known.paused or bool(one.get("paused"))
        on = {schedule.slug for schedule in known.schedules if schedule.active}
        one["schedules"] = [
            {**schedule, "active": True} if schedule.get("slug") in on else schedule
            for schedule in one.get("schedules") or []
        ]
    return changed


if __name__ == "__main__":
    sys.exit(main())
