"""A real server with real workers, started by the command that users start, on a free port and a new runs root."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

SCRIPT = Path(sys.executable).with_name("spin-diffusion")
FAULTS = Path(__file__).parent / "faults"
TINY = (
    "data.rows=24", "iterations=1", "sft.steps=0", "train.steps=3", "train.batch_size=8", "train.micro_batch_size=8",
    "sampling.num_inference_steps=2", "sampling.batch_size=4", "sampling.shard_size=8",
    "evaluation.num_inference_steps=2", "evaluation.prompts=8", "evaluation.batch_size=4", "evaluation.shard_size=4",
    "evaluation.denoising_draws=1", "evaluation.diversity_prompts=0",
)  # fmt: skip
_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True)
class Server:
    """What tests ask of a served runs root; `api` is Prefect's own HTTP interface, as the UI calls it."""

    root: Path
    address: str
    process: subprocess.Popen[bytes]
    fault: Path  # while this file is there, commits of artifacts whose path holds its text fail
    api: httpx.Client = field(repr=False)

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask("POST", path, body or {})

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/deployments/name/{name}")
        return found

    def start(self, deployment: str, **parameters: Any) -> str:
        """Press Run: the id of the new flow run."""
        identity = self.deployment(deployment)["id"]
        run = self.post(f"/deployments/{identity}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def play(self, name: str, *settings: str) -> str:
        """Press Run for a tiny run that the workers do."""
        advanced = {"settings": [*TINY, *settings]}
        return self.start("spin-diffusion/run", run_name=name, executor="workers", advanced=advanced)

    def retry(self, run: str, *, force: bool = True) -> dict[str, Any]:
        """Press Retry, and wait for the end: what the button of the UI sends, without `force` that of the older UI."""
        executed = self.run(run)["run_count"]
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
        answer = self.post(f"/flow_runs/{run}/set_state", {"state": state, "force": force})
        assert answer["status"] == "ACCEPT", answer
        return self.ended(run, attempt=executed + 1)

    def run(self, identity: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/flow_runs/{identity}")
        return found

    def state(self, run: str) -> str:
        return str(self.run(run)["state_type"])

    def ended(self, run: str, *, attempt: int = 1, seconds: float = 900) -> dict[str, Any]:
        """The run as it stands when its `attempt`-th execution is over."""

        def over() -> bool:
            found = self.run(run)
            return found["run_count"] >= attempt and found["state_type"] in _FINAL

        wait(over, seconds, lambda: f"{self.run(run)['name']}: {self.run(run)['state']}")
        return self.run(run)

    def children(self, *, name: str = "", after: int = 0) -> list[dict[str, Any]]:
        """Flow runs whose name holds `name`, in the order of their start."""
        runs = self.post("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "limit": 200})
        return [run for run in runs if name in run["name"]][after:]

    def tasks(self, run: str) -> list[str]:
        found = self.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}, "limit": 200})
        return sorted(str(task["name"]) for task in found)

    def logs(self, run: str) -> str:
        found = self.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200})
        return "\n".join(str(line["message"]) for line in found)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """A busy server, or one that is started again just now, is asked again, as Prefect's own client does."""
        for attempt in range(60):
            try:
                answer = self.api.request(method, path, json=body)
            except httpx.TransportError:
                if attempt == 59:
                    raise
                time.sleep(1)
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def wait(done: Callable[[], bool], seconds: float, say: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, say()
        time.sleep(0.25)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(fault: Path) -> dict[str, str]:
    """The caller's own, without its Prefect settings; our faults can be switched on in every process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(FAULTS),
        "SPIN_TEST_FAULT": str(fault),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    }


@contextmanager
def serving(root: Path, *overrides: str, slots: int = 1, more: dict[str, str] | None = None) -> Iterator[Server]:
    """`spin-diffusion serve` until the block ends; then Ctrl-C, and nothing of it may be left."""
    fault, port = root.parent / "fault", free_port()
    settings = [word for text in (f"run.root={root}", *overrides) for word in ("--set", text)]
    command = [str(SCRIPT), "serve", "--port", str(port), "--slots", str(slots), *settings]
    root.mkdir(parents=True, exist_ok=True)
    with (root.parent / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**environment(fault), **(more or {})},
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    note = root / ".prefect" / "server-url"

    def said() -> str:
        return (root.parent / "serve.log").read_text()

    def ours() -> bool:
        return note.exists() and address in note.read_text()  # a server that was killed has left its own

    try:
        wait(lambda: process.poll() is not None or ours(), 120, said)
        assert process.poll() is None, said()
        with httpx.Client(base_url=f"{address}/api", timeout=60) as api:
            yield Server(root, address, process, fault, api)
        started = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    _, alive = psutil.wait_procs(started, timeout=15)
    assert not alive, f"left behind: {alive}"
