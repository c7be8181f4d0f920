"""Child flow runs of a run whose executor is `workers`: each does one kind of work on the pool of its machine.

They start from the run's record on disk, so that the button Retry works on each of them, and from any machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prefect import flow

from flows.naming import named
from flows.overlapping import trains_early
from flows.past_run import PastRun, refuse_other_code
from flows.requests import Model
from flows.work import learn, prepare_data, score
from spin.core.errors import ConfigError
from spin.core.layout import StageFolder
from spin.core.planning import read_plan
from spin.evaluate.request import EvaluateResult
from spin.prepare.request import PrepareResult
from spin.sample.identity import shard_identity
from spin.train.request import Awaited, TrainRequest, TrainResult
from tasks.retrying import saying_hopeless


@flow(name="prepare", flow_run_name=named(lambda given: f"prepare {given['run']}"), persist_result=False)
@saying_hopeless
def prepare_run_data(run: str, root: str = "runs") -> PrepareResult:
    """Read, check and encode the data of a run."""
    past = PastRun.open_to_add(root, run)
    base = past.record["base"]
    return prepare_data(past.requests, past.requests.prepare(Path(base["path"]), base["digest"]))


@flow(name="train", flow_run_name=named(lambda given: f"train {given['run']} {given['stage']}"), persist_result=False)
@saying_hopeless
def train_stage(run: str, stage: str, root: str = "runs") -> TrainResult:
    """Train one stage of a run, from its newest state if there is one.

    Args:
        stage: sft, or iteration-02.
    """
    past = PastRun.open_to_add(root, run)
    number = StageFolder(Path(stage)).number
    return learn(past.requests, training_request(past, stage), stage if number is None else f"k={number}")


@flow(
    name="evaluate-shards",
    flow_run_name=named(lambda given: f"evaluate {given['run']} {given['model']}"),
    persist_result=False,
)
@saying_hopeless
def evaluate_shards(
    run: str,
    model: str,
    shards: list[int],
    benchmark: str | None = None,
    settings: list[str] | None = None,
    code: str | None = None,
    root: str = "runs",
) -> list[EvaluateResult]:
    """Make and score shards of one model's evaluation; the last one to finish measures the whole set.

    Args:
        model: data, base, sft, or iteration-02.
        benchmark: test, validation, or the folder of a prompt set; the run's first one where none is named.
        settings: evaluation.* in which this evaluation differs from the run's own.
        code: version of the code that asks; one evaluation is made by one code.
    """
    if code is not None:
        refuse_other_code(run, code)
    past = PastRun.open(root, run, settings or (), here=True)
    return score(past.requests, past.asked(benchmark), past.model(model), shards)


def training_request(past: PastRun, stage: str) -> TrainRequest:
    """What a stage's training is asked, as the run's own flow asks it."""
    if stage == past.requests.folder.sft.name:
        base = past.model("base")
        assert base is not None
        return past.requests.train_sft(past.prepared, base)
    number = StageFolder(Path(stage)).number
    if number is None:
        raise ConfigError(f"no stage {stage[:64]!r}", fix="name sft, or an iteration such as iteration-02")
    players = past.round_of(number)
    request = past.requests.train_iteration(number, past.prepared, players.start, players.opponent)
    return awaiting(past, request, players.opponent) if trains_early(past.requests.config) else request


def awaiting(past: PastRun, request: TrainRequest, opponent: Model) -> TrainRequest:
    """An iteration's training that may begin before all of its samples stand; labelled losers stand from the start."""
    if past.requests.labelled:
        return request
    stage = StageFolder(request.stage)
    identity = shard_identity(past.requests.sample(stage, (), past.prepared, opponent), read_plan(stage))
    return replace(request, awaited=Awaited(identity, 60 * past.requests.config.execution.overlap_minutes))
