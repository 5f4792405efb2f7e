"""A worker on a server that was never used."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ValidationError

from mimic.errors import BadInput
from mimic.flows import deploy, plan
from tests.support import REPOSITORY
from tests.support.servers import PrefectServer, Service, get, with_programs
from tests.support.toy_project import Server, make_project

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


def test_the_first_worker_makes_its_pool(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project").root
    server = PrefectServer(root, None, tmp_path)
    environment = with_programs(PREFECT_API_URL=server.api, MIMIC_ROOT=str(root))
    pool = f"{server.api}/work_pools/mimic"
    command = [sys.executable, "-m", "mimic.flows.worker"]
    worker = Service("worker", command, root, lambda: get(pool) is not None, environment, tmp_path)
    try:
        server.start()
        worker.start()
    finally:
        worker.end()
        server.end()


@pytest.mark.parametrize("text", ["- a\n", "deployments: [\n", "name: mimic\n"])
def test_a_plan_that_cannot_be_read_is_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prefect.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(BadInput, match=r"^prefect\.yaml"),
    ):
        deploy.deploy()


@pytest.mark.long
def test_two_workspaces_on_one_server_leave_each_other_alone(tmp_path: Path) -> None:
    """Each has its names, its work pool and its address for failures; none takes another's."""
    ours, theirs = (make_project(tmp_path / name).root for name in ("ours", "theirs"))
    for root in (ours, theirs):
        shutil.copy(REPOSITORY / "prefect.yaml", root)
    server = PrefectServer(ours, None, tmp_path)

    def deploy(root: Path, **more: str) -> subprocess.CompletedProcess[str]:
        environment = with_programs(PREFECT_API_URL=server.api, **more)
        command = [sys.executable, "-m", "mimic.flows.deploy"]
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)

    def deployed() -> dict[str, tuple[str, str]]:
        listed = httpx.post(f"{server.api}/deployments/filter", json={}).json()
        step = "prefect.deployments.steps.set_working_directory"
        return {
            one["name"]: (one["work_pool_name"], one["pull_steps"][0][step]["directory"])
            for one in listed
        }

    def told() -> list[str]:
        listed = httpx.post(f"{server.api}/automations/filter", json={}).json()
        return [one["name"] for one in listed if "tell when" in one["name"]]

    try:
        server.start()
        hook = {"MIMIC_NOTIFY_URL": "http://127.0.0.1:9/hook"}
        assert deploy(ours, **hook).returncode == 0
        before = deployed()
        assert set(before.values()) == {("mimic", str(ours))}
        refused = deploy(theirs)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert f"deploy: the workspace {ours} has the name " in line
        text = (theirs / "prefect.yaml").read_text()
        renamed = re.sub(r"(name:) (mine|pretrain|evaluate|everything)\b", r"\1 their-\2", text)
        (theirs / "prefect.yaml").write_text(renamed)
        refused = deploy(theirs)
        assert f"the workspace {ours} has the work pool mimic on" in refused.stderr
        assert deployed() == before
        (theirs / "prefect.yaml").write_text(
            renamed.replace("work_pool: {name: mimic}", "work_pool: {name: Their pool}")
        )
        done = deploy(theirs)
        assert done.returncode == 0, done.stderr
        assert {one: at for one, at in deployed().items() if one in before} == before
        assert set(deployed()) == {*before, *(f"their-{name}" for name in before)}
        assert told() == ["mimic: tell when a run failed"], "the other's address stays"
        assert deploy(theirs, **hook).returncode == 0
        assert sorted(told()) == [
            "Their pool: tell when a run failed",
            "mimic: tell when a run failed",
        ]
        theirs.rename(tmp_path / "moved")
        assert deploy(tmp_path / "moved").returncode == 0
        assert deployed()["their-mine"] == ("Their pool", str(tmp_path / "moved"))
        assert told() == ["mimic: tell when a run failed"]
    finally:
        server.end()


