"""`python -m flows.patient_worker worker start`: Prefect's command, with a worker that waits where Prefect's own dies.

A run whose Retry is pressed while its last process is still ending is handed to the worker again. Prefect 3.8.8 then
asks its limit for a second slot of the same run, which raises in the polling loop: the worker ends, and with it every
other run that it carries.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from prefect.workers.process import ProcessWorker

from spin.core.errors import ConfigError
from tasks.claims import claim_for_sampling
from tasks.devices import visible_gpus

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse


def ended_runs(response: list[WorkerFlowRunResponse], held: Collection[object]) -> list[WorkerFlowRunResponse]:
    """Those of the handed runs that hold no slot any more; the others are handed over again at the next poll."""
    return [entry for entry in response if entry.flow_run.id not in held]


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
