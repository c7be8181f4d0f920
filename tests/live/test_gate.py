"""The gate on a live server: a person is asked on the run's page, and nothing waits on the machine meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from spin.core.layout import RunsRoot
from spin.core.planning import read_plan
from spin.core.record import Record, read_record
from tests.live.processes import processes_of
from tests.live.serving import TINY, Server, serving, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("gate") / "runs") as found:
        yield found


def start(server: Server, name: str, *settings: str) -> str:
    """Press Run for two rounds whose gate asks a person."""
    more = {"gate": "person", "settings": [*TINY, "iterations=2", *settings]}
    return server.start("spin-diffusion/run", run_name=name, advanced=more)


def suspended(server: Server, run: str, gate: int) -> None:
    """Wait until the run asks after round `gate` and its process is gone."""

    def asks() -> bool:
        found = server.run(run)
        assert found["state_type"] not in ("FAILED", "CRASHED", "COMPLETED"), found["state"]
        asked = found["state"]["name"] == "Suspended" and found["state"]["state_details"]["pause_key"] == f"gate-{gate}"
        return asked and not processes_of(run)

    wait(asks, 400, lambda: str(server.run(run)["state"]))


def form(server: Server, run: str) -> tuple[dict[str, Any], str]:
    """Schema and description, which the page of a suspended run reads to draw its form."""
    keys = server.run(run)["state"]["state_details"]["run_input_keyset"]

    def read(key: str) -> Any:
        return server.api.get(f"/flow_runs/{run}/input/{keys[key]}").raise_for_status().json()

    return json.loads(read("schema")) if isinstance(read("schema"), str) else read("schema"), str(read("description"))


def answer(server: Server, run: str, **values: str) -> dict[str, Any]:
    """Submit the form: what the page sends."""
    found: dict[str, Any] = server.post(f"/flow_runs/{run}/resume", {"run_input": values})
    return found


def record_of(server: Server, name: str) -> Record:
    return read_record(RunsRoot(server.root).run(name))


def deadlines(server: Server, run: str) -> list[str]:
    found = server.post("/automations/filter", {})
    return [each["name"] for each in found if run in each["name"]]


def test_a_person_is_asked_with_the_scores_and_the_answer_is_done(server: Server) -> None:
    """Two rounds: go on, then stop."""
    run = start(server, "asked")
    suspended(server, run, 1)
    schema, description = form(server, run)
    assert schema["properties"]["decision"]["enum"] == ["go-on", "stop", "go-back"]
    assert schema["properties"]["decision"]["default"] == "go-on"
    for word in ("No answer by", "UTC means: go-on", "SPIN 1", "alignment", "The held-out denoising loss"):
        assert word in description, description
    assert len(deadlines(server, run)) == 1
    assert answer(server, run, decision="perhaps")["status"] == "REJECT"
    assert server.state(run) == "PAUSED"
    assert answer(server, run, decision="go-on")["status"] == "ACCEPT"
    assert answer(server, run, decision="stop")["status"] == "ABORT"  # pressed twice: the first answer stands
    suspended(server, run, 2)
    assert "SPIN 2" in form(server, run)[1]
    assert answer(server, run, decision="stop")["status"] == "ACCEPT"
    ended = server.ended(run)
    assert ended["state"]["name"] == "Completed", ended["state"]
    record = record_of(server, "asked")
    gates = [stage["gate"] for stage in record["stages"][1:]]
    assert [(gate["decision"], gate["by"], len(gate["reasons"])) for gate in gates] == [
        ("go-on", "a person", 3), ("stop", "a person", 3),
    ]  # fmt: skip
    assert record["stopped"]["after"] == "iteration-02"
    assert record["stopped"]["best"] in ("base", "iteration-01", "iteration-02")
    folder = RunsRoot(server.root).run("asked")
    assert read_plan(folder.iteration(2)).parent_digest == record["stages"][1]["digest"]
    assert deadlines(server, run) == []
    assert "gate after SPIN 2: stop (a person)" in server.logs(run)


def test_where_nobody_answers_in_time_the_default_is_taken(server: Server) -> None:
    run = start(server, "unanswered", "gate.limit_hours=0.005", "gate.default=go-back")
    assert server.ended(run)["state_type"] == "COMPLETED", server.run(run)["state"]
    record = record_of(server, "unanswered")
    stages = {stage["name"]: stage for stage in record["stages"]}
    gates = [stages[name]["gate"] for name in ("iteration-01", "iteration-02")]
    assert [(gate["decision"], gate["by"]) for gate in gates] == [("go-back", "nobody in time")] * 2
    folder = RunsRoot(server.root).run("unanswered")
    parents = [read_plan(folder.iteration(number)).parent_digest for number in (1, 2)]
    assert parents == [stages["base"]["digest"]] * 2
    assert deadlines(server, run) == []
