"""Doors to the prepare room and the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from spin.core.layout import StageFolder
from spin.core.plan import Plan
from spin.core.planning import write_plan
from spin.diffusion.digest import model_digest
from spin.prepare.request import PrepareRequest, PrepareResult
from tasks.launching import Room
from tasks.retrying import DOOR
from tasks.showing import shown


@task(task_run_name="find base {name}", **DOOR)
def find_base(name: str) -> tuple[Path, str]:
    """Folder and digest of the base model; a hub id is downloaded once."""
    from spin.prepare.base import resolve_base

    folder = resolve_base(name)
    return folder, model_digest(folder)


@task(task_run_name="prepare {request.source}", **DOOR)
def prepare(request: PrepareRequest, room: Room) -> PrepareResult:
    """Read, check and encode the data; return where it stands."""
    with shown("encode images") as progress:
        result = room.ask(request, PrepareResult, progress)
    get_run_logger().info("data %s: %s, %d encoded", result.data_digest[:8], result.rows, result.encoded)
    return result


@task(task_run_name="plan {stage.name}", **DOOR)
def plan(stage: StageFolder, **values: Any) -> Plan:  # noqa: ANN401 the keywords of write_plan
    """Write the iteration's plan; a standing equal one is kept."""
    written = write_plan(stage, **values)
    get_run_logger().info("%s: %d images in %d shards", stage.name, written.images, written.shards)
    return written
