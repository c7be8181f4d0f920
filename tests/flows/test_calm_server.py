"""A server on SQLite answers while many write at once."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client

import flows.environment  # noqa: F401 the harness of this folder has named the loop of Prefect's temporary server

WRITERS = 8
ROUNDS = 3
COLLECTED = """
import gc, threading, time, weakref
from flows.calm_server import {name}

class Cycle: ...

{name}()
cycle, found = Cycle(), []
cycle.itself = cycle
weakref.finalize(cycle, lambda: found.append(threading.current_thread().name))
del cycle
while not found:
    time.sleep(0.1)
print(gc.isenabled(), *found)
"""


@pytest.mark.parametrize("name", ["collect_aside", "new_event_loop"])
def test_garbage_is_found_by_a_thread_of_its_own_and_no_other(name: str) -> None:
    program = COLLECTED.format(name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("False garbage\n", "")


def test_eight_writers_are_all_served() -> None:
    """Where garbage is collected on the loop's thread, a server stands still for 60 s, again and again."""
    with get_client(sync_client=True) as client:
        address = str(client.api_url)
    with httpx.Client(base_url=address, timeout=600, limits=httpx.Limits(max_keepalive_connections=0)) as api:
        flow = post(api, "/flows/", {"name": "crowd"})["id"]
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(lambda writer: live(api, flow, writer), range(WRITERS)))
        wanted = {"flows": {"id": {"any_": [flow]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        assert post(api, "/flow_runs/count", wanted) == WRITERS * ROUNDS


def live(api: httpx.Client, flow: str, writer: int) -> None:
    """The lives of some runs, as workers write them."""
    for _ in range(ROUNDS):
        run = post(api, "/flow_runs/", {"flow_id": flow, "tags": ["a", "b"], "state": {"type": "SCHEDULED"}})["id"]
        for state in ("PENDING", "RUNNING"):
            post(api, f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
        artifact = {"key": f"writer-{writer}", "type": "markdown", "data": "x" * 100_000, "flow_run_id": run}
        post(api, "/artifacts/", artifact)
        post(api, "/flow_runs/filter", {"limit": 50})
        post(api, f"/flow_runs/{run}/set_state", {"state": {"type": "COMPLETED"}, "force": True})


def post(api: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    """Asked again where SQLite is busy, as Prefect's own client does."""
    while (answer := api.post(path, json=body)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        time.sleep(0.1)
    return answer.raise_for_status().json()
