"""Who does the work: what stands is never ordered again, and damage that only a hash finds is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.deployments.runner import RunnerDeployment
from prefect.states import Failed

from flows.children import train_stage
from flows.executors import Executor, Local, Meanwhile, Workers, executor_of
from flows.past_run import PastRun
from flows.sample_shard import sample_shards
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import EvaluationFolder, RunsRoot, manifest_path
from spin.core.store import discard, is_intact, is_whole
from spin.train.request import TrainResult
from tests.flows.conftest import Played, play, tiny

pytestmark = pytest.mark.system

Damage = Callable[[Path], None]


def flip_a_bit(path: Path) -> None:
    """Size and footer stay: a quick look finds nothing."""
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])


def paths(run: Played) -> dict[str, Path]:
    """One artifact of each kind, by the deployment that makes it."""
    folder = RunsRoot(run.root).run("tiny")
    stage = PastRun.open(str(run.root), "tiny").record["stages"][-1]
    evaluation = EvaluationFolder(run.root / stage["evaluation"])
    checkpoint = folder.iteration(2).checkpoint(3)
    return {
        "prepare/gpu": folder.prompts,
        "sample-shards/gpu": folder.iteration(2).samples(1),
        "train/gpu": next(path for path in checkpoint.rglob("*.safetensors") if path.parent.name == "unet"),
        "evaluate-shards/gpu": evaluation.scores(1),
        "evaluate-shards/gpu for the whole set": evaluation.set_metrics,
    }


def order_all(executor: Executor, past: PastRun) -> None:
    """Everything that the last round of a run needs, in the order of the pipeline."""
    requests, model = past.requests, past.models[-1]
    base = past.record["base"]
    executor.prepare(requests.prepare(Path(base["path"]), base["digest"]))
    players = past.round_of(2)
    executor.sample(2, past.prepared, players.opponent)
    executor.train(requests.train_iteration(2, past.prepared, players.start), "k=2")
    executor.evaluate(past.asked(None), model)


def test_the_config_names_the_executor(played: Played) -> None:
    requests = PastRun.open(str(played.root), "tiny").requests
    assert isinstance(executor_of(requests), Local)
    workers = PastRun.open(str(played.root), "tiny", ["execution.executor=workers"]).requests
    assert executor_of(workers, ["evaluation.prompts=4"]) == Workers(workers, ("evaluation.prompts=4",))


@pytest.mark.slow
def test_a_finished_run_orders_nothing_from_the_workers(copy: Callable[[], Played]) -> None:
    """There are none here: the first order would be refused."""
    run = copy()
    play(run.config)  # the answer of prepare names the root
    everything = play(tiny(run.root, "execution.executor=workers"))
    assert everything == "0 images sampled, 0 optimizer steps, 0 images scored"


@pytest.mark.parametrize("kind", ["prepare/gpu", "sample-shards/gpu", "train/gpu", "evaluate-shards/gpu",
                                  "evaluate-shards/gpu for the whole set"])  # fmt: skip
def test_damage_that_a_quick_look_misses_is_ordered_again(copy: Callable[[], Played], kind: str) -> None:
    run = copy()
    past = PastRun.open(str(run.root), "tiny")
    base = past.record["base"]
    Local(past.requests).prepare(past.requests.prepare(Path(base["path"]), base["digest"]))  # its answer names the root
    order_all(Workers(past.requests), past)  # all stands
    flip_a_bit(paths(run)[kind])
    with pytest.raises(ConfigError, match=f"knows no deployment '{kind.split()[0]}'"):
        order_all(Workers(past.requests), past)


@pytest.fixture
def deployed() -> Iterator[None]:
    """What the orders of an iteration ask for; nobody works on them but the test."""
    found: list[Any] = [RunnerDeployment.from_flow(each, "gpu").apply() for each in (sample_shards, train_stage)]
    yield
    with get_client(sync_client=True) as client:
        for identity in found:
            client.delete_deployment(identity)


def runs_named(name: str) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_=name)))
    return sorted(found, key=lambda run: run.created)


def test_a_training_whose_shards_fail_for_good_is_cancelled(copy: Callable[[], Played], deployed: None) -> None:
    """It was begun with them; a Retry of the run orders both again."""
    run = copy()
    past = PastRun.open(str(run.root), "tiny")
    requests, players, stage = past.requests, past.round_of(2), RunsRoot(run.root).run("tiny").iteration(2)
    request = requests.train_iteration(2, past.prepared, players.start)
    for path in (stage.samples(1), stage.checkpoint(3)):
        discard(path)
    over = threading.Event()

    def fail() -> None:
        while not over.is_set():
            for child in runs_named("sample k=2"):
                if not child.state.is_final():
                    with get_client(sync_client=True) as client:
                        client.set_flow_run_state(child.id, Failed(message="the disk is full"), force=True)
            time.sleep(0.05)

    @flow(name="round")
    def order() -> None:
        Workers(requests).sample(2, past.prepared, players.opponent, Meanwhile((request, "k=2")))

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        with pytest.raises(ArtifactError, match=r"missing after 2 attempts: sample k=2 shard 01/03: shard 1; cause: "):
            order()
    finally:
        over.set()
        thread.join()
    (child,) = runs_named("train k=2")
    assert child.state is not None
    assert child.state.name in ("Cancelling", "Cancelled")
    assert child.parameters == {"stage": "iteration-02", "root": str(run.root), "run": "tiny"}


def test_what_goes_on_meanwhile_is_ordered_behind_the_samples(copy: Callable[[], Played], deployed: None) -> None:
    """And a stage that has a checkpoint is not trained before its samples stand: it may stand then."""
    run = copy()
    past = PastRun.open(str(run.root), "tiny")
    requests, players, stage = past.requests, past.round_of(2), RunsRoot(run.root).run("tiny").iteration(2)
    request = requests.train_iteration(2, past.prepared, players.start)
    kept = {path: path.read_bytes() for path in (stage.samples(1), manifest_path(stage.samples(1)))}
    discard(stage.samples(1))

    @flow(name="round")
    def order() -> TrainResult:
        executor = Workers(requests)
        executor.sample(2, past.prepared, players.opponent, Meanwhile((request, "k=2")))
        assert executor.begun == []
        return executor.train(request, "k=2")

    before = len(runs_named("train k=2"))
    thread = threading.Timer(2, lambda: [path.write_bytes(content) for path, content in kept.items()])
    thread.start()
    assert order().steps == 0  # the checkpoint stood all the time
    thread.join()
    assert len(runs_named("train k=2")) == before


def test_a_local_run_mends_damaged_numbers_of_a_whole_set(copy: Callable[[], Played]) -> None:
    run = copy()
    numbers = paths(run)["evaluate-shards/gpu for the whole set"]
    whole = numbers.read_bytes()
    flip_a_bit(numbers)
    assert is_whole(numbers)
    assert not is_intact(numbers)
    assert play(run.config) == "0 images sampled, 0 optimizer steps, 0 images scored"
    assert numbers.read_bytes() == whole


def test_a_lost_shard_of_scores_is_scored_again_and_nothing_else(copy: Callable[[], Played]) -> None:
    run = copy()
    discard(paths(run)["evaluate-shards/gpu"])
    assert play(run.config) == "0 images sampled, 0 optimizer steps, 3 images scored"  # 8 prompts in shards of 5
