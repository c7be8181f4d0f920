"""Shards of one iteration again: exactly the missing samples are made, the others keep their bytes."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Completed
from pydantic import BaseModel, Field

from flows.forms import root_field
from flows.naming import named, tag_run
from flows.past_run import PastRun
from flows.work import draw
from spin.core.errors import ConfigError
from spin.sample.request import SampleResult
from tasks.retrying import saying_hopeless


class ShardForm(BaseModel):
    """What the page of `sample-shard` asks."""

    run: str = Field(title="Run", description="name of the run", min_length=1, json_schema_extra={"position": 0})
    iteration: int = Field(title="Iteration", description="counted from 1", ge=1, json_schema_extra={"position": 1})
    shard: int = Field(
        title="Shard", description="counted from 0, as its file", ge=0, json_schema_extra={"position": 2}
    )
    check_images: int = Field(
        default=0,
        title="Images to check",
        description="that many images are drawn again and compared with those that stand",
        ge=0,
        json_schema_extra={"position": 3},
    )
    root: str = root_field(4)


@flow(name="sample-shard", flow_run_name="sample {run} k={iteration} shard {shard}", persist_result=False)
def sample_shard(run: str, iteration: int, shard: int, check_images: int = 0, root: str = "runs") -> Any:
    """Make shard `shard` of iteration `iteration` of run `run` if it is missing or damaged; its SampleResult."""
    past = PastRun.open_to_add(root, run)
    tag_run(run, f"k={iteration}")
    results = make_shards(past, iteration, [shard], check_images)
    return Completed(message=_told(results), data=results[0])


@flow(
    name="sample-shards",
    flow_run_name=named(lambda given: f"sample {given['run']} k={given['iteration']}"),
    persist_result=False,
)
@saying_hopeless
def sample_shards(run: str, iteration: int, shards: list[int], root: str = "runs") -> Any:
    """Make those of `shards` that are missing or damaged, each a task, the opponent loaded once; a list of results."""
    results = make_shards(PastRun.open_to_add(root, run), iteration, shards)
    return Completed(message=_told(results), data=results)


def make_shards(past: PastRun, iteration: int, shards: list[int], check_images: int = 0) -> list[SampleResult]:
    count = past.plan_of(iteration).shards
    for shard in shards:
        if not 0 <= shard < count:
            raise ConfigError(f"iteration {iteration} has no shard {shard}", fix=f"name one from 0 to {count - 1}")
    return draw(past.requests, iteration, shards, past.prepared, past.round_of(iteration).opponent, check_images)


def _told(results: list[SampleResult]) -> str:
    """What the state of the flow run says, as its page shows it."""
    checked = sum(result.checked for result in results)
    told = f"{sum(result.images for result in results)} images sampled"
    if checked:
        told += f"; {sum(result.differing for result in results)} of {checked} checked images differ"
    return told
