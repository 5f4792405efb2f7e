"""A worker on a server that was never used."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from mimic.errors import BadInput
from mimic.flows import deploy, plan
from tests.support import REPOSITORY
from tests.support.servers import PrefectServer, Service, get, with_programs
from tests.support.toy_project import make_project

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
