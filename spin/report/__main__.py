"""The door of the report room as a process: `python -m spin.report request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.core.progress import Progress
from spin.report.request import ReportRequest, ReportResult


def run(request: ReportRequest, *, progress: Progress) -> ReportResult:
    """The room, imported at its first request: its libraries take seconds, and the lifeline is held by then."""
    from spin.report import room

    return room.run(request, progress=progress)


if __name__ == "__main__":
    sys.exit(serve(ReportRequest, run, sys.argv[1:]))
