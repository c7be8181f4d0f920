"""What one stage of the pipeline does, whoever does it: the flow of a run itself, or a child flow run on a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeVar

from prefect.logging import get_run_logger

from flows.asking import Asked
from flows.requests import Model, Requests
from spin.core.errors import ArtifactError, ConfigError
from spin.core.planning import read_plan
from spin.evaluate.request import EvaluateResult
from spin.evaluate.shards import is_finished, missing_shards, shard_count
from spin.prepare.prepared import write_prepared
from spin.prepare.request import PrepareRequest, PrepareResult
from spin.sample.request import SampleResult
from spin.train.request import TrainRequest, TrainResult
from spin.train.standing import Standing
from tasks.claims import apart_from_sampling
from tasks.evaluating import evaluate
from tasks.launching import open_room
from tasks.preparing import prepare
from tasks.sampling import sample
from tasks.training import train

_HOPELESS: Final = 3  # failed shards after which the others are not tried: the cause is not the shard
Result = TypeVar("Result")


def prepare_data(requests: Requests, request: PrepareRequest) -> PrepareResult:
    """Read, check and encode the data; keep the answer where flows on other machines find it."""
    with open_room("prepare", inline=requests.inline, device=requests.device) as room:
        result: PrepareResult = prepare(request, room)
    write_prepared(requests.folder, request, result)
    return result


def draw(
    requests: Requests, number: int, shards: Sequence[int], prepared: PrepareResult, opponent: Model, check: int = 0
) -> list[SampleResult]:
    """Make shards of iteration `number`, each a task, with the opponent loaded once.

    Args:
        check: images that are drawn again and compared with those that stand.
    """
    stage = requests.folder.iteration(number)
    count = read_plan(stage).shards

    def make(shard: int) -> SampleResult:
        request = requests.sample(stage, (shard,), prepared, opponent, check)
        return sample(request, f"k={number} {shard_label(shard, count)}", room)

    if not shards:
        return []
    with open_room("sample", inline=requests.inline, device=requests.device) as room:
        return _each(shards, make, stage.name)


def learn(requests: Requests, request: TrainRequest, label: str) -> TrainResult:
    """Train one stage, on all GPUs that this process may use."""
    inline = requests.inline and request.processes == 1
    with (
        _not_in_the_way(request, requests.device),
        open_room("train", inline=inline, device=requests.device, processes=request.processes) as room,
    ):
        result: TrainResult = train(request, label, room)
    return result


@contextmanager
def _not_in_the_way(request: TrainRequest, device: str) -> Iterator[None]:
    """A training that waits for images must not hold a GPU that they are drawn on: it waits for all of them before."""
    standing = Standing.of(request, lambda note: get_run_logger().info(note))
    if standing is None or standing.complete:
        yield
        return
    with apart_from_sampling(device) as apart:
        if not apart:
            get_run_logger().info(
                "its GPUs are in use, by workers that sample or another training: it starts when all images stand"
            )
            standing.wait_for_all()
        yield


def score(requests: Requests, asked: Asked, model: Model | None, shards: Sequence[int]) -> list[EvaluateResult]:
    """Make and score shards of an evaluation, each a task; whoever makes the last one measures the whole set."""
    label = "data" if model is None else model.label
    request = requests.evaluate(asked, model)
    total = shard_count(request)

    def make(shard: int) -> EvaluateResult:
        return evaluate(replace(request, shards=(shard,), finish=False), f"{label} {shard_label(shard, total)}", room)

    if not shards and is_finished(request):
        return []
    with open_room("evaluate", inline=requests.inline, device=requests.device) as room:
        results = _each(shards, make, f"evaluation of {label}")
        if not missing_shards(request) and not is_finished(request):
            results.append(evaluate(replace(request, shards=()), f"{label} whole set", room))
    return results


def shard_label(shard: int, count: int) -> str:
    """Shards count from 0, as their files and commands do."""
    return f"shard {shard:02d}/{count:02d}"


def _each(shards: Sequence[int], make: Callable[[int], Result], stage: str) -> list[Result]:
    """Every shard is tried before the first failure is told: one bad shard does not cost the others."""
    results: list[Result] = []
    failures: dict[int, Exception] = {}
    for shard in shards:
        try:
            results.append(make(shard))
        except ConfigError:
            raise
        except Exception as error:  # told below, when the others are done
            failures[shard] = error
            if len(failures) == _HOPELESS:
                break
    if failures:
        names = ", ".join(map(str, failures))
        first = next(iter(failures.values()))
        raise ArtifactError(f"shard {names} failed: {str(first).splitlines()[0]}", where=stage) from first
    return results
