"""What Prefect is set up to do for us."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

from flows.environment import _served, server_note
from spin.core.layout import RunsRoot
from tasks import devices
from tasks.devices import lock_folder, owned


def test_a_run_that_waits_for_a_gpu_says_so_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect shows only its own loggers unless it is told of others."""
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    tries = iter([False, True])
    take = devices._take
    monkeypatch.setattr(devices, "_take", lambda name, path: next(tries) and take(name, path))
    (lock_folder() / "gpu-0.lock").write_text("4711")

    @flow(persist_result=False)
    def waiting() -> str:
        with owned("cuda", listing=lambda: ()):
            return str(runtime.flow_run.id)

    assert "waiting for GPU 0, held by pid 4711" in logs(waiting())


def logs(run: str) -> list[str]:
    """What the page of a flow run shows; lines are sent in batches."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(run)]))
    deadline = time.monotonic() + 60
    found: list[str] = []
    with get_client(sync_client=True) as client:
        while not any("Finished" in line for line in found) and time.monotonic() < deadline:
            time.sleep(0.2)
            found = [line.message for line in client.read_logs(wanted)]
    return found


def test_a_proxy_does_not_hide_that_nobody_listens_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was killed leaves its note."""
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    note = server_note(RunsRoot(tmp_path))
    note.parent.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        note.write_text(f"http://127.0.0.1:{probe.getsockname()[1]}/api\n")
    assert _served(RunsRoot(tmp_path)) is None
