"""Everything that a Prefect server must know: pools, deployments, schedules, limits, automations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel

from flows.automations import TAG, replace_automations
from flows.children import evaluate_shards, prepare_run_data, train_stage
from flows.compare import CompareForm, compare
from flows.evaluate import EvaluateForm, evaluate
from flows.evaluate_checkpoint import CheckpointForm, evaluate_checkpoint
from flows.forms import RunForm, form_schema
from flows.report import ReportForm, report_run
from flows.sample_shard import ShardForm, sample_shard, sample_shards
from flows.spin_diffusion import spin_diffusion
from spin.core.config import Config

CONTROL: Final = "spin-control"  # flows that wait
GPU: Final = "spin-gpu"  # one worker for each GPU
TRAIN: Final = "spin-train"  # one worker for each machine, with all its GPUs
POOLS: Final[Mapping[str, str]] = {
    CONTROL: "flows that order the work and wait for it; needs no GPU",
    GPU: "sampling, scoring and encoding: one worker for each GPU",
    TRAIN: "training: one worker for each machine, with all its GPUs",
}


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
    workers = config.execution.executor == "workers"  # what a run takes whose form says nothing
    compared = {"settings": ["execution.executor=workers"]} if workers else {}
    nightly = {"checkpoint": "newest", "benchmarks": list(config.nightly.benchmarks), "keep": True}
    return [
        Deployed(spin_diffusion, "run", CONTROL, RunForm, {"executor": "workers"} if workers else {}),
        Deployed(sample_shard, "gpu", GPU, ShardForm),
        Deployed(sample_shards, "gpu", GPU),
        Deployed(prepare_run_data, "gpu", GPU),
        Deployed(evaluate_shards, "gpu", GPU),
        Deployed(train_stage, "gpu", TRAIN),
        Deployed(evaluate, "on-demand", CONTROL, EvaluateForm),
        Deployed(evaluate_checkpoint, "on-demand", CONTROL, CheckpointForm, compared),
        Deployed(compare, "compare", CONTROL, CompareForm, compared),
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
        replace_automations(client, config)
    return [deployed.full_name for deployed in found]


def _pool(client: SyncPrefectClient, name: str, description: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", description=description))
    else:
        client.update_work_pool(name, WorkPoolUpdate(description=description))


def _schedules(deployed: Deployed) -> list[DeploymentScheduleCreate]:
    """By its slug the server knows a schedule again: one that somebody has paused stays paused."""
    if deployed.schedule is None:
        return []
    return [DeploymentScheduleCreate(schedule=deployed.schedule, slug=deployed.name)]


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
        schedules=_schedules(deployed),
        concurrency_limit=limit,
        tags=[TAG],
    )
    if deployed.form is not None:
        made._parameter_openapi_schema = form_schema(deployed.form)
    made.apply()
