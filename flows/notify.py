"""Telling somebody when a run failed: an automation of the server that calls a web address.

Off unless MIMIC_NOTIFY_URL is set when deployments are made: an incoming webhook of Slack,
Mattermost or Teams, or of a program of yours. It gets `{"text": ...}`. The address is kept on the
server, encrypted. Each workspace has one address, called by its work pool; it is told of every run
of the server, also of those that were started by hand and have no pool.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.types import SecretDict

from mimic.errors import BadInput

VARIABLE = "MIMIC_NOTIFY_URL"
BLOCK = "{pool}-notify"
NAME = "{pool}: tell when a run failed"
SUBJECT = "mimic: {{ flow_run.name }} {{ flow_run.state.name }}"
BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
ENDS = ("prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut")


def apply(pool: str) -> str:
    """Make the server do what MIMIC_NOTIFY_URL says; a line about it.

    Args:
        pool: the work pool of this workspace, by which its address is kept apart from others'.

    Raises:
        BadInput: the variable is no web address.
    """
    url = os.environ.get(VARIABLE, "").strip()
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        # The value is not shown: the path of a webhook's address is what must stay secret.
        raise BadInput(f"{VARIABLE} is no web address (https://...)")
    with get_client(sync_client=True) as client:
        _forget(client, pool)
        if not url:
            return f"failures are told to nobody ({VARIABLE} is not set)"
        block: Any = CustomWebhookNotificationBlock(
            name="mimic",
            url="{{url}}",
            method="POST",
            json_data={"text": "{{subject}}\n{{body}}"},
            secrets=SecretDict({"url": url}),
            headers=None,
            cookies=None,
        )
        identity = block.save(_slug(BLOCK.format(pool=pool)), overwrite=True)
        client.create_automation(_automation(identity, NAME.format(pool=pool)))
    return f"failures are told to {urlsplit(url).hostname}"


def forget(pool: str) -> None:
    """Take away what `apply` made for a pool that this workspace has left."""
    with get_client(sync_client=True) as client:
        _forget(client, pool)
        with suppress(ObjectNotFound):
            block = client.read_block_document_by_name(
                _slug(BLOCK.format(pool=pool)),
                CustomWebhookNotificationBlock.get_block_type_slug(),
            )
            client.delete_block_document(block.id)


def _forget(client: SyncPrefectClient, pool: str) -> None:
    for automation in client.read_automations_by_name(NAME.format(pool=pool)):
        client.delete_automation(automation.id)


def _slug(text: str) -> str:
    """As Prefect lets blocks be called."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _automation(block_id: Any, name: str) -> AutomationCore:
    trigger = EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        expect=set(ENDS),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
    )
    action = SendNotification(block_document_id=block_id, subject=SUBJECT, body=BODY)
    return AutomationCore(
        name=name,
        description="Calls the address that MIMIC_NOTIFY_URL named when deployments were made.",
        trigger=trigger,
        actions=[action],
    )
