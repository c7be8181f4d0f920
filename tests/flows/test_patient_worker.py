"""The worker that takes the place of Prefect's own, which an early Retry ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import anyio
import pytest
from prefect.runner._workspace_starter import WorkspaceResolvingEngineCommandStarter as FROM_PREFECT
from prefect.workers import process
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker

from flows.patient_worker import AtOnce, PatientWorker, claim_gpus, ended_runs
from tasks.claims import apart_from_sampling


def handed() -> Any:
    """A scheduled run, as a worker gets it from the server."""
    return SimpleNamespace(flow_run=SimpleNamespace(id=uuid4(), name="sample k=1"))


def poll(kind: type[ProcessWorker]) -> list[Any]:
    """Hands a worker the one run that holds its one slot; the runs that it begins."""

    async def once() -> list[Any]:
        worker, entry = kind(work_pool_name="spin-gpu", limit=1), handed()
        worker._limiter = anyio.CapacityLimiter(1)
        worker._limiter.acquire_on_behalf_of_nowait(entry.flow_run.id)
        return list(await worker._submit_scheduled_flow_runs([entry]))

    return asyncio.run(once())


def test_prefects_command_finds_it_under_the_type_process() -> None:
    assert BaseWorker.get_worker_class_from_type("process") is PatientWorker


def test_a_run_whose_last_process_is_still_ending_waits_for_the_next_poll() -> None:
    with pytest.raises(RuntimeError, match="already holding one of this CapacityLimiter's tokens"):
        poll(ProcessWorker)  # where this ends, so does the need for our own
    assert poll(PatientWorker) == []


def test_a_run_is_started_by_one_process_in_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's own starts a supervisor, which imports all of Prefect before it becomes the run's process."""
    told: list[dict[str, Any]] = []

    async def started(**how: Any) -> None:
        told.append(how)

    monkeypatch.setattr("prefect.runner._starter_engine.run_process", started)
    run = SimpleNamespace(id=uuid4(), name="sample k=1")
    starters = [
        kind(workspace_root=tmp_path, environment={"HERE": "yes"}, heartbeat_seconds=30)
        for kind in (FROM_PREFECT, AtOnce)
    ]
    for starter in starters:
        asyncio.run(starter.start(run))
        starter.close()
    theirs, ours = told
    assert theirs["command"][:3] == [sys.executable, "-m", "prefect.runner._workspace_supervisor"]
    assert ours["command"] == [sys.executable, "-m", "prefect.engine"]
    assert (ours["start_new_session"], theirs["start_new_session"]) == (True, True)
    assert ours["cwd"] == tmp_path
    assert {**ours["env"], "HERE": "yes", "PREFECT__FLOW_RUN_ID": str(run.id)} == ours["env"]
    assert ours["env"].keys() == theirs["env"].keys()


def test_a_run_that_crashed_or_was_cancelled_calls_nothing(tmp_path: Path) -> None:
    hooks = AtOnce(workspace_root=tmp_path).hook_runner
    asyncio.run(hooks.run_crashed_hooks(handed(), None))
    asyncio.run(hooks.run_cancellation_hooks(handed(), None))
    assert process.WorkspaceResolvingEngineCommandStarter is AtOnce


def test_runs_that_hold_no_slot_are_begun() -> None:
    ended, ending = handed(), handed()
    assert ended_runs([ended, ending], (ending.flow_run.id,)) == [ended]
    assert ended_runs([ended, ending], ()) == [ended, ending]


@pytest.mark.parametrize(("pool", "claims"), [("spin-gpu", True), ("spin-train", False), ("spin-control", False)])
def test_only_workers_that_sample_claim_their_gpus(
    pool: str, claims: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-mine")
    claim_gpus(["worker", "start", "--pool", pool])
    with apart_from_sampling("cuda", listing=lambda: ()) as apart:
        assert apart is not claims


def test_a_worker_without_a_gpu_claims_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    claim_gpus(["worker", "start", "--pool", "spin-gpu"])
    assert list(tmp_path.iterdir()) == []
