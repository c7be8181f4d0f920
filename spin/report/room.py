"""Scores -> report: reads the files of a run, writes the page, its numbers and its picture grid."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from spin.core.errors import ArtifactError
from spin.core.layout import RunsRoot
from spin.core.progress import Progress, silent
from spin.report.grid import grid_png
from spin.report.page import render_page
from spin.report.pictures import picture_grid
from spin.report.reading import read_run
from spin.report.request import ReportRequest, ReportResult
from spin.report.scoring import score_rows
from spin.report.tables import csv_text, write_metrics
from spin.report.verdict import verdict


def run(request: ReportRequest, *, progress: Progress = silent) -> ReportResult:
    """Write runs/<run>/report/{index.html, metrics.parquet, table.csv, grid.png}; equal inputs give equal bytes."""
    found = read_run(runs_root=request.runs_root, run=request.run)
    progress(1, 4, "scores")
    rows = score_rows(found)
    sentence = verdict(found, rows)
    progress(2, 4, "pictures")
    grid = picture_grid(found)
    folder = RunsRoot(request.runs_root).run(request.run)
    page, table, picture = folder.report, folder.report.with_name("table.csv"), folder.report.with_name("grid.png")
    progress(3, 4, "page")
    write_metrics(folder.metrics, rows, run=request.run)
    replace_file(table, csv_text(rows).encode())
    if grid is not None:
        replace_file(picture, grid_png(grid))
    replace_file(page, render_page(run=found, rows=rows, verdict=sentence, grid=grid).encode())
    progress(4, 4, sentence)
    return ReportResult(page, folder.metrics, table, picture if grid is not None else None, sentence, rows)


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in one step: a reader sees the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp-{socket.gethostname()}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = f"cannot write: {error.strerror or error}"
        raise ArtifactError(reason, where=str(path), fix="free space or rights") from error