def test_a_worker_serves_one_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan.pool() == plan.POOL, "where there is no prefect.yaml yet"
    pools = ("{name: a}", "{name: b}")
    named = "".join(f"- {{name: x, work_pool: {pool}}}\n" for pool in pools)
    (tmp_path / "prefect.yaml").write_text(f"deployments:\n{named}- {{name: y}}\n")
    with pytest.raises(BadInput, match="work pools a and b"):
        plan.pool()
    (tmp_path / "prefect.yaml").write_text(f"deployments:\n{named.replace('a}', 'b}')}")
    assert plan.pool() == "b"
    for name in ("nights/lab", "a&b", " "):
        one = {"name": "x", "work_pool": {"name": name}}
        (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": [one]}))
        with pytest.raises(BadInput, match=f"the work pool '{name}' has .* in its name"):
            plan.pool()
        with pytest.raises(ValidationError):  # as Prefect would say
            WorkPoolCreate(name=name, type="process")


@pytest.fixture
def ours(server: Server, tmp_path: Path) -> Server:
    """A workspace of its own on the server."""
    return Server(make_project(tmp_path / "ours"), server.port)


def _deploy(workspace: Server, **deployments: list[dict[str, Any]]) -> None:
    """By name, with these schedules."""
    root = workspace.project.root
    listed: dict[str, Any] = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    trigger = next(one for one in listed["deployments"] if one.get("triggers"))
    listed["deployments"] = [
        {
            **trigger,
            "name": name,
            "schedules": [{"cron": "0 1 1 1 *", **schedule} for schedule in schedules],
            "work_pool": {"name": "-".join(root.parts[-2:])},
        }
        for name, schedules in deployments.items()
    ]
    (root / "prefect.yaml").write_text(yaml.safe_dump(listed))
    workspace.deploy()


def _find(server: Server, *names: str) -> list[dict[str, Any]]:
    found = server.post("/deployments/filter", deployments={"name": {"any_": list(names)}})
    return sorted(found, key=lambda one: names.index(one["name"]))


def _switches(server: Server, name: str) -> dict[str | None, bool]:
    (found,) = _find(server, name)
    return {one["slug"]: one["active"] for one in found["schedules"]}


def _switch(server: Server, name: str, slug: str | None, active: bool) -> None:
    """As in the UI."""
    (found,) = _find(server, name)
    for one in found["schedules"]:
        if one["slug"] == slug:
            server.patch(f"/deployments/{found['id']}/schedules/{one['id']}", active=active)


def test_what_prefect_yaml_has_no_more_is_taken_away(
    ours: Server, server: Server, tmp_path: Path
) -> None:
    """Not what somebody made in the UI, nor what is another workspace's now."""
    slugs: list[dict[str, Any]] = [{"slug": "stays"}, {"slug": "goes"}]
    _deploy(ours, kept=slugs, gone=slugs, bare=[{}], given=[])
    kept, gone, given = _find(server, "kept", "gone", "given")
    made = {"schedule": {"cron": "0 2 1 1 *"}, "active": True}
    address = f"{server.url}/deployments/{kept['id']}/schedules"
    httpx.post(address, json=[made, {**made, "slug": "made"}]).raise_for_status()
    by_hand = {"flow_id": kept["flow_id"], "pull_steps": kept["pull_steps"]}
    server.post("/deployments/", name="by-hand", **by_hand)
    server.post(f"/deployments/{given['id']}", "DELETE")
    theirs = Server(make_project(tmp_path / "theirs"), server.port)
    _deploy(theirs, given=[])

    _deploy(ours, kept=slugs[:1], bare=[])
    names = ("kept", "gone", "bare", "given", "by-hand")
    assert [one["name"] for one in _find(server, *names)] == ["kept", "bare", "given", "by-hand"]
    (nameless,) = _switches(server, "kept").keys() - {"stays", "made"}
    assert str(nameless).startswith("by-hand-")
    assert _switches(server, "bare") == {}
    triggers = server.post("/automations/filter")
    assert not [one for one in triggers if str(gone["id"]) in str(one)]


def test_what_is_switched_off_stays_off_until_its_own_line_changes(ours: Server) -> None:
    nightly: dict[str, Any] = {"slug": "nightly", "active": True}
    _deploy(ours, switched=[nightly])
    _switch(ours, "switched", "nightly", False)
    _deploy(ours, switched=[nightly, {"slug": "weekly"}])
    assert _switches(ours, "switched") == {"nightly": False, "weekly": True}
    _switch(ours, "switched", "nightly", True)
    _deploy(ours, switched=[{**nightly, "active": False}])
    assert _switches(ours, "switched") == {"nightly": False}
    # What was deployed last is not known: that costs a switch, and no deployment.
    stated = ours.project.root / ".prefect/stated.yaml"
    stated.write_text(stated.read_text()[:20])
    _deploy(ours, switched=[nightly])
    assert _switches(ours, "switched") == {"nightly": True}


def test_schedules_without_slug_do_not_switch_each_other_on(ours: Server) -> None:
    schedules = [{"active": True}, {"active": False}]
    for _ in range(2):
        _deploy(ours, nameless=schedules)
        (found,) = _find(ours, "nameless")
        assert sorted(one["active"] for one in found["schedules"]) == [False, True]
