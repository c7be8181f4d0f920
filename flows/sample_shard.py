"""One shard of one iteration again: exactly the missing samples are made, the others keep their bytes."""

from __future__ import annotations

from prefect import flow

from flows.past_run import PastRun
from spin.core.errors import ConfigError
from spin.core.planning import read_plan
from spin.sample.request import SampleResult
from tasks.sampling import sample


@flow(name="sample-shard", flow_run_name="sample {run} k={iteration} shard {shard}", persist_result=False)
def sample_shard(root: str, run: str, iteration: int, shard: int) -> SampleResult:
    """Make shard `shard` of iteration `iteration` of run `run` if it is missing or damaged."""
    past = PastRun.open(root, run)
    stage = past.requests.folder.iteration(iteration)
    if not stage.plan.exists():
        planned = ", ".join(past.planned_iterations()) or "none yet"
        raise ConfigError(f"run {run!r} has no plan for iteration {iteration}", fix=f"planned: {planned}")
    written = read_plan(stage)
    if not 0 <= shard < written.shards:
        raise ConfigError(f"iteration {iteration} has no shard {shard}", fix=f"name one from 0 to {written.shards - 1}")
    request = past.requests.sample(stage, (shard,), past.prepared, past.opponent_of(iteration))
    result: SampleResult = sample(request, f"shard {shard + 1:02d}/{written.shards:02d}", past.requests.inline)
    return result
