"""Door to the train room."""

from __future__ import annotations

from prefect import task
from prefect.logging import get_run_logger

from spin.train.request import TrainRequest, TrainResult
from tasks.launching import launch
from tasks.retrying import DOOR
from tasks.showing import console, shown


@task(task_run_name="train {request.stage.name}", **DOOR)
def train(request: TrainRequest, inline: bool) -> TrainResult:
    """Train one stage from its newest state; return its checkpoint."""
    with shown(f"train {request.stage.name}") as progress:
        result = launch("train", request, TrainResult, inline=inline, progress=progress)
    get_run_logger().info("%s: %d steps in %.1f s", request.stage.name, result.steps, result.seconds)
    for line in result.health:
        get_run_logger().warning("%s: %s", request.stage.name, line)
        console.print(f"[yellow]{request.stage.name}: {line}[/yellow]", highlight=False)
    return result
