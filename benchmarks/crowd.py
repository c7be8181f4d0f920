"""How a server on SQLite bears many writers: Prefect's own against the one that `serve` starts, one after the other.

    python -m benchmarks.crowd            # about two minutes and a half

Eight writers live the lives of flow runs for a while: answers a second, the longest wait, refusals (503), and of the
runs that failed those that an automation did not notice.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

SERVERS: Final = {"prefect": "Prefect's own server", "flows.calm_server": "the server of `serve`"}
WRITERS: Final = 8


@dataclass
class Crowd:
    """Many writers on one server, and what it answered them."""

    api: httpx.Client
    waits: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # paths
    failed: list[str] = field(default_factory=list)  # runs that ended so

    def __post_init__(self) -> None:
        self.flow = self.post("/flows/", {"name": "crowd"})["id"]
        watch = {
            "type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.Failed"], "threshold": 1, "within": 0,
            "match": {"prefect.resource.id": "prefect.flow-run.*"}, "for_each": ["prefect.resource.id"],
            "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": "crowd"},
        }  # fmt: skip
        made = self.post("/automations/", {"name": "crowd", "trigger": watch, "actions": [{"type": "do-nothing"}]})
        self.automation = made["id"]

    def live(self, writer: int) -> None:
        """The life of one run, as its worker writes it."""
        run = self.post("/flow_runs/", {"flow_id": self.flow, "tags": ["a", "b"], "state": {"type": "SCHEDULED"}})["id"]
        for state in ("PENDING", "RUNNING"):
            self.post(f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
        artifact = {"key": f"writer-{writer}", "type": "markdown", "data": "x" * 100_000, "flow_run_id": run}
        self.post("/artifacts/", artifact)
        self.post("/flow_runs/filter", {"limit": 50})
        self.post(f"/flow_runs/{run}/set_state", {"state": {"type": "FAILED"}, "force": True})
        self.failed.append(run)

    def noticed(self) -> int:
        """How many failures have set off the automation."""
        wanted = {
            "event": {"name": ["prefect.automation.triggered"]},
            "resource": {"id": [f"prefect.automation.{self.automation}"]},
        }
        return int(self.post("/events/filter", {"filter": wanted, "limit": 1})["total"])

    def wait_for_events(self, seconds: float) -> None:
        """Until every failure is noticed; no longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while self.noticed() < len(self.failed) and time.monotonic() < deadline:
            time.sleep(0.5)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Asked again where the server refuses, as Prefect's own client does."""
        start = time.monotonic()
        while (answer := self.api.post(path, json=body)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            self.refused.append(path)
            time.sleep(0.1)
        self.waits.append(time.monotonic() - start)
        return answer.raise_for_status().json()


def connect(address: str) -> httpx.Client:
    """A client for many threads, each request on a connection of its own."""
    return httpx.Client(base_url=address, timeout=600, limits=httpx.Limits(max_keepalive_connections=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    seconds = parser.parse_args().seconds
    print(f"{'':<24}{'answers/s':>12}{'longest s':>12}{'refused':>10}{'failed':>10}{'unnoticed':>12}")
    for module, name in SERVERS.items():
        with _server(module) as api:
            crowd = Crowd(api)
            start = time.monotonic()
            with ThreadPoolExecutor(WRITERS) as writers:
                list(writers.map(lambda writer, crowd=crowd: _write(crowd, writer, seconds), range(WRITERS)))
            rate = len(crowd.waits) / (time.monotonic() - start)
            longest, refused, failed = max(crowd.waits), len(crowd.refused), len(crowd.failed)
            crowd.wait_for_events(30)
            unnoticed = failed - crowd.noticed()
        print(f"{name:<24}{rate:>12.1f}{longest:>12.1f}{refused:>10}{failed:>10}{unnoticed:>12}", flush=True)


def _write(crowd: Crowd, writer: int, seconds: float) -> None:
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        crowd.live(writer)


@contextmanager
def _server(module: str) -> Iterator[httpx.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="crowd-", ignore_cleanup_errors=True) as home:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "UVICORN"))}
        quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}
        server = subprocess.Popen(
            [sys.executable, "-m", module, "server", "start", "--host", "127.0.0.1", "--port", port],
            env={**kept, **quiet, "PREFECT_HOME": home}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with connect(f"http://127.0.0.1:{port}/api") as api:
                while not _answers(api):
                    time.sleep(0.2)
                yield api
        finally:
            server.terminate()
            server.wait()


def _answers(api: httpx.Client) -> bool:
    try:
        return api.get("/health").is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
