"""Which deployments of a Prefect server have their slot taken, by whom and for how long: asked over
HTTP, so that nothing of Prefect is imported here."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
    request = urllib.request.Request(
        api.rstrip("/") + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
        rows = json.load(answer)
    if not isinstance(rows, list):
        raise ValueError(f"{api} is no Prefect server")
    return rows
