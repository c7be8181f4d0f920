"""Who does the work: what stands is never ordered again, and damage that only a hash finds is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.executors import Executor, Local, Workers, executor_of
from flows.past_run import PastRun
from spin.core.errors import ConfigError
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.store import discard, is_intact, is_whole
from tests.flows.conftest import Played, play, tiny

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
