"""Everything that a Prefect server must know: pools, deployments, schedules, limits, automations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from prefect import Flow
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel

from flows.children import evaluate_shards, prepare_run_data, train_stage
from flows.evaluate import EvaluateForm, evaluate
from flows.forms import RunForm, form_schema
from flows.report import ReportForm, report_run
from flows.sample_shard import ShardForm, sample_shard, sample_shards
from flows.spin_diffusion import spin_diffusion
from spin.core.config import Config
from spin.core.errors import ConfigError

CONTROL: Final = "spin-control"  # flows that wait
GPU: Final = "spin-gpu"  # one worker for each GPU
TRAIN: Final = "spin-train"  # one worker for each machine, with all its GPUs
POOLS: Final[Mapping[str, str]] = {
    CONTROL: "flows that order the work and wait for it; needs no GPU",
    GPU: "sampling, scoring and encoding: one worker for each GPU",
    TRAIN: "training: one worker for each machine, with all its GPUs",
}
TAG: Final = "spin-diffusion"
HEARTBEAT_SECONDS: Final = 30  # the shortest that Prefect takes; workers and runs are started with it
_SILENCE: Final = timedelta(seconds=3 * HEARTBEAT_SECONDS)
_ENDS: Final = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Suspended", "Paused")
_WEBHOOK_BLOCK: Final = "spin-diffusion-failure"


@dataclass(frozen=True)
class Deployed:
    """One deployment: a flow under a name, on a pool."""

    flow: Flow[..., Any]
    name: str
    pool: str
    form: type[BaseModel] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    schedule: CronSchedule | None = None
    one_at_a_time: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.flow.name}/{self.name}"


def nightly_schedule(config: Config) -> CronSchedule:
    """When the nightly evaluation runs."""
    return CronSchedule(cron=config.nightly.cron, timezone=config.nightly.timezone)


def deployments(config: Config) -> list[Deployed]:
    """Every deployment of the house."""
    nightly = {"checkpoint": "newest", "benchmarks": list(config.nightly.benchmarks), "keep": True}
    return [
        Deployed(spin_diffusion, "run", CONTROL, RunForm),
        Deployed(sample_shard, "gpu", GPU, ShardForm),
        Deployed(sample_shards, "gpu", GPU),
        Deployed(prepare_run_data, "gpu", GPU),
        Deployed(evaluate_shards, "gpu", GPU),
        Deployed(train_stage, "gpu", TRAIN),
        Deployed(evaluate, "on-demand", CONTROL, EvaluateForm),
        Deployed(evaluate, "nightly", CONTROL, EvaluateForm, nightly, nightly_schedule(config), one_at_a_time=True),
        Deployed(report_run, "report", CONTROL, ReportForm),
    ]


def register(config: Config) -> list[str]:
    """Create or update everything on the server; names of the deployments.

    Registering twice changes nothing: pools keep their workers, runs their history.
    """
    root = str(Path(config.run.root).absolute())
    with get_client(sync_client=True) as client:
        for name, description in POOLS.items():
            _pool(client, name, description)
    found = deployments(config)
    for deployed in found:
        _register(deployed, root)
    with get_client(sync_client=True) as client:
        _replace(client, [_silent_runs_crash(), *_failure_calls(config)])
    return [deployed.full_name for deployed in found]


def _pool(client: SyncPrefectClient, name: str, description: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", description=description))
    else:
        client.update_work_pool(name, WorkPoolUpdate(description=description))


def _register(deployed: Deployed, root: str) -> None:
    limit = None
    if deployed.one_at_a_time:
        limit = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    made = RunnerDeployment.from_flow(
        deployed.flow,
        deployed.name,
        work_pool_name=deployed.pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
        parameters={"root": root, **deployed.parameters},
        schedules=[deployed.schedule] if deployed.schedule is not None else [],
        concurrency_limit=limit,
        tags=[TAG],
    )
    if deployed.form is not None:
        made._parameter_openapi_schema = form_schema(deployed.form)
    made.apply()


def _silent_runs_crash() -> Automation:
    """A run whose process is gone sends no heartbeat: it is marked Crashed, and its parent submits it again."""
    return Automation(
        name="spin-diffusion: silent runs have crashed",
        description=f"marks runs Crashed that sent no heartbeat for {_SILENCE.seconds} seconds",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=cast(Any, {"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=cast(Any, {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}),
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{state}" for state in _ENDS)},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=_SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, name="Crashed", message="no heartbeat: its process is gone", force=False
            )
        ],
    )


def _failure_calls(config: Config) -> list[Automation]:
    """Calls the webhook when a run of ours fails or crashes; its URL stays on the server, in a block."""
    variable = config.notification.webhook_variable
    if variable is None:
        return []
    url = os.environ.get(variable)
    if not url:
        raise ConfigError(
            f"the environment variable {variable} is not set",
            where="notification.webhook_variable",
            fix="export it with the URL, or set the key to null",
        )
    from prefect.blocks.webhook import Webhook

    block = Webhook(method="POST", url=cast(Any, url), allow_private_urls=True).save(_WEBHOOK_BLOCK, overwrite=True)
    payload = {
        "run": "{{ flow_run.name }}", "state": "{{ flow_run.state.name }}",
        "message": "{{ flow_run.state.message }}", "page": "{{ flow_run|ui_url }}",
    }  # fmt: skip
    return [
        Automation(
            name="spin-diffusion: tell of failed runs",
            description=f"calls the URL of {variable} when a run fails or crashes",
            trigger=EventTrigger(
                posture=Posture.Reactive,
                match=cast(Any, {"prefect.resource.id": "prefect.flow-run.*"}),
                match_related=cast(Any, {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}),
                expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
                for_each={"prefect.resource.id"},
                threshold=1,
                within=timedelta(0),
            ),
            actions=[CallWebhook(block_document_id=cast(Any, block), payload=cast(Any, payload))],
        )
    ]


def _replace(client: SyncPrefectClient, automations: Sequence[Automation]) -> None:
    """Put automations in the place of those with the same names; one that is not wanted any more goes."""
    for name in ("spin-diffusion: silent runs have crashed", "spin-diffusion: tell of failed runs"):
        for known in client.read_automations_by_name(name):
            client.delete_automation(known.id)
    for automation in automations:
        automation.create()
