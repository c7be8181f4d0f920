"""The door of the report room as a process: `python -m spin.report request.json result.json`."""

from __future__ import annotations

import sys

from spin.core.door import serve
from spin.report.request import ReportRequest
from spin.report.room import run

if __name__ == "__main__":
    sys.exit(serve(ReportRequest, run, sys.argv[1:]))
