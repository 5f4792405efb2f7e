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
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import get_current_settings

from mimic.errors import BadInput
from mimic.flows import notify, plan
from mimic.flows.janitor import FLOW
from mimic.infra.addresses import LOOPBACK, hide_secrets
from mimic.infra.storage import replacing

Switches = dict[str, dict[str | None, bool]]  # as `plan.switches` gives them


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
    files = (_mark(), _stated())  # without the second, what goes from prefect.yaml is not missed
    known = names <= deployed and all(path.is_file() for path in files)
    return known and _mark().read_text() == _digest()


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
    now = plan.read()
    switches = plan.switches(now)
    before = _stated_before()
    pool = plan.pool()
    with get_client(sync_client=True) as client:
        deployed = _deployed(client)
        _refuse_anothers(deployed, set(switches), pool)
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        _name_what_is_made_by_hand(client, deployed, before, switches)
    if now["deployments"]:  # Prefect refuses a file without any
        _run_prefect(_with_switches(now, {one.name: one for one in deployed}, before))
    with get_client(sync_client=True) as client:
        _take_away(client, before, switches)
    for former in _pools_before() - {pool}:
        notify.forget(former)
    with replacing(_stated()) as scratch:
        scratch.write_text(yaml.safe_dump(now, sort_keys=False), encoding="utf-8")
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
    for one in deployed:
        where = _directory(one)
        taken = [f"the name {one.name}"] if one.name in names else []
        taken += [f"the work pool {pool}"] if one.work_pool_name == pool else []
        if not taken or where is None or _is_ours(where):
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


def _is_ours(where: Path) -> bool:
    return _is_same(where, Path(_root())) or _was_moved(where)


def _is_same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _was_moved(where: Path) -> bool:
    """A server on this machine knew workspaces of this machine alone."""
    host = urlsplit(str(get_current_settings().api.url)).hostname
    return host in LOOPBACK and not where.exists()


def _root() -> str:
    """Where the runs of this workspace work."""
    return os.environ.get("MIMIC_ROOT") or str(Path.cwd())


def _stated() -> Path:
    """prefect.yaml as it was deployed last."""
    return get_current_settings().home / "stated.yaml"


def _stated_before() -> Switches:
    """Empty where that is not known: nothing was deployed from here, or the file is broken."""
    try:
        return plan.switches(plan.read(_stated()))
    except BadInput:
        return {}


def _pools_before() -> set[str]:
    """The work pools that prefect.yaml named when it was deployed last."""
    try:
        return plan.pools(plan.read(_stated()))
    except BadInput:
        return set()


def _name_what_is_made_by_hand(
    client: SyncPrefectClient, deployed: list[DeploymentResponse], before: Switches, now: Switches
) -> None:
    """Give a slug to what somebody has added in the UI without one: where a deployment has one such
    schedule, Prefect replaces all of them by those of prefect.yaml."""
    for one in deployed:
        if one.name not in before or None in before[one.name] or None in now.get(one.name, {}):
            continue  # it may be of prefect.yaml
        where = _directory(one)
        for schedule in one.schedules:
            if schedule.slug is None and where is not None and _is_ours(where):
                slug = f"by-hand-{schedule.id.hex[:8]}"
                client.update_deployment_schedule(one.id, schedule.id, slug=slug)


def _take_away(client: SyncPrefectClient, before: Switches, now: Switches) -> None:
    """What prefect.yaml once had and has no more: Prefect keeps it, and it would go on to start
    runs. What somebody made in the UI stays."""
    for one in _deployed(client):
        where = _directory(one)
        if one.name not in before or where is None or not _is_ours(where):
            continue
        if one.name in now:
            _take_away_schedules(client, one, before[one.name].keys() - now[one.name].keys())
            continue
        client.delete_resource_owned_automations(f"prefect.deployment.{one.id}")
        with contextlib.suppress(ObjectNotFound):  # somebody was quicker
            client.delete_deployment(one.id)
        print(f"deployment {one.name}: taken away, as {plan.FILE} has it no more", flush=True)


def _take_away_schedules(
    client: SyncPrefectClient, deployment: DeploymentResponse, slugs: set[str | None]
) -> None:
    for one in deployment.schedules:
        if one.slug not in slugs:
            continue
        with contextlib.suppress(ObjectNotFound):
            client.delete_deployment_schedule(deployment.id, one.id)
        what = f"schedule {one.slug or one.schedule} of {deployment.name}"
        print(f"{what}: taken away, as {plan.FILE} has it no more", flush=True)


def _run_prefect(changed: dict[str, Any]) -> None:
    """
    Raises:
        BadInput: prefect.yaml is refused.
    """
    file = get_current_settings().home / plan.FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    command += ["--prefect-file", str(file)]
    environment = {**os.environ, "MIMIC_ROOT": _root()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise BadInput(f"prefect.yaml cannot be deployed:\n{output}")


def _with_switches(
    now: dict[str, Any], known: dict[str, DeploymentResponse], before: Switches
) -> dict[str, Any]:
    """prefect.yaml, but what somebody has switched on or off in the UI stays so until its own
    `active` says something else than before, and what is paused stays paused, also for the moment
    of the deployment."""
    changed: list[Any] = []
    for one in now["deployments"]:
        name = str(one.get("name")) if isinstance(one, dict) else None
        if name is None or name not in known:
            changed.append(one)
            continue
        kept = {**one, "paused": known[name].paused or bool(one.get("paused"))}
        if isinstance(one.get("schedules"), list):
            switches = {schedule.slug: schedule.active for schedule in known[name].schedules}
            kept["schedules"] = [
                _switched(schedule, switches, before.get(name)) for schedule in one["schedules"]
            ]
        changed.append(kept)
    return {**now, "deployments": changed}


def _switched(
    schedule: Any, switches: dict[str | None, bool], before: dict[str | None, bool] | None
) -> Any:
    """A schedule as it is to be: without a slug, as prefect.yaml says.

    Args:
        before: whether those of its deployment were to be active when that was deployed last; None:
            that is not known, and only what is on stays on.
    """
    slug = schedule.get("slug") if isinstance(schedule, dict) else None
    if not isinstance(slug, str) or slug not in switches:
        return schedule
    is_kept = switches[slug] if before is None else before.get(slug) == plan.is_active(schedule)
    return {**schedule, "active": switches[slug]} if is_kept else schedule


if __name__ == "__main__":
    sys.exit(main())
