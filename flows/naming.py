"""Names and tags of flow runs: a child keeps the name its parent gave it, a run started by hand gets one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client


def named(make: Callable[[dict[str, Any]], str]) -> Callable[[], str]:
    """A `flow_run_name` that makes the name from the run's parameters.

    Prefect would also rename a child whose name says which shards of how many it carries.
    """

    def name() -> str:
        given = runtime.flow_run.get_name() if runtime.flow_run.get_parent_flow_run_id() else None
        return given or make(runtime.flow_run.get_parameters())

    return name


def tag_run(*tags: str) -> None:
    """Add tags to the flow run that is running.

    Not to its tasks, as Prefect's own `tags` would: each tagged task asks the server for a slot of each tag, which
    cost 0.3 s a task.
    """
    run = runtime.flow_run.id
    if run is None:
        return
    missing = [tag for tag in tags if tag not in runtime.flow_run.tags]
    if missing:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(run), tags=[*runtime.flow_run.tags, *missing])
