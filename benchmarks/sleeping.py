"""Child flow runs whose shards only sleep; a module of its own, for each of them imports it, and needs no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from prefect import flow, task

_ONLINE_SECONDS: Final = 300.0  # for the workers to be there


@task(task_run_name="sleep shard {shard}")
def sleep_shard(folder: str, shard: int, seconds: float) -> None:
    """A shard whose work needs no core of this machine."""
    time.sleep(seconds)
    (Path(folder) / f"shard-{shard:05d}").touch()


@flow(name="sleep-shards", persist_result=False)
def sleep_shards(folder: str, shards: list[int], seconds: float) -> None:
    """A child flow run that carries a batch."""
    import flows.sample_shard  # noqa: F401  what a child of a run imports

    for shard in shards:
        sleep_shard(folder, shard, seconds)


@flow(name="sleep-parent", persist_result=False)
def sleep_parent(folder: str, groups: list[list[int]], seconds: float) -> float:
    """Seconds until every shard of every child stands."""
    from flows.joining import Call, Child, join

    def child(group: Sequence[int]) -> Child:
        parameters = {"folder": folder, "shards": list(group), "seconds": seconds}
        missing = lambda: [f"shard {s}" for s in group if not (Path(folder) / f"shard-{s:05d}").exists()]  # noqa: E731
        call = Call(f"sleep {group[0]}-{group[-1]}", parameters)
        return Child("sleep-shards/gpu", f"{folder} {group}", missing, lambda: call)

    start = time.perf_counter()
    join([child(group) for group in groups], max_attempts=1, tags=())
    return time.perf_counter() - start


def deploy_sleep(workers: int) -> None:
    """Register the sleeping child on the pool of the GPUs, and wait until its workers are there."""
    from prefect.client.orchestration import get_client
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    made = RunnerDeployment.from_flow(
        sleep_shards, "gpu", work_pool_name="spin-gpu", entrypoint_type=EntrypointType.MODULE_PATH
    )
    made.entrypoint = "benchmarks.sleeping.sleep_shards"
    made.apply()
    deadline = time.monotonic() + _ONLINE_SECONDS
    with get_client(sync_client=True) as client:
        while len(client.read_workers_for_work_pool("spin-gpu")) < workers:
            if time.monotonic() > deadline:
                raise RuntimeError(f"less than {workers} workers")
            time.sleep(1)
