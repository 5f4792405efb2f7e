"""Whoever reads what a lab leaves behind finds no credential: not in files, logs, tables or command
lines, neither of a night that went well nor of a run that failed."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from mimic.flows import notify
from mimic.flows.plan import POOL
from tests.production.conftest import Night
from tests.support import marked
from tests.support.installation import Installation
from tests.support.toy_project import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slurm, pytest.mark.timeout(1200)]
# A program of somebody else, which says what it was given before it falls.
TELLS = """
import os, sys
for name, value in sorted(os.environ.items()):
    if name.startswith(("MLFLOW_", "AWS_", "PREFECT_", "MIMIC_")):
        print(name, "is", value)
sys.exit("cannot reach " + os.environ["MLFLOW_TRACKING_URI"])
"""


@contextmanager
def refusing_webhook() -> Iterator[tuple[str, list[str]]]:
    """An address that answers every call with an error, and the calls."""
    calls: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_error(500, f"no such hook: {self.path}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/services/{marked.secret('Hook')}", calls
    finally:
        server.shutdown()


def failing_run(lab: Installation) -> str:
    """A flow run whose only stage prints its environment; the run, which people are told of."""
    plan = lab.root / "dvc.yaml"
    kept = plan.read_text()
    (lab.root / "tells.py").write_text(TELLS)
    stages = yaml.safe_load(kept)
    stages["stages"]["tell"] = {"cmd": "python tells.py", "always_changed": True}
    plan.write_text(yaml.safe_dump(stages, sort_keys=False))
    try:
        with refusing_webhook() as (address, calls):
            deploy = ["python", "-m", "mimic.flows.deploy"]
            environment = lab.environment | {notify.VARIABLE: address}
            subprocess.run(deploy, cwd=lab.root, env=environment, check=True, capture_output=True)
            run = lab.start_run("everything", targets=["tell"])
            assert lab.wait_for(run)["type"] == "FAILED"
            wait_until(lambda: calls, 60, "the webhook to be called")
            assert [text for text in calls if marked.found_in(text.encode())] == []
        (automation,) = lab.ask(
            "/automations/filter", automations={"name": {"any_": [notify.NAME.format(pool=POOL)]}}
        )
        lab.delete(f"/automations/{automation['id']}")
        return run
    finally:
        plan.write_text(kept)
        (lab.root / "tells.py").unlink()


def test_no_credential_is_left_anywhere(night: Night) -> None:
    lab = night.lab
    given = marked.marks_of(lab.environment)
    assert given >= {"MLFLOW_TRACKING_URI", "PREFECT_API_AUTH_STRING", "AWS_SECRET_ACCESS_KEY"}
    run = failing_run(lab)
    said = "\n".join(lab.logs(run))
    for name in given:
        assert f"{name} is " in said, "the credentials were not where they could be shown"
    assert "cannot reach http://127.0.0.1" in lab.state(run)["message"]

    assert lab.prefect.logs is not None
    kept = marked.search(lab.root, lab.prefect.logs, lab.s3.folder)
    # Prefect's server logs the address of a webhook that refused: `mimic serve` keeps that log in a
    # folder which only its owner may enter.
    kept.pop(str(lab.prefect.log), None)
    logged = set(re.findall(rf"{marked.STEM}\w*", lab.prefect.log.read_text()))
    assert logged <= {marked.secret("Hook")}
    assert kept == {}, json.dumps(kept, indent=1)
    # SLURM's controller keeps what jobs are given, and that is the key of the object store alone.
    given_to_jobs = {value for name, value in lab.environment.items() if name.startswith("AWS_")}
    assert marked.secrets_in(lab.sandbox.folder) <= given_to_jobs
    for database in ("prefect", "mlflow"):
        dumped = lab.database.dump(database)
        assert len(dumped) > 10_000
        assert marked.found_in(dumped) == [], database
    assert marked.search(lab.database.folder) == {}
    assert lab.command_lines.looks > 50
    assert lab.command_lines.found == set()
