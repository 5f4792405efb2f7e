"""A worker on a server that was never used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from mimic.errors import BadInput
from mimic.flows import deploy
from tests.support.servers import PrefectServer, Service, get, with_programs
from tests.support.toy_project import make_project

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


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


@pytest.mark.parametrize("plan", ["- a\n", "deployments: [\n", "name: mimic\n"])
def test_a_plan_that_cannot_be_read_is_one_line(
    plan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prefect.yaml").write_text(plan)
    monkeypatch.chdir(tmp_path)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(BadInput, match=r"^prefect\.yaml"),
    ):
        deploy.deploy()
