"""Door to the sample room."""

from __future__ import annotations

from prefect import task
from prefect.logging import get_run_logger

from spin.sample.request import SampleRequest, SampleResult
from tasks.launching import Room
from tasks.retrying import DOOR
from tasks.showing import shown


@task(task_run_name="sample {label}", **DOOR)
def sample(request: SampleRequest, label: str, room: Room) -> SampleResult:
    """Draw the shards of `request` that are missing."""
    with shown(f"sample {label}") as progress:
        result = room.ask(request, SampleResult, progress)
    opponent = ", opponent loaded" if result.loaded else ""
    get_run_logger().info("%s: %d images in %.1f s%s", label, result.images, result.seconds, opponent)
    for note in result.notes:
        get_run_logger().warning(note)
    return result
