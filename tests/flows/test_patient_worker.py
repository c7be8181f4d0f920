"""The worker that takes the place of Prefect's own."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker

from flows.patient_worker import PatientWorker, ended_runs


def test_prefects_command_finds_it_under_the_type_process() -> None:
    assert BaseWorker.get_worker_class_from_type("process") is PatientWorker
    assert issubclass(PatientWorker, ProcessWorker)


def test_a_run_that_holds_a_slot_is_left_for_the_next_poll() -> None:
    ended, ending = (SimpleNamespace(flow_run=SimpleNamespace(id=uuid4())) for _ in range(2))
    assert ended_runs([ended, ending], (ending.flow_run.id,)) == [ended]
    assert ended_runs([ended, ending], ()) == [ended, ending]


async def two_polls() -> list[int]:
    """A worker with one slot is handed one run twice, as after an early Retry; runs that it began at each poll."""
    worker = PatientWorker(work_pool_name="none", limit=1)
    begun: list[object] = []
    handed = [SimpleNamespace(flow_run=SimpleNamespace(id=uuid4(), name="one"))]
    async with anyio.create_task_group() as group:
        ...
    return []
