"""What the server does by itself: it marks runs whose process is gone, and tells of failed ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, cast

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from spin.core.config import Config
from spin.core.errors import ConfigError

TAG: Final = "spin-diffusion"
RUN: Final = "spin-diffusion"  # names of flows
ITERATION: Final = "self-play iteration"
HEARTBEAT_SECONDS: Final = 30  # the shortest that Prefect takes; workers and runs are started with it
SILENCE: Final = timedelta(seconds=3 * HEARTBEAT_SECONDS)
START: Final = timedelta(minutes=5)  # a process has that long to import torch from a cold disk
_TOLD: Final = (RUN, "evaluate", "sample-shard", "report")  # what people start; a child's failure is its parent's
_ENDS: Final = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Suspended", "Paused")
_OURS: Final = "spin-diffusion: "  # how the names of our automations begin
_BLOCK: Final = "spin-diffusion-failure"


def replace_automations(client: SyncPrefectClient, config: Config) -> None:
    """Create what is missing, change what differs, delete what is not wanted any more.

    What is equal stays untouched: its count of silent seconds goes on, so that runs whose machine went down
    together with the server are marked when the server is back.
    """
    wanted = {automation.name: automation for automation in (*_crashes(), *_failure_calls(config))}
    for known in client.read_automations():
        if not known.name.startswith(_OURS):
            continue
        automation = wanted.pop(known.name, None)
        if automation is None:
            client.delete_automation(known.id)
        elif _content(known) != _content(automation):
            client.update_automation(known.id, automation)
    for automation in wanted.values():
        client.create_automation(automation)


def _content(automation: AutomationCore) -> dict[str, Any]:
    return AutomationCore.model_validate(automation.model_dump(mode="json")).model_dump()  # sets stay sets


def _crashes() -> Iterator[AutomationCore]:
    silent = "no heartbeat: its process is gone"
    beat = "prefect.flow-run.heartbeat"
    # a run that was started on a terminal, and the iterations inside of a run, have no tag when they begin
    yield _crash("silent runs have crashed", [_flow(RUN, ITERATION)], beat, {beat}, SILENCE, silent)
    yield _crash("silent stages have crashed", [_tag(), _flow(f"!{RUN}")], beat, {beat}, SILENCE, silent)
    # a worker that is killed before its run's process has begun: nothing ever beats
    unborn = "no process began: its worker is gone"
    begun = {"prefect.flow-run.Running", "prefect.flow-run.AwaitingConcurrencySlot", beat}
    yield _crash("runs that never began have crashed", [_tag()], "prefect.flow-run.Pending", begun, START, unborn)


def _crash(
    name: str, related: Sequence[dict[str, Any]], after: str, expect: set[str], within: timedelta, message: str
) -> AutomationCore:
    """Marks a run Crashed after which `after` nothing of `expect` came; its parent submits it again."""
    return AutomationCore(
        name=f"{_OURS}{name}",
        description=f"marks a run Crashed of which nothing was heard for {within.seconds} seconds",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=cast(Any, {"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=cast(Any, list(related)),
            after={after},
            expect=expect | {f"prefect.flow-run.{state}" for state in _ENDS},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message, force=False)],
    )


def _failure_calls(config: Config) -> Iterator[AutomationCore]:
    """Calls the webhook when a run that somebody started fails; its URL stays on the server, in a block."""
    variable = config.notification.webhook_variable
    if variable is None:
        return
    url = os.environ.get(variable)
    if not url:
        raise ConfigError(
            f"the environment variable {variable} is not set",
            where="notification.webhook_variable",
            fix="export it with the URL, or set the key to null",
        )
    from prefect.blocks.webhook import Webhook

    block: Any = Webhook(
        method="POST",
        url=cast(Any, url),
        headers=cast(Any, {"Content-Type": "application/json"}),
        allow_private_urls=True,  # the administrator's own choice: it is read where the server is set up
    ).save(_BLOCK, overwrite=True)
    yield AutomationCore(
        name=f"{_OURS}tell of failed runs",
        description=f"calls the URL of {variable} when a run fails or crashes",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            match=cast(Any, {"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=cast(Any, [_tag(), _flow(*_TOLD)]),
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[CallWebhook(block_document_id=block, payload=_PAYLOAD)],
    )


# `text` is what chat programs show. Messages hold quotes and line ends: each value is written as JSON.
_PAYLOAD: Final = """{
  "text": {{ (flow_run.name ~ ": " ~ flow_run.state.name ~ ". " ~ flow_run.state.message) | tojson }},
  "run": {{ flow_run.name | tojson }},
  "state": {{ flow_run.state.name | tojson }},
  "message": {{ flow_run.state.message | tojson }},
  "page": {{ flow_run | ui_url | tojson }}
}"""


def _tag() -> dict[str, Any]:
    return {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}


def _flow(*names: str) -> dict[str, Any]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": list(names)}
