"""`python -m flows.patient_worker worker start`: Prefect's command, with a worker that waits where Prefect's own dies.

A run whose Retry is pressed while its last process is still ending is handed to the worker again. Prefect 3.8.8 then
asks its limit for a second slot of the same run, which raises in the polling loop: the worker ends, and with it every
other run that it carries.

It also starts each run at once. Prefect's own starts a process that looks for what a deployment pulls and installs
first, and then becomes the run's: Prefect is imported twice. Deployments here name a module that is installed.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.runner._workspace_starter import WorkspaceResolvingEngineCommandStarter
from prefect.workers import process
from prefect.workers.process import ProcessWorker

from spin.core.errors import ConfigError
from tasks.claims import claim_for_sampling
from tasks.devices import visible_gpus

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.client.schemas.responses import WorkerFlowRunResponse


def ended_runs(response: list[WorkerFlowRunResponse], held: Collection[object]) -> list[WorkerFlowRunResponse]:
    """Those of the handed runs that hold no slot any more; the others are handed over again at the next poll."""
    return [entry for entry in response if entry.flow_run.id not in held]


class NoHooks:
    """What is called when a run was cancelled or crashed: no flow of ours has any."""

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State) -> None:
        """Nothing."""

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State) -> None:
        """Nothing."""


class AtOnce(WorkspaceResolvingEngineCommandStarter):
    """The run's process itself, in a session of its own as Prefect's is.

    It finds its flow by the deployment, which the supervisor would have looked up, and written into its environment.
    """

    @property
    def hook_runner(self) -> Any:
        return NoHooks()

    async def start(self, flow_run: FlowRun, task_status: TaskStatus[Any] = anyio.TASK_STATUS_IGNORED) -> None:
        starter = EngineCommandStarter(
            cwd=self._workspace_root, env=self._environment, stream_output=self._stream_output,
            heartbeat_seconds=self._heartbeat_seconds, deployment_name=self._deployment_name,
            control_channel=self._control_channel, isolate_process_group=True, env_overrides_settings=True,
        )  # fmt: skip
        await starter.start(flow_run, task_status=task_status)


process.WorkspaceResolvingEngineCommandStarter = AtOnce  # type: ignore[attr-defined]  # made for each run


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Type 'PatientWorker'")  # it takes the place of Prefect's own

    class PatientWorker(ProcessWorker):
        """A process worker, of the same type."""

        async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
            held = self._limiter.statistics().borrowers if self._limiter else ()
            return await super()._submit_scheduled_flow_runs(ended_runs(flow_run_response, held))


def claim_gpus(words: Sequence[str]) -> None:
    """Tell trainings that wait for images which GPUs this worker samples on; of the other pools' workers, none."""
    if "spin-gpu" in words:
        with suppress(ConfigError):  # it shows no GPU
            claim_for_sampling(visible_gpus())


if __name__ == "__main__":
    from prefect.cli import app

    claim_gpus(sys.argv)
    app()
