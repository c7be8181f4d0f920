"""Doors to the report room and to run.json."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from spin.core.layout import RunFolder
from spin.core.record import write_record
from spin.report.request import ReportRequest, ReportResult
from tasks.launching import launch
from tasks.retrying import DOOR


@task(task_run_name="record {folder.path.name}", **DOOR)
def record(folder: RunFolder, values: dict[str, Any]) -> None:
    """Write down how far the run is."""
    write_record(folder, values)


@task(task_run_name="report {request.run}", **DOOR)
def report(request: ReportRequest, inline: bool) -> ReportResult:
    """Write the report; return where it stands."""
    result = launch("report", request, ReportResult, inline=inline)
    if result.page is not None:
        get_run_logger().info("report: %s", result.page)
    return result
