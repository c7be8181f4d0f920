"""A server on SQLite answers while many write at once, and loses no event."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
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


@pytest.mark.parametrize("name", ["calm", "new_event_loop"])
def test_garbage_is_found_by_a_thread_of_its_own_and_no_other(name: str) -> None:
    program = COLLECTED.format(name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("False garbage\n", "")


@pytest.fixture
def api() -> Iterator[httpx.Client]:
    with get_client(sync_client=True) as client:
        address = str(client.api_url)
    with httpx.Client(base_url=address, timeout=600, limits=httpx.Limits(max_keepalive_connections=0)) as found:
        yield found


def test_eight_writers_are_all_served_and_every_failure_is_noticed(api: httpx.Client) -> None:
    """Prefect's own server stands still for 60 s at a time here, refuses with 503, and notices most failures."""
    flow = post(api, "/flows/", {"name": "crowd"})["id"]
    watch = {
        "type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.Failed"], "threshold": 1, "within": 0,
        "match": {"prefect.resource.id": "prefect.flow-run.*"}, "for_each": ["prefect.resource.id"],
        "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": "crowd"},
    }  # fmt: skip
    automation = post(api, "/automations/", {"name": "crowd", "trigger": watch, "actions": [{"type": "do-nothing"}]})
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda writer: live(api, flow, writer), range(WRITERS)))
    deadline = time.monotonic() + 120
    while noticed(api, automation["id"]) < WRITERS * ROUNDS and time.monotonic() < deadline:
        time.sleep(0.5)
    assert noticed(api, automation["id"]) == WRITERS * ROUNDS
    api.delete(f"/automations/{automation['id']}").raise_for_status()


def live(api: httpx.Client, flow: str, writer: int) -> None:
    """The lives of some runs, as workers write them."""
    for _ in range(ROUNDS):
        run = post(api, "/flow_runs/", {"flow_id": flow, "tags": ["a", "b"], "state": {"type": "SCHEDULED"}})["id"]
        for state in ("PENDING", "RUNNING"):
            post(api, f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
        artifact = {"key": f"writer-{writer}", "type": "markdown", "data": "x" * 100_000, "flow_run_id": run}
        post(api, "/artifacts/", artifact)
        post(api, "/flow_runs/filter", {"limit": 50})
        post(api, f"/flow_runs/{run}/set_state", {"state": {"type": "FAILED"}, "force": True})


def noticed(api: httpx.Client, automation: str) -> int:
    """How often an automation was set off."""
    wanted = {
        "event": {"name": ["prefect.automation.triggered"]},
        "resource": {"id": [f"prefect.automation.{automation}"]},
    }
    return int(post(api, "/events/filter", {"filter": wanted, "limit": 1})["total"])


def post(api: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    return api.post(path, json=body).raise_for_status().json()
