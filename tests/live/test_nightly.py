"""Evaluations on a live server: on demand, and by the schedule of the shipped deployment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.serving import TINY, Server, serving, wait

SMALL = (*TINY, "train.steps=1", "evaluation.prompts=4")


def play(server: Server, name: str) -> None:
    """A finished run, made by the server's workers."""
    run = server.start("spin-diffusion/run", run_name=name, advanced={"settings": list(SMALL)})
    assert server.ended(run)["state_type"] == "COMPLETED", server.run(run)["state"]


def message(server: Server, run: str) -> str:
    ended = server.ended(run)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    return str(ended["state"]["message"])


def nights(server: Server) -> str:
    """Data of the newest table of the nights."""
    found = server.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["nights"]}}, "sort": "CREATED_DESC"})
    assert found[0]["type"] == "table"
    return str(found[0]["data"])


def test_an_evaluation_on_demand_is_made_once(server: Server, live: str) -> None:
    wanted: dict[str, Any] = {"run": "live", "checkpoint": "base", "benchmarks": ["validation"]}
    assert message(server, server.start("evaluate/on-demand", **wanted)) == "8 images scored; live: base"
    again = server.start("evaluate/on-demand", **wanted)
    assert message(server, again) == "nothing to do: 0 images; live: base"
    assert server.tasks(again) == []
    assert {"spin-diffusion", "live"} <= set(server.run(again)["tags"])


@pytest.fixture(scope="module")
def every_minute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("nightly") / "runs"
    with serving(root, "nightly.cron=* * * * *", "nightly.benchmarks=[validation]") as found:
        yield found


def fired(server: Server, after: str) -> dict[str, Any]:
    """The first run of the nightly deployment that the scheduler planned for a moment after `after` and that ended."""
    identity = server.deployment("evaluate/nightly")["id"]
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        "deployments": {"id": {"any_": [identity]}}, "sort": "EXPECTED_START_TIME_ASC",
    }  # fmt: skip
    found: list[dict[str, Any]] = []

    def ended() -> bool:
        runs = server.post("/flow_runs/filter", wanted)
        found[:] = [run for run in runs if run["expected_start_time"] > after]
        return bool(found)

    wait(ended, 400)
    return found[0]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_nightly_schedule_really_fires(every_minute: Server) -> None:
    """With a schedule of every minute: an empty night, one with a new checkpoint, one without."""
    server = every_minute
    schedule = server.deployment("evaluate/nightly")["schedules"][0]["schedule"]
    assert (schedule["cron"], schedule["timezone"]) == ("* * * * *", "UTC")
    first = fired(server, "")
    assert (first["auto_scheduled"], "auto-scheduled" in first["tags"]) == (True, True)
    assert first["created_by"]["type"] == "SCHEDULE"
    assert first["state"]["message"] == "nothing to do: 0 images, no run has a checkpoint yet"
    play(server, "nightly-run")
    late = server.children(name="evaluate")
    told = [run["state"]["message"] for run in late if run["state_type"] == "COMPLETED"]
    last = max(run["expected_start_time"] for run in late if run["state_type"] == "COMPLETED")
    while "4 images scored; nightly-run: SPIN 1" not in told:
        assert all(text.startswith("nothing to do: 0 images, no run") for text in told), told
        night = fired(server, last)
        told, last = [*told, night["state"]["message"]], night["expected_start_time"]
    assert "SPIN 1" in nights(server)
    after = fired(server, last)
    assert after["state"]["message"] == "nothing to do: 0 images; nightly-run: SPIN 1"
    assert server.tasks(after["id"]) == []
