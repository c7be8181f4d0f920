"""Door to the train room."""

from __future__ import annotations

from prefect import task
from prefect.logging import get_run_logger

from spin.train.request import AverageRequest, TrainRequest, TrainResult
from tasks.launching import Room
from tasks.retrying import DOOR
from tasks.showing import console, shown


@task(task_run_name="train {label}", **DOOR)
def train(request: TrainRequest, label: str, room: Room) -> TrainResult:
    """Train one stage from its newest state; return its checkpoint."""
    with shown(f"train {label}") as progress:
        result = room.ask(request, TrainResult, progress)
    get_run_logger().info("%s: %d steps in %.1f s", label, result.steps, result.seconds)
    for line in result.health:
        get_run_logger().warning("%s: %s", label, line)
        console.print(f"[yellow]train {label}: {line}[/yellow]", highlight=False)
    return result


@task(task_run_name="average opponent", **DOOR)
def average(request: AverageRequest) -> str:
    """Write an averaged opponent; return its digest. Seconds on a CPU, so whoever runs the flow does it."""
    from spin.train.averaging import average_opponent  # torch: 4 s, paid only by whoever averages

    digest = average_opponent(request)
    get_run_logger().info("%s: decay %s, %s", request.target, request.decay, digest[:8])
    return digest
