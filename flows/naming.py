"""Names of flow runs: a child keeps the name that its parent gave it, a run that was started by hand gets one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import runtime


def named(make: Callable[[dict[str, Any]], str]) -> Callable[[], str]:
    """A `flow_run_name` that makes the name from the run's parameters.

    Prefect would also rename a child whose name says which shards of how many it carries.
    """

    def name() -> str:
        given = runtime.flow_run.get_name() if runtime.flow_run.get_parent_flow_run_id() else None
        return given or make(runtime.flow_run.get_parameters())

    return name
