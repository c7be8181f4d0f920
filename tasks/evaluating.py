"""Door to the evaluate room."""

from __future__ import annotations

from prefect import task
from prefect.logging import get_run_logger

from spin.evaluate.request import EvaluateRequest, EvaluateResult
from tasks.launching import Room
from tasks.retrying import DOOR
from tasks.showing import shown


@task(task_run_name="evaluate {label}", **DOOR)
def evaluate(request: EvaluateRequest, label: str, room: Room) -> EvaluateResult:
    """Make and score held-out images of one model; nothing is scored twice."""
    with shown(f"evaluate {label}") as progress:
        result = room.ask(request, EvaluateResult, progress)
    get_run_logger().info("%s: %d images scored in %.1f s", label, result.images_scored, result.seconds)
    return result
