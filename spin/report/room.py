"""Scores -> report: reads the files of a run, writes the page, its numbers and its pictures, and tells the story."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from spin.core.errors import ArtifactError
from spin.core.layout import RunFolder, RunsRoot
from spin.core.progress import Progress, silent
from spin.report import sheet
from spin.report.evidence import gather
from spin.report.grid import grid_png
from spin.report.pictures import PROMPTS, Grid, picture_grid
from spin.report.reading import Run, read_run
from spin.report.request import ReportRequest, ReportResult, ScoreRow
from spin.report.scoring import score_rows
from spin.report.story import tell
from spin.report.tables import csv_text, flat_rows, write_metrics
from spin.report.verdict import verdict


def run(request: ReportRequest, *, progress: Progress = silent) -> ReportResult:
    """Write runs/<run>/report/; equal inputs give equal bytes.

    Always contact-sheet.png, the story and the gate's evidence; with `page` also index.html, metrics.parquet,
    table.csv and grid.png.
    """
    found = read_run(runs_root=request.runs_root, run=request.run)
    folder = RunsRoot(request.runs_root).run(request.run)
    progress(1, 4, "scores")
    rows = score_rows(found)
    sentence, evidence = verdict(found, rows), tuple(gather(found, rows))
    progress(2, 4, "pictures")
    grid = picture_grid(found, prompts=PROMPTS if request.page else sheet.PROMPTS)
    if grid is not None:
        replace_file(folder.contact_sheet, sheet.sheet_png(grid))
    progress(3, 4, "page" if request.page else "story")
    if request.page:
        _write_page(folder, found, rows, sentence, grid)
    result = ReportResult(
        page=folder.report if request.page else None,
        metrics=folder.metrics if request.page else None,
        table=_table(folder) if request.page else None,
        grid=_grid(folder) if request.page and grid is not None else None,
        verdict=sentence,
        rows=rows,
        story=tell(run=found, rows=rows, evidence=evidence, verdict=sentence),
        scores=flat_rows(rows) if any(row.cells for row in rows) else (),
        sheet=folder.contact_sheet if grid is not None else None,
        evidence=evidence,
    )
    progress(4, 4, sentence)
    return result


def _write_page(folder: RunFolder, found: Run, rows: Sequence[ScoreRow], sentence: str, grid: Grid | None) -> None:
    from spin.report.page import render_page  # plots: half a second that a story does not pay

    write_metrics(folder.metrics, rows, run=folder.path.name)
    replace_file(_table(folder), csv_text(rows).encode())
    if grid is not None:
        replace_file(_grid(folder), grid_png(grid))
    replace_file(folder.report, render_page(run=found, rows=rows, verdict=sentence, grid=grid).encode())


def _table(folder: RunFolder) -> Path:
    return folder.report.with_name("table.csv")


def _grid(folder: RunFolder) -> Path:
    return folder.report.with_name("grid.png")


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
