"""Which deployments of a Prefect server have their slot taken, by whom and for how long: asked over
HTTP, so that nothing of Prefect is imported here."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from mimic.infra.addresses import opened, without_password

BUSY = ("PENDING", "RUNNING", "CANCELLING")  # states of a run that holds its deployment's slot
PENDING_S = 300.0  # a worker starts the process of a run within seconds of marking it Pending
ANSWER_S = 5.0


@dataclass(frozen=True)
class HeldSlot:
    """A deployment whose only slot a flow run holds."""

    deployment: str
    run: str
    state: str  # as the UI shows it: Pending, Running, Cancelling
    seconds: float  # since it is in this state

    @property
    def is_stuck(self) -> bool:
        """Whether no process can be at work on it."""
        return self.state == "Pending" and self.seconds > PENDING_S


def held_slots(api: str) -> list[HeldSlot]:
    """Of the server at an address such as http://127.0.0.1:4200/api, oldest first.

    Raises:
        OSError: it does not answer.
        ValueError: what answers is no Prefect server.
    """
    deployments = {item["id"]: item["name"] for item in _post(api, "/deployments/filter")}
    runs = _post(api, "/flow_runs/filter", flow_runs={"state": {"type": {"any_": list(BUSY)}}})
    held = [
        HeldSlot(
            deployments[run["deployment_id"]],
            run["name"],
            run["state"]["name"],
            (datetime.now(UTC) - datetime.fromisoformat(run["state"]["timestamp"])).total_seconds(),
        )
        for run in runs
        if run["deployment_id"] in deployments
    ]
    return sorted(held, key=lambda slot: -slot.seconds)


def _post(api: str, path: str, **body: Any) -> list[dict[str, Any]]:
    bare = without_password(api).rstrip("/")  # urllib reads no address with a password in it
    headers = {"Content-Type": "application/json", **_login(api)}
    request = urllib.request.Request(bare + path, json.dumps(body).encode(), headers)
    with opened(request, ANSWER_S) as answer:
        rows = json.load(answer)
    if not isinstance(rows, list):
        raise ValueError(f"{bare} is no Prefect server")
    return rows


def _login(api: str) -> dict[str, str]:
    """As Prefect's own client sends it."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    user, _, _ = urlsplit(api).netloc.rpartition("@")
    if login := os.environ.get("PREFECT_API_AUTH_STRING") or unquote(user):
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {}
