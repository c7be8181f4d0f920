"""What a server is told: every flow that is ordered is there and takes what it is sent; told twice, nothing changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.deployments import POOLS, deployments, register
from flows.executors import EVALUATE_SHARDS, PREPARE, SAMPLE_SHARDS, TRAIN
from spin.core.config import Config, load_config

# what flows.executors sends to each, besides runs root and name of the run
ORDERS: dict[str, dict[str, Any]] = {
    PREPARE: {},
    SAMPLE_SHARDS: {"iteration": 1, "shards": [0, 2]},
    EVALUATE_SHARDS: {"model": "data", "shards": [], "settings": ["evaluation.prompts=4"], "code": "1"},
    TRAIN: {"stage": "iteration-01"},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config("miniature", overrides=[f"run.root={tmp_path_factory.mktemp('deployed') / 'runs'}"])


@pytest.fixture(scope="module")
def registered(config: Config) -> Iterator[list[str]]:
    """The server is shared by the session: other tests rely on one that knows no deployment."""
    names = register(config)
    yield names
    with get_client(sync_client=True) as client:
        for name in names:
            client.delete_deployment(client.read_deployment_by_name(name).id)


def known(*, schedules: bool = True) -> dict[str, Any]:
    """All that the server was told, with its ids; times of change left out."""
    with get_client(sync_client=True) as client:
        told = {
            "pools": [client.read_work_pool(name) for name in POOLS],
            "deployments": client.read_deployments(),
            "automations": client.read_automations(),
        }
    found = {kind: [json.loads(each.model_dump_json()) for each in all_] for kind, all_ in told.items()}
    return {
        kind: sorted((_lasting(each) for each in all_), key=lambda each: each["id"]) for kind, all_ in found.items()
    }


def _lasting(value: Any) -> Any:
    if isinstance(value, list):
        return [_lasting(each) for each in value]
    if isinstance(value, dict):
        # Prefect writes no pull steps as [] at first and as null later
        kept = {name: each for name, each in value.items() if name not in ("updated", "last_polled", "status")}
        return {name: None if name == "pull_steps" and each == [] else _lasting(each) for name, each in kept.items()}
    return value


def test_everything_has_its_place(registered: list[str], config: Config) -> None:
    assert registered == [
        "spin-diffusion/run", "sample-shard/gpu", "sample-shards/gpu", "prepare/gpu", "evaluate-shards/gpu",
        "train/gpu", "evaluate/on-demand", "evaluate-checkpoint/on-demand", "compare/compare",
        "evaluate/nightly", "report/report",
    ]  # fmt: skip
    with get_client(sync_client=True) as client:
        found = {name: client.read_deployment_by_name(name) for name in registered}
    pools = {name: each.work_pool_name for name, each in found.items()}
    assert {name for name, pool in pools.items() if pool == "spin-gpu"} == {
        "sample-shard/gpu", "sample-shards/gpu", "prepare/gpu", "evaluate-shards/gpu",
    }  # fmt: skip
    assert {name for name, pool in pools.items() if pool == "spin-train"} == {"train/gpu"}
    assert {each.parameters["root"] for each in found.values()} == {str(Path(config.run.root))}
    assert all(each.tags == ["spin-diffusion"] for each in found.values())
    # a worker on any machine imports the flow: no folder of this one is named
    assert {each.path for each in found.values()} <= {None, "."}
    assert found["spin-diffusion/run"].entrypoint == "flows.spin_diffusion.spin_diffusion"


@pytest.mark.parametrize("name", ORDERS)
def test_each_ordered_flow_is_deployed_and_takes_what_it_is_sent(name: str, config: Config) -> None:
    found = {each.full_name: each for each in deployments(config)}
    given = found[name].flow.validate_parameters({"root": "/runs", "run": "mine", **ORDERS[name]})
    assert given.keys() >= ORDERS[name].keys()


def test_where_workers_do_the_work_a_run_that_says_nothing_takes_them(config: Config) -> None:
    execution = config.execution.model_copy(update={"executor": "workers"})
    found = {each.full_name: each for each in deployments(config.model_copy(update={"execution": execution}))}
    assert found["spin-diffusion/run"].parameters == {"executor": "workers"}
    assert {each.full_name: each for each in deployments(config)}["spin-diffusion/run"].parameters == {}


def test_registering_twice_changes_nothing(registered: list[str], config: Config) -> None:
    before = known()
    assert len(before["deployments"]) == len(registered)
    assert len(before["automations"]) == 3
    assert register(config) == registered
    assert known() == before


def test_a_schedule_that_somebody_paused_stays_paused(registered: list[str], config: Config) -> None:
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("evaluate/nightly")
        client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    register(config)
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment_by_name("evaluate/nightly").schedules
    assert (schedule.id, schedule.active) == (nightly.schedules[0].id, False)


def test_a_changed_schedule_takes_the_place_of_the_old_one(registered: list[str], config: Config) -> None:
    changed = config.nightly.model_copy(update={"cron": "45 5 * * *"})
    register(config.model_copy(update={"nightly": changed}))
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment_by_name("evaluate/nightly").schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("45 5 * * *", config.nightly.timezone)
