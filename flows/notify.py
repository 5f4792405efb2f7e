"""Telling somebody when a run failed: an automation of the server that calls a web address.

Off unless MIMIC_NOTIFY_URL is set when deployments are made: an incoming webhook of Slack,
Mattermost or Teams, or of a program of yours. It gets `{"text": ...}`. The address is kept on the
server, encrypted.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.types import SecretDict

from mimic.errors import BadInput

VARIABLE = "MIMIC_NOTIFY_URL"
BLOCK = "mimic-notify"
NAME = "mimic: tell when a run failed"
SUBJECT = "mimic: {{ flow_run.name }} {{ flow_run.state.name }}"
BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
ENDS = ("prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut")


def apply() -> str:
    """Make the server do what MIMIC_NOTIFY_URL says; a line about it.

    Raises:
        BadInput: the variable is no web address.
    """
    url = os.environ.get(VARIABLE, "").strip()
    with get_client(sync_client=True) as client:
        for automation in client.read_automations_by_name(NAME):
            client.delete_automation(automation.id)
        if not url:
            return f"failures are told to nobody ({VARIABLE} is not set)"
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            # The value is not shown: the path of a webhook's address is what must stay secret.
            raise BadInput(f"{VARIABLE} is no web address (https://...)")
        block: Any = CustomWebhookNotificationBlock(
            name="mimic",
            url="{{url}}",
            method="POST",
            json_data={"text": "{{subject}}\n{{body}}"},
            secrets=SecretDict({"url": url}),
            headers=None,
            cookies=None,
        )
        identity = block.save(BLOCK, overwrite=True)
        client.create_automation(_automation(identity))
    return f"failures are told to {urlsplit(url).hostname}"


def _automation(block_id: Any) -> AutomationCore:
    trigger = EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        expect=set(ENDS),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
    )
    action = SendNotification(block_document_id=block_id, subject=SUBJECT, body=BODY)
    return AutomationCore(
        name=NAME,
        description="Calls the address that MIMIC_NOTIFY_URL named when deployments were made.",
        trigger=trigger,
        actions=[action],
    )
