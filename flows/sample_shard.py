"""Shards of one iteration again: exactly the missing samples are made, the others keep their bytes."""

from __future__ import annotations

from prefect import flow
from pydantic import BaseModel, Field

from flows.forms import root_field
from flows.naming import named
from flows.past_run import PastRun
from flows.work import draw
from spin.core.errors import ConfigError
from spin.sample.request import SampleResult


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
def sample_shard(run: str, iteration: int, shard: int, check_images: int = 0, root: str = "runs") -> SampleResult:
    """Make shard `shard` of iteration `iteration` of run `run` if it is missing or damaged."""
    return make_shards(PastRun.open(root, run), iteration, [shard], check_images)[0]


@flow(
    name="sample-shards",
    flow_run_name=named(lambda given: f"sample {given['run']} k={given['iteration']}"),
    persist_result=False,
)
def sample_shards(run: str, iteration: int, shards: list[int], root: str = "runs") -> list[SampleResult]:
    """Make those of `shards` that are missing or damaged, each a task, the opponent loaded once."""
    return make_shards(PastRun.open(root, run), iteration, shards)


def make_shards(past: PastRun, iteration: int, shards: list[int], check_images: int = 0) -> list[SampleResult]:
    count = past.plan_of(iteration).shards
    for shard in shards:
        if not 0 <= shard < count:
            raise ConfigError(f"iteration {iteration} has no shard {shard}", fix=f"name one from 0 to {count - 1}")
    return draw(past.requests, iteration, shards, past.prepared, past.opponent_of(iteration), check_images)
