"""The report of a run anew, as a flow."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from pydantic import BaseModel, Field

from flows.forms import root_field
from spin.core.layout import RunsRoot
from spin.core.record import read_record
from spin.report.request import ReportRequest, ReportResult
from tasks.reporting import report
from tasks.telling import show_story


class ReportForm(BaseModel):
    """What the page of `report` asks."""

    run: str = Field(title="Run", description="name of the run", min_length=1, json_schema_extra={"position": 0})
    root: str = root_field(1)


@flow(name="report", flow_run_name="report {run}", persist_result=False)
def report_run(run: str, root: str = "runs") -> ReportResult:
    """Write the report of a run anew, and its story on the run's page."""
    path = Path(root).absolute()
    read_record(RunsRoot(path).run(run))
    result: ReportResult = report(ReportRequest(path, run), True)
    show_story(run, result)
    return result
