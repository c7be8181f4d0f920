"""A server on SQLite answers while many write at once, and loses no event."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from prefect.client.orchestration import get_client
from websockets.sync.client import connect as connect_socket

import flows.environment  # noqa: F401 the harness of this folder has named the loop of Prefect's temporary server
from benchmarks.crowd import WRITERS, Crowd, connect
from flows.calm_server import after_listening

ROUNDS = 3
SOCKETS = 110
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
LISTENED = """
import asyncio
from datetime import timedelta
from flows import automations
from flows.calm_server import _listen_first
from prefect.server.events import triggers
from prefect.server.events.services.triggers import evaluate_proactive_triggers_periodic

async def look():
    looked.append("looked")

for seconds in (0.0, 90.0):
    looked = []
    triggers.evaluate_proactive_triggers, automations.SILENCE = look, timedelta(seconds=seconds)
    _listen_first()
    asyncio.run(evaluate_proactive_triggers_periodic())
    print(seconds, *looked)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["calm", "new_event_loop"])
def test_garbage_is_found_by_a_thread_of_its_own_and_no_other(name: str) -> None:
    program = COLLECTED.format(name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("False garbage\n", "")


def test_sockets_that_stay_open_keep_nobody_waiting() -> None:
    """More than the hundred requests that Prefect answers at once on SQLite: each worker and each run keeps a few."""
    with get_client(sync_client=True) as client:
        address = str(client.api_url).rstrip("/")
    with ExitStack() as opened:
        for _ in range(SOCKETS):
            opened.enter_context(connect_socket(address.replace("http", "ws", 1) + "/events/in"))
        assert httpx.get(f"{address}/health", timeout=60).json() is True


def looks(times: list[int]) -> list[int]:
    """At which of these seconds a server that listens for 90 looks for silent runs."""
    now, looked = 0, []

    async def look() -> None:
        looked.append(now)

    asked = after_listening(look, 90.0, lambda: now)
    for now in times:  # noqa: B007 the clock reads it
        asyncio.run(asked())
    return looked


def test_a_server_that_was_away_listens_before_it_calls_a_run_silent() -> None:
    assert looks([*range(5, 106, 5)]) == [95, 100, 105]
    stopped = [*range(5, 106, 5), *range(225, 326, 5)]  # for two minutes
    assert looks(stopped) == [95, 100, 105, 315, 320, 325]
    assert looks([*range(5, 106, 5), *range(65, 161, 5)]) == [95, 100, 105, 155, 160]  # the clock was set back


def test_a_server_that_is_only_slow_goes_on() -> None:
    assert looks([*range(5, 96, 5), 120, 145]) == [95, 120, 145]


def test_prefects_own_service_listens_first() -> None:
    done = subprocess.run([sys.executable, "-c", LISTENED], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "0.0 looked\n90.0\n"


@pytest.mark.system
def test_eight_writers_are_all_served_and_every_failure_is_noticed() -> None:
    """Prefect's own server stands still for 60 s at a time here, refuses with 503, and misses failures."""
    with get_client(sync_client=True) as client:
        address = str(client.api_url)
    with connect(address) as api:
        crowd = Crowd(api)
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(crowd.live, [*range(WRITERS)] * ROUNDS))
        crowd.wait_for_events(120)
        assert crowd.refused == []
        assert crowd.noticed() == len(crowd.failed) == WRITERS * ROUNDS
        api.delete(f"/automations/{crowd.automation}").raise_for_status()
